//! What can go wrong with a text encoder.

use std::path::PathBuf;

use negkit_checkpoint::CheckpointError;
use negkit_nn::{ConfigError, ParamsError};
use thiserror::Error;

use crate::encoder::Misfit;
use crate::tokenizer::TokenizerError;

/// Why a text encoder cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The encoder has not the size that an engine needs.
    #[error("{0}")]
    Misfit(Box<Misfit>),
    /// The weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be loaded, or a prompt not tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The checkpoint is of something else.
    #[error(
        "{path} holds no CLIP text tower: there is no tensor \
         'text_model.embeddings.token_embedding.weight' (or 'token_embedding.weight') in it; its \
         naming is '{naming}'"
    )]
    NoTextTower {
        /// The file or folder.
        path: PathBuf,
        /// What the names look like.
        naming: String,
    },
    /// There is no tokenizer for the vocabulary.
    #[error(
        "{path} brings no tokenizer, and its vocabulary of {vocab_size} entries is not CLIP's own \
         49,408: give a folder with tokenizer.json, or vocab.json and merges.txt"
    )]
    NoTokenizer {
        /// The file or folder.
        path: PathBuf,
        /// Entries of the token embedding.
        vocab_size: usize,
    },
    /// The tokenizer can give ids that the token embedding has no row for.
    #[error(
        "the tokenizer of {origin} has {tokenizer} entries, the token embedding {embedding}: they \
         do not belong together"
    )]
    VocabularyMismatch {
        /// Where the tokenizer came from.
        origin: String,
        /// Its vocabulary.
        tokenizer: usize,
        /// Rows of the token embedding.
        embedding: usize,
    },
    /// Encodings of an encoder without a hash cannot be told from another's.
    #[error(
        "encodings of text encoder '{encoder}' cannot be kept: nothing is known of its weights that \
         tells them from others'. Give their SHA-256 (WeightsSource::new)"
    )]
    NoHash {
        /// Name of the encoder.
        encoder: String,
    },
    /// A kept encoding cannot be read or written.
    #[error("the encoding of a prompt in {path} cannot be read or written: {cause}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// An encoder of one's own failed for a reason of its own.
    #[error("text encoder '{encoder}' failed: {cause}")]
    Other {
        /// Name of the encoder.
        encoder: String,
        /// The reason.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}
