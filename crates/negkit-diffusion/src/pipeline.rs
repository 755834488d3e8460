//! From prompts to pictures.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_nn::{AttentionBudget, Compute, OnDemand};
use negkit_text::{
    ClipFiles, ClipTextEncoder, OnDemandTextEncoder, TextEncoder, TextError, WeightsSource,
};

use crate::DiffusionError;
use crate::files::{PipelineFiles, check_networks, load_unet, load_vae};
use crate::noise::NoiseSource;
use crate::sampling::{
    Context, EncodedPrompts, Networks, SampledPicture, Sampling, generators, latent_shape,
    scheduler_kind, to_picture,
};
use crate::savings::Savings;
use crate::scheduler::{SchedulerConfig, SchedulerKind};
use crate::unet::{Shortcuts, UNet, UNetConfig};
use crate::vae::{Vae, VaeConfig, VaeTiling};

/// How long text encoder, UNet and autoencoder are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// All of them, all the time.
    #[default]
    Kept,
    /// One after the other: all prompts of a run are encoded, then all its pictures sampled, then all
    /// decoded. The memory of a run is then that of its largest part, and every run loads them anew.
    OneAtATime,
}

impl Residency {
    /// The text encoder in `files`, one that can be released where that is wanted.
    ///
    /// # Errors
    /// When the files cannot be read, or do not fit each other.
    pub fn text_encoder(
        self,
        files: &ClipFiles,
        name: &str,
        compute: &Compute,
    ) -> Result<Arc<dyn TextEncoder>, TextError> {
        let (files, name, compute) = (files.clone(), name.to_owned(), compute.clone());
        let load = move || ClipTextEncoder::from_files(&files, &name, None, &compute);
        Ok(match self {
            Self::Kept => Arc::new(load()?),
            Self::OneAtATime => Arc::new(OnDemandTextEncoder::new(load)?),
        })
    }
}

/// How to build a [`StableDiffusion`].
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Device and number type of UNet and VAE.
    pub compute: Compute,
    /// Bound on the memory of attention scores.
    pub attention: AttentionBudget,
    /// Whether large pictures are decoded in tiles.
    pub vae_tiling: VaeTiling,
    /// What of the model is in memory at a time.
    pub residency: Residency,
}

impl PipelineOptions {
    /// No tiling, the usual bound on attention, and the whole model in memory.
    pub fn new(compute: Compute) -> Self {
        Self {
            compute,
            attention: AttentionBudget::default(),
            vae_tiling: VaeTiling::default(),
            residency: Residency::default(),
        }
    }
}

/// One picture to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureRequest {
    /// What is to be seen.
    pub prompt: String,
    /// What is to be kept away from; empty for Stable Diffusion's usual unconditional half.
    pub negative_prompt: String,
    /// Seed of the starting noise: that of `torch.Generator("cpu").manual_seed(seed)`.
    pub seed: u64,
}

/// How all pictures of a run are made.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingSettings {
    /// Inference steps.
    pub steps: usize,
    /// Weight of the prompt against the negative prompt; guidance is off at 1 and below.
    pub guidance_scale: f64,
    /// Width of the pictures, in pixels, a multiple of the VAE's scale (8).
    pub width: usize,
    /// Height of the pictures, in pixels, a multiple of the VAE's scale (8).
    pub height: usize,
    /// The scheduler; `None` for the one that the model was published with.
    pub scheduler: Option<SchedulerKind>,
    /// DDIM's eta.
    pub eta: f64,
    /// Pictures made at a time. The result does not depend on it: every picture has its own noise.
    pub batch_size: usize,
    /// What is left out for a nearly equal picture in less time: nothing by default.
    pub savings: Savings,
}

impl Default for SamplingSettings {
    /// diffusers' defaults: 50 steps, guidance 7.5, 512 x 512.
    fn default() -> Self {
        Self {
            steps: 50,
            guidance_scale: 7.5,
            width: 512,
            height: 512,
            scheduler: None,
            eta: 0.,
            batch_size: 1,
            savings: Savings::default(),
        }
    }
}

