//! Linear layers and batches of products.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::bias::AddBiasSlice;
use super::{View, gradient, output, rows_a_task, values};
use crate::isa::arch;
use crate::product::{Matrix, MatrixMut, Output, Products, Threads, multiply};

/// See `negkit_nn::ops::linear`.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    products: Products,
) -> Result<Tensor> {
    match bias {
        Some(bias) => x.apply_op3(weight, bias, Linear { products }),
        None => x.apply_op2(weight, Linear { products }),
    }
}

/// The sums of the columns of `[rows, width]`: of fixed parts at the same time, then of the parts.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    const PARTS: usize = 64;
    let rows = values.len() / width;
    let part = width * rows.div_ceil(PARTS).max(rows_a_task(width));
    let parts: Vec<Vec<f32>> = values
        .par_chunks(part)
        .map(|part| sum_rows(part.chunks_exact(width), width))
        .collect();
    sum_rows(parts.iter().map(Vec::as_slice), width)
}

/// Adds the sums of the columns of `values` to `total`.
pub(super) fn add_column_sums(values: &[f32], total: &mut [f32]) {
    let sums = column_sums(values, total.len());
    for (total, sum) in total.iter_mut().zip(sums) {
        *total += sum;
    }
}

/// The sum of rows of `width`, in their order.
pub(super) fn sum_rows<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let mut total = vec![0.; width];
    for row in rows {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
    total
}

/// `x W^T + b`.
struct Linear {
    products: Products,
}

impl Linear {
    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values("linear", x, x_layout)?;
        let weight = values("linear", weight, weight_layout)?;
        let (&[out, input], Some((width, outer))) =
            (weight_layout.dims(), x_layout.dims().split_last())
        else {
            bail!(
                "linear: expected an input of at least one dimension and a weight of two, found {:?} \
                 and {:?}",
                x_layout.dims(),
                weight_layout.dims()
            )
        };
        if *width != input {
            bail!("linear: expected an input of width {input}, found {width}")
        }
        let rows = x.len() / input;
        let mut y = vec![0.; rows * out];
        multiply(
            Matrix::dense(x, rows, input)?,
            Matrix::dense(weight, out, input)?.t(),
            MatrixMut::dense(&mut y, rows, out)?,
            Output::Set,
            self.products,
            Threads::All,
        )?;
        if let Some((bias, layout)) = bias {
            let bias = values("linear", bias, layout)?;
            if bias.len() != out {
                bail!(
                    "linear: expected a bias of {out} values, found {}",
                    bias.len()
                )
            }
            let arch = arch();
            y.par_chunks_mut(out * rows_a_task(out))
                .for_each(|to| arch.dispatch(AddBiasSlice { to, bias, inner: 1 }));
        }
        let mut dims = outer.to_vec();
        dims.push(out);
        output(y, dims)
    }

    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_view, weight_view, grad_view) = (View::of(x), View::of(weight), View::of(grad));
        let (out, input) = weight.dims2()?;
        let rows = x.elem_count() / input;
        let upper = Matrix::dense(grad_view.values("linear")?, rows, out)?;
        let product = |a: Matrix, b: Matrix, like: &Tensor, rows, columns| {
            let mut to = vec![0.; like.elem_count()];
            let matrix = MatrixMut::dense(&mut to, rows, columns)?;
            multiply(a, b, matrix, Output::Set, self.products, Threads::All)?;
            gradient(to, like.shape())
        };
        let of_x = if x.track_op() {
            let weight = Matrix::dense(weight_view.values("linear")?, out, input)?;
            Some(product(upper, weight, x, rows, input)?)
        } else {
            None
        };
        let of_weight = if weight.track_op() {
            let x = Matrix::dense(x_view.values("linear")?, rows, input)?;
            Some(product(upper.t(), x, weight, out, input)?)
        } else {
            None
        };
        Ok((of_x, of_weight))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        self.backward(x, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let grad = grad.contiguous()?;
        let (of_x, of_weight) = self.backward(x, weight, &grad)?;
        let of_bias = if bias.track_op() {
            let view = View::of(&grad);
            let sums = column_sums(view.values("linear")?, bias.elem_count());
            Some(gradient(sums, bias.shape())?)
        } else {
            None
        };
        Ok((of_x, of_weight, of_bias))
    }
}

