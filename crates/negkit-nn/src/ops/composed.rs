//! Every operation in terms of candle's: for f64, for half precision, for other devices, and to prove
//! the kernels by. The functions are those of [`super`].

use candle_core::{D, DType, Result, Tensor};

use super::{at_least_f32, product_dtype};
use negkit_kernels::training as kernels;

/// Matrix product `a @ b` of `[.., m, k]` and `[.., k, n]`, accumulated in at least f32.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = product_dtype(a);
    if dtype == a.dtype() {
        return a.matmul(b);
    }
    a.to_dtype(dtype)?
        .matmul(&b.to_dtype(dtype)?)?
        .to_dtype(a.dtype())
}

/// `x @ weight.T + bias` for `x` `[.., in]`, `weight` `[out, in]` and `bias` `[out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let Some(width) = dims.last().copied() else {
        candle_core::bail!("linear: expected an input of at least one dimension, found a scalar")
    };
    // One large product instead of a batch of small ones that share the weight.
    let rows = x.elem_count() / width.max(1);
    let y = matmul(&x.reshape((rows, width))?, &weight.t()?)?;
    let y = match bias {
        Some(bias) => add_bias(y, bias, 1)?,
        None => y,
    };
    if let Some(last) = dims.last_mut() {
        *last = weight.dim(0)?;
    }
    y.reshape(dims)
}

/// 2D convolution of `x` `[n, in, h, w]` by `weight` `[out, in, kh, kw]`, with zero padding on all
/// sides.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let dtype = product_dtype(x);
    let y = if (weight.dim(2)?, weight.dim(3)?, stride, padding) == (1, 1, 1, 0) {
        // A 1x1 convolution is a product; candle would still copy the picture into columns.
        let (n, channels, h, w) = x.dims4()?;
        let out = weight.dim(0)?;
        let kernel = weight.reshape((1, out, channels))?;
        let kernel = kernel.expand((n, out, channels))?;
        matmul(&kernel, &x.reshape((n, channels, h * w))?)?.reshape((n, out, h, w))?
    } else {
        let kernel = weight.to_dtype(dtype)?;
        let wide = x.to_dtype(dtype)?;
        let y = if stride > 1 && (x.track_op() || weight.track_op()) {
            let covered = pad_and_crop(&wide, &kernel, stride, padding)?;
            covered.conv2d(&kernel, 0, stride, 1, 1)?
        } else {
            wide.conv2d(&kernel, padding, stride, 1, 1)?
        };
        y.to_dtype(x.dtype())?
    };
    match bias {
        Some(bias) => {
            let inner = y.dim(2)? * y.dim(3)?;
            add_bias(y, bias, inner)
        }
        None => Ok(y),
    }
}

/// `x` with its border of zeros, cut to the rows and columns that a convolution reads.
///
/// candle's gradient of a strided convolution takes what is left over at the bottom for what is left
/// over at the right; here nothing is left over.
fn pad_and_crop(x: &Tensor, kernel: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [2, 3] {
        x = x.pad_with_zeros(dim, padding, padding)?;
        let (size, side) = (x.dim(dim)?, kernel.dim(dim)?);
        if size >= side {
            x = x.narrow(dim, 0, size - (size - side) % stride)?;
        }
    }
    x.contiguous()
}

/// Adds `bias` `[channels]` to `y` `[.., channels, ..]`, where `inner` values follow the channels.
/// `y` is a product that nobody else holds yet.
fn add_bias(y: Tensor, bias: &Tensor, inner: usize) -> Result<Tensor> {
    // In place, where nobody can see it.
    if kernels::take(&[&y, bias]) && !y.track_op() && !bias.track_op() {
        kernels::add_bias(&y, bias, inner)?;
        return Ok(y);
    }
    if inner == 1 && y.rank() == 2 {
        return y.broadcast_add(bias);
    }
    y.broadcast_add(&bias.reshape((1, bias.dim(0)?, 1, 1))?)
}

/// Softmax over the last dimension, in f32 for half-precision input.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.track_op() {
        return candle_nn::ops::softmax(x, D::Minus1);
    }
    candle_nn::ops::softmax_last_dim(x)
}

/// Layer normalisation over the last dimension; `weight` and `bias` are `[hidden]`.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let tracked = x.track_op() || weight.track_op() || bias.track_op();
    // candle's own kernel has no f64.
    if tracked || x.dtype() == DType::F64 {
        return candle_nn::ops::layer_norm_slow(x, weight, bias, eps as f32);
    }
    candle_nn::ops::layer_norm(x, weight, bias, eps as f32)
}

/// Group normalisation of `x` `[n, channels, ..]` over `groups` groups of channels; `weight` and
/// `bias` are `[channels]`. Computed in at least f32.
pub(crate) fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let dims = x.dims();
    let (n, channels) = (dims[0], dims[1]);
    let per_group = x.elem_count() / (n * groups).max(1);
    let dtype = x.dtype();
    let wide = at_least_f32(dtype);
    let grouped = x.reshape((n, groups, per_group))?.to_dtype(wide)?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = (variance + eps)?.sqrt()?.recip()?;
    let normed = centred.broadcast_mul(&scale)?.reshape(dims)?;
    let mut per_channel = vec![1; dims.len()];
    per_channel[1] = channels;
    let weight = weight.to_dtype(wide)?.reshape(&per_channel[..])?;
    let bias = bias.to_dtype(wide)?.reshape(&per_channel[..])?;
    normed
        .broadcast_mul(&weight)?
        .broadcast_add(&bias)?
        .to_dtype(dtype)
}

/// `max(x, 0)` that keeps NaN, as PyTorch's does. candle's makes 0 of it, and broken weights would
/// give a result that can be scored.
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    x.lt(0f64)?.where_cond(&x.zeros_like()?, x)
}

/// `x * sigmoid(1.702 x)` (OpenAI CLIP's `QuickGELU`).
pub(crate) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x * candle_nn::ops::sigmoid(&(x * 1.702)?)?
}

/// `a * gelu(b)` where `a` and `b` are the halves of the last dimension of `x` (diffusers'
/// `GEGLU`, which uses the exact GELU).
pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let value = x.narrow(D::Minus1, 0, width / 2)?;
    let gate = x.narrow(D::Minus1, width / 2, width / 2)?.contiguous()?;
    value * gate.gelu_erf()?
}

/// `x` `[n, channels, ..]` plus `shift` `[n, channels]`.
pub(crate) fn add_per_channel(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let mut dims = shift.dims().to_vec();
    dims.resize(x.rank(), 1);
    x.broadcast_add(&shift.reshape(dims)?)
}
