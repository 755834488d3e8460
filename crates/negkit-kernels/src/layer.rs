//! Layers with packed weights: products whose left factor is read where it lies, and whose result is
//! finished (bias, activation, residual) before it leaves the cache.
//!
//! A task computes a block of rows and columns of the output: it copies a few steps of its rows side by
//! side, multiplies them by the panels of its columns, goes on to the next steps, and finishes the
//! sums. A convolution is the same product: its rows are windows of the picture ([`crate::Windows`]),
//! which exist only a block at a time. Blocks follow from the sizes alone, so that the number of
//! threads does not change a bit of the result.

use std::ops::Range;

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::element::Element;
use crate::memory::{Scratch, SharedSlice, filled};
use crate::multiply::{Ahead, Factor, Sums, by_panels};
use crate::training::{Elementwise, GeluErf, QuickGelu, Relu, Silu};
use crate::weights::{GATE_COLUMNS, Multiplier, Weights};

/// The left factor of a product.
pub trait Rows: Sync {
    /// Type of its values.
    type Value: Element;

    /// Number of rows.
    fn count(&self) -> usize;

    /// Values of a row.
    fn steps(&self) -> usize;

    /// Visits `length` values of `row`, those from `first` on, as runs that lie side by side in memory;
    /// `None` is a run of zeros. `visit` gets where a run begins, counted from `first`, and its length.
    fn visit(
        &self,
        row: usize,
        first: usize,
        length: usize,
        visit: impl FnMut(usize, usize, Option<&[Self::Value]>),
    );
}

/// A matrix whose rows follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    steps: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of `steps` values.
    ///
    /// # Errors
    /// When the values are no whole number of rows.
    pub fn new(values: &'a [T], steps: usize) -> Result<Self> {
        if steps == 0 || !values.len().is_multiple_of(steps) {
            bail!("{} values are not rows of {steps}", values.len())
        }
        Ok(Self { values, steps })
    }
}

impl<T: Element> Rows for Matrix<'_, T> {
    type Value = T;

    fn count(&self) -> usize {
        self.values.len() / self.steps
    }

    fn steps(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn visit(
        &self,
        row: usize,
        first: usize,
        length: usize,
        mut visit: impl FnMut(usize, usize, Option<&[T]>),
    ) {
        let from = &self.values[row * self.steps + first..][..length];
        visit(0, length, Some(from));
    }
}

