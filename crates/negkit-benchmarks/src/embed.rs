//! From pictures and texts to vectors, through the cache.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_image::{Limits, crop_box_pil, decode_rgb};
use rayon::prelude::*;

use crate::cache::{EmbeddingCache, EmbeddingStore};
use crate::error::{BenchmarkError, Result};
use crate::hash::Hash;
use crate::lists::PictureInput;
use crate::tower::{ImageTower, TextTower};
use crate::vectors::{Vectors, unit};

/// How many vectors were there, and how many had to be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbeddingTally {
    /// Found in the cache.
    pub cached: usize,
    /// Encoded now.
    pub encoded: usize,
    /// Texts that did not fit and were cut.
    pub truncated: usize,
    /// Stored vectors whose checksum was wrong.
    pub damaged: usize,
}

impl EmbeddingTally {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.cached += other.cached;
        self.encoded += other.encoded;
        self.truncated += other.truncated;
        self.damaged += other.damaged;
    }
}

/// A picture that has no vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureProblem {
    /// Its file.
    pub picture: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Vectors, and how they were come by.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// One for every input, in its order; missing for a picture with a problem.
    pub vectors: Vectors,
    /// Where they came from.
    pub tally: EmbeddingTally,
    /// The pictures that have none, each file once.
    pub problems: Vec<PictureProblem>,
}

/// A picture as read, before it is decoded.
struct Read {
    key: Hash,
    bytes: Vec<u8>,
}

/// The vectors of pictures, at length 1. `batch` pictures are encoded at once; `progress` is told how
/// many are done.
///
/// A picture is known by the bytes of its file and the box that is cut out, so that a file that was
/// exchanged is encoded anew, and one that lies elsewhere is not.
///
/// # Errors
/// When the tower fails or the cache cannot be used. A picture that is missing or broken is a
/// [`PictureProblem`].
pub fn embed_pictures(
    tower: &ImageTower,
    pictures: &[PictureInput],
    cache: Option<&EmbeddingCache>,
    batch: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Embedded> {
    let width = tower.width();
    let mut store = open(cache, "pictures", Some(tower.hash()), width)?;
    let mut found = Embedded {
        vectors: Vectors::new(width),
        tally: EmbeddingTally {
            damaged: store.as_ref().map_or(0, EmbeddingStore::damaged),
            ..EmbeddingTally::default()
        },
        problems: Vec::new(),
    };
    for chunk in pictures.chunks(batch.max(1)) {
        let read: Vec<std::result::Result<Read, String>> = chunk.par_iter().map(read).collect();
        let stored = |read: &std::result::Result<Read, String>| {
            let key = &read.as_ref().ok()?.key;
            Some(store.as_ref()?.get(key)?.to_vec())
        };
        let mut vectors: Vec<Option<Vec<f32>>> = read.iter().map(stored).collect();
        found.tally.cached += vectors.iter().flatten().count();
        let missing: Vec<usize> = (0..chunk.len()).filter(|i| vectors[*i].is_none()).collect();
        let decoded: Vec<std::result::Result<RgbImage, String>> = missing
            .par_iter()
            .map(|at| match &read[*at] {
                Ok(read) => decode(&chunk[*at], &read.bytes),
                Err(problem) => Err(problem.clone()),
            })
            .collect();
        let mut good = Vec::with_capacity(missing.len());
        for (at, picture) in missing.iter().zip(&decoded) {
            match picture {
                Ok(picture) => good.push((*at, picture)),
                Err(problem) => found.problems.push(PictureProblem {
                    picture: chunk[*at].name(),
                    problem: problem.clone(),
                }),
            }
        }
        if !good.is_empty() {
            let batch: Vec<&RgbImage> = good.iter().map(|(_, picture)| *picture).collect();
            let rows = rows(&tower.encoder().encode(&batch)?)?;
            let mut entries = Vec::with_capacity(rows.len());
            for ((at, _), row) in good.iter().zip(rows) {
                if let Ok(read) = &read[*at] {
                    entries.push((read.key, row.clone()));
                }
                vectors[*at] = Some(row);
            }
            found.tally.encoded += entries.len();
            if let Some(store) = &mut store {
                store.append(&entries)?;
            }
        }
        for vector in &vectors {
            found.vectors.push(vector.as_deref());
        }
        progress(chunk.len());
    }
    found.problems.dedup();
    Ok(found)
}

fn read(picture: &PictureInput) -> std::result::Result<Read, String> {
    let bytes = fs::read(&picture.path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "missing".to_owned(),
        _ => error.to_string(),
    })?;
    let bbox = picture.bbox.map(|bbox| bbox.map(f64::to_le_bytes).concat());
    let key = Hash::of([&bytes[..], bbox.as_deref().unwrap_or_default()]);
    Ok(Read { key, bytes })
}

