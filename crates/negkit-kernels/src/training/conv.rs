//! 2D convolution as a product, for training.
//!
//! Pictures are turned to `[n, h, w, channels]` first, so that all channels of a pixel are copied at
//! once. With the pixels under the kernel side by side in a row of `columns`, the convolution is
//! `columns W^T`, the gradient of the weight is `grad^T columns`, and that of the input is
//! `grad W` with every row added back to the pixels that it came from.
//!
//! Where the same is a product with weights that stay, as in inference, it is left to [`layer`], which
//! never writes columns to memory: the convolution itself, and the gradient of the input of one with
//! stride 1, which is a convolution of `grad` by the kernel turned round. Packing weights for a single
//! product costs little, for every weight is used at all pixels of all pictures.
//!
//! Products in bf16 have no columns in memory either: they are packed from the pixels themselves, rounded
//! once, tap by tap, and the input's gradient gathers, for every pixel and tap, the one output pixel that
//! saw it.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::linear::column_sums;
use super::scratch::Scratch;
use super::{TASK, View, gradient, output, rows_a_task, values};
use crate::isa::{Isa, arch};
use crate::layer::{Finish, Rows, layer};
use crate::product::{
    Matrix, MatrixMut, Output, Part, Pixel, Products, Threads, multiply, multiply_parts, rounded,
};
use crate::weights::{Order, Precision, Weights};
use crate::windows::{Sliding, Windows};

/// See `negkit_nn::ops::conv2d`.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    products: Products,
) -> Result<Tensor> {
    let op = Conv2d {
        stride,
        padding,
        products,
    };
    match bias {
        Some(bias) => x.apply_op3(weight, bias, op),
        None => x.apply_op2(weight, op),
    }
}

struct Conv2d {
    stride: usize,
    padding: usize,
    products: Products,
}

/// All sizes of a convolution.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    batch: usize,
    input: usize,
    output: usize,
    /// Height and width of the input, of the kernel, of the output.
    from: [usize; 2],
    kernel: [usize; 2],
    to: [usize; 2],
    stride: usize,
    padding: usize,
}

