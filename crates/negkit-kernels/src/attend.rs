//! Attention in one pass over the keys, without a matrix of scores.
//!
//! "FlashAttention" (Dao et al., 2022), algorithm 1, on a CPU: a task has a block of queries of one
//! head, goes over the keys a block at a time, and keeps the largest score and the sum of exponentials
//! of every query so far. Scores exist only as a block that stays in the cache. Heads are columns of
//! the projections, so nothing is permuted in memory.
//!
//! Everything is computed in f32, but for bf16 on a machine that multiplies it: there both products,
//! of queries and keys and of the softmax's numerators and values, have factors in bf16 and sums in f32.

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::element::Element;
use crate::memory::{Aligned, Scratch, SharedSlice, filled};
use crate::multiply::{Ahead, Factor, Factors, ROW_F32, Sums};
use crate::weights::{Format, Multiplier, STEPS_F32};
use crate::{AttentionMask, Isa};

/// Keys of a block: as many as the scores can be the left factor of a product at once.
const KEYS: usize = STEPS_F32;
/// Queries of a task.
const QUERIES: usize = 96;
/// Tasks that keep a few cores busy.
const TASKS: usize = 8;

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
/// When sizes do not fit, or `scale` is not above 0.
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
        && keys > 0
        && scale > 0.;
    if !fits {
        bail!(
            "attention: {} queries, {} keys and {} values, scaled by {scale}, do not fit {sizes:?}",
            q.len(),
            k.len(),
            v.len()
        )
    }
    crate::count::product(2 * batch * queries, keys, width);
    let format = Format::new(isa, T::PRECISION);
    match format.multiplier {
        Multiplier::Vectors => attend_by::<T, f32>([q, k, v], sizes, mask, scale, format),
        Multiplier::Pairs | Multiplier::Tiles => {
            attend_by::<T, u16>([q, k, v], sizes, mask, scale, format)
        }
    }
}

/// [`attend`] with factors of type `N`.
fn attend_by<T: Element, N: Factor>(
    [q, k, v]: [&[T]; 3],
    sizes: Heads,
    mask: AttentionMask,
    scale: f32,
    format: Format,
) -> Result<Vec<T>> {
    let Heads {
        batch,
        heads,
        queries,
        ..
    } = sizes;
    let isa = format.isa;
    let arch = isa.arch();
    // Heads lie side by side: many at a time read memory in order.
    let together = (batch * heads / TASKS).clamp(1, heads);
    let groups = heads.div_ceil(together);
    let packed: Vec<PackedHead<N>> = (0..batch * groups)
        .into_par_iter()
        .flat_map_iter(|task| {
            let first = task % groups * together;
            arch.dispatch(Pack {
                k,
                v,
                sizes,
                format,
                item: task / groups,
                heads: first..heads.min(first + together),
                kind: std::marker::PhantomData,
            })
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
struct PackedHead<N> {
    /// For every block of steps of a head, panels of keys.
    keys: Aligned<N>,
    /// For every block of keys, panels of columns of the values.
    values: Aligned<N>,
}

struct Pack<'a, T, N> {
    k: &'a [T],
    v: &'a [T],
    sizes: Heads,
    format: Format,
    item: usize,
    heads: std::ops::Range<usize>,
    kind: std::marker::PhantomData<N>,
}

impl<T: Element, N: Factor> WithSimd for Pack<'_, T, N> {
    type Output = Vec<PackedHead<N>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<PackedHead<N>> {
        let (d, keys, format) = (self.sizes.d(), self.sizes.keys, self.format);
        let columns = format.columns;
        let (key_panels, value_panels) = (keys.div_ceil(columns), d.div_ceil(columns));
        let mut packed: Vec<PackedHead<N>> = self
            .heads
            .clone()
            .map(|_| PackedHead {
                keys: Aligned::zeros(key_panels * columns * format.padded(d)),
                values: Aligned::zeros(value_panels * columns * format.padded(keys)),
            })
            .collect();
        let mut own = Scratch::<N>::take(d);
        let own = &mut *own;
        for key in 0..keys {
            let row = (self.item * keys + key) * self.sizes.width;
            for (head, packed) in self.heads.clone().zip(&mut packed) {
                N::convert(&self.k[row + head * d..][..d], own);
                for (block, own) in own.chunks(format.steps).enumerate() {
                    let panel = columns * format.padded(own.len());
                    let from = key_panels * columns * block * format.steps + key / columns * panel;
                    for (step, x) in own.iter().enumerate() {
                        packed.keys[from + format.place(step, key % columns)] = *x;
                    }
                }
            }
            let (block, within) = (key / KEYS, key % KEYS);
            let steps = format.padded(KEYS.min(keys - block * KEYS));
            for (head, packed) in self.heads.clone().zip(&mut packed) {
                N::convert(&self.v[row + head * d..][..d], own);
                for (panel, own) in own.chunks(columns).enumerate() {
                    let from = value_panels * columns * block * KEYS + panel * columns * steps;
                    for (column, x) in own.iter().enumerate() {
                        packed.values[from + format.place(within, column)] = *x;
                    }
                }
            }
        }
        packed
    }
}

struct Task<'a, T, N> {
    q: &'a [T],
    packed: &'a PackedHead<N>,
    sizes: Heads,
    format: Format,
    item: usize,
    head: usize,
    queries: std::ops::Range<usize>,
    mask: AttentionMask,
    scale: f32,
    out: SharedSlice<'a, T>,
}

