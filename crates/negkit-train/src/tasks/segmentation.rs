//! Training of CLIPSeg's decoder on a CLIP that stays as it is.
//!
//! "Image Segmentation Using Text and Image Prompts" (Lüddecke and Ecker, CVPR 2022): binary
//! cross-entropy of every pixel, on phrases of which a fifth name something that is not in the
//! picture, so that their mask is empty. Conditions are projected text embeddings, not normalised, as
//! in the reference implementation (`CLIPDensePredT.get_cond_vec` of timojl/clipseg).

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_checkpoint::Checkpoint;
use negkit_clip::ClipImageEncoder;
use negkit_clipseg::decoder::ClipSegDecoder;
use negkit_clipseg::{ClipSegConfig, extract};
use negkit_image::{CLIP_MEAN, CLIP_STD, Normalization, PicturePreprocessor};
use negkit_nn::{Compute, Ignored, Products, TensorSource, resize_bilinear};
use negkit_text::{ClipFiles, ClipTextEncoder, TextEncoder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::draw::{self, Purpose};
use super::export::{TOKENIZER_FILES, TRANSFORMERS_WEIGHTS, copy_files};
use super::pictures::Pictures;
use super::split::chunks;
use crate::{Init, ParamStore, StepLoss, Task, TrainError, atomic, store};

/// Probabilities at which held-out masks are cut; the best one counts.
const THRESHOLDS: usize = 19;

/// Pictures with phrases and the masks of what they name.
///
/// As [`Pictures`], the same arguments always give the same answer.
pub trait PhraseMasks: Pictures {
    /// A phrase on picture `index`, and its mask: `height * width` bytes row by row, 0 where the
    /// phrase does not apply. `choice` is any number; it picks one of the picture's phrases.
    ///
    /// # Errors
    /// When it cannot be read.
    fn phrase(&self, index: usize, choice: u64, mask: &mut [u8]) -> Result<String, TrainError>;

    /// A phrase that applies to nothing in picture `index`, picked by `choice`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn absent_phrase(&self, index: usize, choice: u64) -> Result<String, TrainError>;
}

impl<P: PhraseMasks + ?Sized> PhraseMasks for &P {
    fn phrase(&self, index: usize, choice: u64, mask: &mut [u8]) -> Result<String, TrainError> {
        (**self).phrase(index, choice, mask)
    }

    fn absent_phrase(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        (**self).absent_phrase(index, choice)
    }
}

/// How a decoder is trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationSettings {
    /// Pictures a step. The vision tower, most of the work, runs once for each.
    pub pictures: usize,
    /// Phrases a picture.
    pub phrases: usize,
    /// Share of the phrases that name something absent.
    pub absent: f64,
    /// Pictures of the held-out set that are scored, from its start.
    pub validation_pictures: usize,
    /// Seed of the choice of pictures and phrases.
    pub seed: u64,
}

impl Default for SegmentationSettings {
    fn default() -> Self {
        Self {
            pictures: 16,
            phrases: 4,
            absent: 0.2,
            validation_pictures: 64,
            seed: 0,
        }
    }
}

/// The CLIP that a decoder is trained on, as published.
pub struct FrozenClip {
    files: ClipFiles,
    vision: ClipImageEncoder,
    text: Arc<dyn TextEncoder>,
    preprocessor: String,
    preprocess: PicturePreprocessor,
    device: Device,
}

