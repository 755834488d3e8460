//! Products of bf16 factors with f32 sums, tile by tile.
//!
//! A tile of the left factor holds 16 lines of 32 steps, `[line][step]`; one of the right factor holds
//! 32 steps of 16 lines, `[pair of steps][line][2]`; `tdpbf16ps` (Intel's AMX) adds their product to a
//! tile of 16 x 16 f32. A row of the right tile is also what `vdpbf16ps` (AVX-512 BF16) multiplies by a
//! pair of the left one, so that processors without AMX take the same tiles. Both are filled from whatever
//! layout: the two forms differ by a transposition of 16 x 16 pairs, so that lines that follow each other in
//! memory cost as little as steps that do.
//!
//! The right factor is packed first, as many steps at a time as stay in the cache; then every panel of
//! 32 rows of the left one is packed and multiplied by all of it. Every sum is taken in the order of
//! the steps, so that the number of threads does not change the result.

#![allow(
    unsafe_code,
    reason = "Rust has no stable intrinsics for AMX, only inline assembly, and AVX-512 loads take \
              pointers"
)]

mod pairs;

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;

use rayon::prelude::*;

use super::{MatrixMut, Output, Part, Threads};
use crate::Isa;
use crate::amx::Tiles;
pub(super) use crate::amx::available as amx_available;

/// Whether this machine has the instructions for it.
pub(super) fn available() -> bool {
    Isa::best().multiplies_bf16()
}

/// Lines of a tile.
const LINES: usize = 16;
/// Steps of a tile: of the dimension that is summed over.
const STEPS: usize = 32;
/// Lines of a panel: two tiles.
const PANEL: usize = 2 * LINES;

/// 64 bytes of packed bf16, and a line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u16; STEPS]);

type Tile = [Line; LINES];

const EMPTY: Tile = [Line([0; STEPS]); LINES];

/// `out = sum over i of a[i] b[i]`, or `out +=` it.
///
/// `steps[i]` is the size of the dimension that the `i`th product sums over. `b` holds for every `i`
/// one part for each of `columns`, which lie side by side in the output. [`available`] must be true.
pub(super) fn multiply(
    a: &[Part],
    b: &[Part],
    steps: &[usize],
    columns: &[usize],
    out: MatrixMut,
    output: Output,
    threads: Threads,
) {
    /// Bytes of the right factor that are packed at a time: what leaves room in a core's L2.
    const BUDGET: usize = 1 << 20;
    let MatrixMut {
        values,
        rows,
        row_stride,
        columns: width,
    } = out;
    let values = &mut values[..(rows - 1) * row_stride + width];
    let steps = split(steps, STEPS);
    let panels = split(columns, PANEL);
    let product = Product {
        a,
        b,
        parts: columns.len(),
        offsets: columns
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end - size)
            })
            .collect(),
        rows,
        row_stride,
    };
    let at_a_time = (BUDGET / (panels.len() * 2 * size_of::<Tile>())).max(8);
    let mut right = Buffer::take(panels.len() * at_a_time.min(steps.len()) * 2);
    for (group, steps) in steps.chunks(at_a_time).enumerate() {
        let size = 2 * steps.len();
        let right = &mut right.tiles[..panels.len() * size];
        let add = group > 0 || output == Output::Add;
        match threads {
            Threads::All => {
                // Tasks small enough that a core which is busy elsewhere gets fewer of them.
                let task = rows.div_ceil(4 * rayon::current_num_threads());
                let task = task.clamp(PANEL, 8 * PANEL).next_multiple_of(PANEL);
                let tasks = right.par_chunks_mut(size).zip(&panels);
                tasks.for_each(|(tiles, panel)| product.pack_right(*panel, steps, tiles));
                let tasks = values.par_chunks_mut(task * row_stride).enumerate();
                tasks.for_each(|(i, values)| {
                    product.rows(i * task, task, values, (&panels, steps, right), add);
                });
            }
            Threads::One => {
                for (tiles, panel) in right.chunks_exact_mut(size).zip(&panels) {
                    product.pack_right(*panel, steps, tiles);
                }
                product.rows(0, rows, values, (&panels, steps, right), add);
            }
        }
    }
}

/// A range of one part of a dimension.
#[derive(Clone, Copy)]
struct Range {
    part: usize,
    first: usize,
    count: usize,
}

