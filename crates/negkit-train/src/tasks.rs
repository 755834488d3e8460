//! What can be trained: one [`Task`](crate::Task) for each kind of model.

mod classes;
pub mod contrastive;
pub mod detector;
pub mod diffusion;
mod draw;
pub(crate) mod export;
pub mod grounding;
pub mod pictures;
pub mod segmentation;
mod split;
pub mod vae;
pub mod vqa;