/// Where a run stands, after each step of each batch.
#[derive(Debug)]
pub struct StepProgress<'a> {
    /// Steps done of this batch, from 1.
    pub step: usize,
    /// Model calls of one batch (some schedulers make one more than steps were asked for).
    pub steps: usize,
    /// Index of the batch's first picture among the requests.
    pub first_picture: usize,
    /// Pictures of this batch.
    pub pictures: usize,
    /// The latents after the step, `[pictures, channels, height / 8, width / 8]`, f32; for a
    /// preview, see [`StableDiffusion::decode`].
    pub latents: &'a Tensor,
}

/// One finished picture.
#[derive(Debug, Clone)]
pub struct GeneratedPicture {
    /// What was asked for.
    pub request: PictureRequest,
    /// The picture.
    pub picture: RgbImage,
    /// The same before rounding to 8 bits, `[3, height, width]`, 0 to 1, f32.
    pub values: Tensor,
    /// Its final latents, `[channels, height / 8, width / 8]`, f32.
    pub latents: Tensor,
    /// The end of the prompt that the text encoder had to cut off, if any.
    pub truncated: Option<String>,
}

/// Stable Diffusion 1.x with any [`TextEncoder`] of the right width.
pub struct StableDiffusion {
    text: Arc<dyn TextEncoder>,
    unet: OnDemand<UNet, DiffusionError>,
    unet_config: UNetConfig,
    vae: OnDemand<Vae, DiffusionError>,
    vae_config: VaeConfig,
    scheduler: SchedulerConfig,
    unet_weights: WeightsSource,
    vae_weights: WeightsSource,
    options: PipelineOptions,
}

impl StableDiffusion {
    /// Loads from published files. `text` takes the place of the text encoder that the model was
    /// published with.
    ///
    /// # Errors
    /// When the files do not fit each other, or the encoder's hidden size does not fit the UNet. That is
    /// found with [`Residency::OneAtATime`], too, where tensors of UNet and autoencoder are not read yet.
    pub fn from_files(
        files: &PipelineFiles,
        text: Option<Arc<dyn TextEncoder>>,
        options: &PipelineOptions,
    ) -> Result<Self, DiffusionError> {
        let (compute, attention) = (options.compute.clone(), options.attention);
        let text = match text {
            Some(text) => text,
            None => {
                let residency = options.residency;
                residency.text_encoder(files.text(), "the model's own", &compute)?
            }
        };
        // Before gigabytes are read.
        Self::check_text(&*text, files.unet_config().cross_attention_dim)?;
        let (unet, unet_config) = (files.unet().clone(), files.unet_config().clone());
        let (vae, vae_config) = (files.vae().clone(), files.vae_config().clone());
        let of_unet = compute.clone();
        let model = Self {
            text,
            unet_weights: WeightsSource::from_checkpoint(unet.clone()),
            vae_weights: WeightsSource::from_checkpoint(vae.clone()),
            unet_config: unet_config.clone(),
            vae_config: vae_config.clone(),
            unet: OnDemand::new(move || load_unet(unet.clone(), &unet_config, &of_unet, attention)),
            vae: OnDemand::new(move || load_vae(vae.clone(), &vae_config, &compute, attention)),
            scheduler: files.scheduler().clone().for_stable_diffusion(),
            options: options.clone(),
        };
        match options.residency {
            Residency::Kept => {
                model.unet()?;
                model.vae()?;
            }
            // What does not fit must not show when pictures are sampled already.
            Residency::OneAtATime => check_networks(files)?,
        }
        Ok(model)
    }

    fn check_text(
        text: &dyn TextEncoder,
        cross_attention_dim: usize,
    ) -> Result<(), DiffusionError> {
        Ok(text
            .info()
            .require_hidden_size("the Stable Diffusion UNet", cross_attention_dim)?)
    }

