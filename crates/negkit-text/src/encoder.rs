//! The trait that every engine takes its text from.

use std::fmt;
use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use negkit_checkpoint::Checkpoint;

use crate::TextError;

/// Turns prompts into what the engines need.
///
/// Stable Diffusion reads [`TextEncoding::last_hidden_state`], CLIPSeg and image-text similarity
/// read [`TextEncoding::projected`]. An encoder of your own implements these two methods; see
/// `examples/custom_encoder.rs`.
pub trait TextEncoder: Send + Sync {
    /// Encodes a batch of prompts. A prompt that is too long is cut, and its
    /// [`PromptTokens::truncated`] says so.
    ///
    /// # Errors
    /// When a prompt cannot be tokenised, or the device fails.
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError>;

    /// What this encoder is.
    fn info(&self) -> &EncoderInfo;

    /// Gives back memory that a later [`TextEncoder::encode`] would take again: nothing, where an
    /// encoder does not say otherwise.
    fn release(&self) {}
}

/// The encoding of a batch of prompts.
#[derive(Debug, Clone)]
pub struct TextEncoding {
    /// Hidden state of every position after the final layer norm, `[batch, context, hidden]`.
    pub last_hidden_state: Tensor,
    /// Hidden state of the end-of-text position, `[batch, hidden]`.
    pub pooled: Tensor,
    /// `pooled` projected into the space shared with pictures, not normalised,
    /// `[batch, projection]`; `None` when the encoder has no projection.
    pub projected: Option<Tensor>,
    /// How every prompt was tokenised, in the batch's order.
    pub tokens: Vec<PromptTokens>,
}

/// How one prompt was tokenised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// Tokens of the whole prompt, before any was cut, without start, end and padding.
    pub count: usize,
    /// Whether the prompt was too long and its end was cut.
    pub truncated: bool,
    /// The end that was cut, where the encoder can tell.
    pub removed_text: Option<String>,
}

/// What a text encoder is: enough to see whether it fits an engine, and to name it in a result.
#[derive(Debug, Clone)]
pub struct EncoderInfo {
    /// Name to show.
    pub name: String,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of the projection; `None` when the encoder has none.
    pub projection_dim: Option<usize>,
    /// Positions of a prompt, start and end included.
    pub context_length: usize,
    /// What the tokenizer is and where it came from.
    pub tokenizer: String,
    /// Where the weights came from.
    pub weights: WeightsSource,
}

impl EncoderInfo {
    /// Checks that the hidden states fit an engine of this cross-attention width.
    ///
    /// # Errors
    /// [`TextError::Misfit`], with both numbers.
    pub fn require_hidden_size(&self, engine: &str, expected: usize) -> Result<(), TextError> {
        self.require(
            engine,
            "cross_attention_dim",
            expected,
            "hidden size",
            Some(self.hidden_size),
        )
    }

    /// Checks that the projection fits an engine of this projection width.
    ///
    /// # Errors
    /// [`TextError::Misfit`], with both numbers.
    pub fn require_projection_dim(&self, engine: &str, expected: usize) -> Result<(), TextError> {
        self.require(
            engine,
            "projection_dim",
            expected,
            "projection",
            self.projection_dim,
        )
    }

    fn require(
        &self,
        engine: &str,
        engine_field: &'static str,
        expected: usize,
        encoder_field: &'static str,
        found: Option<usize>,
    ) -> Result<(), TextError> {
        if found == Some(expected) {
            return Ok(());
        }
        Err(TextError::Misfit(Box::new(Misfit {
            encoder: self.name.clone(),
            encoder_field,
            found,
            engine: engine.to_owned(),
            engine_field,
            expected,
        })))
    }
}

/// An encoder of the wrong size for an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Name of the encoder.
    pub encoder: String,
    /// Which of its sizes does not fit.
    pub encoder_field: &'static str,
    /// That size; `None` when the encoder does not have it at all.
    pub found: Option<usize>,
    /// Name of the engine.
    pub engine: String,
    /// The engine's field that sets the size.
    pub engine_field: &'static str,
    /// The size that the engine needs.
    pub expected: usize,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            encoder,
            encoder_field,
            engine,
            engine_field,
            expected,
            ..
        } = self;
        write!(f, "text encoder '{encoder}' does not fit {engine}: ")?;
        match self.found {
            Some(found) => write!(f, "its {encoder_field} is {found}")?,
            None => write!(f, "it has no {encoder_field}")?,
        }
        write!(
            f,
            ", the engine's {engine_field} is {expected}. Use an encoder of that size \
             (Stable Diffusion 1.x: ViT-L/14, 768; CLIPSeg: ViT-B/16, 512)"
        )
    }
}

/// Where weights came from, and their SHA-256.
#[derive(Clone)]
pub struct WeightsSource {
    location: String,
    checkpoint: Option<Arc<Checkpoint>>,
    sha256: OnceLock<String>,
}

impl WeightsSource {
    /// Weights read from `checkpoint`. Its hash is computed when it is first asked for.
    pub fn from_checkpoint(checkpoint: Arc<Checkpoint>) -> Self {
        Self {
            location: negkit_nn::TensorSource::origin(&*checkpoint),
            checkpoint: Some(checkpoint),
            sha256: OnceLock::new(),
        }
    }

    /// Weights from elsewhere; `sha256` in lower-case hexadecimal, where it is known.
    pub fn new(location: impl Into<String>, sha256: Option<String>) -> Self {
        Self {
            location: location.into(),
            checkpoint: None,
            sha256: sha256.map(OnceLock::from).unwrap_or_default(),
        }
    }

    /// A path, or any other words that say where the weights are.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// SHA-256 of the weight file, in lower-case hexadecimal; of several files (shards), of their
    /// hashes. `None` when the weights are not from a file and no hash was given. Reads the whole
    /// file the first time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sha256(&self) -> Result<Option<&str>, TextError> {
        if let (None, Some(checkpoint)) = (self.sha256.get(), &self.checkpoint) {
            return match checkpoint.sha256()? {
                Some(hash) => Ok(Some(self.sha256.get_or_init(|| hash))),
                None => Ok(None),
            };
        }
        Ok(self.sha256.get().map(String::as_str))
    }
}

impl fmt::Debug for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightsSource")
            .field("location", &self.location)
            .field("sha256", &self.sha256.get())
            .finish_non_exhaustive()
    }
}
