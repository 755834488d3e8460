//! The autoencoder between pictures and latents.
//!
//! Reference: `diffusers/models/autoencoders/autoencoder_kl.py` and `vae.py`.

use candle_core::{Result, Tensor};
use negkit_nn::{
    Activation, AttentionMask, ConfigError, Conv2d, ConvOptions, GroupNorm, Linear,
    MultiHeadAttention, Params, ops,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::resnet::{BlockStyle, Border, Downsample, ResnetBlock, Upsample};

/// `config.json` of an `AutoencoderKL`, field for field, with the defaults of diffusers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: usize,
    /// Channels of a decoded picture.
    pub out_channels: usize,
    /// Channels of every block.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per block of the encoder (one more in the decoder).
    pub layers_per_block: usize,
    /// Activation of the residual blocks.
    pub act_fn: Activation,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// Side of the pictures that the model was trained for; also the side of a tile.
    pub sample_size: usize,
    /// Latents are multiplied by this to have about unit variance.
    pub scaling_factor: f64,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Activation::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            sample_size: 32,
            scaling_factor: 0.18215,
            rest: Map::new(),
        }
    }
}

impl VaeConfig {
    /// Checks that no field asks for something that this autoencoder does not do.
    ///
    /// # Errors
    /// Names the field, what was found and what is supported.
    pub fn check(&self) -> std::result::Result<(), ConfigError> {
        const MODEL: &str = "AutoencoderKL";
        let required: [(&str, &[Value]); 4] = [
            ("use_quant_conv", &[true.into()]),
            ("use_post_quant_conv", &[true.into()]),
            ("mid_block_add_attention", &[true.into()]),
            ("shift_factor", &[Value::Null]),
        ];
        ConfigError::check_fields(MODEL, &self.rest, &required)?;
        for (field, block) in [
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ] {
            let Some(found) = self.rest.get(field) else {
                continue;
            };
            let expected = Value::from(vec![block; self.block_out_channels.len()]);
            if *found != expected {
                return Err(ConfigError::unsupported(MODEL, field, found, expected));
            }
        }
        if self.block_out_channels.is_empty() {
            return Err(ConfigError::unsupported(
                MODEL,
                "block_out_channels",
                "[]",
                "at least one block",
            ));
        }
        Ok(())
    }

    /// The text of the `config.json` that an autoencoder of these sizes is published with: all
    /// fields, and the class and kinds of blocks that diffusers asks for.
    ///
    /// # Errors
    /// When a field of [`rest`](Self::rest) cannot be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let blocks = self.block_out_channels.len();
        let required = [
            ("_class_name", "AutoencoderKL".into()),
            ("_diffusers_version", crate::DIFFUSERS_VERSION.into()),
            (
                "down_block_types",
                vec!["DownEncoderBlock2D"; blocks].into(),
            ),
            ("up_block_types", vec!["UpDecoderBlock2D"; blocks].into()),
            ("force_upcast", true.into()),
        ];
        crate::files::published_json(self, &required)
    }

    /// How many pixels one latent stands for, along one side.
    pub fn scale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    fn style(&self) -> BlockStyle {
        BlockStyle {
            norm_num_groups: self.norm_num_groups,
            norm_eps: NORM_EPS,
            activation: self.act_fn,
            time_embedding: None,
            roomy: false,
        }
    }
}

/// Fixed in diffusers for all norms of the autoencoder.
const NORM_EPS: f64 = 1e-6;

/// Single-head self-attention over a feature map.
#[derive(Debug, Clone)]
struct MapAttention {
    group_norm: GroupNorm,
    attention: MultiHeadAttention,
}

