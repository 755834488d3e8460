//! What can go wrong in the recipe.

use std::path::{Path, PathBuf};

/// Why a small model cannot be made or measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniError {
    /// A stage needs what an earlier one leaves.
    #[error("{}: stage {stage} is not through yet; run `negkit mini train --out {}`", folder.display(), folder.display())]
    Missing {
        /// The earlier stage.
        stage: String,
        /// The folder of all stages.
        folder: PathBuf,
    },
    /// A stage was done before, with other settings.
    #[error(
        "{}: this stage was done before, and since then {before}. Remove the folder to do it again, \
         or work in another one",
        folder.display()
    )]
    Changed {
        /// The stage's folder.
        folder: PathBuf,
        /// What has changed.
        before: String,
    },
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
    /// A file is no such JSON.
    #[error("{}: not the JSON that was expected: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A training failed.
    #[error(transparent)]
    Train(#[from] negkit_train::TrainError),
    /// A picture cannot be read or written.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Another part failed.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl MiniError {
    /// An error of another part.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
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

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }
}