impl FrozenClip {
    /// Opens a folder of transformers with a tokenizer. Pictures are squashed to a square of
    /// `side` pixels, as CLIPSeg does, which may be another size than the CLIP was trained with;
    /// mean and standard deviation are those of the CLIP's own preprocessing.
    ///
    /// # Errors
    /// When the files cannot be read or do not fit each other.
    pub fn open(folder: &Path, side: u32, device: &Device) -> Result<Self, TrainError> {
        let files = ClipFiles::open(folder)?;
        let compute = Compute {
            device: device.clone(),
            dtype: DType::F32,
            products: Products::Bf16,
        };
        let vision = ClipImageEncoder::from_files(&files, &compute)?;
        let name = folder.display().to_string();
        let text = ClipTextEncoder::from_files(&files, name, None, &compute)?;
        let Normalization { mean, std } = vision.preprocess().normalize.unwrap_or(Normalization {
            mean: CLIP_MEAN,
            std: CLIP_STD,
        });
        let preprocessor = json!({
            "image_processor_type": "ViTImageProcessor",
            "do_resize": true,
            "size": {"height": side, "width": side},
            "resample": 2,
            "do_rescale": true,
            "rescale_factor": 1. / 255.,
            "do_normalize": true,
            "image_mean": mean,
            "image_std": std,
        });
        let preprocessor = format!("{preprocessor:#}\n");
        let preprocess =
            PicturePreprocessor::from_json(preprocessor.as_bytes(), "preprocessor_config.json");
        Ok(Self {
            files,
            vision,
            text: Arc::new(text),
            preprocessor,
            preprocess: preprocess.map_err(TrainError::other)?,
            device: device.clone(),
        })
    }

    /// `decoder` with the sizes of this CLIP's towers in place of its own.
    ///
    /// # Errors
    /// When the CLIP's configuration cannot be used.
    pub fn describe(&self, decoder: &ClipSegConfig) -> Result<ClipSegConfig, TrainError> {
        let vision_config = self.vision.tower().config().clone();
        Ok(ClipSegConfig {
            text_config: self.files.text_config()?,
            projection_dim: vision_config.projection_dim,
            vision_config,
            ..decoder.clone()
        })
    }

    /// What a decoder reads of pictures: `[pictures, patches + 1, hidden]` for each of
    /// `extract_layers`; and the pictures' height and width as the tower got them.
    fn activations(
        &self,
        pictures: &impl Pictures,
        indices: &[usize],
        extract_layers: &[usize],
    ) -> Result<(Vec<Tensor>, (usize, usize)), TrainError> {
        let (height, width) = pictures.size();
        let pixels = indices.iter().map(|&index| {
            let mut rgb = vec![0; 3 * height * width];
            pictures.read(index, &mut rgb)?;
            RgbImage::from_raw(width as u32, height as u32, rgb).ok_or_else(|| {
                TrainError::Task(format!("cannot hold a picture of {width} x {height}"))
            })
        });
        let pixels: Vec<RgbImage> = pixels.collect::<Result<_, _>>()?;
        let values = self
            .preprocess
            .apply_batch(&pixels)
            .map_err(TrainError::other)?;
        let (count, channels, height, width) = values.dim();
        let (values, _) = values.into_raw_vec_and_offset();
        let values = Tensor::from_vec(values, (count, channels, height, width), &self.device)?;
        let activations = extract(self.vision.tower(), &values, extract_layers)?;
        Ok((activations, (height, width)))
    }

    /// `[phrases, projection_dim]`
    fn conditions(&self, phrases: &[String]) -> Result<Tensor, TrainError> {
        let phrases: Vec<&str> = phrases.iter().map(String::as_str).collect();
        let projected = self.text.encode(&phrases)?.projected;
        projected.ok_or_else(|| TrainError::Task("needs a CLIP with a text projection".to_owned()))
    }
}

/// First values for a decoder, for [`ParamStore::random_with`]: of its transposed convolutions, whose
/// fan-in is their first dimension, as each output pixel is one sum over the input channels.
pub fn decoder_init(name: &str, dims: &[usize]) -> Option<Init> {
    let transposed = name.contains("transposed_convolution") && name.ends_with(".weight");
    // Of the refined head, the first of the three is an ordinary convolution.
    if !transposed || name.contains("transposed_convolution.0.") {
        return None;
    }
    let inputs = dims.first().copied().unwrap_or(1).max(1);
    Some(Init::Normal {
        deviation: 1. / (inputs as f64).sqrt(),
    })
}

/// A batch of [`SegmentationTask`].
#[derive(Debug, Clone)]
pub struct SegmentationBatch {
    /// `[pictures, patches + 1, hidden]` for each extracted layer.
    activations: Vec<Tensor>,
    /// Height and width that the tower got, in pixels.
    size: (usize, usize),
    /// Which picture every phrase is on, u32, `[phrases]`.
    rows: Tensor,
    /// `[phrases, projection_dim]`
    conditions: Tensor,
    /// Share of every logit's pixels where the phrase applies, `[phrases, height, width]`.
    masks: Tensor,
}

