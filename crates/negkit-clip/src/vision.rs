//! The CLIP vision transformer.
//!
//! "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021).
//! Reference: `transformers/models/clip/modeling_clip.py`, `CLIPVisionTransformer`.

use candle_core::{Result, Tensor};
use negkit_nn::{
    Activation, AttentionMask, Conv2d, ConvOptions, LayerNorm, Linear, Params, ops, resize_bicubic,
};
use negkit_text::tower::{ClipLayer, LayerSizes};
use serde::{Deserialize, Serialize};

/// Sizes of a vision tower: `CLIPVisionConfig` of transformers, field for field, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Width of the projection.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Channels of a picture.
    pub num_channels: usize,
    /// Side of the pictures that the position embeddings were made for, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// What the vision tower gives for a batch of pictures.
#[derive(Debug, Clone)]
pub struct VisionTowerOutput {
    /// Hidden states before the first layer and after each layer, `layers + 1` tensors of
    /// `[batch, patches + 1, hidden]`; the class token is first.
    pub hidden_states: Vec<Tensor>,
    /// The class token after the post layer norm, `[batch, hidden]`.
    pub pooled: Tensor,
    /// Its projection, not normalised, `[batch, projection]`.
    pub image_embeds: Tensor,
}

/// The CLIP vision transformer with its projection.
#[derive(Debug, Clone)]
pub struct ClipVisionTower {
    /// `[hidden]`
    class_embedding: Tensor,
    patch_embedding: Conv2d,
    /// `[1 + grid * grid, hidden]`
    position_embedding: Tensor,
    pre_layer_norm: LayerNorm,
    layers: Vec<ClipLayer>,
    post_layer_norm: LayerNorm,
    visual_projection: Linear,
    config: ClipVisionConfig,
}

impl ClipVisionTower {
    /// Reads `vision_model.*` and `visual_projection.weight`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &ClipVisionConfig) -> Result<Self> {
        let hidden = config.hidden_size;
        let grid = config.image_size / config.patch_size.max(1);
        let vision = params.pp("vision_model");
        let embeddings = vision.pp("embeddings");
        let patches = ConvOptions::new(config.patch_size, config.patch_size, 0);
        let sizes = LayerSizes {
            hidden_size: hidden,
            intermediate_size: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            layer_norm_eps: config.layer_norm_eps,
        };
        let layers = vision.pp("encoder").pp("layers");
        let norm = |name| LayerNorm::load(&vision.pp(name), hidden, config.layer_norm_eps);
        Ok(Self {
            class_embedding: embeddings.get(hidden, "class_embedding")?,
            patch_embedding: Conv2d::load_no_bias(
                &embeddings.pp("patch_embedding"),
                config.num_channels,
                hidden,
                patches,
            )?,
            position_embedding: embeddings
                .get((1 + grid * grid, hidden), "position_embedding.weight")?,
            // The published files spell it so.
            pre_layer_norm: norm("pre_layrnorm")?,
            layers: (0..config.num_hidden_layers)
                .map(|i| ClipLayer::load(&layers.pp(i), sizes))
                .collect::<Result<_>>()?,
            post_layer_norm: norm("post_layernorm")?,
            visual_projection: Linear::load_no_bias(
                &params.pp("visual_projection"),
                hidden,
                config.projection_dim,
            )?,
            config: config.clone(),
        })
    }

    /// The sizes that it was built with.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Encodes `pixel_values` `[batch, channels, height, width]`.
    ///
    /// Pictures of another size than [`ClipVisionConfig::image_size`] get bicubically resized
    /// position embeddings, as CLIPSeg needs them.
    ///
    /// # Errors
    /// When a side is smaller than a patch, or the device fails.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<VisionTowerOutput> {
        let hidden_states = self.hidden_states(pixel_values, self.layers.len())?;
        let last = &hidden_states[hidden_states.len() - 1];
        let class = last.narrow(1, 0, 1)?.squeeze(1)?;
        let pooled = self.post_layer_norm.forward(&class)?;
        Ok(VisionTowerOutput {
            image_embeds: self.visual_projection.forward(&pooled)?,
            pooled,
            hidden_states,
        })
    }

    /// Hidden states before the first layer and after each of the first `depth` layers, for callers
    /// that need no more of the tower.
    ///
    /// # Errors
    /// As [`ClipVisionTower::forward`].
    pub fn hidden_states(&self, pixel_values: &Tensor, depth: usize) -> Result<Vec<Tensor>> {
        let mut x = self.pre_layer_norm.forward(&self.embed(pixel_values)?)?;
        let mut states = Vec::with_capacity(depth + 1);
        for layer in self.layers.iter().take(depth) {
            let next = layer.forward(&x, AttentionMask::None)?;
            states.push(std::mem::replace(&mut x, next));
        }
        states.push(x);
        Ok(states)
    }

    fn embed(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let (batch, _, height, width) = pixel_values.dims4()?;
        let patch = self.config.patch_size;
        if height < patch || width < patch {
            candle_core::bail!(
                "CLIP vision tower: a picture of {width} x {height} pixels is smaller than one \
                 patch of {patch} x {patch}"
            )
        }
        let hidden = self.config.hidden_size;
        let patches = self.patch_embedding.forward(pixel_values)?;
        let grid = (patches.dim(2)?, patches.dim(3)?);
        let patches = ops::to_tokens(&patches)?;
        let class = self
            .class_embedding
            .reshape((1, 1, hidden))?
            .expand((batch, 1, hidden))?;
        Tensor::cat(&[&class.contiguous()?, &patches], 1)?
            .broadcast_add(&self.position_embedding_for(grid)?)
    }

    /// `[1 + rows * columns, hidden]`
    fn position_embedding_for(&self, grid: (usize, usize)) -> Result<Tensor> {
        let side = self.config.image_size / self.config.patch_size;
        if grid == (side, side) {
            return Ok(self.position_embedding.clone());
        }
        let hidden = self.config.hidden_size;
        let class = self.position_embedding.narrow(0, 0, 1)?;
        let map = self
            .position_embedding
            .narrow(0, 1, side * side)?
            .reshape((1, side, side, hidden))?
            .permute((0, 3, 1, 2))?;
        let map = resize_bicubic(&map, grid)?
            .permute((0, 2, 3, 1))?
            .reshape((grid.0 * grid.1, hidden))?;
        Tensor::cat(&[&class, &map], 0)
    }
}
