//! Stages that are done once.
//!
//! A stage works in a folder of its own. When it is through, a `done.json` says with which settings
//! and from which earlier stages; until then the folder is a work in progress, which the stage's
//! own code resumes. A stage whose settings or inputs have changed since is not done again in
//! silence, for that may throw hours away: it is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use negkit_digest::sha256;
use negkit_image::write_atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::MiniError;

const DONE: &str = "done.json";

/// What a finished stage leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The stage.
    pub stage: String,
    /// All that decides its result, besides its inputs.
    pub settings: Value,
    /// Digests of the stages that it built on, by name.
    pub inputs: Vec<(String, String)>,
    /// Wall-clock time that it took in its last run.
    pub seconds: f64,
    /// Whether there is only this record, and the stage's files are made again when they are needed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record_only: bool,
}

impl Done {
    /// Digest over what decides the result: name, settings, inputs.
    pub fn digest(&self) -> String {
        let decides = serde_json::json!([self.stage, self.settings, self.inputs]);
        sha256(decides.to_string())
    }
}

/// The folder that all stages work in.
#[derive(Debug, Clone)]
pub struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// Works in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, MiniError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(MiniError::io(&folder, "create"))?;
        Ok(Self { folder })
    }

    /// The folder of a stage.
    pub fn path(&self, stage: &str) -> PathBuf {
        self.folder.join(stage)
    }

    /// What the stage `stage` left.
    ///
    /// # Errors
    /// When it is not through yet.
    pub fn finished(&self, stage: &str) -> Result<Done, MiniError> {
        read_done(&self.path(stage))?.ok_or_else(|| MiniError::Missing {
            stage: stage.to_owned(),
            folder: self.folder.clone(),
        })
    }

    /// Runs `work` in the stage's folder, unless that was done before with the same settings and
    /// inputs. Gives the folder.
    ///
    /// # Errors
    /// When an input is missing, the stage was done with other settings or inputs, or `work` fails.
    pub fn stage(
        &self,
        stage: &str,
        settings: &impl Serialize,
        inputs: &[&str],
        work: impl FnOnce(&Path) -> Result<(), MiniError>,
    ) -> Result<PathBuf, MiniError> {
        let folder = self.path(stage);
        let inputs = inputs
            .iter()
            .map(|input| Ok(((*input).to_owned(), self.finished(input)?.digest())))
            .collect::<Result<Vec<_>, MiniError>>()?;
        let mut done = Done {
            stage: stage.to_owned(),
            settings: serde_json::to_value(settings).map_err(MiniError::json(&folder))?,
            inputs,
            seconds: 0.,
            record_only: false,
        };
        if self.has_finished(&done)? {
            return Ok(folder);
        }
        fs::create_dir_all(&folder).map_err(MiniError::io(&folder, "create"))?;
        eprintln!("{stage}");
        let start = Instant::now();
        work(&folder)?;
        done.seconds = start.elapsed().as_secs_f64();
        write_done(&folder, &done)?;
        Ok(folder)
    }

    /// Whether the stage of `done` was done, with its settings and inputs, and left files.
    ///
    /// # Errors
    /// When it was done with others.
    pub(crate) fn has_finished(&self, done: &Done) -> Result<bool, MiniError> {
        let folder = self.path(&done.stage);
        let Some(before) = read_done(&folder)? else {
            return Ok(false);
        };
        if before.digest() != done.digest() {
            return Err(MiniError::Changed {
                folder,
                before: differing(&before, done),
            });
        }
        Ok(!before.record_only)
    }

    /// Says that a stage was done, whose files `has_files` tells whether they are here. One that is
    /// through stays as it is.
    pub(crate) fn restore(&self, done: &Done, has_files: bool) -> Result<(), MiniError> {
        if self.has_finished(done)? {
            return Ok(());
        }
        let folder = self.path(&done.stage);
        fs::create_dir_all(&folder).map_err(MiniError::io(&folder, "create"))?;
        let done = Done {
            record_only: !has_files,
            ..done.clone()
        };
        write_done(&folder, &done)
    }
}

fn write_done(folder: &Path, done: &Done) -> Result<(), MiniError> {
    let path = folder.join(DONE);
    let text = serde_json::to_string_pretty(done).map_err(MiniError::json(&path))?;
    Ok(write_atomic(&path, text.as_bytes())?)
}

fn read_done(folder: &Path) -> Result<Option<Done>, MiniError> {
    let path = folder.join(DONE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).map_err(MiniError::json(&path))?,
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(MiniError::io(&path, "read")(e)),
    }
}

/// What of a stage has changed, for people.
fn differing(before: &Done, now: &Done) -> String {
    if before.settings != now.settings {
        return format!("settings {} became {}", before.settings, now.settings);
    }
    let changed: Vec<&str> = now
        .inputs
        .iter()
        .filter(|input| !before.inputs.contains(input))
        .map(|(name, _)| name.as_str())
        .collect();
    format!("built on another {}", changed.join(", "))
}
