//! BLIP with its tokenizer and preprocessing.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::RgbImage;
use negkit_bert::{BertTokenizer, PaddedIds};
use negkit_checkpoint::Checkpoint;
use negkit_image::PicturePreprocessor;
use negkit_nn::{Compute, Ignored, Params};
use negkit_text::WeightsSource;
use negkit_vqa::{Answer, AnswererInfo, QuestionAnswerer, VqaError};

use crate::config::BlipConfig;
use crate::error::BlipError;
use crate::model::{BlipModel, DecodedAnswer, Questions};

const NAME: &str = "BLIP";
/// Questions about a picture that are read at a time: bounds memory, and is far above where a batch
/// stops paying.
const QUESTIONS_AT_A_TIME: usize = 64;
/// Tokens of an answer, the end included: the default of `generate` in transformers 5. (Before, the
/// start counted too; answers to questions have one to three words.)
const MAX_ANSWER: usize = 20;
/// Buffers, and the second name of the tied bias.
const NOT_WEIGHTS: Ignored<'static> = Ignored {
    prefixes: &["text_decoder.cls.predictions.decoder.bias"],
    buffers: &["position_ids"],
};

/// A [`QuestionAnswerer`] that writes its answers.
pub struct BlipVqa {
    model: BlipModel,
    config: BlipConfig,
    tokenizer: BertTokenizer,
    preprocess: PicturePreprocessor,
    weights: WeightsSource,
    compute: Compute,
}

impl BlipVqa {
    /// Loads a published folder: `config.json`, the weights, `tokenizer.json` and
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// When a file cannot be read, or the files do not fit each other.
    pub fn load(folder: impl AsRef<Path>, compute: &Compute) -> Result<Self, BlipError> {
        let folder = folder.as_ref();
        let config = BlipConfig::from_file(&folder.join("config.json"))?;
        let checkpoint = Arc::new(Checkpoint::open(folder)?);
        let weights = WeightsSource::from_checkpoint(checkpoint.clone());
        let params = Params::new(checkpoint, compute.dtype, &compute.device);
        let model = BlipModel::load(&params, &config)?;
        params.finish("BlipForQuestionAnswering", NOT_WEIGHTS)?;
        let preprocess = PicturePreprocessor::from_file(folder.join("preprocessor_config.json"))?;
        let tokenizer = BertTokenizer::from_folder(folder, config.text_config.vocab_size)?;
        Ok(Self {
            model,
            config,
            tokenizer,
            preprocess,
            weights,
            compute: compute.clone(),
        })
    }

    /// The sizes that it was built with.
    pub fn config(&self) -> &BlipConfig {
        &self.config
    }

    /// The networks.
    pub fn model(&self) -> &BlipModel {
        &self.model
    }

    /// The preprocessing that it was published with.
    pub fn preprocess(&self) -> &PicturePreprocessor {
        &self.preprocess
    }

    /// States of `picture`, `[1, 1 + patches, hidden]`: what every question about it looks at.
    ///
    /// # Errors
    /// When the picture cannot be preprocessed, or the device fails.
    pub fn look(&self, picture: &RgbImage) -> Result<Tensor, BlipError> {
        let values = self.preprocess.apply_batch([picture])?;
        let shape = values.dim();
        let (values, _) = values.into_raw_vec_and_offset();
        let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?
            .to_dtype(self.compute.dtype)?
            .to_device(&self.compute.device)?;
        Ok(self.model.vision().forward(&pixels)?)
    }

    /// Token ids of `questions`, start and end included.
    ///
    /// # Errors
    /// When a question is empty or longer than the model's positions.
    pub fn tokenize(&self, questions: &[&str]) -> Result<Vec<Vec<u32>>, VqaError> {
        /// Start and end.
        const AROUND: usize = 2;
        let room = self.model.positions();
        let tokens = self
            .tokenizer
            .encode(questions, usize::MAX)
            .map_err(BlipError::from)?;
        tokens
            .into_iter()
            .enumerate()
            .map(|(index, tokens)| match tokens.ids.len() {
                length if length <= AROUND => Err(VqaError::EmptyQuestion { index }),
                length if length > room => Err(VqaError::QuestionTooLong {
                    index,
                    question: questions[index].to_owned(),
                    tokens: length - AROUND,
                    room: room.saturating_sub(AROUND),
                }),
                _ => Ok(tokens.ids),
            })
            .collect()
    }

    /// Reads `questions` about a picture whose states are `seen`.
    ///
    /// # Errors
    /// As [`BlipVqa::tokenize`], and when the device fails.
    pub fn read(&self, seen: &Tensor, questions: &[&str]) -> Result<Questions, VqaError> {
        let rows = PaddedIds::new(
            &self.tokenize(questions)?,
            self.config.text_config.pad_token_id,
        );
        Ok(self.model.read_questions(seen, &rows)?)
    }

    /// The words of an answer.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn words(&self, answer: &DecodedAnswer) -> Result<String, BlipError> {
        let end = self.config.text_config.sep_token_id;
        let ids = answer.ids.strip_suffix(&[end]).unwrap_or(&answer.ids);
        Ok(self.tokenizer.decode(ids)?)
    }
}

impl QuestionAnswerer for BlipVqa {
    fn answer(&self, picture: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let seen = self.look(picture)?;
        let mut answers = Vec::with_capacity(questions.len());
        for (chunk, questions) in questions.chunks(QUESTIONS_AT_A_TIME).enumerate() {
            let read = self
                .read(&seen, questions)
                .map_err(|error| in_whole_list(error, chunk * QUESTIONS_AT_A_TIME))?;
            for answer in self.model.answer(&read, MAX_ANSWER, false)? {
                if !answer.probability.is_finite() {
                    return Err(VqaError::NotFinite {
                        model: NAME,
                        picture: 0,
                        path: self.weights.location().into(),
                    });
                }
                answers.push(Answer::new(self.words(&answer)?, Some(answer.probability)));
            }
        }
        Ok(answers)
    }

    fn info(&self) -> AnswererInfo {
        AnswererInfo {
            name: NAME.to_owned(),
            model: "BlipForQuestionAnswering".to_owned(),
            weights: self.weights.clone(),
        }
    }
}

/// The error with the question's index in the whole list, of which a part starts at `start`.
fn in_whole_list(error: VqaError, start: usize) -> VqaError {
    match error {
        VqaError::EmptyQuestion { index } => VqaError::EmptyQuestion {
            index: start + index,
        },
        VqaError::QuestionTooLong {
            index,
            question,
            tokens,
            room,
        } => VqaError::QuestionTooLong {
            index: start + index,
            question,
            tokens,
            room,
        },
        other => other,
    }
}
