//! Intel AMX: whether the process may use it, and its tiles.

#![allow(
    unsafe_code,
    reason = "Rust has no stable intrinsics for AMX, only inline assembly"
)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Whether this processor and this kernel let the process use AMX in bf16. Asks once.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && permitted())
}

fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16");
    if !wide || __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    features & AMX_BF16 != 0 && features & AMX_TILE != 0
}

/// Asks the kernel for the tiles' state, which it does not save unless asked to.
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this request takes a number, touches no memory of ours, and fails with an error where
    // the kernel does not know it.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    refused == 0
}

/// The tiles of this thread in use; they are given back when this is dropped.
pub(crate) struct Tiles(());

impl Tiles {
    /// Eight tiles of 16 rows of 64 bytes. [`available`] must have been true.
    pub(crate) fn configure() -> Self {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes_a_row: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_a_row: [0; 16],
            rows: [0; 16],
        };
        configuration.bytes_a_row[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: the processor has the instruction and the kernel permitted it (`available`); it
        // reads the 64 bytes of `configuration`, whose fields are laid out as it wants them.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) }
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: as for `ldtilecfg`; no product is under way, since it borrows `self`.
        unsafe { asm!("tilerelease", options(nomem, nostack)) }
    }
}
