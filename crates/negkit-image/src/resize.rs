//! Resizing, number for number as the reference implementations do it.
//!
//! 8-bit pictures follow Pillow 13 (`src/libImaging/Resample.c` and `Geometry.c`): a separable
//! filter whose support grows with the reduction (antialias), coefficients rounded to 22 fractional
//! bits, and 8-bit samples between the passes. Float maps follow
//! `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
//!
//! Over the 50 photos of tiny-coco, given the same decoded pixels, every sample equals Pillow
//! 13.0.0's, both for bicubic to a short side of 224 and for bilinear to 352x352: the largest
//! difference is 0. (Pillow before 13 never ran the vertical pass first, and differs from this by
//! up to 1/255 in pictures that lose far more height than width.) `fast_image_resize` 6.1.0, which
//! follows the same algorithm with 16-bit coefficients, differs from Pillow by up to 11/255
//! (bicubic, 19 % of the samples differ) and 1/255 (bilinear, 14 %), which is why the loops are here.

use image::{GrayImage, RgbImage};

use crate::{Error, Limits};

/// How samples are combined when a picture changes its size; PIL's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// PIL's `NEAREST`, 0: the sample under the new pixel's centre.
    Nearest,
    /// PIL's `BILINEAR`, 2: a triangle; over several samples when the picture shrinks.
    Bilinear,
    /// PIL's `BICUBIC`, 3: Keys' cubic with a = -0.5; likewise widened when the picture shrinks.
    Bicubic,
}

impl Filter {
    /// The filter with PIL's number, as in the `resample` field of a `preprocessor_config.json`.
    #[must_use]
    pub fn from_pil(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Nearest),
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            _ => None,
        }
    }
}

/// Resizes a picture to `width` x `height`, bit for bit as `PIL.Image.resize` does.
///
/// # Errors
/// [`Error::Shape`] when either picture has no pixels, or more than [`Limits::PIL_MAX_PIXELS`].
pub fn resize_rgb(
    picture: &RgbImage,
    width: u32,
    height: u32,
    filter: Filter,
) -> Result<RgbImage, Error> {
    let samples = resize_samples::<3>(
        picture.as_raw(),
        picture.dimensions(),
        (width, height),
        filter,
    )?;
    RgbImage::from_raw(width, height, samples)
        .ok_or_else(|| unresizable(picture.dimensions(), (width, height)))
}

/// Resizes an 8-bit grey picture, bit for bit as `PIL.Image.resize` does in mode `L`.
///
/// # Errors
/// As [`resize_rgb`].
pub fn resize_luma(
    picture: &GrayImage,
    width: u32,
    height: u32,
    filter: Filter,
) -> Result<GrayImage, Error> {
    let samples = resize_samples::<1>(
        picture.as_raw(),
        picture.dimensions(),
        (width, height),
        filter,
    )?;
    GrayImage::from_raw(width, height, samples)
        .ok_or_else(|| unresizable(picture.dimensions(), (width, height)))
}

fn unresizable((w, h): (u32, u32), (width, height): (u32, u32)) -> Error {
    Error::Shape {
        operation: "resize",
        expected: format!(
            "two sizes of at least 1x1 and at most {} pixels",
            Limits::PIL_MAX_PIXELS
        ),
        found: format!("{w}x{h} to {width}x{height}"),
    }
}

/// Sizes are (width, height), samples interleaved in rows.
fn resize_samples<const CHANNELS: usize>(
    samples: &[u8],
    from: (u32, u32),
    to: (u32, u32),
    filter: Filter,
) -> Result<Vec<u8>, Error> {
    let vertical_first = runs_vertical_first(from, to);
    let between = if vertical_first {
        (from.0, to.1)
    } else {
        (to.0, from.1)
    };
    for (width, height) in [from, to, between] {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > Limits::PIL_MAX_PIXELS {
            return Err(unresizable(from, to));
        }
    }
    if from == to {
        return Ok(samples.to_vec());
    }
    let (from_w, from_h) = (from.0 as usize, from.1 as usize);
    let (to_w, to_h) = (to.0 as usize, to.1 as usize);
    if filter == Filter::Nearest {
        let columns = nearest_indices(from_w, to_w);
        let rows = nearest_indices(from_h, to_h);
        return Ok(pick::<CHANNELS>(samples, from_w, &columns, &rows));
    }
    let horizontal =
        |samples: &[u8]| filter_rows::<CHANNELS>(samples, from_w, &windows(from_w, to_w, filter));
    let vertical = |samples: &[u8], width: usize| {
        filter_columns(samples, width * CHANNELS, &windows(from_h, to_h, filter))
    };
    // A pass that would not change the size is left out: it would not change a sample either.
    Ok(match (from_w != to_w, from_h != to_h) {
        (true, false) => horizontal(samples),
        (false, _) => vertical(samples, from_w),
        (true, true) if vertical_first => horizontal(&vertical(samples, from_w)),
        (true, true) => vertical(&horizontal(samples), to_w),
    })
}

/// Pillow's choice since version 13 (`ImagingResampleInner`). It is made for speed, but the
/// samples between the passes are rounded, so the order shows in the result.
fn runs_vertical_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let narrower_by = i64::from(from.0) - i64::from(to.0);
    let lower_by = i64::from(from.1) - i64::from(to.1);
    lower_by > 0 && lower_by > narrower_by * 2
}

