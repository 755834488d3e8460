//! The recipe of the small models: from a world of drawn scenes to weights and what they can do.
//!
//! Every model is made by a *stage* that works in a folder of a [`Workshop`] and is done once:
//! pictures, vocabulary, the stock CLIP ([`train`]), autoencoder, latents and UNet ([`paint`]). The
//! stages only join parts: the scenes and their language are `negkit-world`'s, the trainings
//! `negkit-train`'s, and what is trained is the engines' own models. All numbers that decide a
//! result stand in [`recipe`].
#![deny(missing_docs)]

pub mod ask;
pub mod detect;
mod error;
pub mod export;
pub mod gallery;
pub mod negation;
pub mod paint;
mod progress;
pub mod recipe;
pub mod scores;
pub mod segment;
mod stage;
pub mod texts;
pub mod train;

pub use error::MiniError;
pub use stage::{Done, Workshop};
