//! Attention in one pass over the keys, without a matrix of scores.
//!
//! "FlashAttention" (Dao et al., 2022), algorithm 1, on a CPU: a task has a block of queries of one
//! head, goes over the keys a block at a time, and keeps the largest score and the sum of exponentials
//! of every query so far. Scores exist only as a block that stays in the cache. Heads are columns of
//! the projections, so nothing is permuted in memory.
//!
//! Everything is computed in f32 whatever the type.

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::element::Element;
use crate::memory::{Aligned, Scratch, SharedSlice, filled};
use crate::multiply::{ROW_F32, Sums, panel_by_vectors};
use crate::weights::{Format, Precision, STEPS_F32};
use crate::{AttentionMask, Isa};

/// Keys of a block: as many as the scores can be the left factor of a product at once.
const KEYS: usize = STEPS_F32;
/// Queries of a task.
const QUERIES: usize = 96;

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Elements of the batch.
    pub batch: usize,
    /// Number of heads, side by side in the rows of queries, keys and values.
    pub heads: usize,
    /// Values of a row.
    pub width: usize,
    /// Rows of queries of an element of the batch.
    pub queries: usize,
    /// Rows of keys, and of values, of an element of the batch.
    pub keys: usize,
}

impl Heads {
    /// Values of a head.
    fn d(&self) -> usize {
        self.width / self.heads
    }
}

/// `softmax(q k^T * scale) v` for every head: `q` `[batch, queries, width]`, `k` and `v`
/// `[batch, keys, width]`, to the shape of `q`.
///
/// # Errors
/// When sizes do not fit.
pub fn attend<T: Element>(
    [q, k, v]: [&[T]; 3],
    sizes: Heads,
    mask: AttentionMask,
    scale: f32,
    isa: Isa,
) -> Result<Vec<T>> {
    let Heads {
        batch,
        heads,
        width,
        queries,
        keys,
    } = sizes;
    let fits = q.len() == batch * queries * width
        && k.len() == batch * keys * width
        && v.len() == k.len()
        && heads > 0
        && width > 0
        && width.is_multiple_of(heads)
        && keys > 0;
    if !fits {
        bail!(
            "attention: {} queries, {} keys and {} values do not fit {sizes:?}",
            q.len(),
            k.len(),
            v.len()
        )
    }
    crate::count::product(2 * batch * queries, keys, width);
    let format = Format::new(isa, Precision::F32);
    let arch = isa.arch();
    let packed: Vec<PackedHead> = (0..batch * heads)
        .into_par_iter()
        .map(|task| {
            let pack = Pack {
                k,
                v,
                sizes,
                format,
                item: task / heads,
                head: task % heads,
            };
            arch.dispatch(pack)
        })
        .collect();
    let blocks = queries.div_ceil(QUERIES);
    let height = queries.div_ceil(blocks.max(1));
    Ok(filled(q.len(), |out| {
        (0..batch * heads * blocks)
            .into_par_iter()
            .for_each(|task| {
                let (head, block) = (task / blocks, task % blocks);
                let first = block * height;
                arch.dispatch(Task {
                    q,
                    packed: &packed[head],
                    sizes,
                    format,
                    item: head / heads,
                    head: head % heads,
                    queries: first..(first + height).min(queries),
                    mask,
                    scale,
                    out,
                });
            });
    }))
}

/// Keys and values of a head, as panels.
struct PackedHead {
    /// For every block of steps of a head, panels of keys.
    keys: Aligned<f32>,
    /// For every block of keys, panels of columns of the values.
    values: Aligned<f32>,
}

struct Pack<'a, T> {
    k: &'a [T],
    v: &'a [T],
    sizes: Heads,
    format: Format,
    item: usize,
    head: usize,
}