/// The source index of each target index, `None` past the end. The position is summed up and not
/// multiplied out, because Pillow does so and the rounding errors decide ties.
fn nearest_indices(from: usize, to: usize) -> Vec<Option<usize>> {
    let step = from as f64 / to as f64;
    let mut position = step * 0.5;
    (0..to)
        .map(|_| {
            let index = position as usize;
            position += step;
            (index < from).then_some(index)
        })
        .collect()
}

fn pick<const CHANNELS: usize>(
    samples: &[u8],
    row_pixels: usize,
    columns: &[Option<usize>],
    rows: &[Option<usize>],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.len() * rows.len() * CHANNELS);
    for row in rows {
        for column in columns {
            match (row, column) {
                (Some(row), Some(column)) => {
                    let at = (row * row_pixels + column) * CHANNELS;
                    out.extend_from_slice(&samples[at..at + CHANNELS]);
                }
                _ => out.extend_from_slice(&[0; CHANNELS]),
            }
        }
    }
    out
}

/// Fractional bits of a coefficient: 32 less 8 for the sample and 2 for sign and overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The source samples that make one target sample: the first one's index, and a weight for each.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`.
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let (kernel, radius): (fn(f64) -> f64, f64) = match filter {
        Filter::Bicubic => (bicubic, 2.0),
        Filter::Bilinear | Filter::Nearest => (triangle, 1.0),
    };
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = radius * stretch;
    let shrink = 1.0 / stretch;
    (0..to)
        .map(|index| {
            let center = (index as f64 + 0.5) * scale;
            // `as usize` truncates and stops at 0, as the C casts and their clamp do.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..end)
                .map(|x| kernel((x as f64 - center + 0.5) * shrink))
                .collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights
                .into_iter()
                .map(|weight| fixed_point(if sum == 0.0 { weight } else { weight / sum }))
                .collect();
            Window { first, weights }
        })
        .collect()
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
    (scaled + 0.5_f64.copysign(weight)) as i32
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

// Sums wrap, as they do in C: only reductions by a factor of millions come near the limit.
fn add(sum: i32, sample: u8, weight: i32) -> i32 {
    sum.wrapping_add(weight.wrapping_mul(i32::from(sample)))
}

fn filter_rows<const CHANNELS: usize>(
    samples: &[u8],
    row_pixels: usize,
    windows: &[Window],
) -> Vec<u8> {
    let rows = samples.chunks_exact(row_pixels * CHANNELS);
    let mut out = Vec::with_capacity(rows.len() * windows.len() * CHANNELS);
    for row in rows {
        for window in windows {
            let mut sums = [HALF; CHANNELS];
            let pixels = row[window.first * CHANNELS..].chunks_exact(CHANNELS);
            for (pixel, &weight) in pixels.zip(&window.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum = add(*sum, sample, weight);
                }
            }
            out.extend(sums.map(to_sample));
        }
    }
    out
}

fn filter_columns(samples: &[u8], row_samples: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(windows.len() * row_samples);
    let mut sums = vec![HALF; row_samples];
    for window in windows {
        sums.fill(HALF);
        let rows = samples[window.first * row_samples..].chunks_exact(row_samples);
        for (row, &weight) in rows.zip(&window.weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum = add(*sum, sample, weight);
            }
        }
        out.extend(sums.iter().copied().map(to_sample));
    }
    out
}

/// Resizes a map of logits or probabilities, row by row, from `(h, w)` to `(height, width)`.
///
/// Bilinear between half-pixel centres, as `torch.nn.functional.interpolate(mode="bilinear",
/// align_corners=False)` without antialias.
///
/// # Errors
/// [`Error::Shape`] when a size is zero, `values` has not `h * w` values, or the target has more
/// than [`Limits::PIL_MAX_PIXELS`].
pub fn resize_bilinear_f32(
    values: &[f32],
    (h, w): (usize, usize),
    (height, width): (usize, usize),
) -> Result<Vec<f32>, Error> {
    let source = h.checked_mul(w).filter(|&n| n > 0 && n == values.len());
    let target = height
        .checked_mul(width)
        .filter(|&n| n > 0 && n as u64 <= Limits::PIL_MAX_PIXELS);
    let (Some(_), Some(target)) = (source, target) else {
        return Err(Error::Shape {
            operation: "bilinear resize of a map",
            expected: format!(
                "{h}x{w} values (height x width, none zero) and a target of at most {} pixels",
                Limits::PIL_MAX_PIXELS
            ),
            found: format!("{} values and a target of {height}x{width}", values.len()),
        });
    };
    let rows = neighbours(h, height);
    let columns = neighbours(w, width);
    let mut out = Vec::with_capacity(target);
    for row in &rows {
        let upper = &values[row.first * w..][..w];
        let lower = &values[row.second * w..][..w];
        for column in &columns {
            let blend = |line: &[f32]| {
                (1.0 - column.weight) * line[column.first] + column.weight * line[column.second]
            };
            out.push((1.0 - row.weight) * blend(upper) + row.weight * blend(lower));
        }
    }
    Ok(out)
}

struct Neighbours {
    first: usize,
    second: usize,
    /// Weight of the second; the first has the rest.
    weight: f32,
}

/// PyTorch's `compute_source_index_and_lambda`, in its f32 arithmetic. Its kernels are compiled to
/// fused multiply-adds; without one, positions come out up to 1e-6 away, and steep maps show it.
fn neighbours(from: usize, to: usize) -> Vec<Neighbours> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|index| {
            let position = scale.mul_add(index as f32 + 0.5, -0.5).max(0.0);
            let first = (position as usize).min(from - 1);
            Neighbours {
                first,
                second: (first + 1).min(from - 1),
                weight: (position - first as f32).clamp(0.0, 1.0),
            }
        })
        .collect()
}
