//! Layers with parameters.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use negkit_kernels::{Affine, Convolution, Function, Order, Products, Reach, Sliding, Weights};

use crate::fused::{self, Rest};
use crate::ops::{self, Gating};
use crate::packed::{Form, Kernel, Packed, is_channels_last, vector};
use crate::{Activation, Params, upsample_nearest};

/// A vector of parameters, and the same as the kernels take it.
#[derive(Debug, Clone)]
struct Vector {
    tensor: Tensor,
    values: Option<Arc<[f32]>>,
}

impl Vector {
    fn new(tensor: Tensor, params: &Params) -> Result<Self> {
        Ok(Self {
            values: vector(&tensor, params)?,
            tensor,
        })
    }
}

/// A kernel and its bias.
#[derive(Debug)]
struct Affinity<F: Form> {
    kernel: Kernel<F>,
    bias: Option<Vector>,
}

impl<F: Form> Clone for Affinity<F> {
    fn clone(&self) -> Self {
        Self {
            kernel: self.kernel.clone(),
            bias: self.bias.clone(),
        }
    }
}

/// Whether a layer adds a bias.
#[derive(Debug, Clone, Copy)]
enum Bias {
    Read,
    None,
}

impl Affinity<Weights> {
    /// Of a linear layer.
    fn linear(params: &Params, shape: [usize; 2], bias: Bias, order: Order) -> Result<Self> {
        let mut affinity = Self::load(params, &shape, bias, order)?;
        if let (Kernel::Packed(packed), Some(bias)) = (&affinity.kernel, &mut affinity.bias)
            && let Some(values) = &mut bias.values
        {
            *values = packed.how.arrange(values).into();
        }
        Ok(affinity)
    }
}

impl<F: Form> Affinity<F> {
    /// Reads `weight` of `shape`, whose first dimension is of the outputs, and their `bias`.
    fn load(params: &Params, shape: &[usize], bias: Bias, how: F::How) -> Result<Self> {
        let kernel = Kernel::load(params, shape, how)?;
        let outputs = shape.first().copied().unwrap_or_default();
        let bias = match bias {
            Bias::Read => Some(Vector::new(params.get(outputs, "bias")?, params)?),
            Bias::None => None,
        };
        Ok(Self { kernel, bias })
    }

    /// What the kernels take, if `tensors` are for them.
    fn fused(&self, tensors: &[&Tensor]) -> Option<(&Packed<F>, Option<&[f32]>)> {
        let packed = self.kernel.packed(tensors)?;
        match &self.bias {
            None => Some((packed, None)),
            Some(bias) => Some((packed, Some(bias.values.as_deref()?))),
        }
    }

    fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(|bias| &bias.tensor)
    }
}

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    affinity: Affinity<Weights>,
    products: Products,
}

impl Linear {
    /// Reads `weight` `[output, input]` and `bias` `[output]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, input: usize, output: usize) -> Result<Self> {
        Self::new(params, [output, input], Bias::Read)
    }

    /// Reads `weight` `[output, input]`; there is no bias.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load_no_bias(params: &Params, input: usize, output: usize) -> Result<Self> {
        Self::new(params, [output, input], Bias::None)
    }

    fn new(params: &Params, shape: [usize; 2], bias: Bias) -> Result<Self> {
        Ok(Self {
            affinity: Affinity::linear(params, shape, bias, Order::Plain)?,
            products: params.products(),
        })
    }

    /// `[.., input]` to `[.., output]`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some((packed, bias)) = self.affinity.fused(&[x]) {
            let rest = Rest {
                bias,
                ..Rest::default()
            };
            return fused::linear(x, packed, rest);
        }
        let weight = self.affinity.kernel.tensor()?;
        ops::linear_in(x, &weight, self.affinity.bias(), self.products)
    }

    /// [`Linear::forward`] plus `residual`, which has the shape of the result.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        if let Some((packed, bias)) = self.affinity.fused(&[x, residual]) {
            let rest = Rest {
                bias,
                residual: Some(residual),
                ..Rest::default()
            };
            return fused::linear(x, packed, rest);
        }
        self.forward(x)? + residual
    }
}

