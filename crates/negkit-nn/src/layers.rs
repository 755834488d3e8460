//! Layers with parameters.

use candle_core::{Result, Tensor};

use crate::{Params, Products, ops};

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