impl<T: Element> WithSimd for Pack<'_, T> {
    type Output = PackedHead;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PackedHead {
        let (d, keys) = (self.sizes.d(), self.sizes.keys);
        let columns = self.format.columns;
        let (key_panels, value_panels) = (keys.div_ceil(columns), d.div_ceil(columns));
        let mut packed = PackedHead {
            keys: Aligned::zeros(key_panels * columns * d),
            values: Aligned::zeros(value_panels * columns * keys),
        };
        let start = |key: usize| (self.item * keys + key) * self.sizes.width + self.head * d;
        let mut wide = Scratch::<f32>::take(d);
        let wide = &mut *wide;
        for key in 0..keys {
            T::widen(&self.k[start(key)..][..d], wide);
            for (block, wide) in wide.chunks(STEPS_F32).enumerate() {
                let from = key_panels * columns * block * STEPS_F32
                    + key / columns * columns * wide.len()
                    + key % columns;
                let to = packed.keys[from..].iter_mut().step_by(columns);
                for (to, x) in to.zip(wide.iter()) {
                    *to = *x;
                }
            }
            T::widen(&self.v[start(key)..][..d], wide);
            let (block, within) = (key / KEYS, key % KEYS);
            let steps = KEYS.min(keys - block * KEYS);
            for (panel, wide) in wide.chunks(columns).enumerate() {
                let from = value_panels * columns * block * KEYS
                    + panel * columns * steps
                    + within * columns;
                packed.values[from..][..wide.len()].copy_from_slice(wide);
            }
        }
        packed
    }
}

struct Task<'a, T> {
    q: &'a [T],
    packed: &'a PackedHead,
    sizes: Heads,
    format: Format,
    item: usize,
    head: usize,
    queries: std::ops::Range<usize>,
    mask: AttentionMask,
    scale: f32,
    out: SharedSlice<'a, T>,
}

impl<T: Element> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (d, keys) = (self.sizes.d(), self.sizes.keys);
        let columns = self.format.columns;
        let rows = self.queries.len();
        let padded = rows.next_multiple_of(self.format.rows);
        let (d_blocks, width) = (d.div_ceil(STEPS_F32), d.next_multiple_of(columns));
        let at = |query: usize| {
            (self.item * self.sizes.queries + query) * self.sizes.width + self.head * d
        };
        // Scores are taken as exponents of 2.
        let scale = self.scale * std::f32::consts::LOG2_E;
        let mut q = Scratch::<f32>::take(d_blocks * padded * ROW_F32);
        let mut scores = Scratch::<f32>::take(padded * ROW_F32);
        let mut mixed = Scratch::<f32>::take(padded * width);
        let mut wide = Scratch::<f32>::take(d);
        let (q, scores) = (&mut *q, &mut *scores);
        let (mixed, wide) = (&mut *mixed, &mut *wide);
        q.fill(0.);
        for (i, query) in self.queries.clone().enumerate() {
            T::widen(&self.q[at(query)..][..d], wide);
            for (block, wide) in wide.chunks(STEPS_F32).enumerate() {
                let to = &mut q[(block * padded + i) * ROW_F32..];
                for (to, x) in to.iter_mut().zip(wide.iter()) {
                    *to = x * scale;
                }
            }
        }
        mixed.fill(0.);
        let mut highest = [f32::NEG_INFINITY; 2 * QUERIES];
        let mut totals = [0f32; 2 * QUERIES];
        let seen = match self.mask {
            AttentionMask::None => keys,
            AttentionMask::Causal => keys.min(self.queries.end),
        };
        for block in 0..seen.div_ceil(KEYS) {
            let first = block * KEYS;
            let count = KEYS.min(keys - first);
            self.score(simd, q, padded, first..first + count, scores);
            for (i, query) in self.queries.clone().enumerate() {
                let row = &mut scores[i * ROW_F32..][..count];
                if self.mask == AttentionMask::Causal {
                    let visible = (query + 1).saturating_sub(first).min(count);
                    row[visible..].fill(f32::NEG_INFINITY);
                }
                let top = crate::training::largest(row).max(highest[i]);
                // Where every score is minus infinity, so is the highest.
                let origin = if top == f32::NEG_INFINITY { 0. } else { top };
                let total = exponentiate::<S>(row, origin);
                let shrink = exp2::<S>(highest[i] - origin);
                if shrink != 1. {
                    for x in &mut mixed[i * width..][..width] {
                        *x *= shrink;
                    }
                }
                totals[i] = totals[i] * shrink + total;
                highest[i] = top;
            }
            let mut sums = Sums {
                values: mixed,
                stride: width,
                add: true,
            };
            let values = &self.packed.values[first * width..][..count * width];
            for (panel, values) in values.chunks_exact(count * columns).enumerate() {
                let at = panel * columns;
                let used = columns.min(d - at);
                panel_by_vectors(simd, scores, padded, values, count, used, at, &mut sums);
            }
        }
        for (i, query) in self.queries.clone().enumerate() {
            let row = &mut mixed[i * width..][..d];
            let factor = 1. / totals[i];
            for x in row.iter_mut() {
                *x *= factor;
            }
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
            // SAFETY: no two tasks have a query and a head in common, and a task takes
            // one query after another; the part is written only.
            let to = unsafe { self.out.part(at(query), d) };
            T::narrow(row, to);
        }
    }
}

