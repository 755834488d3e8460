//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a benchmark cannot be opened or measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// A file of the benchmark cannot be read.
    #[error(transparent)]
    Data(#[from] negkit_data::DataError),
    /// A picture cannot be preprocessed.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The vision tower cannot be used.
    #[error(transparent)]
    Clip(#[from] negkit_clip::ClipError),
    /// The text encoder cannot be used.
    #[error(transparent)]
    Text(#[from] negkit_text::TextError),
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// There is no score.
    #[error(transparent)]
    Metrics(#[from] negkit_metrics::MetricsError),
    /// The benchmark has nothing to measure.
    #[error("{benchmark}: expected {expected} in {}, found none", path.display())]
    Empty {
        /// The benchmark.
        benchmark: &'static str,
        /// What there should be.
        expected: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Files of the benchmark do not fit each other.
    #[error("{benchmark}: expected {expected}, found {found}")]
    Misfit {
        /// The benchmark.
        benchmark: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The text encoder has no projection into the space of the pictures.
    #[error(
        "the text encoder '{name}' has no projection, so its texts cannot be compared with pictures: \
         expected files with `text_projection`"
    )]
    NoProjection {
        /// The encoder.
        name: String,
    },
    /// Vectors of texts and pictures have different widths.
    #[error(
        "the text encoder '{name}' projects to {found} numbers, the vision tower to {expected}: they \
         belong to different CLIPs"
    )]
    Width {
        /// The encoder.
        name: String,
        /// Width of the pictures' vectors.
        expected: usize,
        /// Width of the texts' vectors.
        found: usize,
    },
    /// A file of stored embeddings is something else.
    #[error(
        "{} is no file of embeddings of this tower ({reason}): delete it, and they are computed again",
        path.display()
    )]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of stored embeddings cannot be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl BenchmarkError {
    pub(crate) fn access(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Access { path, source }
    }
}

/// A result with [`BenchmarkError`].
pub type Result<T> = std::result::Result<T, BenchmarkError>;