/// Ranges of `length` at most that cover parts of these sizes.
fn split(sizes: &[usize], length: usize) -> Vec<Range> {
    let parts = sizes.iter().enumerate();
    parts
        .flat_map(|(part, size)| {
            (0..*size).step_by(length).map(move |first| Range {
                part,
                first,
                count: length.min(size - first),
            })
        })
        .collect()
}

struct Product<'a> {
    a: &'a [Part<'a>],
    b: &'a [Part<'a>],
    /// Parts of the columns.
    parts: usize,
    /// The first column of every part.
    offsets: Vec<usize>,
    rows: usize,
    row_stride: usize,
}

impl Product<'_> {
    /// Packs a panel of columns: two tiles for every step.
    fn pack_right(&self, panel: Range, steps: &[Range], tiles: &mut [Tile]) {
        for (tiles, step) in tiles.chunks_exact_mut(2).zip(steps) {
            let part = &self.b[step.part * self.parts + panel.part];
            pack(part, panel, *step, Form::Pairs, tiles);
        }
    }

    /// Multiplies `count` rows at most, from `first` on; `values` begins with the first of them.
    fn rows(
        &self,
        first: usize,
        count: usize,
        values: &mut [f32],
        (panels, steps, right): (&[Range], &[Range], &[Tile]),
        add: bool,
    ) {
        let count = count.min(self.rows - first);
        let mut left = Buffer::take(2 * steps.len());
        let left = &mut left.tiles[..2 * steps.len()];
        let multiplier = Multiplier::new();
        for row in (0..count).step_by(PANEL) {
            let lines = Range {
                part: 0,
                first: first + row,
                count: PANEL.min(count - row),
            };
            for (tiles, step) in left.chunks_exact_mut(2).zip(steps) {
                pack(&self.a[step.part], lines, *step, Form::Lines, tiles);
            }
            let values = &mut values[row * self.row_stride..];
            for (panel, right) in panels.iter().zip(right.chunks_exact(left.len())) {
                let at = self.offsets[panel.part] + panel.first;
                let block = Block {
                    values: &mut values[at..],
                    rows: lines.count,
                    columns: panel.count,
                    stride: self.row_stride,
                };
                multiplier.multiply_block(left, right, block, add);
            }
        }
    }
}

/// A part of the output: 32 x 32 at most.
struct Block<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

/// Who multiplies tiles.
enum Multiplier {
    Amx(Tiles),
    /// `vdpbf16ps`.
    Pairs,
}

impl Multiplier {
    /// The best of what the process may use; [`available`] must be true.
    fn new() -> Self {
        match Isa::current() {
            Isa::AmxBf16 => Self::Amx(Tiles::configure()),
            _ => Self::Pairs,
        }
    }

    /// The product of two packed panels of the same length, set to `block` or added to it.
    fn multiply_block(&self, left: &[Tile], right: &[Tile], block: Block, add: bool) {
        if block.rows.is_multiple_of(LINES) && block.columns.is_multiple_of(LINES) {
            return self.multiply_whole(left, right, block, add);
        }
        let Block {
            values,
            rows,
            columns,
            stride,
        } = block;
        let mut whole = [0f32; PANEL * PANEL];
        if add {
            for row in 0..rows {
                let from = &values[row * stride..][..columns];
                whole[row * PANEL..][..columns].copy_from_slice(from);
            }
        }
        let padded = Block {
            values: &mut whole,
            rows: rows.next_multiple_of(LINES),
            columns: columns.next_multiple_of(LINES),
            stride: PANEL,
        };
        self.multiply_whole(left, right, padded, add);
        for row in 0..rows {
            let to = &mut values[row * stride..][..columns];
            to.copy_from_slice(&whole[row * PANEL..][..columns]);
        }
    }

    /// [`Multiplier::multiply_block`] for one or two whole tiles in both directions.
    fn multiply_whole(&self, left: &[Tile], right: &[Tile], block: Block, add: bool) {
        match self {
            Self::Amx(tiles) => tiles.multiply_whole(left, right, block, add),
            Self::Pairs => pairs::multiply(left, right, block, add),
        }
    }
}

