//! Where the records of a run are, without holding them in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::de::{DeserializeOwned, IgnoredAny};

use crate::records::LineIn;
use crate::{Plan, Result, RunError};

#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    line: usize,
    start: u64,
    length: usize,
}

/// The places of records, by the positions of their items.
#[derive(Debug)]
pub(crate) struct Index {
    files: Vec<(PathBuf, File)>,
    places: Vec<Option<Place>>,
}

impl Index {
    /// Reads where the whole lines of these files are.
    pub(crate) fn read(paths: Vec<PathBuf>, plan: &Plan) -> Result<Self> {
        let mut index = Self {
            files: Vec::with_capacity(paths.len()),
            places: vec![None; plan.items().len()],
        };
        for path in paths {
            let file = File::open(&path).map_err(|source| RunError::read(&path, source))?;
            index.files.push((path, file));
            index.scan(plan)?;
        }
        Ok(index)
    }

    fn scan(&mut self, plan: &Plan) -> Result<()> {
        let file = self.files.len() - 1;
        let Some((path, _)) = self.files.last() else {
            return Ok(());
        };
        let path = path.clone();
        let handle = File::open(&path).map_err(|source| RunError::read(&path, source))?;
        let mut lines = BufReader::new(handle);
        let (mut start, mut line, mut text) = (0, 0, Vec::new());
        loop {
            text.clear();
            let length = lines
                .read_until(b'\n', &mut text)
                .map_err(|source| RunError::read(&path, source))?;
            line += 1;
            // A line without its end was not finished.
            if !text.ends_with(b"\n") {
                return Ok(());
            }
            let damaged = |reason: String| RunError::Damaged {
                path: path.clone(),
                line,
                reason,
            };
            let head: LineIn<IgnoredAny> = match serde_json::from_slice(&text) {
                Ok(head) => head,
                // A power cut may leave a last line that is no text.
                Err(_) if is_at_end(&mut lines) => return Ok(()),
                Err(error) => {
                    let reason = format!("expected an item with its record, found {error}");
                    return Err(damaged(reason));
                }
            };
            let Some(position) = plan.position(&head.item) else {
                let reason = format!("expected an item of the run, found '{}'", head.item);
                return Err(damaged(reason));
            };
            let place = Place {
                file,
                line,
                start,
                length,
            };
            match self.places[position] {
                Some(first) if self.text(first)? != text => {
                    return Err(RunError::Conflict {
                        item: head.item,
                        first: self.named(first),
                        second: self.named(place),
                    });
                }
                _ => self.places[position] = Some(place),
            }
            start += length as u64;
        }
    }

    fn named(&self, place: Place) -> String {
        let path = &self.files[place.file].0;
        format!("{}, line {}", path.display(), place.line)
    }

    fn text(&self, place: Place) -> Result<Vec<u8>> {
        let (path, file) = &self.files[place.file];
        let mut text = vec![0; place.length];
        let mut file = file;
        file.seek(SeekFrom::Start(place.start))
            .and_then(|_| file.read_exact(&mut text))
            .map_err(|source| RunError::read(path, source))?;
        Ok(text)
    }

    /// Whether the item at `position` has a record.
    pub(crate) fn holds(&self, position: usize) -> bool {
        self.places[position].is_some()
    }

    /// The record of the item at `position`, where it has one.
    pub(crate) fn record<R: DeserializeOwned>(&self, position: usize) -> Result<Option<R>> {
        let Some(place) = self.places[position] else {
            return Ok(None);
        };
        let path = &self.files[place.file].0;
        let line = LineIn::parse(path, place.line, &self.text(place)?)?;
        Ok(Some(line.record))
    }
}

fn is_at_end(lines: &mut impl BufRead) -> bool {
    lines.fill_buf().is_ok_and(<[u8]>::is_empty)
}
