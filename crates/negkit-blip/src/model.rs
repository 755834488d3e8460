//! The networks that read a question and write an answer.

use candle_core::{D, DType, Result, Tensor};
use negkit_bert::{BertEmbeddings, BertLayer, EmbeddingSizes, KeysValues, LayerSizes, PaddedIds};
use negkit_nn::{Activation, LayerNorm, Linear, Params, ops};

use crate::config::{BlipConfig, BlipTextConfig};
use crate::vision::VisionTower;

/// Vision tower, question encoder and answer decoder (`BlipForQuestionAnswering`).
#[derive(Debug, Clone)]
pub struct BlipModel {
    vision: VisionTower,
    encoder: TextModel,
    decoder: TextModel,
    head: Head,
    config: BlipTextConfig,
}

/// Questions as they were understood.
#[derive(Debug, Clone)]
pub struct Questions {
    /// `[questions, longest, hidden]`; states of padding mean nothing.
    pub states: Tensor,
    /// Hides the padding; `None` where there is none.
    hidden_keys: Option<Tensor>,
}

/// An answer in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedAnswer {
    /// Ids, without the start; the end is the last one unless the answer was too long.
    pub ids: Vec<u32>,
    /// Logits of the whole vocabulary that each id was chosen by, where they were asked for.
    pub logits: Vec<Vec<f32>>,
    /// Product of the probabilities of the ids; NaN where a logit is.
    pub probability: f32,
}

impl BlipModel {
    /// Reads `vision_model.*`, `text_encoder.*` and `text_decoder.*`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or the device fails.
    pub fn load(params: &Params, config: &BlipConfig) -> Result<Self> {
        let text = &config.text_config;
        let decoder_params = params.pp("text_decoder");
        // The encoder looks at the picture, the decoder at the question. Both read their states
        // through layers of the picture's width, as `BlipConfig` of the reference sets it.
        let context = config.vision_config.hidden_size;
        let decoder = TextModel::load(&decoder_params.pp("bert"), text, context)?;
        Ok(Self {
            vision: VisionTower::load(&params.pp("vision_model"), &config.vision_config)?,
            encoder: TextModel::load(&params.pp("text_encoder"), text, context)?,
            head: Head::load(
                &decoder_params.pp("cls.predictions"),
                text,
                decoder.embeddings.word_table(),
            )?,
            decoder,
            config: text.clone(),
        })
    }

    /// The vision tower.
    pub fn vision(&self) -> &VisionTower {
        &self.vision
    }

    /// Most tokens of a question, start and end included.
    pub fn positions(&self) -> usize {
        self.encoder.embeddings.positions()
    }

    /// Reads `ids` of `q` questions about each of `n` pictures, whose states are `pictures`
    /// `[n, 1 + patches, hidden]`; the `q` rows of the first picture come first.
    ///
    /// # Errors
    /// When the rows are no multiple of the pictures or too long, or the device fails.
    pub fn read_questions(&self, pictures: &Tensor, ids: &PaddedIds) -> Result<Questions> {
        let seen = self.encoder.look_at_other(pictures)?;
        let hidden_keys = ids.hidden_keys(pictures.dtype(), pictures.device())?;
        let mut x = self
            .encoder
            .embeddings
            .forward(&ids.ids(pictures.device())?, 0)?;
        for (layer, seen) in self.encoder.layers.iter().zip(&seen) {
            let own = layer.look_at_self(&x)?;
            x = layer.forward(&x, (&own, hidden_keys.as_ref()), Some((seen, None)))?;
        }
        Ok(Questions {
            states: x,
            hidden_keys,
        })
    }

    /// Writes an answer to each of `questions`: the likeliest token at a time, until the end token or
    /// `max_new_tokens` of them (`generate` of the reference, greedy). `keep_logits`: whether the
    /// answers shall hold the logits.
    ///
    /// # Errors
    /// When `max_new_tokens` is more than the model has positions, or the device fails.
    pub fn answer(
        &self,
        questions: &Questions,
        max_new_tokens: usize,
        keep_logits: bool,
    ) -> Result<Vec<DecodedAnswer>> {
        let rows = questions.states.dim(0)?;
        let device = questions.states.device();
        let seen = self.decoder.look_at_other(&questions.states)?;
        let mut written: Vec<Option<KeysValues>> = vec![None; self.decoder.layers.len()];
        let mut answers = vec![
            DecodedAnswer {
                ids: Vec::new(),
                logits: Vec::new(),
                probability: 1.,
            };
            rows
        ];
        let mut last = vec![self.config.bos_token_id; rows];
        let mut done = vec![false; rows];
        for position in 0..max_new_tokens {
            if done.iter().all(|done| *done) {
                break;
            }
            let ids = Tensor::from_slice(&last, (rows, 1), device)?;
            let mut x = self.decoder.embeddings.forward(&ids, position)?;
            for ((layer, seen), written) in self.decoder.layers.iter().zip(&seen).zip(&mut written)
            {
                let new = layer.look_at_self(&x)?;
                // A token sees itself and those before it, which are all there are.
                let own = match written.take() {
                    Some(before) => before.followed_by(&new)?,
                    None => new,
                };
                let other = (seen, questions.hidden_keys.as_ref());
                x = layer.forward(&x, (&own, None), Some(other))?;
                *written = Some(own);
            }
            let logits = self.head.forward(&x)?.squeeze(1)?.to_dtype(DType::F32)?;
            let probabilities: Vec<Vec<f32>> = ops::softmax(&logits)?.to_vec2()?;
            let logits: Vec<Vec<f32>> = logits.to_vec2()?;
            for (row, answer) in answers.iter_mut().enumerate() {
                if done[row] {
                    continue;
                }
                let id = likeliest(&logits[row]);
                answer.ids.push(id);
                answer.probability *= match logits[row].iter().all(|logit| logit.is_finite()) {
                    true => probabilities[row][id as usize],
                    false => f32::NAN,
                };
                if keep_logits {
                    answer.logits.push(logits[row].clone());
                }
                last[row] = id;
                done[row] = id == self.config.sep_token_id;
            }
        }
        Ok(answers)
    }

