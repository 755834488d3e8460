//! `config.json` of a `UNet2DConditionModel`.

use negkit_nn::{Activation, ConfigError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One number for all blocks, or one per block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerBlock {
    /// The same for all blocks.
    One(usize),
    /// One per block, in the order of `block_out_channels`.
    Each(Vec<usize>),
}

/// Kind of a block of the UNet's way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlockType {
    /// Residual blocks and transformers.
    #[serde(rename = "CrossAttnDownBlock2D")]
    CrossAttn,
    /// Residual blocks alone.
    #[serde(rename = "DownBlock2D")]
    Plain,
}

/// Kind of a block of the UNet's way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlockType {
    /// Residual blocks and transformers.
    #[serde(rename = "CrossAttnUpBlock2D")]
    CrossAttn,
    /// Residual blocks alone.
    #[serde(rename = "UpBlock2D")]
    Plain,
}

/// `config.json` of a `UNet2DConditionModel`, field for field, with the defaults of diffusers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNetConfig {
    /// Side of the latents that the model was trained for.
    pub sample_size: Option<usize>,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Whether the cosine half of the time embedding comes first.
    pub flip_sin_to_cos: bool,
    /// Shift of the time embedding's frequencies.
    pub freq_shift: f64,
    /// Kinds of the blocks on the way down.
    pub down_block_types: Vec<DownBlockType>,
    /// Kinds of the blocks on the way up.
    pub up_block_types: Vec<UpBlockType>,
    /// Channels of every block.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per block (one more on the way up).
    pub layers_per_block: usize,
    /// Zeros around a picture before it is halved.
    pub downsample_padding: usize,
    /// Activation of the residual blocks.
    pub act_fn: Activation,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// Epsilon of the group norms.
    pub norm_eps: f64,
    /// Width of the text encoder's hidden states.
    pub cross_attention_dim: usize,
    /// The *number of heads* per block: the published files use this name for it.
    pub attention_head_dim: PerBlock,
    /// The number of heads per block, where a file has the right name.
    pub num_attention_heads: Option<PerBlock>,
    /// Whether transformers are entered and left by a linear layer (Stable Diffusion 2) instead of
    /// a 1x1 convolution.
    pub use_linear_projection: bool,
    /// All other fields.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Default for UNetConfig {
    fn default() -> Self {
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.,
            down_block_types: vec![
                DownBlockType::CrossAttn,
                DownBlockType::CrossAttn,
                DownBlockType::CrossAttn,
                DownBlockType::Plain,
            ],
            up_block_types: vec![
                UpBlockType::Plain,
                UpBlockType::CrossAttn,
                UpBlockType::CrossAttn,
                UpBlockType::CrossAttn,
            ],
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            downsample_padding: 1,
            act_fn: Activation::Silu,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: 1280,
            attention_head_dim: PerBlock::One(8),
            num_attention_heads: None,
            use_linear_projection: false,
            rest: Map::new(),
        }
    }
}

impl UNetConfig {
    /// Checks that the fields fit each other, and that no field asks for something that this UNet
    /// does not do.
    ///
    /// # Errors
    /// Names the field, what was found and what is supported.
    pub fn check(&self) -> Result<(), ConfigError> {
        let blocks = self.block_out_channels.len();
        let lengths = [
            ("down_block_types", self.down_block_types.len()),
            ("up_block_types", self.up_block_types.len()),
            ("attention_head_dim", self.heads().len()),
        ];
        for (field, length) in lengths {
            if length != blocks || blocks == 0 {
                return Err(ConfigError::unsupported(
                    "UNet2DConditionModel",
                    field,
                    format!("{length} entries"),
                    format!("one per block, {blocks} as block_out_channels has"),
                ));
            }
        }
        let required: [(&str, &[Value]); 17] = [
            ("mid_block_type", &["UNetMidBlock2DCrossAttn".into()]),
            ("center_input_sample", &[false.into()]),
            ("only_cross_attention", &[false.into()]),
            (
                "mid_block_only_cross_attention",
                &[Value::Null, false.into()],
            ),
            ("dual_cross_attention", &[false.into()]),
            ("class_embed_type", &[Value::Null]),
            ("num_class_embeds", &[Value::Null]),
            ("addition_embed_type", &[Value::Null]),
            ("encoder_hid_dim", &[Value::Null]),
            ("time_embedding_type", &["positional".into()]),
            ("time_embedding_dim", &[Value::Null]),
            ("time_cond_proj_dim", &[Value::Null]),
            ("timestep_post_act", &[Value::Null]),
            ("resnet_time_scale_shift", &["default".into()]),
            ("conv_in_kernel", &[3.into()]),
            ("conv_out_kernel", &[3.into()]),
            ("transformer_layers_per_block", &[1.into()]),
        ];
        ConfigError::check_fields("UNet2DConditionModel", &self.rest, &required)?;
        if let Some(factor) = self
            .rest
            .get("mid_block_scale_factor")
            .and_then(Value::as_f64)
            && factor != 1.
        {
            return Err(ConfigError::unsupported(
                "UNet2DConditionModel",
                "mid_block_scale_factor",
                factor,
                "1",
            ));
        }
        Ok(())
    }

    /// The text of the `config.json` that a UNet of these sizes is published with: all fields, and
    /// the class and the kind of its middle that diffusers asks for.
    ///
    /// # Errors
    /// When a field of [`rest`](Self::rest) cannot be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let required = [
            ("_class_name", "UNet2DConditionModel".into()),
            ("_diffusers_version", crate::DIFFUSERS_VERSION.into()),
            ("mid_block_type", "UNetMidBlock2DCrossAttn".into()),
        ];
        crate::files::published_json(self, &required)
    }

    /// Attention heads of every block.
    pub fn heads(&self) -> Vec<usize> {
        match self
            .num_attention_heads
            .as_ref()
            .unwrap_or(&self.attention_head_dim)
        {
            PerBlock::One(heads) => vec![*heads; self.block_out_channels.len()],
            PerBlock::Each(heads) => heads.clone(),
        }
    }
}
