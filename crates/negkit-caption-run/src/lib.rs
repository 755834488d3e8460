//! Runs of the caption pipelines over whole datasets.
//!
//! [`CaptionRun`] is what matters. Four hundred thousand captions, three requests each, take days and
//! money; so a run is a [`RunFolder`](negkit_run::RunFolder): every caption that is settled is a line on
//! the disk before it is counted, a kill loses nothing, shards are merged, and a caption whose service
//! failed is a dead letter that can be tried again.
//!
//! ```text
//! captions, questions -> Job: items -> Staff: writer, verifier -> CaptionRecord -> records.jsonl
//!                     captions.json, provenance.jsonl, rejected.jsonl, summary.json <- all records
//! ```
//!
//! The key decision is that a record holds everything that was said, not only what came of it. What is
//! kept, why something was rejected and what it all cost can be worked out anew from the records,
//! without asking anybody again; and the final files are computed from them in the order of the
//! captions, so that they have the same bytes however the run went.
#![deny(missing_docs)]

mod error;
mod finals;
mod job;
mod published;
mod record;
mod run;

pub use error::CaptionRunError;
pub use finals::{Cost, Summary};
pub use job::{Item, Job, Task, Vqa};
pub use negkit_run::{Many, RunError, Shard, WorkedMany};
pub use published::published_json;
pub use record::{CaptionRecord, Outcome, RejectedCaption};
pub use run::{CaptionRun, Crew, GateSettings, Outlook, Settings, Staff};
