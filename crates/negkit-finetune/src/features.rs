//! What the frozen picture tower makes of each picture, kept on disk.
//!
//! A cache is a folder with files `features-NUMBER.safetensors` of at most [`SHARD`] pictures each: a
//! tensor `image_embeds` `[pictures, projection]` (f32, not normalised), and in the metadata the
//! tower's hash, that of the values, and of every picture its name, size, time and SHA-256. Files are
//! written whole or not at all, so that a run that was killed loses at most one, and they are
//! memory-mapped when they are read.
//!
//! A picture is known by its bytes' hash. Whose name, size and time are those of an entry is taken to
//! be that picture, as git does; [`FeatureCache::ensure`] can be told to hash it all the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_checkpoint::{Checkpoint, TensorView};
use negkit_clip::{ClipImageEncoder, vision_config};
use negkit_data::{PictureFault, open_picture};
use negkit_digest::{file_sha256, hexadecimal};
use negkit_image::{PicturePreprocessor, write_atomic};
use negkit_nn::TensorSource;
use negkit_text::ClipFiles;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView as Stored;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{FineTuneError, progress};

/// Pictures of one file.
const SHARD: usize = 1024;
/// Pictures that are encoded at a time.
const AT_A_TIME: usize = 32;
/// Key of the metadata that [`Head`] is kept under.
const HEAD: &str = "negkit_features";
const TENSOR: &str = "image_embeds";
/// Changes when what is stored for the same tower and picture does.
const LAYOUT: &str = "negkit picture features 1";

#[derive(Serialize, Deserialize)]
struct Head {
    encoder: String,
    /// SHA-256 of the values.
    values: String,
    pictures: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    modified: u64,
    sha256: String,
}

/// A folder of picture features of one tower.
pub struct FeatureCache {
    folder: PathBuf,
    encoder: String,
    shards: Vec<TensorView>,
    entries: Vec<(Entry, Row)>,
}

/// Where a picture's features are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    shard: u32,
    row: u32,
}

/// The features of a list of pictures.
#[derive(Debug, Clone)]
pub struct Features {
    shards: Vec<TensorView>,
    /// `None` for pictures that cannot be used.
    rows: Vec<Option<Row>>,
    /// Those pictures, by number.
    pub faults: HashMap<u32, PictureFault>,
    /// Pictures that were encoded for it, and the seconds that took.
    pub encoded: (usize, f64),
}

impl FeatureCache {
    /// Opens the cache of the picture tower of `files` below `folder`, which is made when it is not
    /// there. Every tower has a folder of its own.
    ///
    /// # Errors
    /// When there is no picture tower, or a file is damaged.
    pub fn open(folder: &Path, files: &ClipFiles) -> Result<Self, FineTuneError> {
        let encoder = tower_hash(files)?;
        let folder = folder.join(&encoder[..16]);
        std::fs::create_dir_all(&folder).map_err(FineTuneError::io(&folder, "create"))?;
        let mut cache = Self {
            folder,
            encoder,
            shards: Vec::new(),
            entries: Vec::new(),
        };
        loop {
            let path = cache.path(cache.shards.len());
            if !path.exists() {
                return Ok(cache);
            }
            cache.take(&path)?;
        }
    }

