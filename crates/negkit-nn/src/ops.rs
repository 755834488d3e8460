//! The seam between models and kernels: every heavy operation of every model passes through here.
//!
//! A function here defines *what* is computed; how, depends on device, type and on whether a gradient
//! is tracked. On the CPU f32 has fused kernels with gradients of their own; everything else is
//! composed of candle's operations.

pub(crate) mod composed;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use candle_core::{D, DType, Result, Tensor};

use crate::Activation;
use crate::packed::is_channels_last;
use negkit_kernels::{Products, training as kernels};

/// Type in which a product of tensors of `x`'s type is computed on `x`'s device.
///
/// candle has no bf16 product on CPU, and its f16 product there rounds intermediate sums; PyTorch
/// accumulates both in f32 and rounds once.
pub(crate) fn product_dtype(x: &Tensor) -> DType {
    match x.dtype() {
        DType::F16 | DType::BF16 if x.device().is_cpu() => DType::F32,
        dtype => dtype,
    }
}

/// Type for sums over many values of type `dtype`.
pub(crate) fn at_least_f32(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Whether `tensors` are for the CPU's kernels because a gradient is tracked, or because products
/// shall be in bf16.
pub(crate) fn trains(tensors: &[&Tensor], products: Products) -> bool {
    kernels::suit(tensors)
        && (products == Products::Bf16 || tensors.iter().any(|tensor| tensor.track_op()))
}

/// `x` as a kernel takes it: where a gradient is tracked, a permuted tensor is copied; elsewhere that
/// would change what is computed.
fn ready(x: &Tensor) -> Result<Tensor> {
    if x.track_op() {
        x.contiguous()
    } else {
        Ok(x.clone())
    }
}

/// Matrix product `a @ b` of `[.., m, k]` and `[.., k, n]`, accumulated in at least f32.
///
/// # Errors
/// When shapes or types do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    matmul_in(a, b, Products::Exact)
}

/// [`matmul`] with a choice of how products are computed.
///
/// # Errors
/// When shapes or types do not fit.
pub fn matmul_in(a: &Tensor, b: &Tensor, products: Products) -> Result<Tensor> {
    let outer = |t: &Tensor| t.dims()[..t.rank().saturating_sub(2)].to_vec();
    if trains(&[a, b], products) && a.rank() >= 2 && outer(a) == outer(b) {
        return kernels::matmul(a, b, products);
    }
    composed::matmul(a, b)
}

/// `x @ weight.T + bias` for `x` `[.., in]`, `weight` `[out, in]` and `bias` `[out]`.
///
/// # Errors
/// When shapes or types do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_in(x, weight, bias, Products::Exact)
}

/// [`linear`] with a choice of how products are computed.
///
/// # Errors
/// When shapes or types do not fit.
pub fn linear_in(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    products: Products,
) -> Result<Tensor> {
    let mut tensors = vec![x, weight];
    tensors.extend(bias);
    if trains(&tensors, products) {
        let bias = bias.map(Tensor::contiguous).transpose()?;
        return kernels::linear(
            &x.contiguous()?,
            &weight.contiguous()?,
            bias.as_ref(),
            products,
        );
    }
    composed::linear(x, weight, bias)
}

/// 2D convolution of `x` `[n, in, h, w]` by `weight` `[out, in, kh, kw]`, with zero padding on all
/// sides.
///
/// # Errors
/// When shapes or types do not fit.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    conv2d_in(x, weight, bias, stride, padding, Products::Exact)
}

/// [`conv2d`] with a choice of how products are computed.
///
/// # Errors
/// When shapes or types do not fit.
pub fn conv2d_in(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    products: Products,
) -> Result<Tensor> {
    let mut tensors = vec![x, weight];
    tensors.extend(bias);
    if trains(&tensors, products) {
        let bias = bias.map(Tensor::contiguous).transpose()?;
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        return kernels::conv2d(&x, &weight, bias.as_ref(), stride, padding, products);
    }
    composed::conv2d(x, weight, bias, stride, padding)
}

/// `x` `[n, channels, ..]` plus `shift` `[n, channels]` at every position.
///
/// # Errors
/// When shapes or types do not fit.
pub fn add_per_channel(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    if trains(&[x, shift], Products::Exact) {
        return kernels::add_per_channel(&x.contiguous()?, &shift.contiguous()?);
    }
    composed::add_per_channel(x, shift)
}

/// `a + b`, of the same shape. Pictures whose channels are last in memory stay so.
///
/// # Errors
/// When shapes or types do not fit.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if is_channels_last(a) && is_channels_last(b) {
        let last = |x: &Tensor| x.permute((0, 2, 3, 1));
        return (last(a)? + last(b)?)?.permute((0, 3, 1, 2));
    }
    a + b
}

/// `a` `[n, _, h, w]` and `b` `[n, _, h, w]` one behind the other along their channels, which stay last
/// in memory where they are.
///
/// # Errors
/// When shapes or types do not fit.
pub fn cat_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if is_channels_last(a) && is_channels_last(b) {
        let last = |x: &Tensor| x.permute((0, 2, 3, 1));
        return Tensor::cat(&[&last(a)?, &last(b)?], 3)?.permute((0, 3, 1, 2));
    }
    Tensor::cat(&[a, b], 1)
}

/// The pixels of a picture `[n, channels, h, w]` as tokens `[n, h * w, channels]`. Costs nothing where
/// channels are last in memory.
///
/// # Errors
/// When `x` has not four dimensions.
pub fn to_tokens(x: &Tensor) -> Result<Tensor> {
    let (n, channels, h, w) = x.dims4()?;
    x.permute((0, 2, 3, 1))?
        .contiguous()?
        .reshape((n, h * w, channels))
}

