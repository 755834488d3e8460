//! Where the pictures are that a run looked at, for what shows the run later.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::run::write_whole;
use crate::{Result, RunError, RunFolder};

const SOURCES: &str = "sources.jsonl";

#[derive(Serialize, Deserialize)]
struct SourceLine {
    item: String,
    file: String,
}

impl RunFolder {
    /// Notes where the picture of every item is. A folder of datasets is another one on another
    /// machine, so this decides nothing: it stands in a file of its own, `sources.jsonl`, and every
    /// start writes it anew. What lies in the run's folder is noted relative to it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_sources<P: AsRef<Path>>(
        &self,
        sources: impl IntoIterator<Item = (String, P)>,
    ) -> Result<()> {
        let path = self.path().join(SOURCES);
        let mut text = String::new();
        for (item, file) in sources {
            let file = file.as_ref();
            let noted = match file.strip_prefix(self.path()) {
                Ok(within) => within.to_owned(),
                Err(_) => {
                    std::path::absolute(file).map_err(|source| RunError::read(file, source))?
                }
            };
            // A name that is no text cannot be noted; such a picture is then not shown.
            let Some(file) = noted.to_str().map(str::to_owned) else {
                continue;
            };
            let line = serde_json::to_string(&SourceLine { item, file })
                .map_err(|error| RunError::write(&path, error.into()))?;
            text.push_str(&line);
            text.push('\n');
        }
        write_whole(&path, text.as_bytes())
    }

    /// Where the picture of every item was at the last start, by the item's key; empty for a run whose
    /// pictures are its own. Whether a picture is still there is not known.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn sources(&self) -> Result<BTreeMap<String, PathBuf>> {
        let path = self.path().join(SOURCES);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(RunError::read(&path, source)),
        };
        let read = |(index, line): (usize, &str)| {
            let line: SourceLine =
                serde_json::from_str(line).map_err(|error| RunError::Damaged {
                    path: path.clone(),
                    line: index + 1,
                    reason: format!("expected an item and the file of its picture, found {error}"),
                })?;
            Ok((line.item, self.path().join(line.file)))
        };
        text.lines().enumerate().map(read).collect()
    }
}

/// Notes for a merged run where the pictures of its shards are.
pub(crate) fn merge(runs: &[RunFolder], merged: &RunFolder) -> Result<()> {
    let mut all = BTreeMap::new();
    for run in runs {
        for (item, file) in run.sources()? {
            all.entry(item).or_insert(file);
        }
    }
    match all.is_empty() {
        true => Ok(()),
        false => merged.note_sources(all),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::Plan;

    fn run(folder: &Path) -> RunFolder {
        let items = vec!["a/1".to_owned(), "a/2".to_owned()];
        let plan = Plan::new("table5", &BTreeMap::from([("seed", 1)]), items).unwrap();
        RunFolder::open(folder, plan).unwrap()
    }

    #[test]
    fn pictures_are_found_again_when_the_run_is_moved_and_when_it_is_merged() {
        let folder = tempfile::tempdir().unwrap();
        let first = run(&folder.path().join("first"));
        assert!(first.sources().unwrap().is_empty());
        let inside = first.path().join(".world/1.png");
        let elsewhere = folder.path().join("data/2.png");
        first
            .note_sources([("a/1".to_owned(), &inside), ("a/2".to_owned(), &elsewhere)])
            .unwrap();
        let moved = folder.path().join("moved");
        fs::rename(first.path(), &moved).unwrap();
        let moved = RunFolder::read(moved).unwrap();
        let found = moved.sources().unwrap();
        assert_eq!(found["a/1"], moved.path().join(".world/1.png"));
        assert_eq!(found["a/2"], elsewhere);
        let merged = run(&folder.path().join("merged"));
        merge(&[moved], &merged).unwrap();
        assert_eq!(merged.sources().unwrap(), found);
    }

    #[test]
    fn a_broken_list_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let good = "{\"item\":\"a/1\",\"file\":\"x.png\"}\n";
        fs::write(folder.path().join(SOURCES), format!("{good}{{\n")).unwrap();
        let error = run.sources().unwrap_err().to_string();
        assert!(error.contains("sources.jsonl, line 2"), "{error}");
    }
}
