//! Stable Diffusion 1.x: UNet, VAE, schedulers and the text-to-image pipeline.
//!
//! [`StableDiffusion`] is what matters: a UNet and an autoencoder from published files, with any
//! [`TextEncoder`](negkit_text::TextEncoder) of the UNet's width. A prompt's hidden states steer the
//! [`unet::UNet`] through the steps of a [`scheduler`], from [`noise`] that is PyTorch's to the bit,
//! to latents that the [`vae::Vae`] decodes. So a picture can be laid beside the one that diffusers
//! makes from the same seed, and beside the one of another text encoder from the same noise.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use negkit_diffusion::*;
//! use negkit_nn::Compute;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = PipelineFiles::open("stable-diffusion-v1-4", &OpenPipeline::default())?;
//! let options = PipelineOptions::new(Compute::cpu());
//! let model = StableDiffusion::from_files(&files, None, &options)?;
//! let request = PictureRequest {
//!     prompt: "a room with no chairs".into(),
//!     negative_prompt: String::new(),
//!     seed: 0,
//! };
//! let settings = SamplingSettings::default();
//! let made = model.generate(&[request], &settings, None, |_| ControlFlow::Continue(()))?;
//! made[0].picture.save("room.png")?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod error;
mod files;
pub mod noise;
mod pipeline;
mod prompts;
mod resnet;
mod sampling;
pub mod savings;
pub mod scheduler;
pub mod unet;
pub mod vae;

/// The diffusers whose files ours are compared with, for the files that are written.
pub(crate) const DIFFUSERS_VERSION: &str = "0.42.1";

pub use error::DiffusionError;
pub use files::{
    OpenPipeline, PipelineFiles, load_unet, load_vae, open_unet_folder, open_vae_folder,
};
pub use pipeline::{
    GeneratedPicture, PictureRequest, PipelineOptions, Residency, SamplingSettings,
    StableDiffusion, StepProgress, to_rgb,
};
pub use sampling::{Context, EncodedPrompts, Networks, SampledPicture, Sampling};
pub use savings::Savings;
