//! Published weight files as named, memory-mapped tensors.
//!
//! The models of this project are described by their architecture alone; what they are made of comes
//! from files that others publish, in several formats and under several naming schemes. This crate is
//! the one place that knows both. [`Checkpoint`] is the type that matters: it opens a file, a set of
//! shards or a folder, and offers its tensors by name through
//! [`TensorSource`](negkit_nn::TensorSource), which is how a model takes them.
//!
//! Data flows in three steps:
//!
//! 1. **Read.** [`Checkpoint::open`] tells the format by the content (safetensors, PyTorch archives
//!    old and new, TorchScript, sharded indexes) and makes a [`TensorView`] of every tensor.
//! 2. **Rename.** [`naming`] turns the published naming schemes (OpenAI, open_clip, CompVis, old
//!    diffusers, original CLIPSeg) into the one that transformers and diffusers publish today, and
//!    that the models here ask for.
//! 3. **Load.** A model loads each tensor once, in the type and on the device that it wants.
//!
//! The way back is short: [`write_state_dict`] writes what `torch.save` writes, and
//! [`naming::clip::to_openai`] gives a CLIP the names that OpenAI's and NegationCLIP's files have.
//!
//! The key decision is that a [`TensorView`] is lazy and strided. Conversions between naming schemes
//! are not only renamings: they split fused projections, transpose matrices and drop dimensions. On
//! views all of that is arithmetic on shapes and strides, so a four-gigabyte checkpoint is converted
//! without copying a weight, and only the tensors that a model really uses are ever read from disk.
//!
//! Weight files are untrusted input. Pickles are interpreted by a small machine of our own that knows
//! the handful of functions which rebuild tensors and executes nothing (`torch/pickle.rs`); every size
//! in a file is checked before it is used. Where a list of hashes ([`Sums`]) lies beside weights, a
//! file that is not the listed one is refused.
//!
//! ```no_run
//! use negkit_checkpoint::{Checkpoint, naming};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open("negationclip_ViT-B32.pth")?;
//! println!("{}, {} tensors", checkpoint.format(), checkpoint.len());
//! let clip = naming::clip::to_transformers(&checkpoint)?;
//! assert!(clip.get("text_model.final_layer_norm.weight").is_some());
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod checkpoint;
mod element;
mod error;
mod folder;
pub mod naming;
mod safetensors;
mod source;
mod sums;
mod torch;
mod view;

pub use checkpoint::{Checkpoint, Format, OpenOptions};
pub use element::ElementType;
pub use error::{CheckpointError, PickleError};
pub use source::SourceFile;
pub use sums::{SUMS_FILE, Sums, SumsError};
pub use torch::{WriteError, write_state_dict};
pub use view::{TensorView, ViewError};
