//! Text to token ids, exactly as the published CLIP models were trained on them.
//!
//! [`ClipTokenizer`] is the one type that matters. It is loaded from a published folder
//! ([`ClipTokenizer::from_folder`]) or from CLIP's built-in vocabulary
//! ([`ClipTokenizer::built_in`]), and turns a batch of prompts into a [`TokenBatch`]: ids of one
//! length each, and per prompt where its text ends, how long it was and what did not fit.
//!
//! The reference is `transformers.CLIPTokenizer` 5. The `tokenizers` library, which that class
//! uses too, splits and merges; what is done here instead is what `transformers` does around it:
//! reading the configuration files, framing with bos and eos, truncation and padding. Framing is
//! done here even where a `tokenizer.json` brings a post-processor of its own (which is checked
//! for saying the same), so that every batch begins with bos, holds an eos and has the length
//! asked for, whatever the file.
//!
//! Not done, because `transformers` does not do it either: repairing mis-encoded text (`ftfy`) and
//! decoding HTML entities, which OpenAI's own `simple_tokenizer.py` did while CLIP was trained.
//! Prompts are taken as they are typed.
//!
//! ```
//! use negkit_text::tokenizer::ClipTokenizer;
//!
//! let tokenizer = ClipTokenizer::built_in()?;
//! let batch = tokenizer.encode(&["a photo of a cat", "no dog"], 8)?;
//! assert_eq!(batch.ids[0], [49406, 320, 1125, 539, 320, 2368, 49407, 49407]);
//! assert_eq!(batch.eot_positions, [6, 3]);
//! # Ok::<(), negkit_text::tokenizer::TokenizerError>(())
//! ```

mod config;
mod error;
mod pipeline;
mod vocabulary;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tokenizers::{AddedToken, Encoding, PostProcessor, PostProcessorWrapper, Tokenizer};

pub use error::TokenizerError;
pub use vocabulary::clip_merges;

use config::{TokenizerConfig, added_tokens_of};
use pipeline::clip_pipeline;
use vocabulary::{END_OF_WORD, TokenizerJson, Vocabulary};

/// The context length of OpenAI's CLIP models and of all built on them.
pub const CLIP_CONTEXT_LENGTH: usize = 77;

/// CLIP's byte-pair tokenizer with the special tokens of one published model.
///
/// Cheap to share between threads, not to clone: it holds the whole vocabulary.
#[derive(Clone)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    info: TokenizerInfo,
    /// What stands at the end of a word's last token, and becomes a space in decoded text.
    end_of_word: Option<String>,
}

/// Where a tokenizer's vocabulary came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerSource {
    /// CLIP's vocabulary, which is part of this crate.
    BuiltIn,
    /// A `tokenizer.json`.
    TokenizerJson(PathBuf),
    /// A `vocab.json` and a `merges.txt`.
    VocabAndMerges {
        /// The `vocab.json`.
        vocab: PathBuf,
        /// The `merges.txt`.
        merges: PathBuf,
    },
}

impl fmt::Display for TokenizerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("CLIP's built-in vocabulary"),
            Self::TokenizerJson(path) => write!(f, "{}", path.display()),
            Self::VocabAndMerges { vocab, merges } => {
                write!(f, "{} and {}", vocab.display(), merges.display())
            }
        }
    }
}

/// A special token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpecialToken {
    /// Its text in the vocabulary.
    pub text: String,
    /// Its id.
    pub id: u32,
}

/// What a tokenizer says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// Where the vocabulary came from.
    pub source: TokenizerSource,
    /// The largest id plus one: how many rows the token embedding needs.
    pub vocab_size: usize,
    /// How many merges the byte-pair encoding has.
    pub merge_count: usize,
    /// The token before every text.
    pub bos: SpecialToken,
    /// The token after every text.
    pub eos: SpecialToken,
    /// The token for a symbol that the vocabulary lacks. CLIP's own vocabulary has all bytes and
    /// never needs it; in a smaller one it is mostly eos, so that an unknown symbol looks like the
    /// end of the text.
    pub unk: SpecialToken,
    /// The token that fills the context up after eos.
    pub pad: SpecialToken,
    /// The `model_max_length` of `tokenizer_config.json`; `None` where it is missing or unlimited.
    pub model_max_length: Option<usize>,
    /// 16 hexadecimal digits that are equal for equal tokens, ids and merges: the beginning of
    /// their SHA-256, taken over the tokens by id and the merges by priority.
    pub fingerprint: String,
}

