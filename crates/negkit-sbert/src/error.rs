//! What can go wrong with sentence embeddings.

use std::path::PathBuf;

use negkit_bert::TokenizerError;
use negkit_checkpoint::CheckpointError;
use negkit_nn::{ConfigError, ParamsError};
use thiserror::Error;

/// Why a sentence encoder cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SbertError {
    /// The weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be loaded, or a text not be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The steps of `modules.json` are not those that are known.
    #[error(
        "{path} lists the steps [{}]; known are a Transformer, then a Pooling, then perhaps a \
         Normalize. An embedding without the other steps would be of another space",
        found.join(", ")
    )]
    Steps {
        /// The file.
        path: PathBuf,
        /// The steps that it lists.
        found: Vec<String>,
    },
    /// There is nothing to choose from.
    #[error("no choices were given for \"{text}\": the nearest of none is not defined")]
    NoChoices {
        /// The text.
        text: String,
    },
    /// An embedding is NaN or infinite: a broken model must not give a choice that can be counted.
    #[error(
        "the embedding of \"{text}\" is not finite: the weights of {path} are broken, or the dtype \
         is too small for them (try f32)"
    )]
    NotFinite {
        /// The text.
        text: String,
        /// Where the weights came from.
        path: PathBuf,
    },
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
