//! CLIPSeg: referring segmentation with a pluggable text encoder.
//!
//! [`ClipSeg`] is what matters. A picture is encoded once ([`ClipSeg::encode_picture`]), phrases (or
//! example pictures) become conditions, and [`ClipSeg::segment`] decodes a [`Segmentation`] for
//! every condition: logits, from which probabilities and masks at the picture's own size are made.
//! The decoder reads hidden states of the vision tower that no phrase changes, which is why the
//! costly half of the work is shared by all phrases on a picture.
//!
//! ```no_run
//! use negkit_clipseg::{ClipSeg, ClipSegFiles};
//! use negkit_nn::Compute;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = ClipSegFiles::open("clipseg-rd64-refined", None)?;
//! let model = ClipSeg::from_files(&files, None, &Compute::cpu())?;
//! let picture = negkit_image::open_rgb("street.jpg", &negkit_image::Limits::default())?;
//! let found = model.segment_phrases(&picture, &["the man without a hat"])?;
//! println!("{} pixels", found[0].mask(0.5)?.area());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod decoder;
mod error;
mod files;
mod pipeline;

pub use decoder::ClipSegConfig;
pub use error::ClipSegError;
pub use files::ClipSegFiles;
pub use pipeline::{ClipSeg, EncodedPicture, Segmentation, extract};
