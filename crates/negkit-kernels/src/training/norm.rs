//! Layer and group normalisation.
//!
//! With `n = (x - mean) / deviation` and `d` the gradient of `n`, the gradient of `x` is
//! `(d - mean(d) - n mean(d n)) / deviation`, the means over the values that were normalised
//! together. The moments are computed again from `x`: cheaper than keeping them.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::elementwise::{Elementwise, Identity};
use super::linear::sum_rows;
use super::{View, gradient, moments, output, rows_a_task, sum, sum_pairs, values};
use crate::isa::arch;

/// See `negkit_nn::ops::layer_norm`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3(weight, bias, LayerNorm { eps })
}

/// See `negkit_nn::ops::group_norm`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    group_norm_then::<Identity>(x, groups, weight, bias, eps)
}

/// [`group_norm`], and `E` of every value of the result.
pub fn group_norm_then<E: Elementwise + 'static>(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let op = GroupNorm {
        groups,
        eps,
        function: PhantomData::<E>,
    };
    x.apply_op3(weight, bias, op)
}

type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

struct LayerNorm {
    eps: f64,
}

struct LayerNormRows<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f64,
}

impl WithSimd for LayerNormRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.weight.len();
        let rows = self.from.chunks_exact(width);
        for (to, from) in self.to.chunks_exact_mut(width).zip(rows) {
            let (mean, scale) = moments(from, self.eps);
            let parameters = self.weight.iter().zip(self.bias);
            for ((to, from), (weight, bias)) in to.iter_mut().zip(from).zip(parameters) {
                *to = (from - mean) * scale * weight + bias;
            }
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let from = values(self.name(), x, x_layout)?;
        let weight = values(self.name(), weight, weight_layout)?;
        let bias = values(self.name(), bias, bias_layout)?;
        let width = x_layout.dims().last().copied().unwrap_or_default();
        if weight.len() != width || bias.len() != width {
            bail!(
                "layer_norm: expected weight and bias of {width} values, found {} and {}",
                weight.len(),
                bias.len()
            )
        }
        let mut to = vec![0.; from.len()];
        let task = width * rows_a_task(width);
        let arch = arch();
        let tasks = to.par_chunks_mut(task).zip(from.par_chunks(task));
        tasks.for_each(|(to, from)| {
            arch.dispatch(LayerNormRows {
                from,
                to,
                weight,
                bias,
                eps: self.eps,
            });
        });
        output(to, x_layout.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients3> {
        /// Parts at most that the sums for weight and bias are taken in.
        const PARTS: usize = 64;
        let grad = grad.contiguous()?;
        let views = [View::of(x), View::of(weight), View::of(&grad)];
        let [from, scales, upper] = [
            views[0].values("layer_norm")?,
            views[1].values("layer_norm")?,
            views[2].values("layer_norm")?,
        ];
        let width = scales.len();
        let rows = from.len() / width;
        let part = width * rows.div_ceil(PARTS).max(rows_a_task(width));
        let mut to = upper.to_vec();
        // Of every part, the sums for the weight and those for the bias.
        let mut sums = vec![0.; to.len().div_ceil(part) * 2 * width];
        let arch = arch();
        let outputs = to.par_chunks_mut(part).zip(sums.par_chunks_mut(2 * width));
        outputs
            .zip(from.par_chunks(part))
            .for_each(|((to, sums), from)| {
                arch.dispatch(LayerNormGradientRows {
                    from,
                    to,
                    weight: scales,
                    sums,
                    eps: self.eps,
                });
            });
        let sums = sum_rows(sums.chunks_exact(2 * width), 2 * width);
        let of = |sums: &[f32], parameter: &Tensor| {
            let wanted = parameter.track_op();
            wanted
                .then(|| gradient(sums.to_vec(), parameter.shape()))
                .transpose()
        };
        Ok((
            x.track_op().then(|| gradient(to, x.shape())).transpose()?,
            of(&sums[..width], weight)?,
            of(&sums[width..], bias)?,
        ))
    }
}

/// Turns the gradient of the result into that of the input, and sums those of the parameters.
struct LayerNormGradientRows<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    weight: &'a [f32],
    /// The weight's, then the bias's.
    sums: &'a mut [f32],
    eps: f64,
}

impl WithSimd for LayerNormGradientRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.weight.len();
        let (weight_sums, bias_sums) = self.sums.split_at_mut(width);
        let mut normed = vec![0.; width];
        let rows = self.from.chunks_exact(width);
        for (to, from) in self.to.chunks_exact_mut(width).zip(rows) {
            let (mean, scale) = moments(from, self.eps);
            for (normed, from) in normed.iter_mut().zip(from) {
                *normed = (from - mean) * scale;
            }
            for ((sum, upper), normed) in weight_sums.iter_mut().zip(&*to).zip(&normed) {
                *sum += upper * normed;
            }
            for (sum, upper) in bias_sums.iter_mut().zip(&*to) {
                *sum += upper;
            }
            for (to, weight) in to.iter_mut().zip(self.weight) {
                *to *= weight;
            }
            let mean = (sum(to, |d| d) / width as f64) as f32;
            let slope = (sum_pairs(to, &normed, |d, n| d * n) / width as f64) as f32;
            for (to, normed) in to.iter_mut().zip(&normed) {
                *to = (*to - mean - normed * slope) * scale;
            }
        }
    }
}

struct GroupNorm<E> {
    groups: usize,
    eps: f64,
    /// Of every value of the norm's result.
    function: PhantomData<E>,
}

