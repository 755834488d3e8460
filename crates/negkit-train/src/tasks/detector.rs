//! Training of mini-detector: what lies in every cell of a picture, from exact masks.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use negkit_nn::Ignored;
use negkit_vqa::detector::{DetectorConfig, DetectorLogits, DetectorModel};
use serde_json::{Value, json};

use super::classes::{count_right, cross_entropy, most_likely};
use super::export::{TRANSFORMERS_WEIGHTS, write_model};
use super::split::chunks;
use crate::{ParamStore, StepLoss, Task, TrainError};

/// Name of the model in messages.
const MODEL: &str = "the mini-detector in training";

/// What every pixel of a picture shows, row by row.
#[derive(Debug, Clone, Copy)]
pub struct PixelLabels<'a> {
    /// 0 for nothing, else one more than the kind's index in [`DetectorConfig::kinds`].
    pub kinds: &'a [u32],
    /// 0 for no colour to learn, else one more than the colour's index in
    /// [`DetectorConfig::colours`].
    pub colours: &'a [u32],
}

/// Pictures with the label of every cell.
#[derive(Debug, Clone)]
pub struct DetectorBatch {
    /// Pixels `[n, 3, side, side]`, f32, preprocessed as [`DetectorConfig::preprocess`] says.
    pub pixels: Tensor,
    /// Class of every cell, `n * grid * grid`, row by row: 0 for nothing, else one more than the
    /// kind's index.
    pub kinds: Vec<u32>,
    /// Colour of every cell, as many: 0 for none to learn, else one more than the colour's index.
    pub colours: Vec<u32>,
}

impl DetectorBatch {
    /// A batch of pictures of which every pixel is known. A cell has the kind that covers most of
    /// it, provided that is at least `share` of the cell (a thin thing never covers half), else
    /// nothing; its colour is the most frequent one among the pixels of that kind.
    ///
    /// # Errors
    /// When a picture's labels are not as many as its pixels.
    pub fn from_pixels(
        pixels: Tensor,
        labels: &[PixelLabels<'_>],
        config: &DetectorConfig,
        share: f64,
    ) -> Result<Self, TrainError> {
        let cells = labels.len() * config.grid().pow(2);
        let mut kinds = Vec::with_capacity(cells);
        let mut colours = Vec::with_capacity(cells);
        for picture in labels {
            let area = config.image_size.pow(2);
            if (picture.kinds.len(), picture.colours.len()) != (area, area) {
                return Err(TrainError::Task(format!(
                    "has labels of {} and {} pixels for a picture, expected {area} ({} x {})",
                    picture.kinds.len(),
                    picture.colours.len(),
                    config.image_size,
                    config.image_size
                )));
            }
            for cell in 0..config.grid().pow(2) {
                let (kind, colour) = cell_label(picture, cell, config, share);
                kinds.push(kind);
                colours.push(colour);
            }
        }
        Ok(Self {
            pixels,
            kinds,
            colours,
        })
    }
}

/// Kind and colour of one cell.
fn cell_label(
    labels: &PixelLabels<'_>,
    cell: usize,
    config: &DetectorConfig,
    share: f64,
) -> (u32, u32) {
    let (side, grid) = (config.image_size, config.grid());
    let size = side / grid;
    let start = cell / grid * size * side + cell % grid * size;
    let pixels = (0..size * size).map(|i| start + i / size * side + i % size);
    let counts = |values: &[u32], chosen: &dyn Fn(usize) -> bool| {
        let mut counts = BTreeMap::new();
        for pixel in pixels.clone().filter(|pixel| chosen(*pixel)) {
            if values[pixel] != 0 {
                *counts.entry(values[pixel]).or_insert(0usize) += 1;
            }
        }
        // The first of equals: the same label on every run.
        counts
            .into_iter()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    };
    match counts(labels.kinds, &|_| true) {
        Some((kind, count)) if count as f64 >= share * (size * size) as f64 => {
            let colour = counts(labels.colours, &|pixel| labels.kinds[pixel] == kind);
            (kind, colour.map_or(0, |(colour, _)| colour))
        }
        _ => (0, 0),
    }
}

/// Where the pictures and labels come from.
pub trait DetectorData: Sync {
    /// The batch of step `step`: a pure function of the step.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn batch(&self, step: u64) -> Result<DetectorBatch, TrainError>;

