//! The one file that a training goes on from.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use negkit_digest::hexadecimal;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::atomic;
use crate::optimizer::AdamW;

/// Key of the file's metadata under which [`Head`] is kept.
const HEAD: &str = "negkit_train";

/// How far a training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Updates done.
    pub(crate) step: u64,
    /// Time spent, over all runs.
    pub(crate) seconds: f64,
    /// The best validation.
    pub(crate) best: Option<Best>,
    /// Scores of the last validation.
    pub(crate) scores: Vec<(String, Exact)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) step: u64,
    pub(crate) score: Exact,
}

/// A number that survives JSON bit for bit, NaN included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(crate) struct Exact(pub(crate) f64);

impl From<u64> for Exact {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Exact> for u64 {
    fn from(value: Exact) -> Self {
        value.0.to_bits()
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    position: Position,
    /// Number of updates by parameter.
    updates: BTreeMap<String, u64>,
    /// SHA-256 of the settings that the training runs with.
    settings: String,
    /// SHA-256 of the tensors.
    tensors: String,
}

/// The checkpoint and the best weights of one training folder.
pub(crate) struct Checkpoints {
    latest: PathBuf,
    best: PathBuf,
    /// SHA-256 of the settings.
    settings: String,
}

impl Checkpoints {
    pub(crate) fn new(folder: &Path, settings: &str) -> Self {
        Self {
            latest: folder.join("checkpoint.safetensors"),
            best: folder.join("best.safetensors"),
            settings: sha256([settings.as_bytes()]),
        }
    }

    pub(crate) fn save(&self, optimizer: &AdamW, position: &Position) -> Result<(), TrainError> {
        let tensors = optimizer.state()?;
        let head = Head {
            position: position.clone(),
            updates: optimizer.updates(),
            settings: self.settings.clone(),
            tensors: digest(
                tensors
                    .iter()
                    .map(|(name, t)| (name.as_str(), &t.bytes[..])),
            ),
        };
        let head = serde_json::to_string(&head).map_err(TrainError::other)?;
        let metadata = HashMap::from([(HEAD.to_owned(), head)]);
        atomic::write_safetensors(&self.latest, &tensors, metadata)
    }

    /// Brings `optimizer` and its parameters to the latest checkpoint; `None` where there is none.
    pub(crate) fn restore(&self, optimizer: &mut AdamW) -> Result<Option<Position>, TrainError> {
        let path = &self.latest;
        let Some(bytes) = read(path)? else {
            return Ok(None);
        };
        let damaged = |why: String| TrainError::damaged(path, why);
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let head = metadata.metadata().as_ref().and_then(|m| m.get(HEAD));
        let head = head.ok_or_else(|| damaged("it says nothing of a training".to_owned()))?;
        let head: Head = serde_json::from_str(head).map_err(|e| damaged(e.to_string()))?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let mut tensors = stored.tensors();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let found = digest(
            tensors
                .iter()
                .map(|(name, view)| (name.as_str(), view.data())),
        );
        if found != head.tensors {
            return Err(damaged(
                "its tensors do not have the hash that it names".to_owned(),
            ));
        }
        if head.settings != self.settings {
            return Err(damaged(
                "it belongs to other settings than train.json".to_owned(),
            ));
        }
        optimizer
            .restore(&stored, &head.updates)?
            .map_err(damaged)?;
        Ok(Some(head.position))
    }

    pub(crate) fn save_best(&self, optimizer: &AdamW) -> Result<(), TrainError> {
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        atomic::write_safetensors(&self.best, &optimizer.weights()?, metadata)
    }

    pub(crate) fn load_best(&self, optimizer: &AdamW) -> Result<(), TrainError> {
        let path = &self.best;
        let bytes = read(path)?.ok_or_else(|| TrainError::damaged(path, "it is missing"))?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|e| TrainError::damaged(path, e))?;
        let loaded = optimizer.set_weights(&stored)?;
        loaded.map_err(|why| TrainError::damaged(path, why))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.latest
    }
}

/// The file's bytes; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, TrainError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(TrainError::io(path, "read")(e)),
    }
}

/// Of tensors in any order.
fn digest<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    sha256(
        tensors
            .into_iter()
            .flat_map(|(name, data)| [name.as_bytes(), data]),
    )
}

fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hexadecimal(hasher.finalize())
}
