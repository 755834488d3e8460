//! Matrix products on the CPU, of f32 matrices in any layout.
//!
//! The exact product is the crate gemm's; see [`Products`] for the other. A transposed matrix is
//! another pair of strides, so no caller ever transposes anything in memory.

#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Isa;
use crate::element::Stored;

/// Whether the processor has AMX in bf16 and the system lets the process use it.
pub(crate) fn amx_available() -> bool {
    tiles::amx_available()
}

/// How products of f32 matrices are computed on a CPU.
///
/// A training step is mostly products; in bf16 they take a quarter of the time or less, and
/// gradients are noisier than that rounding anyway. Inference keeps [`Products::Exact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// In f32.
    #[default]
    Exact,
    /// Factors rounded to bf16, sums in f32, where the processor has instructions for it (Intel AMX or
    /// AVX-512 BF16); elsewhere exact. The relative error of a product is about 2e-3.
    Bf16,
}

/// A matrix to read, in any layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of these sizes and `[row, column]` strides in `values`.
    pub(crate) fn new(
        values: &'a [f32],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Result<Self> {
        let fits = rows == 0
            || columns == 0
            || last_index([rows, columns], [row_stride, column_stride])
                .is_some_and(|last| last < values.len());
        if !fits {
            bail!(
                "a matrix of {rows} x {columns} with strides {row_stride} and {column_stride} does \
                 not fit into {} values",
                values.len()
            )
        }
        Ok(Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride,
        })
    }

    /// A matrix whose rows follow each other.
    pub(crate) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Result<Self> {
        Self::new(values, [rows, columns], [columns, 1])
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

fn last_index(sizes: [usize; 2], strides: [usize; 2]) -> Option<usize> {
    let along = |i: usize| (sizes[i] - 1).checked_mul(strides[i]);
    along(0)?.checked_add(along(1)?)
}

/// A matrix to write. The values of a row follow each other.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A matrix whose rows begin `row_stride` values apart.
    pub(crate) fn new(
        values: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Result<Self> {
        let fits = rows == 0
            || columns == 0
            || last_index([rows, columns], [row_stride, 1]).is_some_and(|last| last < values.len());
        if !fits || (columns > row_stride && rows > 1) {
            bail!(
                "a matrix of {rows} x {columns} with a row stride of {row_stride} does not fit into \
                 {} values",
                values.len()
            )
        }
        Ok(Self {
            values,
            rows,
            columns,
            row_stride: row_stride.max(columns),
        })
    }

    /// A matrix whose rows follow each other.
    pub(crate) fn dense(values: &'a mut [f32], rows: usize, columns: usize) -> Result<Self> {
        Self::new(values, rows, columns, columns)
    }
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread, which is one of many that each compute their own.
    One,
    /// All threads of rayon's pool, where the product is worth it.
    All,
}

/// What a product does with the values that are in the output already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Overwrites them.
    Set,
    /// Adds to them.
    Add,
}

impl Products {
    /// Whether products are rounded on this machine.
    pub fn rounded(self) -> bool {
        self == Self::Bf16 && Isa::current().multiplies_bf16() && tiles::available()
    }
}

/// Where there is no such processor.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod tiles {
    use super::{MatrixMut, Output, Part, Threads};

    pub(super) fn amx_available() -> bool {
        false
    }

    pub(super) fn available() -> bool {
        false
    }

    pub(super) fn multiply(
        _: &[Part],
        _: &[Part],
        _: &[usize],
        _: &[usize],
        _: MatrixMut,
        _: Output,
        _: Threads,
    ) {
    }
}

/// `out = a b`, or `out += a b`.
///
/// The result depends on the matrices alone, not on timing.
pub(crate) fn multiply(
    a: Matrix,
    b: Matrix,
    out: MatrixMut,
    output: Output,
    products: Products,
    threads: Threads,
) -> Result<()> {
    if a.columns != b.rows || a.rows != out.rows || b.columns != out.columns {
        bail!(
            "cannot multiply {} x {} and {} x {} into {} x {}",
            a.rows,
            a.columns,
            b.rows,
            b.columns,
            out.rows,
            out.columns
        )
    }
    if out.rows == 0 || out.columns == 0 {
        return Ok(());
    }
    if a.columns == 0 {
        if output == Output::Set {
            out.values
                .chunks_mut(out.row_stride)
                .take(out.rows)
                .for_each(|row| row[..out.columns].fill(0.));
        }
        return Ok(());
    }
    if products.rounded() {
        let (steps, columns) = ([a.columns], [b.columns]);
        let (a, b) = ([Part::from(a)], [Part::from(b.t())]);
        tiles::multiply(&a, &b, &steps, &columns, out, output, threads);
    } else {
        exact(a, b, out, output, threads);
    }
    Ok(())
}