impl Geometry {
    fn new(x: &[usize], weight: &[usize], stride: usize, padding: usize) -> Result<Self> {
        let (&[batch, input, h, w], &[output, of_kernel, kh, kw]) = (x, weight) else {
            bail!("conv2d: expected four dimensions, found {x:?} and a weight of {weight:?}")
        };
        let fits = |size: usize, side: usize| side > 0 && size + 2 * padding >= side;
        if input != of_kernel || stride == 0 || !fits(h, kh) || !fits(w, kw) {
            bail!(
                "conv2d: a weight of {weight:?} with stride {stride} and padding {padding} does not \
                 fit an input of {x:?}"
            )
        }
        let along = |size: usize, side: usize| (size + 2 * padding - side) / stride + 1;
        Ok(Self {
            batch,
            input,
            output,
            from: [h, w],
            kernel: [kh, kw],
            to: [along(h, kh), along(w, kw)],
            stride,
            padding,
        })
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Values in a row of columns: `[kh, kw, input]`.
    fn row(&self) -> usize {
        self.taps() * self.input
    }

    fn pixels_from(&self) -> usize {
        self.from[0] * self.from[1]
    }

    fn pixels_to(&self) -> usize {
        self.to[0] * self.to[1]
    }

    fn sliding(&self) -> Sliding {
        Sliding {
            picture: self.from,
            resized: self.from,
            kernel: self.kernel,
            stride: self.stride,
            before: self.padding,
            after: self.padding,
        }
    }

    /// The convolution of the result's gradient that gives the input's, if it is one.
    fn back(&self) -> Option<Sliding> {
        let [height, width] = self.kernel;
        let border = height.checked_sub(self.padding + 1)?;
        (self.stride == 1 && height == width).then_some(Sliding {
            picture: self.to,
            resized: self.to,
            kernel: self.kernel,
            stride: 1,
            before: border,
            after: border,
        })
    }

    /// `weight` `[output, input, taps]` as the `[input, output, taps]` of [`Self::back`], taps from the
    /// last to the first.
    fn turned(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.taps();
        let mut turned = vec![0.; weight.len()];
        for (i, from) in weight.chunks_exact(taps).enumerate() {
            let (output, input) = (i / self.input, i % self.input);
            let to = &mut turned[(input * self.output + output) * taps..][..taps];
            for (to, from) in to.iter_mut().zip(from.iter().rev()) {
                *to = *from;
            }
        }
        turned
    }

    /// Rows of columns that are made at a time: what fits into the processor's cache, more or less.
    fn rows_at_a_time(&self) -> usize {
        const VALUES: usize = 1 << 21;
        (VALUES / self.row()).clamp(64, 4096)
    }

    /// The input pixel that an output pixel sees at `tap`, as an index into `[n, h, w]`; `None` in
    /// the border.
    #[inline(always)]
    fn source(&self, pixel: usize, tap: usize) -> Option<usize> {
        let [h, w] = self.from;
        let (n, pixel) = (pixel / self.pixels_to(), pixel % self.pixels_to());
        let y = pixel / self.to[1] * self.stride + tap / self.kernel[1];
        let x = pixel % self.to[1] * self.stride + tap % self.kernel[1];
        let y = y.checked_sub(self.padding).filter(|y| *y < h)?;
        let x = x.checked_sub(self.padding).filter(|x| *x < w)?;
        Some((n * h + y) * w + x)
    }

    /// The output pixel that sees an input pixel at `tap`, as an index into `[n, h', w']`.
    #[inline(always)]
    fn target(&self, pixel: usize, tap: usize) -> Option<usize> {
        let [h, w] = self.to;
        let (n, pixel) = (pixel / self.pixels_from(), pixel % self.pixels_from());
        let along = |position: usize, tap: usize, size: usize| {
            let moved = (position + self.padding).checked_sub(tap)?;
            let whole = moved.is_multiple_of(self.stride);
            Some(moved / self.stride).filter(|to| whole && *to < size)
        };
        let y = along(pixel / self.from[1], tap / self.kernel[1], h)?;
        let x = along(pixel % self.from[1], tap % self.kernel[1], w)?;
        Some((n * h + y) * w + x)
    }

    /// For every tap, what every output pixel sees.
    fn sources(&self) -> Vec<Vec<Pixel>> {
        let pixels = self.batch * self.pixels_to();
        self.by_tap(pixels, |pixel, tap| self.source(pixel, tap))
    }

    /// For every tap, what sees every input pixel.
    fn targets(&self) -> Vec<Vec<Pixel>> {
        let pixels = self.batch * self.pixels_from();
        self.by_tap(pixels, |pixel, tap| self.target(pixel, tap))
    }

    fn by_tap(
        &self,
        pixels: usize,
        at: impl Fn(usize, usize) -> Option<usize> + Sync,
    ) -> Vec<Vec<Pixel>> {
        let taps = (0..self.taps()).into_par_iter();
        let list = |tap| (0..pixels).map(|pixel| at(pixel, tap).into()).collect();
        taps.map(list).collect()
    }

    /// Adds the columns of the output pixels from `first` on to the pixels that they came from.
    fn add_columns(&self, columns: &[f32], first: usize, pixels: &mut [f32]) {
        let (row, input) = (self.row(), self.input);
        let count = columns.len() / row;
        let at_once = rows_a_task(input * self.taps());
        let arch = arch();
        let tasks = pixels.par_chunks_mut(at_once * input).enumerate();
        tasks.for_each(|(task, pixels)| {
            for (i, to) in pixels.chunks_exact_mut(input).enumerate() {
                for tap in 0..self.taps() {
                    let target = self.target(task * at_once + i, tap);
                    let at = target.and_then(|target| target.checked_sub(first));
                    if let Some(at) = at.filter(|at| *at < count) {
                        let from = &columns[at * row + tap * input..][..input];
                        arch.dispatch(AddSlice { from, to });
                    }
                }
            }
        });
    }
}

struct AddSlice<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for AddSlice<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to += from;
        }
    }
}

/// Transposes every `[rows, columns]` of `from`, adding `bias` (one value a column) if there is one.
fn transpose(from: &[f32], rows: usize, columns: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut to = vec![0.; from.len()];
    transpose_into(from, rows, columns, bias, &mut to);
    to
}

/// [`transpose`], for a while.
fn transposed(from: &[f32], rows: usize, columns: usize) -> Scratch {
    let mut to = Scratch::take(from.len());
    transpose_into(from, rows, columns, None, &mut to);
    to
}

fn transpose_into(from: &[f32], rows: usize, columns: usize, bias: Option<&[f32]>, to: &mut [f32]) {
    let size = rows * columns;
    let arch = arch();
    // A part of one matrix, in whole rows of the result, so that one large matrix is shared too.
    let part = columns.min((TASK / rows).max(1));
    let parts: Vec<(usize, usize, &mut [f32])> = to
        .chunks_exact_mut(size)
        .enumerate()
        .flat_map(|(i, to)| {
            let parts = to.chunks_mut(part * rows).enumerate();
            parts.map(move |(j, to)| (i, j * part, to))
        })
        .collect();
    parts.into_par_iter().for_each(|(i, first, to)| {
        arch.dispatch(TransposePart {
            from: &from[i * size..][..size],
            to,
            rows,
            columns,
            first,
            bias,
        });
    });
}

struct TransposePart<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    rows: usize,
    columns: usize,
    /// The first of the columns of `from` that are the rows of `to`.
    first: usize,
    bias: Option<&'a [f32]>,
}