impl<T: Element> Task<'_, T> {
    /// `q k^T` for a block of keys, whose first one begins a panel.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        q: &[f32],
        rows: usize,
        keys: std::ops::Range<usize>,
        scores: &mut [f32],
    ) {
        let (d, columns) = (self.sizes.d(), self.format.columns);
        let all = self.sizes.keys.next_multiple_of(columns);
        let mut sums = Sums {
            values: scores,
            stride: ROW_F32,
            add: false,
        };
        for (block, first) in (0..d).step_by(STEPS_F32).enumerate() {
            let steps = STEPS_F32.min(d - first);
            sums.add = block > 0;
            let q = &q[block * rows * ROW_F32..][..rows * ROW_F32];
            let panels = &self.packed.keys[all * first + keys.start * steps..];
            for at in (0..keys.len()).step_by(columns) {
                let panel = &panels[at * steps..][..columns * steps];
                let used = columns.min(keys.len() - at);
                panel_by_vectors(simd, q, rows, panel, steps, used, at, &mut sums);
            }
        }
    }
}

#[inline(always)]
fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    // Without an instruction for it the fused form is a call to the C library.
    if S::IS_SCALAR {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

/// 2^x for `x <= 0`, to 2 units in the last place; 0 below -126, where it would be subnormal.
///
/// The polynomial is the Taylor series of `2^r` for `r` in -1/2 … 1/2, whose next term is below 1e-7.
#[inline(always)]
fn exp2<S: Simd>(x: f32) -> f32 {
    const LOWEST: f32 = -126.;
    /// Adding it leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.;
    const LN_2: f32 = std::f32::consts::LN_2;
    /// `LN_2^n / n!`
    const C: [f32; 7] = [
        1.,
        LN_2,
        LN_2 * LN_2 / 2.,
        LN_2 * LN_2 * LN_2 / 6.,
        LN_2 * LN_2 * LN_2 * LN_2 / 24.,
        LN_2 * LN_2 * LN_2 * LN_2 * LN_2 / 120.,
        LN_2 * LN_2 * LN_2 * LN_2 * LN_2 * LN_2 / 720.,
    ];
    let clamped = if x < LOWEST { LOWEST } else { x };
    let rounded = clamped + ROUND;
    let r = clamped - (rounded - ROUND);
    let mut p = C[6];
    p = mul_add::<S>(p, r, C[5]);
    p = mul_add::<S>(p, r, C[4]);
    p = mul_add::<S>(p, r, C[3]);
    p = mul_add::<S>(p, r, C[2]);
    p = mul_add::<S>(p, r, C[1]);
    p = mul_add::<S>(p, r, C[0]);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < LOWEST { 0. } else { p * power }
}

/// Turns scores into `2^(score - origin)`; gives their sum.
#[inline(always)]
fn exponentiate<S: Simd>(row: &mut [f32], origin: f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (vectors, rest) = row.as_chunks_mut::<LANES>();
    for vector in vectors {
        for (x, sum) in vector.iter_mut().zip(&mut sums) {
            *x = exp2::<S>(*x - origin);
            *sum += *x;
        }
    }
    let mut total = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp2::<S>(*x - origin);
        total += *x;
    }
    total
}
