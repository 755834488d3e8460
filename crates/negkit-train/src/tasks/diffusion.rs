//! Training of the UNet that denoises latents.
//!
//! "Denoising Diffusion Probabilistic Models" (Ho et al., 2020) in the latents of an autoencoder
//! ("High-Resolution Image Synthesis with Latent Diffusion Models", Rombach et al., 2022), with the
//! hidden states of a text encoder that stays as it is, and with texts dropped now and then for
//! classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use negkit_diffusion::scheduler::{NoiseSchedule, PredictionType, SchedulerConfig};
use negkit_diffusion::unet::{DeepFeatures, Shortcuts, UNet, UNetConfig};
use negkit_text::{ClipFiles, TextEncoder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::Serialize;
use serde_json::{Value, json};

use super::detector::{Scores, share};
use super::draw::{self, Purpose};
use super::export::{DIFFUSERS_WEIGHTS, copy_files, write_part};
use super::grounding::{self, CellLabels, Grounding, GroundingSettings, unknown_cells};
use super::split::chunks;
use crate::{Init, ParamStore, StepLoss, Task, TrainError, atomic, export_text_encoder};

/// Latents of pictures with their captions, by index.
///
/// Read from several threads; the same index always gives the same latents, or a run that goes on
/// would not be the run that was stopped.
pub trait CaptionedLatents: Sync {
    /// How many pictures there are.
    fn len(&self) -> usize;

    /// Channels, height and width of the latents of a picture.
    fn shape(&self) -> [usize; 3];

    /// Writes the latents of picture `index` (below [`CaptionedLatents::len`]), multiplied by the
    /// autoencoder's scaling factor: `channels * height * width` values.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError>;

    /// A caption of picture `index`. `choice` is any number, and the same one gives the same caption.
    ///
    /// # Errors
    /// When it cannot be read.
    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError>;

    /// What stands in the cells of those pictures, for [`DiffusionSettings::grounding`].
    ///
    /// # Errors
    /// When it is not known, as where this is not implemented, or cannot be read.
    fn cells(&self, _indices: &[usize]) -> Result<CellLabels, TrainError> {
        Err(unknown_cells())
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Latents and captions in memory.
#[derive(Debug, Clone)]
pub struct LatentTable {
    values: Vec<f32>,
    shape: [usize; 3],
    captions: Vec<Vec<String>>,
}

impl LatentTable {
    /// From latents as [`encode_pictures`](super::vae::encode_pictures) gives them, `shape`
    /// (channels, height, width) a picture, the autoencoder's scaling factor, and the captions of
    /// every picture, at least one.
    ///
    /// # Errors
    /// When a picture has no caption, or the numbers of latents and of captions differ.
    pub fn new(
        mut latents: Vec<f32>,
        shape: [usize; 3],
        scaling_factor: f64,
        captions: Vec<Vec<String>>,
    ) -> Result<Self, TrainError> {
        let each: usize = shape.iter().product();
        if latents.len() != each * captions.len() {
            return Err(TrainError::Task(format!(
                "got {} values of latents for {} captioned pictures of {shape:?} latents each",
                latents.len(),
                captions.len()
            )));
        }
        if let Some(index) = captions.iter().position(Vec::is_empty) {
            return Err(TrainError::Task(format!(
                "got no caption for picture {index}"
            )));
        }
        for value in &mut latents {
            *value = (f64::from(*value) * scaling_factor) as f32;
        }
        Ok(Self {
            values: latents,
            shape,
            captions,
        })
    }
}

impl CaptionedLatents for LatentTable {
    fn len(&self) -> usize {
        self.captions.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError> {
        let start = index * latents.len();
        match self.values.get(start..start + latents.len()) {
            Some(values) => {
                latents.copy_from_slice(values);
                Ok(())
            }
            None => Err(no_such_picture(index, self.len())),
        }
    }

    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        let captions = self.captions.get(index).filter(|all| !all.is_empty());
        let captions = captions.ok_or_else(|| no_such_picture(index, self.len()))?;
        Ok(captions[(choice % captions.len() as u64) as usize].clone())
    }
}

fn no_such_picture(index: usize, count: usize) -> TrainError {
    TrainError::Task(format!("asked for picture {index} of {count}"))
}

/// A distribution over the training steps of a schedule: the logit of the step's share of the whole
/// schedule is normally distributed (Esser et al., "Scaling Rectified Flow Transformers for
/// High-Resolution Image Synthesis", arXiv 2403.03206, equation 19).
///
/// What a picture shows is decided where it is mostly noise, and what lies below is finish.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogitNormal {
    /// Mean of the logit: above 0 for more noise than signal.
    pub mean: f64,
    /// Standard deviation of the logit.
    pub deviation: f64,
}

impl LogitNormal {
    /// A share of the schedule, between 0 and 1.
    fn sample(self, rng: &mut ChaCha8Rng) -> f64 {
        let logit = self.mean + self.deviation * draw::standard_normal(rng);
        1. / (1. + (-logit).exp())
    }
}

/// How a UNet is trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffusionSettings {
    /// Pictures a step.
    pub batch_size: usize,
    /// Share of the pictures whose caption is replaced by the empty text.
    pub text_dropout: f64,
    /// γ of "Efficient Diffusion Training via Min-SNR Weighting Strategy" (Hang et al., arXiv
    /// 2303.09556): the weight of a picture, in terms of its clean latents, is its signal-to-noise
    /// ratio, but at most γ. `None` weighs the squared error of the prediction alike at all noise
    /// levels. A schedule that ends in pure noise needs `None`: the weight there would be 0, and
    /// sampling begins there.
    pub min_snr_gamma: Option<f64>,
    /// How the noise levels of training pictures are distributed. `None`: alike over the whole schedule,
    /// as those of held-out pictures always are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_levels: Option<LogitNormal>,
    /// Whether and how it learns to name what stands where as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grounding: Option<GroundingSettings>,
    /// Pictures of the held-out set that are scored, from its start.
    pub validation_pictures: usize,
    /// Seed of the choice of pictures and captions, of noise and noise levels.
    pub seed: u64,
}

impl Default for DiffusionSettings {
    fn default() -> Self {
        Self {
            batch_size: 64,
            text_dropout: 0.1,
            min_snr_gamma: None,
            noise_levels: None,
            grounding: None,
            validation_pictures: 256,
            seed: 0,
        }
    }
}

/// The schedule that [`DiffusionTask`] is best trained with: Stable Diffusion's betas, rescaled so
/// that the last step is pure noise, prediction of the velocity, and samplers that begin at that
/// last step (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv
/// 2305.08891). Without the rescaling a sampler begins with noise where training always showed a
/// trace of the picture, above all its mean, and pictures come out neither very dark nor very
/// bright.
///
/// # Errors
/// None in practice; the signature is that of [`SchedulerConfig::from_json`].
pub fn zero_snr_schedule() -> Result<SchedulerConfig, TrainError> {
    let fields = json!({
        "_class_name": "DPMSolverMultistepScheduler",
        "_diffusers_version": "0.42.1",
        "algorithm_type": "dpmsolver++",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": true,
        "set_alpha_to_one": true,
        "solver_order": 2,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
        "trained_betas": null
    });
    SchedulerConfig::from_json(&fields.to_string()).map_err(TrainError::other)
}

/// First values for a UNet, for [`ParamStore::random_with`]: every residual branch and the last
/// convolution begin at zero, as in the reference implementation (`zero_module` in
/// `ldm/modules/diffusionmodules/openaimodel.py` and `ldm/modules/attention.py` of
/// CompVis/latent-diffusion).
pub fn unet_init(name: &str, _dims: &[usize]) -> Option<Init> {
    let zero = name.ends_with(".conv2.weight")
        || name.ends_with(".proj_out.weight")
        || name == "conv_out.weight";
    zero.then_some(Init::ZEROS)
}

/// A batch of [`DiffusionTask`].
#[derive(Debug, Clone)]
pub struct DiffusionBatch {
    /// Noisy latents, `[n, channels, height, width]`.
    sample: Tensor,
    /// What is to be predicted, in the same shape.
    target: Tensor,
    timesteps: Vec<usize>,
    /// `[n, length, hidden]`
    encoder_hidden_states: Tensor,
    /// What stands where, when that is learnt.
    cells: Option<CellLabels>,
}

/// What a batch comes to.
struct Scored {
    /// Mean of the weighted squared errors, a scalar.
    error: Tensor,
    /// How well the features tell what stands where.
    cells: Option<Scores>,
}

/// Trains a [`UNet`] on latents and captions.
pub struct DiffusionTask<L> {
    tracked: UNet,
    /// The same parameters without gradients.
    unet: UNet,
    text: Arc<dyn TextEncoder>,
    schedule: NoiseSchedule,
    prediction: PredictionType,
    /// Weight of every training step.
    weights: Option<Vec<f32>>,
    grounding: Option<Grounding>,
    train: L,
    held_out: Vec<DiffusionBatch>,
    settings: DiffusionSettings,
    device: Device,
}

impl<L: CaptionedLatents> DiffusionTask<L> {
    /// A UNet of the parameters of `store`, under the names of diffusers, that learns what
    /// `scheduler` asks for with `text`, whose parameters stay as they are.
    ///
    /// # Errors
    /// When the configurations contradict themselves, each other or the latents, there are no
    /// latents, or the store holds other tensors.
    pub fn new(
        store: &ParamStore,
        config: &UNetConfig,
        scheduler: &SchedulerConfig,
        text: Arc<dyn TextEncoder>,
        (train, held_out): (L, L),
        settings: DiffusionSettings,
    ) -> Result<Self, TrainError> {
        config.check()?;
        text.info()
            .require_hidden_size("the UNet in training", config.cross_attention_dim)?;
        for latents in [&train, &held_out] {
            let [channels, ..] = latents.shape();
            if latents.is_empty() || channels != config.in_channels {
                return Err(TrainError::Task(format!(
                    "needs latents of {} channels, found {} of {channels} channels",
                    config.in_channels,
                    latents.len()
                )));
            }
        }
        if !(0. ..=1.).contains(&settings.text_dropout) {
            return Err(TrainError::Setting {
                setting: "text_dropout",
                found: settings.text_dropout.to_string(),
                expected: "a share between 0 and 1",
            });
        }
        let schedule = NoiseSchedule::from_config(scheduler).map_err(TrainError::other)?;
        let prediction = scheduler.prediction_type().map_err(TrainError::other)?;
        let params = store.params();
        let tracked = UNet::load(&params, config)?;
        params.finish("the UNet", grounding::not_of_the_model())?;
        let grounding = settings.grounding.clone().map(|settings| {
            let [_, side, _] = train.shape();
            // The features that the last two layers get have the channels of the outermost level.
            let channels = config
                .block_out_channels
                .first()
                .copied()
                .unwrap_or_default();
            Grounding::new(store, (channels, side), settings).map(Grounding::normalised)
        });
        let mut task = Self {
            grounding: grounding.transpose()?,
            weights: settings
                .min_snr_gamma
                .map(|gamma| min_snr_weights(&schedule, prediction, gamma)),
            tracked,
            unet: UNet::load(&store.detached_params(), config)?,
            text,
            schedule,
            prediction,
            train,
            held_out: Vec::new(),
            settings,
            device: params.device().clone(),
        };
        task.held_out = task.held_out_batches(&held_out)?;
        Ok(task)
    }

    /// The UNet as it stands, without gradients.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    /// The pictures that are scored, with noise, noise levels and captions fixed by the seed.
    fn held_out_batches(&self, held_out: &L) -> Result<Vec<DiffusionBatch>, TrainError> {
        let count = self.settings.validation_pictures.min(held_out.len());
        let all: Vec<usize> = (0..count).collect();
        let batches = all.chunks(self.settings.batch_size.max(1)).enumerate();
        batches
            .map(|(i, indices)| {
                let mut rng = draw::chance(self.settings.seed, i as u64, Purpose::HeldOut);
                let captions = indices
                    .iter()
                    .map(|&index| held_out.caption(index, rng.next_u64()))
                    .collect::<Result<Vec<_>, _>>()?;
                let timesteps = self.timesteps(&mut rng, indices.len());
                self.noisy(held_out, indices, &captions, timesteps, &mut rng)
            })
            .collect()
    }

    /// Training steps spread evenly over the schedule at a common random offset, in random order:
    /// each is uniformly distributed, and their mean varies less than that of independent draws
    /// (Kingma et al., "Variational Diffusion Models", arXiv 2107.00630, appendix I.1).
    fn timesteps(&self, rng: &mut ChaCha8Rng, count: usize) -> Vec<usize> {
        let steps = self.schedule.num_train_timesteps();
        let offset = draw::unit(rng);
        let spread = |i: usize| (i as f64 + offset) / count as f64 * steps as f64;
        let mut timesteps: Vec<usize> = (0..count)
            .map(|i| (spread(i) as usize).min(steps - 1))
            .collect();
        for i in (1..count).rev() {
            timesteps.swap(i, draw::below(rng, i + 1));
        }
        timesteps
    }

    fn noisy(
        &self,
        source: &L,
        indices: &[usize],
        captions: &[String],
        timesteps: Vec<usize>,
        rng: &mut ChaCha8Rng,
    ) -> Result<DiffusionBatch, TrainError> {
        let [channels, height, width] = source.shape();
        let shape = [indices.len(), channels, height, width];
        let each = channels * height * width;
        let mut values = vec![0.; indices.len() * each];
        for (&index, values) in indices.iter().zip(values.chunks_exact_mut(each)) {
            source.read(index, values)?;
        }
        let latents = Tensor::from_vec(values, &shape, &self.device)?;
        let noise = draw::normal(rng, &shape, &self.device)?;
        let schedule = &self.schedule;
        let target = match self.prediction {
            PredictionType::Epsilon => noise.clone(),
            PredictionType::Sample => latents.clone(),
            PredictionType::VPrediction => schedule
                .velocity(&latents, &noise, &timesteps)
                .map_err(TrainError::other)?,
        };
        let sample = schedule.add_noise(&latents, &noise, &timesteps);
        Ok(DiffusionBatch {
            sample: sample.map_err(TrainError::other)?,
            target,
            timesteps,
            encoder_hidden_states: encode_texts(&*self.text, captions, &self.device)?,
            cells: match self.grounding {
                Some(_) => Some(source.cells(indices)?),
                None => None,
            },
        })
    }

    fn score(&self, unet: &UNet, batch: &DiffusionBatch) -> Result<Scored, TrainError> {
        let timesteps: Vec<f64> = batch.timesteps.iter().map(|&t| t as f64).collect();
        let context = unet.prepare(&batch.encoder_hidden_states)?;
        let mut features = None;
        let shortcuts = Shortcuts {
            deep: match self.grounding {
                Some(_) => DeepFeatures::Keep(&mut features),
                None => DeepFeatures::Compute,
            },
            merging: None,
        };
        let made = unet.forward_with(&batch.sample, &timesteps, &context, shortcuts)?;
        let error = (made - &batch.target)?.sqr()?;
        let error = match &self.weights {
            None => error.mean_all()?,
            Some(weights) => {
                let weights: Vec<f32> = batch.timesteps.iter().map(|&t| weights[t]).collect();
                let weights = Tensor::from_vec(weights, timesteps.len(), &self.device)?;
                (error.flatten_from(1)?.mean(D::Minus1)? * weights)?.mean_all()?
            }
        };
        let cells = match (&self.grounding, &features, &batch.cells) {
            (Some(grounding), Some(features), Some(labels)) => {
                Some(grounding.score(features, labels)?)
            }
            _ => None,
        };
        Ok(Scored { error, cells })
    }
}

impl<L: CaptionedLatents> Task for DiffusionTask<L> {
    type Batch = DiffusionBatch;

    fn batch(&self, step: u64) -> Result<DiffusionBatch, TrainError> {
        let DiffusionSettings {
            batch_size,
            text_dropout,
            seed,
            ..
        } = self.settings;
        let indices = draw::examples(seed, step, batch_size, self.train.len());
        let mut rng = draw::chance(seed, step, Purpose::Texts);
        let captions = indices
            .iter()
            .map(|&index| {
                let (choice, dropped) = (rng.next_u64(), draw::unit(&mut rng) < text_dropout);
                match dropped {
                    true => Ok(String::new()),
                    false => self.train.caption(index, choice),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut rng = draw::chance(seed, step, Purpose::Timesteps);
        let timesteps = match self.settings.noise_levels {
            None => self.timesteps(&mut rng, batch_size),
            Some(distribution) => {
                let steps = self.schedule.num_train_timesteps();
                let at = |share: f64| ((share * steps as f64) as usize).min(steps - 1);
                let shares = std::iter::repeat_with(|| distribution.sample(&mut rng));
                shares.take(batch_size).map(at).collect()
            }
        };
        let mut rng = draw::chance(seed, step, Purpose::Noise);
        self.noisy(&self.train, &indices, &captions, timesteps, &mut rng)
    }

    fn split(
        &self,
        batch: DiffusionBatch,
        parts: usize,
    ) -> Result<Vec<DiffusionBatch>, TrainError> {
        let sample = chunks(&batch.sample, parts)?;
        let target = chunks(&batch.target, parts)?;
        let texts = chunks(&batch.encoder_hidden_states, parts)?;
        let each = batch.timesteps.len() / parts;
        let mut cells = batch.cells.map(|cells| cells.split(parts).into_iter());
        let tensors = sample.into_iter().zip(target).zip(texts);
        Ok(tensors
            .zip(batch.timesteps.chunks_exact(each))
            .map(
                |(((sample, target), encoder_hidden_states), timesteps)| DiffusionBatch {
                    sample,
                    target,
                    timesteps: timesteps.to_vec(),
                    encoder_hidden_states,
                    cells: cells.as_mut().and_then(Iterator::next),
                },
            )
            .collect())
    }

    fn loss(&self, batch: DiffusionBatch) -> Result<StepLoss, TrainError> {
        let Scored { error, cells } = self.score(&self.tracked, &batch)?;
        let (Some(grounding), Some(cells)) = (&self.grounding, cells) else {
            return Ok(StepLoss {
                loss: error,
                metrics: Vec::new(),
            });
        };
        Ok(StepLoss {
            metrics: vec![
                ("error", f64::from(error.to_scalar::<f32>()?)),
                ("things", share(cells.right_things, cells.things)),
            ],
            loss: (error + (cells.loss * grounding.weight())?)?,
        })
    }

    /// `loss`: the error of the prediction on held-out pictures, always with the same noise and
    /// captions. With grounding, `things`: the share of cells with a thing whose kind is right.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let (mut sum, mut count) = (0., 0);
        let (mut right, mut things) = (0, 0);
        for batch in &self.held_out {
            let pictures = batch.timesteps.len();
            let Scored { error, cells } = self.score(&self.unet, batch)?;
            sum += f64::from(error.to_scalar::<f32>()?) * pictures as f64;
            count += pictures;
            if let Some(cells) = cells {
                right += cells.right_things;
                things += cells.things;
            }
        }
        let mut scores = vec![("loss", sum / count.max(1) as f64)];
        if self.grounding.is_some() {
            scores.push(("things", share(right, things)));
        }
        Ok(scores)
    }

    fn recipe(&self) -> Value {
        json!({
            "model": self.tracked.config(),
            "settings": self.settings,
            "prediction": format!("{:?}", self.prediction),
            "final_alpha_cumprod": self.schedule.alphas_cumprod().last(),
            "text_encoder": self.text.info().name,
            "pictures": self.train.len(),
        })
    }
}

/// Weight of the squared error of a prediction at every training step: `min(snr, γ)` over what the
/// error of the clean latents is multiplied by in it, which is `snr` for the noise, 1 for the latents
/// and `snr + 1` for the velocity (Hang et al., arXiv 2303.09556, section 3.4).
fn min_snr_weights(schedule: &NoiseSchedule, prediction: PredictionType, gamma: f64) -> Vec<f32> {
    let weight = |&alpha: &f32| {
        let alpha = f64::from(alpha);
        let snr = alpha / (1. - alpha).max(f64::MIN_POSITIVE);
        let wanted = snr.min(gamma);
        let weight = match prediction {
            PredictionType::Epsilon => wanted / snr.max(f64::MIN_POSITIVE),
            PredictionType::Sample => wanted,
            PredictionType::VPrediction => wanted / (snr + 1.),
        };
        weight as f32
    };
    schedule.alphas_cumprod().iter().map(weight).collect()
}

/// Hidden states of texts, `[texts, length, hidden]`, f32; texts that occur twice are encoded once.
fn encode_texts(
    text: &dyn TextEncoder,
    texts: &[String],
    device: &Device,
) -> Result<Tensor, TrainError> {
    let mut unique: Vec<&str> = Vec::new();
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut rows = Vec::with_capacity(texts.len());
    for text in texts {
        rows.push(*known.entry(text).or_insert_with(|| {
            unique.push(text);
            unique.len() as u32 - 1
        }));
    }
    let states = text.encode(&unique)?.last_hidden_state.detach();
    let rows = Tensor::from_vec(rows, texts.len(), states.device())?;
    let states = states.index_select(&rows, 0)?;
    Ok(states.to_dtype(DType::F32)?.to_device(device)?)
}

/// What [`export_pipeline`] puts together.
#[derive(Clone, Copy)]
pub struct PipelineParts<'a> {
    /// Parameters of the UNet.
    pub unet: &'a ParamStore,
    /// Sizes of the UNet.
    pub unet_config: &'a UNetConfig,
    /// Schedule that the UNet was trained with.
    pub scheduler: &'a SchedulerConfig,
    /// Folder of the autoencoder, as [`export_vae`](super::vae::export_vae) writes it.
    pub vae: &'a Path,
    /// Folder of the CLIP whose text encoder the UNet was trained with, in the layout of
    /// transformers, with its tokenizer.
    pub clip: &'a Path,
}

/// Writes a pipeline folder of diffusers: `model_index.json`, `unet`, `vae`, `scheduler`,
/// `text_encoder` and `tokenizer`, weights in f16. `model_index.json` comes last: a folder that has
/// it is whole.
///
/// # Errors
/// When a part cannot be read, or a file cannot be written.
pub fn export_pipeline(parts: PipelineParts<'_>, folder: &Path) -> Result<(), TrainError> {
    let unet = parts.unet_config.to_json().map_err(TrainError::other)?;
    write_part(
        (parts.unet, grounding::is_of_the_model),
        &unet,
        &folder.join("unet"),
        DIFFUSERS_WEIGHTS,
    )?;
    copy_files(
        parts.vae,
        &folder.join("vae"),
        &["config.json", DIFFUSERS_WEIGHTS],
    )?;
    atomic::write(
        &folder.join("scheduler").join("scheduler_config.json"),
        parts.scheduler.to_json().as_bytes(),
    )?;
    let clip = ClipFiles::open(parts.clip)?;
    export_text_encoder(
        &ParamStore::from_tensors(clip.tensors().clone(), &Device::Cpu)?,
        &clip.text_config()?,
        parts.clip,
        &folder.join("text_encoder"),
        Some(&folder.join("tokenizer")),
    )?;
    // transformers' first tokenizer needs the two files that the second can do without.
    let tokenizer = match parts.clip.join("vocab.json").is_file() {
        true => "CLIPTokenizer",
        false => "CLIPTokenizerFast",
    };
    let scheduler = parts
        .scheduler
        .kind()
        .map_err(TrainError::other)?
        .class_name();
    let index = json!({
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [null, null],
        "requires_safety_checker": false,
        "safety_checker": [null, null],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", tokenizer],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"]
    });
    let index = format!("{index:#}\n");
    atomic::write(&folder.join("model_index.json"), index.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_levels_are_about_the_logistic_of_their_mean() {
        let distribution = LogitNormal {
            mean: 0.8,
            deviation: 1.,
        };
        let mut rng = draw::chance(0, 0, Purpose::Timesteps);
        let mut shares: Vec<f64> = (0..10_001).map(|_| distribution.sample(&mut rng)).collect();
        shares.sort_by(f64::total_cmp);
        // Quantiles of the logit-normal distribution: the logistic of those of the normal one, -1.2816,
        // 0 and 1.2816. Five standard errors of 10,001 draws are below 0.02.
        for (rank, logit) in [(1_000, 0.8 - 1.2816), (5_000, 0.8), (9_000, 0.8 + 1.2816)] {
            let expected = 1. / (1. + f64::exp(-logit));
            let found = shares[rank];
            assert!((found - expected).abs() < 0.02, "{found} for {expected}");
        }
    }
}
