//! The inner loops of products: a block of rows times the panels of packed weights.
//!
//! The left factor lies in rows that begin [`Factor::STRIDE`] values apart, whichever multiplier takes it;
//! the sums lie in rows of f32 as wide as the panels. Rows are rounded up to what a multiplier takes at a
//! time, so that it never has to look where the matrix ends.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod tiles;

#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
pub(crate) mod emulated;
#[cfg(target_arch = "x86_64")]
mod pairs;

use pulp::Simd;

#[cfg(target_arch = "x86_64")]
use crate::Isa;
use crate::element::{FactorValue, Stored, widen_bits};
use crate::memory::Scratch;
use crate::weights::{Format, Multiplier, Panel, STEPS_F32, STEPS_PAIRS, Weights};

/// Values from one row of a left factor of f32 to the next. It is no power of two: the rows of a tile
/// would all fall into the same few sets of the cache.
pub(crate) const ROW_F32: usize = STEPS_F32 + 16;

/// The same of bf16.
const ROW_PAIRS: usize = STEPS_PAIRS + 32;

/// The sums of a block of rows: `[rows, stride]`.
pub(crate) struct Sums<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
    /// Whether what is there already is added to.
    pub(crate) add: bool,
}

/// A block of rows and the panel that it is multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a, N> {
    /// `rows` rows, a multiple of what the format takes at a time.
    pub(crate) left: &'a [N],
    pub(crate) rows: usize,
    /// `steps` rows as wide as the format's columns.
    pub(crate) panel: &'a [N],
    pub(crate) steps: usize,
    /// Columns of the panel that are wanted.
    pub(crate) count: usize,
    /// Column of the sums that theirs begin at.
    pub(crate) at: usize,
    /// What is multiplied next, if it has to come from memory: a panel is read end to end while its first
    /// rows are multiplied, faster than memory gives it, and from the cache for the others.
    pub(crate) ahead: Ahead<'a>,
}

/// Memory that is asked for while something else is computed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead<'a>(&'a [u8]);

impl<'a> Ahead<'a> {
    /// The panel's memory.
    pub(crate) fn of(panel: Panel<'a>) -> Self {
        Self(match panel {
            Panel::F32(values) => bytemuck::cast_slice(values),
            Panel::Bf16(values) => bytemuck::cast_slice(values),
        })
    }

    /// Where to begin in part `part` of `parts`, and how far to go each of its `steps`. Where there is
    /// nothing ahead, it stays at `here`, which is in the cache: a loop without a branch asks for that.
    #[inline(always)]
    fn part<N>(self, [part, parts]: [usize; 2], steps: usize, here: &[N]) -> (*const u8, usize) {
        if self.0.is_empty() {
            return (here.as_ptr().cast(), 0);
        }
        let pace = self.0.len() / (parts * steps).max(1);
        (self.0.as_ptr().wrapping_add(part * steps * pace), pace)
    }
}

/// Asks for the memory at an address to be in the second level of the cache soon.
#[inline(always)]
fn ask_for(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "an intrinsic")]
    // SAFETY: whatever the address, this is a hint that changes nothing but the cache.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Type of the factors of products.
pub(crate) trait Factor: FactorValue {
    /// Values from one row of the left factor to the next.
    const STRIDE: usize;

    /// Values that a row of [`Factor::of_sums`] takes besides the sums themselves.
    const OF_SUMS: usize;

    /// Values that a step of a column takes besides the panel, where [`Factor::of_panel`] converts it.
    const OF_PANEL: usize;

    /// What multiplies, made ready for a while.
    type Multiplier;

    /// Makes ready what multiplies in this format.
    fn multiplier(format: Format) -> Self::Multiplier;

    /// Sums whose rows are [`ROW_F32`] values apart as a left factor of `count` steps and zeros up to
    /// `padded`, in `own` if not where they are.
    fn of_sums<'a>(sums: &'a [f32], own: &'a mut [Self], count: usize, padded: usize)
    -> &'a [Self];

    /// A panel of weights as a right factor, in `own` if not where it is.
    fn of_panel<'a>(panel: Panel<'a>, own: &'a mut [Self]) -> &'a [Self];

    /// `sums (+)= left @ panel`.
    fn multiply<S: Simd>(
        simd: S,
        multiplier: &Self::Multiplier,
        factors: Factors<Self>,
        sums: &mut Sums,
    );
}

/// `sums (+)= left @ panels`; the sums of panel `first + i` begin at column `i * format.columns`. `then` is
/// multiplied after them.
#[inline(always)]
pub(crate) fn by_panels<S: Simd, N: Factor>(
    simd: S,
    (left, rows): (&[N], usize),
    weights: &Weights,
    block: usize,
    panels: std::ops::Range<usize>,
    then: Ahead,
    sums: &mut Sums,
) {
    let end = panels.end;
    let width = weights.format.columns;
    let steps = weights.block_steps(block);
    let multiplier = N::multiplier(weights.format);
    let mut own = Scratch::<N>::take(N::OF_PANEL * width * steps);
    for (i, panel) in panels.enumerate() {
        let factors = Factors {
            left,
            rows,
            panel: N::of_panel(weights.panel(block, panel), &mut own),
            steps,
            count: width.min(weights.columns - panel * width),
            at: i * width,
            ahead: if panel + 1 < end {
                Ahead::of(weights.panel(block, panel + 1))
            } else {
                then
            },
        };
        N::multiply(simd, &multiplier, factors, sums);
    }
}

