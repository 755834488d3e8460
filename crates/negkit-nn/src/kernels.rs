//! Fused f32 kernels for the CPU, where no gradient is tracked.
//!
//! candle computes a norm or an activation as a row of operations, each on one core and each through
//! memory. A kernel here goes through memory as few times as the formula allows, on all cores. pulp
//! compiles every inner loop once per instruction set and chooses when it runs, so that a portable
//! build uses AVX-512 where it is and no unsafe code is needed for it.

use std::marker::PhantomData;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, DType, InplaceOp2, Layout, Result, Shape, Tensor, bail,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that one task handles at least: below it, starting a task costs more than it saves.
const TASK: usize = 1 << 14;

/// Whether the kernels of this module can take these tensors.
pub(crate) fn take(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| {
        tensor.device().is_cpu()
            && tensor.dtype() == DType::F32
            && !tensor.track_op()
            && tensor.is_contiguous()
            && tensor.elem_count() > 0
    })
}

/// A function of one number.
pub(crate) trait Elementwise: Send + Sync {
    /// Its name, for error messages.
    const NAME: &'static str;
    /// Its value at `x`.
    fn at(x: f32) -> f32;
}

/// `x * sigmoid(x)`.
pub(crate) struct Silu;
/// `x * sigmoid(1.702 x)`.
pub(crate) struct QuickGelu;
/// `x * Phi(x)`.
pub(crate) struct GeluErf;

impl Elementwise for Silu {
    const NAME: &'static str = "silu";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x / (1. + exp(-x))
    }
}

impl Elementwise for QuickGelu {
    const NAME: &'static str = "quick_gelu";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x / (1. + exp(-1.702 * x))
    }
}

impl Elementwise for GeluErf {
    const NAME: &'static str = "gelu_erf";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        0.5 * x * (1. + erf(x * std::f32::consts::FRAC_1_SQRT_2))
    }
}

/// Applies `E` to every value of `x`.
pub(crate) fn elementwise<E: Elementwise>(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Map::<E>(PhantomData))
}

/// See [`crate::ops::geglu`].
pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Geglu)
}

/// See [`crate::ops::softmax`].
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Softmax)
}

/// See [`crate::ops::layer_norm`].
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3_no_bwd(weight, bias, &LayerNorm { eps })
}

/// See [`crate::ops::group_norm`].
pub(crate) fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    x.apply_op3_no_bwd(weight, bias, &GroupNorm { groups, eps })
}

/// Adds `bias` `[channels]` to `y`, in place, along a dimension that `inner` values follow.
///
/// `y` must be the only tensor that uses its storage.
pub(crate) fn add_bias(y: &Tensor, bias: &Tensor, inner: usize) -> Result<()> {
    y.inplace_op2(bias, &AddBias { inner })
}

/// e^x, to 2 units in the last place: Cephes' `expf`, without branches.
///
/// Zero below -87.3, where the result would be a subnormal number, and e^88 above 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.;
    /// Adding it leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let y = x.clamp(LOWEST, HIGHEST);
    let rounded = y * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = y - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.;
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < LOWEST { 0. } else { p * power_of_two }
}

/// The error function, to 5e-7: the rational approximation of Eigen and XLA.
#[inline(always)]
fn erf(x: f32) -> f32 {
    /// From here on the result is 1 in f32.
    const ONE_FROM: f32 = 3.92;
    let y = x.clamp(-ONE_FROM, ONE_FROM);
    let s = y * y;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s - 2.101_024e-6;
    p = p * s - 5.692_506_4e-5;
    p = p * s - 7.349_906_3e-4;
    p = p * s - 2.954_6e-3;
    p = p * s - 1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s - 2.133_740_6e-4;
    q = q * s - 1.682_827e-3;
    q = q * s - 7.373_329_2e-3;
    q = q * s - 1.426_474e-2;
    if x.abs() >= ONE_FROM {
        1f32.copysign(x)
    } else {
        y * p / q
    }
}

const LANES: usize = 16;

/// The sum of `term` over all values. Blocks are summed in f32, as many sums side by side as vector
/// registers are wide; the blocks' sums in f64, so that millions of values lose nothing.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const BLOCK: usize = 4096;
    let mut total = 0.;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let (vectors, rest) = block.as_chunks::<LANES>();
        for vector in vectors {
            for (lane, value) in lanes.iter_mut().zip(vector) {
                *lane += term(*value);
            }
        }
        let tail: f32 = rest.iter().map(|value| term(*value)).sum();
        total += f64::from(lanes.iter().sum::<f32>() + tail);
    }
    total
}

/// The largest value.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (vectors, rest) = values.as_chunks::<LANES>();
    for vector in vectors {
        for (lane, value) in lanes.iter_mut().zip(vector) {
            *lane = greater(*lane, *value);
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, b| greater(a, *b))
}

/// Mean and `1 / sqrt(variance + eps)`.
#[inline(always)]
fn moments(values: &[f32], eps: f64) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = (sum(values, |x| x) / count) as f32;
    let variance = sum(values, |x| (x - mean) * (x - mean)) / count;
    (mean, (1. / (variance + eps).sqrt()) as f32)
}

