//! The layers that the models are made of, over candle tensors.
//!
//! A model is built from [`Params`], which hands out named tensors and reports everything that does
//! not fit at once, and is a tree of the layers of this crate: [`Linear`], [`Conv2d`],
//! [`GroupNorm`], [`LayerNorm`], [`Embedding`], [`attention()`] and the [`Activation`]s. Models never
//! call candle's own operations for these. That keeps one seam, the module [`ops`], where a faster
//! kernel replaces a composition of candle operations for every model at once.
//!
//! Every operation works for inference and for training. On a CPU in f32 it is a fused kernel with a
//! gradient of its own, and [`Products`] says whether training may round the factors of products to
//! bf16; elsewhere it is a composition of candle's operations. Half-precision products on a CPU are
//! computed in f32 and rounded once, as PyTorch does.
#![deny(missing_docs)]

mod activation;
mod attention;
mod config;
mod device;
mod kernels;
mod layers;
pub mod ops;
mod params;
mod product;
mod resample;

pub use activation::Activation;
pub use attention::{
    AttentionBudget, AttentionMask, MultiHeadAttention, attention, attention_with_bias,
};
pub use config::{ConfigError, read_config};
pub use device::{Compute, DeviceChoice, DeviceError, DtypeChoice};
pub use layers::{
    Conv2d, ConvOptions, ConvTranspose2d, Embedding, FeedForward, GroupNorm, LayerNorm, Linear,
};
pub use params::{Ignored, ParamProblem, Params, ParamsError, TensorFactory, TensorSource};
pub use product::Products;
pub use resample::{resize_bicubic, resize_bilinear, upsample_nearest};
