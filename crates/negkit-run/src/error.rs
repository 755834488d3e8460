//! What can go wrong with a run.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Items that an error names before it only counts them.
const MOST_NAMED: usize = 5;

/// Why a run cannot begin, go on, or end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no room for a file.
    #[error(
        "the disk is full, or a file may grow no larger: {} cannot be written. Nothing that was \
         finished is lost; make room and start the same command again",
        path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds something, but no run.
    #[error(
        "{} holds files but no run.toml: expected the folder of a run, or one that is empty or not \
         there yet",
        path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A run was begun with other settings.
    #[error(
        "the run in {} was begun with other settings: {}. Its results must not be mixed with new \
         ones: take these settings, or another folder",
        path.display(),
        listed(changes)
    )]
    Changed {
        /// The folder of the run.
        path: PathBuf,
        /// Every setting that differs.
        changes: Vec<Change>,
    },
    /// A run is of another table.
    #[error("the run in {} is of {found}, expected one of {expected}", path.display())]
    Table {
        /// The folder of the run.
        path: PathBuf,
        /// The table that is wanted.
        expected: String,
        /// The table of the run.
        found: String,
    },
    /// The settings cannot be written down.
    #[error("the settings of the run cannot be written as TOML: {reason}")]
    Settings {
        /// Why.
        reason: String,
    },
    /// There is nothing to do.
    #[error("the run has no items: expected at least one prompt or picture")]
    NoItems,
    /// An item's key cannot be one.
    #[error("item {index} has the key {key:?}: expected a text in one line that no other item has")]
    Key {
        /// Index of the item.
        index: usize,
        /// Its key.
        key: String,
    },
    /// A file of a run is not what was written.
    #[error("{}, line {line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected, and what was found.
        reason: String,
    },
    /// Two records of one item say different things.
    #[error(
        "item '{item}' has two records that differ, in {first} and {second}: expected the same \
         result; delete the line that is wrong"
    )]
    Conflict {
        /// The item.
        item: String,
        /// Where its first record is.
        first: String,
        /// Where its second record is.
        second: String,
    },
    /// A record would not be read as it was written, as one with a number that is not finite.
    #[error(
        "the record of item '{item}' is refused: {reason}. A number that is NaN or infinite cannot \
         be scored"
    )]
    Record {
        /// The item.
        item: String,
        /// What is wrong.
        reason: String,
    },
    /// Another process works on the same items.
    #[error(
        "another process works on this run and holds {}: wait for it, or give every process a shard \
         of its own",
        path.display()
    )]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A shard that cannot be.
    #[error("'{text}' is no shard: expected I/N with I from 1 to N, such as 2/4")]
    Shard {
        /// What was given.
        text: String,
    },
    /// Too many items in a row failed: going on would only fail more.
    #[error(
        "{in_row} items in a row failed, the last one with: {reason}. Nothing that was finished is \
         lost; when the cause is mended, start the same command again and have what failed retried"
    )]
    Failing {
        /// How many.
        in_row: usize,
        /// Why the last one did.
        reason: String,
    },
    /// Items without a record.
    #[error(
        "{} of {total} items have no record: {}. Finish the run, or name the other shards",
        missing.len(),
        some(missing)
    )]
    Incomplete {
        /// The items.
        missing: Vec<String>,
        /// Number of all items.
        total: usize,
    },
    /// The work on an item failed.
    #[error("item '{item}': {source}")]
    Work {
        /// The item.
        item: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A result with [`RunError`].
pub type Result<T> = std::result::Result<T, RunError>;

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The setting, such as `settings.steps`.
    pub field: String,
    /// What the run was begun with; `None` where it was not set.
    pub before: Option<String>,
    /// What is asked for now; `None` where it is not set.
    pub now: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let Self { field, before, now } = self;
        write!(f, "{field} was {}, now {}", shown(before), shown(now))
    }
}

impl RunError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    /// A failure to write, told apart from a disk that is full.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull { path },
            _ => Self::Write { path, source },
        }
    }

    /// The same of a file that was to be written whole.
    pub(crate) fn write_whole(path: &Path, error: negkit_image::Error) -> Self {
        match error {
            negkit_image::Error::Write { source, .. } => Self::write(path, source),
            negkit_image::Error::DiskFull { path, .. } => Self::DiskFull { path },
            other => Self::write(path, io::Error::other(other.to_string())),
        }
    }
}

fn listed(changes: &[Change]) -> String {
    let all: Vec<String> = changes.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn some(items: &[String]) -> String {
    let mut named = items[..items.len().min(MOST_NAMED)].join(", ");
    if items.len() > MOST_NAMED {
        named.push_str(", …");
    }
    named
}
