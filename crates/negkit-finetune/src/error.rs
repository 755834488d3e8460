//! What can go wrong in fine-tuning.

use std::path::{Path, PathBuf};

use negkit_checkpoint::CheckpointError;
use negkit_clip::ClipError;
use negkit_data::DataError;
use negkit_text::TextError;
use negkit_text::tokenizer::TokenizerError;
use negkit_train::TrainError;

/// Why a CLIP cannot be fine-tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FineTuneError {
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A weight file cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of captions cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The text side of the CLIP cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The picture side of the CLIP cannot be used.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// A file cannot be written whole.
    #[error(transparent)]
    Write(#[from] negkit_image::Error),
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
    #[error("setting {setting} is {found}, expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A file of settings cannot be read.
    #[error("{}: {why}", path.display())]
    SettingsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// Too many captions cannot be used.
    #[error(
        "{left_out} of {all} captions cannot be used, which is more than the allowed share of \
         {allowed}: {}. All are listed in {}. Give the folder that the pictures are in, leave the \
         captions out of the files, or allow more (largest_missing_share)",
        examples.join("; "), list.display()
    )]
    LeftOut {
        /// How many cannot be used.
        left_out: usize,
        /// Of how many.
        all: usize,
        /// Share that is allowed.
        allowed: f64,
        /// Some of them, with the reason.
        examples: Vec<String>,
        /// Where all of them are.
        list: PathBuf,
    },
    /// There is too little to train on.
    #[error(
        "{train} captions to train on and {held_out} to validate by are too few; at least one of \
         each is needed"
    )]
    TooFew {
        /// Captions to train on.
        train: usize,
        /// Captions to validate by.
        held_out: usize,
    },
    /// A file of picture features is not what this program wrote.
    #[error(
        "{} is damaged: {why}. Remove it, and its pictures are encoded anew",
        path.display()
    )]
    Features {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Loss or gradient stopped being a number.
    #[error(
        "epoch {epoch}, batch {batch} of {batches}, with captions such as {captions:?}: {source}. \
         What was best until then lies in the folder `training` beside it"
    )]
    NonFinite {
        /// The epoch, from 1.
        epoch: u64,
        /// The batch in the epoch, from 1.
        batch: u64,
        /// Batches of an epoch.
        batches: u64,
        /// The first captions of the batch.
        captions: Vec<String>,
        /// What it was.
        source: Box<TrainError>,
    },
}

impl FineTuneError {
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
}
