//! Sentence embeddings: texts in, vectors whose cosine says how alike the texts are.
//!
//! "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks" (Reimers and Gurevych, 2019).
//! [`SentenceEncoder`] is what matters. It reads a folder as `sentence-transformers` publishes it
//! (`all-mpnet-base-v2`, `all-MiniLM-L6-v2`): the tokens of a text go through a [`Transformer`],
//! their last hidden states are averaged, and the average is scaled to length one.
//!
//! Which steps there are, and after how many tokens a text is cut, is decided by the files of the
//! folder and never guessed: a step that is not known is refused, because an embedding without it
//! would be a vector of another space that looks just as good.
//!
//! ```no_run
//! use negkit_nn::Compute;
//! use negkit_sbert::SentenceEncoder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sbert = SentenceEncoder::load("all-MiniLM-L6-v2", &Compute::cpu())?;
//! let nearest = sbert.nearest("a bicycle", &["car", "bike", "dog"])?;
//! assert_eq!(nearest.index, 1);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod encoder;
mod error;
mod layout;
mod transformer;

pub use encoder::{Nearest, SentenceEncoder};
pub use error::SbertError;
pub use transformer::{Architecture, Transformer, TransformerConfig};