/// Two linear layers with a function between them: the feed-forward network of a transformer
/// ("Attention Is All You Need", section 3.3), or the gated one of diffusers.
#[derive(Debug, Clone)]
pub struct FeedForward {
    first: Affinity<Weights>,
    second: Affinity<Weights>,
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
        let products = first.products();
        let order = match gating {
            Gating::Geglu => Order::Gated,
            Gating::Activation(_) => Order::Plain,
        };
        Ok(Self {
            first: Affinity::linear(first, [hidden, width], Bias::Read, order)?,
            second: Affinity::linear(second, [width, inner], Bias::Read, Order::Plain)?,
            gating,
            products,
        })
    }

    /// `[.., width]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }

    /// [`FeedForward::forward`] plus `residual`, which has the shape of the result.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.run(x, Some(residual))
    }

    fn run(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let mut tensors = vec![x];
        tensors.extend(residual);
        let both = self.first.fused(&tensors).zip(self.second.fused(&tensors));
        let Some(((first, first_bias), (second, bias))) = both else {
            return self.composed(x, residual);
        };
        let function = match self.gating {
            Gating::Activation(activation) => activation.function(),
            Gating::Geglu if first.how == Order::Gated => Function::Geglu,
            Gating::Geglu => Function::Identity,
        };
        let rest = Rest {
            bias: first_bias,
            function,
            ..Rest::default()
        };
        let mut hidden = fused::linear(x, first, rest)?;
        if self.gating == Gating::Geglu && function == Function::Identity {
            hidden = ops::geglu(&hidden)?;
        }
        let rest = Rest {
            bias,
            residual,
            ..Rest::default()
        };
        fused::linear(&hidden, second, rest)
    }

    fn composed(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let weights = [self.first.kernel.tensor()?, self.second.kernel.tensor()?];
        let (Some(first_bias), Some(bias)) = (self.first.bias(), self.second.bias()) else {
            candle_core::bail!("a feed-forward network was built without biases")
        };
        let [first, second] = &weights;
        let (weights, biases) = ([first, second], [first_bias, bias]);
        let y = ops::feed_forward(x, weights, biases, self.gating, self.products)?;
        match residual {
            Some(residual) => y + residual,
            None => Ok(y),
        }
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
    /// Zeros added below and to the right besides, in pixels.
    pub after: usize,
    /// Whether more memory may be spent on its speed, which pays where pictures are not small. The result
    /// is the same.
    pub roomy: bool,
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
            after: 0,
            roomy: false,
        }
    }

    /// The same with more memory for its speed.
    #[must_use]
    pub const fn roomy(self) -> Self {
        Self {
            roomy: true,
            ..self
        }
    }

    /// The same with this many more zeros below and to the right.
    #[must_use]
    pub const fn with_after(self, after: usize) -> Self {
        Self { after, ..self }
    }
}

