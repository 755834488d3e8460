//! What can go wrong with a report.

use std::io;
use std::path::{Path, PathBuf};

use negkit_eval::table5::Table5Error;
use negkit_eval::{EvalError, RunError};
use thiserror::Error;

/// Why a report cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// No run was named.
    #[error("no run was named: expected at least one folder that `negkit eval` wrote")]
    NoRuns,
    /// One folder twice.
    #[error("the run {} is named twice: expected every run once", path.display())]
    Twice {
        /// The folder.
        path: PathBuf,
    },
    /// A folder is no run.
    #[error(
        "{} is no run: {found}. Expected a folder that `negkit eval` wrote, with run.toml and \
         items.txt in it",
        path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file of a run cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A summary is not what the run writes.
    #[error(
        "{}: expected the summary of a run of {table}, found {reason}. Delete it, and the report \
         computes its numbers from the records",
        path.display()
    )]
    Summary {
        /// The file, or the run whose records it was computed from.
        path: PathBuf,
        /// The table of the run.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// A record does not fit the settings of its run.
    #[error("{}, item '{item}': {reason}", path.display())]
    Record {
        /// The folder of the run.
        path: PathBuf,
        /// The item.
        item: String,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A contact sheet of nothing.
    #[error(
        "there is no picture for a contact sheet: the runs have none yet, or theirs are not where \
         they were (--pictures names another folder)"
    )]
    NoPictures,
    /// A run cannot be opened.
    #[error(transparent)]
    Folder(#[from] RunError),
    /// A run of Table 4 cannot be scored.
    #[error(transparent)]
    Run(#[from] EvalError),
    /// A run of Table 5 cannot be scored.
    #[error(transparent)]
    Table5(#[from] Table5Error),
    /// There is no score.
    #[error(transparent)]
    Metrics(#[from] negkit_metrics::MetricsError),
    /// A picture cannot be made.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// A picture cannot be encoded.
    #[error("a picture cannot be encoded: {0}")]
    Encode(String),
    /// The page cannot be rendered.
    #[error("the page cannot be rendered: {0}")]
    Render(#[from] askama::Error),
}

/// A result with [`ReportError`].
pub type Result<T> = std::result::Result<T, ReportError>;

impl ReportError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}
