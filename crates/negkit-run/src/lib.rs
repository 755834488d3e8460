//! Long runs over many items, each the same work.
//!
//! [`RunFolder`] is what matters: a run is a list of items with stable keys ([`Plan`]), the work on
//! one item gives one record, and records are all that the results are made of.
//!
//! ```text
//! settings, items -> Plan -> RunFolder::work: item -> record -> records.jsonl
//!                                      all records -> Finals: summary.json, summary.csv, table.md
//! ```
//!
//! The key decision is that **nothing but the records survives a start**. A run that is killed, and
//! one that a full disk ends, goes on behind its last whole record; shards write records of their own
//! and [`merge`] puts them together; and the final files are computed from the records in the order of
//! the items, without a clock or a machine's name. So they have the same bytes however the run went,
//! and that is tested by killing one.
//!
//! Work that waits for services rather than for this machine goes through [`RunFolder::work_many`]: as
//! many items at a time as one likes, and an item that fails is kept as a dead letter, with its
//! reason, for a later start to try again.
#![deny(missing_docs)]

mod error;
mod index;
mod lock;
mod many;
mod merge;
mod plan;
mod progress;
mod records;
mod run;
mod shard;
mod sources;

pub use error::{Change, Result, RunError};
pub use many::{Many, Settled, SettledItems, WorkedMany};
pub use merge::merge;
pub use plan::Plan;
pub use run::{Finals, Outlook, RunFolder, Worked};
pub use shard::Shard;
