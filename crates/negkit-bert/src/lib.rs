//! BERT's layers, and the tokenizer in front of them.
//!
//! "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (Devlin et al.,
//! 2018). MiniLM is BERT, MPNet is BERT with relative positions, and both text models of BLIP are
//! BERT with cross-attention to a picture or a question. They differ in what stands around the same
//! layer, [`BertLayer`], which is the type that matters here.
//!
//! Data flows from texts through [`BertTokenizer`] into a [`PaddedIds`], from there through
//! [`BertEmbeddings`] and a stack of layers. Rows of a batch have different lengths; the shorter
//! ones are padded and [`PaddedIds::hidden_keys`] hides the padding from every query, so that a batch
//! gives what its rows give alone.
//!
//! The key decision is that attention takes its keys and values as a value of its own,
//! [`KeysValues`]: those of a picture are made once for all questions about it, and those of an
//! answer's first words once for all words that follow.
#![deny(missing_docs)]

mod attention;
mod embeddings;
mod layer;
mod padded;
mod tokenizer;

pub use attention::{BertAttention, KeysValues, ProjectionNames};
pub use embeddings::{BertEmbeddings, EmbeddingSizes};
pub use layer::{BertLayer, LayerSizes};
pub use padded::PaddedIds;
pub use tokenizer::{BertTokenizer, TokenizerError, Tokens};
