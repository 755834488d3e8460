//! The text side of every engine: the [`TextEncoder`] trait, the CLIP tokenizer and the CLIP text
//! tower.
//!
//! [`TextEncoder`] is what matters: prompts in, hidden states and projections out. An engine knows
//! nothing else of its text encoder, so that any encoder of the right width can take the place of
//! the one that the engine was trained with. NegationCLIP is such an encoder; one of your own is
//! another.
//!
//! Data flows through [`ClipTextEncoder`] like this: [`tokenizer::ClipTokenizer`] makes rows of ids,
//! [`tower::ClipTextTower`] makes [`TextEncoding`]s of them, and [`ClipFiles`] is where the weights
//! come from, whichever of the published layouts and namings they have.
//!
//! ```no_run
//! use negkit_nn::Compute;
//! use negkit_text::{ClipTextEncoder, TextEncoder};
//!
//! # fn main() -> Result<(), negkit_text::TextError> {
//! let encoder = ClipTextEncoder::load("negationclip_ViT-L14.pth", &Compute::cpu())?;
//! let encoding = encoder.encode(&["a room with no chairs"])?;
//! assert_eq!(encoding.last_hidden_state.dims(), [1, 77, 768]);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod cached;
mod clip_encoder;
mod clip_files;
mod encoder;
mod error;
mod on_demand;
pub mod tokenizer;
pub mod tower;

pub use cached::CachedTextEncoder;
pub use clip_encoder::ClipTextEncoder;
pub use clip_files::ClipFiles;
pub use encoder::{EncoderInfo, Misfit, PromptTokens, TextEncoder, TextEncoding, WeightsSource};
pub use error::TextError;
pub use on_demand::OnDemandTextEncoder;