/// Tokens `[n, h * w, channels]` as a picture `[n, channels, h, w]`: undoes [`to_tokens`], and copies
/// nothing.
///
/// # Errors
/// When there are not `h * w` tokens.
pub fn to_picture(tokens: &Tensor, (h, w): (usize, usize)) -> Result<Tensor> {
    let (n, _, channels) = tokens.dims3()?;
    tokens.reshape((n, h, w, channels))?.permute((0, 3, 1, 2))
}

/// Softmax over the last dimension, in f32 for half-precision input.
///
/// # Errors
/// When the device fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if kernels::take(&[&x]) {
        return kernels::softmax(&x);
    }
    composed::softmax(&x)
}

/// Layer normalisation over the last dimension; `weight` and `bias` are `[hidden]`.
///
/// # Errors
/// When shapes or types do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    if kernels::take(&[&x, weight, bias]) {
        return kernels::layer_norm(&x, weight, bias, eps);
    }
    composed::layer_norm(&x, weight, bias, eps)
}

/// Group normalisation of `x` `[n, channels, ..]` over `groups` groups of channels; `weight` and
/// `bias` are `[channels]`. Computed in at least f32.
///
/// # Errors
/// When shapes or types do not fit.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let x = ready(x)?;
    if kernels::take(&[&x, weight, bias]) {
        return kernels::group_norm(&x, groups, weight, bias, eps);
    }
    composed::group_norm(&x, groups, weight, bias, eps)
}

/// [`silu`] of [`group_norm`].
///
/// # Errors
/// When shapes or types do not fit.
pub fn group_norm_silu(
    x: &Tensor,
    groups: usize,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let x = ready(x)?;
    if kernels::take(&[&x, weight, bias]) {
        return kernels::group_norm_then::<kernels::Silu>(&x, groups, weight, bias, eps);
    }
    composed::group_norm(&x, groups, weight, bias, eps)?.silu()
}

/// `max(x, 0)` that keeps NaN, as PyTorch's does. candle's makes 0 of it, and broken weights would
/// give a result that can be scored.
///
/// # Errors
/// When the device fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    activate::<kernels::Relu>(x, composed::relu)
}

/// `x * sigmoid(x)`.
///
/// # Errors
/// When the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activate::<kernels::Silu>(x, Tensor::silu)
}

/// `x * sigmoid(1.702 x)` (OpenAI CLIP's `QuickGELU`).
///
/// # Errors
/// When the device fails.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    activate::<kernels::QuickGelu>(x, composed::quick_gelu)
}

/// `x * Phi(x)` with the exact error function (PyTorch's `gelu(approximate="none")`).
///
/// # Errors
/// When the device fails.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    activate::<kernels::GeluErf>(x, Tensor::gelu_erf)
}

fn activate<E: kernels::Elementwise + 'static>(
    x: &Tensor,
    composed: fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if is_channels_last(x) && !x.track_op() {
        let last = x.permute((0, 2, 3, 1))?;
        return activate::<E>(&last, composed)?.permute((0, 3, 1, 2));
    }
    let x = ready(x)?;
    if kernels::take(&[&x]) {
        return kernels::elementwise::<E>(&x);
    }
    composed(&x)
}

/// `a * gelu(b)` where `a` and `b` are the halves of the last dimension of `x` (diffusers'
/// `GEGLU`, which uses the exact GELU).
///
/// # Errors
/// When the last dimension is odd.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if width % 2 != 0 {
        candle_core::bail!("geglu: expected an even last dimension, found {width}")
    }
    let x = ready(x)?;
    if kernels::take(&[&x]) {
        return kernels::geglu(&x);
    }
    composed::geglu(&x)
}

/// What is between the two layers of [`feed_forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gating {
    /// A function of every value.
    Activation(Activation),
    /// [`geglu`]: the first layer is twice as wide as the second one's input.
    Geglu,
}

impl Gating {
    /// Applies it to the first layer's result.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Activation(activation) => activation.forward(x),
            Self::Geglu => geglu(x),
        }
    }
}

/// Two linear layers, from `x` `[.., width]` back to its width, with `gating` between them. `weights`
/// and `biases` are those of both layers: `[hidden, width]`, `[hidden]`, `[width, inner]`, `[width]`.
///
/// # Errors
/// When shapes or types do not fit.
pub fn feed_forward(
    x: &Tensor,
    weights: [&Tensor; 2],
    biases: [&Tensor; 2],
    gating: Gating,
    products: Products,
) -> Result<Tensor> {
    let [first, second] = weights;
    let [first_bias, bias] = biases;
    if !trains(&[x, first, second, first_bias, bias], products) {
        let hidden = linear_in(x, first, Some(first_bias), products)?;
        return linear_in(&gating.forward(&hidden)?, second, Some(bias), products);
    }
    let (x, first) = (&x.contiguous()?, &first.contiguous()?);
    let weights = [first, second];
    macro_rules! with {
        ($function:ident) => {{
            let gate = kernels::Function::<kernels::$function>(PhantomData);
            kernels::feed_forward(x, weights, biases, gate, products)
        }};
    }
    match gating {
        Gating::Geglu => kernels::feed_forward(x, weights, biases, kernels::Geglu, products),
        Gating::Activation(Activation::QuickGelu) => with!(QuickGelu),
        Gating::Activation(Activation::Gelu) => with!(GeluErf),
        Gating::Activation(Activation::Relu) => with!(Relu),
        Gating::Activation(Activation::Silu) => with!(Silu),
    }
}
