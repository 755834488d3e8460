//! The inner loops of products: a block of rows times the panels of packed weights.
//!
//! The left factor lies in rows that begin [`stride`] values apart, whichever multiplier takes it; the
//! sums lie in rows of f32 as wide as the panels. Rows are rounded up to what a multiplier takes at a
//! time, so that it never has to look where the matrix ends.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod tiles;

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod emulated;
#[cfg(target_arch = "x86_64")]
mod pairs;

use pulp::Simd;

use crate::element::{Element, widen_bits};
use crate::memory::{Plain, Scratch};
use crate::weights::{Format, Multiplier, Panel, STEPS_F32, STEPS_PAIRS, Weights};

/// Values from one row of a left factor of f32 to the next. It is no power of two: the rows of a tile
/// would all fall into the same few sets of the cache.
pub(crate) const ROW_F32: usize = STEPS_F32 + 16;

/// Values from one row of the left factor to the next.
pub(crate) const fn stride(multiplier: Multiplier) -> usize {
    match multiplier {
        Multiplier::Vectors => ROW_F32,
        Multiplier::Pairs | Multiplier::Tiles => STEPS_PAIRS + 32,
    }
}

/// The sums of a block of rows: `[rows, stride]`.
pub(crate) struct Sums<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
    /// Whether what is there already is added to.
    pub(crate) add: bool,
}

/// `sums (+)= left @ panels` of f32: `left` holds `rows` rows, a multiple of what the format takes at a
/// time; the sums of panel `first + i` begin at column `i * format.columns`.
#[inline(always)]
pub(crate) fn by_vectors<S: Simd>(
    simd: S,
    left: &[f32],
    rows: usize,
    weights: &Weights,
    block: usize,
    panels: std::ops::Range<usize>,
    sums: &mut Sums,
) {
    let width = weights.format.columns;
    let steps = weights.block_steps(block);
    let first = panels.start;
    let mut wide = Scratch::<f32>::take(width * STEPS_F32);
    for panel in panels {
        let values = match weights.panel(block, panel) {
            Panel::F32(values) => values,
            Panel::Bf16(values) => {
                let wide = &mut wide[..values.len()];
                widen_bits(values, wide);
                wide
            }
        };
        let count = width.min(weights.columns - panel * width);
        let at = (panel - first) * width;
        panel_by_vectors(simd, left, rows, values, steps, count, at, sums);
    }
}

/// One panel of `steps` rows, of which `count` columns are wanted; their sums begin at column `at`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined into two loops")]
pub(crate) fn panel_by_vectors<S: Simd>(
    simd: S,
    left: &[f32],
    rows: usize,
    panel: &[f32],
    steps: usize,
    count: usize,
    at: usize,
    sums: &mut Sums,
) {
    match S::F32_LANES {
        1 => rows_by_vectors::<S, 4, 8, 4>(simd, left, rows, panel, steps, count, at, sums),
        16 => rows_by_vectors::<S, 12, 2, 1>(simd, left, rows, panel, steps, count, at, sums),
        // AVX2; of what has narrower vectors nothing is dispatched to yet.
        _ => rows_by_vectors::<S, 6, 2, 1>(simd, left, rows, panel, steps, count, at, sums),
    }
}

/// `FULL` vectors are a panel; where `HALF` are enough, only these are computed.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined into two loops")]
fn rows_by_vectors<S: Simd, const ROWS: usize, const FULL: usize, const HALF: usize>(
    simd: S,
    left: &[f32],
    rows: usize,
    panel: &[f32],
    steps: usize,
    count: usize,
    at: usize,
    sums: &mut Sums,
) {
    let (panel, _) = S::as_simd_f32s(panel);
    assert!(rows.is_multiple_of(ROWS) && panel.len() == steps * FULL && steps <= STEPS_F32);
    let half = count <= HALF * S::F32_LANES;
    for row in (0..rows).step_by(ROWS) {
        let left = &left[row * ROW_F32..][..ROWS * ROW_F32];
        let to = &mut sums.values[row * sums.stride + at..];
        let to = &mut to[..(ROWS - 1) * sums.stride + FULL * S::F32_LANES];
        if half {
            tile::<S, ROWS, FULL, HALF>(simd, left, panel, steps, to, sums.stride, sums.add);
        } else {
            tile::<S, ROWS, FULL, FULL>(simd, left, panel, steps, to, sums.stride, sums.add);
        }
    }
}