/// One group of one picture; `weight` and `bias` are those of its channels.
struct GroupNormGroup<'a, E> {
    from: &'a [f32],
    to: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f64,
    function: PhantomData<E>,
}

impl<E: Elementwise> WithSimd for GroupNormGroup<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (mean, scale) = moments(self.from, self.eps);
        let area = self.from.len() / self.weight.len();
        let channels = self
            .from
            .chunks_exact(area)
            .zip(self.to.chunks_exact_mut(area));
        let parameters = self.weight.iter().zip(self.bias);
        for ((from, to), (weight, bias)) in channels.zip(parameters) {
            let weight = scale * weight;
            for (to, from) in to.iter_mut().zip(from) {
                *to = E::at((from - mean) * weight + bias);
            }
        }
    }
}

impl<E: Elementwise> CustomOp3 for GroupNorm<E> {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let from = values(self.name(), x, x_layout)?;
        let weight = values(self.name(), weight, weight_layout)?;
        let bias = values(self.name(), bias, bias_layout)?;
        let [batch, channels, ..] = *x_layout.dims() else {
            bail!(
                "group_norm: expected [n, channels, ..], found {:?}",
                x_layout.dims()
            )
        };
        if weight.len() != channels || bias.len() != channels {
            bail!(
                "group_norm: expected weight and bias of {channels} values, found {} and {}",
                weight.len(),
                bias.len()
            )
        }
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            bail!(
                "group_norm: {channels} channels do not divide into {} groups",
                self.groups
            )
        }
        let width = channels / self.groups;
        let size = from.len() / (batch * self.groups);
        let mut to = vec![0.; from.len()];
        let arch = arch();
        let tasks = to.par_chunks_mut(size).zip(from.par_chunks(size));
        tasks.enumerate().for_each(|(i, (to, from))| {
            let first = i % self.groups * width;
            arch.dispatch(GroupNormGroup {
                from,
                to,
                weight: &weight[first..first + width],
                bias: &bias[first..first + width],
                eps: self.eps,
                function: self.function,
            });
        });
        output(to, x_layout.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients3> {
        let grad = grad.contiguous()?;
        let views = [
            View::of(x),
            View::of(weight),
            View::of(bias),
            View::of(&grad),
        ];
        let [from, scales, shifts, upper] = [
            views[0].values("group_norm")?,
            views[1].values("group_norm")?,
            views[2].values("group_norm")?,
            views[3].values("group_norm")?,
        ];
        let channels = scales.len();
        let batch = x.dim(0)?;
        let width = channels / self.groups;
        let size = from.len() / (batch * self.groups);
        let mut to = upper.to_vec();
        // Of every picture, the sums of every channel: for the weight and for the bias.
        let mut sums = vec![0.; batch * channels * 2];
        let arch = arch();
        let outputs = to.par_chunks_mut(size).zip(sums.par_chunks_mut(2 * width));
        let tasks = outputs.zip(from.par_chunks(size)).enumerate();
        tasks.for_each(|(i, ((to, sums), from))| {
            let first = i % self.groups * width;
            arch.dispatch(GroupNormGradientGroup {
                from,
                to,
                weight: &scales[first..first + width],
                bias: &shifts[first..first + width],
                sums,
                eps: self.eps,
                function: self.function,
            });
        });
        let sums = sum_rows(sums.chunks_exact(2 * channels), 2 * channels);
        let of = |skip: usize, parameter: &Tensor| {
            let wanted = parameter.track_op();
            let sums = sums.iter().copied().skip(skip).step_by(2);
            wanted
                .then(|| gradient(sums.collect(), parameter.shape()))
                .transpose()
        };
        Ok((
            x.track_op().then(|| gradient(to, x.shape())).transpose()?,
            of(0, weight)?,
            of(1, bias)?,
        ))
    }
}

/// Turns the gradient of one group of one picture into that of the input, and sums those of the
/// parameters.
struct GroupNormGradientGroup<'a, E> {
    from: &'a [f32],
    to: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    /// Of every channel, the weight's and the bias's.
    sums: &'a mut [f32],
    eps: f64,
    function: PhantomData<E>,
}

impl<E: Elementwise> WithSimd for GroupNormGradientGroup<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (mean, scale) = moments(self.from, self.eps);
        let area = self.from.len() / self.weight.len();
        let (mut total, mut products) = (0f64, 0f64);
        let channels = self.from.chunks_exact(area);
        let channels = channels.zip(self.to.chunks_exact_mut(area));
        let parameters = self.weight.iter().zip(self.bias);
        let parameters = parameters.zip(self.sums.chunks_exact_mut(2));
        for ((from, to), ((weight, bias), sums)) in channels.zip(parameters) {
            let slope = scale * weight;
            for (to, from) in to.iter_mut().zip(from) {
                *to *= E::slope((from - mean) * slope + bias);
            }
            let of_bias = sum(to, |d| d);
            let of_weight = sum_pairs(to, from, |d, x| d * (x - mean)) * f64::from(scale);
            sums[0] = of_weight as f32;
            sums[1] = of_bias as f32;
            total += f64::from(*weight) * of_bias;
            products += f64::from(*weight) * of_weight;
        }
        let size = self.from.len() as f64;
        let (total, products) = ((total / size) as f32, (products / size) as f32);
        let channels = self
            .from
            .chunks_exact(area)
            .zip(self.to.chunks_exact_mut(area));
        for ((from, to), weight) in channels.zip(self.weight) {
            for (to, from) in to.iter_mut().zip(from) {
                let normed = (from - mean) * scale;
                *to = (*to * weight - total - normed * products) * scale;
            }
        }
    }
}
