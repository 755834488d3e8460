//! The CLIPSeg decoder: from hidden states of a CLIP vision tower and a condition to a mask.
//!
//! "Image Segmentation Using Text and Image Prompts" (Lüddecke and Ecker, CVPR 2022). Reference:
//! `transformers/models/clipseg/modeling_clipseg.py`, `CLIPSegDecoder`.

use candle_core::{Result, Tensor};
use negkit_clip::ClipVisionConfig;
use negkit_nn::{
    Activation, AttentionMask, Conv2d, ConvOptions, ConvTranspose2d, FeedForward, LayerNorm,
    Linear, MultiHeadAttention, Params, ops,
};
use negkit_text::tower::ClipTextConfig;
use serde::{Deserialize, Serialize};

/// `CLIPSegConfig` of transformers, with its defaults (those of `clipseg-rd64`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipSegConfig {
    /// The text tower that the model was trained with.
    pub text_config: ClipTextConfig,
    /// The vision tower.
    pub vision_config: ClipVisionConfig,
    /// Width of the condition.
    pub projection_dim: usize,
    /// Vision layers (counted from 0) whose output the decoder reads.
    pub extract_layers: Vec<usize>,
    /// Width of the decoder.
    pub reduce_dim: usize,
    /// Attention heads of the decoder.
    pub decoder_num_attention_heads: usize,
    /// Width inside the decoder's feed-forward blocks.
    pub decoder_intermediate_size: usize,
    /// Decoder block (counted from 0) before which the condition is applied.
    pub conditional_layer: usize,
    /// Whether the head is the three-step one of the "refined" models.
    pub use_complex_transposed_convolution: bool,
}

impl Default for ClipSegConfig {
    fn default() -> Self {
        Self {
            text_config: ClipTextConfig::default(),
            vision_config: ClipVisionConfig {
                patch_size: 16,
                ..ClipVisionConfig::default()
            },
            projection_dim: 512,
            extract_layers: vec![3, 6, 9],
            reduce_dim: 64,
            decoder_num_attention_heads: 4,
            decoder_intermediate_size: 2048,
            conditional_layer: 0,
            use_complex_transposed_convolution: false,
        }
    }
}

/// A post-norm transformer layer (`CLIPSegDecoderLayer`).
#[derive(Debug, Clone)]
struct DecoderLayer {
    self_attn: MultiHeadAttention,
    layer_norm1: LayerNorm,
    layer_norm2: LayerNorm,
    mlp: FeedForward,
}

