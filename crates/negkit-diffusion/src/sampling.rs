//! From noise to pictures, whoever computes the two networks.
//!
//! [`Sampling`] is the text-to-image loop of diffusers' `StableDiffusionPipeline`: prompts are encoded,
//! a scheduler walks from noise to latents, guidance weighs the prompt against the negative prompt.
//! What it needs of a UNet and an autoencoder is the trait [`Networks`]; [`crate::StableDiffusion`] has
//! it, and another engine that implements it gets every scheduler, seed and text encoder with it.

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use negkit_text::TextEncoder;

use crate::DiffusionError;
use crate::noise::{NoiseSource, TorchGenerator};
use crate::pipeline::{GeneratedPicture, PictureRequest, SamplingSettings, StepProgress, to_rgb};
use crate::prompts::{BatchPrompts, Prompts};
use crate::savings::DeepReuse;
use crate::scheduler::{SamplingOptions, SchedulerConfig, SchedulerKind};
use crate::unet::{Shortcuts, UNetConfig, UNetContext};
use crate::vae::VaeConfig;

/// The prompts' hidden states, or what an engine computes of them once for all steps.
#[derive(Debug, Clone)]
pub enum Context {
    /// As they are, `[n, length, cross_attention_dim]`.
    HiddenStates(Tensor),
    /// Keys and values of [`UNet`](crate::unet::UNet)'s cross-attentions.
    KeysValues(UNetContext),
}

/// The UNet and the autoencoder of a Stable Diffusion.
pub trait Networks {
    /// Configuration of the UNet.
    fn unet_config(&self) -> &UNetConfig;

    /// Configuration of the autoencoder.
    fn vae_config(&self) -> &VaeConfig;

    /// Device and number type in which [`Networks::predict`] is given its tensors.
    fn compute(&self) -> (&Device, DType);

    /// What every step needs of `encoder_hidden_states` `[n, length, cross_attention_dim]`.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    fn prepare(&self, encoder_hidden_states: &Tensor) -> Result<Context, DiffusionError> {
        Ok(Context::HiddenStates(encoder_hidden_states.clone()))
    }

    /// The UNet's prediction for `sample` `[n, channels, h, w]` at one time step, with a context of as
    /// many samples that [`Networks::prepare`] made; gives the shape of `sample`.
    ///
    /// # Errors
    /// When shapes do not fit, the context is another engine's, the engine has not the shortcut that is
    /// asked for, or the device fails.
    fn predict(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Context,
        shortcuts: Shortcuts<'_>,
    ) -> Result<Tensor, DiffusionError>;

    /// Decodes `latents` `[n, channels, h, w]`, already divided by the scaling factor, to
    /// `[n, 3, 8 h, 8 w]`, about -1 to 1, in any type on any device.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    fn decode_scaled(&self, latents: &Tensor) -> Result<Tensor, DiffusionError>;
}

/// A text encoder, two networks and a scheduler, ready to make pictures.
pub struct Sampling<'a> {
    /// Whose hidden states steer the UNet.
    pub text: &'a dyn TextEncoder,
    /// UNet and autoencoder.
    pub networks: &'a dyn Networks,
    /// The scheduler that the model was published with.
    pub scheduler: &'a SchedulerConfig,
}

/// The texts of a run, encoded, before its pictures are sampled.
pub struct EncodedPrompts<'a> {
    requests: &'a [PictureRequest],
    settings: &'a SamplingSettings,
    prompts: Prompts<'a>,
}

/// A picture that is sampled and not decoded yet.
#[derive(Debug, Clone)]
pub struct SampledPicture {
    request: PictureRequest,
    /// `[1, channels, height / 8, width / 8]`, f32.
    latents: Tensor,
    truncated: Option<String>,
}

