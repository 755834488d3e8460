//! Two linear layers and what is between them, a block of rows at a time.
//!
//! What is between the layers is several times as wide as input and output, and made of nothing but
//! them: it never leaves the processor's cache, and the gradient computes it again.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::bias::AddBiasSlice;
use super::elementwise::Gate;
use super::linear::{add_column_sums, column_sums};
use super::scratch::Scratch;
use super::{View, gradient, output, rows_a_task, values};
use crate::isa::arch;
use crate::product::{Matrix, MatrixMut, Output, Products, Threads, multiply};

/// See `negkit_nn::ops::feed_forward`. `weights` and `biases` are those of the two layers.
pub fn feed_forward<G: Gate>(
    x: &Tensor,
    weights: [&Tensor; 2],
    biases: [&Tensor; 2],
    gate: G,
    products: Products,
) -> Result<Tensor> {
    // An operation has three inputs at most.
    let second = [weights[1], biases[0], biases[1]];
    let second = second.map(Tensor::flatten_all);
    let [weight, bias, last] = second;
    let second = Tensor::cat(&[weight?, bias?, last?], 0)?;
    x.apply_op3(weights[0], &second, FeedForward { gate, products })
}

struct FeedForward<G> {
    gate: G,
    products: Products,
}

/// The parameters of the second layer, and both biases.
struct Second<'a> {
    /// `[width, inner]`
    weight: &'a [f32],
    /// `[hidden]`
    first_bias: &'a [f32],
    /// `[width]`
    bias: &'a [f32],
}

#[derive(Clone, Copy)]
struct Sizes {
    width: usize,
    /// Of the first layer's result.
    hidden: usize,
    /// Of the second layer's input.
    inner: usize,
    /// Rows that are handled at a time.
    rows: usize,
}

impl<G: Gate> FeedForward<G> {
    fn sizes(x: &[usize], first: &[usize], second: &[usize]) -> Result<Sizes> {
        /// Values of the first layer's result that are made at a time.
        const VALUES: usize = 1 << 20;
        let (Some(&width), &[hidden, input], &[length]) = (x.last(), first, second) else {
            bail!("feed_forward: expected weights of two dimensions, found {first:?}")
        };
        let inner = hidden / G::INPUTS;
        let fits = inner > 0 && hidden % G::INPUTS == 0;
        if !fits || input != width || length != width * inner + hidden + width {
            bail!(
                "feed_forward: an input of {x:?}, a first weight of {first:?} and {length} other \
                 parameters do not fit each other"
            )
        }
        let rows = (VALUES / hidden).clamp(64, 4096);
        Ok(Sizes {
            width,
            hidden,
            inner,
            rows,
        })
    }

    fn split(second: &[f32], sizes: Sizes) -> Second<'_> {
        let (weight, biases) = second.split_at(sizes.width * sizes.inner);
        let (first_bias, bias) = biases.split_at(sizes.hidden);
        Second {
            weight,
            first_bias,
            bias,
        }
    }

    fn multiply(&self, a: Matrix, b: Matrix, to: MatrixMut, output: Output) -> Result<()> {
        multiply(a, b, to, output, self.products, Threads::All)
    }

    /// The first layer's result, into `hidden`, and what the second layer takes, into `inner`.
    fn between(
        &self,
        x: Matrix,
        (first, bias): (Matrix, &[f32]),
        (hidden, inner): (&mut [f32], &mut [f32]),
        sizes: Sizes,
    ) -> Result<()> {
        let rows = hidden.len() / sizes.hidden;
        let to = MatrixMut::dense(hidden, rows, sizes.hidden)?;
        self.multiply(x, first.t(), to, Output::Set)?;
        let task = rows_a_task(sizes.hidden);
        let tasks = hidden.par_chunks_mut(task * sizes.hidden);
        tasks
            .zip(inner.par_chunks_mut(task * sizes.inner))
            .for_each(|(hidden, inner)| {
                let arch = arch();
                arch.dispatch(AddBiasSlice {
                    to: hidden,
                    bias,
                    inner: 1,
                });
                self.gate.forward(arch, hidden, inner, sizes.inner);
            });
        Ok(())
    }
}