/// Trains a [`ClipSegDecoder`] on pictures, phrases and masks.
pub struct SegmentationTask<'c, P> {
    decoder: ClipSegDecoder,
    /// The same parameters without gradients.
    served: ClipSegDecoder,
    config: ClipSegConfig,
    clip: &'c FrozenClip,
    train: P,
    held_out: Vec<SegmentationBatch>,
    settings: SegmentationSettings,
}

impl<'c, P: PhraseMasks> SegmentationTask<'c, P> {
    /// A decoder of the parameters of `store`, under the names of transformers (`decoder.…`), of
    /// the sizes in `config`, whose towers are those of `clip`.
    ///
    /// # Errors
    /// When the configuration contradicts itself or the CLIP, there are no pictures, or the store
    /// holds other tensors.
    pub fn new(
        store: &ParamStore,
        config: &ClipSegConfig,
        clip: &'c FrozenClip,
        (train, held_out): (P, P),
        settings: SegmentationSettings,
    ) -> Result<Self, TrainError> {
        let config = clip.describe(config)?;
        clip.text
            .info()
            .require_projection_dim("the CLIPSeg decoder in training", config.projection_dim)?;
        if train.is_empty()
            || held_out.is_empty()
            || settings.pictures == 0
            || settings.phrases == 0
        {
            return Err(TrainError::Task(
                "needs pictures to train on and to score, and at least one phrase for each"
                    .to_owned(),
            ));
        }
        let params = store.params();
        let decoder = ClipSegDecoder::load(&params.pp("decoder"), &config)?;
        params.finish("the CLIPSeg decoder", Ignored::default())?;
        let served = ClipSegDecoder::load(&store.detached_params().pp("decoder"), &config)?;
        let mut task = Self {
            decoder,
            served,
            config,
            clip,
            train,
            held_out: Vec::new(),
            settings,
        };
        task.held_out = task.held_out_batches(&held_out)?;
        Ok(task)
    }

    /// The configuration with the CLIP's towers.
    pub fn config(&self) -> &ClipSegConfig {
        &self.config
    }

    fn held_out_batches(&self, held_out: &P) -> Result<Vec<SegmentationBatch>, TrainError> {
        let count = self.settings.validation_pictures.min(held_out.len());
        let all: Vec<usize> = (0..count).collect();
        let batches = all.chunks(self.settings.pictures).enumerate();
        batches
            .map(|(i, indices)| {
                let mut rng = draw::chance(self.settings.seed, i as u64, Purpose::HeldOut);
                self.batch_of(held_out, indices, &mut rng)
            })
            .collect()
    }

    fn batch_of(
        &self,
        source: &P,
        indices: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> Result<SegmentationBatch, TrainError> {
        let (height, width) = source.size();
        let count = indices.len() * self.settings.phrases;
        let mut phrases = Vec::with_capacity(count);
        let mut rows = Vec::with_capacity(count);
        let mut masks = Vec::with_capacity(count * height * width);
        let mut mask = vec![0; height * width];
        for (row, &index) in indices.iter().enumerate() {
            for _ in 0..self.settings.phrases {
                let (choice, absent) = (rng.next_u64(), draw::unit(rng) < self.settings.absent);
                mask.fill(0);
                phrases.push(match absent {
                    true => source.absent_phrase(index, choice)?,
                    false => source.phrase(index, choice, &mut mask)?,
                });
                rows.push(row as u32);
                masks.extend(mask.iter().map(|&value| f32::from(value != 0)));
            }
        }
        let layers = &self.config.extract_layers;
        let (activations, size) = self.clip.activations(source, indices, layers)?;
        let device = &self.clip.device;
        let masks = Tensor::from_vec(masks, (count, 1, height, width), device)?;
        Ok(SegmentationBatch {
            masks: resize_bilinear(&masks, self.logits_of(size))?.squeeze(1)?,
            rows: Tensor::from_vec(rows, count, device)?,
            conditions: self.clip.conditions(&phrases)?,
            activations,
            size,
        })
    }

    /// Height and width of the logits for a picture of `size`.
    fn logits_of(&self, size: (usize, usize)) -> (usize, usize) {
        let patch = self.config.vision_config.patch_size;
        let enlarged = match self.config.use_complex_transposed_convolution {
            false => patch,
            true => (patch / 4).pow(2),
        };
        (size.0 / patch * enlarged, size.1 / patch * enlarged)
    }

    /// `[phrases, height, width]`
    fn logits(
        &self,
        decoder: &ClipSegDecoder,
        batch: &SegmentationBatch,
    ) -> Result<Tensor, TrainError> {
        let pictures = decoder.reduce(&batch.activations, batch.size)?;
        Ok(decoder.forward(&pictures.select(&batch.rows)?, &batch.conditions)?)
    }
}

impl<P: PhraseMasks> Task for SegmentationTask<'_, P> {
    type Batch = SegmentationBatch;

