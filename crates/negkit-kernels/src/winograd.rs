//! 3x3 convolutions of stride 1 with 16 multiplications for four pixels instead of 36.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.1: `F(2x2, 3x3)`
//! of Winograd's minimal filtering. Of a tile of 4x4 pixels and the kernel `g`, `B^T d B` and `G g G^T`
//! are multiplied point by point and summed over the channels; `A^T m A` of these sums are 2x2 pixels of
//! the result. The kernel is transformed when it is packed. A point's multiplications over many tiles are
//! a matrix product, so that sixteen ordinary products are the whole of it; the tiles exist only a block
//! at a time.
//!
//! Sums of a few values are multiplied in place of the values themselves, so that a convolution alone errs
//! by a little more than in the direct way; both errors are far below those of the rest of a network. What
//! is infinite in one pixel is not a number in the four that share its tile.

use std::ops::Range;

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};

use crate::element::{Element, Stored};
use crate::layer::{Blocks, Finish, Finishing};
use crate::memory::{Scratch, SharedSlice, filled};
use crate::multiply::{Ahead, Factor, Sums, by_panels};
use crate::weights::{Format, Multiplier, Order, Precision, TRANSFORMED, Transform, Weights};
use crate::windows::{Sliding, Windows};
use crate::{Isa, Rows};

/// Points of a tile.
const POINTS: usize = 16;
/// Channels that are transformed side by side.
const LANES: usize = 32;

/// The transformed kernel of a 3x3 convolution of stride 1, packed.
#[derive(Debug)]
pub(crate) struct Winograd {
    /// A matrix `[columns, inputs]` for every point of a tile, row after row.
    points: Box<[Weights; POINTS]>,
}

impl Winograd {
    /// Whether the transformed kernel of so many outputs and inputs is worth its memory, 16/9 of the
    /// kernel's own. It is not where there are most channels: pictures are mostly small there, and such
    /// kernels are most of a UNet's memory. Where they are not, as `roomy` says, in bf16 it is.
    /// Tiles of AMX are taken to multiply faster than values can be transformed; it was not measured.
    pub(crate) fn worth(
        [columns, inputs]: [usize; 2],
        roomy: bool,
        precision: Precision,
        isa: Isa,
    ) -> bool {
        const LEAST: usize = 32;
        const MOST: usize = 1280 * 1280;
        let small = columns * inputs < MOST || (roomy && precision == Precision::Bf16);
        let multiplier = Format::new(isa, precision).multiplier;
        columns >= LEAST && inputs >= LEAST && small && multiplier != Multiplier::Tiles
    }

    /// Packs `weight` `[columns, inputs, 3, 3]`.
    ///
    /// # Errors
    /// When the values are not as many.
    pub(crate) fn pack<T: Stored>(
        weight: &[T],
        [columns, inputs]: [usize; 2],
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        let points = Weights::pack_points::<T, Stretch, 9, POINTS>(
            weight,
            [columns, inputs],
            precision,
            isa,
        )?;
        Ok(Self {
            points: Box::new(points),
        })
    }

    /// `[columns, inputs, 3, 3]`, up to the rounding of the transformed kernel.
    pub(crate) fn unpack(&self) -> Vec<f32> {
        let points = self
            .points
            .each_ref()
            .map(|point| point.unpack(1, Order::Plain));
        let mut weight = vec![0.; self.columns() * self.inputs() * 9];
        for (i, kernel) in weight.chunks_exact_mut(9).enumerate() {
            let columns = [0, 1, 2, 3].map(|column| {
                let at = |row: usize| points[4 * row + column][i];
                shrink([at(0), at(1), at(2), at(3)])
            });
            for row in 0..3 {
                let values = shrink(columns.map(|column| column[row]));
                kernel[3 * row..][..3].copy_from_slice(&values);
            }
        }
        weight
    }

    /// Channels that the convolution gives.
    pub(crate) fn columns(&self) -> usize {
        self.points[0].columns()
    }

    /// Channels that the convolution takes.
    pub(crate) fn inputs(&self) -> usize {
        self.points[0].steps()
    }
}

/// `G g G^T`.
struct Stretch;

impl Transform<9, POINTS> for Stretch {
    #[inline(always)]
    fn apply(taps: &[[f32; TRANSFORMED]; 9], points: &mut [[f32; TRANSFORMED]; POINTS]) {
        let mut rows = [[[0.; TRANSFORMED]; 4]; 3];
        for (row, taps) in rows.iter_mut().zip(taps.chunks_exact(3)) {
            for lane in 0..TRANSFORMED {
                let stretched = stretch([taps[0][lane], taps[1][lane], taps[2][lane]]);
                for (to, value) in row.iter_mut().zip(stretched) {
                    to[lane] = value;
                }
            }
        }
        for column in 0..4 {
            for lane in 0..TRANSFORMED {
                let stretched = stretch([0, 1, 2].map(|row| rows[row][column][lane]));
                for (row, value) in stretched.into_iter().enumerate() {
                    points[4 * row + column][lane] = value;
                }
            }
        }
    }
}

