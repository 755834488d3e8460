//! Fine-tuning of a published CLIP's text encoder on captions that say what is absent.
//!
//! [`fine_tune`] is what matters: a CLIP in any published layout, COCO caption files and a folder of
//! pictures go in; a folder of transformers and a state dict in OpenAI's naming come out, which drop
//! into whatever takes CLIP's text encoder. Without further settings it is the paper's recipe ("Know
//! 'No' Better", Park et al., 2025; `src/clip_finetune.py` of parkquasar/NegationCLIP).
//!
//! Data goes through in this order:
//!
//! ```text
//! caption files -> CaptionSet -> what the frozen picture tower makes of each picture (Features)
//!               -> split -> batches -> negkit-train -> files
//! ```
//!
//! The key decision is that **the picture tower runs once**. It is frozen, so its output for a picture
//! never changes; [`Features`] keeps it on disk under the hashes of tower and picture, and an epoch
//! costs only its texts. What is left, a whole batch's texts with their gradients, does not fit into
//! small memory at the paper's batch of 512; so a batch is run in chunks, twice, and the loss is still
//! that over the whole batch ([`TrainSettings::recompute`](negkit_train::TrainSettings::recompute)).
#![deny(missing_docs)]

mod anchors;
mod captions;
mod cost;
mod data;
mod error;
mod features;
mod order;
mod progress;
mod run;
mod settings;

pub use captions::{CaptionSet, Item, LeftOut, Reason, Wanted};
pub use cost::{Cost, CostOptions, measure_cost};
pub use error::FineTuneError;
pub use features::{FeatureCache, Features};
pub use run::{Job, Outcome, fine_tune};
pub use settings::{FineTuneSettings, Method, Precision, ScheduleKind, Split};
