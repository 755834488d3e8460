//! What can go wrong with CLIPSeg.

use std::path::PathBuf;

use negkit_checkpoint::CheckpointError;
use negkit_clip::ClipError;
use negkit_nn::{ConfigError, ParamsError};
use negkit_text::TextError;
use thiserror::Error;

/// Why CLIPSeg cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClipSegError {
    /// The text encoder failed or does not fit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The vision tower's files cannot be read.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// The weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A picture or the preprocessing cannot be used.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The checkpoint is of something else.
    #[error(
        "{path} holds no CLIPSeg decoder: there is no 'film_mul.weight'; its naming is '{naming}'"
    )]
    NoDecoder {
        /// The file or folder.
        path: PathBuf,
        /// What the names look like.
        naming: String,
    },
    /// The original files hold the decoder alone.
    #[error(
        "{path} holds the CLIPSeg decoder alone: give the CLIP that belongs to it as well \
         (OpenAI's ViT-B/16)"
    )]
    NeedsClip {
        /// The decoder's file.
        path: PathBuf,
    },
    /// A logit is NaN or infinite: a broken model must not make a mask that can be scored.
    #[error(
        "the model gave {count} logits that are not finite for condition {condition} (of {size} x \
         {size} pixels): the weights are broken, or the dtype is too small for them (try f32)"
    )]
    NotFinite {
        /// Index of the phrase or condition, from 0.
        condition: usize,
        /// How many logits are not finite.
        count: usize,
        /// Side of the logit map.
        size: usize,
    },
    /// A threshold that is no probability.
    #[error("threshold {0} is not between 0 and 1")]
    Threshold(f32),
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