/// `G g`.
#[inline(always)]
fn stretch([a, b, c]: [f32; 3]) -> [f32; 4] {
    let (sum, half) = (a + c, b / 2.);
    [a, sum / 2. + half, sum / 2. - half, c]
}

/// What [`stretch`] was given.
fn shrink([a, plus, minus, c]: [f32; 4]) -> [f32; 3] {
    [a, plus - minus, c]
}

/// `finish(convolution)` of pictures `[n, height, width, channels]` with a border of one pixel of zeros,
/// of the same order. `sliding` is as for [`Windows`].
///
/// # Errors
/// When sizes do not fit, or `sliding` is no 3x3 of stride 1 that keeps the size.
pub(crate) fn convolve<T: Element>(
    pictures: &[T],
    sliding: Sliding,
    kernel: &Winograd,
    finish: Finish<'_, T>,
) -> Result<Vec<T>> {
    if !sliding.is_same_3x3() {
        bail!("convolution: packed for 3 x 3 pixels that keep the size, found {sliding:?}")
    }
    // A tile is a window of 4x4 pixels; the last one may reach a pixel beyond the border.
    let tiles = Sliding {
        kernel: [4, 4],
        stride: 2,
        after: 2,
        ..sliding
    };
    let (columns, channels) = (kernel.columns(), kernel.inputs());
    let tiles = Windows::new(pictures, channels, tiles)?;
    let [height, width] = sliding.resized;
    let pixels = tiles.pictures() * height * width;
    let finishing = Finishing::new(finish, [pixels, columns])?;
    crate::count::product(pixels, columns, 9 * channels);
    let count = tiles.count();
    let blocks = Blocks::of(count, &kernel.points[0], LARGEST);
    Ok(filled(finishing.length(), |out| {
        let compute = |task: usize| {
            let task = Task {
                tiles: &tiles,
                size: sliding.resized,
                range: blocks.rows(task, count),
                panels: blocks.panels(task, &kernel.points[0]),
                kernel,
                finishing,
                out,
            };
            kernel.points[0].format.isa.arch().dispatch(task);
        };
        blocks.each(POINTS * count * columns * channels, compute);
    }))
}

/// Tiles and columns of a task: what it has of one point, transformed, stays in the cache's second level.
const LARGEST: [usize; 2] = [48, 512];

struct Task<'a, T> {
    tiles: &'a Windows<'a, T>,
    /// Height and width of the result.
    size: [usize; 2],
    range: Range<usize>,
    panels: Range<usize>,
    kernel: &'a Winograd,
    finishing: Finishing<'a, T>,
    out: SharedSlice<'a, T>,
}

impl<T: Element> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.kernel.points[0].format.multiplier {
            Multiplier::Vectors => self.multiply::<S, f32>(simd),
            Multiplier::Pairs | Multiplier::Tiles => self.multiply::<S, u16>(simd),
        }
    }
}