/// Prompts as token ids. All vectors have one element a prompt, in the order of the prompts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// `[batch, context_length]`: bos, the text, eos, then pad up to the context length. What does
    /// not fit is cut off before eos.
    pub ids: Vec<Vec<u32>>,
    /// `[batch]`: the index of the first eos in each row, from which the text tower takes the
    /// pooled vector.
    ///
    /// A text that spells the eos marker out ends there, as in `transformers`. Old configuration
    /// files say `eos_token_id: 2`, and `transformers` then pools at the *largest* id of the row
    /// instead, as OpenAI's `text.argmax(dim=-1)` did. That is the same position as long as eos is
    /// the largest id there is; it is another one where tokens were added after it (textual
    /// inversion). A text tower that honours the old rule finds the position in `ids`.
    pub eot_positions: Vec<usize>,
    /// `[batch]`: how many tokens the whole text has, without bos, eos and pad and *before*
    /// truncation; `min(token_count, context_length - 2)` of them are in the row.
    pub token_count: Vec<usize>,
    /// `[batch]`: whether tokens were cut off.
    pub truncated: Vec<bool>,
    /// `[batch]`: the text of the tokens that were cut off, `None` where all fitted. It is what
    /// diffusers shows in its warning: normalized, and with a replacement character where the cut
    /// went through a character.
    pub removed_text: Vec<Option<String>>,
}

impl ClipTokenizer {
    /// CLIP's own vocabulary and special tokens, for checkpoints that bring no tokenizer
    /// (OpenAI's naming, `.pth`). Pads with eos, as Stable Diffusion 1 does; OpenAI's code pads
    /// with 0, for which there is [`ClipTokenizer::with_pad_id`].
    ///
    /// # Errors
    ///
    /// None on an intact build; a damaged one is reported instead of causing a panic.
    pub fn built_in() -> Result<Self, TokenizerError> {
        let mut config = TokenizerConfig::clip();
        config.model_max_length = Some(CLIP_CONTEXT_LENGTH);
        Self::with_clip_pipeline(TokenizerSource::BuiltIn, &Vocabulary::built_in()?, config)
    }

