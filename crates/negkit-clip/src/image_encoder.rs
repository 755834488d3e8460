//! A CLIP vision tower with its preprocessing.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_image::PicturePreprocessor;
use negkit_nn::{Compute, Params};
use negkit_text::{ClipFiles, WeightsSource};
use serde_json::Value;

use crate::ClipError;
use crate::vision::{ClipVisionConfig, ClipVisionTower};

const CLASS_EMBEDDING: &str = "vision_model.embeddings.class_embedding";
const PATCH_EMBEDDING: &str = "vision_model.embeddings.patch_embedding.weight";
const POSITION_EMBEDDING: &str = "vision_model.embeddings.position_embedding.weight";

/// The image encoder of a CLIP: pictures in, vectors in the space shared with texts out.
pub struct ClipImageEncoder {
    tower: ClipVisionTower,
    preprocess: PicturePreprocessor,
    weights: WeightsSource,
    device: Device,
    dtype: DType,
}

impl ClipImageEncoder {
    /// Loads from published files; see [`ClipFiles`] for what is taken.
    ///
    /// # Errors
    /// When the files cannot be read or do not fit each other.
    pub fn load(path: impl AsRef<Path>, compute: &Compute) -> Result<Self, ClipError> {
        Self::from_files(&ClipFiles::open(path)?, compute)
    }

    /// Loads from opened files.
    ///
    /// # Errors
    /// When the files do not fit each other.
    pub fn from_files(files: &ClipFiles, compute: &Compute) -> Result<Self, ClipError> {
        let config = vision_config(files)?;
        let params = Params::compute(files.tensors().clone(), compute);
        let tower = ClipVisionTower::load(&params, &config)?;
        params.finish("the CLIP vision tower", ClipFiles::NOT_VISION)?;
        let preprocess = match files.published("preprocessor_config.json") {
            Some(published) => PicturePreprocessor::from_file(published)?,
            None => PicturePreprocessor::clip(config.image_size as u32),
        };
        Ok(Self {
            tower,
            preprocess,
            weights: WeightsSource::from_checkpoint(files.tensors().clone()),
            device: compute.device.clone(),
            dtype: compute.dtype,
        })
    }

    /// The transformer.
    pub fn tower(&self) -> &ClipVisionTower {
        &self.tower
    }

    /// The preprocessing that the model was published with.
    pub fn preprocess(&self) -> &PicturePreprocessor {
        &self.preprocess
    }

    /// Where the weights came from.
    pub fn weights(&self) -> &WeightsSource {
        &self.weights
    }

    /// Encodes pictures of any size; gives `[pictures, projection]`, not normalised.
    ///
    /// # Errors
    /// When there is no picture, one cannot be preprocessed, or the device fails.
    pub fn encode(&self, pictures: &[&RgbImage]) -> Result<Tensor, ClipError> {
        let batch = self.preprocess.apply_batch(pictures.iter().copied())?;
        let shape = batch.dim();
        let (values, _) = batch.into_raw_vec_and_offset();
        let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?
            .to_dtype(self.dtype)?
            .to_device(&self.device)?;
        Ok(self.tower.forward(&pixels)?.image_embeds)
    }
}

/// Sizes of the vision tower: from `config.json`, or inferred from the tensors' shapes.
///
/// # Errors
/// When there is no vision tower, or the configuration cannot be used.
pub fn vision_config(files: &ClipFiles) -> Result<ClipVisionConfig, ClipError> {
    let Some(hidden_size) = files.dim(CLASS_EMBEDDING, 0) else {
        return Err(ClipError::NoVisionTower {
            path: files.path().to_owned(),
        });
    };
    if let Some(config) = files.config() {
        return Ok(files.tower_config(config, "vision_config")?);
    }
    let size = |name: &str, dim: usize| files.dim(name, dim).unwrap_or_default();
    let patch_size = size(PATCH_EMBEDDING, 2);
    let grid = size(POSITION_EMBEDDING, 0).saturating_sub(1).isqrt();
    Ok(ClipVisionConfig {
        hidden_size,
        intermediate_size: size("vision_model.encoder.layers.0.mlp.fc1.weight", 0),
        projection_dim: size("visual_projection.weight", 0),
        num_hidden_layers: files.count_layers("vision_model.encoder.layers."),
        num_attention_heads: files.heads("vision_cfg", hidden_size),
        num_channels: size(PATCH_EMBEDDING, 1),
        image_size: grid * patch_size,
        patch_size,
        hidden_act: files.activation(),
        ..ClipVisionConfig::default()
    })
}

/// `logit_scale` of a CLIP, as its logarithm; `None` where the file has none.
///
/// # Errors
/// When it cannot be read.
pub fn logit_scale(files: &ClipFiles) -> Result<Option<f32>, ClipError> {
    use negkit_nn::TensorSource;
    const NAME: &str = "logit_scale";
    if files.tensors().get(NAME).is_none() {
        return Ok(files
            .config()
            .and_then(|config| config.get("logit_scale_init_value"))
            .and_then(Value::as_f64)
            .map(|value| value as f32));
    }
    let scale = files.tensors().load(NAME, DType::F32, &Device::Cpu)?;
    Ok(Some(scale.flatten_all()?.get(0)?.to_scalar()?))
}