impl Tiles {
    /// See [`Multiplier::multiply_whole`].
    fn multiply_whole(&self, left: &[Tile], right: &[Tile], block: Block, add: bool) {
        let Block {
            values,
            rows,
            columns,
            stride,
        } = block;
        assert!(left.len() == right.len() && left.len() >= 2 && left.len().is_multiple_of(2));
        assert!((LINES..=PANEL).contains(&rows) && (LINES..=PANEL).contains(&columns));
        let values = &mut values[..(rows - 1) * stride + columns];
        let upper = values.as_mut_ptr();
        let lower = upper.wrapping_add(LINES * stride);
        // SAFETY: the tiles are configured as 16 rows of 64 bytes, which `self` is the proof of.
        // `left` and `right` hold `steps` pairs of such tiles each, checked above, and the loop reads
        // one pair a step. Of the output, `rows` rows of `columns` values are read and written,
        // `stride` values apart, which lie in `values` as sliced above: the second tile in a
        // direction is touched only where that direction has 32. Only tiles, named as clobbered, and
        // the registers given are changed.
        macro_rules! product {
            ($zero:literal, $load:literal, $step:literal, $store:literal) => {
                unsafe {
                    asm!(
                        "test {add}, {add}",
                        "jnz 3f",
                        $zero,
                        "jmp 2f",
                        "3:",
                        $load,
                        "2:",
                        $step,
                        "add {a}, 2048",
                        "add {b}, 2048",
                        "dec {n}",
                        "jnz 2b",
                        $store,
                        a = inout(reg) left.as_ptr() => _,
                        b = inout(reg) right.as_ptr() => _,
                        n = inout(reg) left.len() / 2 => _,
                        line = in(reg) size_of::<Line>(),
                        upper = in(reg) upper,
                        lower = in(reg) lower,
                        stride = in(reg) stride * size_of::<f32>(),
                        add = in(reg) usize::from(add),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack)
                    )
                }
            };
        }
        match (rows > LINES, columns > LINES) {
            (true, true) => product!(
                "tilezero tmm0\n tilezero tmm1\n tilezero tmm2\n tilezero tmm3",
                "tileloadd tmm0, [{upper} + {stride}]\n tileloadd tmm1, [{upper} + {stride} + 64]
                 tileloadd tmm2, [{lower} + {stride}]\n tileloadd tmm3, [{lower} + {stride} + 64]",
                "tileloadd tmm4, [{a} + {line}]\n tileloadd tmm6, [{b} + {line}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm7, [{b} + {line} + 1024]\n tdpbf16ps tmm1, tmm4, tmm7
                 tileloadd tmm5, [{a} + {line} + 1024]\n tdpbf16ps tmm2, tmm5, tmm6
                 tdpbf16ps tmm3, tmm5, tmm7",
                "tilestored [{upper} + {stride}], tmm0\n tilestored [{upper} + {stride} + 64], tmm1
                 tilestored [{lower} + {stride}], tmm2\n tilestored [{lower} + {stride} + 64], tmm3"
            ),
            (true, false) => product!(
                "tilezero tmm0\n tilezero tmm2",
                "tileloadd tmm0, [{upper} + {stride}]\n tileloadd tmm2, [{lower} + {stride}]",
                "tileloadd tmm4, [{a} + {line}]\n tileloadd tmm6, [{b} + {line}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm5, [{a} + {line} + 1024]\n tdpbf16ps tmm2, tmm5, tmm6",
                "tilestored [{upper} + {stride}], tmm0\n tilestored [{lower} + {stride}], tmm2"
            ),
            (false, true) => product!(
                "tilezero tmm0\n tilezero tmm1",
                "tileloadd tmm0, [{upper} + {stride}]\n tileloadd tmm1, [{upper} + {stride} + 64]",
                "tileloadd tmm4, [{a} + {line}]\n tileloadd tmm6, [{b} + {line}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm7, [{b} + {line} + 1024]\n tdpbf16ps tmm1, tmm4, tmm7",
                "tilestored [{upper} + {stride}], tmm0\n tilestored [{upper} + {stride} + 64], tmm1
                 /* {lower} */"
            ),
            (false, false) => product!(
                "tilezero tmm0",
                "tileloadd tmm0, [{upper} + {stride}]",
                "tileloadd tmm4, [{a} + {line}]\n tileloadd tmm6, [{b} + {line}]
                 tdpbf16ps tmm0, tmm4, tmm6",
                "tilestored [{upper} + {stride}], tmm0 /* {lower} */"
            ),
        }
    }
}

/// How a tile is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `[line][step]`: the left factor.
    Lines,
    /// `[pair of steps][line][2]`: the right factor.
    Pairs,
}

