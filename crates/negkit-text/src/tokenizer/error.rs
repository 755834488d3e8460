//! What can be wrong with a tokenizer's files or with a call.

use std::path::PathBuf;

/// Why a tokenizer could not be loaded, or a call on it not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A folder holds none of the published layouts.
    #[error(
        "no tokenizer in {folder}: looked for tokenizer.json, and for vocab.json together with \
         merges.txt; found {found}. Put the missing files there, or use CLIP's built-in vocabulary \
         if the checkpoint was published without a tokenizer",
        folder = folder.display()
    )]
    MissingFiles {
        /// The folder that was searched.
        folder: PathBuf,
        /// Which of the files were there.
        found: String,
    },

    /// A file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file is not the JSON that its name promises.
    #[error("{path} is not a valid {expected}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        expected: &'static str,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },

    /// A `tokenizer.json` holds another kind of model than byte-pair encoding.
    #[error(
        "{path} holds a {found} model; a CLIP text tower needs a BPE model",
        path = path.display()
    )]
    NotBpe {
        /// The file.
        path: PathBuf,
        /// The kind of model that it holds.
        found: String,
    },

    /// A merge is not two tokens with one space between them.
    #[error("{at}: expected a merge, two tokens with one space between them, found {found:?}")]
    MalformedMerge {
        /// File and line, or file and element.
        at: String,
        /// The text that stands there.
        found: String,
    },

    /// A merge names or makes a token that the vocabulary lacks.
    #[error(
        "{at}: the merge of {left:?} and {right:?} needs the token {missing:?}, which the \
         vocabulary lacks; vocabulary and merges must come from the same model"
    )]
    MergeOutsideVocabulary {
        /// File and line, or file and element.
        at: String,
        /// The merge's left token.
        left: String,
        /// The merge's right token.
        right: String,
        /// The token that is not in the vocabulary.
        missing: String,
    },

    /// A special token is not in the vocabulary.
    #[error(
        "the {role} token {token:?} is not in the vocabulary of {tokenizer} ({size} tokens); name \
         the right one under \"{role}_token\" in tokenizer_config.json beside it"
    )]
    MissingSpecialToken {
        /// `bos`, `eos`, `unk` or `pad`.
        role: &'static str,
        /// The token that was looked for.
        token: String,
        /// Where the vocabulary came from.
        tokenizer: String,
        /// How many tokens the vocabulary has.
        size: usize,
    },

    /// A token was declared with one id and has another.
    #[error(
        "the token {token:?} is declared with id {declared} but the vocabulary of {tokenizer} \
         gives it {found}; the configuration belongs to another vocabulary"
    )]
    TokenId {
        /// The token.
        token: String,
        /// The id in the configuration files.
        declared: u32,
        /// The id that it has.
        found: u32,
        /// Where the vocabulary came from.
        tokenizer: String,
    },

    /// A token's id is beyond what any embedding table has rows for.
    #[error("the token {token:?} in {tokenizer} has id {id}; ids must be below {limit}")]
    IdTooLarge {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The first id that is refused.
        limit: u32,
        /// Where the vocabulary came from.
        tokenizer: String,
    },

    /// A setting of the BPE model that no CLIP vocabulary has.
    #[error(
        "{path} sets continuing_subword_prefix to {found:?}; CLIP's vocabularies mark the end of a \
         word, not its continuation, and need it empty",
        path = path.display()
    )]
    SubwordPrefix {
        /// The file.
        path: PathBuf,
        /// The prefix that it sets.
        found: String,
    },

    /// A `tokenizer.json` frames a text otherwise than CLIP's text tower expects.
    #[error(
        "the post-processor of {path} frames an empty text as {found:?}; a CLIP text tower expects \
         [bos, eos] = {expected:?}. Correct the post_processor, or remove it from the file",
        path = path.display()
    )]
    Framing {
        /// The file.
        path: PathBuf,
        /// The ids of an empty text by the file's own post-processor.
        found: Vec<u32>,
        /// The ids that it should have.
        expected: [u32; 2],
    },

    /// The `tokenizers` library refused the pipeline.
    #[error("cannot build the tokenizer of {tokenizer}: {source}")]
    Build {
        /// Where the vocabulary came from.
        tokenizer: String,
        /// What the library said.
        source: tokenizers::Error,
    },

    /// A pad id outside the vocabulary.
    #[error("pad id {id} is not in the vocabulary, whose ids are below {size}")]
    PadId {
        /// The id that was asked for.
        id: u32,
        /// The vocabulary's largest id plus one.
        size: usize,
    },

    /// An id outside the vocabulary.
    #[error("id {id} at position {position} is not in the vocabulary, whose ids are below {size}")]
    UnknownId {
        /// The id.
        id: u32,
        /// Its index in the ids that were given.
        position: usize,
        /// The vocabulary's largest id plus one.
        size: usize,
    },

    /// A context that has no room for the beginning and the end of the text.
    #[error("context length {found} has no room for bos and eos; it must be at least 2 (CLIP: 77)")]
    ContextTooShort {
        /// The context length that was asked for.
        found: usize,
    },

    /// The `tokenizers` library could not encode or decode.
    #[error("the tokenizer failed on its input: {source}")]
    Run {
        /// What the library said.
        source: tokenizers::Error,
    },
}
