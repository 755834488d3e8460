//! The texts of a run, each encoded once.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;
use negkit_text::TextEncoder;

use crate::DiffusionError;
use crate::pipeline::PictureRequest;

/// The encodings of one batch after the other, or of all at once.
///
/// Batch by batch, those that come again are remembered: all negative prompts of the run, mostly one, and
/// the prompts of the batch before.
pub(crate) struct Prompts<'a> {
    negative: HashSet<&'a str>,
    known: HashMap<&'a str, Encoded>,
}

/// How many texts are encoded at a time where all are encoded at once.
const AT_A_TIME: usize = 32;

struct Encoded {
    /// `[length, hidden]`.
    hidden_states: Tensor,
    /// The end of the prompt, where it was cut.
    removed: Option<String>,
}

/// What a batch is painted by.
pub(crate) struct BatchPrompts {
    /// `[pictures, length, hidden]`; guided `[2 * pictures, length, hidden]`, the negative prompts
    /// first.
    pub(crate) hidden_states: Tensor,
    /// What was cut off each prompt.
    pub(crate) removed: Vec<Option<String>>,
}

impl<'a> Prompts<'a> {
    /// Nothing is encoded yet. Without `guided` negative prompts are never read.
    pub(crate) fn new(requests: &'a [PictureRequest], guided: bool) -> Self {
        let negative = requests.iter().filter(|_| guided);
        Self {
            negative: negative.map(|r| r.negative_prompt.as_str()).collect(),
            known: HashMap::new(),
        }
    }

    /// Encodes all texts of the run, for [`Prompts::batch`].
    ///
    /// # Errors
    /// When the encoder or the device fails.
    pub(crate) fn encode_all(
        &mut self,
        requests: &'a [PictureRequest],
        encoder: &dyn TextEncoder,
    ) -> Result<(), DiffusionError> {
        for some in self.texts(requests).chunks(AT_A_TIME) {
            self.add(some, encoder)?;
        }
        Ok(())
    }

    /// Encodes what is not known yet of a batch of the run, and forgets what is not in it.
    ///
    /// # Errors
    /// When the encoder or the device fails.
    pub(crate) fn encode(
        &mut self,
        batch: &'a [PictureRequest],
        encoder: &dyn TextEncoder,
    ) -> Result<BatchPrompts, DiffusionError> {
        self.add(&self.texts(batch), encoder)?;
        let found = self.batch(batch)?;
        let wanted: HashSet<&str> = batch.iter().map(|r| r.prompt.as_str()).collect();
        self.known
            .retain(|text, _| wanted.contains(text) || self.negative.contains(text));
        Ok(found)
    }

    /// The hidden states of a batch of the run whose texts are known.
    ///
    /// # Errors
    /// When one is not known, or the device fails.
    pub(crate) fn batch(&self, batch: &[PictureRequest]) -> Result<BatchPrompts, DiffusionError> {
        let rows = self.texts(batch).into_iter();
        let rows = rows.map(|text| Ok(&self.known(text)?.hidden_states));
        let hidden_states = Tensor::stack(&rows.collect::<Result<Vec<_>, DiffusionError>>()?, 0)?;
        let removed = batch
            .iter()
            .map(|r| Ok(self.known(&r.prompt)?.removed.clone()));
        Ok(BatchPrompts {
            hidden_states,
            removed: removed.collect::<Result<_, DiffusionError>>()?,
        })
    }

