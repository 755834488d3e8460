//! Normalisation where the channels lie side by side.

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Isa;
use crate::element::Element;
use crate::memory::{Scratch, SharedSlice, filled};
use crate::training::{Elementwise, Identity, Silu, TASK};

/// Scale and shift after a normalisation, one of each for every channel.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplied by.
    pub weight: &'a [f32],
    /// Added.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

/// Count, mean and sum of squared differences from the mean.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of both parts together: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
    /// for computing sample variances" (1979), equation 2.1.
    fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0. {
            return self;
        }
        let difference = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + difference * other.count / count,
            squares: self.squares
                + other.squares
                + difference * difference * self.count * other.count / count,
        }
    }

    fn scale(self, eps: f64) -> f32 {
        (1. / (self.squares / self.count + eps).sqrt()) as f32
    }
}

/// Group normalisation of pictures `[n, positions, channels]` over `groups` groups of channels, then
/// SiLU where `silu` is set.
///
/// # Errors
/// When sizes do not fit.
pub fn group_norm<T: Element>(
    x: &[T],
    [n, positions, channels]: [usize; 3],
    groups: usize,
    affine: Affine,
    silu: bool,
    isa: Isa,
) -> Result<Vec<T>> {
    let fits = x.len() == n * positions * channels
        && groups > 0
        && channels.is_multiple_of(groups)
        && affine.weight.len() == channels
        && affine.bias.len() == channels;
    if !fits {
        bail!(
            "group_norm: {} values as {n} x {positions} x {channels} in {groups} groups, with {} \
             weights and {} biases",
            x.len(),
            affine.weight.len(),
            affine.bias.len()
        )
    }
    if x.is_empty() {
        return Ok(Vec::new());
    }
    let arch = isa.arch();
    // Small enough that the second pass over a chunk finds it in the cache.
    let chunk = (TASK / channels).max(1);
    let chunks = positions.div_ceil(chunk);
    let values = |task: usize| {
        let (picture, first) = (task / chunks, task % chunks * chunk);
        let count = chunk.min(positions - first);
        let start = (picture * positions + first) * channels;
        start..start + count * channels
    };
    let parts: Vec<Vec<Moments>> = (0..n * chunks)
        .into_par_iter()
        .map(|task| {
            arch.dispatch(GroupMoments {
                x: &x[values(task)],
                channels,
                groups,
            })
        })
        .collect();
    let of_group = channels / groups;
    let totals: Vec<Vec<(f32, f32)>> = parts
        .chunks(chunks)
        .map(|parts| {
            let total = |group: usize| {
                let parts = parts.iter().map(|part| part[group]);
                let moments = parts.fold(Moments::default(), Moments::and);
                (moments.mean as f32, moments.scale(affine.eps))
            };
            (0..groups).map(total).collect()
        })
        .collect();
    Ok(filled(x.len(), |out| {
        (0..n * chunks).into_par_iter().for_each(|task| {
            let range = values(task);
            arch.dispatch(GroupApply {
                x: &x[range.clone()],
                start: range.start,
                moments: &totals[task / chunks],
                of_group,
                affine,
                silu,
                out,
            });
        });
    }))
}

struct GroupMoments<'a, T> {
    x: &'a [T],
    channels: usize,
    groups: usize,
}

impl<T: Element> WithSimd for GroupMoments<'_, T> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Moments> {
        let (channels, of_group) = (self.channels, self.channels / self.groups);
        let count = (self.x.len() / channels * of_group) as f64;
        let mut scratch = Scratch::<f32>::take(3 * channels);
        let (sums, rest) = scratch.split_at_mut(channels);
        let (means, wide) = rest.split_at_mut(channels);
        sums.fill(0.);
        for pixel in self.x.chunks_exact(channels) {
            T::widen(pixel, wide);
            for (sum, x) in sums.iter_mut().zip(wide.iter()) {
                *sum += x;
            }
        }
        let mut moments = vec![Moments::default(); self.groups];
        let groups = sums
            .chunks_exact(of_group)
            .zip(means.chunks_exact_mut(of_group));
        for (moments, (sums, means)) in moments.iter_mut().zip(groups) {
            let sum: f64 = sums.iter().map(|sum| f64::from(*sum)).sum();
            // The mean that differences are taken from is the rounded one, for both.
            let mean = (sum / count) as f32;
            means.fill(mean);
            moments.count = count;
            moments.mean = f64::from(mean);
        }
        sums.fill(0.);
        for pixel in self.x.chunks_exact(channels) {
            T::widen(pixel, wide);
            for ((sum, x), mean) in sums.iter_mut().zip(wide.iter()).zip(means.iter()) {
                let difference = x - mean;
                *sum += difference * difference;
            }
        }
        for (moments, sums) in moments.iter_mut().zip(sums.chunks_exact(of_group)) {
            moments.squares = sums.iter().map(|sum| f64::from(*sum)).sum();
        }
        moments
    }
}

