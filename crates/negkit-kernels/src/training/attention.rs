//! Attention of several heads in one pass over a batch.
//!
//! One task handles one element of the batch: the scores of a head stay in a core's cache, and heads
//! are columns of the projections, so nothing is ever permuted in memory. The gradient computes the
//! scores again instead of keeping them.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::scratch::Scratch;
use super::softmax::{SoftmaxGradientRows, SoftmaxInPlace};
use super::{View, gradient, output, values};
use crate::isa::arch;
use crate::product::{Matrix, MatrixMut, Output, Products, Threads, multiply};

/// Which keys a query may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// All keys.
    None,
    /// Keys at the query's own position and before it.
    Causal,
}

/// `softmax(q k^T * scale) v` for every head; `q` `[batch, queries, width]`, `k` and `v`
/// `[batch, keys, width]`, where the heads divide the width; gives the shape of `q`.
pub fn multi_head_attention(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
    products: Products,
) -> Result<Tensor> {
    let op = Attention {
        heads,
        mask,
        scale: scale as f32,
        products,
    };
    q.apply_op3(k, v, op)
}

struct Attention {
    heads: usize,
    mask: AttentionMask,
    scale: f32,
    products: Products,
}

#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    /// Of a head.
    d: usize,
    width: usize,
}

impl Attention {
    fn sizes(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes> {
        let (&[batch, queries, width], &[k_batch, keys, k_width]) = (q, k) else {
            bail!("attention: expected three dimensions, found {q:?} and {k:?}")
        };
        let heads = self.heads;
        if (batch, width) != (k_batch, k_width) || k != v || heads == 0 || width % heads != 0 {
            bail!("attention: {heads} heads of queries {q:?}, keys {k:?} and values {v:?}")
        }
        Ok(Sizes {
            queries,
            keys,
            d: width / heads,
            width,
        })
    }

    fn multiply(&self, a: Matrix, b: Matrix, out: MatrixMut) -> Result<()> {
        multiply(a, b, out, Output::Set, self.products, Threads::One)
    }

    /// The columns of a head in `[length, width]`.
    fn head<'a>(values: &'a [f32], head: usize, length: usize, sizes: Sizes) -> Result<Matrix<'a>> {
        let from = &values[head * sizes.d..];
        Matrix::new(from, [length, sizes.d], [sizes.width, 1])
    }

    fn head_mut<'a>(
        values: &'a mut [f32],
        head: usize,
        length: usize,
        sizes: Sizes,
    ) -> Result<MatrixMut<'a>> {
        let to = &mut values[head * sizes.d..];
        MatrixMut::new(to, length, sizes.d, sizes.width)
    }

    /// `softmax(q k^T * scale)` of a head, into `scores` `[queries, keys]`.
    fn probabilities(&self, q: Matrix, k: Matrix, scores: &mut [f32], sizes: Sizes) -> Result<()> {
        let Sizes { queries, keys, .. } = sizes;
        self.multiply(q, k.t(), MatrixMut::dense(scores, queries, keys)?)?;
        let visible = |query: usize| match self.mask {
            AttentionMask::None => keys,
            AttentionMask::Causal => keys.min(query + 1),
        };
        for (query, row) in scores.chunks_exact_mut(keys).enumerate() {
            row[visible(query)..].fill(f32::NEG_INFINITY);
        }
        arch().dispatch(SoftmaxInPlace {
            rows: scores,
            width: keys,
            scale: self.scale,
        });
        Ok(())
    }
}