    /// The same model with another text encoder.
    ///
    /// # Errors
    /// When the encoder's hidden size does not fit the UNet.
    pub fn set_text_encoder(&mut self, text: Arc<dyn TextEncoder>) -> Result<(), DiffusionError> {
        Self::check_text(&*text, self.unet_config.cross_attention_dim)?;
        self.text = text;
        Ok(())
    }

    /// The text encoder.
    pub fn text(&self) -> &Arc<dyn TextEncoder> {
        &self.text
    }

    /// The UNet, loaded where it is not in memory.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn unet(&self) -> Result<Arc<UNet>, DiffusionError> {
        self.unet.get()
    }

    /// Configuration of the UNet.
    pub fn unet_config(&self) -> &UNetConfig {
        &self.unet_config
    }

    /// The autoencoder, loaded where it is not in memory.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn vae(&self) -> Result<Arc<Vae>, DiffusionError> {
        self.vae.get()
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae_config
    }

    /// What of the model is in memory at a time.
    pub fn residency(&self) -> Residency {
        self.options.residency
    }

    /// Where the UNet's weights came from.
    pub fn unet_weights(&self) -> &WeightsSource {
        &self.unet_weights
    }

    /// Where the autoencoder's weights came from.
    pub fn vae_weights(&self) -> &WeightsSource {
        &self.vae_weights
    }

    /// The scheduler that runs with `settings`.
    ///
    /// # Errors
    /// When the model's configuration names a scheduler that is not known.
    pub fn scheduler_kind(
        &self,
        settings: &SamplingSettings,
    ) -> Result<SchedulerKind, DiffusionError> {
        scheduler_kind(&self.scheduler, settings)
    }

    /// Shape of the latents of `pictures` pictures: `[pictures, channels, height / 8, width / 8]`.
    ///
    /// # Errors
    /// When width or height is no multiple of the VAE's scale.
    pub fn latent_shape(
        &self,
        settings: &SamplingSettings,
        pictures: usize,
    ) -> Result<[usize; 4], DiffusionError> {
        latent_shape(self, settings, pictures)
    }

    /// The starting noise of `requests`, from each request's own seed, `[pictures, channels,
    /// height / 8, width / 8]`, f32 on the CPU.
    ///
    /// # Errors
    /// When width or height is no multiple of the VAE's scale.
    pub fn starting_noise(
        &self,
        requests: &[PictureRequest],
        settings: &SamplingSettings,
    ) -> Result<Tensor, DiffusionError> {
        let shape = self.latent_shape(settings, requests.len())?;
        Ok(generators(requests).randn(&shape, DType::F32, &Device::Cpu)?)
    }

    /// Makes the pictures, batch by batch. `noise` takes the place of the seeds' starting noise, in
    /// the shape of [`StableDiffusion::starting_noise`]. `on_step` is called after every step and
    /// may end the run.
    ///
    /// # Errors
    /// When the settings contradict themselves or the model, a picture is not finite, the device
    /// fails, or `on_step` ends the run.
    pub fn generate(
        &self,
        requests: &[PictureRequest],
        settings: &SamplingSettings,
        noise: Option<&Tensor>,
        mut on_step: impl FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<GeneratedPicture>, DiffusionError> {
        match self.options.residency {
            Residency::Kept => {
                let sampling = self.sampling();
                sampling.generate(requests, settings, noise, &mut on_step)
            }
            Residency::OneAtATime => {
                let encoded = self.encode(requests, settings)?;
                let sampled = self.sample(&encoded, noise, on_step)?;
                self.decode_all(sampled)
            }
        }
    }

    fn sampling(&self) -> Sampling<'_> {
        Sampling {
            text: &*self.text,
            networks: self,
            scheduler: &self.scheduler,
        }
    }

    /// The first of three parts of [`StableDiffusion::generate`], for runs of several text encoders with
    /// [`Residency::OneAtATime`]: encodes the prompts, after which the text encoder is no longer needed.
    ///
    /// # Errors
    /// When the settings contradict themselves or the model, or the encoder or the device fails.
    pub fn encode<'a>(
        &self,
        requests: &'a [PictureRequest],
        settings: &'a SamplingSettings,
    ) -> Result<EncodedPrompts<'a>, DiffusionError> {
        let encoded = self.sampling().encode(requests, settings)?;
        if self.options.residency == Residency::OneAtATime {
            self.text.release();
        }
        Ok(encoded)
    }

    /// The second part: samples the pictures, after which the UNet is no longer needed. `noise` and
    /// `on_step` are those of [`StableDiffusion::generate`].
    ///
    /// # Errors
    /// When the UNet cannot be loaded, `noise` has another shape than the pictures need, the device
    /// fails, or `on_step` ends the run.
    pub fn sample(
        &self,
        encoded: &EncodedPrompts<'_>,
        noise: Option<&Tensor>,
        mut on_step: impl FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<SampledPicture>, DiffusionError> {
        if self.options.residency == Residency::OneAtATime {
            self.vae.release();
        }
        self.sampling().sample(encoded, noise, &mut on_step)
    }

    /// The third part: decodes the pictures.
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded, a picture is not finite, or the device fails.
    pub fn decode_all(
        &self,
        sampled: Vec<SampledPicture>,
    ) -> Result<Vec<GeneratedPicture>, DiffusionError> {
        if self.options.residency == Residency::OneAtATime {
            self.unet.release();
        }
        self.sampling().decode_all(sampled)
    }

    /// Decodes latents `[n, channels, h, w]` as the sampler has them; gives `[n, 3, 8 h, 8 w]` with
    /// values from 0 to 1, f32 on the CPU.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, DiffusionError> {
        let scaled = (latents.to_dtype(DType::F32)? / self.vae_config.scaling_factor)?;
        Ok(to_picture(&self.decode_scaled(&scaled)?)?.clamp(0f32, 1f32)?)
    }
}