struct GroupApply<'a, T> {
    x: &'a [T],
    /// Where `x` begins in the whole.
    start: usize,
    /// Mean and scale of every group.
    moments: &'a [(f32, f32)],
    of_group: usize,
    affine: Affine<'a>,
    silu: bool,
    out: SharedSlice<'a, T>,
}

impl<T: Element> WithSimd for GroupApply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.affine.weight.len();
        let mut scratch = Scratch::<f32>::take(3 * channels);
        let (means, rest) = scratch.split_at_mut(channels);
        let (scales, wide) = rest.split_at_mut(channels);
        let groups = means
            .chunks_exact_mut(self.of_group)
            .zip(scales.chunks_exact_mut(self.of_group));
        for ((means, scales), (mean, scale)) in groups.zip(self.moments) {
            means.fill(*mean);
            scales.fill(*scale);
        }
        for (scale, weight) in scales.iter_mut().zip(self.affine.weight) {
            *scale *= weight;
        }
        for (i, pixel) in self.x.chunks_exact(channels).enumerate() {
            T::widen(pixel, wide);
            if self.silu {
                normalize::<Silu>(wide, means, scales, self.affine.bias);
            } else {
                normalize::<Identity>(wide, means, scales, self.affine.bias);
            }
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
            // SAFETY: tasks have disjoint parts of the input, and this is the same part of the
            // output; it is written only.
            let to = unsafe { self.out.part(self.start + i * channels, channels) };
            T::narrow(wide, to);
        }
    }
}

#[inline(always)]
fn normalize<E: Elementwise>(values: &mut [f32], means: &[f32], scales: &[f32], bias: &[f32]) {
    let parameters = means.iter().zip(scales).zip(bias);
    for (x, ((mean, scale), bias)) in values.iter_mut().zip(parameters) {
        *x = E::at((*x - mean) * scale + bias);
    }
}

/// Layer normalisation of rows as wide as `affine`.
///
/// # Errors
/// When sizes do not fit.
pub fn layer_norm<T: Element>(x: &[T], affine: Affine, isa: Isa) -> Result<Vec<T>> {
    let width = affine.weight.len();
    if width == 0 || affine.bias.len() != width || !x.len().is_multiple_of(width) {
        bail!(
            "layer_norm: {} values, {width} weights and {} biases",
            x.len(),
            affine.bias.len()
        )
    }
    let arch = isa.arch();
    let rows = (TASK / width).max(1);
    Ok(filled(x.len(), |out| {
        x.par_chunks(rows * width)
            .enumerate()
            .for_each(|(task, x)| {
                let start = task * rows * width;
                arch.dispatch(LayerNormRows {
                    x,
                    start,
                    affine,
                    out,
                });
            });
    }))
}

struct LayerNormRows<'a, T> {
    x: &'a [T],
    start: usize,
    affine: Affine<'a>,
    out: SharedSlice<'a, T>,
}

impl<T: Element> WithSimd for LayerNormRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Affine { weight, bias, eps } = self.affine;
        let width = weight.len();
        let mut wide = Scratch::<f32>::take(width);
        let wide = &mut *wide;
        for (i, row) in self.x.chunks_exact(width).enumerate() {
            T::widen(row, wide);
            let (mean, scale) = crate::training::moments(wide, eps);
            for ((x, weight), bias) in wide.iter_mut().zip(weight).zip(bias) {
                *x = (*x - mean) * scale * weight + bias;
            }
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
            // SAFETY: as in `group_norm`.
            let to = unsafe { self.out.part(self.start + i * width, width) };
            T::narrow(wide, to);
        }
    }
}