    /// Logits of the vocabulary behind each token of `ids`, the start of an answer to each of
    /// `questions` (all of one length): `[questions, length, vocab]`.
    ///
    /// # Errors
    /// When the rows are too long, or the device fails.
    pub fn answer_logits(&self, questions: &Questions, ids: &Tensor) -> Result<Tensor> {
        let length = ids.dim(1)?;
        let device = questions.states.device();
        let seen = self.decoder.look_at_other(&questions.states)?;
        let mut x = self.decoder.embeddings.forward(ids, 0)?;
        let causal: Vec<f32> = (0..length)
            .flat_map(|q| (0..length).map(move |k| if k > q { f32::NEG_INFINITY } else { 0. }))
            .collect();
        let causal = Tensor::from_vec(causal, (1, 1, length, length), device)?
            .to_dtype(questions.states.dtype())?;
        for (layer, seen) in self.decoder.layers.iter().zip(&seen) {
            let own = layer.look_at_self(&x)?;
            let other = (seen, questions.hidden_keys.as_ref());
            x = layer.forward(&x, (&own, Some(&causal)), Some(other))?;
        }
        self.head.forward(&x)
    }
}

/// The first of the largest, as `torch.argmax` on a CPU.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Embeddings and layers with cross-attention (`BlipTextModel`).
#[derive(Debug, Clone)]
struct TextModel {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
}

impl TextModel {
    fn load(params: &Params, config: &BlipTextConfig, context: usize) -> Result<Self> {
        let sizes = LayerSizes {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            layer_norm_eps: config.layer_norm_eps,
        };
        let layers = params.pp("encoder.layer");
        Ok(Self {
            embeddings: BertEmbeddings::load(
                &params.pp("embeddings"),
                EmbeddingSizes {
                    vocab_size: config.vocab_size,
                    max_position_embeddings: config.max_position_embeddings,
                    type_vocab_size: 0,
                    first_position: 0,
                    hidden_size: config.hidden_size,
                    layer_norm_eps: config.layer_norm_eps,
                },
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|i| BertLayer::load_cross(&layers.pp(i), sizes, context))
                .collect::<Result<_>>()?,
        })
    }

    /// Keys and values of `context` for the cross-attention of every layer.
    fn look_at_other(&self, context: &Tensor) -> Result<Vec<KeysValues>> {
        let seen = self.layers.iter().map(|layer| layer.look_at_other(context));
        // Every layer has a cross-attention, so none is left out.
        seen.filter_map(Result::transpose).collect()
    }
}

/// From hidden states to logits (`BlipTextOnlyMLMHead`).
#[derive(Debug, Clone)]
struct Head {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    /// `[vocab, hidden]`
    weight: Tensor,
    /// `[vocab]`
    bias: Tensor,
}

impl Head {
    /// Weight and bias of the last layer are tied to the word embedding and to `bias`, and files
    /// hold them once or twice.
    fn load(params: &Params, config: &BlipTextConfig, words: &Tensor) -> Result<Self> {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let transform = params.pp("transform");
        let weight = match params.contains("decoder.weight") {
            true => params.get((vocab, hidden), "decoder.weight")?,
            false => words.clone(),
        };
        let bias = match params.contains("decoder.bias") && !params.contains("bias") {
            true => params.get(vocab, "decoder.bias")?,
            false => params.get(vocab, "bias")?,
        };
        Ok(Self {
            dense: Linear::load(&transform.pp("dense"), hidden, hidden)?,
            activation: config.hidden_act,
            norm: LayerNorm::load(&transform.pp("LayerNorm"), hidden, config.layer_norm_eps)?,
            weight,
            bias,
        })
    }

    /// `[.., hidden]` to `[.., vocab]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.activation.forward(&self.dense.forward(x)?)?;
        let x = self.norm.forward(&x)?;
        debug_assert_eq!(x.dim(D::Minus1)?, self.weight.dim(1)?);
        ops::linear(&x, &self.weight, Some(&self.bias))
    }
}
