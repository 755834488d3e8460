//! The network of mini-detector.

use candle_core::{Result, Tensor};
use negkit_nn::{Activation, Conv2d, ConvOptions, GroupNorm, Params, upsample_nearest};

use super::config::DetectorConfig;

/// Pixels on the side of a cell.
pub(super) const REDUCTION: usize = 4;
const NORM_EPS: f64 = 1e-5;
const HALVE: ConvOptions = ConvOptions::new(3, 2, 1);

/// Logits of every cell of a grid of 4 x 4 pixels.
#[derive(Debug, Clone)]
pub struct DetectorLogits {
    /// `[n, 1 + kinds, side / 4, side / 4]`; class 0 is nothing.
    pub kinds: Tensor,
    /// `[n, colours, side / 4, side / 4]`, where the configuration names colours.
    pub colours: Option<Tensor>,
}

/// Convolutions down to stride 8 and back to stride 4, with two heads.
#[derive(Debug, Clone)]
pub struct DetectorModel {
    /// At strides 1, 2, 4 and 8.
    down: [ConvLayer; 4],
    /// At strides 2, 4 and 8.
    blocks: [Block; 3],
    /// From strides 4 and 8 together to stride 4.
    fuse: ConvLayer,
    fused: Block,
    kinds: Conv2d,
    colours: Option<Conv2d>,
}

impl DetectorModel {
    /// Reads `down.{0..3}`, `blocks.{0..2}`, `fuse`, `fused`, `kinds` and, with colours, `colours`.
    ///
    /// # Errors
    /// When widths do not divide into the groups, or the device fails.
    pub fn load(params: &Params, config: &DetectorConfig) -> Result<Self> {
        let [full, half, quarter, eighth] = config.widths;
        let groups = config.norm_num_groups;
        let down = |i: usize, input, output, options| {
            ConvLayer::load(&params.pp("down").pp(i), (input, output), groups, options)
        };
        let block = |i: usize, width| Block::load(&params.pp("blocks").pp(i), width, groups);
        let head = |name: &str, classes| {
            Conv2d::load(&params.pp(name), quarter, classes, ConvOptions::POINTWISE)
        };
        let both = (quarter + eighth, quarter);
        Ok(Self {
            down: [
                down(0, 3, full, ConvOptions::SAME_3X3)?,
                down(1, full, half, HALVE)?,
                down(2, half, quarter, HALVE)?,
                down(3, quarter, eighth, HALVE)?,
            ],
            blocks: [block(0, half)?, block(1, quarter)?, block(2, eighth)?],
            fuse: ConvLayer::load(&params.pp("fuse"), both, groups, ConvOptions::SAME_3X3)?,
            fused: Block::load(&params.pp("fused"), quarter, groups)?,
            kinds: head("kinds", 1 + config.kinds.len())?,
            colours: match config.colours.len() {
                0 => None,
                colours => Some(head("colours", colours)?),
            },
        })
    }

    /// Labels every cell of pictures `[n, 3, side, side]`.
    ///
    /// # Errors
    /// When shapes do not fit, or the device fails.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<DetectorLogits> {
        self.label(&self.see(pixel_values)?)
    }

    /// What the labels are read off: `[n, 3, side, side]` to `[n, width, side / 4, side / 4]`, of the
    /// width at stride 4.
    ///
    /// # Errors
    /// When shapes do not fit, or the device fails.
    pub fn see(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let [full, half, quarter, eighth] = &self.down;
        let [at_half, at_quarter, at_eighth] = &self.blocks;
        let x = at_half.forward(&half.forward(&full.forward(pixel_values)?)?)?;
        let near = at_quarter.forward(&quarter.forward(&x)?)?;
        let far = at_eighth.forward(&eighth.forward(&near)?)?;
        let (_, _, rows, columns) = near.dims4()?;
        let far = upsample_nearest(&far, (rows, columns))?;
        let x = self.fuse.forward(&Tensor::cat(&[&near, &far], 1)?)?;
        self.fused.forward(&x)
    }

    /// Labels every cell, from what [`DetectorModel::see`] gave.
    ///
    /// # Errors
    /// When shapes do not fit, or the device fails.
    pub fn label(&self, seen: &Tensor) -> Result<DetectorLogits> {
        Ok(DetectorLogits {
            kinds: self.kinds.forward(seen)?,
            colours: match &self.colours {
                Some(head) => Some(head.forward(seen)?),
                None => None,
            },
        })
    }
}

/// Convolution, group norm, SiLU.
#[derive(Debug, Clone)]
struct ConvLayer {
    conv: Conv2d,
    norm: GroupNorm,
}

impl ConvLayer {
    fn load(
        params: &Params,
        (input, output): (usize, usize),
        groups: usize,
        options: ConvOptions,
    ) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load(&params.pp("conv"), input, output, options)?,
            norm: GroupNorm::load(&params.pp("norm"), groups, output, NORM_EPS)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Activation::Silu.forward(&self.norm.forward(&self.conv.forward(x)?)?)
    }
}

/// Two such layers around a shortcut.
#[derive(Debug, Clone)]
struct Block {
    first: ConvLayer,
    second: ConvLayer,
}

impl Block {
    fn load(params: &Params, width: usize, groups: usize) -> Result<Self> {
        let layer = |name| {
            let params = params.pp(name);
            ConvLayer::load(&params, (width, width), groups, ConvOptions::SAME_3X3)
        };
        Ok(Self {
            first: layer("first")?,
            second: layer("second")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x + self.second.forward(&self.first.forward(x)?)?
    }
}
