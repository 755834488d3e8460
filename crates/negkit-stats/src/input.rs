//! Which files to read.

use std::fmt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::StatsError;
use crate::source::Format;

/// A file of captions, or the standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, or for [`find`] a folder.
    File(PathBuf),
    /// The standard input.
    Stdin,
}

impl<P: Into<PathBuf>> From<P> for Input {
    /// "-" is the standard input.
    fn from(path: P) -> Self {
        let path = path.into();
        if path.as_os_str() == "-" {
            Self::Stdin
        } else {
            Self::File(path)
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// What there is to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The files, those of a folder by name.
    pub files: Vec<Input>,
    /// Their bytes, packed as they are; the standard input counts none.
    pub bytes: u64,
    /// Files in folders whose names say no format that is known.
    pub passed_over: u64,
}

/// Finds the files of captions among files and in folders, and below these. Files that are named are
/// taken whatever they are called; in folders, names decide.
///
/// # Errors
/// When a file or folder cannot be read, a folder holds no such file, or nothing is named.
pub fn find(inputs: &[Input]) -> Result<Found, StatsError> {
    let mut found = Found::default();
    for input in inputs {
        let Input::File(path) = input else {
            found.files.push(Input::Stdin);
            continue;
        };
        let metadata = std::fs::metadata(path).map_err(|source| StatsError::Read {
            path: path.clone(),
            source,
        })?;
        if metadata.is_dir() {
            walk(path, &mut found)?;
        } else {
            found.bytes += metadata.len();
            found.files.push(input.clone());
        }
    }
    if found.files.is_empty() {
        return Err(StatsError::NoInput);
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Found) -> Result<(), StatsError> {
    let before = found.files.len();
    let broken = |error: walkdir::Error| StatsError::Read {
        path: error.path().unwrap_or(folder).to_owned(),
        source: error.into(),
    };
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(broken)?;
        if !entry.file_type().is_file() {
            continue;
        }
        if Format::of_name(entry.path()).is_none() {
            found.passed_over += 1;
            continue;
        }
        found.bytes += entry.metadata().map_err(broken)?.len();
        found.files.push(Input::File(entry.into_path()));
    }
    if found.files.len() == before {
        return Err(StatsError::NothingFound {
            path: folder.to_owned(),
        });
    }
    Ok(())
}
