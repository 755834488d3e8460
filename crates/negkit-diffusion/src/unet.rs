//! The denoising UNet of Stable Diffusion.
//!
//! "High-Resolution Image Synthesis with Latent Diffusion Models" (Rombach et al., 2022).
//! Reference: `diffusers/models/unets/unet_2d_condition.py`, `UNet2DConditionModel`.

mod config;
mod merging;
mod transformer;

use candle_core::{D, Result, Tensor};
use negkit_nn::{Activation, Conv2d, ConvOptions, GroupNorm, KeysValues, Linear, Params, ops};

pub use config::{DownBlockType, PerBlock, UNetConfig, UpBlockType};
use transformer::{SpatialTransformer, TransformerSizes};

use crate::resnet::{BlockStyle, Border, Downsample, ResnetBlock, Upsample};
use crate::savings::TokenMerging;

/// Residual blocks, each followed by a transformer where the block has them.
#[derive(Debug, Clone)]
struct Layers {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<SpatialTransformer>,
}

impl Layers {
    /// `inputs` holds the input channels of every residual block.
    fn load(
        params: &Params,
        inputs: &[usize],
        output: usize,
        style: BlockStyle,
        transformer: Option<TransformerSizes>,
    ) -> Result<Self> {
        let resnets = inputs.iter().enumerate().map(|(i, &input)| {
            ResnetBlock::load(&params.pp("resnets").pp(i), input, output, style)
        });
        let attentions = transformer.into_iter().flat_map(|sizes| {
            (0..inputs.len())
                .map(move |i| SpatialTransformer::load(&params.pp("attentions").pp(i), sizes))
        });
        Ok(Self {
            resnets: resnets.collect::<Result<_>>()?,
            attentions: attentions.collect::<Result<_>>()?,
        })
    }

    fn forward(
        &self,
        i: usize,
        x: &Tensor,
        time: &Tensor,
        context: &[KeysValues],
        merging: Option<TokenMerging>,
    ) -> Result<Tensor> {
        let x = self.resnets[i].forward(x, Some(time))?;
        match self.attentions.get(i) {
            Some(attention) => match context.get(i) {
                Some(context) => attention.forward(&x, context, merging),
                None => {
                    candle_core::bail!("UNet: the context was prepared by a UNet of fewer blocks")
                }
            },
            None => Ok(x),
        }
    }

    /// What every transformer needs of `context` `[n, length, cross_attention_dim]`.
    fn keys_values(&self, context: &Tensor) -> Result<Vec<KeysValues>> {
        let transformers = self.attentions.iter();
        transformers.map(|one| one.keys_values(context)).collect()
    }
}

/// A context as [`UNet::prepare`] makes it: keys and values of every transformer.
#[derive(Debug, Clone)]
pub struct UNetContext {
    down: Vec<Vec<KeysValues>>,
    middle: KeysValues,
    up: Vec<Vec<KeysValues>>,
}

/// Keys and values of a block; none where another UNet made the context, which the block then says.
fn of_block(blocks: &[Vec<KeysValues>], block: usize) -> &[KeysValues] {
    blocks.get(block).map_or(&[], Vec::as_slice)
}

/// What one evaluation may take from another, and leave out.
#[derive(Debug, Default)]
pub struct Shortcuts<'a> {
    /// Where the deep levels' features come from.
    pub deep: DeepFeatures<'a>,
    /// Whether the outermost level's self-attention merges tokens.
    pub merging: Option<TokenMerging>,
}

