//! What can go wrong in training.

use std::error::Error;
use std::path::{Path, PathBuf};

use negkit_checkpoint::CheckpointError;
use negkit_clip::ClipError;
use negkit_nn::{ConfigError, ParamsError};
use negkit_text::TextError;
use negkit_text::tokenizer::TokenizerError;

/// Why a model cannot be trained or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The weights do not fit the model.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A weight file cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text encoder failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A tokenizer cannot be trained or used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A CLIP failed.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A setting makes no sense.
    #[error("training setting {setting} is {found}, expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The folder holds a training with other settings.
    #[error(
        "{} holds a training with other settings: {}. Train in another folder, or remove this one \
         to begin anew",
        folder.display(),
        differences.join("; ")
    )]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// What differs, as "name: folder has …, asked for …".
        differences: Vec<String>,
    },
    /// A file of a training folder is not what this program wrote.
    #[error(
        "{} is damaged: {why}. Remove the folder to begin anew, or put a whole copy of the file in \
         its place",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process is training in the folder.
    #[error("{} is in use by another training; wait for it, or end it", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Loss or gradient stopped being a number.
    #[error(
        "step {step}: {what} is {value}; {kept}. Lower the learning rate, clip the gradient, or \
         look at this step's batch"
    )]
    NonFinite {
        /// The step, from 1.
        step: u64,
        /// `the loss` or `the gradient of NAME`.
        what: String,
        /// What was found instead of a finite number.
        value: f64,
        /// What the folder still holds.
        kept: String,
    },
    /// A task gave something that the loop cannot use.
    #[error("the training task {0}")]
    Task(String),
    /// Whatever else a task's data may say.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl TrainError {
    /// An error of a task's own, such as of its data.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    pub(crate) fn io(
        path: &Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, why: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}