impl Networks for StableDiffusion {
    fn unet_config(&self) -> &UNetConfig {
        &self.unet_config
    }

    fn vae_config(&self) -> &VaeConfig {
        &self.vae_config
    }

    fn compute(&self) -> (&Device, DType) {
        (&self.options.compute.device, self.options.compute.dtype)
    }

    fn prepare(&self, encoder_hidden_states: &Tensor) -> Result<Context, DiffusionError> {
        let context = self.unet()?.prepare(encoder_hidden_states)?;
        Ok(Context::KeysValues(context))
    }

    fn predict(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Context,
        shortcuts: Shortcuts<'_>,
    ) -> Result<Tensor, DiffusionError> {
        let unet = self.unet()?;
        let prepared;
        let context = match context {
            Context::KeysValues(context) => context,
            Context::HiddenStates(states) => {
                prepared = unet.prepare(states)?;
                &prepared
            }
        };
        Ok(unet.forward_with(sample, &[timestep], context, shortcuts)?)
    }

    fn decode_scaled(&self, latents: &Tensor) -> Result<Tensor, DiffusionError> {
        let Compute { device, dtype, .. } = &self.options.compute;
        let latents = latents.to_dtype(*dtype)?.to_device(device)?;
        Ok(self.vae()?.decode(&latents, self.options.vae_tiling)?)
    }
}

/// `[3, h, w]` from 0 to 1 to 8 bits, rounded as diffusers' `numpy_to_pil` does.
///
/// # Errors
/// When `values` is no f32 picture of three channels on the CPU.
pub fn to_rgb(values: &Tensor) -> Result<RgbImage, DiffusionError> {
    let (channels, height, width) = values.dims3()?;
    let values: Vec<f32> = values.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
    let bytes = values
        .iter()
        .map(|value| (value * 255.).round_ties_even() as u8);
    RgbImage::from_raw(width as u32, height as u32, bytes.collect()).ok_or_else(|| {
        DiffusionError::Request(format!(
            "expected a picture of 3 channels, found {channels}"
        ))
    })
}
