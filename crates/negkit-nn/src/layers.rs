//! Layers with parameters.

use candle_core::{Result, Tensor};

use crate::ops::{self, Gating};
use crate::{Activation, Params, Products};

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    products: Products,
}

impl Linear {
    /// Reads `weight` `[output, input]` and `bias` `[output]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: params.get((output, input), "weight")?,
            bias: Some(params.get(output, "bias")?),
            products: params.products(),
        })
    }

    /// Reads `weight` `[output, input]`; there is no bias.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load_no_bias(params: &Params, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: params.get((output, input), "weight")?,
            bias: None,
            products: params.products(),
        })
    }

    /// `[.., input]` to `[.., output]`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear_in(x, &self.weight, self.bias.as_ref(), self.products)
    }
}

/// Two linear layers with a function between them: the feed-forward network of a transformer
/// ("Attention Is All You Need", section 3.3), or the gated one of diffusers.
#[derive(Debug, Clone)]
pub struct FeedForward {
    weights: [Tensor; 2],
    biases: [Tensor; 2],
    gating: Gating,
    products: Products,
}

impl FeedForward {
    /// Reads the layer from `width` to `inner` at `first` and the one back at `second`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(
        [first, second]: [&Params; 2],
        width: usize,
        inner: usize,
        activation: Activation,
    ) -> Result<Self> {
        let gating = Gating::Activation(activation);
        Self::load_both([first, second], width, [inner, inner], gating)
    }

    /// The same with GEGLU: the layer at `first` gives `2 * inner` values.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load_geglu([first, second]: [&Params; 2], width: usize, inner: usize) -> Result<Self> {
        Self::load_both([first, second], width, [2 * inner, inner], Gating::Geglu)
    }

    fn load_both(
        [first, second]: [&Params; 2],
        width: usize,
        [hidden, inner]: [usize; 2],
        gating: Gating,
    ) -> Result<Self> {
        let (first_weight, first_bias) = (
            first.get((hidden, width), "weight")?,
            first.get(hidden, "bias")?,
        );
        let (weight, bias) = (
            second.get((width, inner), "weight")?,
            second.get(width, "bias")?,
        );
        Ok(Self {
            weights: [first_weight, weight],
            biases: [first_bias, bias],
            gating,
            products: first.products(),
        })
    }

    /// `[.., width]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ([first, second], [first_bias, bias]) = (&self.weights, &self.biases);
        let (weights, biases) = ([first, second], [first_bias, bias]);
        ops::feed_forward(x, weights, biases, self.gating, self.products)
    }
}

/// Kernel size, stride and padding of a square convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Step, in pixels.
    pub stride: usize,
    /// Zeros added on each side, in pixels.
    pub padding: usize,
}

impl ConvOptions {
    /// 3x3 that keeps the size.
    pub const SAME_3X3: Self = Self::new(3, 1, 1);
    /// 1x1 that keeps the size.
    pub const POINTWISE: Self = Self::new(1, 1, 0);

    /// Kernel size, stride and padding.
    pub const fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel,
            stride,
            padding,
        }
    }
}

/// 2D convolution.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    options: ConvOptions,
    products: Products,
}

impl Conv2d {
    /// Reads `weight` `[output, input, kernel, kernel]` and `bias` `[output]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(
        params: &Params,
        input: usize,
        output: usize,
        options: ConvOptions,
    ) -> Result<Self> {
        Ok(Self {
            bias: Some(params.get(output, "bias")?),
            ..Self::load_no_bias(params, input, output, options)?
        })
    }

    /// Reads `weight` `[output, input, kernel, kernel]`; there is no bias.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load_no_bias(
        params: &Params,
        input: usize,
        output: usize,
        options: ConvOptions,
    ) -> Result<Self> {
        let kernel = options.kernel;
        Ok(Self {
            weight: params.get((output, input, kernel, kernel), "weight")?,
            bias: None,
            options,
            products: params.products(),
        })
    }

    /// `[n, input, h, w]` to `[n, output, h', w']`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ConvOptions {
            stride, padding, ..
        } = self.options;
        let bias = self.bias.as_ref();
        ops::conv2d_in(x, &self.weight, bias, stride, padding, self.products)
    }
}

/// Transposed convolution whose stride is its kernel: every input pixel becomes its own square of
/// output pixels, so that it is one matrix product and a reordering.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// `[input, output * kernel * kernel]`
    weight: Tensor,
    bias: Tensor,
    kernel: usize,
    products: Products,
}

impl ConvTranspose2d {
    /// Reads `weight` `[input, output, kernel, kernel]` and `bias` `[output]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, input: usize, output: usize, kernel: usize) -> Result<Self> {
        let weight = params.get((input, output, kernel, kernel), "weight")?;
        Ok(Self {
            weight: weight.reshape((input, output * kernel * kernel))?,
            bias: params.get(output, "bias")?,
            kernel,
            products: params.products(),
        })
    }

    /// `[n, input, h, w]` to `[n, output, h * kernel, w * kernel]`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, input, h, w) = x.dims4()?;
        let (output, kernel) = (self.bias.dim(0)?, self.kernel);
        let pixels = x.permute((0, 2, 3, 1))?.reshape((n * h * w, input))?;
        let bias = self.bias.reshape((1, output, 1, 1))?;
        ops::matmul_in(&pixels, &self.weight, self.products)?
            .reshape(vec![n, h, w, output, kernel, kernel])?
            .permute(vec![0, 3, 1, 4, 2, 5])?
            .reshape((n, output, h * kernel, w * kernel))?
            .broadcast_add(&bias)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` `[hidden]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, hidden: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: params.get(hidden, "weight")?,
            bias: params.get(hidden, "bias")?,
            eps,
        })
    }

    /// `[.., hidden]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Group normalisation over the channels of a picture.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias` `[channels]`.
    ///
    /// # Errors
    /// When `channels` is no multiple of `groups`, or the device fails.
    pub fn load(params: &Params, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            candle_core::bail!(
                "group norm: {channels} channels do not divide into {groups} groups; check \
                 norm_num_groups and block_out_channels in config.json"
            )
        }
        Ok(Self {
            weight: params.get(channels, "weight")?,
            bias: params.get(channels, "bias")?,
            groups,
            eps,
        })
    }

    /// `[n, channels, ..]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, self.groups, &self.weight, &self.bias, self.eps)
    }

    /// `activation` of [`GroupNorm::forward`].
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_then(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match activation {
            Activation::Silu => {
                ops::group_norm_silu(x, self.groups, &self.weight, &self.bias, self.eps)
            }
            other => other.forward(&self.forward(x)?),
        }
    }
}

/// A table of vectors, looked up by index.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[entries, hidden]`
    weight: Tensor,
}

impl Embedding {
    /// Reads `weight` `[entries, hidden]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, entries: usize, hidden: usize) -> Result<Self> {
        Ok(Self {
            weight: params.get((entries, hidden), "weight")?,
        })
    }

    /// `[..]` of u32 indices to `[.., hidden]`.
    ///
    /// # Errors
    /// When an index is not below the number of entries.
    pub fn forward(&self, indices: &Tensor) -> Result<Tensor> {
        let mut dims = indices.dims().to_vec();
        dims.push(self.weight.dim(1)?);
        let flat = indices.flatten_all()?;
        self.weight.index_select(&flat, 0)?.reshape(dims)
    }

    /// The whole table, `[entries, hidden]`.
    pub fn table(&self) -> &Tensor {
        &self.weight
    }
}