/// A part of a factor for [`multiply_parts`]: lines that belong to rows or columns of the output, and
/// steps that are summed over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Values in any layout.
    Strided {
        values: &'a [f32],
        line: usize,
        step: usize,
    },
    /// Lines are rows of `width` values, those of the list.
    Lines {
        values: &'a [u16],
        list: &'a [Pixel],
        width: usize,
    },
    /// Steps are rows of `width` values, those of the list.
    Steps {
        values: &'a [u16],
        list: &'a [Pixel],
        width: usize,
    },
}

/// Values rounded to bf16, for lists that name every row several times.
pub(crate) fn rounded(values: &[f32]) -> Vec<u16> {
    /// Values that a thread rounds at a time.
    const TASK: usize = 1 << 14;
    struct Round<'a>(&'a [f32], &'a mut [u16]);
    impl WithSimd for Round<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            f32::to_bf16_bits(self.0, self.1);
        }
    }
    let arch = Isa::current().arch();
    let mut to = vec![0; values.len()];
    let tasks = to.par_chunks_mut(TASK).zip(values.par_chunks(TASK));
    tasks.for_each(|(to, from)| arch.dispatch(Round(from, to)));
    to
}

/// The index of a row, or a row of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pixel(u32);

impl Pixel {
    const ZEROS: u32 = u32::MAX;

    fn get(self) -> Option<usize> {
        (self.0 != Self::ZEROS).then_some(self.0 as usize)
    }
}

impl From<Option<usize>> for Pixel {
    fn from(index: Option<usize>) -> Self {
        Self(
            index
                .and_then(|index| u32::try_from(index).ok())
                .unwrap_or(Self::ZEROS),
        )
    }
}

impl Part<'_> {
    /// Whether the part has this many lines and steps.
    fn has(&self, lines: usize, steps: usize) -> bool {
        let rows_fit = |values: &[u16], list: &[Pixel], width: usize| {
            let rows = values.len() / width.max(1);
            list.iter()
                .all(|row| row.get().is_none_or(|row| row < rows))
        };
        match *self {
            Self::Strided { values, line, step } => {
                lines * steps == 0
                    || last_index([lines, steps], [line, step])
                        .is_some_and(|last| last < values.len())
            }
            Self::Lines {
                values,
                list,
                width,
            } => list.len() == lines && width == steps && rows_fit(values, list, width),
            Self::Steps {
                values,
                list,
                width,
            } => list.len() == steps && width == lines && rows_fit(values, list, width),
        }
    }
}

/// `out = sum over i of a[i] b[i]`, with factors rounded to bf16 (where [`Products::rounded`]).
///
/// The `i`th product sums over `steps[i]`. `b` holds for every `i` one part for each of `columns`,
/// which lie side by side in the output.
pub(crate) fn multiply_parts(
    a: &[Part],
    b: &[Part],
    steps: &[usize],
    columns: &[usize],
    out: MatrixMut,
) -> Result<()> {
    let fits = a.len() == steps.len()
        && b.len() == steps.len() * columns.len()
        && out.columns == columns.iter().sum::<usize>()
        && out.rows * out.columns * steps.iter().sum::<usize>() > 0
        && a.iter()
            .zip(steps)
            .all(|(part, steps)| part.has(out.rows, *steps))
        && b.chunks(columns.len().max(1))
            .zip(steps)
            .all(|(parts, steps)| {
                let mut parts = parts.iter().zip(columns);
                parts.all(|(part, columns)| part.has(*columns, *steps))
            });
    if !fits || !tiles::available() {
        bail!(
            "cannot multiply parts of {steps:?} steps into {} x {columns:?}",
            out.rows
        )
    }
    tiles::multiply(a, b, steps, columns, out, Output::Set, Threads::All);
    Ok(())
}

impl<'a> From<Matrix<'a>> for Part<'a> {
    /// Lines are the rows of the matrix.
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Strided {
            values: matrix.values,
            line: matrix.row_stride,
            step: matrix.column_stride,
        }
    }
}

/// The product of matrices whose sizes fit.
#[allow(
    unsafe_code,
    reason = "the crate gemm takes pointers, so that matrices may have any strides"
)]
fn exact(a: Matrix, b: Matrix, out: MatrixMut, output: Output, threads: Threads) {
    /// Multiplications below which starting threads costs more than they save.
    const WORTH_THREADS: usize = 1 << 18;
    let size = a.rows * a.columns * b.columns;
    let parallelism = match threads {
        Threads::All if size >= WORTH_THREADS => {
            gemm::Parallelism::Rayon(rayon::current_num_threads())
        }
        _ => gemm::Parallelism::None,
    };
    // SAFETY: `Matrix` and `MatrixMut` checked, when they were made, that the index of every
    // element, `row * row_stride + column * column_stride`, lies in their values; these are borrowed
    // for the call, those of `out` mutably, so that nobody else reads or writes them. `multiply`
    // checked that the three sizes belong together. Every slice's length, and so every stride that
    // is ever followed, is at most `isize::MAX`.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            output == Output::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1f32,
            1f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}