impl Sampling<'_> {
    /// Makes the pictures, batch by batch: see [`crate::StableDiffusion::generate`].
    ///
    /// # Errors
    /// When the settings contradict themselves or the model, a picture is not finite, the device
    /// fails, or `on_step` ends the run.
    pub fn generate(
        &self,
        requests: &[PictureRequest],
        settings: &SamplingSettings,
        noise: Option<&Tensor>,
        on_step: &mut dyn FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<GeneratedPicture>, DiffusionError> {
        self.check(requests, settings, noise)?;
        let mut prompts = Prompts::new(requests, guided(settings));
        let mut finished = Vec::with_capacity(requests.len());
        for batch in Batch::all(requests, settings) {
            let encoded = prompts.encode(batch.requests, self.text)?;
            let sampled = self.sample_batch(batch, encoded, settings, noise, on_step)?;
            finished.extend(self.decode_all(sampled)?);
        }
        Ok(finished)
    }

    /// The first of three parts of [`Sampling::generate`] that need a network each: the text encoder's.
    ///
    /// # Errors
    /// When the settings contradict themselves or the model, or the encoder or the device fails.
    pub fn encode<'a>(
        &self,
        requests: &'a [PictureRequest],
        settings: &'a SamplingSettings,
    ) -> Result<EncodedPrompts<'a>, DiffusionError> {
        self.check(requests, settings, None)?;
        let mut prompts = Prompts::new(requests, guided(settings));
        prompts.encode_all(requests, self.text)?;
        Ok(EncodedPrompts {
            requests,
            settings,
            prompts,
        })
    }

    /// The second part, the UNet's.
    ///
    /// # Errors
    /// When `noise` has another shape than the pictures need, the device fails, or `on_step` ends the
    /// run.
    pub fn sample(
        &self,
        encoded: &EncodedPrompts<'_>,
        noise: Option<&Tensor>,
        on_step: &mut dyn FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<SampledPicture>, DiffusionError> {
        let EncodedPrompts {
            requests,
            settings,
            prompts,
        } = encoded;
        self.check(requests, settings, noise)?;
        let mut sampled = Vec::with_capacity(requests.len());
        for batch in Batch::all(requests, settings) {
            let encoded = prompts.batch(batch.requests)?;
            sampled.extend(self.sample_batch(batch, encoded, settings, noise, on_step)?);
        }
        Ok(sampled)
    }

    /// The third part, the autoencoder's.
    ///
    /// # Errors
    /// When a picture is not finite, or the device fails.
    pub fn decode_all(
        &self,
        sampled: Vec<SampledPicture>,
    ) -> Result<Vec<GeneratedPicture>, DiffusionError> {
        // One at a time: the decoder's feature maps are the largest of the whole run.
        sampled.into_iter().map(|one| self.finish(one)).collect()
    }

    fn check(
        &self,
        requests: &[PictureRequest],
        settings: &SamplingSettings,
        noise: Option<&Tensor>,
    ) -> Result<(), DiffusionError> {
        let shape = latent_shape(self.networks, settings, requests.len())?;
        if let Some(noise) = noise
            && noise.dims() != shape
        {
            return Err(DiffusionError::Request(format!(
                "the starting latents have shape {:?}, these pictures need {shape:?}",
                noise.dims()
            )));
        }
        if !settings.guidance_scale.is_finite() {
            return Err(DiffusionError::Request(format!(
                "guidance scale {}: expected a finite number",
                settings.guidance_scale
            )));
        }
        if settings.batch_size == 0 {
            return Err(DiffusionError::Request(
                "batch size 0: expected at least 1".to_owned(),
            ));
        }
        Ok(())
    }

    fn sample_batch(
        &self,
        Batch {
            first: first_picture,
            requests: batch,
        }: Batch<'_>,
        prompts: BatchPrompts,
        settings: &SamplingSettings,
        noise: Option<&Tensor>,
        on_step: &mut dyn FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<SampledPicture>, DiffusionError> {
        let (device, dtype) = self.networks.compute();
        let guided = guided(settings);
        let context = prompts.hidden_states.to_dtype(dtype)?.to_device(device)?;
        let kind = scheduler_kind(self.scheduler, settings)?;
        let sampling = SamplingOptions::steps(settings.steps).with_eta(settings.eta);
        let mut scheduler = self.scheduler.build(kind, &sampling)?;
        let mut source = generators(batch);
        let shape = latent_shape(self.networks, settings, batch.len())?;
        let start = match noise {
            Some(noise) => {
                let own = noise.narrow(0, first_picture, batch.len())?;
                own.to_dtype(DType::F32)?
            }
            None => source.randn(&shape, DType::F32, &Device::Cpu)?,
        };
        let mut latents = (start.to_device(device)? * scheduler.init_noise_sigma())?;
        let timesteps = scheduler.timesteps().to_vec();
        let savings = &settings.savings;
        let mut deep = DeepReuse::new(savings.deep_cache);
        let both = self.networks.prepare(&context)?;
        // The prompts' half alone, for steps without guidance.
        let steps_guide = |step| guided && savings.guides(step, timesteps.len());
        let alone = match guided && !(0..timesteps.len()).all(steps_guide) {
            true => {
                let alone = context.narrow(0, batch.len(), batch.len())?;
                self.networks.prepare(&alone)?
            }
            false => both.clone(),
        };
        for (step, &timestep) in timesteps.iter().enumerate() {
            let input = scheduler
                .scale_model_input(&latents, step)?
                .to_dtype(dtype)?;
            let guides = steps_guide(step);
            let (input, context) = match guides {
                true => (Tensor::cat(&[&input, &input], 0)?, &both),
                false => (input, &alone),
            };
            let shortcuts = Shortcuts {
                deep: deep.at(step, input.dim(0)?),
                merging: savings.token_merging,
            };
            let output = self
                .networks
                .predict(&input, timestep, context, shortcuts)?;
            let output = output.to_dtype(DType::F32)?;
            let output = if guides {
                let negative = output.narrow(0, 0, batch.len())?;
                let positive = output.narrow(0, batch.len(), batch.len())?;
                (&negative + ((positive - &negative)? * settings.guidance_scale)?)?
            } else {
                output
            };
            latents = scheduler.step(&output, step, &latents, &mut source)?;
            let progress = StepProgress {
                step: step + 1,
                steps: timesteps.len(),
                first_picture,
                pictures: batch.len(),
                latents: &latents,
            };
            if on_step(&progress).is_break() {
                return Err(DiffusionError::Cancelled {
                    step: step + 1,
                    steps: timesteps.len(),
                });
            }
        }
        let own = batch.iter().enumerate().zip(prompts.removed);
        own.map(|((i, request), truncated)| {
            Ok(SampledPicture {
                request: request.clone(),
                latents: latents.narrow(0, i, 1)?,
                truncated,
            })
        })
        .collect()
    }

    fn finish(&self, sampled: SampledPicture) -> Result<GeneratedPicture, DiffusionError> {
        let SampledPicture {
            request,
            latents,
            truncated,
        } = sampled;
        let values = self.decode(&latents)?.squeeze(0)?;
        // Clamping would turn a NaN into black or white.
        if !values.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(DiffusionError::NotFinite {
                seed: request.seed,
                dtype: self.networks.compute().1,
            });
        }
        let values = values.clamp(0f32, 1f32)?;
        Ok(GeneratedPicture {
            request,
            picture: to_rgb(&values)?,
            values,
            latents: latents.squeeze(0)?.to_device(&Device::Cpu)?,
            truncated,
        })
    }

    /// Latents as the sampler has them to `[n, 3, 8 h, 8 w]`, not yet clamped to 0 to 1.
    fn decode(&self, latents: &Tensor) -> Result<Tensor, DiffusionError> {
        let scaling_factor = self.networks.vae_config().scaling_factor;
        let scaled = (latents.to_dtype(DType::F32)? / scaling_factor)?;
        to_picture(&self.networks.decode_scaled(&scaled)?)
    }
}

