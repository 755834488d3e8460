//! How often captions hold a negation: the figures of the paper's Table 1 ("Know 'No' Better",
//! arXiv 2501.10913) for any caption file.
//!
//! A [`Survey`] reads files of captions ([`Format`] lists which), counts words and negations with a
//! [`WordList`], and returns a [`Report`]: the share of captions and of words with a negation, by
//! word, with intervals and examples.
//!
//! ```no_run
//! use negkit_stats::{Input, Survey, WordList, find};
//!
//! let survey = Survey::new(WordList::negations());
//! let files = find(&[Input::from("captions_train2014.json")])?;
//! let report = survey.run(&files, &|_bytes| {})?;
//! println!("{report}");
//! # Ok::<(), negkit_stats::StatsError>(())
//! ```
//!
//! The way of the data: a `source` cuts a file into chunks of about a megabyte, each ending with a
//! whole record, under a lock, with searches that run at memory speed; threads take chunks, parse
//! them and pass every caption to a [`Scanner`]. Nothing but sums, the examples and the first faults
//! is kept, so memory does not grow with the input. All sums are integers and examples are chosen by
//! the hash of their text, so the report is the same for any number of threads and any order of
//! files.
//!
//! Why an own scanner where a regular expression would do: it is what the time goes into. A caption
//! has ten words and nearly always no negation, so words are found 64 bytes at a time as bit masks,
//! and each is looked up by its first eight bytes as one integer. Captions that are not ASCII take
//! the slow way, character by character, which is also what the fast one is tested against.
//!
//! A *word* is a run of letters and digits (Unicode's Alphabetic and Numeric, with combining
//! diacritics that follow them); apostrophes between two of them join ("isn't" is one word, of
//! either kind of apostrophe), everything else separates ("t-shirt" is two words).
#![deny(missing_docs)]

mod counter;
mod error;
mod estimate;
mod examples;
mod faults;
mod input;
mod report;
mod scan;
mod source;
mod survey;
mod words;

pub use error::{StatsError, WordListError};
pub use estimate::{RatioSums, Share, ratio_share, wilson_share};
pub use examples::Example;
pub use faults::{Fault, Faults, Place};
pub use input::{Found, Input, find};
pub use report::{EntryReport, NamedExample, Report};
pub use scan::Scanner;
pub use source::Format;
pub use survey::Survey;
pub use words::WordList;
