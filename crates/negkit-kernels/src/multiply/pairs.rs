//! Products of pairs of bf16 by `vdpbf16ps`.

use std::arch::x86_64::*;

use super::{Factors, ROW_PAIRS as STRIDE, Sums, ask_for};
use crate::Isa;

const ROWS: usize = 12;
/// Columns of a panel.
const COLUMNS: usize = 32;

/// The left factor's rows times a panel of `steps / 2` rows of 32 pairs. Where the columns that are
/// wanted are in the first half of the panel, only this is computed.
pub(super) fn multiply(isa: Isa, factors: Factors<u16>, sums: &mut Sums) {
    let Factors {
        left,
        rows,
        panel,
        steps,
        count,
        at,
        ahead,
    } = factors;
    assert!(isa >= Isa::Avx512Bf16 && isa <= Isa::best());
    assert!(rows.is_multiple_of(ROWS) && steps.is_multiple_of(2) && steps <= STRIDE);
    assert!(panel.len() == steps * COLUMNS);
    for row in (0..rows).step_by(ROWS) {
        let left = &left[row * STRIDE..][..ROWS * STRIDE];
        let to = &mut sums.values[row * sums.stride + at..];
        let to = &mut to[..(ROWS - 1) * sums.stride + COLUMNS];
        let ahead = ahead.part([row / ROWS, rows / ROWS], steps / 2, left);
        #[allow(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: the machine has the instructions, asserted above.
        unsafe {
            if count <= COLUMNS / 2 {
                tile::<1>(left, panel, steps, to, (sums.stride, sums.add), ahead);
            } else {
                tile::<2>(left, panel, steps, to, (sums.stride, sums.add), ahead);
            }
        }
    }
}

/// The first `USED` registers of columns.
#[allow(unsafe_code, reason = "AVX-512 loads and stores take pointers")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn tile<const USED: usize>(
    left: &[u16],
    panel: &[u16],
    steps: usize,
    to: &mut [f32],
    (to_stride, add): (usize, bool),
    (ahead, pace): (*const u8, usize),
) {
    assert!(left.len() == ROWS * STRIDE && steps <= STRIDE && panel.len() == steps * COLUMNS);
    assert!(to.len() == (ROWS - 1) * to_stride + COLUMNS);
    let mut sums = [[_mm512_setzero_ps(); USED]; ROWS];
    for pair in 0..steps / 2 {
        ask_for(ahead.wrapping_add(pair * pace));
        // SAFETY: the panel has `steps / 2` rows of 64 values, asserted above: two registers of 32.
        let right = unsafe {
            let row = panel.as_ptr().add(pair * 2 * COLUMNS);
            let (low, high) = (
                _mm512_loadu_si512(row.cast()),
                _mm512_loadu_si512(row.add(COLUMNS).cast()),
            );
            [bf16(low), bf16(high)]
        };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `i * STRIDE + 2 * pair + 1` is below `ROWS * STRIDE`, the length of `left`; the
            // read of two values needs no alignment.
            let x = unsafe {
                let pair = left.as_ptr().add(i * STRIDE + 2 * pair);
                bf16(_mm512_set1_epi32(pair.cast::<i32>().read_unaligned()))
            };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, x, right);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let to = &mut to[i * to_stride..][..COLUMNS];
        for (to, sum) in to.chunks_exact_mut(16).zip(sums) {
            // SAFETY: 16 values are read from and written to a chunk of as many.
            unsafe {
                let before = if add {
                    _mm512_loadu_ps(to.as_ptr())
                } else {
                    _mm512_setzero_ps()
                };
                _mm512_storeu_ps(to.as_mut_ptr(), _mm512_add_ps(before, *sum));
            }
        }
    }
}

#[allow(unsafe_code, reason = "one type of 512 bits as another")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits without meaning of their own.
    unsafe { std::mem::transmute(bits) }
}