    /// Hash of the tower, its sizes and its preprocessing.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(format!("features-{shard:05}.safetensors"))
    }

    /// Takes in a file, which is checked.
    fn take(&mut self, path: &Path) -> Result<(), FineTuneError> {
        let damaged = |why: String| FineTuneError::Features {
            path: path.to_owned(),
            why,
        };
        let file = Checkpoint::open(path).map_err(|error| damaged(error.to_string()))?;
        let head = file.metadata().get(HEAD);
        let head = head.ok_or_else(|| damaged("it says nothing of pictures".to_owned()))?;
        let head: Head = serde_json::from_str(head).map_err(|e| damaged(e.to_string()))?;
        if head.encoder != self.encoder {
            return Err(damaged("it belongs to another picture tower".to_owned()));
        }
        let view = file
            .get(TENSOR)
            .ok_or_else(|| damaged(format!("it has no tensor {TENSOR}")))?;
        let values = view.load(DType::F32, &Device::Cpu)?.flatten_all()?;
        if values_hash(&values.to_vec1()?) != head.values {
            return Err(damaged(
                "its values do not have the hash that it names".to_owned(),
            ));
        }
        if view.shape().first() != Some(&head.pictures.len()) {
            return Err(damaged("it names another number of pictures".to_owned()));
        }
        let shard = self.shards.len() as u32;
        let rows = head.pictures.into_iter().zip(0..);
        let rows = rows.map(|(entry, row)| (entry, Row { shard, row }));
        self.entries.extend(rows);
        self.shards.push(view.clone());
        Ok(())
    }

    /// The features of the pictures `names` in `images`, those that are not known yet encoded by
    /// `load`'s tower, which is only called when there are any. `verify` hashes every picture,
    /// whatever its time.
    ///
    /// # Errors
    /// When the tower fails or files cannot be written. A picture that is missing or broken is no
    /// error: it is among [`Features::faults`].
    pub fn ensure(
        &mut self,
        images: &Path,
        names: &[String],
        verify: bool,
        load: impl FnOnce() -> Result<ClipImageEncoder, FineTuneError>,
    ) -> Result<Features, FineTuneError> {
        let by_name: HashMap<&str, (&Entry, Row)> = self
            .entries
            .iter()
            .map(|(entry, row)| (entry.name.as_str(), (entry, *row)))
            .collect();
        let by_hash: HashMap<&str, Row> = self
            .entries
            .iter()
            .map(|(entry, row)| (entry.sha256.as_str(), *row))
            .collect();
        let bar = progress::bar(names.len(), "pictures looked at");
        let looked: Vec<Result<Looked, PictureFault>> = names
            .par_iter()
            .map(|name| {
                let found = look(&images.join(name), name, verify, &by_name, &by_hash);
                bar.inc(1);
                found
            })
            .collect();
        bar.finish_and_clear();
        let mut features = Features {
            shards: Vec::new(),
            rows: vec![None; names.len()],
            faults: HashMap::new(),
            encoded: (0, 0.),
        };
        let mut unknown: Vec<(u32, Entry)> = Vec::new();
        for (number, looked) in (0u32..).zip(looked) {
            match looked {
                Ok(Looked::Known(row)) => features.rows[number as usize] = Some(row),
                Ok(Looked::Unknown(entry)) => unknown.push((number, entry)),
                Err(fault) => {
                    features.faults.insert(number, fault);
                }
            }
        }
        if !unknown.is_empty() {
            let tower = load()?;
            let bar = progress::bar(unknown.len(), "pictures encoded");
            let begun = Instant::now();
            for part in unknown.chunks(SHARD) {
                self.encode(&tower, images, part, &mut features, &bar)?;
            }
            bar.finish_and_clear();
            features.encoded = (unknown.len(), begun.elapsed().as_secs_f64());
        }
        features.shards.clone_from(&self.shards);
        Ok(features)
    }

    /// Encodes `part` into a file of its own.
    fn encode(
        &mut self,
        tower: &ClipImageEncoder,
        images: &Path,
        part: &[(u32, Entry)],
        features: &mut Features,
        bar: &indicatif::ProgressBar,
    ) -> Result<(), FineTuneError> {
        let (mut values, mut width) = (Vec::new(), 0);
        let mut written: Vec<(u32, Entry)> = Vec::new();
        for group in part.chunks(AT_A_TIME) {
            let opened: Vec<Result<RgbImage, PictureFault>> = group
                .par_iter()
                .map(|(_, entry)| open_picture(&images.join(&entry.name), None))
                .collect();
            let mut pictures = Vec::new();
            for (one, opened) in group.iter().zip(opened) {
                match opened {
                    Ok(picture) => {
                        pictures.push(picture);
                        written.push(one.clone());
                    }
                    Err(fault) => {
                        features.faults.insert(one.0, fault);
                    }
                }
            }
            if !pictures.is_empty() {
                let pictures: Vec<&RgbImage> = pictures.iter().collect();
                let embeds = tower.encode(&pictures)?.to_dtype(DType::F32)?;
                width = embeds.dim(1)?;
                values.extend(embeds.flatten_all()?.to_vec1::<f32>()?);
            }
            bar.inc(group.len() as u64);
        }
        if written.is_empty() {
            return Ok(());
        }
        let head = Head {
            encoder: self.encoder.clone(),
            values: values_hash(&values),
            pictures: written.iter().map(|(_, entry)| entry.clone()).collect(),
        };
        let path = self.path(self.shards.len());
        let unwritable = |why: String| FineTuneError::Features {
            path: path.clone(),
            why,
        };
        let head = serde_json::to_string(&head).map_err(|e| unwritable(e.to_string()))?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = vec![written.len(), width];
        let tensor =
            Stored::new(Dtype::F32, shape, &bytes).map_err(|e| unwritable(e.to_string()))?;
        let metadata = HashMap::from([(HEAD.to_owned(), head)]);
        let file = safetensors::serialize([(TENSOR, tensor)], Some(metadata))
            .map_err(|e| unwritable(e.to_string()))?;
        write_atomic(&path, &file)?;
        let shard = self.shards.len() as u32;
        self.take(&path)?;
        for ((number, _), row) in written.into_iter().zip(0..) {
            features.rows[number as usize] = Some(Row { shard, row });
        }
        Ok(())
    }
}

