//! A run as its folder has it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use negkit_eval::{Finals, ModelUsed, RunFolder};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ReportError, Result};

/// A run that was begun.
pub(crate) struct Run {
    pub(crate) folder: RunFolder,
    /// The folder, as it was named.
    pub(crate) path: PathBuf,
    /// The text of `run.toml`.
    pub(crate) head: String,
    /// The text of `table.md`, of a finished run.
    pub(crate) table: Option<String>,
    summary: Option<Value>,
}

impl Run {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let not_a_run = |found| ReportError::NotARun {
            path: path.to_owned(),
            found,
        };
        if !path.exists() {
            return Err(not_a_run("it does not exist"));
        }
        if !path.is_dir() {
            return Err(not_a_run("it is a file"));
        }
        let head = read(&path.join("run.toml"))?.ok_or_else(|| not_a_run("it has no run.toml"))?;
        if !path.join("items.txt").exists() {
            return Err(not_a_run("it has no items.txt"));
        }
        let folder = RunFolder::read(path)?;
        let file = path.join("summary.json");
        let summary = read(&file)?
            .map(|text| {
                serde_json::from_str(&text).map_err(|error| ReportError::Summary {
                    path: file.clone(),
                    table: folder.plan().table().to_owned(),
                    reason: error.to_string(),
                })
            })
            .transpose()?;
        Ok(Self {
            path: path.to_owned(),
            head,
            table: read(&path.join("table.md"))?,
            summary,
            folder,
        })
    }

    /// The numbers of a run with `done` records: its summary when it is finished, or else computed
    /// from the records by `finals`. An error of a run that is not finished is no error: it has no
    /// score yet, and this is why.
    pub(crate) fn numbers<S: DeserializeOwned, E>(
        &self,
        done: usize,
        finals: impl FnOnce(&RunFolder) -> std::result::Result<Finals, E>,
    ) -> Result<std::result::Result<S, String>>
    where
        E: ToString,
        ReportError: From<E>,
    {
        let finished = done == self.folder.plan().items().len();
        let (path, value) = match (&self.summary, finished) {
            (Some(summary), true) => (self.path.join("summary.json"), summary.clone()),
            _ => match finals(&self.folder) {
                Ok(finals) => (self.path.clone(), finals.summary),
                Err(error) if finished => return Err(error.into()),
                Err(error) => return Ok(Err(error.to_string())),
            },
        };
        let table = self.folder.plan().table();
        let wrong = |reason: String| ReportError::Summary {
            path: path.clone(),
            table: table.to_owned(),
            reason,
        };
        if value.get("table").and_then(Value::as_str) != Some(table) {
            return Err(wrong(format!("\"table\": {}", value["table"])));
        }
        let numbers = S::deserialize(&value).map_err(|error| wrong(error.to_string()))?;
        Ok(Ok(numbers))
    }

    /// All numbers of a finished run, in no particular form.
    pub(crate) fn summary(&self) -> Option<&Value> {
        self.summary.as_ref()
    }

    /// The names of the encoders, of which there must be one.
    pub(crate) fn encoders(&self, used: &[ModelUsed]) -> Result<Vec<String>> {
        if used.is_empty() {
            return Err(self.record_error("run.toml", "expected at least one text encoder"));
        }
        Ok(used.iter().map(|encoder| encoder.name.clone()).collect())
    }

    pub(crate) fn record_error(&self, item: &str, reason: impl Into<String>) -> ReportError {
        ReportError::Record {
            path: self.path.clone(),
            item: item.to_owned(),
            reason: reason.into(),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::read(path, source)),
    }
}
