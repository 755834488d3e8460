//! `mini-detector`: what is in a picture, without a word being asked.
//!
//! A small convolutional network labels every cell of a grid (4 x 4 pixels each) with a kind of
//! thing, or with nothing, and with a colour. It has no text, no transformer and no weight in common
//! with [`mini`](crate::mini): an independent check of what an answerer says, and of what a
//! generator paints. The form is that of a fully convolutional segmenter with one skip connection
//! ("U-Net: Convolutional Networks for Biomedical Image Segmentation", Ronneberger et al., 2015), of
//! residual blocks with group normalisation.
//!
//! A published folder holds `config.json` ([`DetectorConfig`]) and `model.safetensors`.

mod config;
mod model;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_checkpoint::Checkpoint;
use negkit_image::PicturePreprocessor;
use negkit_nn::{Compute, Ignored, Params, ops};
use negkit_text::WeightsSource;

pub use config::DetectorConfig;
pub use model::{DetectorLogits, DetectorModel};

use crate::VqaError;
use config::MODEL_TYPE;

/// Pictures that go through the network at a time: bounds memory.
const PICTURES_AT_A_TIME: usize = 64;

/// A kind of thing that was found in a picture. Several things of one kind are one detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The kind, as the configuration names it.
    pub kind: String,
    /// The colour that most of its cells have; `None` when the configuration names no colours.
    pub colour: Option<String>,
    /// How many cells it covers.
    pub cells: usize,
    /// Mean probability of the kind over these cells.
    pub score: f32,
}

/// A [`DetectorModel`] with its preprocessing.
pub struct MiniDetector {
    model: DetectorModel,
    config: DetectorConfig,
    preprocess: PicturePreprocessor,
    weights: WeightsSource,
    compute: Compute,
}

impl MiniDetector {
    /// Loads a published folder.
    ///
    /// # Errors
    /// When a file cannot be read, or the files do not fit each other.
    pub fn load(folder: impl AsRef<Path>, compute: &Compute) -> Result<Self, VqaError> {
        let folder = folder.as_ref();
        let config = DetectorConfig::from_file(&folder.join("config.json"))?;
        let checkpoint = Arc::new(Checkpoint::open(folder)?);
        let weights = WeightsSource::from_checkpoint(checkpoint.clone());
        let params = Params::compute(checkpoint, compute);
        let model = DetectorModel::load(&params, &config)?;
        params.finish(MODEL_TYPE, Ignored::default())?;
        Ok(Self::new(model, config, weights, compute))
    }

    /// A detector of parts that belong together.
    pub fn new(
        model: DetectorModel,
        config: DetectorConfig,
        weights: WeightsSource,
        compute: &Compute,
    ) -> Self {
        Self {
            preprocess: config.preprocess(),
            model,
            config,
            weights,
            compute: compute.clone(),
        }
    }

    /// The sizes that it was built with, and what it can find.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// Where the weights came from.
    pub fn weights(&self) -> &WeightsSource {
        &self.weights
    }

    /// The same detector with other limits: a kind is there when it covers at least `min_cells`
    /// cells with a mean probability of at least `min_score`.
    #[must_use]
    pub fn with_limits(mut self, min_cells: usize, min_score: f32) -> Self {
        self.config.min_cells = min_cells;
        self.config.min_score = min_score;
        self
    }

    /// What is in a picture of any size, in the order of the configuration's kinds.
    ///
    /// # Errors
    /// When the picture cannot be used, or the model fails.
    pub fn detect(&self, picture: &RgbImage) -> Result<Vec<Detection>, VqaError> {
        let mut found = self.detect_batch(&[picture])?;
        Ok(found.pop().unwrap_or_default())
    }

    /// What is in each of several pictures.
    ///
    /// # Errors
    /// As [`MiniDetector::detect`].
    pub fn detect_batch(&self, pictures: &[&RgbImage]) -> Result<Vec<Vec<Detection>>, VqaError> {
        let mut found = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(PICTURES_AT_A_TIME) {
            let values = self.preprocess.apply_batch(chunk.iter().copied())?;
            let shape = values.dim();
            let (values, _) = values.into_raw_vec_and_offset();
            let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?
                .to_dtype(self.compute.dtype)?
                .to_device(&self.compute.device)?;
            let logits = self.model.forward(&pixels)?;
            let kinds = cell_probabilities(&logits.kinds)?;
            let colours = match &logits.colours {
                Some(logits) => cell_probabilities(logits)?,
                None => vec![Vec::new(); chunk.len()],
            };
            for (index, (kinds, colours)) in kinds.iter().zip(&colours).enumerate() {
                if kinds
                    .iter()
                    .chain(colours)
                    .flatten()
                    .any(|p| !p.is_finite())
                {
                    return Err(VqaError::NotFinite {
                        model: MODEL_TYPE,
                        picture: index,
                        path: self.weights.location().into(),
                    });
                }
                found.push(self.regions(kinds, colours));
            }
        }
        Ok(found)
    }

    /// `kinds[cell][class]`, class 0 for nothing; `colours[cell][colour]`, empty without colours.
    fn regions(&self, kinds: &[Vec<f32>], colours: &[Vec<f32>]) -> Vec<Detection> {
        let labels: Vec<usize> = kinds.iter().map(|cell| largest(cell)).collect();
        let mut found = Vec::new();
        for (index, kind) in self.config.kinds.iter().enumerate() {
            let class = index + 1;
            let cells: Vec<usize> = (0..labels.len()).filter(|c| labels[*c] == class).collect();
            if cells.is_empty() || cells.len() < self.config.min_cells {
                continue;
            }
            let score = cells.iter().map(|c| kinds[*c][class]).sum::<f32>() / cells.len() as f32;
            if score < self.config.min_score {
                continue;
            }
            let mut votes = vec![0f32; self.config.colours.len()];
            for cell in cells.iter().filter_map(|c| colours.get(*c)) {
                for (vote, probability) in votes.iter_mut().zip(cell) {
                    *vote += probability;
                }
            }
            found.push(Detection {
                kind: kind.clone(),
                colour: self.config.colours.get(largest(&votes)).cloned(),
                cells: cells.len(),
                score,
            });
        }
        found
    }
}

/// Logits `[n, classes, rows, columns]` to probabilities of every class, by picture and cell.
fn cell_probabilities(logits: &Tensor) -> Result<Vec<Vec<Vec<f32>>>, VqaError> {
    let cells = logits
        .to_dtype(DType::F32)?
        .flatten_from(2)?
        .transpose(1, 2)?;
    Ok(ops::softmax(&cells.contiguous()?)?.to_vec3()?)
}

/// Index of the largest value, the first of equals; 0 for none.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}