impl<T: Element, N: Factor> WithSimd for Task<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (d, keys, format) = (self.sizes.d(), self.sizes.keys, self.format);
        let columns = format.columns;
        let rows = self.queries.len();
        let padded = rows.next_multiple_of(format.rows);
        let width = d.next_multiple_of(columns);
        let at = |query: usize| {
            (self.item * self.sizes.queries + query) * self.sizes.width + self.head * d
        };
        // Scores are taken as exponents of 2.
        let scale = self.scale * std::f32::consts::LOG2_E;
        let mut q = Scratch::<N>::take(d.div_ceil(format.steps) * padded * N::STRIDE);
        let mut scores = Scratch::<f32>::take(padded * ROW_F32);
        let mut numerators = Scratch::<N>::take(N::OF_SUMS * padded);
        let mut mixed = Scratch::<f32>::take(padded * width);
        let mut own = Scratch::<N>::take(d);
        let (q, scores, numerators) = (&mut *q, &mut *scores, &mut *numerators);
        let (mixed, own) = (&mut *mixed, &mut *own);
        q.fill(N::default());
        for (i, query) in self.queries.clone().enumerate() {
            N::convert(&self.q[at(query)..][..d], own);
            for (block, own) in own.chunks(format.steps).enumerate() {
                q[(block * padded + i) * N::STRIDE..][..own.len()].copy_from_slice(own);
            }
        }
        mixed.fill(0.);
        let multiplier = N::multiplier(format);
        let mut highest = [f32::NEG_INFINITY; 2 * QUERIES];
        let mut totals = [0f32; 2 * QUERIES];
        let seen = match self.mask {
            AttentionMask::None => keys,
            AttentionMask::Causal => keys.min(self.queries.end),
        };
        for block in 0..seen.div_ceil(KEYS) {
            let first = block * KEYS;
            let count = KEYS.min(keys - first);
            let keys = first..first + count;
            self.score(simd, &multiplier, (q, padded), keys, scores);
            for (i, query) in self.queries.clone().enumerate() {
                let row = &mut scores[i * ROW_F32..][..count];
                if self.mask == AttentionMask::Causal {
                    let visible = (query + 1).saturating_sub(first).min(count);
                    row[visible..].fill(f32::NEG_INFINITY);
                }
                let top = (crate::training::largest(row) * scale).max(highest[i]);
                // Where every score is minus infinity, so is the highest.
                let origin = if top == f32::NEG_INFINITY { 0. } else { top };
                let total = exponentiate::<S>(row, scale, origin);
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
            let steps = format.padded(count);
            let left = N::of_sums(scores, numerators, count, steps);
            let values = &self.packed.values[first * width..][..steps * width];
            for (panel, values) in values.chunks_exact(steps * columns).enumerate() {
                let at = panel * columns;
                let factors = Factors {
                    left,
                    rows: padded,
                    panel: values,
                    steps,
                    count: columns.min(d - at),
                    at,
                    ahead: Ahead::default(),
                };
                N::multiply(simd, &multiplier, factors, &mut sums);
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

impl<T: Element, N: Factor> Task<'_, T, N> {
    /// `q k^T` for a block of keys, whose first one begins a panel.
    #[inline(always)]
    fn score<S: Simd>(
        &self,
        simd: S,
        multiplier: &N::Multiplier,
        (q, rows): (&[N], usize),
        keys: std::ops::Range<usize>,
        scores: &mut [f32],
    ) {
        let (d, format) = (self.sizes.d(), self.format);
        let columns = format.columns;
        let all = self.sizes.keys.next_multiple_of(columns);
        let mut sums = Sums {
            values: scores,
            stride: ROW_F32,
            add: false,
        };
        for (block, first) in (0..d).step_by(format.steps).enumerate() {
            let steps = format.padded(format.steps.min(d - first));
            sums.add = block > 0;
            let q = &q[block * rows * N::STRIDE..][..rows * N::STRIDE];
            let panels = &self.packed.keys[all * first + keys.start * steps..];
            for at in (0..keys.len()).step_by(columns) {
                let factors = Factors {
                    left: q,
                    rows,
                    panel: &panels[at * steps..][..columns * steps],
                    steps,
                    count: columns.min(keys.len() - at),
                    at,
                    ahead: Ahead::default(),
                };
                N::multiply(simd, multiplier, factors, &mut sums);
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

/// Turns scores into `2^(score * scale - origin)`; gives their sum.
#[inline(always)]
fn exponentiate<S: Simd>(row: &mut [f32], scale: f32, origin: f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (vectors, rest) = row.as_chunks_mut::<LANES>();
    for vector in vectors {
        for (x, sum) in vector.iter_mut().zip(&mut sums) {
            *x = exp2::<S>(mul_add::<S>(*x, scale, -origin));
            *sum += *x;
        }
    }
    let mut total = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp2::<S>(mul_add::<S>(*x, scale, -origin));
        total += *x;
    }
    total
}
