//! Training of the engines' models, on a CPU or a CUDA device.
//!
//! [`train`] is what matters: it drives a [`Task`] (batches, a loss, scores) over the parameters of
//! a [`ParamStore`] and leaves a folder with a checkpoint, a log and its curves. A model in training
//! is the very model that runs later: it is built from [`ParamStore::params`], where every trainable
//! parameter arrives as a tracked variable.
//!
//! Data flows like this: a `Task` makes batches ahead on a second thread; its loss is differentiated
//! by candle; [`AdamW`] updates the variables in place, which every model that was built from the
//! store sees at once; now and then all of it goes to disk as *one* file that is replaced in one
//! step. That is the design decision that the rest follows from: whatever moment the process is
//! killed at, the folder holds one whole checkpoint, and [`train`] goes on from it to the same
//! weights, bit for bit, that an unbroken run would have had (on the same number of threads). For
//! that a batch is a pure function of its step, and a log that ran ahead of the checkpoint is cut
//! back to it.
//!
//! The tasks ([`tasks`]) know engines, never datasets: what is in a batch is up to the caller.
#![deny(missing_docs)]

mod atomic;
mod checkpoint;
mod curves;
mod environment;
mod error;
mod export;
mod gradients;
mod init;
mod log;
mod optimizer;
mod progress;
mod rehearse;
mod settings;
mod store;
mod task;
pub mod tasks;
mod tokenizer;
mod trainer;

pub use environment::start_over_to_train;
pub use error::TrainError;
pub use export::{
    export_clip, export_clip_as, export_openai, export_projected_text_encoder, export_text_encoder,
};
pub use init::{Init, default_init};
pub use optimizer::{AdamW, AdamWSettings};
pub use rehearse::rehearse;
pub use settings::{Decay, Keep, Schedule, TrainSettings};
pub use store::ParamStore;
pub use task::{JointLoss, StepLoss, Task};
pub use tokenizer::TrainedTokenizer;
pub use trainer::{Summary, train};
