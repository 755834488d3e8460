//! The recipe of the small models: from a world of drawn scenes to weights and what they can do.
//!
//! Every model is made by a *stage* that works in a folder of a [`Workshop`] and is done once. In
//! order: pictures, vocabulary and the stock CLIP ([`train`]); captions with negations and the text
//! encoders that are fine-tuned on them ([`negation`]); autoencoder, latents and UNet ([`paint`]);
//! the decoder that marks phrases ([`segment`]); the answerer of questions ([`ask`]) and the
//! detector that checks it ([`detect`]). [`export`](mod@export) then makes `weights/mini` of what
//! the stages left, and [`restore`](mod@restore) goes the other way. The stages only join parts: the scenes and their language are `negkit-world`'s,
//! the trainings `negkit-train`'s, and what is trained is the engines' own models. All numbers that
//! decide a result stand in [`recipe`].
//!
//! Stages know each other by digest, not by date: a stage says from which settings and which earlier
//! stages it was made, and one that would come out differently today is refused instead of being
//! made anew or, worse, used. That is what lets a run of hours be killed, looked into and gone on
//! with, and the numbers in a card be those of the weights beside it.
#![deny(missing_docs)]

pub mod ask;
mod autoencoder;
pub mod detect;
mod error;
pub mod export;
pub mod gallery;
pub mod negation;
pub mod paint;
mod progress;
pub mod quality;
pub mod recipe;
pub mod restore;
pub mod scores;
pub mod segment;
mod stage;
pub mod texts;
pub mod train;

pub use error::MiniError;
pub use stage::{Done, Workshop};