impl Factor for f32 {
    const STRIDE: usize = ROW_F32;
    const OF_SUMS: usize = 0;
    const OF_PANEL: usize = 1;

    type Multiplier = ();

    fn multiplier(_: Format) {}

    #[inline(always)]
    fn of_sums<'a>(sums: &'a [f32], _: &'a mut [f32], _: usize, _: usize) -> &'a [f32] {
        sums
    }

    #[inline(always)]
    fn of_panel<'a>(panel: Panel<'a>, own: &'a mut [f32]) -> &'a [f32] {
        match panel {
            Panel::F32(values) => values,
            Panel::Bf16(values) => {
                widen_bits(values, own);
                own
            }
        }
    }

    #[inline(always)]
    fn multiply<S: Simd>(simd: S, _: &(), factors: Factors<f32>, sums: &mut Sums) {
        match S::F32_LANES {
            1 => rows_by_vectors::<S, 4, 8, 4>(simd, factors, sums),
            16 => rows_by_vectors::<S, 12, 2, 1>(simd, factors, sums),
            // AVX2; of what has narrower vectors nothing is dispatched to yet.
            _ => rows_by_vectors::<S, 6, 2, 1>(simd, factors, sums),
        }
    }
}

/// Who multiplies bf16.
pub(crate) enum Bf16 {
    /// `vdpbf16ps`, which this set of instructions has.
    #[cfg(target_arch = "x86_64")]
    Pairs(Isa),
    /// AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Tiles(tiles::Tiles),
}

impl Factor for u16 {
    const STRIDE: usize = ROW_PAIRS;
    const OF_SUMS: usize = Self::STRIDE;
    const OF_PANEL: usize = 0;

    type Multiplier = Bf16;

    fn multiplier(format: Format) -> Bf16 {
        match format.multiplier {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Multiplier::Tiles => Bf16::Tiles(tiles::Tiles::configure()),
            #[cfg(target_arch = "x86_64")]
            Multiplier::Pairs => Bf16::Pairs(format.isa),
            _ => unreachable!("{format:?} does not multiply bf16"),
        }
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
    fn of_panel<'a>(panel: Panel<'a>, _: &'a mut [u16]) -> &'a [u16] {
        match panel {
            Panel::Bf16(values) => values,
            Panel::F32(_) => unreachable!("a format that multiplies bf16 is packed in bf16"),
        }
    }

    #[inline(always)]
    fn multiply<S: Simd>(_: S, multiplier: &Bf16, factors: Factors<u16>, sums: &mut Sums) {
        match *multiplier {
            #[cfg(target_arch = "x86_64")]
            Bf16::Pairs(isa) => pairs::multiply(isa, factors, sums),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Bf16::Tiles(ref tiles) => tiles.multiply(factors, sums),
        }
    }
}

/// `FULL` vectors are a panel; where `HALF` are enough, only these are computed.
#[inline(always)]
fn rows_by_vectors<S: Simd, const ROWS: usize, const FULL: usize, const HALF: usize>(
    simd: S,
    factors: Factors<f32>,
    sums: &mut Sums,
) {
    let Factors {
        left,
        rows,
        panel,
        steps,
        count,
        at,
        ahead,
    } = factors;
    let (panel, _) = S::as_simd_f32s(panel);
    assert!(rows.is_multiple_of(ROWS) && panel.len() == steps * FULL && steps <= STEPS_F32);
    let half = count <= HALF * S::F32_LANES;
    for row in (0..rows).step_by(ROWS) {
        let left = &left[row * ROW_F32..][..ROWS * ROW_F32];
        let to = &mut sums.values[row * sums.stride + at..];
        let to = &mut to[..(ROWS - 1) * sums.stride + FULL * S::F32_LANES];
        let ahead = ahead.part([row / ROWS, rows / ROWS], steps, left);
        let how = (sums.stride, sums.add);
        if half {
            tile::<S, ROWS, FULL, HALF>(simd, left, panel, steps, to, how, ahead);
        } else {
            tile::<S, ROWS, FULL, FULL>(simd, left, panel, steps, to, how, ahead);
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
    (to_stride, add): (usize, bool),
    (ahead, pace): (*const u8, usize),
) {
    assert!(left.len() == ROWS * ROW_F32 && steps <= STEPS_F32 && USED <= FULL);
    let mut sums = [[simd.splat_f32s(0.); USED]; ROWS];
    for (step, row) in panel[..steps * FULL].chunks_exact(FULL).enumerate() {
        let Some(right) = row.first_chunk::<USED>() else {
            unreachable!("USED <= FULL, as asserted above");
        };
        ask_for(ahead.wrapping_add(step * pace));
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
