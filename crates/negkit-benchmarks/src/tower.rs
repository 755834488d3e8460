//! The two sides of a CLIP, each with the hash of all that decides its vectors.

use std::sync::Arc;

use candle_core::{DType, Device};
use negkit_clip::{ClipImageEncoder, vision_config};
use negkit_nn::{Compute, TensorSource};
use negkit_text::{ClipFiles, ClipTextEncoder, TextEncoder};

use crate::error::{BenchmarkError, Result};
use crate::hash::Hash;

/// The picture side.
pub struct ImageTower {
    encoder: ClipImageEncoder,
    hash: Hash,
}

impl ImageTower {
    /// The vision tower of opened files.
    ///
    /// # Errors
    /// When there is none, or the files do not fit each other.
    pub fn from_files(files: &ClipFiles, compute: &Compute) -> Result<Self> {
        let encoder = ClipImageEncoder::from_files(files, compute)?;
        let about = format!(
            "{:?} {:?} {}",
            vision_config(files)?,
            encoder.preprocess(),
            numbers(compute)
        );
        Ok(Self {
            hash: tower_hash(files, &["vision_model.", "visual_projection."], &about)?,
            encoder,
        })
    }

    /// Whether the files have a vision tower.
    #[must_use]
    pub fn is_in(files: &ClipFiles) -> bool {
        files
            .dim("vision_model.embeddings.class_embedding", 0)
            .is_some()
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &ClipImageEncoder {
        &self.encoder
    }

    /// Numbers in a picture's vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.encoder.tower().config().projection_dim
    }

    /// The hash of weights, configuration, preprocessing and numbers: the same for every file with the
    /// same tower, whatever text side it holds and in whatever format it is.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

/// The text side.
pub struct TextTower {
    encoder: Arc<dyn TextEncoder>,
    width: usize,
    hash: Option<Hash>,
}

impl TextTower {
    /// The text tower of opened files, under a name to show.
    ///
    /// # Errors
    /// When there is none, it has no projection, or the files do not fit each other.
    pub fn from_files(files: &ClipFiles, name: &str, compute: &Compute) -> Result<Self> {
        let encoder = ClipTextEncoder::from_files(files, name, None, compute)?;
        let tokenizer = encoder.tokenizer().info();
        let special = [
            &tokenizer.bos,
            &tokenizer.eos,
            &tokenizer.unk,
            &tokenizer.pad,
        ];
        let about = format!(
            "{:?} {} {special:?} {:?} {}",
            files.text_config()?,
            // Where a tokenizer lies does not decide what it makes of a text; its entries do.
            tokenizer.fingerprint,
            tokenizer.model_max_length,
            numbers(compute)
        );
        let hash = tower_hash(files, &["text_model.", "text_projection."], &about)?;
        Self::new(Arc::new(encoder), Some(hash))
    }

    /// Any text encoder. Without a hash its vectors are not stored.
    ///
    /// # Errors
    /// [`BenchmarkError::NoProjection`].
    pub fn new(encoder: Arc<dyn TextEncoder>, hash: Option<Hash>) -> Result<Self> {
        let info = encoder.info();
        let width = info
            .projection_dim
            .ok_or_else(|| BenchmarkError::NoProjection {
                name: info.name.clone(),
            })?;
        Ok(Self {
            encoder,
            width,
            hash,
        })
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &dyn TextEncoder {
        &*self.encoder
    }

    /// Numbers in a text's vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The hash of weights, configuration, tokenizer and numbers; `None` where that is not known.
    #[must_use]
    pub fn hash(&self) -> Option<Hash> {
        self.hash
    }
}

/// What is computed in, and where: results differ in the last bits.
fn numbers(compute: &Compute) -> String {
    let device = match compute.device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    };
    format!("{:?} {device}", compute.dtype)
}

/// The hash of the tensors whose names begin so, as f32, and of what else decides.
fn tower_hash(files: &ClipFiles, prefixes: &[&str], about: &str) -> Result<Hash> {
    let mut names: Vec<&str> = files
        .tensors()
        .iter()
        .map(|(name, _)| name)
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        // A buffer of old files, which says nothing and is missing in new ones.
        .filter(|name| !name.ends_with("position_ids"))
        .collect();
    names.sort_unstable();
    let mut parts: Vec<Vec<u8>> = vec![about.as_bytes().to_vec()];
    for name in names {
        let tensor = files.tensors().load(name, DType::F32, &Device::Cpu)?;
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = format!("{name} {:?}", tensor.dims());
        // A hash of each, so that the whole tower need not be in memory twice.
        parts.push(Hash::of([shape.as_bytes(), &bytes[..]]).bytes().to_vec());
    }
    Ok(Hash::of(parts.iter().map(Vec::as_slice)))
}