impl<T: Element> Task<'_, T> {
    #[inline(always)]
    fn multiply<S: Simd, N: Factor>(self, simd: S) {
        let points = &self.kernel.points;
        let Weights { format, steps, .. } = points[0];
        let rows = self.range.len().next_multiple_of(format.rows);
        // No power of two: rows would fall into the same few sets of the cache.
        let row = self.panels.len() * format.columns + 16;
        let mut values = Scratch::<f32>::take(POINTS * rows * row);
        let mut left = Scratch::<N>::take(POINTS * rows * N::STRIDE);
        for block in 0..steps.div_ceil(format.steps) {
            let first = block * format.steps;
            let channels = first..steps.min(first + format.steps);
            self.transform(&mut left, rows, channels, points[0].block_steps(block));
            let planes = values
                .chunks_exact_mut(rows * row)
                .zip(left.chunks_exact(rows * N::STRIDE));
            for (point, ((values, left), weights)) in planes.zip(&points[..]).enumerate() {
                let mut sums = Sums {
                    values,
                    stride: row,
                    add: block > 0,
                };
                let panels = self.panels.clone();
                let then = points.get(point + 1).map_or_else(Ahead::default, |next| {
                    Ahead::of(next.panel(block, panels.start))
                });
                by_panels(simd, (left, rows), weights, block, panels, then, &mut sums);
            }
        }
        self.write(&mut values, [rows, row]);
    }

    /// `B^T d B` of the tiles' `channels`: for every point `rows` rows, with zeros up to `padded` values.
    #[inline(always)]
    fn transform<N: Factor>(
        &self,
        left: &mut [N],
        rows: usize,
        channels: Range<usize>,
        padded: usize,
    ) {
        let plane = rows * N::STRIDE;
        for (i, tile) in self.range.clone().enumerate() {
            let mut pixels = [None; POINTS];
            for (point, pixel) in pixels.iter_mut().enumerate() {
                *pixel = self.tiles.pixel(tile, [point / 4, point % 4]);
            }
            for first in channels.clone().step_by(LANES) {
                let count = LANES.min(channels.end - first);
                let mut d = [[0f32; LANES]; POINTS];
                for (d, pixel) in d.iter_mut().zip(pixels) {
                    let Some(pixel) = pixel else { continue };
                    match pixel[first..].first_chunk::<LANES>() {
                        Some(values) if count == LANES => T::widen(values, d),
                        _ => T::widen(&pixel[first..][..count], &mut d[..count]),
                    }
                }
                for column in 0..4 {
                    difference(&mut d, [column, 4 + column, 8 + column, 12 + column]);
                }
                for row in 0..4 {
                    difference(&mut d, [4 * row, 4 * row + 1, 4 * row + 2, 4 * row + 3]);
                }
                let at = i * N::STRIDE + first - channels.start;
                for (point, d) in d.iter().enumerate() {
                    let to = &mut left[point * plane + at..];
                    match to.first_chunk_mut::<LANES>() {
                        Some(to) if count == LANES => N::convert(d, to),
                        _ => N::convert(&d[..count], &mut to[..count]),
                    }
                }
            }
        }
        for plane in left.chunks_exact_mut(plane) {
            for (i, line) in plane.chunks_exact_mut(N::STRIDE).enumerate() {
                let used = if i < self.range.len() {
                    channels.len()
                } else {
                    0
                };
                line[used..padded].fill(N::default());
            }
        }
    }

    /// `A^T m A` of the sums, finished and written.
    #[inline(always)]
    fn write(&self, sums: &mut [f32], [rows, stride]: [usize; 2]) {
        let plane = rows * stride;
        let first = self.panels.start * self.kernel.points[0].format.columns;
        let width = self.panels.len() * self.kernel.points[0].format.columns;
        let count = width.min(self.finishing.columns() - first);
        let ([height, width], [_, across]) = (self.size, self.tiles.size());
        for (i, tile) in self.range.clone().enumerate() {
            for column in (0..count).step_by(LANES) {
                let at = i * stride + column;
                let lanes = LANES.min(count - column);
                let mut m = [[0f32; LANES]; POINTS];
                for (point, m) in m.iter_mut().enumerate() {
                    let from = &sums[point * plane + at..];
                    match from.first_chunk::<LANES>() {
                        Some(from) if lanes == LANES => *m = *from,
                        _ => m[..lanes].copy_from_slice(&from[..lanes]),
                    }
                }
                for column in 0..4 {
                    gather(&mut m, [column, 4 + column, 8 + column, 12 + column]);
                }
                for row in 0..2 {
                    gather(&mut m, [4 * row, 4 * row + 1, 4 * row + 2, 4 * row + 3]);
                }
                // The four pixels take the place of the first four points.
                for (pixel, point) in [0, 1, 4, 5].into_iter().enumerate() {
                    sums[pixel * plane + at..][..lanes].copy_from_slice(&m[point][..lanes]);
                }
            }
            let (x, rest) = (tile % across, tile / across);
            let down = height.div_ceil(2);
            let (y, picture) = (rest % down, rest / down);
            for pixel in 0..4 {
                let (y, x) = (2 * y + pixel / 2, 2 * x + pixel % 2);
                if y >= height || x >= width {
                    continue;
                }
                let row = (picture * height + y) * width + x;
                let sums = &mut sums[pixel * plane + i * stride..][..count];
                #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
                // SAFETY: no two tasks have a tile and a column in common, no two tiles a pixel, and a
                // task takes one pixel after another.
                unsafe {
                    self.finishing.row(row, first, sums, self.out);
                }
            }
        }
    }
}

/// `B^T` times the points at four places.
#[inline(always)]
fn difference(points: &mut [[f32; LANES]; POINTS], places: [usize; 4]) {
    // The places are those of a row or a column: four, and different.
    let Ok([a, b, c, d]) = points.get_disjoint_mut(places) else {
        return;
    };
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        (*a, *b, *c, *d) = (*a - *c, *b + *c, *c - *b, *b - *d);
    }
}

/// `A^T` times the points at four places: two values, at the first two.
#[inline(always)]
fn gather(points: &mut [[f32; LANES]; POINTS], places: [usize; 4]) {
    // As in `difference`.
    let Ok([a, b, c, d]) = points.get_disjoint_mut(places) else {
        return;
    };
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        (*a, *b) = (*a + *b + *c, *b - *c - *d);
    }
}
