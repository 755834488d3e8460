//! One layer.

use candle_core::{Result, Tensor};
use negkit_nn::{Activation, FeedForward, LayerNorm, Params};

use crate::{BertAttention, KeysValues, ProjectionNames};

/// Sizes of one layer.
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

/// Self-attention, in some models attention to something else, and feed-forward, each with a
/// residual and a norm behind it (`BertLayer`, `MPNetLayer` and `BlipTextLayer` of transformers).
#[derive(Debug, Clone)]
pub struct BertLayer {
    attention: BertAttention,
    cross_attention: Option<BertAttention>,
    feed_forward: FeedForward,
    norm: LayerNorm,
}

impl BertLayer {
    /// Reads a layer whose attention has `names`.
    ///
    /// # Errors
    /// When the heads do not divide the width, or the device fails.
    pub fn load(params: &Params, names: ProjectionNames, sizes: LayerSizes) -> Result<Self> {
        let width = sizes.hidden_size;
        let attention = BertAttention::load(&params.pp("attention"), names, sizes, width)?;
        let [first, second] = [params.pp("intermediate.dense"), params.pp("output.dense")];
        Ok(Self {
            attention,
            cross_attention: None,
            feed_forward: FeedForward::load(
                [&first, &second],
                width,
                sizes.intermediate_size,
                sizes.activation,
            )?,
            norm: LayerNorm::load(&params.pp("output.LayerNorm"), width, sizes.layer_norm_eps)?,
        })
    }

    /// Reads a layer that also attends to states of width `context` (`crossattention`).
    ///
    /// # Errors
    /// As [`BertLayer::load`].
    pub fn load_cross(params: &Params, sizes: LayerSizes, context: usize) -> Result<Self> {
        let names = ProjectionNames::BERT;
        let cross = BertAttention::load(&params.pp("crossattention"), names, sizes, context)?;
        Ok(Self {
            cross_attention: Some(cross),
            ..Self::load(params, names, sizes)?
        })
    }

    /// What the self-attention sees of `x` `[batch, length, hidden]`.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn look_at_self(&self, x: &Tensor) -> Result<KeysValues> {
        self.attention.look_at(x)
    }

    /// What the cross-attention sees of `context` `[batch, length, width]`; `None` in a layer without
    /// it.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn look_at_other(&self, context: &Tensor) -> Result<Option<KeysValues>> {
        self.cross_attention
            .as_ref()
            .map(|cross| cross.look_at(context))
            .transpose()
    }

    /// `x` `[batch, length, hidden]` to the same shape. `own` is what the self-attention looks at
    /// and `other` what the cross-attention does, each with a bias for its scores
    /// ([`BertAttention::forward`]).
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn forward(
        &self,
        x: &Tensor,
        (own, own_bias): (&KeysValues, Option<&Tensor>),
        other: Option<(&KeysValues, Option<&Tensor>)>,
    ) -> Result<Tensor> {
        let mut x = self.attention.forward(x, own, own_bias)?;
        if let (Some(cross), Some((other, bias))) = (&self.cross_attention, other) {
            x = cross.forward(&x, other, bias)?;
        }
        self.norm.forward(&(self.feed_forward.forward(&x)? + x)?)
    }
}
