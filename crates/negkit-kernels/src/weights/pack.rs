//! How weights get from a file's order into panels.
//!
//! A task packs one panel of every block. It reads its rows from end to end, a few inputs at a time,
//! whose taps lie side by side: going through them once a tap would read every line of the cache as
//! often. What it writes lies side by side, too.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Format, Order};
use crate::element::{FactorValue, Stored};
use crate::memory::Aligned;

/// Weights `[columns, inputs, taps]` as they are published, and how they are to be packed.
pub(super) struct Source<'a, T> {
    pub(super) weight: &'a [T],
    pub(super) columns: usize,
    pub(super) inputs: usize,
    pub(super) taps: usize,
    pub(super) order: Order,
    pub(super) format: Format,
}

/// Values of a group of inputs.
const GROUP: usize = 256;

impl<T> Source<'_, T> {
    /// Columns of a panel.
    fn panel(&self, panel: usize) -> Range<usize> {
        let width = self.format.columns;
        panel * width..self.columns.min((panel + 1) * width)
    }

    /// Values of some inputs of a packed column.
    fn row(&self, column: usize, inputs: &Range<usize>) -> &[T] {
        let start = self.order.source(self.columns, column) * self.inputs;
        &self.weight[(start + inputs.start) * self.taps..][..inputs.len() * self.taps]
    }

    /// Inputs in groups: the values of one group and all columns of a panel stay in the first level of
    /// the cache.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
        let inputs = if self.taps == 0 { 0 } else { self.inputs };
        // A power of two: both steps of a pair are in one group.
        let size = 1 << (GROUP / self.taps.max(1)).max(1).ilog2();
        (0..inputs)
            .step_by(size)
            .map(move |first| first..inputs.min(first + size))
    }

    /// Cuts `packed`, of a matrix of `steps`, into what every panel has of each block.
    fn panels<'p, N>(&self, packed: &'p mut [N], steps: usize) -> Vec<Vec<&'p mut [N]>> {
        let width = self.format.columns;
        let count = self.columns.div_ceil(width);
        let mut panels: Vec<Vec<&mut [N]>> = (0..count).map(|_| Vec::new()).collect();
        let mut left = packed;
        for first in (0..steps).step_by(self.format.steps) {
            let size = width * self.format.padded(self.format.steps.min(steps - first));
            let (block, rest) = left.split_at_mut(count * size);
            for (panel, part) in panels.iter_mut().zip(block.chunks_mut(size)) {
                panel.push(part);
            }
            left = rest;
        }
        panels
    }
}

impl<T: Stored> Source<'_, T> {
    /// Packs all values; a task packs one panel.
    pub(super) fn pack<N: FactorValue>(&self, packed: &mut [N]) {
        let arch = self.format.isa.arch();
        self.panels(packed, self.inputs * self.taps)
            .into_par_iter()
            .enumerate()
            .for_each(|(panel, mut blocks)| {
                arch.dispatch(PackPanel {
                    source: self,
                    panel,
                    blocks: &mut blocks,
                });
            });
    }

    /// Packs `POINTS` matrices `[columns, inputs]` at once, as `F` makes them.
    pub(super) fn pack_points<N: FactorValue, F, const TAPS: usize, const POINTS: usize>(
        &self,
    ) -> [Aligned<N>; POINTS]
    where
        F: Transform<TAPS, POINTS>,
    {
        let arch = self.format.isa.arch();
        let width = self.format.columns;
        let count = self.columns.div_ceil(width);
        let length = count * width * self.format.padded(self.inputs);
        let mut packed: [Aligned<N>; POINTS] = std::array::from_fn(|_| Aligned::zeros(length));
        let mut points = packed
            .each_mut()
            .map(|values| self.panels(&mut values[..], self.inputs).into_iter());
        let panels: Vec<[Vec<&mut [N]>; POINTS]> = (0..count)
            .map(|_| points.each_mut().map(|p| p.next().unwrap_or_default()))
            .collect();
        panels
            .into_par_iter()
            .enumerate()
            .for_each(|(panel, mut points)| {
                arch.dispatch(PackPoints::<T, N, F, TAPS, POINTS> {
                    source: self,
                    panel,
                    points: &mut points,
                    transform: std::marker::PhantomData,
                });
            });
        packed
    }
}

