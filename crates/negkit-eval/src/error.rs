//! What can go wrong with a table.

use negkit_run::RunError;
use thiserror::Error;

/// Why a table cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The run cannot begin, go on, or end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The run has no text encoders, or one twice.
    #[error("{0}")]
    Encoders(String),
    /// A model cannot be used.
    #[error(transparent)]
    Engine(#[from] negkit::Error),
    /// A question cannot be answered.
    #[error(transparent)]
    Answer(#[from] negkit_vqa::VqaError),
    /// An answer cannot be compared with the choices.
    #[error(transparent)]
    Sentence(#[from] negkit_sbert::SbertError),
    /// A dataset cannot be read.
    #[error(transparent)]
    Data(#[from] negkit_data::DataError),
    /// A benchmark cannot be opened or measured.
    #[error(transparent)]
    Benchmark(#[from] negkit_benchmarks::BenchmarkError),
    /// Drawn datasets cannot be written.
    #[error(transparent)]
    World(#[from] negkit_world::datasets::DatasetError),
    /// There is no score.
    #[error(transparent)]
    Metrics(#[from] negkit_metrics::MetricsError),
}

/// A result with [`EvalError`].
pub type Result<T> = std::result::Result<T, EvalError>;
