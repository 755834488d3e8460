//! Why the engine cannot be had.

use negkit_diffusion::DiffusionError;
use thiserror::Error;

/// Why a Stable Diffusion cannot be loaded into libtorch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TchEngineError {
    /// negkit's own part failed.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
    /// A tensor cannot be read.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The configuration asks for what diffusers-rs has not.
    #[error("diffusers-rs has no {0}: use negkit's own engine")]
    NotInDiffusersRs(String),
    /// The model needs a tensor that the files do not have.
    #[error("{model}: no tensor '{name}' in {origin}")]
    Missing {
        /// Which network.
        model: &'static str,
        /// Name in the files.
        name: String,
        /// The files.
        origin: String,
    },
    /// A tensor has another shape than the model.
    #[error("{model}: tensor '{name}' is {found:?}, expected {expected:?}")]
    Shape {
        /// Which network.
        model: &'static str,
        /// Name in the files.
        name: String,
        /// Shape of the model's.
        expected: Vec<i64>,
        /// Shape of the file's.
        found: Vec<i64>,
    },
    /// The files have tensors that the model does not use: it is another model.
    #[error("{model}: {count} tensors of {origin} are not used, the first is '{first}'")]
    Unused {
        /// Which network.
        model: &'static str,
        /// The files.
        origin: String,
        /// How many.
        count: usize,
        /// The first in alphabetical order.
        first: String,
    },
}