    /// Held-out batches, the same at every call.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn validation(&self) -> Result<Vec<DetectorBatch>, TrainError>;

    /// What [`Task::recipe`] shall say of the data.
    fn recipe(&self) -> Value {
        Value::Null
    }
}

/// Trains a [`DetectorModel`].
pub struct DetectorTask<D> {
    trained: DetectorModel,
    /// The same parameters without gradients.
    model: DetectorModel,
    config: DetectorConfig,
    device: Device,
    data: D,
}

/// What a batch comes to.
pub(super) struct Scores {
    /// Cross-entropy of kinds, mean over cells, plus that of colours, mean over coloured cells.
    pub(super) loss: Tensor,
    right_kinds: usize,
    right_colours: usize,
    coloured: usize,
    /// Cells that have a thing, and those of them whose kind is right.
    pub(super) things: usize,
    pub(super) right_things: usize,
}

impl<D: DetectorData> DetectorTask<D> {
    /// A task over the parameters of `store`.
    ///
    /// # Errors
    /// When the store's tensors do not fit the configuration.
    pub fn new(store: &ParamStore, config: &DetectorConfig, data: D) -> Result<Self, TrainError> {
        let params = store.params();
        let trained = DetectorModel::load(&params, config)?;
        params.finish(MODEL, Ignored::default())?;
        Ok(Self {
            trained,
            model: DetectorModel::load(&store.detached_params(), config)?,
            config: config.clone(),
            device: store.device().clone(),
            data,
        })
    }

    /// The model in training, as it serves: without gradients.
    pub fn model(&self) -> &DetectorModel {
        &self.model
    }

    fn score(&self, model: &DetectorModel, batch: &DetectorBatch) -> Result<Scores, TrainError> {
        self.check(batch)?;
        let logits = model.forward(&batch.pixels.to_device(&self.device)?)?;
        label_scores(&logits, &batch.kinds, &batch.colours)
    }

    fn check(&self, batch: &DetectorBatch) -> Result<(), TrainError> {
        let cells = batch.pixels.dim(0)? * self.config.grid().pow(2);
        let found = (batch.kinds.len(), batch.colours.len());
        if cells == 0 || found != (cells, cells) {
            return Err(TrainError::Task(format!(
                "has {} kinds and {} colours for {cells} cells in a batch, expected as many, and \
                 at least one",
                found.0, found.1
            )));
        }
        for (what, labels, classes) in [
            ("kind", &batch.kinds, self.config.kinds.len()),
            ("colour", &batch.colours, self.config.colours.len()),
        ] {
            if let Some(outside) = labels.iter().find(|label| **label as usize > classes) {
                return Err(TrainError::Task(format!(
                    "has the {what} label {outside} in a batch, the configuration lists {classes}"
                )));
            }
        }
        Ok(())
    }
}

impl<D: DetectorData> Task for DetectorTask<D> {
    type Batch = DetectorBatch;

    fn batch(&self, step: u64) -> Result<DetectorBatch, TrainError> {
        self.data.batch(step)
    }

    /// The mean over coloured cells becomes one of means, which differs where parts have different
    /// numbers of them.
    fn split(&self, batch: DetectorBatch, parts: usize) -> Result<Vec<DetectorBatch>, TrainError> {
        let pixels = chunks(&batch.pixels, parts)?;
        let each = batch.kinds.len() / parts;
        let labels = batch.kinds.chunks_exact(each);
        let labels = labels.zip(batch.colours.chunks_exact(each));
        Ok(pixels
            .into_iter()
            .zip(labels)
            .map(|(pixels, (kinds, colours))| DetectorBatch {
                pixels,
                kinds: kinds.to_vec(),
                colours: colours.to_vec(),
            })
            .collect())
    }

