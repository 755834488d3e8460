//! Softmax over rows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{View, exp, gradient, largest, output, rows_a_task, sum, sum_pairs, values};
use crate::isa::arch;

/// See `negkit_nn::ops::softmax`.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Softmax)
}

struct Softmax;

struct SoftmaxRows<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    width: usize,
}

impl WithSimd for SoftmaxRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.from.chunks_exact(self.width);
        for (to, from) in self.to.chunks_exact_mut(self.width).zip(rows) {
            let top = largest(from);
            for (to, from) in to.iter_mut().zip(from) {
                *to = exp(from - top);
            }
            let scale = (1. / sum(to, |x| x)) as f32;
            for to in to.iter_mut() {
                *to *= scale;
            }
        }
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = values(self.name(), storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let mut to = vec![0.; from.len()];
        let task = width * rows_a_task(width);
        let arch = arch();
        let tasks = to.par_chunks_mut(task).zip(from.par_chunks(task));
        tasks.for_each(|(to, from)| arch.dispatch(SoftmaxRows { from, to, width }));
        output(to, layout.shape())
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (y_view, grad_view) = (View::of(y), View::of(&grad));
        let (y, upper) = (y_view.values("softmax")?, grad_view.values("softmax")?);
        let width = x.dims().last().copied().unwrap_or(1);
        let mut to = upper.to_vec();
        let task = width * rows_a_task(width);
        let arch = arch();
        let tasks = to.par_chunks_mut(task).zip(y.par_chunks(task));
        tasks.for_each(|(to, y)| {
            arch.dispatch(SoftmaxGradientRows {
                y,
                to,
                width,
                scale: 1.,
            })
        });
        gradient(to, x.shape()).map(Some)
    }
}

/// Turns the gradient of the result into that of the input: `scale y (g - sum(g y))`.
pub(super) struct SoftmaxGradientRows<'a> {
    /// The result of the softmax.
    pub(super) y: &'a [f32],
    pub(super) to: &'a mut [f32],
    pub(super) width: usize,
    /// What the input was multiplied by before.
    pub(super) scale: f32,
}

impl WithSimd for SoftmaxGradientRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.y.chunks_exact(self.width);
        for (to, y) in self.to.chunks_exact_mut(self.width).zip(rows) {
            let mean = sum_pairs(to, y, |g, y| g * y) as f32;
            for (to, y) in to.iter_mut().zip(y) {
                *to = y * (*to - mean) * self.scale;
            }
        }
    }
}

/// `softmax(scale * row)` of every row, in place.
pub(super) struct SoftmaxInPlace<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) width: usize,
    pub(super) scale: f32,
}

impl WithSimd for SoftmaxInPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.rows.chunks_exact_mut(self.width) {
            let top = largest(row);
            for value in row.iter_mut() {
                *value = exp((*value - top) * self.scale);
            }
            let norm = (1. / sum(row, |x| x)) as f32;
            for value in row.iter_mut() {
                *value *= norm;
            }
        }
    }
}
