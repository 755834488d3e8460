//! `config.json` of mini-vqa.

use std::path::Path;

use negkit_nn::{Activation, ConfigError, read_config};
use serde::{Deserialize, Serialize};

use crate::VqaError;
use crate::detector::DetectorConfig;
use crate::error::check_classes;

/// `model_type` of the configuration.
pub(super) const MODEL_TYPE: &str = "mini-vqa";

/// Sizes and answers of a mini-vqa.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MiniVqaConfig {
    /// Always `mini-vqa`.
    pub model_type: String,
    /// What looks at the picture: a network like mini-detector's, whose cells are what the question
    /// encoder attends to. In training it learns to label them, too.
    pub vision_config: DetectorConfig,
    /// The question encoder.
    pub question_config: QuestionConfig,
    /// Every answer that the model can give, in the order of the classifier's outputs.
    pub answers: Vec<String>,
}

/// Sizes of the question encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuestionConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Positions of a question, start and end included.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward blocks.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for QuestionConfig {
    fn default() -> Self {
        Self {
            vocab_size: 1024,
            hidden_size: 192,
            intermediate_size: 768,
            num_hidden_layers: 3,
            num_attention_heads: 3,
            max_position_embeddings: 24,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl MiniVqaConfig {
    /// A model of these parts and answers.
    ///
    /// # Errors
    /// When the answers are none, one is listed twice, or the vision part contradicts itself.
    pub fn new(
        vision_config: DetectorConfig,
        question_config: QuestionConfig,
        answers: Vec<String>,
    ) -> Result<Self, VqaError> {
        let config = Self {
            model_type: MODEL_TYPE.to_owned(),
            vision_config,
            question_config,
            answers,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is of another model, or contradicts itself.
    pub fn from_file(path: &Path) -> Result<Self, VqaError> {
        let config: Self = read_config(path)?;
        config.check()?;
        Ok(config)
    }

    /// Index of `answer` in [`MiniVqaConfig::answers`].
    pub fn answer_index(&self, answer: &str) -> Option<usize> {
        self.answers.iter().position(|known| known == answer)
    }

    fn check(&self) -> Result<(), VqaError> {
        if self.model_type != MODEL_TYPE {
            let found = &self.model_type;
            let error = ConfigError::unsupported(MODEL_TYPE, "model_type", found, MODEL_TYPE);
            return Err(error.into());
        }
        self.vision_config.check()?;
        let positions = self.question_config.max_position_embeddings;
        if positions < 3 {
            return Err(ConfigError::unsupported(
                MODEL_TYPE,
                "question_config.max_position_embeddings",
                positions,
                "3 or more (start, a token, end)",
            )
            .into());
        }
        check_classes(MODEL_TYPE, "answers", &self.answers)
    }
}
