//! `config.json` of a BLIP.

use std::path::Path;

use negkit_nn::{Activation, ConfigError, read_config};
use serde::{Deserialize, Serialize};

const MODEL: &str = "BlipForQuestionAnswering";

/// `BlipConfig` of transformers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlipConfig {
    /// Always `blip`.
    pub model_type: String,
    /// The vision tower.
    #[serde(default)]
    pub vision_config: BlipVisionConfig,
    /// Both text models.
    #[serde(default)]
    pub text_config: BlipTextConfig,
}

/// `BlipVisionConfig` of transformers, field for field, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlipVisionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Side of the pictures, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for BlipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 384,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// `BlipTextConfig` of transformers, field for field, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlipTextConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads. The default is transformers' own; the published models say 12.
    pub num_attention_heads: usize,
    /// Positions of a question or an answer.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// Id that an answer starts with.
    pub bos_token_id: u32,
    /// Id that an answer ends with.
    pub sep_token_id: u32,
    /// Id of padding.
    pub pad_token_id: u32,
}

impl Default for BlipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30524,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 512,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            bos_token_id: 30522,
            sep_token_id: 102,
            pad_token_id: 0,
        }
    }
}

impl BlipConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or contradicts itself.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = read_config(path)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.model_type != "blip" {
            let found = &self.model_type;
            return Err(ConfigError::unsupported(MODEL, "model_type", found, "blip"));
        }
        let vision = &self.vision_config;
        if vision.patch_size == 0 || vision.image_size < vision.patch_size {
            return Err(ConfigError::unsupported(
                MODEL,
                "vision_config.patch_size",
                vision.patch_size,
                format!("1 to {} (vision_config.image_size)", vision.image_size),
            ));
        }
        let text = &self.text_config;
        // The decoder reads the question's states through layers of the picture's width.
        if text.hidden_size != vision.hidden_size {
            return Err(ConfigError::unsupported(
                MODEL,
                "text_config.hidden_size",
                text.hidden_size,
                format!("{} (vision_config.hidden_size)", vision.hidden_size),
            ));
        }
        for (field, id) in [
            ("text_config.bos_token_id", text.bos_token_id),
            ("text_config.sep_token_id", text.sep_token_id),
            ("text_config.pad_token_id", text.pad_token_id),
        ] {
            if id as usize >= text.vocab_size {
                let supported = format!("an id below {} (text_config.vocab_size)", text.vocab_size);
                return Err(ConfigError::unsupported(MODEL, field, id, supported));
            }
        }
        Ok(())
    }
}