    /// Loads a folder in a published layout: `tokenizer.json`, or else `vocab.json` with
    /// `merges.txt`. Special tokens, added tokens and `model_max_length` are read from
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, each of which
    /// may be missing, with the precedence of `transformers`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::MissingFiles`] if neither layout is there, and the errors of
    /// [`ClipTokenizer::from_tokenizer_json`] and [`ClipTokenizer::from_vocab_and_merges`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let folder = folder.as_ref();
        let names = ["tokenizer.json", "vocab.json", "merges.txt"];
        let [json, vocab, merges] = names.map(|name| folder.join(name));
        if json.is_file() {
            return Self::from_tokenizer_json(json);
        }
        match (vocab.is_file(), merges.is_file()) {
            (true, true) => Self::from_vocab_and_merges(vocab, merges),
            (has_vocab, has_merges) => Err(TokenizerError::MissingFiles {
                folder: folder.to_owned(),
                found: match (has_vocab, has_merges) {
                    (true, _) => "vocab.json alone",
                    (_, true) => "merges.txt alone",
                    _ if folder.is_dir() => "none of them",
                    _ => "no such folder",
                }
                .to_owned(),
            }),
        }
    }

    /// Loads a `tokenizer.json` with a BPE model, and the configuration files beside it.
    ///
    /// As in `transformers`, a `tokenizer_class` of `CLIPTokenizer` puts CLIP's own normalizer and
    /// pre-tokenizer around the file's vocabulary; with another class or none the file's own are
    /// used. For CLIP's published files these are the same, but for how punctuation right after a
    /// marker in capitals (`<|ENDOFTEXT|>!`) is grouped. Truncation, padding and dropout that the
    /// file may set are ignored.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or parsed, is not BPE, frames text otherwise than with bos and
    /// eos, if merges and vocabulary do not fit together, or a special token is not in the
    /// vocabulary.
    pub fn from_tokenizer_json(path: impl Into<PathBuf>) -> Result<Self, TokenizerError> {
        let path = path.into();
        let json = TokenizerJson::read(&path)?;
        let added = added_tokens_of(&json.document, &path)?;
        let config = TokenizerConfig::read(folder_of(&path), added, json.unk_token)?;
        let post_processor = json
            .document
            .get("post_processor")
            .filter(|p| !p.is_null())
            .cloned();
        let source = TokenizerSource::TokenizerJson(path.clone());
        let (tokenizer, end_of_word) = if config.is_clip_class {
            let tokenizer = clip_pipeline(&json.vocabulary, &config.unk.content);
            (tokenizer, Some(END_OF_WORD.to_owned()))
        } else {
            (own_pipeline(json.document), json.end_of_word)
        };
        let loaded = Self::assemble(source, tokenizer, &json.vocabulary, config, end_of_word)?;
        if let Some(post_processor) = post_processor {
            loaded.check_framing(&path, &post_processor)?;
        }
        Ok(loaded)
    }

    /// Loads a `vocab.json` and a `merges.txt`, and the configuration files beside the former.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or parsed (with the line), if a merge needs a token that the
    /// vocabulary lacks, or a special token is not in the vocabulary.
    pub fn from_vocab_and_merges(
        vocab: impl Into<PathBuf>,
        merges: impl Into<PathBuf>,
    ) -> Result<Self, TokenizerError> {
        let (vocab, merges) = (vocab.into(), merges.into());
        let vocabulary = Vocabulary::from_files(&vocab, &merges)?;
        let config = TokenizerConfig::read(folder_of(&vocab), Default::default(), None)?;
        Self::with_clip_pipeline(
            TokenizerSource::VocabAndMerges { vocab, merges },
            &vocabulary,
            config,
        )
    }

    /// The same tokenizer with another pad id.
    ///
    /// Only padding changes. (A pad token named in a configuration file is also recognised within
    /// prompts, as `transformers` does: with Stable Diffusion 2's files `!` becomes id 0.)
    ///
    /// # Errors
    ///
    /// [`TokenizerError::PadId`] if the vocabulary has no such id.
    pub fn with_pad_id(mut self, id: u32) -> Result<Self, TokenizerError> {
        let text = self
            .tokenizer
            .id_to_token(id)
            .ok_or(TokenizerError::PadId {
                id,
                size: self.info.vocab_size,
            })?;
        self.info.pad = SpecialToken { text, id };
        Ok(self)
    }

    /// What this tokenizer is: source, sizes, special tokens, fingerprint.
    pub fn info(&self) -> &TokenizerInfo {
        &self.info
    }

    /// Encodes prompts to rows of `context_length` ids: bos, the text, eos, pad. A text longer
    /// than `context_length - 2` tokens loses its end. Large batches are spread over the
    /// processor's cores.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::ContextTooShort`] if there is no room for bos and eos;
    /// [`TokenizerError::Run`] if the `tokenizers` library fails.
    pub fn encode(
        &self,
        prompts: &[&str],
        context_length: usize,
    ) -> Result<TokenBatch, TokenizerError> {
        let Some(room) = context_length.checked_sub(2) else {
            return Err(TokenizerError::ContextTooShort {
                found: context_length,
            });
        };
        let encodings = self
            .tokenizer
            .encode_batch_fast(prompts.to_vec(), false)
            .map_err(|source| TokenizerError::Run { source })?;
        let mut batch = TokenBatch {
            ids: Vec::with_capacity(prompts.len()),
            eot_positions: Vec::with_capacity(prompts.len()),
            token_count: Vec::with_capacity(prompts.len()),
            truncated: Vec::with_capacity(prompts.len()),
            removed_text: Vec::with_capacity(prompts.len()),
        };
        for encoding in &encodings {
            let text = encoding.get_ids();
            let (kept, removed) = text.split_at(text.len().min(room));
            let row = self.frame(kept, context_length);
            let spelled_out = kept.iter().position(|id| *id == self.info.eos.id);
            batch
                .eot_positions
                .push(spelled_out.unwrap_or(kept.len()) + 1);
            batch.ids.push(row);
            batch.token_count.push(text.len());
            batch.truncated.push(!removed.is_empty());
            batch.removed_text.push(match removed {
                [] => None,
                removed => Some(self.decode(removed, false)?),
            });
        }
        Ok(batch)
    }

    /// The text that `ids` stand for: normalized, with a space after every word. Special tokens
    /// are spelled out, or left out with `skip_special_tokens`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        let known = |id: u32| self.tokenizer.id_to_token(id).is_some();
        if let Some(position) = ids.iter().position(|id| !known(*id)) {
            return Err(self.unknown_id(ids[position], position));
        }
        let text = self
            .tokenizer
            .decode(ids, skip_special_tokens)
            .map_err(|source| TokenizerError::Run { source })?;
        let text = match self.end_of_word.as_deref() {
            None | Some("") => text,
            Some(end_of_word) => text.replace(end_of_word, " "),
        };
        Ok(text.trim().to_owned())
    }

    /// Each id's token as it stands in the vocabulary, such as `photo</w>`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] if an id is not in the vocabulary.
    pub fn token_strings(&self, ids: &[u32]) -> Result<Vec<String>, TokenizerError> {
        ids.iter()
            .enumerate()
            .map(|(position, id)| {
                self.tokenizer
                    .id_to_token(*id)
                    .ok_or_else(|| self.unknown_id(*id, position))
            })
            .collect()
    }

    fn with_clip_pipeline(
        source: TokenizerSource,
        vocabulary: &Vocabulary,
        config: TokenizerConfig,
    ) -> Result<Self, TokenizerError> {
        let tokenizer = clip_pipeline(vocabulary, &config.unk.content);
        Self::assemble(
            source,
            tokenizer,
            vocabulary,
            config,
            Some(END_OF_WORD.to_owned()),
        )
    }

    /// Adds the special tokens to a pipeline, and checks that they are what the files say.
    fn assemble(
        source: TokenizerSource,
        pipeline: tokenizers::Result<Tokenizer>,
        vocabulary: &Vocabulary,
        config: TokenizerConfig,
        end_of_word: Option<String>,
    ) -> Result<Self, TokenizerError> {
        let refused = |error| TokenizerError::Build {
            tokenizer: source.to_string(),
            source: error,
        };
        let mut tokenizer = pipeline.map_err(refused)?;
        // Looked up before anything is added: the library gives a new id to a token that the
        // vocabulary lacks, one for which no text tower has an embedding.
        let special = |(role, token): (&'static str, &AddedToken)| {
            let text = token.content.clone();
            match config
                .added_id(&text)
                .or_else(|| tokenizer.token_to_id(&text))
            {
                Some(id) => Ok(SpecialToken { text, id }),
                None => Err(TokenizerError::MissingSpecialToken {
                    role,
                    token: text,
                    tokenizer: source.to_string(),
                    size: vocabulary.tokens.len(),
                }),
            }
        };
        let [bos, eos, unk, pad] = config.roles().map(special);
        let (bos, eos, unk, pad) = (bos?, eos?, unk?, pad?);
        tokenizer
            .add_tokens(config.matched_tokens())
            .map_err(refused)?;
        check_declared_ids(&tokenizer, &config, &source)?;

        let tokens = tokenizer.get_vocab(true);
        let info = TokenizerInfo {
            vocab_size: tokens.values().max().map_or(0, |last| *last as usize + 1),
            merge_count: vocabulary.merges.len(),
            bos,
            eos,
            unk,
            pad,
            model_max_length: config.model_max_length,
            fingerprint: Vocabulary::fingerprint(&tokens, &vocabulary.merges),
            source,
        };
        Ok(Self {
            tokenizer,
            info,
            end_of_word,
        })
    }

    /// Compares a file's post-processor with the framing that [`ClipTokenizer::encode`] does.
    fn check_framing(&self, path: &Path, post_processor: &Value) -> Result<(), TokenizerError> {
        let post_processor: PostProcessorWrapper =
            serde_json::from_str(&post_processor.to_string()).map_err(|source| {
                TokenizerError::Json {
                    path: path.to_owned(),
                    expected: "tokenizer.json with a post_processor",
                    source,
                }
            })?;
        let framed = post_processor
            .process(Encoding::default(), None, true)
            .map_err(|source| TokenizerError::Run { source })?;
        let expected = [self.info.bos.id, self.info.eos.id];
        if framed.get_ids() == expected {
            return Ok(());
        }
        Err(TokenizerError::Framing {
            path: path.to_owned(),
            found: framed.get_ids().to_vec(),
            expected,
        })
    }

    fn frame(&self, text: &[u32], context_length: usize) -> Vec<u32> {
        let mut row = Vec::with_capacity(context_length);
        row.push(self.info.bos.id);
        row.extend_from_slice(text);
        row.push(self.info.eos.id);
        row.resize(context_length, self.info.pad.id);
        row
    }

    fn unknown_id(&self, id: u32, position: usize) -> TokenizerError {
        TokenizerError::UnknownId {
            id,
            position,
            size: self.info.vocab_size,
        }
    }
}

impl fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClipTokenizer")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// A `tokenizer.json` as it stands, less the truncation and padding that it may bring: these are
/// the business of [`ClipTokenizer::encode`].
fn own_pipeline(mut document: Value) -> tokenizers::Result<Tokenizer> {
    for key in ["truncation", "padding"] {
        document[key] = Value::Null;
    }
    Tokenizer::from_bytes(document.to_string())
}

fn check_declared_ids(
    tokenizer: &Tokenizer,
    config: &TokenizerConfig,
    source: &TokenizerSource,
) -> Result<(), TokenizerError> {
    for (declared, token) in &config.added {
        if let Some(found) = tokenizer
            .token_to_id(&token.content)
            .filter(|id| id != declared)
        {
            return Err(TokenizerError::TokenId {
                token: token.content.clone(),
                declared: *declared,
                found,
                tokenizer: source.to_string(),
            });
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
