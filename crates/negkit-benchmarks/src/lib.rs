//! What image-text similarity is measured on.
//!
//! [`Benchmark`] is what matters: a list of pictures, a list of texts, and how vectors of these become
//! right and wrong items. Who makes the vectors is not its business, so that a benchmark is tested with
//! made-up ones, and any encoder is measured on all of them.
//!
//! ```text
//! files -> Benchmark { pictures, texts }
//! pictures -> embed_pictures (ImageTower, EmbeddingCache) ┐
//! texts    -> embed_texts    (TextTower,  EmbeddingCache) ┴ Vectors -> Benchmark::score -> Measures
//! ```
//!
//! The key decision is that **the picture side and the text side never meet before the score**. Other
//! text encoders of one CLIP share its vision tower, and a vector is stored under the hash of the tower
//! that made it and of what it was made of: so the second encoder costs its texts alone, on the first
//! run and on every later one, whichever benchmark asks.
//!
//! What is a trap in these benchmarks is closed here once for all of them: the right answer comes first
//! in the files and `argmax` takes the first of equals, so ties, constant scores and numbers that are
//! none count as wrong ([`negkit_metrics::chosen`], [`negkit_metrics::rank_of_right`]); and
//! similarities are computed pair by pair ([`similarity`]), never by a matrix product whose rounding
//! depends on the place in the matrix, so that equal vectors are equally similar to the last bit.
#![deny(missing_docs)]

mod benchmark;
mod cache;
mod celeba;
mod choice;
mod coco;
mod embed;
mod error;
mod foils;
mod hash;
mod imagenet;
mod lists;
mod negbench;
mod negrefcocog;
mod retrieval;
mod tower;
mod valse;
mod vectors;

pub use benchmark::{Average, Benchmark, BenchmarkInfo, Content, Measure, Outcome, Reference};
pub use cache::{EmbeddingCache, EmbeddingStore};
pub use celeba::{AttributePrompts, CelebA};
pub use coco::CocoRetrieval;
pub use embed::{Embedded, EmbeddingTally, PictureProblem, embed_pictures, embed_texts};
pub use error::{BenchmarkError, Result};
pub use foils::CcNeg;
pub use hash::Hash;
pub use imagenet::{ImageNet, Prompts};
pub use lists::PictureInput;
pub use negbench::{NegBenchChoice, NegBenchRetrieval};
pub use negrefcocog::NegRefCocog;
pub use tower::{ImageTower, TextTower};
pub use valse::Valse;
pub use vectors::{Vectors, similarity};