impl WithSimd for TransposePart<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// Values of a line of the cache.
        const BLOCK: usize = 16;
        let (rows, columns, first) = (self.rows, self.columns, self.first);
        let count = self.to.len() / rows;
        for column in (0..count).step_by(BLOCK) {
            let width = BLOCK.min(count - column);
            for row in (0..rows).step_by(BLOCK) {
                let height = BLOCK.min(rows - row);
                for c in column..column + width {
                    let shift = self.bias.map_or(0., |bias| bias[first + c]);
                    let to = &mut self.to[c * rows + row..][..height];
                    for (r, to) in to.iter_mut().enumerate() {
                        *to = self.from[(row + r) * columns + first + c] + shift;
                    }
                }
            }
        }
    }
}

impl Conv2d {
    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let (x_dims, weight_dims) = (x_layout.dims(), weight_layout.dims());
        let g = Geometry::new(x_dims, weight_dims, self.stride, self.padding)?;
        let x = values("conv2d", x, x_layout)?;
        let weight = values("conv2d", weight, weight_layout)?;
        let bias = bias
            .map(|(bias, layout)| values("conv2d", bias, layout))
            .transpose()?;
        if let Some(bias) = bias
            && bias.len() != g.output
        {
            bail!(
                "conv2d: expected a bias of {} values, found {}",
                g.output,
                bias.len()
            )
        }
        let pixels = transposed(x, g.input, g.pixels_from());
        let shape = [g.batch, g.output, g.to[0], g.to[1]];
        if !self.products.rounded() {
            let weights = [g.output, g.input, g.taps()];
            let y = product(&pixels, g.input, g.sliding(), weight, weights, bias)?;
            let y = transpose(&y, g.pixels_to(), g.output, None);
            return output(y, shape.as_slice());
        }
        let kernels = transposed(weight, g.input, g.taps());
        let mut y = Scratch::take(g.batch * g.pixels_to() * g.output);
        gather(
            (&rounded(&pixels), &g.sources(), g.input),
            |tap| {
                let kernel = &kernels[tap * g.input..];
                Matrix::new(kernel, [g.output, g.input], [g.row(), 1])
            },
            (&mut y, g.output),
        )?;
        let y = transpose(&y, g.pixels_to(), g.output, bias);
        output(y, shape.as_slice())
    }

    /// Values of the columns that are made at a time.
    fn columns(&self, g: &Geometry) -> usize {
        g.rows_at_a_time().min(g.batch * g.pixels_to()) * g.row()
    }

    fn multiply(&self, a: Matrix, b: Matrix, to: MatrixMut, output: Output) -> Result<()> {
        multiply(a, b, to, output, self.products, Threads::All)
    }

    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = Geometry::new(x.dims(), weight.dims(), self.stride, self.padding)?;
        let grad = grad.contiguous()?;
        let view = View::of(&grad);
        let upper = transposed(view.values("conv2d")?, g.output, g.pixels_to());
        let of_x = x
            .track_op()
            .then(|| gradient(self.of_input(&g, weight, &upper)?, x.shape()))
            .transpose()?;
        let of_weight = weight
            .track_op()
            .then(|| gradient(self.of_weight(&g, x, &upper)?, weight.shape()))
            .transpose()?;
        let of_bias = bias
            .filter(|bias| bias.track_op())
            .map(|bias| gradient(column_sums(&upper, g.output), bias.shape()))
            .transpose()?;
        Ok((of_x, of_weight, of_bias))
    }

    /// The gradient of the input; `upper` `[n, h', w', output]` is that of the result.
    fn of_input(&self, g: &Geometry, weight: &Tensor, upper: &[f32]) -> Result<Vec<f32>> {
        let view = View::of(weight);
        let weight = view.values("conv2d")?;
        if !self.products.rounded()
            && let Some(sliding) = g.back()
        {
            let turned = g.turned(weight);
            let weights = [g.input, g.output, g.taps()];
            let pixels = product(upper, g.output, sliding, &turned, weights, None)?;
            return Ok(transpose(&pixels, g.pixels_from(), g.input, None));
        }
        let kernels = transposed(weight, g.input, g.taps());
        let mut pixels = Scratch::take(g.batch * g.pixels_from() * g.input);
        if self.products.rounded() {
            gather(
                (&rounded(upper), &g.targets(), g.output),
                |tap| {
                    let kernel = &kernels[tap * g.input..];
                    Matrix::new(kernel, [g.input, g.output], [1, g.row()])
                },
                (&mut pixels, g.input),
            )?;
            return Ok(transpose(&pixels, g.pixels_from(), g.input, None));
        }
        pixels.fill(0.);
        let kernels = Matrix::dense(&kernels, g.output, g.row())?;
        let mut columns = Scratch::take(self.columns(g));
        let at_a_time = g.rows_at_a_time();
        for (i, upper) in upper.chunks(at_a_time * g.output).enumerate() {
            let rows = upper.len() / g.output;
            let columns = &mut columns[..rows * g.row()];
            self.multiply(
                Matrix::dense(upper, rows, g.output)?,
                kernels,
                MatrixMut::dense(columns, rows, g.row())?,
                Output::Set,
            )?;
            g.add_columns(columns, i * at_a_time, &mut pixels);
        }
        Ok(transpose(&pixels, g.pixels_from(), g.input, None))
    }

    fn of_weight(&self, g: &Geometry, x: &Tensor, upper: &[f32]) -> Result<Vec<f32>> {
        let view = View::of(x);
        let pixels = transposed(view.values("conv2d")?, g.input, g.pixels_from());
        let mut kernels = Scratch::zeros(g.output * g.row());
        if self.products.rounded() {
            let sources = g.sources();
            let rows = g.batch * g.pixels_to();
            let upper = Matrix::dense(upper, rows, g.output)?.t();
            let taps = sources.iter();
            let pixels = rounded(&pixels);
            let columns: Vec<Part> = taps
                .map(|list| Part::Steps {
                    values: &pixels,
                    list,
                    width: g.input,
                })
                .collect();
            let to = MatrixMut::dense(&mut kernels, g.output, g.row())?;
            let sizes = vec![g.input; g.taps()];
            multiply_parts(&[upper.into()], &columns, &[rows], &sizes, to)?;
            return Ok(transpose(&kernels, g.taps(), g.input, None));
        }
        let windows = Windows::new(&pixels, g.input, g.sliding())?;
        let mut columns = Scratch::take(self.columns(g));
        let at_a_time = g.rows_at_a_time();
        for (i, upper) in upper.chunks(at_a_time * g.output).enumerate() {
            let rows = upper.len() / g.output;
            let columns = &mut columns[..rows * g.row()];
            fill_columns(&windows, i * at_a_time, columns);
            self.multiply(
                Matrix::dense(upper, rows, g.output)?.t(),
                Matrix::dense(columns, rows, g.row())?,
                MatrixMut::dense(&mut kernels, g.output, g.row())?,
                Output::Add,
            )?;
        }
        Ok(transpose(&kernels, g.taps(), g.input, None))
    }
}

