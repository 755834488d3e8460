//! Tiles multiplied by `vdpbf16ps`.

use std::arch::x86_64::*;

use super::{Block, LINES, PANEL, STEPS, Tile};
use crate::Isa;

/// Rows of the output whose sums are in registers at a time.
const ROWS: usize = 8;

/// See [`super::Multiplier::multiply_whole`].
pub(super) fn multiply(left: &[Tile], right: &[Tile], block: Block, add: bool) {
    let Block {
        values,
        rows,
        columns,
        stride,
    } = block;
    assert!(Isa::best() >= Isa::Avx512Bf16);
    assert!(rows.is_multiple_of(LINES) && rows <= PANEL && columns <= PANEL);
    for row in (0..rows).step_by(ROWS) {
        let to = &mut values[row * stride..];
        let to = &mut to[..(ROWS - 1) * stride + columns];
        // SAFETY: the machine has the instructions, asserted above.
        unsafe {
            if columns > LINES {
                rows_of::<2>(left, right, row, to, stride, add);
            } else {
                rows_of::<1>(left, right, row, to, stride, add);
            }
        }
    }
}

/// [`ROWS`] rows of the output, from `row` on, and `USED` tiles of its columns.
#[target_feature(enable = "avx512f,avx512bf16")]
fn rows_of<const USED: usize>(
    left: &[Tile],
    right: &[Tile],
    row: usize,
    to: &mut [f32],
    stride: usize,
    add: bool,
) {
    let (left, right) = (left.as_chunks::<2>().0, right.as_chunks::<2>().0);
    let (tile, part) = (row / LINES, row % LINES / ROWS);
    let mut sums = [[_mm512_setzero_ps(); USED]; ROWS];
    if add {
        for (sums, to) in sums.iter_mut().zip(to.chunks(stride)) {
            for (sum, to) in sums.iter_mut().zip(to.as_chunks::<LINES>().0) {
                // SAFETY: 16 values are read from an array of as many.
                *sum = unsafe { _mm512_loadu_ps(to.as_ptr()) };
            }
        }
    }
    for (left, right) in left.iter().zip(right) {
        let lines = &left[tile].as_chunks::<ROWS>().0[part];
        for pair in 0..STEPS / 2 {
            let mut columns = [bf16(_mm512_setzero_si512()); USED];
            for (columns, tile) in columns.iter_mut().zip(right) {
                // SAFETY: a line is 64 bytes, aligned to as many.
                *columns = bf16(unsafe { _mm512_load_si512(tile[pair].0.as_ptr().cast()) });
            }
            for (sums, line) in sums.iter_mut().zip(lines) {
                let two = u32::from(line.0[2 * pair]) | u32::from(line.0[2 * pair + 1]) << 16;
                let two = bf16(_mm512_set1_epi32(two.cast_signed()));
                for (sum, columns) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(*sum, two, columns);
                }
            }
        }
    }
    for (sums, to) in sums.iter().zip(to.chunks_mut(stride)) {
        for (sum, to) in sums.iter().zip(to.as_chunks_mut::<LINES>().0) {
            // SAFETY: 16 values are written to an array of as many.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits without meaning of their own.
    unsafe { std::mem::transmute(bits) }
}