    fn batch(&self, step: u64) -> Result<SegmentationBatch, TrainError> {
        let SegmentationSettings { pictures, seed, .. } = self.settings;
        let indices = draw::examples(seed, step, pictures, self.train.len());
        let mut rng = draw::chance(seed, step, Purpose::Texts);
        self.batch_of(&self.train, &indices, &mut rng)
    }

    fn split(
        &self,
        batch: SegmentationBatch,
        parts: usize,
    ) -> Result<Vec<SegmentationBatch>, TrainError> {
        let layers = batch.activations.iter().map(|layer| chunks(layer, parts));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let each = batch.activations.first().map_or(Ok(0), |l| l.dim(0))? / parts;
        let rows = chunks(&batch.rows, parts)?;
        let conditions = chunks(&batch.conditions, parts)?;
        let masks = chunks(&batch.masks, parts)?;
        let texts = rows.into_iter().zip(conditions).zip(masks).enumerate();
        texts
            .map(|(i, ((rows, conditions), masks))| {
                // Phrases follow their pictures, as many for each of them.
                let first = Tensor::new((i * each) as u32, rows.device())?;
                Ok(SegmentationBatch {
                    activations: layers.iter().map(|layer| layer[i].clone()).collect(),
                    size: batch.size,
                    rows: rows.broadcast_sub(&first)?,
                    conditions,
                    masks,
                })
            })
            .collect()
    }

    fn loss(&self, batch: SegmentationBatch) -> Result<StepLoss, TrainError> {
        let logits = self.logits(&self.decoder, &batch)?;
        Ok(StepLoss {
            loss: binary_cross_entropy(&logits, &batch.masks)?,
            metrics: Vec::new(),
        })
    }

    /// `loss`: the objective on held-out pictures; `iou`: the mean intersection over union of the
    /// phrases that apply to something, at the threshold where it is highest; `threshold`: that one.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let (mut loss, mut phrases) = (0., 0);
        let mut ious = Ious::default();
        for batch in &self.held_out {
            let logits = self.logits(&self.served, batch)?;
            let count = logits.dim(0)?;
            let batch_loss = binary_cross_entropy(&logits, &batch.masks)?.to_scalar::<f32>()?;
            loss += f64::from(batch_loss) * count as f64;
            phrases += count;
            let probabilities = candle_nn::ops::sigmoid(&logits)?.flatten_from(1)?;
            let masks = batch.masks.flatten_from(1)?.to_vec2::<f32>()?;
            for (found, wanted) in probabilities.to_vec2::<f32>()?.iter().zip(&masks) {
                ious.add(found, wanted);
            }
        }
        let (iou, threshold) = ious.best();
        let loss = loss / phrases.max(1) as f64;
        Ok(vec![("loss", loss), ("iou", iou), ("threshold", threshold)])
    }

    fn recipe(&self) -> Value {
        json!({
            "model": self.config,
            "settings": self.settings,
            "preprocessor": self.clip.preprocessor,
            "pictures": self.train.len(),
        })
    }
}

