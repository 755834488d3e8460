//! The picture side of CLIP: vision tower, preprocessing, and image-text similarity.
//!
//! [`Clip`] is what matters: a vision tower and *any* text encoder of its projection. Pictures go
//! through the preprocessing that the model was published with (`preprocessor_config.json`),
//! [`ClipVisionTower`] makes hidden states and a projection of them, and [`Clip::similarity`]
//! compares the projection with that of prompts. CLIPSeg takes the hidden states of the same tower.
#![deny(missing_docs)]

mod error;
mod image_encoder;
mod similarity;
mod vision;

pub use error::ClipError;
pub use image_encoder::{ClipImageEncoder, logit_scale, vision_config};
pub use similarity::{Clip, cosines, l2_normalize};
pub use vision::{ClipVisionConfig, ClipVisionTower, VisionTowerOutput};