/// Where the features come from that the last two layers on the way up get from below: all that the
/// deep levels compute.
#[derive(Debug, Default)]
pub enum DeepFeatures<'a> {
    /// Computed.
    #[default]
    Compute,
    /// Computed, and kept here for later evaluations.
    Keep(&'a mut Option<Tensor>),
    /// Taken from an earlier evaluation of as many samples of the same size.
    Reuse(&'a Tensor),
}

#[derive(Debug, Clone)]
struct DownBlock {
    layers: Layers,
    downsample: Option<Downsample>,
}

#[derive(Debug, Clone)]
struct MidBlock {
    first: ResnetBlock,
    attention: SpatialTransformer,
    second: ResnetBlock,
}

#[derive(Debug, Clone)]
struct UpBlock {
    layers: Layers,
    upsample: Option<Upsample>,
}

/// Layers on the way up that take the two outermost skips, those of the input convolution and of the
/// first layer. Every block has as many where there is at least one layer a block on the way down: there
/// is one more on the way up.
const LAST_LAYERS: usize = 2;

/// `x` with the channels of the innermost skip that is left behind its own.
fn with_skip(x: Tensor, skips: &mut Vec<Tensor>) -> Result<Tensor> {
    match skips.pop() {
        Some(skip) => ops::cat_channels(&x, &skip),
        None => Ok(x),
    }
}

/// The UNet that predicts the noise in latents, given a time step and an encoded prompt.
#[derive(Debug, Clone)]
pub struct UNet {
    conv_in: Conv2d,
    time_linear_1: Linear,
    time_linear_2: Linear,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    config: UNetConfig,
}

impl UNet {
    /// Reads all parameters.
    ///
    /// # Errors
    /// When channels, groups and heads of the configuration do not fit each other, or the device
    /// fails. [`UNetConfig::check`] is to be called before.
    pub fn load(params: &Params, config: &UNetConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let heads = config.heads();
        let (Some(&first), Some(&last)) = (channels.first(), channels.last()) else {
            candle_core::bail!("UNet: block_out_channels is empty")
        };
        let time_embedding = 4 * first;
        let style = BlockStyle {
            norm_num_groups: config.norm_num_groups,
            norm_eps: config.norm_eps,
            activation: config.act_fn,
            time_embedding: Some(time_embedding),
            roomy: false,
        };
        // At the deepest level, where most of the memory is, pictures are too small for it to pay.
        let style_of = |level: usize| BlockStyle {
            roomy: level < channels.len() - 1,
            ..style
        };
        let transformer = |block: usize| TransformerSizes {
            channels: channels[block],
            heads: heads[block],
            cross_attention_dim: config.cross_attention_dim,
            norm_num_groups: config.norm_num_groups,
            linear_projection: config.use_linear_projection,
        };
        let deepest = channels.len() - 1;

        let mut down_blocks = Vec::with_capacity(channels.len());
        let mut skips = vec![first];
        for (i, &output) in channels.iter().enumerate() {
            let params = params.pp("down_blocks").pp(i);
            let mut inputs = vec![output; config.layers_per_block];
            if let Some(input) = inputs.first_mut() {
                *input = channels[i.saturating_sub(1)];
            }
            skips.extend(inputs.iter().map(|_| output));
            let attends = config.down_block_types[i] == DownBlockType::CrossAttn;
            let downsample = (i < deepest)
                .then(|| {
                    let border = Border::Symmetric(config.downsample_padding);
                    Downsample::load(&params.pp("downsamplers").pp(0), output, border)
                })
                .transpose()?;
            skips.extend(downsample.iter().map(|_| output));
            let transformer = attends.then(|| transformer(i));
            down_blocks.push(DownBlock {
                layers: Layers::load(&params, &inputs, output, style_of(i), transformer)?,
                downsample,
            });
        }

        let mid = params.pp("mid_block");
        let mid_block = MidBlock {
            first: ResnetBlock::load(&mid.pp("resnets").pp(0), last, last, style)?,
            attention: SpatialTransformer::load(&mid.pp("attentions").pp(0), transformer(deepest))?,
            second: ResnetBlock::load(&mid.pp("resnets").pp(1), last, last, style)?,
        };

        let mut up_blocks = Vec::with_capacity(channels.len());
        let mut current = last;
        for i in 0..channels.len() {
            let block = deepest - i;
            let output = channels[block];
            let params = params.pp("up_blocks").pp(i);
            let mut inputs = Vec::with_capacity(config.layers_per_block + 1);
            for _ in 0..=config.layers_per_block {
                inputs.push(current + skips.pop().unwrap_or_default());
                current = output;
            }
            let attends = config.up_block_types[i] == UpBlockType::CrossAttn;
            let transformer = attends.then(|| transformer(block));
            up_blocks.push(UpBlock {
                layers: Layers::load(&params, &inputs, output, style_of(block), transformer)?,
                upsample: (block > 0)
                    .then(|| Upsample::load(&params.pp("upsamplers").pp(0), output))
                    .transpose()?,
            });
        }

        let same = ConvOptions::SAME_3X3;
        let time = params.pp("time_embedding");
        Ok(Self {
            conv_in: Conv2d::load(&params.pp("conv_in"), config.in_channels, first, same)?,
            time_linear_1: Linear::load(&time.pp("linear_1"), first, time_embedding)?,
            time_linear_2: Linear::load(&time.pp("linear_2"), time_embedding, time_embedding)?,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &params.pp("conv_norm_out"),
                config.norm_num_groups,
                first,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(&params.pp("conv_out"), first, config.out_channels, same)?,
            config: config.clone(),
        })
    }

    /// The configuration that it was built with.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Predicts from `sample` `[n, in_channels, h, w]`, one time step per sample and
    /// `encoder_hidden_states` `[n, length, cross_attention_dim]`; gives `[n, out_channels, h, w]`.
    ///
    /// Any height and width: the way up takes the sizes that the way down had.
    ///
    /// # Errors
    /// When shapes or types do not fit, or the device fails.
    pub fn forward(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        encoder_hidden_states: &Tensor,
    ) -> Result<Tensor> {
        let context = self.prepare(encoder_hidden_states)?;
        self.forward_with(sample, timesteps, &context, Shortcuts::default())
    }

    /// Everything of `encoder_hidden_states` `[n, length, cross_attention_dim]` that the time step does
    /// not change: keys and values of every cross-attention.
    ///
    /// # Errors
    /// When shapes or types do not fit, or the device fails.
    pub fn prepare(&self, encoder_hidden_states: &Tensor) -> Result<UNetContext> {
        let of = |layers: &Layers| layers.keys_values(encoder_hidden_states);
        let down = self.down_blocks.iter().map(|block| of(&block.layers));
        let up = self.up_blocks.iter().map(|block| of(&block.layers));
        Ok(UNetContext {
            down: down.collect::<Result<_>>()?,
            middle: self
                .mid_block
                .attention
                .keys_values(encoder_hidden_states)?,
            up: up.collect::<Result<_>>()?,
        })
    }

    /// [`UNet::forward`] with a context that was prepared for it and with shortcuts; without any it
    /// computes the same bits.
    ///
    /// # Errors
    /// When shapes or types do not fit, or the device fails.
    pub fn forward_with(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        context: &UNetContext,
        shortcuts: Shortcuts<'_>,
    ) -> Result<Tensor> {
        let Shortcuts { deep, merging } = shortcuts;
        let time = self.embed_time(timesteps, sample)?;
        let x = self.conv_in.forward(sample)?;
        let mut skips = vec![x.clone()];
        let x = match deep {
            DeepFeatures::Reuse(kept) => {
                if let Some(outermost) = self.down_blocks.first() {
                    let own = of_block(&context.down, 0);
                    skips.push(outermost.layers.forward(0, &x, &time, own, merging)?);
                }
                self.last_layers(kept.clone(), skips, &time, context, merging)?
            }
            DeepFeatures::Compute => {
                let x = self.deep_levels(x, &mut skips, &time, context, merging)?;
                self.last_layers(x, skips, &time, context, merging)?
            }
            DeepFeatures::Keep(kept) => {
                let x = self.deep_levels(x, &mut skips, &time, context, merging)?;
                *kept = Some(x.clone());
                self.last_layers(x, skips, &time, context, merging)?
            }
        };
        let x = self.conv_norm_out.forward_then(&x, self.config.act_fn)?;
        self.conv_out.forward(&x)?.contiguous()
    }

    /// The way down, the middle and the way up but for its last layers, which take the skips that are
    /// left.
    fn deep_levels(
        &self,
        mut x: Tensor,
        skips: &mut Vec<Tensor>,
        time: &Tensor,
        context: &UNetContext,
        merging: Option<TokenMerging>,
    ) -> Result<Tensor> {
        for (level, block) in self.down_blocks.iter().enumerate() {
            let merging = merging.filter(|_| level == 0);
            let own = of_block(&context.down, level);
            for i in 0..block.layers.resnets.len() {
                x = block.layers.forward(i, &x, time, own, merging)?;
                skips.push(x.clone());
            }
            if let Some(downsample) = &block.downsample {
                x = downsample.forward(&x)?;
                skips.push(x.clone());
            }
        }
        x = self.mid_block.first.forward(&x, Some(time))?;
        x = self
            .mid_block
            .attention
            .forward(&x, &context.middle, None)?;
        x = self.mid_block.second.forward(&x, Some(time))?;
        for (way, block) in self.up_blocks.iter().enumerate() {
            let is_last = way + 1 == self.up_blocks.len();
            let merging = merging.filter(|_| is_last);
            let layers =
                block
                    .layers
                    .resnets
                    .len()
                    .saturating_sub(if is_last { LAST_LAYERS } else { 0 });
            let own = of_block(&context.up, way);
            for i in 0..layers {
                x = block
                    .layers
                    .forward(i, &with_skip(x, skips)?, time, own, merging)?;
            }
            if let (Some(upsample), Some(skip)) = (&block.upsample, skips.last()) {
                x = upsample.forward(&x, (skip.dim(2)?, skip.dim(3)?))?;
            }
        }
        Ok(x)
    }

    /// The last layers on the way up, with the two outermost skips.
    fn last_layers(
        &self,
        mut x: Tensor,
        mut skips: Vec<Tensor>,
        time: &Tensor,
        context: &UNetContext,
        merging: Option<TokenMerging>,
    ) -> Result<Tensor> {
        if let Some(UpBlock { layers, .. }) = self.up_blocks.last() {
            let count = layers.resnets.len();
            let own = of_block(&context.up, self.up_blocks.len() - 1);
            for i in count.saturating_sub(LAST_LAYERS)..count {
                x = layers.forward(i, &with_skip(x, &mut skips)?, time, own, merging)?;
            }
        }
        Ok(x)
    }

    /// The activated time embedding, `[n, 4 * block_out_channels[0]]`: every residual block starts
    /// by activating it, so that is done once.
    fn embed_time(&self, timesteps: &[f64], like: &Tensor) -> Result<Tensor> {
        let width = self.config.block_out_channels[0];
        let half = width / 2;
        // diffusers computes frequencies and angles in f32; at t = 999 the rounding shows.
        let slope = -(10_000f64.ln()) as f32;
        let span = half as f32 - self.config.freq_shift as f32;
        let frequencies: Vec<f32> = (0..half).map(|i| (slope * i as f32 / span).exp()).collect();
        let mut values = Vec::with_capacity(timesteps.len() * width);
        for &t in timesteps {
            let angles = frequencies.iter().map(|f| t as f32 * f);
            let sines = angles.clone().map(f32::sin);
            let cosines = angles.map(f32::cos);
            if self.config.flip_sin_to_cos {
                values.extend(cosines.chain(sines));
            } else {
                values.extend(sines.chain(cosines));
            }
            values.extend(std::iter::repeat_n(0., width % 2));
        }
        let embedding = Tensor::from_vec(values, (timesteps.len(), width), like.device())?
            .to_dtype(like.dtype())?;
        let hidden = Activation::Silu.forward(&self.time_linear_1.forward(&embedding)?)?;
        let embedding = self.time_linear_2.forward(&hidden)?;
        let batch = like.dim(0)?;
        let embedding = match embedding.dim(0)? {
            1 if batch > 1 => embedding.expand((batch, embedding.dim(D::Minus1)?))?,
            n if n == batch => embedding,
            n => candle_core::bail!("UNet: {n} time steps for {batch} samples"),
        };
        self.config.act_fn.forward(&embedding.contiguous()?)
    }
}
