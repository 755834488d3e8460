//! The command as a user runs it: the real binary, on tiny models with random weights, without a
//! network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod captions;
#[cfg(feature = "onnx")]
mod captions_detector;
mod captions_stats;
mod damage;
mod data;
mod encoders;
mod estimate;
mod eval;
mod interface;
mod mini;
mod score;
mod segment;
mod small;
mod train;
mod txt2img;
mod world;
