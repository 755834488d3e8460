//! AMX for tests on machines without it: the instructions that [`super::tiles`] uses are undefined
//! there, and the handler of that signal does in plain code what Intel's manual says that they do.
//!
//! "Intel Architecture Instruction Set Extensions Programming Reference", chapter on AMX. Sums of pairs
//! are taken in f32 in the order of the steps, which hardware rounds in another way.
#![allow(
    unsafe_code,
    reason = "a signal handler that reads and writes what instructions would"
)]

use std::cell::UnsafeCell;
use std::sync::OnceLock;

use crate::element::widen_bits;

const ROWS: usize = 16;
const BYTES: usize = 64;

type Tile = [[u8; BYTES]; ROWS];

thread_local! {
    static TILES: UnsafeCell<[Tile; 8]> = const { UnsafeCell::new([[[0; BYTES]; ROWS]; 8]) };
}

/// Makes the instructions of AMX work in this process, where they do not already.
pub(crate) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        if crate::product::amx_available() {
            return;
        }
        // SAFETY: the handler has the signature that `SA_SIGINFO` asks for, and is only called for
        // undefined instructions.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()),
                0
            );
        }
    });
}

/// The registers of the general purpose, in the order of their numbers.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes the interrupted context, whose instruction pointer points to the
    // undefined instruction; memory is read and written where that instruction would.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        let length = TILES.with(|tiles| execute(at, registers, &mut *tiles.get()));
        let Some(length) = length else {
            libc::abort();
        };
        registers[libc::REG_RIP as usize] += length as i64;
    }
}

/// Executes the instruction at `at` and gives its length; `None` if it is none of AMX's.
unsafe fn execute(at: *const u8, registers: &[i64; 23], tiles: &mut [Tile; 8]) -> Option<usize> {
    // SAFETY: an instruction that reached the handler was fetched whole; it is read up to its end.
    let byte = |i: usize| unsafe { *at.add(i) };
    let register = |number: usize| registers[REGISTERS[number] as usize] as usize;
    // A three-byte VEX prefix with the opcodes of 0F 38.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 {
        return None;
    }
    let extended = |bit: u8| usize::from(byte(1) & bit == 0) * 8;
    let (index_high, base_high) = (extended(0x40), extended(0x20));
    let (prefix, second_source) = (byte(2) & 3, usize::from(!byte(2) >> 3 & 7));
    let (opcode, mode) = (byte(3), byte(4) >> 6);
    let (field, low) = (usize::from(byte(4) >> 3 & 7), usize::from(byte(4) & 7));
    let (sib_base, sib_index, scale) = (
        usize::from(byte(5) & 7) + base_high,
        usize::from(byte(5) >> 3 & 7) + index_high,
        byte(5) >> 6,
    );
    let address = |after: usize| {
        let displacement = match mode {
            0 => (0, 0),
            1 => (isize::from(byte(after) as i8), 1),
            _ => {
                let bytes = [0, 1, 2, 3].map(|i| byte(after + i));
                (i32::from_le_bytes(bytes) as isize, 4)
            }
        };
        let start = register(sib_base).wrapping_add_signed(displacement.0);
        (start, register(sib_index) << scale, after + displacement.1)
    };
    match (opcode, prefix) {
        // tilerelease and ldtilecfg: every tile is as large as it can be, and holds zeros.
        (0x49, 0) => {
            *tiles = [[[0; BYTES]; ROWS]; 8];
            Some(match (mode, low) {
                (3, _) => 5,
                (0, 4) => 6,
                (0, 5) => 9,
                (0, _) => 5,
                (1, 4) => 7,
                (1, _) => 6,
                (_, 4) => 10,
                (_, _) => 9,
            })
        }
        // tilezero
        (0x49, 3) => {
            tiles[field] = [[0; BYTES]; ROWS];
            Some(5)
        }
        // tileloadd
        (0x4b, 3) if low == 4 => {
            let (start, stride, length) = address(6);
            for (row, line) in tiles[field].iter_mut().enumerate() {
                // SAFETY: what the instruction would read.
                *line = unsafe { *((start + row * stride) as *const [u8; BYTES]) };
            }
            Some(length)
        }
        // tilestored
        (0x4b, 2) if low == 4 => {
            let (start, stride, length) = address(6);
            for (row, line) in tiles[field].iter().enumerate() {
                // SAFETY: what the instruction would write.
                unsafe { *((start + row * stride) as *mut [u8; BYTES]) = *line };
            }
            Some(length)
        }
        // tdpbf16ps
        (0x5c, 2) if mode == 3 => {
            let (a, b) = (tiles[low], tiles[second_source]);
            for (sums, a) in tiles[field].iter_mut().zip(&a) {
                multiply(sums, a, &b);
            }
            Some(5)
        }
        _ => None,
    }
}

fn multiply(sums: &mut [u8; BYTES], a: &[u8; BYTES], b: &Tile) {
    let value = |bytes: &[u8; BYTES], i: usize| {
        let mut wide = [0.];
        widen_bits(
            &[u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])],
            &mut wide,
        );
        wide[0]
    };
    for (column, sum) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut total = f32::from_le_bytes(*sum);
        for (pair, b) in b.iter().enumerate() {
            total += value(a, 2 * pair) * value(b, 2 * column);
            total += value(a, 2 * pair + 1) * value(b, 2 * column + 1);
        }
        *sum = total.to_le_bytes();
    }
}
