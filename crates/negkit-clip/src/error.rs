//! What can go wrong with pictures in CLIP.

use negkit_nn::ParamsError;
use negkit_text::TextError;
use thiserror::Error;

/// Why a CLIP cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The files cannot be read, or the text encoder failed or does not fit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A picture or the preprocessing cannot be used.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The checkpoint is of something else.
    #[error(
        "{path} holds no CLIP vision tower: there is no tensor \
         'vision_model.embeddings.class_embedding' (or 'visual.class_embedding') in it"
    )]
    NoVisionTower {
        /// The file or folder.
        path: std::path::PathBuf,
    },
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
