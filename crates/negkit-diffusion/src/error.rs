//! What can go wrong with Stable Diffusion.

use std::path::PathBuf;

use negkit_checkpoint::CheckpointError;
use negkit_nn::{ConfigError, ParamsError};
use negkit_text::TextError;
use thiserror::Error;

use crate::noise::NoiseError;
use crate::scheduler::SchedulerError;

/// Why Stable Diffusion cannot be loaded or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiffusionError {
    /// The text encoder failed or does not fit.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The scheduler cannot be configured or take a step.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// The scheduler's configuration file cannot be used.
    #[error("{path}: {cause}")]
    SchedulerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: SchedulerError,
    },
    /// The starting noise cannot be made.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The path holds something else.
    #[error(
        "{path} is no Stable Diffusion model: expected a diffusers folder with model_index.json, or \
         a single file with the tensors 'model.diffusion_model.*'; found {found}"
    )]
    NotAPipeline {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A part of a single-file checkpoint is missing.
    #[error("{path} holds no {part}")]
    MissingPart {
        /// The file.
        path: PathBuf,
        /// The part.
        part: &'static str,
    },
    /// The request contradicts itself or the model.
    #[error("{0}")]
    Request(String),
    /// A picture came out as NaN.
    #[error(
        "the picture for seed {seed} has values that are not finite: the weights are broken, or \
         {dtype:?} is too small for them (try --dtype f32)"
    )]
    NotFinite {
        /// The picture's seed.
        seed: u64,
        /// The type that was computed with.
        dtype: candle_core::DType,
    },
    /// The callback asked to stop.
    #[error("cancelled at step {step} of {steps}")]
    Cancelled {
        /// The step after which it stopped, from 1.
        step: usize,
        /// All steps.
        steps: usize,
    },
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
