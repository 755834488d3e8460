//! The residual block and the resizing convolutions that UNet and VAE share.
//!
//! Reference: `diffusers/models/resnet.py`, `downsampling.py` and `upsampling.py`.

use candle_core::{Result, Tensor};
use negkit_nn::{Activation, Conv2d, ConvOptions, GroupNorm, Linear, Params};

/// Norm and activation, the same in all blocks of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockStyle {
    pub(crate) norm_num_groups: usize,
    pub(crate) norm_eps: f64,
    pub(crate) activation: Activation,
    /// Width of the time embedding; `None` in the VAE.
    pub(crate) time_embedding: Option<usize>,
    /// Whether its convolutions may take more memory for their speed.
    pub(crate) roomy: bool,
}

/// `ResnetBlock2D`.
#[derive(Debug, Clone)]
pub(crate) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    activation: Activation,
}

impl ResnetBlock {
    pub(crate) fn load(
        params: &Params,
        input: usize,
        output: usize,
        style: BlockStyle,
    ) -> Result<Self> {
        let norm = |name, channels| {
            GroupNorm::load(
                &params.pp(name),
                style.norm_num_groups,
                channels,
                style.norm_eps,
            )
        };
        let same = match style.roomy {
            true => ConvOptions::SAME_3X3.roomy(),
            false => ConvOptions::SAME_3X3,
        };
        let shortcut = params.pp("conv_shortcut");
        Ok(Self {
            norm1: norm("norm1", input)?,
            conv1: Conv2d::load(&params.pp("conv1"), input, output, same)?,
            time_emb_proj: style
                .time_embedding
                .map(|width| Linear::load(&params.pp("time_emb_proj"), width, output))
                .transpose()?,
            norm2: norm("norm2", output)?,
            conv2: Conv2d::load(&params.pp("conv2"), output, output, same)?,
            conv_shortcut: (input != output)
                .then(|| Conv2d::load(&shortcut, input, output, ConvOptions::POINTWISE))
                .transpose()?,
            activation: style.activation,
        })
    }

    /// `x` `[n, input, h, w]` and `time` `[n, time_embedding]` (already activated) to
    /// `[n, output, h, w]`.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let y = self.norm1.forward_then(x, self.activation)?;
        let y = match (&self.time_emb_proj, time) {
            (Some(projection), Some(time)) => {
                self.conv1.forward_shifted(&y, &projection.forward(time)?)?
            }
            _ => self.conv1.forward(&y)?,
        };
        let y = self.norm2.forward_then(&y, self.activation)?;
        match &self.conv_shortcut {
            Some(shortcut) => self.conv2.forward_onto(&y, &shortcut.forward(x)?),
            None => self.conv2.forward_onto(&y, x),
        }
    }
}

/// How a downsampling convolution treats the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// Zeros on all sides (UNet).
    Symmetric(usize),
    /// Zeros to the right and below only (VAE encoder).
    RightBelow,
}

/// `Downsample2D`: a 3x3 convolution of stride 2.
#[derive(Debug, Clone)]
pub(crate) struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    pub(crate) fn load(params: &Params, channels: usize, border: Border) -> Result<Self> {
        let options = match border {
            Border::Symmetric(padding) => ConvOptions::new(3, 2, padding),
            Border::RightBelow => ConvOptions::new(3, 2, 0).with_after(1),
        };
        Ok(Self {
            conv: Conv2d::load(&params.pp("conv"), channels, channels, options)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(x)
    }
}

/// `Upsample2D`: nearest resize, then a 3x3 convolution.
#[derive(Debug, Clone)]
pub(crate) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(crate) fn load(params: &Params, channels: usize) -> Result<Self> {
        let options = ConvOptions::SAME_3X3.roomy();
        Ok(Self {
            conv: Conv2d::load(&params.pp("conv"), channels, channels, options)?,
        })
    }

    /// `[n, c, h, w]` to `[n, c, size.0, size.1]`.
    pub(crate) fn forward(&self, x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
        self.conv.forward_resized(x, size)
    }
}
