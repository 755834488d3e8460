//! The CPU kernels that negkit's layers compute with.
//!
//! All unsafe code of the models' side of the project is in this crate, and every kernel here can be
//! run with any set of instructions that the machine has ([`Isa`]): inner loops are written once, over
//! pulp's vectors of whatever width, so that the code that is tested with one width is the code that
//! runs with another. `negkit-nn` decides which tensors come here; models never call this crate.
//!
//! - [`layer()`] and [`convolve`]: linear layers and convolutions with weights packed once ([`Weights`],
//!   [`Convolution`]), finished before the result leaves the cache; [`attend`], [`group_norm`] and
//!   [`layer_norm`]. These are for inference: values are f32 or bf16, channels are last (NHWC), and there
//!   are no gradients.
//! - [`training`]: fused f32 operations with gradients, on planes of channels (NCHW).
//! - [`CachingAllocator`]: large blocks of memory used again, for a program's `#[global_allocator]`.
//! - [`product`](Products): matrix products of f32 in any layout, exact or with factors in bf16.
#![deny(missing_docs)]

mod allocator;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attend;
mod convolution;
mod count;
#[cfg(feature = "cuda")]
mod cuda;
mod element;
mod isa;
mod layer;
mod memory;
mod multiply;
mod norm;
mod product;
#[cfg(test)]
mod tests;
mod threads;
pub mod training;
mod weights;
mod windows;
mod winograd;

pub use allocator::CachingAllocator;
pub use attend::{Heads, attend};
pub use convolution::{Convolution, Reach, convolve};
pub use count::operations;
#[cfg(feature = "cuda")]
pub use cuda::{attend_on_gpu, gpu_attends, suits_gpu};
pub use element::{Element, Stored};
pub use isa::{Isa, IsaError, VARIABLE};
pub use layer::{Finish, Function, Matrix, Rows, layer};
pub use norm::{Affine, group_norm, layer_norm};
pub use product::Products;
pub use threads::{ThreadsError, threads, use_threads, usual_threads};
pub use training::AttentionMask;
pub use weights::{Order, Precision, Weights};
pub use windows::{Sliding, Windows};
