//! Scaled dot-product attention, in slices of queries that bound its memory.

use candle_core::{DType, Result, Tensor};

use negkit_kernels::training as kernels;
use negkit_kernels::{AttentionMask, Products};

use crate::{Linear, Params, fused, ops};

/// Bound on the memory that attention scores may take at a time.
///
/// The score matrix of self-attention grows with the fourth power of a picture's side. Queries are
/// handled in slices so that one slice's scores stay under the bound; the result is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionBudget {
    /// Largest size of one slice's scores, in bytes. At least one query is handled at a time.
    pub bytes: usize,
}

impl AttentionBudget {
    /// No slicing.
    pub const UNLIMITED: Self = Self { bytes: usize::MAX };
    /// For small memory: 32 MiB.
    pub const SMALL: Self = Self { bytes: 32 << 20 };
}

impl Default for AttentionBudget {
    /// 256 MiB: large enough not to cost time, small against the weights.
    fn default() -> Self {
        Self { bytes: 256 << 20 }
    }
}

/// `softmax(q k^T * scale) v` for `q` `[batch, heads, queries, d]`, `k` and `v`
/// `[batch, heads, keys, d]`; gives `[batch, heads, queries, d]`.
///
/// "Attention Is All You Need", section 3.2.1.
///
/// # Errors
/// When shapes or types do not fit.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: AttentionMask,
    scale: f64,
    budget: AttentionBudget,
) -> Result<Tensor> {
    let keys = k.dim(2)?;
    in_slices(
        [q, k, v],
        scale,
        budget,
        |scores, start, length| match mask {
            AttentionMask::None => Ok(scores),
            AttentionMask::Causal => {
                scores.broadcast_add(&causal_mask(start, length, keys, &scores)?)
            }
        },
    )
}

/// `softmax(q k^T * scale + bias) v`, of the shapes of [`attention()`].
///
/// `bias` broadcasts to `[batch, heads, queries, keys]`. Minus infinity hides a key, as padding is
/// hidden in a batch of texts of many lengths; other values are relative positions (MPNet, T5).
///
/// # Errors
/// When shapes or types do not fit.
pub fn attention_with_bias(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: &Tensor,
    scale: f64,
    budget: AttentionBudget,
) -> Result<Tensor> {
    let same_for_all_queries = bias.dim(2)? == 1;
    in_slices([q, k, v], scale, budget, |scores, start, length| {
        if same_for_all_queries {
            scores.broadcast_add(bias)
        } else {
            scores.broadcast_add(&bias.narrow(2, start, length)?)
        }
    })
}

/// `change` gets a slice's scores, its first query and its number of queries.
fn in_slices(
    [q, k, v]: [&Tensor; 3],
    scale: f64,
    budget: AttentionBudget,
    change: impl Fn(Tensor, usize, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, heads, queries, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let q = (q.contiguous()? * scale)?;
    let k = k.contiguous()?.t()?;
    let v = v.contiguous()?;
    let bytes_a_query = batch * heads * keys * DType::F32.size_in_bytes();
    let slice = (budget.bytes / bytes_a_query.max(1)).clamp(1, queries.max(1));
    let mut slices = Vec::with_capacity(queries.div_ceil(slice));
    for start in (0..queries).step_by(slice) {
        let length = slice.min(queries - start);
        let scores = ops::matmul(&q.narrow(2, start, length)?.contiguous()?, &k)?;
        let scores = change(scores, start, length)?;
        slices.push(ops::matmul(&ops::softmax(&scores)?, &v)?);
    }
    match slices.as_slice() {
        [one] => Ok(one.clone()),
        many => Tensor::cat(many, 2),
    }
}

/// Attention of several heads between four linear layers ("Attention Is All You Need", section
/// 3.2.2).
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
    budget: AttentionBudget,
    products: Products,
}

impl MultiHeadAttention {
    /// Self-attention of `width` under the names of transformers: `q_proj`, `k_proj`, `v_proj` and
    /// `out_proj`, all with bias.
    ///
    /// # Errors
    /// When `width` is no multiple of `heads`, or the device fails.
    pub fn load(params: &Params, width: usize, heads: usize) -> Result<Self> {
        let project = |name| Linear::load(&params.pp(name), width, width);
        let projections = [project("q_proj")?, project("k_proj")?, project("v_proj")?];
        Self::new(projections, project("out_proj")?, (width, heads), params)
    }

