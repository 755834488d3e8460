//! Files of captions, cut into chunks that threads parse.
//!
//! Cutting is done under a lock and so must be quick: it looks for nothing but the ends of records.
//! What it takes to understand a record is done by the thread that has the chunk.

mod csv;
mod json;
mod lines;
mod open;
mod parquet;
mod record;
mod stream;
mod zstd;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;

use crate::counter::Counter;
use crate::faults::Place;

pub(crate) use open::{Settings, open};

/// Bytes of a chunk, where no record is longer.
const CHUNK: usize = 1 << 20;

/// Bytes that one record may have. More is taken for damage, such as a quote that is never closed;
/// without a bound, that would be the whole file in memory.
const LONGEST_RECORD: usize = 64 << 20;

/// What a file of captions is written in. Each but Parquet may be compressed by gzip or zstd, which
/// is seen by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A caption a line.
    Text,
    /// Comma-separated values by RFC 4180, with a header.
    Csv,
    /// Tab-separated values, with a header. Quotes mean nothing, as in the files of Conceptual
    /// Captions.
    Tsv,
    /// An object a line.
    JsonLines,
    /// An object with a list, as the captions files of COCO, or a list alone; of objects or strings.
    Json,
    /// Parquet, with a column of strings or of lists of strings.
    Parquet,
}

impl Format {
    /// Endings of names that say the format.
    pub(crate) const ENDINGS: &str = ".txt .csv .tsv .jsonl .ndjson .json .parquet";

    /// The format that the name of a file says, and whether it is compressed.
    pub(crate) fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let packed = [".gz", ".zst", ".zstd"];
        let plain = packed.iter().find_map(|ending| name.strip_suffix(ending));
        let (_, ending) = plain.unwrap_or(&name).rsplit_once('.')?;
        ending
            .parse()
            .ok()
            .filter(|format| *format != Self::Parquet || plain.is_none())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "txt" | "text" => Ok(Self::Text),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "json" => Ok(Self::Json),
            "parquet" => Ok(Self::Parquet),
            other => Err(format!(
                "expected text, csv, tsv, jsonl, json or parquet, found {other:?}"
            )),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::JsonLines => "jsonl",
            Self::Json => "json",
            Self::Parquet => "parquet",
        })
    }
}

/// Records of a file that are parsed together.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Longer than what is in it, so that it is not cleared for every chunk.
    buffer: Vec<u8>,
    filled: usize,
    /// The number of the first record: a line (from 1), an element or a row group (from 0).
    first: u64,
    /// Where the elements of a list end in the buffer.
    ends: Vec<usize>,
    /// Whether that list stands in an object.
    in_object: bool,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

/// Why the rest of a file cannot be read: where, and what was expected and found.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Place, pub(crate) String);

/// Cuts a file into chunks.
pub(crate) trait Cut: Send {
    /// Fills the chunk; `false` when there is no more.
    fn cut(&mut self, chunk: &mut Chunk) -> Result<bool, Stop>;

    /// Bytes of the file that were read since this was last asked.
    fn progress(&mut self) -> u64;
}

/// Finds the captions of a chunk.
pub(crate) trait Parse: Send + Sync {
    /// Passes each to the counter, and what is none, too.
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>);
}

/// An opened file.
pub(crate) struct Source {
    pub(crate) cut: Mutex<Box<dyn Cut>>,
    pub(crate) parse: Box<dyn Parse>,
}
