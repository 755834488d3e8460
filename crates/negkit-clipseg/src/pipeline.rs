//! From a picture and phrases to masks.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_clip::ClipVisionTower;
use negkit_image::{Mask, PicturePreprocessor, resize_bilinear_f32};
use negkit_nn::{Compute, Ignored, Params};
use negkit_text::{ClipTextEncoder, TextEncoder, WeightsSource};

use crate::ClipSegError;
use crate::decoder::{ClipSegConfig, ClipSegDecoder, ReducedPicture};
use crate::files::ClipSegFiles;

/// Conditions decoded at a time: bounds memory, and is far above where a batch stops paying.
const CONDITIONS_AT_A_TIME: usize = 16;

/// CLIPSeg: a vision tower and a decoder, with any [`TextEncoder`] of the right projection.
pub struct ClipSeg {
    vision: ClipVisionTower,
    decoder: ClipSegDecoder,
    text: Arc<dyn TextEncoder>,
    preprocess: PicturePreprocessor,
    config: ClipSegConfig,
    weights: WeightsSource,
    compute: Compute,
}

/// A picture as the decoder needs it, encoded once for any number of phrases.
#[derive(Debug, Clone)]
pub struct EncodedPicture {
    reduced: ReducedPicture,
    width: u32,
    height: u32,
}

impl EncodedPicture {
    /// Width and height of the picture itself, in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }
}

/// One logit per pixel, at the model's resolution, of a picture of another size.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    logits: Vec<f32>,
    rows: usize,
    columns: usize,
    width: u32,
    height: u32,
}

impl Segmentation {
    /// Logits at the model's resolution, row by row.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Rows and columns of [`Segmentation::logits`].
    pub fn resolution(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Width and height of the picture, in pixels.
    pub fn picture_size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Probabilities at the model's resolution, row by row.
    pub fn probabilities(&self) -> Vec<f32> {
        self.logits.iter().copied().map(sigmoid).collect()
    }

    /// Probabilities at the picture's size, row by row: of bilinearly resized logits.
    ///
    /// # Errors
    /// Never for a segmentation that the model made.
    pub fn probabilities_at_picture_size(&self) -> Result<Vec<f32>, ClipSegError> {
        let target = (self.height as usize, self.width as usize);
        let logits = resize_bilinear_f32(&self.logits, (self.rows, self.columns), target)?;
        Ok(logits.into_iter().map(sigmoid).collect())
    }

    /// The pixels of the picture whose probability is above `threshold`.
    ///
    /// # Errors
    /// When the threshold is no probability.
    pub fn mask(&self, threshold: f32) -> Result<Mask, ClipSegError> {
        if !(0. ..=1.).contains(&threshold) {
            return Err(ClipSegError::Threshold(threshold));
        }
        let probabilities = self.probabilities_at_picture_size()?;
        let size = (self.width, self.height);
        Ok(Mask::from_threshold(
            &probabilities,
            size.0,
            size.1,
            threshold,
        )?)
    }
}

/// What the decoder reads of pictures `pixel_values` `[pictures, 3, height, width]`: the output of
/// each of `extract_layers` (counted from 0), `[pictures, patches + 1, hidden]`.
///
/// # Errors
/// When the tower has no such layer, shapes do not fit or the device fails.
pub fn extract(
    vision: &ClipVisionTower,
    pixel_values: &Tensor,
    extract_layers: &[usize],
) -> candle_core::Result<Vec<Tensor>> {
    // Nothing above the highest layer that the decoder reads is needed.
    let depth = extract_layers.iter().max().map_or(0, |last| last + 1);
    let states = vision.hidden_states(pixel_values, depth)?;
    let activations = extract_layers.iter().map(|&layer| {
        states.get(layer + 1).cloned().ok_or_else(|| {
            candle_core::Error::Msg(format!(
                "CLIPSeg: extract_layers names layer {layer}, the vision tower has {}",
                states.len() - 1
            ))
        })
    });
    activations.collect()
}

fn check_text(text: &dyn TextEncoder, config: &ClipSegConfig) -> Result<(), ClipSegError> {
    Ok(text
        .info()
        .require_projection_dim("the CLIPSeg decoder", config.projection_dim)?)
}

fn sigmoid(x: f32) -> f32 {
    1. / (1. + (-x).exp())
}

impl ClipSeg {
    /// Loads from published files. `text` takes the place of the text encoder that the model was
    /// trained with.
    ///
    /// # Errors
    /// When the files do not fit each other, or the encoder's projection does not fit the decoder.
    pub fn from_files(
        files: &ClipSegFiles,
        text: Option<Arc<dyn TextEncoder>>,
        compute: &Compute,
    ) -> Result<Self, ClipSegError> {
        let text = match text {
            Some(text) => text,
            None => Arc::new(ClipTextEncoder::from_files(
                files.clip(),
                "CLIPSeg's own",
                None,
                compute,
            )?),
        };
        let params = Params::compute(files.tensors().clone(), compute);
        let weights = WeightsSource::from_checkpoint(files.tensors().clone());
        Self::build(
            &params,
            files.config(),
            text,
            files.preprocess()?,
            weights,
            compute,
        )
    }

