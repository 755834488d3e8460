//! Records one after the other in a stream of bytes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{CHUNK, Chunk, Cut, LONGEST_RECORD, Stop};
use crate::faults::Place;

/// Counts what passes through it.
pub(super) struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counting<R> {
    pub(super) fn new(inner: R) -> (Self, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counting = Self {
            inner,
            count: Arc::clone(&count),
        };
        (counting, count)
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A file, unpacked, and how much of the packed one was read.
pub(super) struct Bytes {
    reader: Box<dyn Read + Send>,
    count: Arc<AtomicU64>,
}

impl Bytes {
    pub(super) fn new(reader: Box<dyn Read + Send>, count: Arc<AtomicU64>) -> Self {
        Self { reader, count }
    }

    /// The same with another reader from here on.
    pub(super) fn replaced(self, reader: Box<dyn Read + Send>) -> Self {
        Self { reader, ..self }
    }

    /// Bytes of the packed file that were read since this was last asked.
    pub(super) fn progress(&mut self) -> u64 {
        self.count.swap(0, Ordering::Relaxed)
    }

    /// Reads until the buffer is full; fewer bytes are the end. Those before an error are in the
    /// buffer, and counted in `filled`.
    pub(super) fn fill(&mut self, buffer: &mut [u8], filled: &mut usize) -> io::Result<()> {
        while *filled < buffer.len() {
            match self.reader.read(&mut buffer[*filled..]) {
                Ok(0) => break,
                Ok(read) => *filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where records end.
pub(super) trait Records: Send {
    /// The end of the last record that is whole, in bytes that begin with a record.
    fn last_end(&self, bytes: &[u8]) -> Option<usize>;

    /// What is wrong with the rest of a file, in bytes that begin with a record: where, from their
    /// beginning, and what.
    fn unfinished(&self, _bytes: &[u8]) -> Option<(usize, String)> {
        None
    }
}

/// Cuts a stream at the ends of records that are lines, or of several lines.
pub(super) struct Stream<B> {
    bytes: Bytes,
    records: B,
    /// What was read after the end of the last chunk.
    rest: Vec<u8>,
    line: u64,
    offset: u64,
    /// What comes after the last chunk.
    end: Option<Option<Stop>>,
}

impl<B: Records> Stream<B> {
    /// Goes on at a line, with bytes that have been read.
    pub(super) fn new(bytes: Bytes, records: B, rest: Vec<u8>, line: u64, offset: u64) -> Self {
        Self {
            bytes,
            records,
            rest,
            line,
            offset,
            end: None,
        }
    }
}

impl<B: Records> Cut for Stream<B> {
    fn cut(&mut self, chunk: &mut Chunk) -> Result<bool, Stop> {
        if let Some(end) = &mut self.end {
            return end.take().map_or(Ok(false), Err);
        }
        let mut size = CHUNK.max(2 * self.rest.len());
        chunk.filled = self.rest.len();
        loop {
            if chunk.buffer.len() < size {
                chunk.buffer.resize(size, 0);
            }
            if !self.rest.is_empty() {
                chunk.buffer[..self.rest.len()].copy_from_slice(&self.rest);
                self.rest.clear();
            }
            let result = self
                .bytes
                .fill(&mut chunk.buffer[..size], &mut chunk.filled);
            let filled = &chunk.buffer[..chunk.filled];
            let end = match result {
                Err(error) => {
                    let place = Place::Byte(self.offset + chunk.filled as u64);
                    self.end = Some(Some(Stop(place, broken_off(&error))));
                    self.records.last_end(filled).unwrap_or(0)
                }
                Ok(()) if chunk.filled < size => {
                    let unfinished = self.records.unfinished(filled);
                    let (end, stop) = match unfinished {
                        None => (chunk.filled, None),
                        Some((at, reason)) => {
                            let before = memchr::memchr_iter(b'\n', &filled[..at]).count() as u64;
                            let stop = Stop(Place::Line(self.line + before), reason);
                            (self.records.last_end(filled).unwrap_or(0), Some(stop))
                        }
                    };
                    self.end = Some(stop);
                    end
                }
                Ok(()) => match self.records.last_end(filled) {
                    Some(end) => end,
                    None if size < LONGEST_RECORD => {
                        size = (2 * size).min(LONGEST_RECORD);
                        continue;
                    }
                    None => {
                        self.end = Some(None);
                        return Err(Stop(Place::Line(self.line), too_long()));
                    }
                },
            };
            if self.end.is_none() {
                self.rest.extend_from_slice(&filled[end..]);
            }
            chunk.filled = end;
            chunk.first = self.line;
            self.offset += end as u64;
            self.line += memchr::memchr_iter(b'\n', chunk.bytes()).count() as u64;
            // An empty chunk may be followed by what is wrong.
            return Ok(true);
        }
    }

    fn progress(&mut self) -> u64 {
        self.bytes.progress()
    }
}

/// What an error in the middle of a file means.
pub(super) fn broken_off(error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed file is broken off",
        _ => "cannot be read on",
    };
    format!("{why}: {error}")
}

/// What a record without an end means.
pub(super) fn too_long() -> String {
    format!(
        "a record of more than {} MiB: expected its end, perhaps a quote is not closed or the format \
         is another",
        LONGEST_RECORD >> 20
    )
}
