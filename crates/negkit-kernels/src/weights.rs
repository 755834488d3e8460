//! The right factor of a product, packed once.
//!
//! The steps (the dimension that is summed over) are cut into blocks; a block holds one panel after
//! another, and a panel a row for every step with the values of `Format::columns` columns side by
//! side. The inner loop so reads one panel from its first byte to its last. In the formats of pairs a
//! row holds two steps of every column, as `vdpbf16ps` and `tdpbf16ps` take them.

mod pack;

use candle_core::{Result, bail};

use crate::Isa;
use crate::element::{Stored, widen_bits};
use crate::memory::Aligned;
use pack::Source;
pub(crate) use pack::{TRANSFORMED, Transform};

/// How products are to be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// In f32.
    F32,
    /// Factors in bf16, sums in f32. On a machine that cannot multiply bf16 the weights are kept in
    /// bf16 and the products taken in f32.
    Bf16,
}

/// Who multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Multiplier {
    /// Vectors of f32.
    Vectors,
    /// `vdpbf16ps`.
    Pairs,
    /// AMX tiles.
    Tiles,
}

/// Steps of a block of f32: a panel of it stays in the first level of the cache.
pub(crate) const STEPS_F32: usize = 256;
/// Steps of a block of pairs of bf16.
pub(crate) const STEPS_PAIRS: usize = 512;

/// How a factor is packed, which follows from who multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) isa: Isa,
    pub(crate) multiplier: Multiplier,
    /// Columns of a panel.
    pub(crate) columns: usize,
    /// Rows of the left factor that are multiplied by a panel at a time.
    pub(crate) rows: usize,
    /// Steps of a block.
    pub(crate) steps: usize,
}

impl Format {
    pub(crate) fn new(isa: Isa, precision: Precision) -> Self {
        let multiplier = match (precision, isa) {
            (Precision::Bf16, Isa::AmxBf16) => Multiplier::Tiles,
            (Precision::Bf16, Isa::Avx512Bf16) => Multiplier::Pairs,
            _ => Multiplier::Vectors,
        };
        let (rows, columns) = match (multiplier, isa) {
            (Multiplier::Tiles, _) => (32, 32),
            (Multiplier::Vectors, Isa::Portable) => (4, 8),
            (Multiplier::Vectors, Isa::Avx2) => (6, 16),
            _ => (12, 32),
        };
        let steps = match multiplier {
            Multiplier::Vectors => STEPS_F32,
            Multiplier::Pairs | Multiplier::Tiles => STEPS_PAIRS,
        };
        Self {
            isa,
            multiplier,
            columns,
            rows,
            steps,
        }
    }

    fn in_pairs(self) -> bool {
        self.multiplier != Multiplier::Vectors
    }

    /// Steps of a column that lie side by side.
    #[inline]
    pub(crate) fn together(self) -> usize {
        if self.in_pairs() { 2 } else { 1 }
    }

    /// Where in a panel a step of a column is.
    #[inline]
    pub(crate) fn place(self, step: usize, column: usize) -> usize {
        if self.in_pairs() {
            (step / 2 * self.columns + column) * 2 + step % 2
        } else {
            step * self.columns + column
        }
    }

    /// Steps as they are packed: whole pairs or tiles, where there are any.
    pub(crate) fn padded(self, steps: usize) -> usize {
        steps.next_multiple_of(match self.multiplier {
            Multiplier::Vectors => 1,
            Multiplier::Pairs => 2,
            Multiplier::Tiles => 32,
        })
    }
}

enum Values {
    F32(Aligned<f32>),
    Bf16(Aligned<u16>),
}

/// A matrix `[columns, steps]` of weights, packed as the right factor of `x @ weight.T`.
pub struct Weights {
    pub(crate) format: Format,
    pub(crate) columns: usize,
    pub(crate) steps: usize,
    values: Values,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights")
            .field("columns", &self.columns)
            .field("steps", &self.steps)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Values of a panel within a block.
pub(crate) enum Panel<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

/// Columns of value and gate that lie side by side in the weights of a gated layer.
pub(crate) const GATE_COLUMNS: usize = 32;

/// The order in which a layer's columns are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    Plain,
    /// The first half are values, the second their gates: 32 of the one, then 32 of the other.
    Gated,
}

impl Order {
    /// Whether `columns` can be packed so.
    pub fn fits(self, columns: usize) -> bool {
        self == Self::Plain || columns.is_multiple_of(2 * GATE_COLUMNS)
    }

    /// One value a column, such as a bias, in this order.
    pub fn arrange(self, values: &[f32]) -> Vec<f32> {
        let columns = 0..values.len();
        columns
            .map(|i| values[self.source(values.len(), i)])
            .collect()
    }

    fn source(self, columns: usize, packed: usize) -> usize {
        match self {
            Self::Plain => packed,
            Self::Gated => {
                let (pair, within) = (packed / (2 * GATE_COLUMNS), packed % (2 * GATE_COLUMNS));
                let half = within / GATE_COLUMNS * (columns / 2);
                half + pair * GATE_COLUMNS + within % GATE_COLUMNS
            }
        }
    }
}

