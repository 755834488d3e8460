//! What the stages of a model left on record, in its published folder, so that a run can go on from
//! what is published.

use std::fs;
use std::path::Path;

use negkit_image::write_atomic;
use serde::{Deserialize, Serialize};

use crate::MiniError;
use crate::stage::Done;

/// The file in a model's folder.
pub(crate) const FILE: &str = "stages.json";
/// What the names of the folders begin with that a stage trains in; where there are several, the
/// rest of the name tells them apart and sorts them.
pub(crate) const TRAINING: &str = "training";
/// A training's files.
pub(crate) const LOG: &str = "log.csv";
pub(crate) const VALIDATION: &str = "validation.csv";
pub(crate) const CURVES: &str = "curves.png";

/// How a model was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRecord {
    /// The stage of the world's pictures.
    pub(crate) pictures: Done,
    /// Its own stages, in order.
    pub(crate) stages: Vec<StageRecord>,
}

/// A stage of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageRecord {
    pub(crate) done: Done,
    /// In order.
    pub(crate) trainings: Vec<TrainingRecord>,
}

/// What a training left behind, besides weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingRecord {
    /// What sets it apart where the stage has several.
    pub(crate) suffix: String,
    /// The picture in the model's folder.
    pub(crate) curves: Option<String>,
    pub(crate) steps: u64,
    /// Over all runs.
    pub(crate) seconds: f64,
    /// On validation scenes, after the last step.
    pub(crate) scores: Vec<(String, f64)>,
}

impl TrainingRecord {
    /// Its folder in that of the stage.
    pub(crate) fn folder(&self) -> String {
        format!("{TRAINING}{}", self.suffix)
    }

    /// Last rows of the training's logs, of which a record can be made again.
    pub(crate) fn restore(&self, folder: &Path) -> Result<(), MiniError> {
        fs::create_dir_all(folder).map_err(MiniError::io(folder, "create"))?;
        let log = format!("step,seconds\n{},{}\n", self.steps, self.seconds);
        write_atomic(folder.join(LOG), log.as_bytes())?;
        if !self.scores.is_empty() {
            let (names, values): (Vec<&str>, Vec<String>) = self
                .scores
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_string()))
                .unzip();
            let (names, values) = (names.join(","), values.join(","));
            let text = format!("step,{names}\n{},{values}\n", self.steps);
            write_atomic(folder.join(VALIDATION), text.as_bytes())?;
        }
        Ok(())
    }
}

/// Writes the record of a model into its folder.
pub(super) fn write(folder: &Path, record: &ModelRecord) -> Result<(), MiniError> {
    let path = folder.join(FILE);
    let mut text = serde_json::to_string_pretty(record).map_err(MiniError::json(&path))?;
    text.push('\n');
    Ok(write_atomic(&path, text.as_bytes())?)
}

/// Reads it.
pub(crate) fn read(folder: &Path) -> Result<ModelRecord, MiniError> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(MiniError::json(&path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(MiniError::NoRecord {
            folder: folder.to_owned(),
            file: FILE,
        }),
        Err(e) => Err(MiniError::io(&path, "read")(e)),
    }
}