    /// Attention between layers of other names: those for queries, keys and values, and the one
    /// after the heads are merged. `width` is that of the queries over all heads.
    ///
    /// # Errors
    /// When `width` is no multiple of `heads`.
    pub fn new(
        [q, k, v]: [Linear; 3],
        out: Linear,
        (width, heads): (usize, usize),
        params: &Params,
    ) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!(
                "attention: a width of {width} does not divide into {heads} heads; check the \
                 number of attention heads in config.json"
            )
        }
        Ok(Self {
            q,
            k,
            v,
            out,
            heads,
            budget: params.attention_budget(),
            products: params.products(),
        })
    }

    /// From queries `x` `[batch, queries, width]` to `context` `[batch, keys, _]` (for
    /// self-attention `x` itself); gives the shape of `x`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor, context: &Tensor, mask: AttentionMask) -> Result<Tensor> {
        self.out
            .forward(&self.mix(x, &self.keys_values(context)?, mask)?)
    }

    /// [`MultiHeadAttention::forward`] plus `residual`, which has the shape of `x`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_onto(
        &self,
        x: &Tensor,
        context: &Tensor,
        mask: AttentionMask,
        residual: &Tensor,
    ) -> Result<Tensor> {
        self.forward_to(x, &self.keys_values(context)?, mask, residual)
    }

    /// [`MultiHeadAttention::forward_onto`] to a context whose keys and values are there already.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_to(
        &self,
        x: &Tensor,
        context: &KeysValues,
        mask: AttentionMask,
        residual: &Tensor,
    ) -> Result<Tensor> {
        self.out
            .forward_onto(&self.mix(x, context, mask)?, residual)
    }

    /// Keys and values of `context` `[batch, keys, _]`: what attention to it needs, however often.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn keys_values(&self, context: &Tensor) -> Result<KeysValues> {
        Ok(KeysValues {
            k: self.k.forward(context)?,
            v: self.v.forward(context)?,
        })
    }

    /// What the heads make of `x`, side by side: `[batch, queries, width]`.
    fn mix(
        &self,
        x: &Tensor,
        KeysValues { k, v }: &KeysValues,
        mask: AttentionMask,
    ) -> Result<Tensor> {
        let q = self.q.forward(x)?;
        let scale = ((q.dim(2)? / self.heads) as f64).powf(-0.5);
        let tensors = [&q, k, v];
        if tensors.iter().any(|tensor| tensor.track_op()) && ops::trains(&tensors, self.products) {
            let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
            return kernels::multi_head_attention(
                [&q, &k, &v],
                self.heads,
                mask,
                scale,
                self.products,
            );
        }
        let fused = |tensor: &&Tensor| {
            tensor.device().is_cpu()
                && matches!(tensor.dtype(), DType::F32 | DType::BF16)
                && tensor.dtype() == q.dtype()
                && !tensor.track_op()
                && tensor.elem_count() > 0
        };
        if tensors.iter().all(fused) {
            return fused::attention(tensors, self.heads, mask, scale);
        }
        #[cfg(feature = "cuda")]
        if let Some(mixed) = crate::cuda::attend(tensors, self.heads, mask, scale)? {
            return Ok(mixed);
        }
        let q = split_heads(&q, self.heads)?;
        let k = split_heads(k, self.heads)?;
        let v = split_heads(v, self.heads)?;
        merge_heads(&attention(&q, &k, &v, mask, scale, self.budget)?)
    }
}

/// Keys and values of a context, of all heads side by side.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// `[batch, keys, width]`
    k: Tensor,
    /// `[batch, keys, width]`
    v: Tensor,
}

/// `[queries, keys]`: 0 where a query may look, minus infinity elsewhere.
fn causal_mask(start: usize, queries: usize, keys: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (start..start + queries)
        .flat_map(|q| (0..keys).map(move |k| if k > q { f32::NEG_INFINITY } else { 0. }))
        .collect();
    Tensor::from_vec(values, (queries, keys), like.device())?.to_dtype(like.dtype())
}

