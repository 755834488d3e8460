//! Stable Diffusion 1.x by libtorch, behind negkit's own pipeline.
//!
//! [`TchStableDiffusion`] reads the same published files as
//! [`negkit_diffusion::StableDiffusion`] and computes UNet and autoencoder with the crate `diffusers`
//! (diffusers-rs) over `tch`. Text encoder, noise, schedulers and the sampling loop are negkit's, by the
//! trait [`Networks`]. So it is an independent check of the two networks that cost all the time, code
//! and kernels: the same seed must give the same picture. And it is an engine for those who have
//! libtorch. f32 on the CPU.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use negkit_diffusion::{OpenPipeline, PictureRequest, PipelineFiles, SamplingSettings};
//! use negkit_diffusion_tch::TchStableDiffusion;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = PipelineFiles::open("stable-diffusion-v1-4", &OpenPipeline::default())?;
//! let model = TchStableDiffusion::from_files(&files, None)?;
//! let request = PictureRequest {
//!     prompt: "a room with no chairs".into(),
//!     negative_prompt: String::new(),
//!     seed: 0,
//! };
//! let settings = SamplingSettings::default();
//! let made = model.generate(&[request], &settings, None, &mut |_| ControlFlow::Continue(()))?;
//! made[0].picture.save("room.png")?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod error;
mod weights;

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use diffusers::models::unet_2d::{BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig};
use diffusers::models::vae::{AutoEncoderKL, AutoEncoderKLConfig};
use negkit_diffusion::scheduler::SchedulerConfig;
use negkit_diffusion::unet::{DeepFeatures, DownBlockType, Shortcuts, UNetConfig, UpBlockType};
use negkit_diffusion::vae::VaeConfig;
use negkit_diffusion::{
    Context, DiffusionError, GeneratedPicture, Networks, PictureRequest, PipelineFiles, Sampling,
    SamplingSettings, StepProgress,
};
use negkit_nn::{Activation, Compute};
use negkit_text::{ClipTextEncoder, TextEncoder};

pub use error::TchEngineError;
use weights::{from_tch, load, to_tch};

/// Stable Diffusion 1.x whose networks libtorch computes, with any text encoder of the right width.
pub struct TchStableDiffusion {
    text: Arc<dyn TextEncoder>,
    unet: UNet2DConditionModel,
    unet_config: UNetConfig,
    vae: AutoEncoderKL,
    vae_config: VaeConfig,
    scheduler: SchedulerConfig,
}

impl TchStableDiffusion {
    /// Loads from published files. `text` takes the place of the text encoder that the model was
    /// published with.
    ///
    /// # Errors
    /// When diffusers-rs has no such model, the files do not fit each other, or the encoder's hidden
    /// size does not fit the UNet.
    pub fn from_files(
        files: &PipelineFiles,
        text: Option<Arc<dyn TextEncoder>>,
    ) -> Result<Self, TchEngineError> {
        let text = match text {
            Some(text) => text,
            None => Arc::new(
                ClipTextEncoder::from_files(files.text(), "the model's own", None, &Compute::cpu())
                    .map_err(DiffusionError::from)?,
            ),
        };
        let (unet_config, vae_config) = (files.unet_config().clone(), files.vae_config().clone());
        text.info()
            .require_hidden_size("the Stable Diffusion UNet", unet_config.cross_attention_dim)
            .map_err(DiffusionError::from)?;
        let config = unet_peer_config(&unet_config)?;
        let (channels, out) = (
            number(unet_config.in_channels),
            number(unet_config.out_channels),
        );
        let unet = load("the UNet", files.unet(), str::to_owned, |path| {
            UNet2DConditionModel::new(path, channels, out, config)
        })?;
        let config = vae_peer_config(&vae_config)?;
        let (channels, out) = (
            number(vae_config.in_channels),
            number(vae_config.out_channels),
        );
        let vae = load("the VAE", files.vae(), current_vae_name, |path| {
            AutoEncoderKL::new(path, channels, out, config)
        })?;
        Ok(Self {
            text,
            unet,
            unet_config,
            vae,
            vae_config,
            scheduler: files.scheduler().clone().for_stable_diffusion(),
        })
    }