impl Features {
    /// The features of pictures by number, `[pictures, projection]`, f32.
    ///
    /// # Errors
    /// When one of them has none, or the device fails.
    pub fn of(&self, pictures: impl IntoIterator<Item = u32>) -> candle_core::Result<Tensor> {
        let rows = pictures
            .into_iter()
            .map(|picture| {
                let Some(Some(Row { shard, row })) = self.rows.get(picture as usize).copied()
                else {
                    candle_core::bail!("there are no features of picture {picture}")
                };
                let view = &self.shards[shard as usize];
                let row = view
                    .narrow(0, row as usize, 1)
                    .map_err(candle_core::Error::wrap)?;
                row.load(DType::F32, &Device::Cpu)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::cat(&rows, 0)
    }
}

enum Looked {
    Known(Row),
    Unknown(Entry),
}

fn look(
    path: &Path,
    name: &str,
    verify: bool,
    by_name: &HashMap<&str, (&Entry, Row)>,
    by_hash: &HashMap<&str, Row>,
) -> Result<Looked, PictureFault> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => PictureFault::Missing,
        _ => PictureFault::Broken(error.to_string()),
    };
    let metadata = std::fs::metadata(path).map_err(broken)?;
    if !metadata.is_file() {
        return Err(PictureFault::Missing);
    }
    let since = metadata.modified().ok();
    let since = since.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (bytes, modified) = (
        metadata.len(),
        since.map_or(0, |since| since.as_nanos() as u64),
    );
    if let Some((entry, row)) = by_name.get(name)
        && !verify
        && (entry.bytes, entry.modified) == (bytes, modified)
    {
        return Ok(Looked::Known(*row));
    }
    let sha256 = file_sha256(path).map_err(broken)?;
    Ok(match by_hash.get(sha256.as_str()) {
        Some(row) => Looked::Known(*row),
        None => Looked::Unknown(Entry {
            name: name.to_owned(),
            bytes,
            modified,
            sha256,
        }),
    })
}

/// SHA-256 over everything that decides what the picture tower makes of a picture.
fn tower_hash(files: &ClipFiles) -> Result<String, FineTuneError> {
    let mut hasher = Sha256::new();
    hasher.update(LAYOUT);
    let config = vision_config(files)?;
    // What it means, not how it is written: a state dict says by its sizes what a folder says in a file.
    let preprocess = match files.published("preprocessor_config.json") {
        Some(published) => PicturePreprocessor::from_file(published)?,
        None => PicturePreprocessor::clip(config.image_size as u32),
    };
    hasher.update(format!("{config:?} {preprocess:?}"));
    let tensors = files.tensors();
    let is_seen =
        |name: &String| name.starts_with("vision_model.") || name.starts_with("visual_projection.");
    for name in tensors.names().into_iter().filter(is_seen) {
        let tensor = tensors.load(&name, DType::F32, &Device::Cpu)?;
        hasher.update(format!("{name} {:?}\n", tensor.dims()));
        hasher.update(values_hash(&tensor.flatten_all()?.to_vec1()?));
    }
    Ok(hexadecimal(hasher.finalize()))
}

fn values_hash(values: &[f32]) -> String {
    let mut hasher = Sha256::new();
    for part in values.chunks(1 << 14) {
        let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hexadecimal(hasher.finalize())
}
