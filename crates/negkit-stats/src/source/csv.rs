//! Comma-separated and tab-separated values.

use super::stream::Records;
use super::{Chunk, Parse};
use crate::counter::Counter;
use crate::faults::Place;

/// How fields are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quotes: bool,
}

impl Dialect {
    /// RFC 4180.
    pub(super) const COMMAS: Self = Self {
        delimiter: b',',
        quotes: true,
    };
    /// Quotes are characters as any other.
    pub(super) const TABS: Self = Self {
        delimiter: b'\t',
        quotes: false,
    };

    /// A reader of records, of any number of fields.
    pub(super) fn reader(self, bytes: &[u8]) -> csv::Reader<&[u8]> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .quoting(self.quotes)
            .buffer_capacity(1 << 16)
            .from_reader(bytes)
    }

    /// The end of the first record.
    pub(super) fn first_end(self, bytes: &[u8]) -> Option<usize> {
        Quoted::new(self, bytes).find_map(|part| {
            let end = memchr::memchr(b'\n', &bytes[part.clone()])?;
            Some(part.start + end + 1)
        })
    }
}

impl Records for Dialect {
    fn last_end(&self, bytes: &[u8]) -> Option<usize> {
        if !self.quotes {
            return memchr::memrchr(b'\n', bytes).map(|end| end + 1);
        }
        let mut last = None;
        for part in Quoted::new(*self, bytes) {
            if let Some(end) = memchr::memrchr(b'\n', &bytes[part.clone()]) {
                last = Some(part.start + end + 1);
            }
        }
        last
    }

    fn unfinished(&self, bytes: &[u8]) -> Option<(usize, String)> {
        let mut parts = Quoted::new(*self, bytes);
        parts.by_ref().last();
        parts.open.map(|at| {
            let reason = "a quote that is opened here and not closed before the end of the file";
            (at, reason.to_owned())
        })
    }
}

/// The parts of the bytes outside of quoted fields, as the crate `csv` understands quotes: one opens
/// a field only at its beginning, and ends it unless a second one follows. Only quotes are looked
/// at, so this runs at the speed of `memchr`.
struct Quoted<'a> {
    dialect: Dialect,
    bytes: &'a [u8],
    at: usize,
    done: bool,
    /// Where a field is opened that is not closed.
    open: Option<usize>,
}

impl<'a> Quoted<'a> {
    fn new(dialect: Dialect, bytes: &'a [u8]) -> Self {
        Self {
            dialect,
            bytes,
            at: 0,
            done: false,
            open: None,
        }
    }

    /// The end of the field whose first byte after the quote is at `at`.
    fn closing(&self, mut at: usize) -> Option<usize> {
        loop {
            let quote = at + memchr::memchr(b'"', self.bytes.get(at..)?)?;
            if self.bytes.get(quote + 1) != Some(&b'"') {
                return Some(quote + 1);
            }
            at = quote + 2;
        }
    }
}

impl Iterator for Quoted<'_> {
    type Item = std::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let start = self.at;
        let mut from = start;
        while self.dialect.quotes
            && let Some(quote) = memchr::memchr(b'"', &self.bytes[from..]).map(|q| from + q)
        {
            let before = quote.checked_sub(1).map(|before| self.bytes[before]);
            // A quote right after a closed field is no opening one.
            let opens = (quote > start || start == 0)
                && before.is_none_or(|byte| {
                    byte == self.dialect.delimiter || byte == b'\n' || byte == b'\r'
                });
            if !opens {
                from = quote + 1;
                continue;
            }
            match self.closing(quote + 1) {
                Some(end) => self.at = end,
                None => {
                    self.open = Some(quote);
                    self.done = true;
                }
            }
            return Some(start..quote);
        }
        self.done = true;
        Some(start..self.bytes.len())
    }
}

/// Captions in a column.
pub(super) struct Column {
    pub(super) dialect: Dialect,
    /// Its number, from 0.
    pub(super) column: usize,
    /// Fields that every record has.
    pub(super) fields: usize,
}

impl Parse for Column {
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>) {
        let mut reader = self.dialect.reader(chunk.bytes());
        let mut record = csv::ByteRecord::new();
        // Reading from memory, records of any length, cannot fail.
        while let Ok(true) = reader.read_byte_record(&mut record) {
            let line = record.position().map_or(1, csv::Position::line);
            let place = || Place::Line(chunk.first + line - 1);
            match record.get(self.column) {
                Some(caption) if record.len() == self.fields => counter.caption(caption, place),
                _ => {
                    let (expected, found) = (self.fields, record.len());
                    let reason = format!("expected {expected} fields, found {found}");
                    counter.fault(place(), reason);
                }
            }
        }
    }
}
