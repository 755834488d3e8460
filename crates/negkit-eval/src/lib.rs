//! Runs that end in the paper's tables.
//!
//! A table is thousands of pictures or phrases, each the same work, and takes hours: so it is a
//! [`RunFolder`], which can be killed at any moment and shared among machines. [`table4`] and
//! [`table5`] say what is done for an item, and make the table of all records.
//!
//! [`score`] is for those who have answers, detections or masks already, of whatever origin: the same
//! scorers over files.
#![deny(missing_docs)]

mod agreement;
mod choice;
mod csv_field;
mod error;
mod folder;
pub mod measuring;
mod paper;
pub mod score;
pub mod table2;
pub mod table3;
pub mod table4;
pub mod table5;
mod used;

pub use error::{EvalError, Result};
pub use folder::PaperFolder;
pub use negkit_run::{Change, Finals, Outlook, Plan, RunError, RunFolder, Shard, Worked, merge};
pub use used::{ComputeUsed, ModelUsed};
