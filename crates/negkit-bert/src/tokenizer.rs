//! The tokenizer that a model was published with.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

/// Why a tokenizer cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// There is no `tokenizer.json`.
    #[error(
        "{folder} holds no tokenizer.json: take it from where the model was published, or write it \
         with `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers"
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// `tokenizer.json` is not what the `tokenizers` library writes.
    #[error("{path} is no tokenizer: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the library said.
        cause: tokenizers::Error,
    },
    /// `tokenizer_config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] negkit_nn::ConfigError),
    /// A text cannot be tokenised, or ids not be put into words.
    #[error("the tokenizer of {path} failed: {cause}")]
    Run {
        /// The file.
        path: PathBuf,
        /// What the library said.
        cause: tokenizers::Error,
    },
    /// The tokenizer can give ids that the word embedding has no row for.
    #[error(
        "{path} gives ids up to {largest}, but the model's vocabulary has {vocab_size} entries \
         (vocab_size in config.json): the tokenizer belongs to another model"
    )]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// Largest id of the tokenizer.
        largest: u32,
        /// Rows of the word embedding.
        vocab_size: usize,
    },
}

/// A text in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, start and end included.
    pub ids: Vec<u32>,
    /// Whether the text's end was cut off.
    pub truncated: bool,
}

/// `tokenizer.json` of a model: word pieces of BERT, or whatever the file says.
///
/// Truncation and padding that the file holds are what its writer last used, not a property of the
/// model (the published MiniLM's says 128 where the model takes 256); they are ignored.
#[derive(Debug, Clone)]
pub struct BertTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    model_max_length: Option<usize>,
}

impl BertTokenizer {
    /// Reads `tokenizer.json` and, where it is there, `tokenizer_config.json` of `folder`, for a
    /// model of `vocab_size` entries.
    ///
    /// # Errors
    /// When a file cannot be read, or the tokenizer has ids that the model has no entry for.
    pub fn from_folder(folder: &Path, vocab_size: usize) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(TokenizerError::Missing {
                folder: folder.to_owned(),
            });
        }
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|cause| TokenizerError::Malformed {
                path: path.clone(),
                cause,
            })?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocab_size {
            return Err(TokenizerError::Vocabulary {
                path,
                largest,
                vocab_size,
            });
        }
        tokenizer.with_padding(None);
        if let Err(cause) = tokenizer.with_truncation(None) {
            return Err(TokenizerError::Malformed { path, cause });
        }
        let config = folder.join("tokenizer_config.json");
        let model_max_length = if config.is_file() {
            let config: Map<String, Value> = negkit_nn::read_config(&config)?;
            // "Unlimited" is written as 1e30, which is no integer.
            config
                .get("model_max_length")
                .and_then(Value::as_u64)
                .and_then(|length| usize::try_from(length).ok())
        } else {
            None
        };
        Ok(Self {
            tokenizer,
            path,
            model_max_length,
        })
    }

    /// Most tokens of a text, as `tokenizer_config.json` says.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Tokens of each text with the model's start and end, at most `room` in all. What is too much
    /// is cut off before the end token.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode(&self, texts: &[&str], room: usize) -> Result<Vec<Tokens>, TokenizerError> {
        let failed = |cause| TokenizerError::Run {
            path: self.path.clone(),
            cause,
        };
        let around = self
            .tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(false));
        let encodings = self
            .tokenizer
            .encode_batch(texts.to_vec(), false)
            .map_err(failed)?;
        encodings
            .into_iter()
            .map(|mut encoding| {
                let inside = room.saturating_sub(around);
                let truncated = encoding.len() > inside;
                encoding.truncate(inside, 0, TruncationDirection::Right);
                let encoding = self
                    .tokenizer
                    .post_process(encoding, None, true)
                    .map_err(failed)?;
                Ok(Tokens {
                    truncated,
                    ids: encoding.get_ids().to_vec(),
                })
            })
            .collect()
    }

    /// The text of `ids`, without special tokens.
    ///
    /// # Errors
    /// When the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|cause| TokenizerError::Run {
                path: self.path.clone(),
                cause,
            })
    }
}
