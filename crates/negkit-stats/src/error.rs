//! What stops a survey before it begins.

use std::io;
use std::path::PathBuf;

use crate::source::Format;

/// Why captions cannot be surveyed at all. What is wrong with single records and files of many is
/// counted and named in the [`Report`](crate::Report) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A list of words is no such list.
    #[error("{}: {source}", path.display())]
    Words {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WordListError,
    },

    /// A folder without any file of captions.
    #[error("{}: no file of captions in this folder; looked for names in {}, with .gz or .zst too", path.display(), Format::ENDINGS)]
    NothingFound {
        /// The folder.
        path: PathBuf,
    },

    /// Nothing to read was named.
    #[error("no input was given: name files or folders, or - for the standard input")]
    NoInput,

    /// The threads could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a text is no list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordListError {
    /// A line that is no entry.
    #[error("line {line}: {text:?} is no entry: {reason}")]
    Entry {
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What was expected.
        reason: &'static str,
    },

    /// An entry that stands there twice.
    #[error("line {line}: {text:?} stands in the list already; remove it")]
    Twice {
        /// Its number, from 1.
        line: usize,
        /// The entry.
        text: String,
    },

    /// No entry at all.
    #[error("no entry: write one word a line")]
    Empty,
}
