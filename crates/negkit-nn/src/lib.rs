//! The layers that the models are made of, over candle tensors.
//!
//! A model is built from [`Params`], which hands out named tensors and reports everything that does
//! not fit at once, and is a tree of the layers of this crate: [`Linear`], [`Conv2d`],
//! [`GroupNorm`], [`LayerNorm`], [`Embedding`], [`attention()`] and the [`Activation`]s. Models never
//! call candle's own operations for these. That keeps one seam, the module [`ops`], where a faster
//! kernel replaces a composition of candle operations for every model at once.
//!
//! Every operation works for inference and for training. On a CPU it is a kernel of `negkit-kernels`: in
//! training one in f32 with a gradient of its own ([`Products`] says whether it may round the factors of
//! products to bf16), in inference one in f32 or bf16 with weights that were packed when the layer was
//! loaded and with channels last in memory. Elsewhere it is a composition of candle's operations.
//! Half-precision products on a CPU are summed in f32 and rounded once, as PyTorch does.
#![deny(missing_docs)]

mod activation;
mod attention;
mod config;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod fused;
mod layers;
mod on_demand;
pub mod ops;
mod packed;
mod params;
mod resample;

pub use activation::Activation;
pub use attention::{
    AttentionBudget, KeysValues, MultiHeadAttention, attention, attention_with_bias,
};
pub use config::{ConfigError, read_config};
#[cfg(feature = "cuda")]
pub use cuda::{UnknownAttention, VARIABLE as CUDA_ATTENTION_VARIABLE};
pub use device::{Compute, DeviceChoice, DeviceError, DtypeChoice};
pub use layers::{
    Conv2d, ConvOptions, ConvTranspose2d, Embedding, FeedForward, GroupNorm, LayerNorm, Linear,
};
pub use negkit_kernels::{
    AttentionMask, CachingAllocator, Isa, IsaError, Products, ThreadsError, operations, threads,
    use_threads, usual_threads,
};
pub use on_demand::OnDemand;
pub use params::{
    Ignored, ParamProblem, Params, ParamsError, StoredValues, TensorFactory, TensorSource,
};
pub use resample::{resize_bicubic, resize_bilinear, upsample_nearest};
