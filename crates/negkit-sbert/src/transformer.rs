//! BERT and MPNet: from token ids to hidden states.
//!
//! "MPNet: Masked and Permuted Pre-training for Language Understanding" (Song et al., 2020) is BERT
//! without segments, and with a bias on every attention score that depends on how far key and query
//! are apart (T5's buckets). Reference: `BertModel` and `MPNetModel` of transformers.

use candle_core::{Result, Tensor};
use negkit_bert::{
    BertEmbeddings, BertLayer, EmbeddingSizes, LayerSizes, PaddedIds, ProjectionNames,
};
use negkit_nn::{Activation, ConfigError, Embedding, Params};
use serde::{Deserialize, Serialize};

/// `config.json` of a transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Which one it is.
    pub model_type: Architecture,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Epsilon of the layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Kinds of segment (BERT).
    #[serde(default = "default_segments")]
    pub type_vocab_size: usize,
    /// Number of distances that have a bias of their own (MPNet).
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// How positions are told apart (BERT); only `absolute` is known.
    #[serde(default)]
    pub position_embedding_type: Option<String>,
}

fn default_eps() -> f64 {
    1e-12
}

fn default_segments() -> usize {
    2
}

fn default_buckets() -> usize {
    BUCKETS
}

/// Kinds of transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT: MiniLM is one.
    Bert,
    /// MPNet.
    Mpnet,
}

impl TransformerConfig {
    /// Checks what the fields' types cannot say.
    ///
    /// # Errors
    /// When a field has a value that is not supported.
    pub fn check(&self) -> std::result::Result<(), ConfigError> {
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            let field = "position_embedding_type";
            return Err(ConfigError::unsupported("BERT", field, kind, "absolute"));
        }
        // The reference takes the number of rows from here and the buckets' limits from a constant.
        if self.model_type == Architecture::Mpnet && self.relative_attention_num_buckets != BUCKETS
        {
            return Err(ConfigError::unsupported(
                "MPNet",
                "relative_attention_num_buckets",
                self.relative_attention_num_buckets,
                BUCKETS,
            ));
        }
        Ok(())
    }
}

/// Token ids in, hidden states out.
#[derive(Debug, Clone)]
pub struct Transformer {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    /// `[buckets, heads]`
    distance_bias: Option<Embedding>,
}

impl Transformer {
    /// Reads `embeddings.*` and `encoder.*`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &TransformerConfig) -> Result<Self> {
        /// Id of `<pad>`: MPNet's positions start behind it, as fairseq's do.
        const MPNET_PADDING: usize = 1;
        let (names, first_position, type_vocab_size) = match config.model_type {
            Architecture::Bert => (ProjectionNames::BERT, 0, config.type_vocab_size),
            Architecture::Mpnet => (ProjectionNames::MPNET, MPNET_PADDING + 1, 0),
        };
        let sizes = LayerSizes {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            layer_norm_eps: config.layer_norm_eps,
        };
        let encoder = params.pp("encoder");
        let layers = encoder.pp("layer");
        let distance_bias = match config.model_type {
            Architecture::Bert => None,
            Architecture::Mpnet => Some(Embedding::load(
                &encoder.pp("relative_attention_bias"),
                config.relative_attention_num_buckets,
                config.num_attention_heads,
            )?),
        };
        Ok(Self {
            embeddings: BertEmbeddings::load(
                &params.pp("embeddings"),
                EmbeddingSizes {
                    vocab_size: config.vocab_size,
                    max_position_embeddings: config.max_position_embeddings,
                    type_vocab_size,
                    first_position,
                    hidden_size: config.hidden_size,
                    layer_norm_eps: config.layer_norm_eps,
                },
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|i| BertLayer::load(&layers.pp(i), names, sizes))
                .collect::<Result<_>>()?,
            distance_bias,
        })
    }

    /// Most tokens that a row can have.
    pub fn positions(&self) -> usize {
        self.embeddings.positions()
    }

    /// Last hidden states, `[rows, longest, hidden]`; those of padding mean nothing.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, a row is too long, or the device fails.
    pub fn forward(&self, rows: &PaddedIds) -> Result<Tensor> {
        let device = self.embeddings.word_table().device();
        let ids = rows.ids(device)?;
        let mut x = self.embeddings.forward(&ids, 0)?;
        let padding = rows.hidden_keys(x.dtype(), device)?;
        let bias = match (&self.distance_bias, padding) {
            (None, padding) => padding,
            (Some(table), None) => Some(distance_bias(table, ids.dim(1)?)?),
            (Some(table), Some(padding)) => {
                Some(distance_bias(table, ids.dim(1)?)?.broadcast_add(&padding)?)
            }
        };
        for layer in &self.layers {
            x = layer.forward(&x, (&layer.look_at_self(&x)?, bias.as_ref()), None)?;
        }
        Ok(x)
    }
}

/// Biases of all pairs of query and key, `[1, heads, length, length]`.
fn distance_bias(table: &Embedding, length: usize) -> Result<Tensor> {
    let buckets: Vec<u32> = (0..length)
        .flat_map(|query| (0..length).map(move |key| bucket(query, key)))
        .collect();
    let buckets = Tensor::from_vec(buckets, (length, length), table.table().device())?;
    table
        .forward(&buckets)?
        .permute((2, 0, 1))?
        .contiguous()?
        .unsqueeze(0)
}

/// Buckets of distances, half of them for keys behind the query.
const BUCKETS: usize = 32;
/// Distances from here on share the last bucket.
const MAX_DISTANCE: f64 = 128.;

/// `MPNetEncoder.relative_position_bucket`: short distances have buckets of their own, longer ones
/// share them by their logarithm.
fn bucket(query: usize, key: usize) -> u32 {
    const HALF: usize = BUCKETS / 2;
    const EXACT: usize = HALF / 2;
    let behind = if key > query { HALF } else { 0 };
    let distance = query.abs_diff(key);
    let within = if distance < EXACT {
        distance
    } else {
        let exact = EXACT as f64;
        let ratio = (distance as f64 / exact).ln() / (MAX_DISTANCE / exact).ln();
        // At powers of two the exact quotient is a whole number, which rounding must not undercut.
        let shared = (ratio * (HALF - EXACT) as f64 + 1e-6) as usize;
        (EXACT + shared).min(HALF - 1)
    };
    (behind + within) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first distance of each bucket in transformers 5.23.0 with torch 2.13.0, computed for
    /// distances 0 to 599.
    const FIRST: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];

    #[test]
    fn buckets_begin_where_the_reference_s_do() {
        for distance in 0..600 {
            let expected = FIRST.iter().filter(|first| **first <= distance).count() - 1;
            assert_eq!(bucket(600, 600 - distance), expected as u32, "{distance}");
            let behind = if distance == 0 { 0 } else { 16 + expected };
            assert_eq!(bucket(0, distance), behind as u32, "{distance} behind");
        }
    }
}
