//! Runs that end in the paper's tables.
//!
//! [`RunFolder`] is what matters. A table is thousands of pictures or phrases, each the same work, and
//! takes hours: so a run is a list of items with stable keys ([`Plan`]), the work on one item gives
//! one record, and records are all that the results are made of.
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
#![deny(missing_docs)]

mod error;
mod lock;
mod merge;
mod plan;
mod progress;
mod records;
mod run;
mod shard;
pub mod table4;
pub mod table5;

pub use error::{Change, EvalError, Result};
pub use merge::merge;
pub use plan::Plan;
pub use run::{Finals, Outlook, RunFolder, Worked};
pub use shard::Shard;
