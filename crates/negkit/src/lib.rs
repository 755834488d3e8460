//! Stable Diffusion and CLIPSeg behind one pluggable text encoder.
//!
//! CLIP does not understand "no". NegationCLIP fine-tunes CLIP's text encoder alone on captions that
//! say what is absent, so that it drops into every model which uses that encoder. negkit takes the
//! *published* files of CLIP, NegationCLIP, Stable Diffusion 1.x and CLIPSeg, swaps the text encoder,
//! and generates and segments.
//!
//! This crate is the facade: it re-exports the crates that do the work and adds what they do
//! together.
//!
//! - [`Models`] opens engines, encoders and [answerers](Models::answerer) from a name, a hub id, a
//!   folder or a file.
//! - [`txt2img`] makes the same pictures with several encoders, from the same noise, and saves them.
//! - [`segment`] marks the same phrases with several encoders, and saves that.
//! - [`mini`] finds the small models that lie in the repository, for when no model is named.
//! - [`encoders`] inspects a checkpoint and compares two encoders.
//!
//! [`TextEncoder`] is the trait that ties everything together; `examples/custom_encoder.rs`
//! implements it.
//!
//! ```no_run
//! use negkit::{Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let compute = Compute::open(DeviceChoice::Auto, DtypeChoice::Auto)?;
//! let models = Models::new(Hub::new(HubConfig::from_env())?, compute);
//! let encoder = models.text_encoder("negationclip", negkit::ClipSize::VitL14)?;
//! println!("{}, {} wide", encoder.info().name, encoder.info().hidden_size);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod answerers;
pub mod encoders;
mod error;
mod latents;
pub mod mini;
mod models;
pub mod segment;
pub mod txt2img;

pub use negkit_blip as blip;
pub use negkit_chat as chat;
pub use negkit_checkpoint as checkpoint;
pub use negkit_clip as clip;
pub use negkit_clipseg as clipseg;
pub use negkit_diffusion as diffusion;
pub use negkit_hub as hub;
pub use negkit_image as image;
pub use negkit_nn as nn;
pub use negkit_sbert as sbert;
pub use negkit_text as text;
pub use negkit_vqa as vqa;

pub use candle_core::Tensor;
pub use error::{Error, Result};
pub use models::{Models, is_own_encoder};
pub use negkit_hub::{ClipSize, Hub, HubConfig};
pub use negkit_nn::{AttentionBudget, CachingAllocator, Compute, DeviceChoice, DtypeChoice};
pub use negkit_sbert::SentenceEncoder;
pub use negkit_text::{CachedTextEncoder, EncoderInfo, TextEncoder, TextEncoding};
pub use negkit_vqa::QuestionAnswerer;