    /// Random weights, the same for the same seed: for time and memory of an architecture without
    /// its weights.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the encoder does not fit it.
    pub fn random(
        config: &ClipSegConfig,
        text: Arc<dyn TextEncoder>,
        preprocess: PicturePreprocessor,
        seed: u64,
        compute: &Compute,
    ) -> Result<Self, ClipSegError> {
        let params = Params::random(seed, compute.dtype, &compute.device);
        let weights = WeightsSource::new(format!("random weights of seed {seed}"), None);
        Self::build(&params, config, text, preprocess, weights, compute)
    }

    fn build(
        params: &Params,
        config: &ClipSegConfig,
        text: Arc<dyn TextEncoder>,
        preprocess: PicturePreprocessor,
        weights: WeightsSource,
        compute: &Compute,
    ) -> Result<Self, ClipSegError> {
        check_text(&*text, config)?;
        let mut vision_config = config.vision_config.clone();
        vision_config.projection_dim = config.projection_dim;
        let vision = ClipVisionTower::load(&params.pp("clip"), &vision_config)?;
        let decoder = ClipSegDecoder::load(&params.pp("decoder"), config)?;
        let ignored = Ignored {
            prefixes: &[
                "clip.text_model.",
                "clip.text_projection.",
                "clip.logit_scale",
            ],
            buffers: &["position_ids"],
        };
        params.finish("CLIPSeg", ignored)?;
        Ok(Self {
            vision,
            decoder,
            text,
            preprocess,
            config: config.clone(),
            weights,
            compute: compute.clone(),
        })
    }

    /// The configuration that it was built with.
    pub fn config(&self) -> &ClipSegConfig {
        &self.config
    }

    /// The text encoder.
    pub fn text(&self) -> &Arc<dyn TextEncoder> {
        &self.text
    }

    /// The same model with another text encoder.
    ///
    /// # Errors
    /// When the encoder's projection does not fit the decoder.
    pub fn set_text_encoder(&mut self, text: Arc<dyn TextEncoder>) -> Result<(), ClipSegError> {
        check_text(&*text, &self.config)?;
        self.text = text;
        Ok(())
    }

    /// Where the weights of vision tower and decoder came from.
    pub fn weights(&self) -> &WeightsSource {
        &self.weights
    }

    /// Encodes a picture of any size.
    ///
    /// # Errors
    /// When the picture cannot be preprocessed or the device fails.
    pub fn encode_picture(&self, picture: &RgbImage) -> Result<EncodedPicture, ClipSegError> {
        let reduced = self.reduce(&self.pixel_values(picture)?)?;
        let (width, height) = picture.dimensions();
        Ok(EncodedPicture {
            reduced,
            width,
            height,
        })
    }

    /// Conditions of phrases, `[phrases, projection_dim]`.
    ///
    /// # Errors
    /// When the text encoder fails.
    pub fn encode_phrases(&self, phrases: &[&str]) -> Result<Tensor, ClipSegError> {
        let projected = self.text.encode(phrases)?.projected.ok_or_else(|| {
            // Checked when this was built: an encoder without a projection does not get here.
            candle_core::Error::Msg("the text encoder gave no projection".to_owned())
        })?;
        Ok(projected
            .to_dtype(self.compute.dtype)?
            .to_device(&self.compute.device)?)
    }

