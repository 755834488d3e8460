//! `config.json` of mini-detector.

use std::path::Path;

use negkit_image::{Filter, Normalization, PicturePreprocessor, ResizeTo};
use negkit_nn::{ConfigError, read_config};
use serde::{Deserialize, Serialize};

use super::model::REDUCTION;
use crate::VqaError;
use crate::error::check_classes;

/// `model_type` of the configuration.
pub(super) const MODEL_TYPE: &str = "mini-detector";

/// Sizes of a detector, and what it can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorConfig {
    /// Always `mini-detector`.
    pub model_type: String,
    /// Side of the pictures that the network takes, in pixels: a multiple of 8.
    pub image_size: usize,
    /// Channels at strides 1, 2, 4 and 8.
    pub widths: [usize; 4],
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// Kinds of things. Class 0 of the network is nothing, class `i + 1` is `kinds[i]`.
    pub kinds: Vec<String>,
    /// Colours; may be empty.
    pub colours: Vec<String>,
    /// Cells of 4 x 4 pixels that a kind has to cover.
    pub min_cells: usize,
    /// Mean probability that it has to have there.
    pub min_score: f32,
}

impl DetectorConfig {
    /// A detector of about a million parameters for pictures of 64 x 64 pixels.
    ///
    /// # Errors
    /// When there are no kinds, or a kind or colour is listed twice.
    pub fn new(kinds: Vec<String>, colours: Vec<String>) -> Result<Self, VqaError> {
        let config = Self {
            model_type: MODEL_TYPE.to_owned(),
            image_size: 64,
            widths: [24, 48, 96, 128],
            norm_num_groups: 8,
            kinds,
            colours,
            min_cells: 2,
            min_score: 0.5,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or contradicts itself.
    pub fn from_file(path: &Path) -> Result<Self, VqaError> {
        let config: Self = read_config(path)?;
        config.check()?;
        Ok(config)
    }

    /// Rows and columns of the grid of cells.
    pub fn grid(&self) -> usize {
        self.image_size / REDUCTION
    }

    /// What makes pixel values of a picture: squashed to the network's size (bilinear), -1 to 1.
    pub fn preprocess(&self) -> PicturePreprocessor {
        let side = self.image_size as u32;
        let square = ResizeTo::Exact {
            height: side,
            width: side,
        };
        PicturePreprocessor {
            resize: Some((square, Filter::Bilinear)),
            center_crop: None,
            rescale_factor: Some(1. / 255.),
            normalize: Some(Normalization {
                mean: [0.5; 3],
                std: [0.5; 3],
            }),
        }
    }

    pub(crate) fn check(&self) -> Result<(), VqaError> {
        if self.model_type != MODEL_TYPE {
            let found = &self.model_type;
            let error = ConfigError::unsupported(MODEL_TYPE, "model_type", found, MODEL_TYPE);
            return Err(error.into());
        }
        if self.image_size == 0 || !self.image_size.is_multiple_of(2 * REDUCTION) {
            let found = self.image_size;
            let supported = "a multiple of 8";
            let error = ConfigError::unsupported(MODEL_TYPE, "image_size", found, supported);
            return Err(error.into());
        }
        check_classes(MODEL_TYPE, "kinds", &self.kinds)?;
        if self.colours.is_empty() {
            return Ok(());
        }
        check_classes(MODEL_TYPE, "colours", &self.colours)
    }
}