/// Columns that are transformed side by side: those of a panel, at most.
pub(crate) const TRANSFORMED: usize = 32;

/// Makes one value for each of `POINTS` matrices from the `TAPS` values of an input.
pub(crate) trait Transform<const TAPS: usize, const POINTS: usize> {
    /// The same for some columns side by side.
    fn apply(taps: &[[f32; TRANSFORMED]; TAPS], points: &mut [[f32; TRANSFORMED]; POINTS]);
}

/// A panel's part of every block of every point.
struct PackPoints<'a, 'p, T, N, F, const TAPS: usize, const POINTS: usize> {
    source: &'a Source<'a, T>,
    panel: usize,
    points: &'a mut [Vec<&'p mut [N]>; POINTS],
    transform: std::marker::PhantomData<F>,
}

impl<T, N, F, const TAPS: usize, const POINTS: usize> WithSimd
    for PackPoints<'_, '_, T, N, F, TAPS, POINTS>
where
    T: Stored,
    N: FactorValue,
    F: Transform<TAPS, POINTS>,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let format = self.source.format;
        let (width, together) = (format.columns, format.together());
        let columns = self.source.panel(self.panel);
        let mut wide = [0.; TRANSFORMED * GROUP];
        let mut taps = [[0.; TRANSFORMED]; TAPS];
        let mut points = [[0.; TRANSFORMED]; POINTS];
        // Of a step, or of both of a pair.
        let mut rows = [[[N::default(); TRANSFORMED]; POINTS]; 2];
        for inputs in self.source.groups() {
            let length = inputs.len() * TAPS;
            for (column, wide) in columns.clone().zip(wide.chunks_exact_mut(length)) {
                T::widen(self.source.row(column, &inputs), wide);
            }
            let values = &wide[..columns.len() * length];
            for first in inputs.clone().step_by(together) {
                for (input, rows) in (first..first + together).zip(&mut rows) {
                    if input >= inputs.end {
                        *rows = [[N::default(); TRANSFORMED]; POINTS];
                        continue;
                    }
                    let at = (input - inputs.start) * TAPS;
                    for (column, values) in values.chunks_exact(length).enumerate() {
                        for (taps, value) in taps.iter_mut().zip(&values[at..at + TAPS]) {
                            taps[column] = *value;
                        }
                    }
                    F::apply(&taps, &mut points);
                    for (row, point) in rows.iter_mut().zip(&points) {
                        N::convert(point, row);
                    }
                }
                let (block, at) = (first / format.steps, format.place(first % format.steps, 0));
                let [one, other] = &rows;
                for (blocks, (one, other)) in self.points.iter_mut().zip(one.iter().zip(other)) {
                    let to = &mut blocks[block][at..][..together * width];
                    if together == 1 {
                        to.copy_from_slice(&one[..width]);
                        continue;
                    }
                    let pairs = one[..width].iter().zip(&other[..width]);
                    for (to, (one, other)) in to.chunks_exact_mut(2).zip(pairs) {
                        to[0] = *one;
                        to[1] = *other;
                    }
                }
            }
        }
    }
}

/// A panel's part of every block.
struct PackPanel<'a, 'p, T, N> {
    source: &'a Source<'a, T>,
    panel: usize,
    blocks: &'a mut [&'p mut [N]],
}

impl<T: Stored, N: FactorValue> WithSimd for PackPanel<'_, '_, T, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Source {
            inputs: all,
            taps,
            format,
            ..
        } = *self.source;
        let columns = self.source.panel(self.panel);
        let together = format.together();
        let mut values = Vec::new();
        for inputs in self.source.groups() {
            let length = inputs.len() * taps;
            values.resize(columns.len() * length, N::default());
            for (column, values) in columns.clone().zip(values.chunks_exact_mut(length)) {
                N::convert(self.source.row(column, &inputs), values);
            }
            for tap in 0..taps {
                for input in inputs.clone() {
                    let (step, at) = (tap * all + input, (input - inputs.start) * taps + tap);
                    let within = step % format.steps;
                    let (row, of_pair) = (within - within % together, within % together);
                    let to = &mut self.blocks[step / format.steps][format.place(row, 0)..];
                    let from = values.chunks_exact(length);
                    for (to, from) in to.chunks_exact_mut(together).zip(from) {
                        to[of_pair] = from[at];
                    }
                }
            }
        }
    }
}