/// Requests whose pictures are made at a time.
#[derive(Clone, Copy)]
struct Batch<'a> {
    /// Index of the first among all of the run.
    first: usize,
    requests: &'a [PictureRequest],
}

impl<'a> Batch<'a> {
    /// All batches of a run; the size is not 0.
    fn all(
        requests: &'a [PictureRequest],
        settings: &SamplingSettings,
    ) -> impl Iterator<Item = Self> + use<'a> {
        let size = settings.batch_size;
        let batches = requests.chunks(size).enumerate();
        batches.map(move |(i, requests)| Self {
            first: i * size,
            requests,
        })
    }
}

/// Whether there is an unconditional half at all.
fn guided(settings: &SamplingSettings) -> bool {
    settings.guidance_scale > 1.
}

/// What an autoencoder gives, -1 to 1, as samples about 0 to 1, f32 on the CPU.
pub(crate) fn to_picture(decoded: &Tensor) -> Result<Tensor, DiffusionError> {
    let values = decoded.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    Ok(values.affine(0.5, 0.5)?)
}

/// The scheduler that runs with `settings`.
pub(crate) fn scheduler_kind(
    own: &SchedulerConfig,
    settings: &SamplingSettings,
) -> Result<SchedulerKind, DiffusionError> {
    match settings.scheduler {
        Some(kind) => Ok(kind),
        None => Ok(own.kind()?),
    }
}

/// `[pictures, channels, height / 8, width / 8]`.
pub(crate) fn latent_shape(
    networks: &dyn Networks,
    settings: &SamplingSettings,
    pictures: usize,
) -> Result<[usize; 4], DiffusionError> {
    let scale = networks.vae_config().scale();
    let SamplingSettings { width, height, .. } = *settings;
    if width == 0 || height == 0 || !width.is_multiple_of(scale) || !height.is_multiple_of(scale) {
        return Err(DiffusionError::Request(format!(
            "a picture of {width} x {height} pixels cannot be made: both sides must be positive \
             multiples of {scale}"
        )));
    }
    let channels = networks.unet_config().in_channels;
    Ok([pictures, channels, height / scale, width / scale])
}

/// One generator a picture, so that a picture does not depend on its batch.
pub(crate) fn generators(requests: &[PictureRequest]) -> Vec<TorchGenerator> {
    let seeds: Vec<u64> = requests.iter().map(|request| request.seed).collect();
    TorchGenerator::per_picture(&seeds)
}