/// One element of the batch.
struct Item<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(q_layout.dims(), k_layout.dims(), v_layout.dims())?;
        let q = values(self.name(), q, q_layout)?;
        let k = values(self.name(), k, k_layout)?;
        let v = values(self.name(), v, v_layout)?;
        let (of_q, of_k) = (sizes.queries * sizes.width, sizes.keys * sizes.width);
        let mut y = vec![0.; q.len()];
        let inputs = q
            .par_chunks(of_q)
            .zip(k.par_chunks(of_k))
            .zip(v.par_chunks(of_k));
        y.par_chunks_mut(of_q)
            .zip(inputs)
            .try_for_each(|(y, ((q, k), v))| self.forward(Item { q, k, v }, y, sizes))?;
        output(y, q_layout.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(q.dims(), k.dims(), v.dims())?;
        let grad = grad.contiguous()?;
        let views = [View::of(q), View::of(k), View::of(v), View::of(&grad)];
        let from: Vec<&[f32]> = views
            .iter()
            .map(|view| view.values(self.name()))
            .collect::<Result<_>>()?;
        let (of_q, of_k) = (sizes.queries * sizes.width, sizes.keys * sizes.width);
        let [mut to_q, mut to_k, mut to_v] =
            [q, k, v].map(|tensor| vec![0f32; tensor.elem_count()]);
        let inputs = from[0].par_chunks(of_q).zip(from[1].par_chunks(of_k));
        let inputs = inputs
            .zip(from[2].par_chunks(of_k))
            .zip(from[3].par_chunks(of_q));
        let outputs = to_q.par_chunks_mut(of_q).zip(to_k.par_chunks_mut(of_k));
        let outputs = outputs.zip(to_v.par_chunks_mut(of_k));
        outputs
            .zip(inputs)
            .try_for_each(|(((to_q, to_k), to_v), (((q, k), v), upper))| {
                self.backward(Item { q, k, v }, upper, [to_q, to_k, to_v], sizes)
            })?;
        let of = |values, tensor: &Tensor| {
            tensor
                .track_op()
                .then(|| gradient(values, tensor.shape()))
                .transpose()
        };
        Ok((of(to_q, q)?, of(to_k, k)?, of(to_v, v)?))
    }
}

impl Attention {
    fn forward(&self, Item { q, k, v }: Item, y: &mut [f32], sizes: Sizes) -> Result<()> {
        let Sizes { queries, keys, .. } = sizes;
        let mut scores = Scratch::take(queries * keys);
        for head in 0..self.heads {
            let q = Self::head(q, head, queries, sizes)?;
            let k = Self::head(k, head, keys, sizes)?;
            let v = Self::head(v, head, keys, sizes)?;
            self.probabilities(q, k, &mut scores, sizes)?;
            let scores = Matrix::dense(&scores, queries, keys)?;
            self.multiply(scores, v, Self::head_mut(y, head, queries, sizes)?)?;
        }
        Ok(())
    }

    fn backward(
        &self,
        Item { q, k, v }: Item,
        upper: &[f32],
        [to_q, to_k, to_v]: [&mut [f32]; 3],
        sizes: Sizes,
    ) -> Result<()> {
        let Sizes { queries, keys, .. } = sizes;
        let mut scores = Scratch::take(queries * keys);
        let mut slopes = Scratch::take(queries * keys);
        for head in 0..self.heads {
            let q = Self::head(q, head, queries, sizes)?;
            let k = Self::head(k, head, keys, sizes)?;
            let v = Self::head(v, head, keys, sizes)?;
            let upper = Self::head(upper, head, queries, sizes)?;
            self.probabilities(q, k, &mut scores, sizes)?;
            let matrix = Matrix::dense(&scores, queries, keys)?;
            self.multiply(matrix.t(), upper, Self::head_mut(to_v, head, keys, sizes)?)?;
            self.multiply(upper, v.t(), MatrixMut::dense(&mut slopes, queries, keys)?)?;
            arch().dispatch(SoftmaxGradientRows {
                y: &scores,
                to: &mut slopes,
                width: keys,
                scale: self.scale,
            });
            let slopes = Matrix::dense(&slopes, queries, keys)?;
            self.multiply(slopes, k, Self::head_mut(to_q, head, queries, sizes)?)?;
            self.multiply(slopes.t(), q, Self::head_mut(to_k, head, keys, sizes)?)?;
        }
        Ok(())
    }
}