impl Weights {
    /// Packs `weight` `[columns, steps]`.
    ///
    /// # Errors
    /// When the values are not as many, or cannot be packed in this order.
    pub fn pack<T: Stored>(
        weight: &[T],
        [columns, steps]: [usize; 2],
        order: Order,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        Self::pack_taps(weight, [columns, steps, 1], order, precision, isa)
    }

    /// Packs the kernel of a convolution, `[output, input, taps]`: steps are all channels of one tap
    /// after another.
    ///
    /// # Errors
    /// As [`Weights::pack`].
    pub fn pack_taps<T: Stored>(
        weight: &[T],
        [columns, inputs, taps]: [usize; 3],
        order: Order,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        let steps = inputs * taps;
        if weight.len() != columns * steps || !order.fits(columns) {
            bail!(
                "cannot pack {} weights as {columns} x {inputs} x {taps} in order {order:?}",
                weight.len()
            )
        }
        let source = Source {
            weight,
            columns,
            inputs,
            taps,
            order,
            format: Format::new(isa, precision),
        };
        Ok(Self::of(&source, precision))
    }

    /// Packs `POINTS` matrices `[columns, inputs]` at once, as `F` makes them of `weight`
    /// `[columns, inputs, TAPS]`.
    pub(crate) fn pack_points<T, F, const TAPS: usize, const POINTS: usize>(
        weight: &[T],
        [columns, inputs]: [usize; 2],
        precision: Precision,
        isa: Isa,
    ) -> Result<[Self; POINTS]>
    where
        T: Stored,
        F: Transform<TAPS, POINTS>,
    {
        if weight.len() != columns * inputs * TAPS {
            bail!(
                "cannot pack {} weights as {columns} x {inputs} x {TAPS}",
                weight.len()
            )
        }
        let format = Format::new(isa, precision);
        let source = Source {
            weight,
            columns,
            inputs,
            taps: TAPS,
            order: Order::Plain,
            format,
        };
        let values: [Values; POINTS] = match precision {
            Precision::F32 => source.pack_points::<_, F, TAPS, POINTS>().map(Values::F32),
            Precision::Bf16 => source.pack_points::<_, F, TAPS, POINTS>().map(Values::Bf16),
        };
        Ok(values.map(|values| Self {
            format,
            columns,
            steps: inputs,
            values,
        }))
    }

    fn of<T: Stored>(source: &Source<T>, precision: Precision) -> Self {
        let (columns, steps) = (source.columns, source.inputs * source.taps);
        let format = source.format;
        let length = columns.next_multiple_of(format.columns) * format.padded(steps);
        let values = match precision {
            Precision::F32 => {
                let mut values = Aligned::zeros(length);
                source.pack(&mut values[..]);
                Values::F32(values)
            }
            Precision::Bf16 => {
                let mut values = Aligned::zeros(length);
                source.pack(&mut values[..]);
                Values::Bf16(values)
            }
        };
        Self {
            format,
            columns,
            steps,
            values,
        }
    }

    /// `[columns, inputs, taps]` in the order that [`Weights::pack_taps`] took them.
    pub fn unpack(&self, taps: usize, order: Order) -> Vec<f32> {
        let mut weight = vec![0.; self.columns * self.steps];
        let (width, inputs) = (self.format.columns, self.steps / taps.max(1));
        let mut wide = [0f32];
        for packed in 0..self.columns {
            let row = order.source(self.columns, packed) * self.steps;
            for step in 0..self.steps {
                let (block, within) = (step / self.format.steps, step % self.format.steps);
                let at = self.format.place(within, packed % width);
                let value = match self.panel(block, packed / width) {
                    Panel::F32(values) => values[at],
                    Panel::Bf16(values) => {
                        widen_bits(&values[at..=at], &mut wide);
                        wide[0]
                    }
                };
                weight[row + step % inputs * taps + step / inputs] = value;
            }
        }
        weight
    }

    /// Columns, which the layer gives.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Steps, which the layer takes.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// How its products are rounded.
    pub fn precision(&self) -> Precision {
        match self.values {
            Values::F32(_) => Precision::F32,
            Values::Bf16(_) => Precision::Bf16,
        }
    }

    /// Steps of a block, as they are packed.
    pub(crate) fn block_steps(&self, block: usize) -> usize {
        let first = block * self.format.steps;
        self.format
            .padded(self.format.steps.min(self.steps - first))
    }

    pub(crate) fn panel(&self, block: usize, panel: usize) -> Panel<'_> {
        let width = self.format.columns;
        let panels = self.columns.div_ceil(width);
        let size = width * self.block_steps(block);
        let start = panels * width * block * self.format.steps + panel * size;
        match &self.values {
            Values::F32(values) => Panel::F32(&values[start..][..size]),
            Values::Bf16(values) => Panel::Bf16(&values[start..][..size]),
        }
    }
}
