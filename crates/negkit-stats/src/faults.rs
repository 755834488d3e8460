//! What could not be read.

use std::fmt;

use serde::{Serialize, Serializer};

/// Faults that are kept by name; all are counted.
const NAMED: usize = 1000;

/// Where in a file something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(u64),
    /// A row of a Parquet file, from 0.
    Row(u64),
    /// An element of a list, from 0, and the name of the list; "" is the file itself.
    Item(u64, String),
    /// A byte, from 0; of what is in it, where the file is compressed.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => write!(f, "the file"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
            Self::Item(item, list) => write!(f, "{list}[{item}]"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A record, or the rest of a file, that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The file, as a number among the inputs.
    #[serde(skip)]
    pub(crate) file_number: usize,
    /// Where.
    pub place: Place,
    /// What was expected, and what was found.
    pub reason: String,
    /// Whether the rest of the file is unread for it.
    pub ends_file: bool,
    /// The file.
    pub file: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.file, self.place, self.reason)?;
        if self.ends_file {
            write!(f, "; the rest of the file was not read")?;
        }
        Ok(())
    }
}

/// Faults: all counted, the first ones named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Records that could not be read.
    pub records: u64,
    /// Files that could not be read, or not to their end.
    pub files: u64,
    /// The first of them, in the order of the files; those that end a file come first.
    pub named: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        if fault.ends_file {
            self.files += 1;
        } else {
            self.records += 1;
        }
        self.named.push(fault);
        if self.named.len() >= 2 * NAMED {
            self.shorten();
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.files += other.files;
        self.named.extend(other.named);
        self.shorten();
    }

    /// Sorts, and keeps the first ones.
    pub(crate) fn shorten(&mut self) {
        self.named
            .sort_by(|a, b| (!a.ends_file, a).cmp(&(!b.ends_file, b)));
        self.named.truncate(NAMED);
    }

    /// Whether everything could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.files == 0
    }
}