/// What is applied to a sum and its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Function {
    /// Nothing.
    #[default]
    Identity,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * Phi(x)`.
    GeluErf,
    /// `max(x, 0)` that keeps NaN.
    Relu,
    /// `value * gelu(gate)`, of weights packed as [`crate::Order::Gated`]: half as many columns.
    Geglu,
}

/// What is done to the sums before they are written.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a, T> {
    /// Added to every row: one value a column.
    pub bias: Option<&'a [f32]>,
    /// Added too: a row of values for every picture, of which the output's rows are equal parts.
    pub shift: Option<&'a [T]>,
    /// Applied to that.
    pub function: Function,
    /// Added to the result; of the output's shape.
    pub residual: Option<&'a [T]>,
}

impl<T> Default for Finish<'_, T> {
    fn default() -> Self {
        Self {
            bias: None,
            shift: None,
            function: Function::Identity,
            residual: None,
        }
    }
}

/// `finish(rows @ weights.T)`, row after row.
///
/// # Errors
/// When sizes do not fit.
pub fn layer<R: Rows>(
    rows: &R,
    weights: &Weights,
    finish: Finish<'_, R::Value>,
) -> Result<Vec<R::Value>> {
    let count = rows.count();
    if rows.steps() != weights.steps() {
        bail!(
            "cannot multiply {count} rows of {} values by weights {} x {}",
            rows.steps(),
            weights.columns(),
            weights.steps()
        )
    }
    let finishing = Finishing::new(finish, [count, weights.columns()])?;
    crate::count::product(count, weights.columns(), weights.steps());
    let blocks = Blocks::of(count, weights, LARGEST);
    Ok(filled(finishing.length(), |out| {
        let compute = |task: usize| {
            let task = Task {
                rows,
                range: blocks.rows(task, count),
                panels: blocks.panels(task, weights),
                weights,
                finishing,
                out,
            };
            weights.format.isa.arch().dispatch(task);
        };
        blocks.each(count * weights.columns() * weights.steps(), compute);
    }))
}

/// Rows and columns of a task whose sums stay in the second level of the cache, with the rows' steps of one
/// block. It is wide, for every task beside it copies the same rows again.
const LARGEST: [usize; 2] = [96, 1024];

/// How sums become an output.
#[derive(Clone, Copy)]
pub(crate) struct Finishing<'a, T> {
    finish: Finish<'a, T>,
    rows: usize,
    /// Rows that have a row of the shift in common.
    each: usize,
    columns: usize,
    /// Of a row of the output.
    width: usize,
}

impl<'a, T: Element> Finishing<'a, T> {
    /// For sums `[rows, columns]`.
    ///
    /// # Errors
    /// When sizes do not fit.
    pub(crate) fn new(finish: Finish<'a, T>, [rows, columns]: [usize; 2]) -> Result<Self> {
        let gated = finish.function == Function::Geglu;
        let width = columns / if gated { 2 } else { 1 };
        let each = finish.shift.map_or(rows, |shift| {
            rows.div_ceil((shift.len() / columns.max(1)).max(1))
        });
        let shift_fits = finish
            .shift
            .is_none_or(|shift| shift.len() == rows.div_ceil(each.max(1)) * columns);
        let fits = finish.bias.is_none_or(|bias| bias.len() == columns)
            && finish
                .residual
                .is_none_or(|residual| residual.len() == rows * width)
            && shift_fits
            && (!gated || columns.is_multiple_of(2 * GATE_COLUMNS));
        if !fits {
            bail!(
                "cannot finish {rows} rows of {columns} sums with bias {:?}, shift {:?} and residual \
                 {:?}",
                finish.bias.map(<[_]>::len),
                finish.shift.map(<[_]>::len),
                finish.residual.map(<[_]>::len),
            )
        }
        Ok(Self {
            finish,
            rows,
            each,
            columns,
            width,
        })
    }

    /// Values of the output.
    pub(crate) fn length(&self) -> usize {
        self.rows * self.width
    }

    /// Columns of the sums.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Finishes the sums of a row, those from column `first` on, and writes them to `out`.
    ///
    /// # Safety
    /// No other thread may be at the same row and columns.
    #[inline(always)]
    #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
    pub(crate) unsafe fn row(
        &self,
        row: usize,
        first: usize,
        sums: &mut [f32],
        out: SharedSlice<'_, T>,
    ) {
        let columns = first..first + sums.len();
        if let Some(bias) = self.finish.bias {
            for (sum, bias) in sums.iter_mut().zip(&bias[columns.clone()]) {
                *sum += bias;
            }
        }
        if let Some(shift) = self.finish.shift {
            let shift = &shift[row / self.each * self.columns..][columns];
            for (sum, shift) in sums.iter_mut().zip(shift) {
                *sum += shift.to_f32();
            }
        }
        let (sums, first) = match self.finish.function {
            Function::Identity => (sums, first),
            Function::Silu => (apply::<Silu>(sums), first),
            Function::QuickGelu => (apply::<QuickGelu>(sums), first),
            Function::GeluErf => (apply::<GeluErf>(sums), first),
            Function::Relu => (apply::<Relu>(sums), first),
            Function::Geglu => (gate(sums), first / 2),
        };
        let at = row * self.width + first;
        if let Some(residual) = self.finish.residual {
            for (sum, residual) in sums.iter_mut().zip(&residual[at..]) {
                *sum += residual.to_f32();
            }
        }
        // SAFETY: the caller sees to it that nobody else has this part, and it is written only.
        let to = unsafe { out.part(at, sums.len()) };
        T::narrow(sums, to);
    }
}

/// How an output is divided among tasks.
pub(crate) struct Blocks {
    /// Rows of a task.
    height: usize,
    /// Panels of a task.
    panels: usize,
    down: usize,
    across: usize,
    /// Whether tasks that follow each other have columns in common, not rows.
    by_columns: bool,
}

impl Blocks {
    /// Tasks of at most about `tallest` rows and `widest` columns.
    pub(crate) fn of(rows: usize, weights: &Weights, [tallest, widest]: [usize; 2]) -> Self {
        /// Tasks that keep a few cores busy.
        const TASKS: usize = 12;
        /// Blocks of rows up to which the weights are more than the rows: a thread then has all rows of
        /// its columns one after another, and weights come from memory once.
        const FEW: usize = 4;
        /// Columns that are worth copying the rows for once more.
        const LEAST_WIDTH: usize = 2 * GATE_COLUMNS;
        let format = weights.format;
        let down = rows.div_ceil(tallest).max(1);
        let height = rows.div_ceil(down).next_multiple_of(format.rows);
        let down = rows.div_ceil(height.max(1));
        let columns = weights.columns();
        let across = columns
            .div_ceil(widest)
            .max(TASKS.div_ceil(down.max(1)))
            .min(columns.div_ceil(LEAST_WIDTH))
            .max(1);
        let width = columns.div_ceil(across).next_multiple_of(LEAST_WIDTH);
        Self {
            height,
            panels: width / format.columns,
            down,
            across: columns.div_ceil(width),
            by_columns: down <= FEW,
        }
    }

    /// Calls `compute` for every task, on as many threads as `multiplications` are worth.
    pub(crate) fn each(&self, multiplications: usize, compute: impl Fn(usize) + Sync + Send) {
        /// Multiplications below which waking a thread costs more than it saves.
        const WORTH_THREADS: usize = 1 << 18;
        let tasks = 0..self.down * self.across;
        if multiplications < WORTH_THREADS {
            tasks.for_each(compute);
        } else {
            tasks.into_par_iter().for_each(compute);
        }
    }

    /// A task's block of rows and block of columns.
    fn place(&self, task: usize) -> [usize; 2] {
        if self.by_columns {
            [task % self.down, task / self.down]
        } else {
            [task / self.across, task % self.across]
        }
    }

    pub(crate) fn rows(&self, task: usize, rows: usize) -> Range<usize> {
        let start = self.place(task)[0] * self.height;
        start..(start + self.height).min(rows)
    }

    pub(crate) fn panels(&self, task: usize, weights: &Weights) -> Range<usize> {
        let all = weights.columns().div_ceil(weights.format.columns);
        let start = self.place(task)[1] * self.panels;
        start..(start + self.panels).min(all)
    }
}

struct Task<'a, R: Rows> {
    rows: &'a R,
    range: Range<usize>,
    panels: Range<usize>,
    weights: &'a Weights,
    finishing: Finishing<'a, R::Value>,
    out: SharedSlice<'a, R::Value>,
}

impl<R: Rows> WithSimd for Task<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.weights.format.multiplier {
            Multiplier::Vectors => self.multiply::<S, f32>(simd),
            Multiplier::Pairs | Multiplier::Tiles => self.multiply::<S, u16>(simd),
        }
    }
}

impl<R: Rows> Task<'_, R> {
    #[inline(always)]
    fn multiply<S: Simd, N: Factor>(self, simd: S) {
        let format = self.weights.format;
        let rows = self.range.len();
        let padded = rows.next_multiple_of(format.rows);
        let width = self.panels.len() * format.columns;
        // No power of two, for the same reason as the left factor's.
        let row = width + 16;
        let mut values = Scratch::<f32>::take(padded * row);
        let mut left = Scratch::<N>::take(padded * N::STRIDE);
        let blocks = self.weights.steps().div_ceil(format.steps);
        for block in 0..blocks {
            let mut sums = Sums {
                values: &mut values,
                stride: row,
                add: block > 0,
            };
            self.copy(block, &mut left);
            let left = (&left[..], padded);
            let then = if block + 1 < blocks {
                Ahead::of(self.weights.panel(block + 1, self.panels.start))
            } else {
                Ahead::default()
            };
            let panels = self.panels.clone();
            by_panels(simd, left, self.weights, block, panels, then, &mut sums);
        }
        self.write(&mut values[..rows * row], row, width);
    }

    /// Copies the steps of a block, and zeros up to as many as the weights are packed with.
    #[inline(always)]
    fn copy<N: Factor>(&self, block: usize, left: &mut [N]) {
        let first = block * self.weights.format.steps;
        let length = self.weights.format.steps.min(self.weights.steps() - first);
        let steps = self.weights.block_steps(block);
        let mut lines = left.chunks_exact_mut(N::STRIDE);
        for (row, line) in self.range.clone().zip(&mut lines) {
            self.rows.visit(row, first, length, |at, count, run| {
                let to = &mut line[at..][..count];
                match run {
                    Some(run) => N::convert(run, to),
                    None => to.fill(N::default()),
                }
            });
            line[length..steps].fill(N::default());
        }
        for line in lines {
            line[..steps].fill(N::default());
        }
    }

    /// Finishes the sums and writes them.
    #[inline(always)]
    fn write(&self, sums: &mut [f32], stride: usize, width: usize) {
        let first = self.panels.start * self.weights.format.columns;
        let count = width.min(self.weights.columns() - first);
        for (row, sums) in self.range.clone().zip(sums.chunks_exact_mut(stride)) {
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
            // SAFETY: no two tasks have a row and a column in common, and a task takes one row after
            // another.
            unsafe {
                self.finishing.row(row, first, &mut sums[..count], self.out);
            }
        }
    }
}

#[inline(always)]
fn apply<E: Elementwise>(values: &mut [f32]) -> &mut [f32] {
    for value in values.iter_mut() {
        *value = E::at(*value);
    }
    values
}

/// Values times their activated gates, moved to the front.
#[inline(always)]
fn gate(values: &mut [f32]) -> &mut [f32] {
    let pairs = values.len() / (2 * GATE_COLUMNS);
    for pair in 0..pairs {
        let mut gated = [0.; GATE_COLUMNS];
        let (value, gate) =
            values[2 * GATE_COLUMNS * pair..][..2 * GATE_COLUMNS].split_at(GATE_COLUMNS);
        for ((to, value), gate) in gated.iter_mut().zip(value).zip(gate) {
            *to = value * GeluErf::at(*gate);
        }
        values[GATE_COLUMNS * pair..][..GATE_COLUMNS].copy_from_slice(&gated);
    }
    &mut values[..GATE_COLUMNS * pairs]
}