    /// The negative prompts that are read, then the prompts.
    fn texts<'b>(&self, requests: &'b [PictureRequest]) -> Vec<&'b str> {
        let negative = requests.iter().map(|r| r.negative_prompt.as_str());
        let negative = negative.filter(|text| self.negative.contains(text));
        let prompts = requests.iter().map(|r| r.prompt.as_str());
        negative.chain(prompts).collect()
    }

    fn known(&self, text: &str) -> Result<&Encoded, DiffusionError> {
        self.known.get(text).ok_or_else(|| {
            DiffusionError::Request(format!("the text encoder gave nothing for \"{text}\""))
        })
    }

    /// Encodes those of `texts` that are not known yet, in one call.
    fn add(&mut self, texts: &[&'a str], encoder: &dyn TextEncoder) -> Result<(), DiffusionError> {
        let mut new: Vec<&'a str> = Vec::new();
        for text in texts {
            if !self.known.contains_key(text) && !new.contains(text) {
                new.push(text);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let encoding = encoder.encode(&new)?;
        for (row, (text, tokens)) in new.iter().zip(&encoding.tokens).enumerate() {
            let encoded = Encoded {
                hidden_states: encoding.last_hidden_state.get(row)?,
                removed: tokens
                    .truncated
                    .then(|| tokens.removed_text.clone().unwrap_or_default()),
            };
            self.known.insert(*text, encoded);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use candle_core::Device;
    use negkit_text::{EncoderInfo, PromptTokens, TextEncoding, TextError, WeightsSource};

    use super::*;

    /// Gives every text its length, and writes down what it was asked for.
    struct Spy {
        info: EncoderInfo,
        asked: Mutex<Vec<String>>,
    }

    impl Spy {
        fn new() -> Self {
            let info = EncoderInfo {
                name: "spy".to_owned(),
                hidden_size: 1,
                projection_dim: None,
                context_length: 2,
                tokenizer: String::new(),
                weights: WeightsSource::new("memory", None),
            };
            let asked = Mutex::default();
            Self { info, asked }
        }
    }

    impl TextEncoder for Spy {
        fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
            let asked = prompts.iter().map(|text| (*text).to_owned());
            self.asked.lock().unwrap().extend(asked);
            let lengths: Vec<f32> = prompts.iter().map(|text| text.len() as f32).collect();
            let pooled = Tensor::from_vec(lengths, (prompts.len(), 1), &Device::Cpu)?;
            Ok(TextEncoding {
                last_hidden_state: pooled.unsqueeze(1)?,
                pooled,
                projected: None,
                tokens: prompts
                    .iter()
                    .map(|text| PromptTokens {
                        count: 1,
                        truncated: text.len() > 5,
                        removed_text: text.get(5..).map(str::to_owned),
                    })
                    .collect(),
            })
        }

        fn info(&self) -> &EncoderInfo {
            &self.info
        }
    }

    fn request(prompt: &str, negative_prompt: &str) -> PictureRequest {
        PictureRequest {
            prompt: prompt.to_owned(),
            negative_prompt: negative_prompt.to_owned(),
            seed: 0,
        }
    }

    #[test]
    fn every_text_of_a_run_is_encoded_once() {
        let requests = [
            request("cat", ""),
            request("cat", ""),
            request("cat", ""),
            request("longer", "a"),
            request("dog", ""),
        ];
        let spy = Spy::new();
        let mut prompts = Prompts::new(&requests, true);
        let values = |batch: BatchPrompts| {
            let all = batch.hidden_states.flatten_all().unwrap();
            (all.to_vec1::<f32>().unwrap(), batch.removed)
        };
        let first = values(prompts.encode(&requests[..2], &spy).unwrap());
        assert_eq!(first, (vec![0., 0., 3., 3.], vec![None, None]));
        let second = values(prompts.encode(&requests[2..4], &spy).unwrap());
        let cut = Some("r".to_owned());
        assert_eq!(second, (vec![0., 1., 3., 6.], vec![None, cut]));
        let third = values(prompts.encode(&requests[4..], &spy).unwrap());
        assert_eq!(third, (vec![0., 3.], vec![None]));
        assert_eq!(
            *spy.asked.lock().unwrap(),
            ["", "cat", "a", "longer", "dog"]
        );
    }

    #[test]
    fn all_texts_at_once_are_those_of_the_batches() {
        let texts: Vec<String> = (0..2 * AT_A_TIME).map(|i| "x".repeat(i % 50)).collect();
        let requests: Vec<_> = texts.iter().map(|text| request(text, "not")).collect();
        let (one, other) = (Spy::new(), Spy::new());
        let mut ahead = Prompts::new(&requests, true);
        ahead.encode_all(&requests, &one).unwrap();
        let mut by_batch = Prompts::new(&requests, true);
        for batch in requests.chunks(7) {
            let expected = by_batch.encode(batch, &other).unwrap();
            let found = ahead.batch(batch).unwrap();
            let numbers = |of: &BatchPrompts| {
                let all = of.hidden_states.flatten_all().unwrap();
                all.to_vec1::<f32>().unwrap()
            };
            assert_eq!(numbers(&found), numbers(&expected));
            assert_eq!(found.removed, expected.removed);
        }
        assert_eq!(one.asked.lock().unwrap().len(), 51);
    }

    #[test]
    fn without_guidance_negative_prompts_are_not_read() {
        let requests = [request("cat", "never")];
        let spy = Spy::new();
        let batch = Prompts::new(&requests, false)
            .encode(&requests, &spy)
            .unwrap();
        assert_eq!(batch.hidden_states.dims(), [1, 1, 1]);
        assert_eq!(*spy.asked.lock().unwrap(), ["cat"]);
    }
}