    /// Conditions of example pictures ("image prompts"), `[pictures, projection_dim]`: what is
    /// found is what looks like them.
    ///
    /// # Errors
    /// When a picture cannot be preprocessed or the device fails.
    pub fn encode_examples(&self, pictures: &[&RgbImage]) -> Result<Tensor, ClipSegError> {
        let rows = pictures.iter().map(|picture| {
            let pixels = self.pixel_values(picture)?;
            Ok(self.vision.forward(&pixels)?.image_embeds)
        });
        let rows: Vec<Tensor> = rows.collect::<Result<_, ClipSegError>>()?;
        Ok(Tensor::cat(&rows, 0)?)
    }

    /// Segments a picture by every condition `[conditions, projection_dim]`.
    ///
    /// # Errors
    /// When a logit is not finite, or the device fails.
    pub fn segment(
        &self,
        picture: &EncodedPicture,
        conditions: &Tensor,
    ) -> Result<Vec<Segmentation>, ClipSegError> {
        let count = conditions.dim(0)?;
        let mut segmentations = Vec::with_capacity(count);
        for start in (0..count).step_by(CONDITIONS_AT_A_TIME) {
            let length = CONDITIONS_AT_A_TIME.min(count - start);
            let logits = self
                .decoder
                .forward(&picture.reduced, &conditions.narrow(0, start, length)?)?
                .to_dtype(DType::F32)?
                .to_device(&Device::Cpu)?;
            let (_, rows, columns) = logits.dims3()?;
            for i in 0..length {
                let logits = logits.get(i)?.flatten_all()?.to_vec1::<f32>()?;
                let broken = logits.iter().filter(|x| !x.is_finite()).count();
                if broken > 0 {
                    return Err(ClipSegError::NotFinite {
                        condition: start + i,
                        count: broken,
                        size: rows,
                    });
                }
                segmentations.push(Segmentation {
                    logits,
                    rows,
                    columns,
                    width: picture.width,
                    height: picture.height,
                });
            }
        }
        Ok(segmentations)
    }

    /// Segments a picture by phrases: [`ClipSeg::encode_picture`], [`ClipSeg::encode_phrases`] and
    /// [`ClipSeg::segment`] in one.
    ///
    /// # Errors
    /// As those.
    pub fn segment_phrases(
        &self,
        picture: &RgbImage,
        phrases: &[&str],
    ) -> Result<Vec<Segmentation>, ClipSegError> {
        self.segment(
            &self.encode_picture(picture)?,
            &self.encode_phrases(phrases)?,
        )
    }

    /// Logits `[1, conditions, height, width]` for one preprocessed picture `[1, 3, height, width]`
    /// and conditions `[conditions, projection_dim]`: the model without its pipeline.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn forward(
        &self,
        pixel_values: &Tensor,
        conditions: &Tensor,
    ) -> Result<Tensor, ClipSegError> {
        let reduced = self.reduce(pixel_values)?;
        Ok(self.decoder.forward(&reduced, conditions)?.unsqueeze(0)?)
    }

    /// The vision tower.
    pub fn vision(&self) -> &ClipVisionTower {
        &self.vision
    }

    fn reduce(&self, pixel_values: &Tensor) -> Result<ReducedPicture, ClipSegError> {
        let activations = extract(&self.vision, pixel_values, &self.config.extract_layers)?;
        let (_, _, height, width) = pixel_values.dims4()?;
        Ok(self.decoder.reduce(&activations, (height, width))?)
    }

    fn pixel_values(&self, picture: &RgbImage) -> Result<Tensor, ClipSegError> {
        let values = self.preprocess.apply(picture)?;
        let (channels, height, width) = values.dim();
        let (values, _) = values.into_raw_vec_and_offset();
        Ok(
            Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)?
                .to_dtype(self.compute.dtype)?
                .to_device(&self.compute.device)?,
        )
    }
}
