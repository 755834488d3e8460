//! Attention with a residual and a norm behind it.

use candle_core::{Result, Tensor};
use negkit_nn::{
    AttentionBudget, AttentionMask, LayerNorm, Linear, Params, attention, attention_with_bias,
};

use crate::LayerSizes;

/// What an attention looks at: keys and values of every head.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// `[batch, heads, length, d]`
    keys: Tensor,
    /// `[batch, heads, length, d]`
    values: Tensor,
}

impl KeysValues {
    /// Number of positions.
    ///
    /// # Errors
    /// Never for tensors of the documented shape.
    pub fn len(&self) -> Result<usize> {
        self.keys.dim(2)
    }

    /// Whether there is no position.
    ///
    /// # Errors
    /// Never for tensors of the documented shape.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// These positions and behind them those of `later`.
    ///
    /// # Errors
    /// When batch or heads differ.
    pub fn followed_by(&self, later: &Self) -> Result<Self> {
        Ok(Self {
            keys: Tensor::cat(&[&self.keys, &later.keys], 2)?,
            values: Tensor::cat(&[&self.values, &later.values], 2)?,
        })
    }

    /// The batch's rows `indices`, in that order.
    ///
    /// # Errors
    /// When an index is outside the batch.
    pub fn rows(&self, indices: &Tensor) -> Result<Self> {
        Ok(Self {
            keys: self.keys.index_select(indices, 0)?,
            values: self.values.index_select(indices, 0)?,
        })
    }
}

/// Where the parameters of an attention lie, relative to it.
#[derive(Debug, Clone, Copy)]
pub struct ProjectionNames {
    /// Projections of queries, keys and values.
    pub projections: [&'static str; 3],
    /// The layer after the heads are merged.
    pub out: &'static str,
    /// The norm.
    pub norm: &'static str,
}

impl ProjectionNames {
    /// `BertAttention` and `BlipTextAttention` of transformers.
    pub const BERT: Self = Self {
        projections: ["self.query", "self.key", "self.value"],
        out: "output.dense",
        norm: "output.LayerNorm",
    };
    /// `MPNetAttention` of transformers.
    pub const MPNET: Self = Self {
        projections: ["attn.q", "attn.k", "attn.v"],
        out: "attn.o",
        norm: "LayerNorm",
    };
}

/// `LayerNorm(x + Attention(x, context))`.
#[derive(Debug, Clone)]
pub struct BertAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    heads: usize,
    budget: AttentionBudget,
}

impl BertAttention {
    /// Reads the attention under `names`; `context` is the width of what it looks at.
    ///
    /// # Errors
    /// When the heads do not divide the width, or the device fails.
    pub fn load(
        params: &Params,
        names: ProjectionNames,
        sizes: LayerSizes,
        context: usize,
    ) -> Result<Self> {
        let (width, heads) = (sizes.hidden_size, sizes.heads);
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!(
                "BERT attention: a width of {width} does not divide into {heads} heads; check \
                 hidden_size and num_attention_heads in config.json"
            )
        }
        let [query, key, value] = names.projections;
        let project = |name, input| Linear::load(&params.pp(name), input, width);
        Ok(Self {
            query: project(query, width)?,
            key: project(key, context)?,
            value: project(value, context)?,
            out: project(names.out, width)?,
            norm: LayerNorm::load(&params.pp(names.norm), width, sizes.layer_norm_eps)?,
            heads,
            budget: params.attention_budget(),
        })
    }

    /// Keys and values of `context` `[batch, length, width]`.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn look_at(&self, context: &Tensor) -> Result<KeysValues> {
        Ok(KeysValues {
            keys: self.split_heads(&self.key.forward(context)?)?,
            values: self.split_heads(&self.value.forward(context)?)?,
        })
    }

    /// `x` `[n * m, length, width]` to the same shape, where `context` has `n` rows: every `m` rows
    /// of `x` in turn look at the same row of it. `bias` broadcasts to
    /// `[n, heads, m * length, keys]` and is added to the scores.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn forward(
        &self,
        x: &Tensor,
        context: &KeysValues,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (rows, length, width) = x.dims3()?;
        let (n, ..) = context.keys.dims4()?;
        if n == 0 || !rows.is_multiple_of(n) {
            candle_core::bail!(
                "BERT attention: {rows} rows of queries are no multiple of {n} rows of keys"
            )
        }
        let queries = self
            .query
            .forward(x)?
            .reshape((n, rows / n * length, width))?;
        let q = self.split_heads(&queries)?;
        let KeysValues { keys, values } = context;
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let mixed = match bias {
            Some(bias) => attention_with_bias(&q, keys, values, bias, scale, self.budget)?,
            None => attention(&q, keys, values, AttentionMask::None, scale, self.budget)?,
        };
        let mixed = mixed.transpose(1, 2)?.reshape((rows, length, width))?;
        self.norm.forward(&(self.out.forward(&mixed)? + x)?)
    }

    /// `[batch, length, heads * d]` to `[batch, heads, length, d]`.
    fn split_heads(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        x.reshape((batch, length, self.heads, width / self.heads))?
            .transpose(1, 2)?
            .contiguous()
    }
}
