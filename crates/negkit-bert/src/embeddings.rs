//! From token ids to the first hidden states.

use candle_core::{Result, Tensor};
use negkit_nn::{Embedding, LayerNorm, Params};

/// Sizes of the embeddings.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingSizes {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Kinds of segment; 0 in models without them.
    pub type_vocab_size: usize,
    /// Row of the first token's position: 0, or the padding id + 1 in models that come from fairseq
    /// (MPNet).
    pub first_position: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Epsilon of the layer norm.
    pub layer_norm_eps: f64,
}

/// `LayerNorm(word + position + segment)`; every token is of the first segment.
#[derive(Debug, Clone)]
pub struct BertEmbeddings {
    word: Embedding,
    /// `[positions, hidden]`, the first segment's vector added.
    positions: Tensor,
    norm: LayerNorm,
}

impl BertEmbeddings {
    /// Reads `word_embeddings`, `position_embeddings`, `LayerNorm` and, where there are segments,
    /// `token_type_embeddings`.
    ///
    /// # Errors
    /// When there are no positions, or the device fails.
    pub fn load(params: &Params, sizes: EmbeddingSizes) -> Result<Self> {
        let EmbeddingSizes {
            max_position_embeddings: rows,
            first_position: first,
            hidden_size: hidden,
            ..
        } = sizes;
        if rows <= first {
            candle_core::bail!(
                "BERT embeddings: {rows} positions of which {first} are reserved leave none for a \
                 token; check max_position_embeddings in config.json"
            )
        }
        let table = params.get((rows, hidden), "position_embeddings.weight")?;
        let mut positions = table.narrow(0, first, rows - first)?;
        if sizes.type_vocab_size > 0 {
            let kinds = (sizes.type_vocab_size, hidden);
            let segments = params.get(kinds, "token_type_embeddings.weight")?;
            positions = positions.broadcast_add(&segments.narrow(0, 0, 1)?)?;
        }
        Ok(Self {
            word: Embedding::load(&params.pp("word_embeddings"), sizes.vocab_size, hidden)?,
            positions,
            norm: LayerNorm::load(&params.pp("LayerNorm"), hidden, sizes.layer_norm_eps)?,
        })
    }

    /// Most tokens that a row can have.
    pub fn positions(&self) -> usize {
        self.positions.dims().first().copied().unwrap_or_default()
    }

    /// The word embedding, `[vocab, hidden]`.
    pub fn word_table(&self) -> &Tensor {
        self.word.table()
    }

    /// `ids` `[batch, length]` of u32, the first of each row at position `start`, to
    /// `[batch, length, hidden]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the row ends behind the last position.
    pub fn forward(&self, ids: &Tensor, start: usize) -> Result<Tensor> {
        let length = ids.dim(1)?;
        if start + length > self.positions() {
            candle_core::bail!(
                "BERT embeddings: {} tokens, but the model has {} positions; shorten the text",
                start + length,
                self.positions()
            )
        }
        let positions = self.positions.narrow(0, start, length)?;
        self.norm
            .forward(&self.word.forward(ids)?.broadcast_add(&positions)?)
    }
}
