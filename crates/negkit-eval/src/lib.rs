//! Runs that end in the paper's tables.
//!
//! A table is thousands of pictures or phrases, each the same work, and takes hours: so it is a
//! [`RunFolder`], which can be killed at any moment and shared among machines. [`table4`] and
//! [`table5`] say what is done for an item, and make the table of all records.
#![deny(missing_docs)]

mod error;
pub mod table4;
pub mod table5;

pub use error::{EvalError, Result};
pub use negkit_run::{Change, Finals, Outlook, Plan, RunError, RunFolder, Shard, Worked, merge};
