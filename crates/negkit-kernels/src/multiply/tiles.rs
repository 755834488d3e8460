//! Products of tiles of bf16 by Intel AMX.
//!
//! A tile of the left factor holds 16 rows of 32 steps, one of the right factor 16 pairs of steps of 16
//! columns, and `tdpbf16ps` adds their product to 16 x 16 sums. Four tiles of sums (32 x 32) need two
//! of each factor, which is as many products a load as eight tiles allow. Rust has no stable
//! intrinsics for them, only inline assembly.

use std::arch::asm;

use super::{Factors, ROW_PAIRS as STRIDE, Sums};
pub(crate) use crate::amx::Tiles;

/// Rows and columns of a block of four tiles.
const SIDE: usize = 32;
/// Steps of a tile.
const STEPS: usize = 32;

impl Tiles {
    /// The left factor's rows times a panel of `steps / 2` rows of 32 pairs.
    #[allow(unsafe_code, reason = "no stable intrinsics for AMX")]
    pub(super) fn multiply(&self, factors: Factors<u16>, sums: &mut Sums) {
        let Factors {
            left,
            rows,
            panel,
            steps,
            at,
            ..
        } = factors;
        assert!(rows.is_multiple_of(SIDE) && steps.is_multiple_of(STEPS) && steps <= STRIDE);
        assert!(steps > 0 && panel.len() == steps * SIDE);
        for row in (0..rows).step_by(SIDE) {
            let left = &left[row * STRIDE..][..SIDE * STRIDE];
            let to = &mut sums.values[row * sums.stride + at..];
            let to = &mut to[..(SIDE - 1) * sums.stride + SIDE];
            // SAFETY: the tiles are configured as 16 rows of 64 bytes, which `self` is the proof of.
            // Of `left`, rows 0..16 and 16..32 are read, 32 values a step of the loop, `steps / 32`
            // times: below `STRIDE` values a row, and there are 32 rows. Of `panel`, 16 rows of 128
            // bytes are read a step, as many as it has. Of `to`, 32 rows of 32 values are read and
            // written, `sums.stride` values apart, which is how it was sliced above. Only tiles, named
            // as clobbered, and the registers given are changed.
            unsafe {
                asm!(
                    "test {add}, {add}",
                    "jnz 3f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 2f",
                    "3:",
                    "tileloadd tmm0, [{upper} + {to_stride}]",
                    "tileloadd tmm1, [{upper} + {to_stride} + 64]",
                    "tileloadd tmm2, [{lower} + {to_stride}]",
                    "tileloadd tmm3, [{lower} + {to_stride} + 64]",
                    "2:",
                    "tileloadd tmm4, [{a} + {a_stride}]",
                    "tileloadd tmm6, [{b} + {b_stride}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {b_stride} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a_lower} + {a_stride}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 64",
                    "add {a_lower}, 64",
                    "add {b}, 2048",
                    "dec {n}",
                    "jnz 2b",
                    "tilestored [{upper} + {to_stride}], tmm0",
                    "tilestored [{upper} + {to_stride} + 64], tmm1",
                    "tilestored [{lower} + {to_stride}], tmm2",
                    "tilestored [{lower} + {to_stride} + 64], tmm3",
                    a = inout(reg) left.as_ptr() => _,
                    a_lower = inout(reg) left.as_ptr().wrapping_add(16 * STRIDE) => _,
                    b = inout(reg) panel.as_ptr() => _,
                    n = inout(reg) steps / STEPS => _,
                    a_stride = in(reg) STRIDE * size_of::<u16>(),
                    b_stride = in(reg) 2 * SIDE * size_of::<u16>(),
                    upper = in(reg) to.as_mut_ptr(),
                    lower = in(reg) to.as_mut_ptr().wrapping_add(16 * sums.stride),
                    to_stride = in(reg) sums.stride * size_of::<f32>(),
                    add = in(reg) usize::from(sums.add),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    }
}
