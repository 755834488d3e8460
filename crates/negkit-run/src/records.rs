//! Records on disk: one line of JSON an item, appended and flushed before the next item begins.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Plan, Result, RunError};

#[derive(Serialize)]
struct LineOut<'a, R> {
    item: &'a str,
    record: &'a R,
}

#[derive(Deserialize)]
pub(crate) struct LineIn<R> {
    pub(crate) item: String,
    pub(crate) record: R,
}

impl<R: DeserializeOwned> LineIn<R> {
    pub(crate) fn parse(path: &Path, line: usize, text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text).map_err(|error| RunError::Damaged {
            path: path.to_owned(),
            line,
            reason: format!("expected an item with its record, found {error}"),
        })
    }
}

/// A file of records that is appended to.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    file: File,
    /// Bytes of the whole lines.
    length: u64,
}

impl RecordFile {
    /// Opens the file, and cuts off a last line that was not finished.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(&path);
        let file = file.map_err(|source| RunError::write(&path, source))?;
        let bytes = std::fs::read(&path).map_err(|source| RunError::read(&path, source))?;
        let length = whole_lines(&bytes).len() as u64;
        let mut records = Self { path, file, length };
        if length < bytes.len() as u64 {
            records.cut()?;
        }
        Ok(records)
    }

    /// Appends a record, and returns when it is on the disk. When it fails, the file is as before.
    pub(crate) fn append<R: Serialize + DeserializeOwned>(
        &mut self,
        item: &str,
        record: &R,
    ) -> Result<()> {
        let before = self.length;
        self.write(item, record)?;
        self.sync().inspect_err(|_| {
            self.length = before;
            // Where even this fails, the next start cuts off what is not a whole line.
            let _ = self.cut();
        })
    }

    /// Waits until all that was written is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = self.file.sync_data();
        synced.map_err(|source| RunError::write(&self.path, source))
    }

    /// Appends a record. A kill of the process does not lose it, a power cut may until
    /// [`sync`](Self::sync). When it fails, the file is as before.
    pub(crate) fn write<R: Serialize + DeserializeOwned>(
        &mut self,
        item: &str,
        record: &R,
    ) -> Result<()> {
        let refused = |reason: String| RunError::Record {
            item: item.to_owned(),
            reason,
        };
        let line = LineOut { item, record };
        let mut line = serde_json::to_string(&line).map_err(|error| refused(error.to_string()))?;
        // JSON has no NaN: it is written as null, which does not read as a number.
        serde_json::from_str::<LineIn<R>>(&line).map_err(|error| {
            refused(format!(
                "it does not read as it was written ({error}): {line}"
            ))
        })?;
        line.push('\n');
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(line.as_bytes()));
        match written {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Where even this fails, the next start cuts off what is not a whole line.
                let _ = self.cut();
                Err(RunError::write(&self.path, source))
            }
        }
    }

    fn cut(&mut self) -> Result<()> {
        let cut = self.file.set_len(self.length);
        let cut = cut.and_then(|()| self.file.sync_data());
        cut.map_err(|source| RunError::write(&self.path, source))
    }
}

/// The lines that were finished: a kill leaves the beginning of one, a power cut may leave one that
/// is no text.
pub(crate) fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = &bytes[..end.map_or(0, |end| end + 1)];
    let before = &whole[..whole.len().saturating_sub(1)];
    let start = before.iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |start| start + 1);
    match serde_json::from_slice::<serde::de::IgnoredAny>(&whole[start..]) {
        Ok(_) => whole,
        Err(_) => &whole[..start],
    }
}

/// The record of an item, as it stands in a file.
#[derive(Debug, Clone)]
pub(crate) struct FoundLine {
    /// The line, without its end.
    pub(crate) text: String,
    /// Its file and number.
    path: PathBuf,
    line: usize,
}

impl FoundLine {
    fn place(&self) -> String {
        format!("{}, line {}", self.path.display(), self.line)
    }