/// Fills the columns of the output pixels from `first` on.
fn fill_columns(windows: &Windows<f32>, first: usize, columns: &mut [f32]) {
    let row = windows.steps();
    let rows = rows_a_task(row);
    let tasks = columns.par_chunks_mut(rows * row).enumerate();
    tasks.for_each(|(task, columns)| {
        for (i, columns) in columns.chunks_exact_mut(row).enumerate() {
            windows.visit(first + task * rows + i, 0, row, |at, count, run| {
                let to = &mut columns[at..][..count];
                match run {
                    Some(run) => to.copy_from_slice(run),
                    None => to.fill(0.),
                }
            });
        }
    });
}

/// The convolution of `pixels` `[n, h, w, channels]` by `weight`, whose sizes are `[output, input,
/// taps]`: `[n, h', w', output]`.
fn product(
    pixels: &[f32],
    channels: usize,
    sliding: Sliding,
    weight: &[f32],
    sizes: [usize; 3],
    bias: Option<&[f32]>,
) -> Result<Vec<f32>> {
    let isa = Isa::current();
    let weights = Weights::pack_taps(weight, sizes, Order::Plain, Precision::F32, isa)?;
    let windows = Windows::new(pixels, channels, sliding)?;
    let finish = Finish {
        bias,
        ..Finish::default()
    };
    layer(&windows, &weights, finish)
}

/// For every row of `to` (of that width), the sum over all taps of the pixel, in bf16, that the tap's list
/// names times the transposed kernel of the tap.
fn gather<'a>(
    (values, lists, width): (&[u16], &[Vec<Pixel>], usize),
    kernel: impl Fn(usize) -> Result<Matrix<'a>>,
    (to, columns): (&mut [f32], usize),
) -> Result<()> {
    let left: Vec<Part> = lists
        .iter()
        .map(|list| Part::Lines {
            values,
            list,
            width,
        })
        .collect();
    let right: Vec<Part> = (0..lists.len())
        .map(|tap| kernel(tap).map(Part::from))
        .collect::<Result<_>>()?;
    let rows = to.len() / columns;
    let to = MatrixMut::dense(to, rows, columns)?;
    multiply_parts(&left, &right, &vec![width; lists.len()], &[columns], to)
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight, _) = self.backward(x, weight, None, grad)?;
        Ok((of_x, of_weight))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
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
        let bias = Some((bias, bias_layout));
        self.forward((x, x_layout), (weight, weight_layout), bias)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.backward(x, weight, Some(bias), grad)
    }
}
