//! Which file of a folder, or which files of an index, are the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::CheckpointError;

/// Base names that libraries publish weights under, with the extension they give them. Safetensors
/// come first: they need no pickle. transformers, diffusers, open_clip.
const PUBLISHED: &[(&str, &str)] = &[
    ("model", "safetensors"),
    ("diffusion_pytorch_model", "safetensors"),
    ("open_clip_model", "safetensors"),
    ("pytorch_model", "bin"),
    ("diffusion_pytorch_model", "bin"),
    ("open_clip_pytorch_model", "bin"),
];
/// Taken when a folder has nothing else.
const FALLBACK_VARIANT: &str = "fp16";

/// File names to look for, best first: for each published name the whole file, then the index.
fn candidates(variant: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    for (base, extension) in PUBLISHED {
        match variant {
            None => {
                names.push(format!("{base}.{extension}"));
                names.push(format!("{base}.{extension}.index.json"));
            }
            Some(variant) => {
                names.push(format!("{base}.{variant}.{extension}"));
                names.push(format!("{base}.{extension}.index.{variant}.json"));
            }
        }
    }
    names
}

/// The weight file, or the index of the weight files, in `folder`.
pub(crate) fn find(folder: &Path, variant: Option<&str>) -> Result<PathBuf, CheckpointError> {
    let mut looked_for = candidates(variant);
    if variant.is_none() {
        looked_for.extend(candidates(Some(FALLBACK_VARIANT)));
    }
    for name in &looked_for {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = std::fs::read_dir(folder).map_err(|source| CheckpointError::Io {
        path: folder.to_owned(),
        action: "list",
        source,
    })?;
    let mut found: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    found.sort();
    Err(CheckpointError::NoWeights {
        folder: folder.to_owned(),
        looked_for,
        found,
    })
}

/// `*.index.json`: which shard each tensor lies in.
#[derive(Deserialize)]
pub(crate) struct ShardIndex {
    /// Tensor to file name.
    pub weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        serde_json::from_slice(bytes).map_err(|e| CheckpointError::Index {
            path: path.to_owned(),
            why: e.to_string(),
        })
    }

    /// Paths of the shards beside the index at `path`, each once, in order of their names.
    pub(crate) fn shards(&self, path: &Path) -> Result<BTreeMap<String, PathBuf>, CheckpointError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        let mut shards = BTreeMap::new();
        for name in names {
            // An index must not lead out of its folder.
            let mut parts = Path::new(name).components();
            if !matches!(
                (parts.next(), parts.next()),
                (Some(Component::Normal(_)), None)
            ) {
                return Err(CheckpointError::Index {
                    path: path.to_owned(),
                    why: format!("{name:?} is no plain file name"),
                });
            }
            shards.insert(name.clone(), folder.join(name));
        }
        if shards.is_empty() {
            return Err(CheckpointError::Index {
                path: path.to_owned(),
                why: "it lists no tensors".to_owned(),
            });
        }
        Ok(shards)
    }
}