/// 2D convolution.
///
/// Without gradients, on a CPU, the result's channels lie side by side in memory (its shape is the same
/// as ever): that is how the next convolution reads it, and norms and residuals keep it.
#[derive(Debug, Clone)]
pub struct Conv2d {
    affinity: Affinity<Convolution>,
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
        Self::new(params, [output, input], options, Bias::Read)
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
        Self::new(params, [output, input], options, Bias::None)
    }

    fn new(
        params: &Params,
        [output, input]: [usize; 2],
        options: ConvOptions,
        bias: Bias,
    ) -> Result<Self> {
        let shape = [output, input, options.kernel, options.kernel];
        let products = params.products();
        let reach = match options {
            ConvOptions::SAME_3X3 => Reach::Same3x3,
            _ if options == ConvOptions::SAME_3X3.roomy() => Reach::RoomySame3x3,
            _ => Reach::Any,
        };
        Ok(Self {
            affinity: Affinity::load(params, &shape, bias, reach)?,
            options,
            products,
        })
    }

    /// `[n, input, h, w]` to `[n, output, h', w']`.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None, Rest::default())
    }

    /// [`Conv2d::forward`] plus `residual`, which has the shape of the result.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let rest = Rest {
            residual: Some(residual),
            ..Rest::default()
        };
        self.run(x, None, rest)
    }

    /// [`Conv2d::forward`] plus `shift` `[n, output]` at every position.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let rest = Rest {
            shift: Some(shift),
            ..Rest::default()
        };
        self.run(x, None, rest)
    }

    /// [`Conv2d::forward`] of `x` resized to `size` (height, width), each pixel the nearest.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_resized(&self, x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
        self.run(x, Some(size), Rest::default())
    }

    fn run(&self, x: &Tensor, size: Option<(usize, usize)>, rest: Rest) -> Result<Tensor> {
        let ConvOptions {
            kernel,
            stride,
            padding,
            after,
            ..
        } = self.options;
        let mut tensors = vec![x];
        tensors.extend(rest.shift);
        tensors.extend(rest.residual);
        if let Some((packed, bias)) = self.affinity.fused(&tensors) {
            let (_, _, height, width) = x.dims4()?;
            let (resized_height, resized_width) = size.unwrap_or((height, width));
            let sliding = Sliding {
                picture: [height, width],
                resized: [resized_height, resized_width],
                kernel: [kernel, kernel],
                stride,
                before: padding,
                after: padding + after,
            };
            return fused::conv2d(x, packed, sliding, Rest { bias, ..rest });
        }
        let mut x = match size {
            Some(size) => upsample_nearest(x, size)?,
            None => x.clone(),
        };
        if after > 0 {
            x = x.pad_with_zeros(2, 0, after)?.pad_with_zeros(3, 0, after)?;
        }
        let (weight, bias) = (self.affinity.kernel.tensor()?, self.affinity.bias());
        let mut y = ops::conv2d_in(&x, &weight, bias, stride, padding, self.products)?;
        if let Some(shift) = rest.shift {
            y = ops::add_per_channel(&y, shift)?;
        }
        match rest.residual {
            Some(residual) => ops::add(&y, residual),
            None => Ok(y),
        }
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
    weight: Vector,
    bias: Vector,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` `[hidden]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn load(params: &Params, hidden: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: Vector::new(params.get(hidden, "weight")?, params)?,
            bias: Vector::new(params.get(hidden, "bias")?, params)?,
            eps,
        })
    }

    /// `[.., hidden]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&self.weight, &self.bias);
        if let Some(affine) = affine(x, weight, bias, self.eps) {
            return fused::layer_normalize(x, affine);
        }
        ops::layer_norm(x, &weight.tensor, &bias.tensor, self.eps)
    }
}

/// Scale and shift of a norm as the kernels take them, if `x` is for the kernels.
fn affine<'a>(x: &Tensor, weight: &'a Vector, bias: &'a Vector, eps: f64) -> Option<Affine<'a>> {
    let takes = x.device().is_cpu()
        && !x.track_op()
        && x.elem_count() > 0
        && x.dtype() == weight.tensor.dtype();
    let (weight, bias) = weight.values.as_deref().zip(bias.values.as_deref())?;
    takes.then_some(Affine { weight, bias, eps })
}

/// Group normalisation over the channels of a picture.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Vector,
    bias: Vector,
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
            weight: Vector::new(params.get(channels, "weight")?, params)?,
            bias: Vector::new(params.get(channels, "bias")?, params)?,
            groups,
            eps,
        })
    }

    /// `[n, channels, ..]` to the same shape.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(affine) = self.fused(x) {
            return fused::group_normalize(x, self.groups, affine, false);
        }
        let (weight, bias) = (&self.weight.tensor, &self.bias.tensor);
        ops::group_norm(x, self.groups, weight, bias, self.eps)
    }

    /// `activation` of [`GroupNorm::forward`].
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub fn forward_then(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if activation != Activation::Silu {
            return activation.forward(&self.forward(x)?);
        }
        if let Some(affine) = self.fused(x) {
            return fused::group_normalize(x, self.groups, affine, true);
        }
        let (weight, bias) = (&self.weight.tensor, &self.bias.tensor);
        ops::group_norm_silu(x, self.groups, weight, bias, self.eps)
    }

    /// For pictures whose channels are last in memory, and for bf16, which has no other kernel.
    fn fused(&self, x: &Tensor) -> Option<Affine<'_>> {
        let suits = is_channels_last(x) || (x.rank() == 4 && x.dtype() == candle_core::DType::BF16);
        suits
            .then(|| affine(x, &self.weight, &self.bias, self.eps))
            .flatten()
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
