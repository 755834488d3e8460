//! A CLIP text tower with its tokenizer, as a [`TextEncoder`].

use std::path::Path;

use negkit_nn::{Compute, Params};

use crate::TextError;
use crate::clip_files::ClipFiles;
use crate::encoder::{EncoderInfo, PromptTokens, TextEncoder, TextEncoding, WeightsSource};
use crate::tokenizer::ClipTokenizer;
use crate::tower::{ClipTextConfig, ClipTextTower};

/// The text encoder of a CLIP, NegationCLIP, CoN-CLIP, Stable Diffusion or CLIPSeg.
pub struct ClipTextEncoder {
    tower: ClipTextTower,
    tokenizer: ClipTokenizer,
    info: EncoderInfo,
}

impl ClipTextEncoder {
    /// Loads from published files; see [`ClipFiles`] for what is taken.
    ///
    /// # Errors
    /// When the files cannot be read or do not fit each other.
    pub fn load(path: impl AsRef<Path>, compute: &Compute) -> Result<Self, TextError> {
        let path = path.as_ref();
        let name = path.file_stem().map(|stem| stem.to_string_lossy());
        let name = name.unwrap_or_default().into_owned();
        Self::from_files(&ClipFiles::open(path)?, name, None, compute)
    }

    /// Loads from opened files, under a name to show. `tokenizer` takes the place of the files' own.
    ///
    /// # Errors
    /// When the files do not fit each other.
    pub fn from_files(
        files: &ClipFiles,
        name: impl Into<String>,
        tokenizer: Option<ClipTokenizer>,
        compute: &Compute,
    ) -> Result<Self, TextError> {
        let config = files.text_config()?;
        let params = Params::compute(files.tensors().clone(), compute);
        let tower = ClipTextTower::load(&params, &config)?;
        params.finish("the CLIP text tower", ClipFiles::NOT_TEXT)?;
        let tokenizer = match tokenizer {
            Some(tokenizer) => tokenizer,
            None => files.tokenizer(config.vocab_size)?,
        };
        let weights = WeightsSource::from_checkpoint(files.tensors().clone());
        Self::new(tower, &config, tokenizer, name, weights)
    }

    /// An encoder of a tower and a tokenizer that belong together.
    ///
    /// # Errors
    /// When the tokenizer has more entries than the token embedding has rows.
    pub fn new(
        tower: ClipTextTower,
        config: &ClipTextConfig,
        tokenizer: ClipTokenizer,
        name: impl Into<String>,
        weights: WeightsSource,
    ) -> Result<Self, TextError> {
        let about = tokenizer.info();
        if about.vocab_size > config.vocab_size {
            return Err(TextError::VocabularyMismatch {
                origin: about.source.to_string(),
                tokenizer: about.vocab_size,
                embedding: config.vocab_size,
            });
        }
        let info = EncoderInfo {
            name: name.into(),
            hidden_size: config.hidden_size,
            projection_dim: tower.has_projection().then_some(config.projection_dim),
            context_length: config.max_position_embeddings,
            tokenizer: format!("CLIP BPE, {} entries, {}", about.vocab_size, about.source),
            weights,
        };
        Ok(Self {
            tower,
            tokenizer,
            info,
        })
    }

    /// The transformer.
    pub fn tower(&self) -> &ClipTextTower {
        &self.tower
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ClipTokenizer {
        &self.tokenizer
    }
}

impl TextEncoder for ClipTextEncoder {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        let batch = self.tokenizer.encode(prompts, self.info.context_length)?;
        let output = self.tower.forward(&batch.ids)?;
        let tokens = batch
            .token_count
            .into_iter()
            .zip(batch.truncated)
            .zip(batch.removed_text)
            .map(|((count, truncated), removed_text)| PromptTokens {
                count,
                truncated,
                removed_text,
            });
        Ok(TextEncoding {
            last_hidden_state: output.last_hidden_state,
            pooled: output.pooled,
            projected: output.projected,
            tokens: tokens.collect(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.info
    }
}
