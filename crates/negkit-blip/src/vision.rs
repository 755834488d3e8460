//! The vision transformer.
//!
//! "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2020), as `BlipVisionModel` of transformers
//! has it: queries, keys and values from one layer, and a norm after the last.

use candle_core::{Result, Tensor};
use negkit_nn::{
    AttentionBudget, AttentionMask, Conv2d, ConvOptions, FeedForward, LayerNorm, Linear, Params,
    attention,
};

use crate::BlipVisionConfig;

/// A picture to one state a patch.
#[derive(Debug, Clone)]
pub struct VisionTower {
    patch_embedding: Conv2d,
    /// `[1, 1, hidden]`
    class_embedding: Tensor,
    /// `[1, 1 + patches, hidden]`
    position_embedding: Tensor,
    layers: Vec<VisionLayer>,
    post_layer_norm: LayerNorm,
    config: BlipVisionConfig,
}

impl VisionTower {
    /// Reads `embeddings.*`, `encoder.*` and `post_layernorm.*`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &BlipVisionConfig) -> Result<Self> {
        let hidden = config.hidden_size;
        let grid = config.image_size / config.patch_size.max(1);
        let embeddings = params.pp("embeddings");
        let patches = ConvOptions::new(config.patch_size, config.patch_size, 0);
        let layers = params.pp("encoder.layers");
        Ok(Self {
            patch_embedding: Conv2d::load(&embeddings.pp("patch_embedding"), 3, hidden, patches)?,
            class_embedding: embeddings.get((1, 1, hidden), "class_embedding")?,
            position_embedding: embeddings
                .get((1, 1 + grid * grid, hidden), "position_embedding")?,
            layers: (0..config.num_hidden_layers)
                .map(|i| VisionLayer::load(&layers.pp(i), config))
                .collect::<Result<_>>()?,
            post_layer_norm: LayerNorm::load(
                &params.pp("post_layernorm"),
                hidden,
                config.layer_norm_eps,
            )?,
            config: config.clone(),
        })
    }

    /// `pixel_values` `[n, 3, image_size, image_size]` to the states after the last norm,
    /// `[n, 1 + patches, hidden]`, the class token first.
    ///
    /// # Errors
    /// When the pictures have another size, or the device fails.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let (n, _, height, width) = pixel_values.dims4()?;
        let side = self.config.image_size;
        if (height, width) != (side, side) {
            candle_core::bail!(
                "BLIP vision tower: pictures of {width} x {height} pixels, the positions are for \
                 {side} x {side}; check size in preprocessor_config.json"
            )
        }
        let patches = self.patch_embedding.forward(pixel_values)?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let class = self
            .class_embedding
            .expand((n, 1, self.config.hidden_size))?;
        let mut x = Tensor::cat(&[&class.contiguous()?, &patches], 1)?
            .broadcast_add(&self.position_embedding)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        self.post_layer_norm.forward(&x)
    }
}

/// A pre-norm layer (`BlipEncoderLayer`).
#[derive(Debug, Clone)]
struct VisionLayer {
    layer_norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    layer_norm2: LayerNorm,
    mlp: FeedForward,
    heads: usize,
    budget: AttentionBudget,
}

impl VisionLayer {
    fn load(params: &Params, config: &BlipVisionConfig) -> Result<Self> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        if heads == 0 || !hidden.is_multiple_of(heads) {
            candle_core::bail!(
                "BLIP vision tower: a width of {hidden} does not divide into {heads} heads; check \
                 vision_config in config.json"
            )
        }
        let norm = |name| LayerNorm::load(&params.pp(name), hidden, config.layer_norm_eps);
        let [first, second] = [params.pp("mlp.fc1"), params.pp("mlp.fc2")];
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            qkv: Linear::load(&params.pp("self_attn.qkv"), hidden, 3 * hidden)?,
            projection: Linear::load(&params.pp("self_attn.projection"), hidden, hidden)?,
            layer_norm2: norm("layer_norm2")?,
            mlp: FeedForward::load(
                [&first, &second],
                hidden,
                config.intermediate_size,
                config.hidden_act,
            )?,
            heads,
            budget: params.attention_budget(),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.self_attention(&self.layer_norm1.forward(x)?)?)?;
        &x + self.mlp.forward(&self.layer_norm2.forward(&x)?)?
    }

    fn self_attention(&self, x: &Tensor) -> Result<Tensor> {
        let (n, length, hidden) = x.dims3()?;
        let width = hidden / self.heads;
        let qkv = self
            .qkv
            .forward(x)?
            .reshape((n, length, 3, self.heads, width))?
            .permute((2, 0, 3, 1, 4))?;
        let part = |i| qkv.get(i)?.contiguous();
        let scale = (width as f64).powf(-0.5);
        let mask = AttentionMask::None;
        let mixed = attention(&part(0)?, &part(1)?, &part(2)?, mask, scale, self.budget)?;
        let mixed = mixed.transpose(1, 2)?.reshape((n, length, hidden))?;
        self.projection.forward(&mixed)
    }
}