/// `ROWS` rows times the first `USED` vectors of a panel that is `FULL` vectors wide. All sums are in
/// registers.
#[inline(always)]
#[allow(
    unsafe_code,
    reason = "the compiler does not see that a step is in bounds, and a check would double the loop"
)]
fn tile<S: Simd, const ROWS: usize, const FULL: usize, const USED: usize>(
    simd: S,
    left: &[f32],
    panel: &[S::f32s],
    steps: usize,
    to: &mut [f32],
    to_stride: usize,
    add: bool,
) {
    assert!(left.len() == ROWS * ROW_F32 && steps <= STEPS_F32 && USED <= FULL);
    let mut sums = [[simd.splat_f32s(0.); USED]; ROWS];
    for (step, row) in panel[..steps * FULL].chunks_exact(FULL).enumerate() {
        let Some(right) = row.first_chunk::<USED>() else {
            unreachable!("USED <= FULL, as asserted above");
        };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `i < ROWS` and `step < steps <= ROW_F32`, so that the index is below
            // `ROWS * ROW_F32`, the length of `left` as asserted above.
            let x = simd.splat_f32s(unsafe { *left.get_unchecked(i * ROW_F32 + step) });
            for j in 0..USED {
                sums[j] = simd.mul_add_e_f32s(x, right[j], sums[j]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let to = &mut to[i * to_stride..][..USED * S::F32_LANES];
        let (to, _) = S::as_mut_simd_f32s(to);
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = if add { simd.add_f32s(*to, *sum) } else { *sum };
        }
    }
}

/// The same with factors in bf16, by pairs or by tiles.
pub(crate) fn by_bf16(
    left: &[u16],
    rows: usize,
    weights: &Weights,
    block: usize,
    panels: std::ops::Range<usize>,
    sums: &mut Sums,
) {
    let format = weights.format;
    let steps = weights.block_steps(block);
    let first = panels.start;
    for panel in panels {
        let at = (panel - first) * format.columns;
        let Panel::Bf16(values) = weights.panel(block, panel) else {
            continue;
        };
        let count = format.columns.min(weights.columns - panel * format.columns);
        panel_by_bf16(format, left, rows, values, steps, count, at, sums);
    }
}

/// One panel of `steps` rows, of which `count` columns are wanted; their sums begin at column `at`.
#[allow(clippy::too_many_arguments, reason = "as the loops that it calls")]
fn panel_by_bf16(
    format: Format,
    left: &[u16],
    rows: usize,
    panel: &[u16],
    steps: usize,
    count: usize,
    at: usize,
    sums: &mut Sums,
) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if format.multiplier == Multiplier::Tiles {
        tiles::Tiles::configure().multiply(left, rows, panel, steps, at, sums);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    pairs::multiply(format.isa, left, rows, panel, steps, count, at, sums);
}

/// Type of a left factor of products whose right factor is packed for them too, as attention's are.
pub(crate) trait Left: Plain + Default {
    /// Values from one row to the next.
    const STRIDE: usize;

    /// Values that a row of [`Left::of_sums`] takes besides the sums themselves.
    const OF_SUMS: usize;

    /// Writes `from` as this type.
    fn convert<T: Element>(from: &[T], to: &mut [Self]);

    /// Sums whose rows are [`ROW_F32`] values apart as a left factor of `count` steps and zeros up to
    /// `padded`, in `own` if not where they are.
    fn of_sums<'a>(sums: &'a [f32], own: &'a mut [Self], count: usize, padded: usize)
    -> &'a [Self];

    /// One panel of `steps` rows, of which `count` columns are wanted; their sums begin at column `at`.
    #[allow(clippy::too_many_arguments, reason = "as the loops that it calls")]
    fn multiply<S: Simd>(
        simd: S,
        format: Format,
        left: &[Self],
        rows: usize,
        panel: &[Self],
        steps: usize,
        count: usize,
        at: usize,
        sums: &mut Sums,
    );
}

impl Left for f32 {
    const STRIDE: usize = ROW_F32;
    const OF_SUMS: usize = 0;

    #[inline(always)]
    fn convert<T: Element>(from: &[T], to: &mut [f32]) {
        T::widen(from, to);
    }

    #[inline(always)]
    fn of_sums<'a>(sums: &'a [f32], _: &'a mut [f32], _: usize, _: usize) -> &'a [f32] {
        sums
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        simd: S,
        _: Format,
        left: &[f32],
        rows: usize,
        panel: &[f32],
        steps: usize,
        count: usize,
        at: usize,
        sums: &mut Sums,
    ) {
        panel_by_vectors(simd, left, rows, panel, steps, count, at, sums);
    }
}

impl Left for u16 {
    const STRIDE: usize = stride(Multiplier::Pairs);
    const OF_SUMS: usize = Self::STRIDE;

    #[inline(always)]
    fn convert<T: Element>(from: &[T], to: &mut [u16]) {
        T::to_bf16_bits(from, to);
    }

    #[inline(always)]
    fn of_sums<'a>(sums: &'a [f32], own: &'a mut [u16], count: usize, padded: usize) -> &'a [u16] {
        let rows = sums
            .chunks_exact(ROW_F32)
            .zip(own.chunks_exact_mut(Self::STRIDE));
        for (sums, own) in rows {
            f32::to_bf16_bits(&sums[..count], &mut own[..count]);
            own[count..padded].fill(0);
        }
        own
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        _: S,
        format: Format,
        left: &[u16],
        rows: usize,
        panel: &[u16],
        steps: usize,
        count: usize,
        at: usize,
        sums: &mut Sums,
    ) {
        panel_by_bf16(format, left, rows, panel, steps, count, at, sums);
    }
}