    fn loss(&self, batch: DetectorBatch) -> Result<StepLoss, TrainError> {
        let scores = self.score(&self.trained, &batch)?;
        let cells = share(scores.right_kinds, batch.kinds.len());
        Ok(StepLoss {
            metrics: vec![
                ("cells", cells),
                ("colours", share(scores.right_colours, scores.coloured)),
            ],
            loss: scores.loss,
        })
    }

    /// `loss`, mean over the held-out batches; `cells` and `colours`: the share of cells whose kind
    /// is right, and of coloured cells whose colour is.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let batches = self.data.validation()?;
        if batches.is_empty() {
            return Err(TrainError::Task("has no held-out pictures".to_owned()));
        }
        let (mut loss, mut cells) = (0., 0);
        let (mut kinds, mut colours, mut coloured) = (0, 0, 0);
        for batch in &batches {
            let scores = self.score(&self.model, batch)?;
            loss += f64::from(scores.loss.to_scalar::<f32>()?);
            cells += batch.kinds.len();
            kinds += scores.right_kinds;
            colours += scores.right_colours;
            coloured += scores.coloured;
        }
        Ok(vec![
            ("loss", loss / batches.len() as f64),
            ("cells", share(kinds, cells)),
            ("colours", share(colours, coloured)),
        ])
    }

    fn recipe(&self) -> Value {
        json!({ "model": self.config, "data": self.data.recipe() })
    }
}

/// What labels of cells come to, of as many cells as there are in the logits.
pub(super) fn label_scores(
    logits: &DetectorLogits,
    wanted_kinds: &[u32],
    wanted_colours: &[u32],
) -> Result<Scores, TrainError> {
    let kinds = by_cell(&logits.kinds)?;
    let device = kinds.device();
    let wanted = Tensor::new(wanted_kinds, device)?;
    let loss = cross_entropy(&kinds, &wanted)?.mean_all()?;
    let found = most_likely(&kinds)?;
    let right = |(found, wanted): &(&u32, &u32)| found == wanted;
    let cells = || found.iter().zip(wanted_kinds);
    let things = || cells().filter(|(_, wanted)| **wanted != 0);
    let mut scores = Scores {
        loss,
        right_kinds: cells().filter(right).count(),
        right_colours: 0,
        coloured: 0,
        things: things().count(),
        right_things: things().filter(right).count(),
    };
    let cells = wanted_colours.iter().enumerate();
    let coloured: Vec<u32> = cells
        .filter(|(_, c)| **c != 0)
        .map(|(i, _)| i as u32)
        .collect();
    if let (Some(logits), false) = (&logits.colours, coloured.is_empty()) {
        let wanted: Vec<u32> = coloured
            .iter()
            .map(|cell| wanted_colours[*cell as usize] - 1)
            .collect();
        let rows = Tensor::new(&coloured[..], device)?;
        let colours = by_cell(logits)?.index_select(&rows, 0)?;
        let classes = Tensor::new(&wanted[..], device)?;
        let loss = cross_entropy(&colours, &classes)?.mean_all()?;
        scores.loss = (scores.loss + loss)?;
        scores.right_colours = count_right(&colours, &wanted)?;
        scores.coloured = wanted.len();
    }
    Ok(scores)
}

/// Logits `[n, classes, rows, columns]` as `[n * rows * columns, classes]`.
fn by_cell(logits: &Tensor) -> candle_core::Result<Tensor> {
    let (n, classes, rows, columns) = logits.dims4()?;
    logits
        .permute((0, 2, 3, 1))?
        .reshape((n * rows * columns, classes))
}

pub(super) fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

/// Writes a folder that [`negkit_vqa::detector::MiniDetector::load`] takes: `config.json` and the
/// parameters in f16.
///
/// # Errors
/// When a file cannot be written.
pub fn export_detector(
    store: &ParamStore,
    config: &DetectorConfig,
    folder: &Path,
) -> Result<(), TrainError> {
    let config = format!("{:#}\n", json!(config));
    write_model(store, &config, folder, TRANSFORMERS_WEIGHTS)
}
