//! Who writes negations into captions, and who looks whether an object is there.
//!
//! The traits are [`CaptionWriter`](negkit_captions::CaptionWriter) and
//! [`ObjectVerifier`](negkit_captions::ObjectVerifier); here are
//!
//! - [`ChatWriter`] and [`ChatVerifier`]: models behind an OpenAI-compatible endpoint, as the paper
//!   has them. What they are told stands in files ([`Prompts`]) that can be changed without building
//!   anything, and what they say is read without guessing ([`parse`]) and kept whole, in a
//!   [`Transcript`](negkit_captions::Transcript).
//! - [`RuleWriter`]: no model at all. It finds likely objects by counting which things captions name
//!   together, and writes by a handful of sentence patterns. It is for trying a pipeline out and for
//!   comparing against: its captions are plain, and all of one making.
#![deny(missing_docs)]

mod chat;
mod lexicon;
pub mod parse;
mod prompts;
mod rules;
mod statistics;

pub use chat::{ChatVerifier, ChatWriter};
pub use lexicon::{Entry, Kind, Lexicon, LexiconError};
pub use prompts::{Prompt, PromptError, Prompts, Step};
pub use rules::RuleWriter;
pub use statistics::Statistics;