/// `[batch, length, heads * d]` to `[batch, heads, length, d]`.
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    x.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)
}

/// `[batch, heads, length, d]` to `[batch, length, heads * d]`.
pub(crate) fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, length, d) = x.dims4()?;
    x.transpose(1, 2)?.reshape((batch, length, heads * d))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, IndexOp};

    fn random(shape: (usize, usize, usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn slices_do_not_change_the_result() {
        let (q, k, v) = (
            random((2, 3, 7, 4)),
            random((2, 3, 5, 4)),
            random((2, 3, 5, 4)),
        );
        let run = |bytes| {
            attention(
                &q,
                &k,
                &v,
                AttentionMask::None,
                0.5,
                AttentionBudget { bytes },
            )
            .unwrap()
        };
        let whole = run(usize::MAX);
        for bytes in [0, 240, 1000] {
            assert!(largest_difference(&whole, &run(bytes)) < 1e-6);
        }
    }

    #[test]
    fn a_causal_query_sees_nothing_after_itself() {
        let (q, k, v) = (
            random((1, 2, 6, 4)),
            random((1, 2, 6, 4)),
            random((1, 2, 6, 4)),
        );
        let budget = AttentionBudget { bytes: 100 };
        let run = |q: &Tensor, k: &Tensor, v: &Tensor| {
            attention(q, k, v, AttentionMask::Causal, 1., budget).unwrap()
        };
        let whole = run(&q, &k, &v);
        let cut = |t: &Tensor| t.narrow(2, 0, 4).unwrap();
        let shorter = run(&cut(&q), &cut(&k), &cut(&v));
        assert!(largest_difference(&cut(&whole), &shorter) < 1e-6);
        let first = whole.i((.., .., 0, ..)).unwrap();
        assert!(largest_difference(&first, &v.i((.., .., 0, ..)).unwrap()) < 1e-6);
    }

    #[test]
    fn a_bias_of_minus_infinity_hides_a_key_in_every_slice() {
        let (q, k, v) = (
            random((2, 3, 7, 4)),
            random((2, 3, 5, 4)),
            random((2, 3, 5, 4)),
        );
        let shown = |t: &Tensor| t.narrow(2, 0, 3).unwrap();
        let without = attention(
            &q,
            &shown(&k),
            &shown(&v),
            AttentionMask::None,
            0.5,
            AttentionBudget::UNLIMITED,
        )
        .unwrap();
        let hide = [0., 0., 0., f32::NEG_INFINITY, f32::NEG_INFINITY];
        let one = Tensor::new(&hide, &Device::Cpu)
            .unwrap()
            .reshape((1, 1, 1, 5))
            .unwrap();
        let each = one.repeat((1, 1, 7, 1)).unwrap();
        for bias in [one, each] {
            for bytes in [usize::MAX, 240] {
                let budget = AttentionBudget { bytes };
                let hidden = attention_with_bias(&q, &k, &v, &bias, 0.5, budget).unwrap();
                assert!(largest_difference(&without, &hidden) < 1e-6);
            }
        }
    }

    #[test]
    fn a_causal_mask_is_a_bias_that_differs_by_query() {
        let (q, k, v) = (
            random((1, 2, 6, 4)),
            random((1, 2, 6, 4)),
            random((1, 2, 6, 4)),
        );
        let budget = AttentionBudget { bytes: 100 };
        let causal = attention(&q, &k, &v, AttentionMask::Causal, 0.5, budget).unwrap();
        let bias = causal_mask(0, 6, 6, &q)
            .unwrap()
            .reshape((1, 1, 6, 6))
            .unwrap();
        let biased = attention_with_bias(&q, &k, &v, &bias, 0.5, budget).unwrap();
        assert!(largest_difference(&causal, &biased) < 1e-6);
    }

    #[test]
    fn heads_split_and_merge() {
        let x = Tensor::arange(0f32, 24., &Device::Cpu)
            .unwrap()
            .reshape((1, 3, 8))
            .unwrap();
        let heads = split_heads(&x, 2).unwrap();
        assert_eq!(heads.dims(), [1, 2, 3, 4]);
        assert_eq!(largest_difference(&merge_heads(&heads).unwrap(), &x), 0.);
    }
}