impl<G: Gate> CustomOp3 for FeedForward<G> {
    fn name(&self) -> &'static str {
        "feed_forward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Self::sizes(x_layout.dims(), first_layout.dims(), second_layout.dims())?;
        let x = values(self.name(), x, x_layout)?;
        let first = values(self.name(), first, first_layout)?;
        let first = Matrix::dense(first, sizes.hidden, sizes.width)?;
        let second = Self::split(values(self.name(), second, second_layout)?, sizes);
        let weight = Matrix::dense(second.weight, sizes.width, sizes.inner)?;
        let mut y = vec![0.; x.len()];
        let rows = sizes.rows.min(x.len() / sizes.width);
        let mut hidden = Scratch::take(rows * sizes.hidden);
        let mut inner = Scratch::take(rows * sizes.inner);
        let block = sizes.rows * sizes.width;
        for (x, y) in x.chunks(block).zip(y.chunks_mut(block)) {
            let rows = x.len() / sizes.width;
            let hidden = &mut hidden[..rows * sizes.hidden];
            let inner = &mut inner[..rows * sizes.inner];
            let x = Matrix::dense(x, rows, sizes.width)?;
            self.between(x, (first, second.first_bias), (hidden, inner), sizes)?;
            let inner = Matrix::dense(inner, rows, sizes.inner)?;
            let to = MatrixMut::dense(y, rows, sizes.width)?;
            self.multiply(inner, weight.t(), to, Output::Set)?;
            let arch = arch();
            let task = sizes.width * rows_a_task(sizes.width);
            y.par_chunks_mut(task).for_each(|to| {
                arch.dispatch(AddBiasSlice {
                    to,
                    bias: second.bias,
                    inner: 1,
                });
            });
        }
        output(y, x_layout.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = Self::sizes(x.dims(), first.dims(), second.dims())?;
        let grad = grad.contiguous()?;
        let views = [
            View::of(x),
            View::of(first),
            View::of(second),
            View::of(&grad),
        ];
        let from: Vec<&[f32]> = views
            .iter()
            .map(|view| view.values(self.name()))
            .collect::<Result<_>>()?;
        let [width, wide, narrow] = [sizes.width, sizes.hidden, sizes.inner];
        let parameters = Self::split(from[2], sizes);
        let first_weight = Matrix::dense(from[1], wide, width)?;
        let weight = Matrix::dense(parameters.weight, width, narrow)?;
        let mut of_x = vec![0.; if x.track_op() { from[0].len() } else { 0 }];
        let mut of_first = vec![0.; first.elem_count()];
        let mut of_second = vec![0.; second.elem_count()];
        let (of_weight, of_biases) = of_second.split_at_mut(width * narrow);
        let (of_first_bias, of_bias) = of_biases.split_at_mut(wide);
        of_bias.copy_from_slice(&column_sums(from[3], width));

        let rows = sizes.rows.min(from[0].len() / width);
        let mut hidden = Scratch::take(rows * wide);
        let mut slopes = Scratch::take(rows * wide);
        let mut inner = Scratch::take(rows * narrow);
        let block = sizes.rows * width;
        let blocks = from[0].chunks(block).zip(from[3].chunks(block));
        for (i, (x_values, upper)) in blocks.enumerate() {
            let rows = x_values.len() / width;
            let hidden = &mut hidden[..rows * wide];
            let slopes = &mut slopes[..rows * wide];
            let inner = &mut inner[..rows * narrow];
            let block = Matrix::dense(x_values, rows, width)?;
            let upper = Matrix::dense(upper, rows, width)?;
            let parameters = (first_weight, parameters.first_bias);
            self.between(block, parameters, (hidden, inner), sizes)?;
            if second.track_op() {
                let to = MatrixMut::dense(of_weight, width, narrow)?;
                let inner = Matrix::dense(inner, rows, narrow)?;
                self.multiply(upper.t(), inner, to, Output::Add)?;
            }
            let to = MatrixMut::dense(inner, rows, narrow)?;
            self.multiply(upper, weight, to, Output::Set)?;
            let task = rows_a_task(wide);
            let inputs = hidden.par_chunks(task * wide);
            let inputs = inputs.zip(inner.par_chunks(task * narrow));
            slopes
                .par_chunks_mut(task * wide)
                .zip(inputs)
                .for_each(|(slopes, (hidden, inner))| {
                    self.gate.backward(arch(), hidden, inner, slopes, narrow);
                });
            add_column_sums(slopes, of_first_bias);
            let slopes = Matrix::dense(slopes, rows, wide)?;
            if first.track_op() {
                let to = MatrixMut::dense(&mut of_first, wide, width)?;
                self.multiply(slopes.t(), block, to, Output::Add)?;
            }
            if x.track_op() {
                let start = i * sizes.rows * width;
                let to = &mut of_x[start..start + rows * width];
                let to = MatrixMut::dense(to, rows, width)?;
                self.multiply(slopes, first_weight, to, Output::Set)?;
            }
        }
        let of = |values, tensor: &Tensor| {
            tensor
                .track_op()
                .then(|| gradient(values, tensor.shape()))
                .transpose()
        };
        Ok((of(of_x, x)?, of(of_first, first)?, of(of_second, second)?))
    }
}