impl DecoderLayer {
    fn load(params: &Params, config: &ClipSegConfig) -> Result<Self> {
        let (width, inner) = (config.reduce_dim, config.decoder_intermediate_size);
        let heads = config.decoder_num_attention_heads;
        let eps = config.vision_config.layer_norm_eps;
        let mlp = params.pp("mlp");
        Ok(Self {
            self_attn: MultiHeadAttention::load(&params.pp("self_attn"), width, heads)?,
            layer_norm1: LayerNorm::load(&params.pp("layer_norm1"), width, eps)?,
            layer_norm2: LayerNorm::load(&params.pp("layer_norm2"), width, eps)?,
            mlp: FeedForward::load(
                [&mlp.pp("fc1"), &mlp.pp("fc2")],
                width,
                inner,
                Activation::Relu,
            )?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.self_attn.forward_onto(x, x, AttentionMask::None, x)?;
        let x = self.layer_norm1.forward(&x)?;
        self.layer_norm2.forward(&self.mlp.forward_onto(&x, &x)?)
    }
}

/// From the decoder's feature map to one logit per pixel.
#[derive(Debug, Clone)]
enum Head {
    Simple(ConvTranspose2d),
    Refined {
        mix: Conv2d,
        enlarge: ConvTranspose2d,
        finish: ConvTranspose2d,
    },
}

impl Head {
    fn load(params: &Params, config: &ClipSegConfig) -> Result<Self> {
        let (width, patch) = (config.reduce_dim, config.vision_config.patch_size);
        if !config.use_complex_transposed_convolution {
            return Ok(Self::Simple(ConvTranspose2d::load(
                params, width, 1, patch,
            )?));
        }
        let kernel = patch / 4;
        Ok(Self::Refined {
            mix: Conv2d::load(&params.pp(0), width, width, ConvOptions::SAME_3X3)?,
            enlarge: ConvTranspose2d::load(&params.pp(2), width, width / 2, kernel)?,
            finish: ConvTranspose2d::load(&params.pp(4), width / 2, 1, kernel)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Simple(conv) => conv.forward(x),
            Self::Refined {
                mix,
                enlarge,
                finish,
            } => {
                let x = Activation::Relu.forward(&mix.forward(x)?)?;
                let x = Activation::Relu.forward(&enlarge.forward(&x)?)?;
                finish.forward(&x)
            }
        }
    }
}

/// The part of the decoder's work on pictures that no phrase changes.
#[derive(Debug, Clone)]
pub struct ReducedPicture {
    /// One `[pictures, patches + 1, reduce_dim]` per decoder block, deepest vision layer first.
    maps: Vec<Tensor>,
    /// Rows and columns of patches.
    grid: (usize, usize),
}

impl ReducedPicture {
    /// The pictures at `rows` (u32, `[conditions]`), one for each condition: for batches that ask for
    /// different things in different pictures.
    ///
    /// # Errors
    /// When a row is not below the number of pictures.
    pub fn select(&self, rows: &Tensor) -> Result<Self> {
        let maps = self.maps.iter().map(|map| map.index_select(rows, 0));
        Ok(Self {
            maps: maps.collect::<Result<_>>()?,
            grid: self.grid,
        })
    }
}

/// The CLIPSeg decoder.
#[derive(Debug, Clone)]
pub struct ClipSegDecoder {
    film_mul: Linear,
    film_add: Linear,
    reduces: Vec<Linear>,
    layers: Vec<DecoderLayer>,
    head: Head,
    conditional_layer: usize,
    patch_size: usize,
}

impl ClipSegDecoder {
    /// Reads `film_mul`, `film_add`, `reduces.*`, `layers.*` and `transposed_convolution`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &ClipSegConfig) -> Result<Self> {
        let (condition, width) = (config.projection_dim, config.reduce_dim);
        let depth = config.extract_layers.len();
        let vision = config.vision_config.hidden_size;
        if config.conditional_layer >= depth {
            candle_core::bail!(
                "CLIPSeg decoder: conditional_layer {} is not below the {depth} extract_layers",
                config.conditional_layer
            )
        }
        Ok(Self {
            film_mul: Linear::load(&params.pp("film_mul"), condition, width)?,
            film_add: Linear::load(&params.pp("film_add"), condition, width)?,
            reduces: (0..depth)
                .map(|i| Linear::load(&params.pp("reduces").pp(i), vision, width))
                .collect::<Result<_>>()?,
            layers: (0..depth)
                .map(|i| DecoderLayer::load(&params.pp("layers").pp(i), config))
                .collect::<Result<_>>()?,
            head: Head::load(&params.pp("transposed_convolution"), config)?,
            conditional_layer: config.conditional_layer,
            patch_size: config.vision_config.patch_size,
        })
    }

    /// Reduces the hidden states of pictures, `[pictures, patches + 1, hidden]` each, in the order
    /// of `extract_layers`, for any number of later [`ClipSegDecoder::forward`]s.
    /// `size` is the pictures' height and width in pixels, as the vision tower got them.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn reduce(&self, activations: &[Tensor], size: (usize, usize)) -> Result<ReducedPicture> {
        // The decoder starts at the deepest layer.
        let maps = self.reduces.iter().zip(activations.iter().rev());
        Ok(ReducedPicture {
            maps: maps.map(|(r, a)| r.forward(a)).collect::<Result<_>>()?,
            grid: (size.0 / self.patch_size, size.1 / self.patch_size),
        })
    }

    /// Logits `[conditions, height, width]` for conditions `[conditions, projection_dim]`: of one
    /// picture for all of them, or of one picture for each.
    ///
    /// # Errors
    /// When shapes do not fit or the device fails.
    pub fn forward(&self, picture: &ReducedPicture, conditions: &Tensor) -> Result<Tensor> {
        let mul = self.film_mul.forward(conditions)?.unsqueeze(1)?;
        let add = self.film_add.forward(conditions)?.unsqueeze(1)?;
        let mut output: Option<Tensor> = None;
        for (i, (map, layer)) in picture.maps.iter().zip(&self.layers).enumerate() {
            let mut x = match output {
                Some(output) => output.broadcast_add(map)?,
                None => map.clone(),
            };
            if i == self.conditional_layer {
                x = x.broadcast_mul(&mul)?.broadcast_add(&add)?;
            }
            output = Some(layer.forward(&x)?);
        }
        let Some(output) = output else {
            candle_core::bail!("CLIPSeg decoder: the configuration names no extract_layers")
        };
        let tokens = output.dim(1)?;
        let (rows, columns) = picture.grid;
        let map = output.narrow(1, 1, tokens - 1)?.contiguous()?;
        let map = ops::to_picture(&map, (rows, columns))?;
        self.head.forward(&map)?.squeeze(1)
    }
}
