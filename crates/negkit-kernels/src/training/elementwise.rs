//! Functions of one number, and GEGLU.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{TASK, View, erf, exp, gradient, output, rows_a_task, values};
use crate::isa::arch;

/// A function of one number.
pub trait Elementwise: Send + Sync {
    /// Its name, for error messages.
    const NAME: &'static str;
    /// Its value at `x`.
    fn at(x: f32) -> f32;
    /// Its derivative at `x`.
    fn slope(x: f32) -> f32;
}

/// `x * sigmoid(x)`.
pub struct Silu;
/// `x * sigmoid(1.702 x)`.
pub struct QuickGelu;
/// `x * Phi(x)`.
pub struct GeluErf;
/// `max(x, 0)` that keeps NaN.
pub struct Relu;
/// `x`.
pub struct Identity;

impl Elementwise for Silu {
    const NAME: &'static str = "silu";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x / (1. + exp(-x))
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = 1. / (1. + exp(-x));
        s * (1. + x * (1. - s))
    }
}

impl Elementwise for QuickGelu {
    const NAME: &'static str = "quick_gelu";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x / (1. + exp(-1.702 * x))
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = 1. / (1. + exp(-1.702 * x));
        s * (1. + 1.702 * x * (1. - s))
    }
}

impl Elementwise for GeluErf {
    const NAME: &'static str = "gelu_erf";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        0.5 * x * (1. + erf(x * std::f32::consts::FRAC_1_SQRT_2))
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        /// 1 / sqrt(2 pi)
        const DENSITY_AT_ZERO: f32 = 0.398_942_3;
        let distribution = 0.5 * (1. + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        // Where the square overflows or the density underflows, the product is zero.
        let density = DENSITY_AT_ZERO * exp(-0.5 * x * x);
        distribution + x.clamp(-20., 20.) * density
    }
}

impl Elementwise for Identity {
    const NAME: &'static str = "identity";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.
    }
}

impl Elementwise for Relu {
    const NAME: &'static str = "relu";
    #[inline(always)]
    fn at(x: f32) -> f32 {
        if x < 0. { 0. } else { x }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x < 0. { 0. } else { 1. }
    }
}

/// What is between the two layers of a feed-forward network.
pub trait Gate: Send + Sync + 'static {
    /// How many values of the first layer make one of the second's input.
    const INPUTS: usize;
    /// From rows of `INPUTS * width` to rows of `width`.
    fn forward(&self, arch: Arch, from: &[f32], to: &mut [f32], width: usize);
    /// From the gradient of the result, in rows of `width`, to that of the input.
    fn backward(&self, arch: Arch, from: &[f32], upper: &[f32], to: &mut [f32], width: usize);
}

/// An elementwise function as a [`Gate`].
pub struct Function<E>(pub PhantomData<E>);

impl<E: Elementwise + 'static> Gate for Function<E> {
    const INPUTS: usize = 1;

    fn forward(&self, arch: Arch, from: &[f32], to: &mut [f32], _: usize) {
        let function = self.0;
        arch.dispatch(MapSlice { from, to, function });
    }

    fn backward(&self, arch: Arch, from: &[f32], upper: &[f32], to: &mut [f32], _: usize) {
        let function = self.0;
        arch.dispatch(MapGradient {
            from,
            upper,
            to,
            function,
        });
    }
}

impl Gate for Geglu {
    const INPUTS: usize = 2;

    fn forward(&self, arch: Arch, from: &[f32], to: &mut [f32], width: usize) {
        arch.dispatch(GegluRows { from, to, width });
    }

    fn backward(&self, arch: Arch, from: &[f32], upper: &[f32], to: &mut [f32], width: usize) {
        arch.dispatch(GegluGradient {
            from,
            upper,
            to,
            width,
        });
    }
}

/// Applies `E` to every value of `x`.
pub fn elementwise<E: Elementwise + 'static>(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Map::<E>(PhantomData))
}

/// See `negkit_nn::ops::geglu`.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Geglu)
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
        let arch = arch();
        let tasks = to.par_chunks_mut(TASK).zip(from.par_chunks(TASK));
        tasks.for_each(|(to, from)| {
            let function = PhantomData::<E>;
            arch.dispatch(MapSlice { from, to, function });
        });
        output(to, layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_view, grad_view) = (View::of(x), View::of(&grad));
        let (from, upper) = (x_view.values(E::NAME)?, grad_view.values(E::NAME)?);
        let mut to = vec![0.; from.len()];
        let arch = arch();
        let inputs = from.par_chunks(TASK).zip(upper.par_chunks(TASK));
        let tasks = to.par_chunks_mut(TASK).zip(inputs);
        tasks.for_each(|(to, (from, upper))| {
            let function = PhantomData::<E>;
            arch.dispatch(MapGradient {
                from,
                upper,
                to,
                function,
            });
        });
        gradient(to, x.shape()).map(Some)
    }
}

struct MapGradient<'a, E> {
    from: &'a [f32],
    /// Gradient of the result.
    upper: &'a [f32],
    to: &'a mut [f32],
    function: PhantomData<E>,
}

impl<E: Elementwise> WithSimd for MapGradient<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let inputs = self.from.iter().zip(self.upper);
        for (to, (from, upper)) in self.to.iter_mut().zip(inputs) {
            *to = upper * E::slope(*from);
        }
    }
}

/// `a * gelu(b)` of the halves of a row.
pub struct Geglu;

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
        let arch = arch();
        let tasks = to.par_chunks_mut(task).zip(from.par_chunks(2 * task));
        tasks.for_each(|(to, from)| arch.dispatch(GegluRows { from, to, width }));
        output(to, dims)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_view, grad_view) = (View::of(x), View::of(&grad));
        let (from, upper) = (x_view.values("geglu")?, grad_view.values("geglu")?);
        let width = grad.dims().last().copied().unwrap_or(1);
        let mut to = vec![0.; from.len()];
        let task = width * rows_a_task(width);
        let arch = arch();
        let inputs = from.par_chunks(2 * task).zip(upper.par_chunks(task));
        let tasks = to.par_chunks_mut(2 * task).zip(inputs);
        tasks.for_each(|(to, (from, upper))| {
            arch.dispatch(GegluGradient {
                from,
                upper,
                to,
                width,
            });
        });
        gradient(to, x.shape()).map(Some)
    }
}

struct GegluGradient<'a> {
    from: &'a [f32],
    upper: &'a [f32],
    to: &'a mut [f32],
    width: usize,
}

impl WithSimd for GegluGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.width;
        let inputs = self.from.chunks_exact(2 * width);
        let inputs = inputs.zip(self.upper.chunks_exact(width));
        for (to, (from, upper)) in self.to.chunks_exact_mut(2 * width).zip(inputs) {
            let (value, gate) = from.split_at(width);
            let (to_value, to_gate) = to.split_at_mut(width);
            for ((to, gate), upper) in to_value.iter_mut().zip(gate).zip(upper) {
                *to = upper * GeluErf::at(*gate);
            }
            let inputs = value.iter().zip(gate).zip(upper);
            for (to, ((value, gate), upper)) in to_gate.iter_mut().zip(inputs) {
                *to = upper * value * GeluErf::slope(*gate);
            }
        }
    }
}