/// See `negkit_nn::ops::matmul`: `a` and `b` have the same dimensions before the last two.
pub fn matmul(a: &Tensor, b: &Tensor, products: Products) -> Result<Tensor> {
    let ready = |t: &Tensor| {
        if t.is_contiguous() || t.t()?.is_contiguous() {
            Ok(t.clone())
        } else {
            t.contiguous()
        }
    };
    ready(a)?.apply_op2(&ready(b)?, Matmul { products })
}

struct Matmul {
    products: Products,
}

/// Matrices of the same shape that follow each other.
#[derive(Clone, Copy)]
struct Matrices<'a> {
    values: &'a [f32],
    sizes: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrices<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let [.., rows, columns] = *layout.dims() else {
            bail!(
                "matmul: expected two dimensions at least, found {:?}",
                layout.dims()
            )
        };
        let (strides, layout) = if layout.is_contiguous() {
            ([columns, 1], layout.clone())
        } else {
            let rank = layout.dims().len();
            ([1, rows], layout.transpose(rank - 2, rank - 1)?)
        };
        Ok(Self {
            values: values("matmul", storage, &layout)?,
            sizes: [rows, columns],
            strides,
        })
    }

    fn t(self) -> Self {
        let [rows, columns] = self.sizes;
        let [row_stride, column_stride] = self.strides;
        Self {
            values: self.values,
            sizes: [columns, rows],
            strides: [column_stride, row_stride],
        }
    }

    fn one(&self, i: usize) -> Result<Matrix<'a>> {
        let size = self.sizes[0] * self.sizes[1];
        Matrix::new(&self.values[i * size..][..size], self.sizes, self.strides)
    }
}

/// The products of the matrices of `a` and `b`, one by one.
fn multiply_all(a: Matrices, b: Matrices, products: Products) -> Result<Vec<f32>> {
    let [rows, inner] = a.sizes;
    let columns = b.sizes[1];
    let count = a.values.len() / (rows * inner);
    if b.sizes[0] != inner || b.values.len() != count * inner * columns {
        bail!("matmul: cannot multiply {:?} and {:?}", a.sizes, b.sizes)
    }
    let mut to = vec![0.; count * rows * columns];
    let one = |i: usize, to: &mut [f32], threads| {
        let to = MatrixMut::dense(to, rows, columns)?;
        multiply(a.one(i)?, b.one(i)?, to, Output::Set, products, threads)
    };
    if count == 1 {
        one(0, &mut to, Threads::All)?;
    } else {
        to.par_chunks_mut(rows * columns)
            .enumerate()
            .try_for_each(|(i, to)| one(i, to, Threads::One))?;
    }
    Ok(to)
}

impl CustomOp2 for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (Matrices::of(a, a_layout)?, Matrices::of(b, b_layout)?);
        let product = multiply_all(a, b, self.products)?;
        let mut dims = a_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = b.sizes[1];
        }
        output(product, dims)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let views = [View::of(a), View::of(b), View::of(&grad)];
        let [left, right, upper] = [
            views[0].matrices()?,
            views[1].matrices()?,
            views[2].matrices()?,
        ];
        let of = |tensor: &Tensor, a: Matrices, b: Matrices| {
            tensor
                .track_op()
                .then(|| gradient(multiply_all(a, b, self.products)?, tensor.shape()))
                .transpose()
        };
        Ok((of(a, upper, right.t())?, of(b, left.t(), upper)?))
    }
}

impl View<'_> {
    fn matrices(&self) -> Result<Matrices<'_>> {
        match &*self.storage {
            candle_core::Storage::Cpu(storage) => Matrices::of(storage, self.layout),
            _ => bail!("matmul: expected values in the CPU's memory"),
        }
    }
}