/// The mean over all pixels of `-z log p - (1 - z) log(1 - p)` for `p = sigmoid(logits)`, in the
/// form that neither overflows nor loses digits: `max(x, 0) - x z + log(1 + exp(-|x|))`.
fn binary_cross_entropy(logits: &Tensor, wanted: &Tensor) -> candle_core::Result<Tensor> {
    let tail = (logits.abs()?.neg()?.exp()? + 1.)?.log()?;
    ((logits.relu()? - (logits * wanted)?)? + tail)?.mean_all()
}

/// Intersections over unions, summed over phrases, at every threshold.
#[derive(Default)]
struct Ious {
    sums: [f64; THRESHOLDS],
    phrases: usize,
}

impl Ious {
    /// One phrase's probabilities and mask; a phrase that applies to nothing does not count.
    fn add(&mut self, found: &[f32], wanted: &[f32]) {
        let area = wanted.iter().filter(|&&mask| mask > 0.5).count();
        if area == 0 {
            return;
        }
        self.phrases += 1;
        for (i, sum) in self.sums.iter_mut().enumerate() {
            let threshold = threshold(i) as f32;
            let (mut both, mut marked) = (0, 0);
            for (found, mask) in found.iter().zip(wanted) {
                if *found > threshold {
                    marked += 1;
                    both += usize::from(*mask > 0.5);
                }
            }
            *sum += both as f64 / (area + marked - both) as f64;
        }
    }

    /// The highest mean and its threshold.
    fn best(&self) -> (f64, f64) {
        let mut best = (0., threshold(0));
        for (i, sum) in self.sums.iter().enumerate() {
            let mean = sum / self.phrases.max(1) as f64;
            if mean > best.0 {
                best = (mean, threshold(i));
            }
        }
        best
    }
}

/// 0.05, 0.1, … 0.95
fn threshold(i: usize) -> f64 {
    (i + 1) as f64 / (THRESHOLDS + 1) as f64
}

/// Writes a folder of transformers (`CLIPSegForImageSegmentation`): `config.json`, the decoder of
/// `store` and the whole of `clip` in f16, preprocessing and tokenizer.
///
/// # Errors
/// When a part cannot be read, or a file cannot be written.
pub fn export_clipseg(
    store: &ParamStore,
    config: &ClipSegConfig,
    clip: &FrozenClip,
    folder: &Path,
) -> Result<(), TrainError> {
    let config = published_config(&clip.describe(config)?, &clip.files)?;
    atomic::write(&folder.join("config.json"), config.as_bytes())?;
    let preprocessor = folder.join("preprocessor_config.json");
    atomic::write(&preprocessor, clip.preprocessor.as_bytes())?;
    let from = clip.files.path();
    copy_files(from, folder, &TOKENIZER_FILES)?;
    let tensors: &Checkpoint = clip.files.tensors();
    let mut all = store.tensors()?;
    for name in tensors.names() {
        let tensor = tensors.load(&name, DType::F32, &Device::Cpu)?;
        all.push((format!("clip.{name}"), tensor));
    }
    store::save_tensors(&folder.join(TRANSFORMERS_WEIGHTS), &all, DType::F16)
}

/// The text of the `config.json` of a `CLIPSegForImageSegmentation`.
fn published_config(config: &ClipSegConfig, clip: &ClipFiles) -> Result<String, TrainError> {
    let mut fields = Map::new();
    fields.insert(
        "architectures".to_owned(),
        json!(["CLIPSegForImageSegmentation"]),
    );
    fields.insert("model_type".to_owned(), json!("clipseg"));
    if let Value::Object(own) = serde_json::to_value(config).map_err(TrainError::other)? {
        fields.extend(own);
    }
    for (part, model_type) in [
        ("text_config", "clipseg_text_model"),
        ("vision_config", "clipseg_vision_model"),
    ] {
        let Some(Value::Object(sizes)) = fields.get_mut(part) else {
            continue;
        };
        sizes.insert("model_type".to_owned(), json!(model_type));
        // What the engines do not read, such as the ids of start and padding.
        let published = clip.config().and_then(|config| config.get(part));
        for (field, value) in published.and_then(Value::as_object).into_iter().flatten() {
            sizes.entry(field).or_insert_with(|| value.clone());
        }
    }
    Ok(format!("{:#}\n", Value::Object(fields)))
}