impl MapAttention {
    fn load(params: &Params, channels: usize, groups: usize) -> Result<Self> {
        let linear = |name| Linear::load(&params.pp(name), channels, channels);
        let projections = [linear("to_q")?, linear("to_k")?, linear("to_v")?];
        let out = linear("to_out.0")?;
        Ok(Self {
            group_norm: GroupNorm::load(&params.pp("group_norm"), groups, channels, NORM_EPS)?,
            attention: MultiHeadAttention::new(projections, out, (channels, 1), params)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let tokens = ops::to_tokens(&self.group_norm.forward(x)?)?;
        let whole = ops::to_tokens(x)?;
        let mixed = self
            .attention
            .forward_onto(&tokens, &tokens, AttentionMask::None, &whole)?;
        ops::to_picture(&mixed, (h, w))
    }
}

#[derive(Debug, Clone)]
struct MidBlock {
    first: ResnetBlock,
    attention: MapAttention,
    second: ResnetBlock,
}

impl MidBlock {
    fn load(params: &Params, channels: usize, config: &VaeConfig) -> Result<Self> {
        let resnet = |i: usize| {
            ResnetBlock::load(
                &params.pp("resnets").pp(i),
                channels,
                channels,
                config.style(),
            )
        };
        Ok(Self {
            first: resnet(0)?,
            attention: MapAttention::load(
                &params.pp("attentions").pp(0),
                channels,
                config.norm_num_groups,
            )?,
            second: resnet(1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.first.forward(x, None)?;
        self.second.forward(&self.attention.forward(&x)?, None)
    }
}

fn load_resnets(
    params: &Params,
    count: usize,
    input: usize,
    output: usize,
    style: BlockStyle,
) -> Result<Vec<ResnetBlock>> {
    (0..count)
        .map(|i| {
            let input = if i == 0 { input } else { output };
            ResnetBlock::load(&params.pp("resnets").pp(i), input, output, style)
        })
        .collect()
}

#[derive(Debug, Clone)]
struct Encoder {
    conv_in: Conv2d,
    blocks: Vec<(Vec<ResnetBlock>, Option<Downsample>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    activation: Activation,
}

impl Encoder {
    fn load(params: &Params, config: &VaeConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        let mut blocks = Vec::with_capacity(channels.len());
        for (i, &output) in channels.iter().enumerate() {
            let params = params.pp("down_blocks").pp(i);
            let input = channels[i.saturating_sub(1)];
            let layers = config.layers_per_block;
            let resnets = load_resnets(&params, layers, input, output, config.style())?;
            let downsample = (i < last)
                .then(|| {
                    let params = params.pp("downsamplers").pp(0);
                    Downsample::load(&params, output, Border::RightBelow)
                })
                .transpose()?;
            blocks.push((resnets, downsample));
        }
        let (first, last) = (channels[0], channels[last]);
        let latents = 2 * config.latent_channels;
        let same = ConvOptions::SAME_3X3;
        let norm = params.pp("conv_norm_out");
        Ok(Self {
            conv_in: Conv2d::load(&params.pp("conv_in"), config.in_channels, first, same)?,
            blocks,
            mid_block: MidBlock::load(&params.pp("mid_block"), last, config)?,
            conv_norm_out: GroupNorm::load(&norm, config.norm_num_groups, last, NORM_EPS)?,
            conv_out: Conv2d::load(&params.pp("conv_out"), last, latents, same)?,
            activation: config.act_fn,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for (resnets, downsample) in &self.blocks {
            for resnet in resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(downsample) = downsample {
                x = downsample.forward(&x)?;
            }
        }
        let x = self.mid_block.forward(&x)?;
        let x = self.conv_norm_out.forward_then(&x, self.activation)?;
        self.conv_out.forward(&x)?.contiguous()
    }
}

#[derive(Debug, Clone)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    blocks: Vec<(Vec<ResnetBlock>, Option<Upsample>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    activation: Activation,
}

impl Decoder {
    fn load(params: &Params, config: &VaeConfig) -> Result<Self> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let last = channels.len() - 1;
        let mut blocks = Vec::with_capacity(channels.len());
        for (i, &output) in channels.iter().enumerate() {
            let params = params.pp("up_blocks").pp(i);
            let input = channels[i.saturating_sub(1)];
            let layers = config.layers_per_block + 1;
            let resnets = load_resnets(&params, layers, input, output, config.style())?;
            let upsample = (i < last)
                .then(|| Upsample::load(&params.pp("upsamplers").pp(0), output))
                .transpose()?;
            blocks.push((resnets, upsample));
        }
        let (first, last) = (channels[0], channels[last]);
        let same = ConvOptions::SAME_3X3;
        let norm = params.pp("conv_norm_out");
        Ok(Self {
            conv_in: Conv2d::load(&params.pp("conv_in"), config.latent_channels, first, same)?,
            mid_block: MidBlock::load(&params.pp("mid_block"), first, config)?,
            blocks,
            conv_norm_out: GroupNorm::load(&norm, config.norm_num_groups, last, NORM_EPS)?,
            conv_out: Conv2d::load(&params.pp("conv_out"), last, config.out_channels, same)?,
            activation: config.act_fn,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(x)?)?;
        for (resnets, upsample) in &self.blocks {
            for resnet in resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(upsample) = upsample {
                let size = (2 * x.dim(2)?, 2 * x.dim(3)?);
                x = upsample.forward(&x, size)?;
            }
        }
        let x = self.conv_norm_out.forward_then(&x, self.activation)?;
        self.conv_out.forward(&x)?.contiguous()
    }
}

/// The Gaussian that a picture is encoded to.
#[derive(Debug, Clone)]
pub struct LatentDistribution {
    /// `[n, latent_channels, h, w]`, not yet multiplied by the scaling factor.
    pub mean: Tensor,
    /// Logarithm of the variance, clamped to -30 … 20, of the same shape.
    pub logvar: Tensor,
}

impl LatentDistribution {
    /// `mean + exp(logvar / 2) * noise`, with `noise` of the same shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        &self.mean + ((&self.logvar * 0.5)?.exp()? * noise)?
    }
}

/// Which latents are decoded at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VaeTiling {
    /// The whole picture.
    #[default]
    Off,
    /// Tiles of the size that the model was trained for, overlapping by a quarter and blended:
    /// less memory for large pictures, slightly another picture.
    On,
}

/// `AutoencoderKL`.
#[derive(Debug, Clone)]
pub struct Vae {
    encoder: Encoder,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    decoder: Decoder,
    config: VaeConfig,
}

impl Vae {
    /// Reads all parameters.
    ///
    /// # Errors
    /// When channels and groups of the configuration do not fit each other, or the device fails.
    /// [`VaeConfig::check`] is to be called before.
    pub fn load(params: &Params, config: &VaeConfig) -> Result<Self> {
        let latents = config.latent_channels;
        let point = ConvOptions::POINTWISE;
        Ok(Self {
            encoder: Encoder::load(&params.pp("encoder"), config)?,
            quant_conv: Conv2d::load(&params.pp("quant_conv"), 2 * latents, 2 * latents, point)?,
            post_quant_conv: Conv2d::load(&params.pp("post_quant_conv"), latents, latents, point)?,
            decoder: Decoder::load(&params.pp("decoder"), config)?,
            config: config.clone(),
        })
    }

    /// The configuration that it was built with.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Encodes pictures `[n, 3, h, w]` with values from -1 to 1.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn encode(&self, pictures: &Tensor) -> Result<LatentDistribution> {
        let moments = self.moments(pictures)?;
        let latents = self.config.latent_channels;
        Ok(LatentDistribution {
            mean: moments.narrow(1, 0, latents)?,
            logvar: moments.narrow(1, latents, latents)?.clamp(-30f32, 20f32)?,
        })
    }

    /// Mean and logarithm of the variance, not clamped, `[n, 2 * latent_channels, h, w]`.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn moments(&self, pictures: &Tensor) -> Result<Tensor> {
        let moments = self.encoder.forward(pictures)?;
        self.quant_conv.forward(&moments)?.contiguous()
    }

    /// Decodes latents `[n, latent_channels, h, w]`, already divided by the scaling factor, to
    /// pictures `[n, 3, h * scale, w * scale]` with values of about -1 to 1.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn decode(&self, latents: &Tensor, tiling: VaeTiling) -> Result<Tensor> {
        let tile = (self.config.sample_size / self.config.scale()).max(1);
        let (_, _, h, w) = latents.dims4()?;
        if tiling == VaeTiling::Off || h.max(w) <= tile {
            return self
                .decoder
                .forward(&self.post_quant_conv.forward(latents)?);
        }
        self.decode_tiles(latents, tile)
    }

    /// `AutoencoderKL.tiled_decode`, one row of tiles at a time.
    fn decode_tiles(&self, latents: &Tensor, tile: usize) -> Result<Tensor> {
        const OVERLAP: f64 = 0.25;
        let pixels = self.config.sample_size;
        let step = ((tile as f64 * (1. - OVERLAP)) as usize).max(1);
        let blend = (pixels as f64 * OVERLAP) as usize;
        let keep = pixels - blend;
        let (_, _, h, w) = latents.dims4()?;
        let mut above: Vec<Tensor> = Vec::new();
        let mut rows = Vec::new();
        for y in (0..h).step_by(step) {
            let strip = latents.narrow(2, y, tile.min(h - y))?;
            let mut row: Vec<Tensor> = Vec::new();
            let mut kept = Vec::new();
            for (j, x) in (0..w).step_by(step).enumerate() {
                let part = strip.narrow(3, x, tile.min(w - x))?.contiguous()?;
                let mut part = self
                    .decoder
                    .forward(&self.post_quant_conv.forward(&part)?)?;
                if let Some(above) = above.get(j) {
                    part = blend_over(above, &part, blend, 2)?;
                }
                if let Some(left) = row.last() {
                    part = blend_over(left, &part, blend, 3)?;
                }
                let height = keep.min(part.dim(2)?);
                let width = keep.min(part.dim(3)?);
                kept.push(part.narrow(2, 0, height)?.narrow(3, 0, width)?);
                row.push(part);
            }
            rows.push(Tensor::cat(&kept, 3)?);
            above = row;
        }
        Tensor::cat(&rows, 2)
    }
}

/// Fades the end of `before` into the start of `after` along `dim`, over at most `extent` pixels.
fn blend_over(before: &Tensor, after: &Tensor, extent: usize, dim: usize) -> Result<Tensor> {
    let (end, length) = (before.dim(dim)?, after.dim(dim)?);
    let extent = extent.min(end).min(length);
    if extent == 0 {
        return Ok(after.clone());
    }
    let weights: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    let mut shape = [1; 4];
    shape[dim] = extent;
    let weights = Tensor::from_vec(weights, &shape, after.device())?.to_dtype(after.dtype())?;
    let old = before.narrow(dim, end - extent, extent)?;
    let new = after.narrow(dim, 0, extent)?;
    let faded = (old.broadcast_mul(&weights.affine(-1., 1.)?)? + new.broadcast_mul(&weights)?)?;
    Tensor::cat(&[&faded, &after.narrow(dim, extent, length - extent)?], dim)
}
