//! Resizing of feature maps, as `torch.nn.functional.interpolate` does it.

use candle_core::{Device, Result, Tensor};

use crate::ops;

/// Bicubic resize of `[n, c, h, w]` to `size` (height, width): PyTorch's `mode="bicubic"`,
/// `align_corners=False`, no antialiasing, `A = -0.75`.
///
/// # Errors
/// When shapes do not fit.
pub fn resize_bicubic(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    resize_separably(x, size, bicubic_taps)
}

/// Bilinear resize of `[n, c, h, w]` to `size` (height, width): PyTorch's `mode="bilinear"`,
/// `align_corners=False`, no antialiasing.
///
/// # Errors
/// When shapes do not fit.
pub fn resize_bilinear(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    resize_separably(x, size, bilinear_taps)
}

/// Nearest resize of `[n, c, h, w]` to `size` (height, width): PyTorch's `mode="nearest"`.
///
/// # Errors
/// When shapes do not fit.
pub fn upsample_nearest(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    if !x.track_op() {
        return x.upsample_nearest2d(size.0, size.1);
    }
    // candle's gradient of the operation above knows whole, equal factors only, and drops what else
    // flowed into `x`.
    let (_, _, h, w) = x.dims4()?;
    x.index_select(&nearest_positions(h, size.0, x.device())?, 2)?
        .index_select(&nearest_positions(w, size.1, x.device())?, 3)
}

/// `[output]`: which input every output position takes.
fn nearest_positions(input: usize, output: usize, device: &Device) -> Result<Tensor> {
    let scale = input as f64 / output as f64;
    let last = input.saturating_sub(1);
    let positions = (0..output).map(|o| ((o as f64 * scale) as usize).min(last) as u32);
    Tensor::from_iter(positions, device)
}

/// Input positions (not yet clamped) and weights for a source coordinate.
type Taps = Vec<(isize, f64)>;

/// Both filters are separable and linear: `rows @ x @ columns^T`, which also has a gradient.
fn resize_separably(x: &Tensor, size: (usize, usize), taps: fn(f64) -> Taps) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if (h, w) == size {
        return Ok(x.clone());
    }
    let dtype = x.dtype();
    let wide = ops::at_least_f32(dtype);
    let x = x.to_dtype(wide)?.contiguous()?;
    let rows = filter_matrix(h, size.0, taps, x.device())?.to_dtype(wide)?;
    let columns = filter_matrix(w, size.1, taps, x.device())?.to_dtype(wide)?;
    let (n, c, ..) = x.dims4()?;
    let x = x.reshape((n * c, h, w))?;
    let rows = rows.unsqueeze(0)?.expand((n * c, size.0, h))?;
    let x = ops::matmul(&rows.contiguous()?, &x)?;
    let columns = columns.t()?.contiguous()?.unsqueeze(0)?;
    let columns = columns.expand((n * c, w, size.1))?.contiguous()?;
    ops::matmul(&x, &columns)?
        .reshape((n, c, size.0, size.1))?
        .to_dtype(dtype)
}

/// `[output, input]`: the weight of every input position in every output position.
fn filter_matrix(
    input: usize,
    output: usize,
    taps: fn(f64) -> Taps,
    device: &Device,
) -> Result<Tensor> {
    let scale = input as f64 / output as f64;
    let last = input as isize - 1;
    let mut matrix = vec![0f32; output * input];
    for (o, row) in matrix.chunks_exact_mut(input).enumerate() {
        for (position, weight) in taps(scale * (o as f64 + 0.5) - 0.5) {
            row[position.clamp(0, last) as usize] += weight as f32;
        }
    }
    Tensor::from_vec(matrix, (output, input), device)
}

fn bilinear_taps(source: f64) -> Taps {
    let source = source.max(0.);
    let first = source.floor();
    let fraction = source - first;
    vec![
        (first as isize, 1. - fraction),
        (first as isize + 1, fraction),
    ]
}

fn bicubic_taps(source: f64) -> Taps {
    const A: f64 = -0.75;
    let near = |t: f64| ((A + 2.) * t - (A + 3.)) * t * t + 1.;
    let far = |t: f64| ((A * t - 5. * A) * t + 8. * A) * t - 4. * A;
    let first = source.floor();
    let t = source - first;
    let first = first as isize;
    vec![
        (first - 1, far(t + 1.)),
        (first, near(t)),
        (first + 1, near(1. - t)),
        (first + 2, far(2. - t)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resized(f: fn(&Tensor, (usize, usize)) -> Result<Tensor>) -> Vec<f32> {
        let x = Tensor::new(&[0f32, 1., 4., 9.], &Device::Cpu).unwrap();
        let x = x.reshape((1, 1, 1, 4)).unwrap();
        let y = f(&x, (1, 6)).unwrap();
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        for (f, e) in found.iter().zip(expected) {
            assert!(
                (f - e).abs() < 1e-5,
                "found {found:?}, expected {expected:?}"
            );
        }
    }

    /// References: `torch.nn.functional.interpolate(torch.tensor([[[[0., 1., 4., 9.]]]]),
    /// size=(1, 6), mode=…)` of torch 2.13.
    #[test]
    fn bicubic_is_torchs() {
        let expected = [
            -0.086_805_58,
            0.218_75,
            1.430_555,
            3.152_778,
            6.781_25,
            9.434_029,
        ];
        assert_near(&resized(resize_bicubic), &expected);
    }

    #[test]
    fn bilinear_is_torchs() {
        assert_near(&resized(resize_bilinear), &[0., 0.5, 1.5, 3.5, 6.5, 9.]);
    }
}
