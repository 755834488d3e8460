//! What can go wrong with BLIP.

use negkit_bert::TokenizerError;
use negkit_checkpoint::CheckpointError;
use negkit_nn::{ConfigError, ParamsError};
use negkit_vqa::VqaError;
use thiserror::Error;

/// Why a BLIP cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlipError {
    /// The weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be loaded, or a question not be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture or the preprocessing cannot be used.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<BlipError> for VqaError {
    fn from(error: BlipError) -> Self {
        match error {
            BlipError::Checkpoint(cause) => cause.into(),
            BlipError::Params(cause) => cause.into(),
            BlipError::Config(cause) => cause.into(),
            BlipError::Picture(cause) => cause.into(),
            BlipError::Tensor(cause) => cause.into(),
            BlipError::Tokenizer(cause) => Self::Other {
                answerer: "BLIP".into(),
                cause: cause.into(),
            },
        }
    }
}
