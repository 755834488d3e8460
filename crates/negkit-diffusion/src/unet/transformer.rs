//! The spatial transformer: self-attention over the picture, cross-attention to the text.
//!
//! Reference: `diffusers/models/transformers/transformer_2d.py` and `attention.py`.

use candle_core::{Result, Tensor};
use negkit_nn::{
    AttentionMask, Conv2d, ConvOptions, FeedForward, GroupNorm, KeysValues, LayerNorm, Linear,
    MultiHeadAttention, Params, ops,
};

use super::merging::Merged;
use crate::savings::TokenMerging;

/// Sizes of one transformer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerSizes {
    pub(crate) channels: usize,
    pub(crate) heads: usize,
    pub(crate) cross_attention_dim: usize,
    pub(crate) norm_num_groups: usize,
    pub(crate) linear_projection: bool,
}

/// `Attention` of diffusers: no bias before the heads, one after; keys and values from a context of
/// another width.
fn load_attention(
    params: &Params,
    width: usize,
    context: usize,
    heads: usize,
) -> Result<MultiHeadAttention> {
    let project = |name, input| Linear::load_no_bias(&params.pp(name), input, width);
    let projections = [
        project("to_q", width)?,
        project("to_k", context)?,
        project("to_v", context)?,
    ];
    let out = Linear::load(&params.pp("to_out").pp(0), width, width)?;
    MultiHeadAttention::new(projections, out, (width, heads), params)
}

#[derive(Debug, Clone)]
enum Projection {
    Conv(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn load(params: &Params, channels: usize, linear: bool) -> Result<Self> {
        Ok(if linear {
            Self::Linear(Linear::load(params, channels, channels)?)
        } else {
            Self::Conv(Conv2d::load(
                params,
                channels,
                channels,
                ConvOptions::POINTWISE,
            )?)
        })
    }
}

/// `Transformer2DModel` with one `BasicTransformerBlock`.
#[derive(Debug, Clone)]
pub(crate) struct SpatialTransformer {
    norm: GroupNorm,
    proj_in: Projection,
    norm1: LayerNorm,
    attn1: MultiHeadAttention,
    norm2: LayerNorm,
    attn2: MultiHeadAttention,
    norm3: LayerNorm,
    feed_forward: FeedForward,
    proj_out: Projection,
}

impl SpatialTransformer {
    pub(crate) fn load(params: &Params, sizes: TransformerSizes) -> Result<Self> {
        // These two epsilons are fixed in diffusers, whatever norm_eps says.
        const GROUP_NORM_EPS: f64 = 1e-6;
        const LAYER_NORM_EPS: f64 = 1e-5;
        const FEED_FORWARD_FACTOR: usize = 4;
        let TransformerSizes {
            channels,
            heads,
            cross_attention_dim,
            norm_num_groups,
            linear_projection,
        } = sizes;
        let inner = channels * FEED_FORWARD_FACTOR;
        let block = params.pp("transformer_blocks").pp(0);
        let norm = |name| LayerNorm::load(&block.pp(name), channels, LAYER_NORM_EPS);
        let attend = |name, context| load_attention(&block.pp(name), channels, context, heads);
        let project = |name| Projection::load(&params.pp(name), channels, linear_projection);
        let feed_forward = block.pp("ff").pp("net");
        Ok(Self {
            norm: GroupNorm::load(
                &params.pp("norm"),
                norm_num_groups,
                channels,
                GROUP_NORM_EPS,
            )?,
            proj_in: project("proj_in")?,
            norm1: norm("norm1")?,
            attn1: attend("attn1", channels)?,
            norm2: norm("norm2")?,
            attn2: attend("attn2", cross_attention_dim)?,
            norm3: norm("norm3")?,
            feed_forward: FeedForward::load_geglu(
                [&feed_forward.pp(0).pp("proj"), &feed_forward.pp(2)],
                channels,
                inner,
            )?,
            proj_out: project("proj_out")?,
        })
    }

    /// `x` `[n, channels, h, w]` and what [`Self::keys_values`] made of the context to the shape of `x`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        context: &KeysValues,
        merging: Option<TokenMerging>,
    ) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let size = (h, w);
        let normed = self.norm.forward(x)?;
        let tokens = match &self.proj_in {
            Projection::Conv(conv) => ops::to_tokens(&conv.forward(&normed)?)?,
            Projection::Linear(linear) => linear.forward(&ops::to_tokens(&normed)?)?,
        };
        let all = AttentionMask::None;
        let own = self.norm1.forward(&tokens)?;
        let merged = merging
            .map(|merging| Merged::plan(&tokens, size, merging))
            .transpose()?;
        let tokens = match &merged {
            Some(merged) => {
                let own = merged.merge(&own)?;
                (merged.unmerge(&self.attn1.forward(&own, &own, all)?)? + tokens)?
            }
            None => self.attn1.forward_onto(&own, &own, all, &tokens)?,
        };
        let own = self.norm2.forward(&tokens)?;
        let tokens = self.attn2.forward_to(&own, context, all, &tokens)?;
        let own = self.norm3.forward(&tokens)?;
        let tokens = self.feed_forward.forward_onto(&own, &tokens)?;
        match &self.proj_out {
            Projection::Conv(conv) => conv.forward_onto(&ops::to_picture(&tokens, size)?, x),
            Projection::Linear(linear) => {
                ops::add(&ops::to_picture(&linear.forward(&tokens)?, size)?, x)
            }
        }
    }

    /// What attention to `context` `[n, length, cross_attention_dim]` needs of it.
    pub(crate) fn keys_values(&self, context: &Tensor) -> Result<KeysValues> {
        self.attn2.keys_values(context)
    }
}