/// Fills two tiles with 32 lines at most of `part`; what is left over is zero. The second one is left
/// alone where the first holds all lines.
fn pack(part: &Part, lines: Range, step: Range, form: Form, tiles: &mut [Tile]) {
    for (i, tile) in tiles.iter_mut().enumerate() {
        let done = i * LINES;
        if done < lines.count {
            let lines = Range {
                first: lines.first + done,
                count: LINES.min(lines.count - done),
                ..lines
            };
            // SAFETY: nothing is packed before `available` found the instruction sets.
            unsafe { pack_tile(part, lines, step, form, tile) }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_tile(part: &Part, lines: Range, step: Range, form: Form, tile: &mut Tile) {
    let (mut rows, found) = match *part {
        Part::Strided {
            values,
            line,
            step: step_stride,
        } => {
            let start = lines.first * line + step.first * step_stride;
            let along =
                |count: usize, stride: usize| (0..count).map(move |i| Some(start + i * stride));
            if step_stride == 1 {
                let by_line = runs(values, along(lines.count, line), step.count);
                (pack_lines(&by_line), Form::Lines)
            } else if line == 1 {
                let by_step = runs(values, along(step.count, step_stride), lines.count);
                (pack_steps(&by_step), Form::Pairs)
            } else {
                let mut dense = [[0f32; STEPS]; LINES];
                for (i, to) in dense.iter_mut().take(lines.count).enumerate() {
                    for (j, to) in to.iter_mut().take(step.count).enumerate() {
                        *to = values[start + i * line + j * step_stride];
                    }
                }
                (pack_lines(&dense.each_ref().map(|l| &l[..])), Form::Lines)
            }
        }
        Part::Lines {
            values,
            list,
            width,
        } => {
            let list = &list[lines.first..][..lines.count];
            let starts = list
                .iter()
                .map(|line| Some(line.get()? * width + step.first));
            let by_line = runs(values, starts, step.count);
            (place_lines(&by_line), Form::Lines)
        }
        Part::Steps {
            values,
            list,
            width,
        } => {
            let list = &list[step.first..][..step.count];
            let starts = list
                .iter()
                .map(|step| Some(step.get()? * width + lines.first));
            let by_step = runs(values, starts, lines.count);
            (place_steps(&by_step), Form::Pairs)
        }
    };
    if form != found {
        transpose(&mut rows);
    }
    store(&rows, tile);
}

/// `length` values from each of these starts on; where there is no start, none.
#[inline(always)]
fn runs<T, const N: usize>(
    values: &[T],
    starts: impl Iterator<Item = Option<usize>>,
    length: usize,
) -> [&[T]; N] {
    let mut runs: [&[T]; N] = [&[]; N];
    for (run, start) in runs.iter_mut().zip(starts) {
        if let Some(start) = start {
            *run = &values[start..][..length];
        }
    }
    runs
}

/// Rows of a tile in [`Form::Lines`], of lines whose steps follow each other in memory, 32 at most.
#[target_feature(enable = "avx512f,avx512bf16")]
fn pack_lines(lines: &[&[f32]; LINES]) -> [__m512i; LINES] {
    let mut rows = [_mm512_setzero_si512(); LINES];
    for (row, line) in rows.iter_mut().zip(lines) {
        let (low, high) = line.split_at(line.len().min(LINES));
        *row = to_bf16(load(low), load(high));
    }
    rows
}

/// The same of lines that are rounded already.
#[target_feature(enable = "avx512f,avx512bw")]
fn place_lines(lines: &[&[u16]; LINES]) -> [__m512i; LINES] {
    let mut rows = [_mm512_setzero_si512(); LINES];
    for (row, line) in rows.iter_mut().zip(lines) {
        *row = load_bits(line);
    }
    rows
}

/// Rows of a tile in [`Form::Pairs`], of steps whose lines follow each other in memory, 16 at most.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_steps(steps: &[&[f32]; STEPS]) -> [__m512i; LINES] {
    let order = pairs_order();
    let mut rows = [_mm512_setzero_si512(); LINES];
    for (row, pair) in rows.iter_mut().zip(steps.as_chunks::<2>().0) {
        *row = _mm512_permutexvar_epi16(order, to_bf16(load(pair[0]), load(pair[1])));
    }
    rows
}

/// The same of steps that are rounded already.
#[target_feature(enable = "avx512f,avx512bw")]
fn place_steps(steps: &[&[u16]; STEPS]) -> [__m512i; LINES] {
    let order = pairs_order();
    let mut rows = [_mm512_setzero_si512(); LINES];
    for (row, pair) in rows.iter_mut().zip(steps.as_chunks::<2>().0) {
        let (low, high) = (load_bits(pair[0]), load_bits(pair[1]));
        let both = _mm512_inserti64x4::<1>(low, _mm512_castsi512_si256(high));
        *row = _mm512_permutexvar_epi16(order, both);
    }
    rows
}

/// Words 0, 16, 1, 17, …: a line's two steps side by side.
#[target_feature(enable = "avx512f")]
fn pairs_order() -> __m512i {
    let mut order = [0u16; 32];
    for (i, to) in order.iter_mut().enumerate() {
        *to = (i / 2 + i % 2 * 16) as u16;
    }
    // SAFETY: 64 bytes are read from an array of that size.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

/// The first 32 values at most, and zeros.
#[target_feature(enable = "avx512f,avx512bw")]
fn load_bits(values: &[u16]) -> __m512i {
    if let Some(all) = values.first_chunk::<STEPS>() {
        // SAFETY: 32 values are read from an array of as many.
        return unsafe { _mm512_loadu_si512(all.as_ptr().cast()) };
    }
    let mask = (1u32 << values.len()) - 1;
    // SAFETY: with this mask as many values are read as there are, below 32.
    unsafe { _mm512_maskz_loadu_epi16(mask, values.as_ptr().cast()) }
}

/// The first 16 values at most, and zeros.
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    if let Some(all) = values.first_chunk::<LINES>() {
        // SAFETY: 16 values are read from an array of as many.
        return unsafe { _mm512_loadu_ps(all.as_ptr()) };
    }
    let mask = (1u16 << values.len()) - 1;
    // SAFETY: with this mask as many values are read as there are, below 16.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// 32 values as bf16, rounded to nearest.
#[target_feature(enable = "avx512f,avx512bf16")]
fn to_bf16(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 512 bits without meaning of their own.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

#[target_feature(enable = "avx512f")]
fn store(rows: &[__m512i; LINES], tile: &mut Tile) {
    for (row, line) in rows.iter().zip(tile) {
        // SAFETY: a line is 64 bytes, aligned to as many.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), *row) };
    }
}

/// Transposes 16 x 16 pairs: blocks of 4 x 4 in the four lanes of the registers, then the lanes.
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; LINES]) {
    for four in rows.as_chunks_mut::<4>().0 {
        let [a, b, c, d] = *four;
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *four = [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    /// Lanes 0 and 2 of both registers.
    const EVEN: i32 = 0x88;
    /// Lanes 1 and 3 of both registers.
    const ODD: i32 = 0xdd;
    for j in 0..4 {
        let (a, b) = (rows[j], rows[4 + j]);
        let (c, d) = (rows[8 + j], rows[12 + j]);
        let ab = [
            _mm512_shuffle_i32x4::<EVEN>(a, b),
            _mm512_shuffle_i32x4::<ODD>(a, b),
        ];
        let cd = [
            _mm512_shuffle_i32x4::<EVEN>(c, d),
            _mm512_shuffle_i32x4::<ODD>(c, d),
        ];
        rows[j] = _mm512_shuffle_i32x4::<EVEN>(ab[0], cd[0]);
        rows[4 + j] = _mm512_shuffle_i32x4::<EVEN>(ab[1], cd[1]);
        rows[8 + j] = _mm512_shuffle_i32x4::<ODD>(ab[0], cd[0]);
        rows[12 + j] = _mm512_shuffle_i32x4::<ODD>(ab[1], cd[1]);
    }
}

/// Memory for packed tiles that a thread uses again: fresh pages would cost more than the packing.
struct Buffer {
    tiles: Vec<Tile>,
}

thread_local! {
    /// A stack, for a thread may hold several: those of the right factor and of the left one, and,
    /// while it waits for others, those of another product.
    static SPARE: Cell<Vec<Vec<Tile>>> = const { Cell::new(Vec::new()) };
}

impl Buffer {
    /// `count` tiles of any content.
    fn take(count: usize) -> Self {
        let mut spare = SPARE.take();
        let mut tiles = spare.pop().unwrap_or_default();
        SPARE.set(spare);
        if tiles.len() < count {
            tiles.resize(count, EMPTY);
        }
        Self { tiles }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = SPARE.take();
        spare.push(std::mem::take(&mut self.tiles));
        SPARE.set(spare);
    }
}
