//! A transformer with its tokenizer and pooling.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use negkit_bert::{BertTokenizer, PaddedIds, Tokens};
use negkit_checkpoint::Checkpoint;
use negkit_nn::{Compute, Ignored, Params, read_config};
use negkit_text::WeightsSource;

use crate::SbertError;
use crate::layout::Layout;
use crate::transformer::{Transformer, TransformerConfig};

/// Tokens, padding included, that go through the transformer at a time: bounds memory.
const TOKENS_AT_A_TIME: usize = 4096;

/// What a published transformer holds besides: the pooler is trained for another task, and
/// `sentence-transformers` does not use it.
const NOT_USED: Ignored<'static> = Ignored {
    prefixes: &["pooler."],
    buffers: &["position_ids"],
};

/// Texts to vectors.
pub struct SentenceEncoder {
    transformer: Transformer,
    tokenizer: BertTokenizer,
    config: TransformerConfig,
    max_tokens: usize,
    lower_case: bool,
    normalize: bool,
    weights: WeightsSource,
    compute: Compute,
}

/// The choice that is nearest to a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Its index; of several at the same distance the first.
    pub index: usize,
    /// Its cosine to the text.
    pub cosine: f32,
}

impl SentenceEncoder {
    /// Loads a folder that `sentence-transformers` published. One without `modules.json` (a
    /// transformer alone) gives averages that are not normalised, as there.
    ///
    /// # Errors
    /// When a file cannot be read, the files do not fit each other, or a step is not known.
    pub fn load(folder: impl AsRef<Path>, compute: &Compute) -> Result<Self, SbertError> {
        let layout = Layout::read(folder.as_ref())?;
        let config: TransformerConfig = read_config(&layout.transformer.join("config.json"))?;
        config.check()?;
        let checkpoint = Arc::new(Checkpoint::open(&layout.transformer)?);
        let weights = WeightsSource::from_checkpoint(checkpoint.clone());
        let params = Params::new(checkpoint, compute.dtype, &compute.device);
        let transformer = Transformer::load(&params, &config)?;
        params.finish("the transformer of a sentence encoder", NOT_USED)?;
        let tokenizer = BertTokenizer::from_folder(&layout.transformer, config.vocab_size)?;
        let room = layout
            .max_seq_length
            .or(tokenizer.model_max_length())
            .unwrap_or(usize::MAX)
            .min(transformer.positions());
        Ok(Self {
            transformer,
            tokenizer,
            config,
            max_tokens: room,
            lower_case: layout.lower_case,
            normalize: layout.normalize,
            weights,
            compute: compute.clone(),
        })
    }

    /// The sizes that it was built with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Most tokens of a text, start and end included; what is longer is cut off.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whether embeddings have length one.
    pub fn normalizes(&self) -> bool {
        self.normalize
    }

    /// Where the weights came from.
    pub fn weights(&self) -> &WeightsSource {
        &self.weights
    }

    /// Tokens of each text, as they go into the transformer.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokenize(&self, texts: &[&str]) -> Result<Vec<Tokens>, SbertError> {
        if !self.lower_case {
            return Ok(self.tokenizer.encode(texts, self.max_tokens)?);
        }
        // A character at a time, as the tokenizer's own lower case does it.
        let lower = |text: &&str| text.chars().flat_map(char::to_lowercase).collect();
        let texts: Vec<String> = texts.iter().map(lower).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Ok(self.tokenizer.encode(&texts, self.max_tokens)?)
    }

    /// Last hidden states of `rows`, `[rows, longest, hidden]`; those of padding mean nothing.
    ///
    /// # Errors
    /// When a row is too long or the device fails.
    pub fn token_embeddings(&self, rows: &PaddedIds) -> Result<Tensor, SbertError> {
        Ok(self.transformer.forward(rows)?)
    }

    /// Embeddings of `texts`, `[texts, hidden]` of f32 on the CPU, in the texts' order. What a text
    /// gives does not depend on the others.
    ///
    /// # Errors
    /// When a text cannot be tokenised, an embedding is not finite, or the device fails.
    pub fn embed(&self, texts: &[&str]) -> Result<Tensor, SbertError> {
        let hidden = self.config.hidden_size;
        if texts.is_empty() {
            return Ok(Tensor::zeros((0, hidden), DType::F32, &Device::Cpu)?);
        }
        let tokens = self.tokenize(texts)?;
        // Texts of like length go together, so that little is padded.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(tokens[i].ids.len()));
        let mut embeddings = vec![0f32; texts.len() * hidden];
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.first() {
            let rows = (TOKENS_AT_A_TIME / tokens[longest].ids.len().max(1)).clamp(1, rest.len());
            let (batch, later) = rest.split_at(rows);
            let ids: Vec<&[u32]> = batch.iter().map(|&i| tokens[i].ids.as_slice()).collect();
            let values: Vec<Vec<f32>> = self.pool(&PaddedIds::new(&ids, 0))?.to_vec2()?;
            for (&i, row) in batch.iter().zip(values) {
                if !row.iter().all(|value| value.is_finite()) {
                    return Err(SbertError::NotFinite {
                        text: texts[i].to_owned(),
                        path: self.weights.location().into(),
                    });
                }
                embeddings[i * hidden..(i + 1) * hidden].copy_from_slice(&row);
            }
            rest = later;
        }
        Ok(Tensor::from_vec(
            embeddings,
            (texts.len(), hidden),
            &Device::Cpu,
        )?)
    }

    /// Mean over the tokens of each row, in f32.
    fn pool(&self, rows: &PaddedIds) -> Result<Tensor, SbertError> {
        let states = self.token_embeddings(rows)?.to_dtype(DType::F32)?;
        let mask = rows.mask(DType::F32, &self.compute.device)?;
        let sums = states.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?.sum(1)?;
        let means = sums.broadcast_div(&mask.sum_keepdim(1)?)?;
        Ok(if self.normalize {
            unit_rows(&means)?
        } else {
            means
        })
    }

    /// Cosine of `text` with each of `choices`.
    ///
    /// # Errors
    /// As [`SentenceEncoder::embed`].
    pub fn cosines(&self, text: &str, choices: &[&str]) -> Result<Vec<f32>, SbertError> {
        let mut texts = vec![text];
        texts.extend_from_slice(choices);
        let vectors = unit_rows(&self.embed(&texts)?)?;
        let (text, choices) = (
            vectors.narrow(0, 0, 1)?,
            vectors.narrow(0, 1, choices.len())?,
        );
        Ok(choices.broadcast_mul(&text)?.sum(1)?.to_vec1()?)
    }

    /// Which of `choices` means most nearly what `text` does: how TIFA turns a free answer into one
    /// of a question's choices.
    ///
    /// # Errors
    /// When there are no choices, and as [`SentenceEncoder::embed`].
    pub fn nearest(&self, text: &str, choices: &[&str]) -> Result<Nearest, SbertError> {
        let cosines = self.cosines(text, choices)?;
        let mut best: Option<Nearest> = None;
        for (index, cosine) in cosines.into_iter().enumerate() {
            if best.is_none_or(|best| cosine > best.cosine) {
                best = Some(Nearest { index, cosine });
            }
        }
        best.ok_or_else(|| SbertError::NoChoices {
            text: text.to_owned(),
        })
    }
}

/// Rows of length one; a row of zeros stays (`torch.nn.functional.normalize`).
fn unit_rows(x: &Tensor) -> candle_core::Result<Tensor> {
    const EPS: f64 = 1e-12;
    let length = x.sqr()?.sum_keepdim(1)?.sqrt()?.clamp(EPS, f64::INFINITY)?;
    x.broadcast_div(&length)
}