/// The values of a contiguous f32 tensor.
fn values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&all[start..end]),
        _ => bail!("{op}: expected contiguous f32 values"),
    }
}

fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// How many rows of `width` make a task.
fn rows_a_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

struct Map<E>(PhantomData<E>);

struct MapSlice<'a, E> {
    from: &'a [f32],
    to: &'a mut [f32],
    function: PhantomData<E>,
}

impl<E: Elementwise> WithSimd for MapSlice<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = E::at(*from);
        }
    }
}

impl<E: Elementwise> CustomOp1 for Map<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = values(E::NAME, storage, layout)?;
        let mut to = vec![0.; from.len()];
        let arch = Arch::new();
        let tasks = to.par_chunks_mut(TASK).zip(from.par_chunks(TASK));
        tasks.for_each(|(to, from)| {
            let function = PhantomData::<E>;
            arch.dispatch(MapSlice { from, to, function });
        });
        output(to, layout.shape())
    }
}

struct Geglu;

struct GegluRows<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    width: usize,
}

impl WithSimd for GegluRows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.width;
        let rows = self.from.chunks_exact(2 * width);
        for (to, from) in self.to.chunks_exact_mut(width).zip(rows) {
            let (value, gate) = from.split_at(width);
            for ((to, value), gate) in to.iter_mut().zip(value).zip(gate) {
                *to = value * GeluErf::at(*gate);
            }
        }
    }
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = values(self.name(), storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut() else {
            bail!("geglu: expected at least one dimension, found a scalar")
        };
        *last /= 2;
        let width = *last;
        let mut to = vec![0.; from.len() / 2];
        let task = width * rows_a_task(width);
        let arch = Arch::new();
        let tasks = to.par_chunks_mut(task).zip(from.par_chunks(2 * task));
        tasks.for_each(|(to, from)| arch.dispatch(GegluRows { from, to, width }));
        output(to, dims)
    }
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
        let arch = Arch::new();
        let tasks = to.par_chunks_mut(task).zip(from.par_chunks(task));
        tasks.for_each(|(to, from)| arch.dispatch(SoftmaxRows { from, to, width }));
        output(to, layout.shape())
    }
}

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
        let arch = Arch::new();
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
}

struct GroupNorm {
    groups: usize,
    eps: f64,
}

/// One group of one picture; `weight` and `bias` are those of its channels.
struct GroupNormGroup<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f64,
}

impl WithSimd for GroupNormGroup<'_> {
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
                *to = (from - mean) * weight + bias;
            }
        }
    }
}

impl CustomOp3 for GroupNorm {
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
        let arch = Arch::new();
        let tasks = to.par_chunks_mut(size).zip(from.par_chunks(size));
        tasks.enumerate().for_each(|(i, (to, from))| {
            let first = i % self.groups * width;
            arch.dispatch(GroupNormGroup {
                from,
                to,
                weight: &weight[first..first + width],
                bias: &bias[first..first + width],
                eps: self.eps,
            });
        });
        output(to, x_layout.shape())
    }
}

struct AddBias {
    inner: usize,
}

