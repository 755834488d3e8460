//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};

/// Why a dataset cannot be read: which file, which record, which field.
///
/// Records are named as `jq` would address them: `[3]` is the fourth of a list, `annotations[3]`
/// the fourth of that list in an object, `line 4` the fourth line of a file of JSON lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file or folder that a dataset needs is not there.
    #[error("{} is missing: {hint}", path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// What it is and where to get it.
        hint: String,
    },

    /// A file that is not JSON or no pickle: damaged, or broken off.
    #[error("{}: expected {format}, found damage at {place}: {reason}; download the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// The record at which it is broken.
        place: String,
        /// What is wrong there.
        reason: String,
    },

    /// A record that does not say what it should.
    #[error("{}: {record}, field `{field}`: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The record.
        record: String,
        /// The field, with the path to it within the record.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },

    /// An id that two records have.
    #[error("{}: {record}, field `{field}`: expected an id of its own, found {value}, which {first} has", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The second record.
        record: String,
        /// The field that holds the id.
        field: &'static str,
        /// The id.
        value: String,
        /// The first record.
        first: String,
    },

    /// An outline or run lengths that describe no mask.
    #[error("{part}: expected {expected}, found {found}")]
    Mask {
        /// Which part of the segmentation.
        part: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// A run-length encoding that cannot be.
    #[error(transparent)]
    Rle(#[from] negkit_image::Error),
}

impl DataError {
    /// The same error of a mask, as the error of a record; other errors know their place already.
    #[must_use]
    pub(crate) fn in_record(self, path: &Path, record: String, field: &str) -> Self {
        match self {
            Self::Mask {
                part,
                expected,
                found,
            } => Self::Record {
                path: path.to_owned(),
                record,
                field: part,
                reason: format!("expected {expected}, found {found}"),
            },
            Self::Rle(error) => Self::Record {
                path: path.to_owned(),
                record,
                field: field.to_owned(),
                reason: error.to_string(),
            },
            other => other,
        }
    }

    pub(crate) fn record(
        path: &Path,
        record: impl Into<String>,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Record {
            path: path.to_owned(),
            record: record.into(),
            field: field.into(),
            reason: reason.into(),
        }
    }
}
