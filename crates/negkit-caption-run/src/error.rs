//! What can go wrong with a run.

use std::path::PathBuf;

use thiserror::Error;

/// Why captions cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptionRunError {
    /// The run's folder cannot be used, or too much failed.
    #[error(transparent)]
    Run(#[from] negkit_run::RunError),
    /// A dataset cannot be read.
    #[error(transparent)]
    Data(#[from] negkit_data::DataError),
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] negkit_image::Error),
    /// A captions file is no JSON object with annotations.
    #[error("{}: {reason}", path.display())]
    Captions {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// The captions are not those of the run.
    #[error(
        "{} has the SHA-256 {found}, the run was made from one with {expected}; name that file",
        path.display()
    )]
    OtherCaptions {
        /// The file.
        path: PathBuf,
        /// That of the run.
        expected: String,
        /// That of the file.
        found: String,
    },
    /// There is nothing to do.
    #[error("{} gives nothing to work on: {reason}", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
