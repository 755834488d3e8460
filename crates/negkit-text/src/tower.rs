//! The CLIP text transformer.
//!
//! "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021).
//! Reference: `transformers/models/clip/modeling_clip.py`, `CLIPTextTransformer`.

use candle_core::{Result, Tensor};
use negkit_nn::{
    Activation, AttentionMask, Embedding, FeedForward, LayerNorm, Linear, MultiHeadAttention,
    Params,
};
use serde::{Deserialize, Serialize};

/// Sizes of a text tower: `CLIPTextConfig` of transformers, field for field, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Width of the projection, for models that have one.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Positions: the context length.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Id of the end-of-text token. Configurations written before transformers 4.31 say 2, which is
    /// wrong and means "the position of the highest id".
    pub eos_token_id: u32,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// Size, heads and norm of one transformer layer, as both CLIP towers have them.
#[derive(Debug, Clone, Copy)]
pub struct LayerSizes {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Activation of the feed-forward block.
    pub activation: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

/// One pre-norm transformer layer (`CLIPEncoderLayer`), the same in both towers.
#[derive(Debug, Clone)]
pub struct ClipLayer {
    self_attn: MultiHeadAttention,
    layer_norm1: LayerNorm,
    layer_norm2: LayerNorm,
    mlp: FeedForward,
}

impl ClipLayer {
    /// Reads one layer.
    ///
    /// # Errors
    /// When the heads do not divide the width, or the device fails.
    pub fn load(params: &Params, sizes: LayerSizes) -> Result<Self> {
        let LayerSizes {
            hidden_size: hidden,
            intermediate_size: inner,
            heads,
            activation,
            layer_norm_eps: eps,
        } = sizes;
        let mlp = params.pp("mlp");
        Ok(Self {
            self_attn: MultiHeadAttention::load(&params.pp("self_attn"), hidden, heads)?,
            layer_norm1: LayerNorm::load(&params.pp("layer_norm1"), hidden, eps)?,
            layer_norm2: LayerNorm::load(&params.pp("layer_norm2"), hidden, eps)?,
            mlp: FeedForward::load([&mlp.pp("fc1"), &mlp.pp("fc2")], hidden, inner, activation)?,
        })
    }

    /// `[batch, length, hidden]` to the same shape.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask) -> Result<Tensor> {
        let normed = self.layer_norm1.forward(x)?;
        let x = self.self_attn.forward_onto(&normed, &normed, mask, x)?;
        self.mlp.forward_onto(&self.layer_norm2.forward(&x)?, &x)
    }
}

/// What the text tower gives for a batch of token ids.
#[derive(Debug, Clone)]
pub struct TextTowerOutput {
    /// Hidden states after the final layer norm, `[batch, length, hidden]`.
    pub last_hidden_state: Tensor,
    /// Hidden state of the end-of-text position, `[batch, hidden]`.
    pub pooled: Tensor,
    /// Its projection, `[batch, projection]`, where the tower has one.
    pub projected: Option<Tensor>,
}

/// The CLIP text transformer, with its projection where the checkpoint has one.
#[derive(Debug, Clone)]
pub struct ClipTextTower {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<ClipLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    eos_token_id: u32,
}

impl ClipTextTower {
    /// Reads `text_model.*` and, when it is there, `text_projection.weight`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &ClipTextConfig) -> Result<Self> {
        let has_projection = params.contains("text_projection.weight");
        let text_projection = has_projection
            .then(|| {
                let params = params.pp("text_projection");
                Linear::load_no_bias(&params, config.hidden_size, config.projection_dim)
            })
            .transpose()?;
        let params = params.pp("text_model");
        let embeddings = params.pp("embeddings");
        let sizes = LayerSizes {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            layer_norm_eps: config.layer_norm_eps,
        };
        let layers = params.pp("encoder").pp("layers");
        Ok(Self {
            token_embedding: Embedding::load(
                &embeddings.pp("token_embedding"),
                config.vocab_size,
                config.hidden_size,
            )?,
            position_embedding: Embedding::load(
                &embeddings.pp("position_embedding"),
                config.max_position_embeddings,
                config.hidden_size,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|i| ClipLayer::load(&layers.pp(i), sizes))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(
                &params.pp("final_layer_norm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            text_projection,
            eos_token_id: config.eos_token_id,
        })
    }

    /// Whether the checkpoint had a projection.
    pub fn has_projection(&self) -> bool {
        self.text_projection.is_some()
    }

    /// Encodes rows of token ids, all of the same length, at most the context length.
    ///
    /// # Errors
    /// When rows differ in length, an id is outside the vocabulary, or the device fails.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<TextTowerOutput> {
        let positions = self.position_embedding.table();
        let (batch, length) = (ids.len(), ids.first().map_or(0, Vec::len));
        let context = positions.dim(0)?;
        if length == 0 || length > context || ids.iter().any(|row| row.len() != length) {
            candle_core::bail!(
                "CLIP text tower: expected rows of one length between 1 and {context}, found \
                 lengths {:?}",
                ids.iter().map(Vec::len).collect::<Vec<_>>()
            )
        }
        let flat = Tensor::from_vec(ids.concat(), (batch, length), positions.device())?;
        let positions = positions.narrow(0, 0, length)?;
        let mut x = self
            .token_embedding
            .forward(&flat)?
            .broadcast_add(&positions)?;
        for layer in &self.layers {
            x = layer.forward(&x, AttentionMask::Causal)?;
        }
        let last_hidden_state = self.final_layer_norm.forward(&x)?;
        let pooled = self.pool(&last_hidden_state, ids)?;
        let projected = match &self.text_projection {
            Some(projection) => Some(projection.forward(&pooled)?),
            None => None,
        };
        Ok(TextTowerOutput {
            last_hidden_state,
            pooled,
            projected,
        })
    }

    /// `[batch, length, hidden]` to `[batch, hidden]` at each row's end-of-text position.
    fn pool(&self, hidden: &Tensor, ids: &[Vec<u32>]) -> Result<Tensor> {
        let (batch, length, width) = hidden.dims3()?;
        let rows: Vec<u32> = ids
            .iter()
            .enumerate()
            .map(|(row, ids)| (row * length + self.end_of_text(ids)) as u32)
            .collect();
        let rows = Tensor::from_vec(rows, batch, hidden.device())?;
        hidden
            .reshape((batch * length, width))?
            .index_select(&rows, 0)
    }

    /// `CLIPTextTransformer.forward`: the first end-of-text token, or position 0 without one; for
    /// the legacy id 2 the first occurrence of the highest id.
    fn end_of_text(&self, ids: &[u32]) -> usize {
        const LEGACY_EOS: u32 = 2;
        let wanted = match self.eos_token_id {
            LEGACY_EOS => ids.iter().copied().max().unwrap_or_default(),
            id => id,
        };
        ids.iter().position(|&id| id == wanted).unwrap_or_default()
    }
}
