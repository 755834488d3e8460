//! Sums with one value a channel.

use candle_core::{CpuStorage, CustomOp2, InplaceOp2, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{View, gradient, output, rows_a_task, sum, values};
use crate::isa::arch;

/// Adds `bias` `[channels]` to `y`, in place, along a dimension that `inner` values follow.
///
/// `y` must be the only tensor that uses its storage, and no gradient flows.
pub fn add_bias(y: &Tensor, bias: &Tensor, inner: usize) -> Result<()> {
    y.inplace_op2(bias, &AddBias { inner })
}

/// See `negkit_nn::ops::add_per_channel`.
pub fn add_per_channel(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    x.apply_op2(shift, AddPerChannel)
}

struct AddBias {
    inner: usize,
}

/// Adds one value a channel, `inner` values of which follow each other, to whole rows of channels.
pub(super) struct AddBiasSlice<'a> {
    pub(super) to: &'a mut [f32],
    pub(super) bias: &'a [f32],
    pub(super) inner: usize,
}

impl WithSimd for AddBiasSlice<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.to.chunks_exact_mut(self.bias.len() * self.inner) {
            if self.inner == 1 {
                for (to, bias) in row.iter_mut().zip(self.bias) {
                    *to += bias;
                }
            } else {
                for (plane, bias) in row.chunks_exact_mut(self.inner).zip(self.bias) {
                    for to in plane {
                        *to += bias;
                    }
                }
            }
        }
    }
}

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        y_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let bias = values(self.name(), bias, bias_layout)?;
        let (CpuStorage::F32(all), Some((start, end))) = (y, y_layout.contiguous_offsets()) else {
            bail!("add_bias: expected contiguous f32 values")
        };
        let row = bias.len() * self.inner;
        if row == 0 || (end - start) % row != 0 {
            bail!(
                "add_bias: {} values do not divide into rows of {} channels of {}",
                end - start,
                bias.len(),
                self.inner
            )
        }
        let arch = arch();
        let inner = self.inner;
        if inner == 1 {
            let task = row * rows_a_task(row);
            let tasks = all[start..end].par_chunks_mut(task);
            tasks.for_each(|to| arch.dispatch(AddBiasSlice { to, bias, inner }));
        } else {
            let tasks = all[start..end].par_chunks_mut(inner).enumerate();
            tasks.for_each(|(i, to)| {
                let bias = &bias[i % bias.len()..][..1];
                arch.dispatch(AddBiasSlice { to, bias, inner });
            });
        }
        Ok(())
    }
}

struct AddPerChannel;

impl CustomOp2 for AddPerChannel {
    fn name(&self) -> &'static str {
        "add_per_channel"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        shift: &CpuStorage,
        shift_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let from = values(self.name(), x, x_layout)?;
        let shift = values(self.name(), shift, shift_layout)?;
        let inner = from.len() / shift.len();
        if !x_layout.dims().starts_with(shift_layout.dims()) {
            bail!(
                "add_per_channel: {:?} does not begin with {:?}",
                x_layout.dims(),
                shift_layout.dims()
            )
        }
        let mut to = from.to_vec();
        let channels = rows_a_task(inner);
        let tasks = to.par_chunks_mut(channels * inner);
        let arch = arch();
        tasks
            .zip(shift.par_chunks(channels))
            .for_each(|(to, bias)| {
                arch.dispatch(AddBiasSlice { to, bias, inner });
            });
        output(to, x_layout.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let of_shift = if shift.track_op() {
            let view = View::of(&grad);
            let upper = view.values(self.name())?;
            let inner = upper.len() / shift.elem_count();
            let arch = arch();
            let sums = upper
                .par_chunks(inner)
                .map(|plane| arch.dispatch(SumPlane(plane)))
                .collect();
            Some(gradient(sums, shift.shape())?)
        } else {
            None
        };
        Ok((x.track_op().then_some(grad), of_shift))
    }
}

struct SumPlane<'a>(&'a [f32]);

impl WithSimd for SumPlane<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        sum(self.0, |x| x) as f32
    }
}