struct AddBiasSlice<'a> {
    to: &'a mut [f32],
    bias: &'a [f32],
    inner: usize,
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
        let arch = Arch::new();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{D, Device};

    fn values_of(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[track_caller]
    fn assert_near(found: &Tensor, expected: &Tensor, tolerance: f32) {
        assert_eq!(found.dims(), expected.dims());
        for (i, (f, e)) in values_of(found).iter().zip(values_of(expected)).enumerate() {
            let bound = tolerance * (1. + e.abs());
            assert!(
                (f - e).abs() <= bound,
                "value {i} of {:?}: found {f}, expected {e}",
                found.dims()
            );
        }
    }

    fn normal(shape: impl Into<Shape>) -> Tensor {
        Tensor::randn(0.3f32, 2., shape, &Device::Cpu).unwrap()
    }

    /// What the operation gives where a gradient is tracked.
    fn tracked(x: &Tensor) -> Tensor {
        candle_core::Var::from_tensor(x)
            .unwrap()
            .as_tensor()
            .clone()
    }

    #[test]
    fn exp_and_erf_are_those_of_f64() {
        // 17 significant steps a unit, so that no number is met exactly.
        for i in -87 * 17..88 * 17 {
            let x = i as f32 / 17.;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.);
        assert_eq!(exp(-90.), 0.);
        assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY) > 1e38);
        // erf(0.5), erf(1), erf(2) of Abramowitz and Stegun, table 7.1.
        for (x, expected) in [
            (0., 0.),
            (0.5, 0.520_499_9),
            (1., 0.842_700_8),
            (2., 0.995_322_3),
        ] {
            assert!((erf(x) - expected).abs() < 3e-7, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + expected).abs() < 3e-7, "erf(-{x}) = {}", erf(-x));
        }
        let x = Tensor::arange_step(-6f32, 6., 1. / 512.3, &Device::Cpu).unwrap();
        let worst = (elementwise::<GeluErf>(&x).unwrap() - x.gelu_erf().unwrap())
            .unwrap()
            .abs()
            .unwrap()
            .max(0)
            .unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-6);
    }

    #[test]
    fn activations_are_their_compositions() {
        for length in [1, 15, 16, 17, 1000, TASK + 3, 5 * TASK + 1] {
            let x = normal(length);
            let silu = elementwise::<Silu>(&x).unwrap();
            assert_near(&silu, &x.silu().unwrap(), 1e-6);
            let expected = crate::ops::quick_gelu(&tracked(&x)).unwrap();
            assert_near(&elementwise::<QuickGelu>(&x).unwrap(), &expected, 1e-6);
        }
        for shape in [(1, 2), (3, 34), (7, 2 * 333), (2, 4 * TASK)] {
            let x = normal(shape);
            let expected = crate::ops::geglu(&tracked(&x)).unwrap();
            // `1 + erf` is rounded to 6e-8, and values of up to 8 multiply that.
            assert_near(&geglu(&x).unwrap(), &expected, 5e-6);
        }
    }

    #[test]
    fn activations_keep_extremes_and_nan() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, -0.];
        let x = Tensor::new(&x, &Device::Cpu).unwrap();
        for y in [
            elementwise::<Silu>(&x).unwrap(),
            elementwise::<QuickGelu>(&x).unwrap(),
            elementwise::<GeluErf>(&x).unwrap(),
        ] {
            let y = values_of(&y);
            assert!(y[0].is_nan());
            assert_eq!((y[1], y[5]), (f32::INFINITY, 0.));
            assert!((y[3] / 1e30 - 1.).abs() < 1e-6, "{y:?}");
            assert!(y[4].abs() < 1e-6, "{y:?}");
        }
    }

    #[test]
    fn softmax_is_its_composition() {
        for shape in [(1, 1), (5, 3), (3, 16), (13, 77), (2, 1025), (3, TASK + 5)] {
            let x = (normal(shape) * 4.).unwrap();
            let expected = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
            assert_near(&softmax(&x).unwrap(), &expected, 1e-6);
        }
        let x = Tensor::new(&[[0f32, f32::NEG_INFINITY], [1e4, 1e4]], &Device::Cpu).unwrap();
        assert_eq!(values_of(&softmax(&x).unwrap()), [1., 0., 0.5, 0.5]);
        let x = Tensor::new(&[[0f32, f32::NAN, 1.]], &Device::Cpu).unwrap();
        assert!(values_of(&softmax(&x).unwrap()).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn norms_are_their_compositions() {
        for (rows, width) in [(1, 1), (3, 17), (50, 768), (7, 5000)] {
            // Far from zero, where a variance from sums of squares would lose its digits.
            let x = (normal((rows, width)) + 100.).unwrap();
            let (weight, bias) = (normal(width), normal(width));
            let expected = candle_nn::ops::layer_norm_slow(
                &x.to_dtype(DType::F64).unwrap(),
                &weight.to_dtype(DType::F64).unwrap(),
                &bias.to_dtype(DType::F64).unwrap(),
                1e-5,
            );
            let expected = expected.unwrap().to_dtype(DType::F32).unwrap();
            let found = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
            assert_near(&found, &expected, 1e-4);
        }
        for (shape, groups) in [
            ([1, 1, 1, 1], 1),
            ([2, 6, 5, 7], 3),
            ([1, 32, 9, 9], 32),
            ([3, 10, 33, 31], 2),
        ] {
            let x = normal(&shape);
            let (weight, bias) = (normal(shape[1]), normal(shape[1]));
            let expected =
                crate::ops::group_norm(&tracked(&x), groups, &weight, &bias, 1e-6).unwrap();
            let found = group_norm(&x, groups, &weight, &bias, 1e-6).unwrap();
            assert_near(&found, &expected, 5e-6);
        }
    }

    #[test]
    fn bias_is_added_along_its_dimension() {
        for (outer, channels, inner) in [(1, 1, 1), (3, 7, 1), (2, 5, 13), (300, 77, 1)] {
            let y = normal((outer, channels, inner));
            let bias = normal(channels);
            let expected = y
                .broadcast_add(&bias.reshape((channels, 1)).unwrap())
                .unwrap();
            add_bias(&y, &bias, inner).unwrap();
            assert_near(&y, &expected, 0.);
        }
    }

    #[test]
    fn misfitting_parameters_are_errors() {
        let x = normal((2, 6, 3, 3));
        let (six, five) = (normal(6), normal(5));
        assert!(group_norm(&x, 3, &five, &six, 1e-5).is_err());
        assert!(group_norm(&x, 3, &six, &five, 1e-5).is_err());
        assert!(group_norm(&x, 4, &six, &six, 1e-5).is_err());
        assert!(group_norm(&x, 0, &six, &six, 1e-5).is_err());
        assert!(layer_norm(&x, &six, &six, 1e-5).is_err());
        assert!(add_bias(&x, &five, 9).is_err());
    }
}