fn decode(picture: &PictureInput, bytes: &[u8]) -> std::result::Result<RgbImage, String> {
    let name = picture.name();
    let whole = decode_rgb(bytes, &name, &Limits::default()).map_err(|error| error.to_string())?;
    match picture.bbox {
        None => Ok(whole),
        Some([left, top, width, height]) => {
            crop_box_pil(&whole, left, top, left + width, top + height)
                .map_err(|error| error.to_string())
        }
    }
}

/// The vectors of texts, at length 1; see [`embed_pictures`].
///
/// # Errors
/// When the encoder fails or the cache cannot be used.
pub fn embed_texts(
    tower: &TextTower,
    texts: &[String],
    cache: Option<&EmbeddingCache>,
    batch: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Embedded> {
    let width = tower.width();
    let mut store = open(cache, "texts", tower.hash(), width)?;
    let mut tally = EmbeddingTally {
        damaged: store.as_ref().map_or(0, EmbeddingStore::damaged),
        ..EmbeddingTally::default()
    };
    let mut made: HashMap<&str, Vec<f32>> = HashMap::new();
    let key = |text: &str| Hash::of([text.as_bytes()]);
    let there = |text: &&String| store.as_ref().is_some_and(|s| s.get(&key(text)).is_some());
    let missing: Vec<&String> = texts.iter().filter(|text| !there(text)).collect();
    tally.cached = texts.len() - missing.len();
    progress(tally.cached);
    for chunk in missing.chunks(batch.max(1)) {
        let prompts: Vec<&str> = chunk.iter().map(|text| text.as_str()).collect();
        let encoding = tower.encoder().encode(&prompts)?;
        tally.truncated += encoding.tokens.iter().filter(|t| t.truncated).count();
        let name = || tower.encoder().info().name.clone();
        let projected = encoding
            .projected
            .ok_or_else(|| BenchmarkError::NoProjection { name: name() })?;
        let rows = rows(&projected)?;
        let entries: Vec<(Hash, Vec<f32>)> = prompts
            .iter()
            .zip(&rows)
            .map(|(text, row)| (key(text), row.clone()))
            .collect();
        if let Some(store) = &mut store {
            store.append(&entries)?;
        }
        tally.encoded += rows.len();
        made.extend(prompts.into_iter().zip(rows));
        progress(chunk.len());
    }
    let mut vectors = Vectors::new(width);
    for text in texts {
        let stored = store.as_ref().and_then(|store| store.get(&key(text)));
        vectors.push(made.get(text.as_str()).map(Vec::as_slice).or(stored));
    }
    Ok(Embedded {
        vectors,
        tally,
        problems: Vec::new(),
    })
}

fn open(
    cache: Option<&EmbeddingCache>,
    kind: &str,
    tower: Option<Hash>,
    width: usize,
) -> Result<Option<EmbeddingStore>> {
    match (cache, tower) {
        (Some(cache), Some(tower)) => Ok(Some(cache.open(kind, tower, width)?)),
        _ => Ok(None),
    }
}

/// The rows of `[n, width]`, each at length 1.
fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    let rows: Vec<Vec<f32>> = tensor
        .to_dtype(DType::F32)?
        .to_device(&Device::Cpu)?
        .to_vec2()?;
    Ok(rows.iter().map(|row| unit(row)).collect())
}