    /// The record.
    pub(crate) fn read<R: DeserializeOwned>(&self) -> Result<R> {
        let line: LineIn<R> =
            serde_json::from_str(&self.text).map_err(|error| RunError::Damaged {
                path: self.path.clone(),
                line: self.line,
                reason: format!("expected a record of this table, found {error}"),
            })?;
        Ok(line.record)
    }
}

/// What is found of a plan, by position.
pub(crate) type Found = BTreeMap<usize, FoundLine>;

/// Adds the whole lines of a file, which need not be there.
///
/// An item may be there twice if both say the same: two shards of different numbers both do it.
pub(crate) fn collect(path: &Path, plan: &Plan, found: &mut Found) -> Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RunError::read(path, source)),
    };
    let whole = whole_lines(&bytes);
    for (index, line) in whole.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = |reason: String| RunError::Damaged {
            path: path.to_owned(),
            line: index + 1,
            reason,
        };
        let text = std::str::from_utf8(line).map_err(|error| damaged(error.to_string()))?;
        let text = text.trim_end_matches('\n');
        let head: LineIn<serde::de::IgnoredAny> = serde_json::from_str(text)
            .map_err(|error| damaged(format!("expected an item with its record, found {error}")))?;
        let Some(position) = plan.position(&head.item) else {
            return Err(damaged(format!(
                "expected an item of the run, found '{}'",
                head.item
            )));
        };
        let line = FoundLine {
            text: text.to_owned(),
            path: path.to_owned(),
            line: index + 1,
        };
        add(plan, found, position, line)?;
    }
    Ok(())
}

/// Adds one line.
pub(crate) fn add(plan: &Plan, found: &mut Found, position: usize, line: FoundLine) -> Result<()> {
    match found.get(&position) {
        Some(first) if first.text != line.text => Err(RunError::Conflict {
            item: plan.items()[position].clone(),
            first: first.place(),
            second: line.place(),
        }),
        Some(_) => Ok(()),
        None => {
            found.insert(position, line);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn plan() -> Plan {
        let items = (0..4).map(|i| format!("item/{i}")).collect();
        Plan::new("table4", &BTreeMap::from([("seed", 1)]), items).unwrap()
    }

    fn positions(path: &Path) -> Result<Vec<usize>> {
        let mut found = Found::new();
        collect(path, &plan(), &mut found)?;
        Ok(found.keys().copied().collect())
    }

    #[test]
    fn a_torn_line_is_dropped_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let mut file = RecordFile::open(path.clone()).unwrap();
        file.append("item/0", &0.5).unwrap();
        file.append("item/1", &1.).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        let last = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(positions(&path).unwrap(), [0], "cut at {end}");
            let mut file = RecordFile::open(path.clone()).unwrap();
            file.append("item/1", &1.).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {end}");
        }
    }

    #[test]
    fn a_last_line_of_zeros_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let good = "{\"item\":\"item/2\",\"record\":1}\n";
        std::fs::write(&path, format!("{good}\0\0\0\n")).unwrap();
        assert_eq!(positions(&path).unwrap(), [2]);
        RecordFile::open(path.clone()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
    }

    #[test]
    fn damage_before_the_end_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let good = "{\"item\":\"item/2\",\"record\":1}\n";
        for bad in ["{\n", "{\"item\":\"item/9\",\"record\":1}\n", "\u{0}\n"] {
            std::fs::write(&path, format!("{good}{bad}{good}")).unwrap();
            let error = positions(&path).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }

    #[test]
    fn an_item_twice_must_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let line = |value| format!("{{\"item\":\"item/2\",\"record\":{value}}}\n");
        std::fs::write(&path, line(1) + &line(1)).unwrap();
        assert_eq!(positions(&path).unwrap(), [2]);
        std::fs::write(&path, line(1) + &line(2)).unwrap();
        let error = positions(&path).unwrap_err();
        assert!(matches!(error, RunError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains("line 1 and"), "{error}");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let mut file = RecordFile::open(path.clone()).unwrap();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = file.append("item/0", &vec![0.5, bad]).unwrap_err();
            assert!(matches!(error, RunError::Record { .. }), "{error}");
        }
        assert!(std::fs::read(&path).unwrap().is_empty());
    }
}