    /// Makes the pictures: see [`negkit_diffusion::StableDiffusion::generate`].
    ///
    /// # Errors
    /// When the settings contradict themselves or the model, a picture is not finite, libtorch fails,
    /// or `on_step` ends the run.
    pub fn generate(
        &self,
        requests: &[PictureRequest],
        settings: &SamplingSettings,
        noise: Option<&Tensor>,
        on_step: &mut dyn FnMut(&StepProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<GeneratedPicture>, DiffusionError> {
        let sampling = Sampling {
            text: &*self.text,
            networks: self,
            scheduler: &self.scheduler,
        };
        sampling.generate(requests, settings, noise, on_step)
    }
}

impl Networks for TchStableDiffusion {
    fn unet_config(&self) -> &UNetConfig {
        &self.unet_config
    }

    fn vae_config(&self) -> &VaeConfig {
        &self.vae_config
    }

    fn compute(&self) -> (&Device, DType) {
        (&Device::Cpu, DType::F32)
    }

    fn predict(
        &self,
        sample: &Tensor,
        timestep: f64,
        context: &Context,
        shortcuts: Shortcuts<'_>,
    ) -> Result<Tensor, DiffusionError> {
        let Context::HiddenStates(encoder_hidden_states) = context else {
            return Err(DiffusionError::Request(
                "the libtorch engine takes the prompts' hidden states; this context was prepared by \
                 another engine"
                    .to_owned(),
            ));
        };
        if !matches!(shortcuts.deep, DeepFeatures::Compute) || shortcuts.merging.is_some() {
            return Err(DiffusionError::Request(
                "the libtorch engine computes every level of the UNet with all tokens: leave out \
                 deep cache and token merging"
                    .to_owned(),
            ));
        }
        // diffusers-rs doubles sizes on the way up, so what was halved must have been even.
        let multiple = 1 << self.unet_config.block_out_channels.len().saturating_sub(1);
        let (_, channels, height, width) = sample.dims4()?;
        let fits = channels == self.unet_config.in_channels
            && height.is_multiple_of(multiple)
            && width.is_multiple_of(multiple);
        if !fits {
            return Err(DiffusionError::Request(format!(
                "the libtorch engine's UNet takes {} channels and sides that are multiples of \
                 {multiple}; these latents are {channels} x {height} x {width}",
                self.unet_config.in_channels
            )));
        }
        let (sample, states) = (to_tch(sample)?, to_tch(encoder_hidden_states)?);
        let predicted = tch::no_grad(|| self.unet.forward(&sample, timestep, &states));
        Ok(from_tch(&predicted)?)
    }

    fn decode_scaled(&self, latents: &Tensor) -> Result<Tensor, DiffusionError> {
        let channels = latents.dims4()?.1;
        if channels != self.vae_config.latent_channels {
            return Err(DiffusionError::Request(format!(
                "the VAE takes {} channels, these latents have {channels}",
                self.vae_config.latent_channels
            )));
        }
        let latents = to_tch(latents)?;
        Ok(from_tch(&tch::no_grad(|| self.vae.decode(&latents)))?)
    }
}

/// A size as libtorch has it. Sizes of models are far below where this could fail.
fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// diffusers-rs has the autoencoder's attention under its old names.
fn current_vae_name(name: &str) -> String {
    const NAMES: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let named = NAMES.iter().find(|(old, _)| name.contains(old));
    named.map_or(name.to_owned(), |(old, new)| name.replace(old, new))
}

/// An error where diffusers-rs has not what the configuration asks for.
fn require(is: bool, what: &str) -> Result<(), TchEngineError> {
    match is {
        true => Ok(()),
        false => Err(TchEngineError::NotInDiffusersRs(what.to_owned())),
    }
}

fn unet_peer_config(config: &UNetConfig) -> Result<UNet2DConditionModelConfig, TchEngineError> {
    require(
        config.act_fn == Activation::Silu,
        "a UNet whose act_fn is not silu",
    )?;
    let attends = |i: usize| config.down_block_types.get(i) == Some(&DownBlockType::CrossAttn);
    let mirrored = config.up_block_types.iter().rev().enumerate();
    let same = |(i, kind): (usize, &UpBlockType)| attends(i) == (*kind == UpBlockType::CrossAttn);
    require(
        mirrored.map(same).all(|same| same),
        "a UNet whose way up does not mirror its way down",
    )?;
    // Its transformers norm in 32 groups, whatever they are told, and every middle block has one.
    require(
        config.norm_num_groups == 32,
        &format!(
            "transformers that norm in {} groups, only such of 32",
            config.norm_num_groups
        ),
    )?;
    let heads = config.heads();
    let channels = config.block_out_channels.iter().zip(&heads);
    let blocks = channels
        .enumerate()
        .map(|(i, (&channels, &heads))| BlockConfig {
            out_channels: number(channels),
            use_cross_attn: attends(i),
            // Here, too, this is the number of heads.
            attention_head_dim: number(heads),
        });
    Ok(UNet2DConditionModelConfig {
        center_input_sample: false,
        flip_sin_to_cos: config.flip_sin_to_cos,
        freq_shift: config.freq_shift,
        blocks: blocks.collect(),
        layers_per_block: number(config.layers_per_block),
        downsample_padding: number(config.downsample_padding),
        mid_block_scale_factor: 1.,
        norm_num_groups: number(config.norm_num_groups),
        norm_eps: config.norm_eps,
        cross_attention_dim: number(config.cross_attention_dim),
        sliced_attention_size: None,
        use_linear_projection: config.use_linear_projection,
    })
}

fn vae_peer_config(config: &VaeConfig) -> Result<AutoEncoderKLConfig, TchEngineError> {
    require(
        config.act_fn == Activation::Silu,
        "a VAE whose act_fn is not silu",
    )?;
    Ok(AutoEncoderKLConfig {
        block_out_channels: config
            .block_out_channels
            .iter()
            .map(|&c| number(c))
            .collect(),
        layers_per_block: number(config.layers_per_block),
        latent_channels: number(config.latent_channels),
        norm_num_groups: number(config.norm_num_groups),
    })
}
