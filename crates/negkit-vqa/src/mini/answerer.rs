//! mini-vqa with its tokenizer and preprocessing.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_checkpoint::Checkpoint;
use negkit_image::PicturePreprocessor;
use negkit_nn::{Compute, Ignored, Params, ops};
use negkit_text::WeightsSource;
use negkit_text::tokenizer::ClipTokenizer;

use super::config::{MODEL_TYPE, MiniVqaConfig};
use super::model::MiniVqaModel;
use crate::{Answer, AnswererInfo, Inquiry, QuestionAnswerer, VqaError};

/// Pictures encoded at a time: bounds memory, and is far above where a batch stops paying.
const PICTURES_AT_A_TIME: usize = 32;

/// A [`QuestionAnswerer`] that picks from the answers of its configuration.
pub struct MiniVqa {
    model: MiniVqaModel,
    config: MiniVqaConfig,
    tokenizer: ClipTokenizer,
    preprocess: PicturePreprocessor,
    weights: WeightsSource,
    compute: Compute,
}

impl MiniVqa {
    /// Loads a published folder. Pictures are preprocessed as
    /// [`DetectorConfig::preprocess`](crate::detector::DetectorConfig::preprocess) says.
    ///
    /// # Errors
    /// When a file cannot be read, or the files do not fit each other.
    pub fn load(folder: impl AsRef<Path>, compute: &Compute) -> Result<Self, VqaError> {
        let folder = folder.as_ref();
        let config = MiniVqaConfig::from_file(&folder.join("config.json"))?;
        let checkpoint = Arc::new(Checkpoint::open(folder)?);
        let weights = WeightsSource::from_checkpoint(checkpoint.clone());
        let params = Params::compute(checkpoint, compute);
        let model = MiniVqaModel::load(&params, &config)?;
        params.finish(MODEL_TYPE, Ignored::default())?;
        let preprocess = config.vision_config.preprocess();
        let tokenizer = ClipTokenizer::from_folder(folder)?;
        Self::new(model, config, tokenizer, preprocess, weights, compute)
    }

    /// An answerer of parts that belong together.
    ///
    /// # Errors
    /// When the tokenizer has more entries than the token embedding has rows.
    pub fn new(
        model: MiniVqaModel,
        config: MiniVqaConfig,
        tokenizer: ClipTokenizer,
        preprocess: PicturePreprocessor,
        weights: WeightsSource,
        compute: &Compute,
    ) -> Result<Self, VqaError> {
        let about = tokenizer.info();
        let embedding = config.question_config.vocab_size;
        if about.vocab_size > embedding {
            return Err(VqaError::VocabularyMismatch {
                origin: about.source.to_string(),
                tokenizer: about.vocab_size,
                embedding,
            });
        }
        Ok(Self {
            model,
            config,
            tokenizer,
            preprocess,
            weights,
            compute: compute.clone(),
        })
    }

    /// The sizes that it was built with, and the answers it can give.
    pub fn config(&self) -> &MiniVqaConfig {
        &self.config
    }

    /// The network.
    pub fn model(&self) -> &MiniVqaModel {
        &self.model
    }

    /// Probability of every answer of the configuration to each question, in the questions' order.
    ///
    /// # Errors
    /// As [`QuestionAnswerer::answer`].
    pub fn probabilities(
        &self,
        picture: &RgbImage,
        questions: &[&str],
    ) -> Result<Vec<Vec<f32>>, VqaError> {
        let mut rows = self.chunk_probabilities(&[(picture, questions)])?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// For each picture and each of its questions the probability of every answer.
    fn chunk_probabilities(
        &self,
        pictures: &[(&RgbImage, &[&str])],
    ) -> Result<Vec<Vec<Vec<f32>>>, VqaError> {
        let most = pictures.iter().map(|(_, q)| q.len()).max().unwrap_or(0);
        if most == 0 {
            return Ok(vec![Vec::new(); pictures.len()]);
        }
        let positions = self.config.question_config.max_position_embeddings;
        let mut ids = Vec::with_capacity(pictures.len() * most);
        for (_, questions) in pictures {
            ids.extend(tokenize_questions(&self.tokenizer, questions, positions)?);
            // A picture with fewer questions gets rows that nobody reads.
            let unread = most - questions.len();
            ids.extend(std::iter::repeat_n(
                vec![self.tokenizer.info().bos.id; positions],
                unread,
            ));
        }
        let values = self
            .preprocess
            .apply_batch(pictures.iter().map(|(picture, _)| *picture))?;
        let shape = values.dim();
        let (values, _) = values.into_raw_vec_and_offset();
        let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?
            .to_dtype(self.compute.dtype)?
            .to_device(&self.compute.device)?;
        let logits = self.model.forward(&pixels, &ids)?.to_dtype(DType::F32)?;
        let rows: Vec<Vec<f32>> = ops::softmax(&logits)?.to_vec2()?;
        let mut rows = rows.into_iter();
        pictures
            .iter()
            .enumerate()
            .map(|(picture, (_, questions))| {
                let mut own: Vec<_> = rows.by_ref().take(most).collect();
                own.truncate(questions.len());
                if own.iter().flatten().any(|p| !p.is_finite()) {
                    return Err(self.not_finite(picture));
                }
                Ok(own)
            })
            .collect()
    }

    fn not_finite(&self, picture: usize) -> VqaError {
        VqaError::NotFinite {
            model: MODEL_TYPE,
            picture,
            path: self.weights.location().into(),
        }
    }

    fn best(&self, probabilities: &[f32]) -> Answer {
        let mut best = 0;
        for (index, probability) in probabilities.iter().enumerate() {
            if *probability > probabilities[best] {
                best = index;
            }
        }
        Answer::new(
            self.config.answers[best].clone(),
            probabilities.get(best).copied(),
        )
    }
}

impl QuestionAnswerer for MiniVqa {
    fn answer(&self, picture: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError> {
        let rows = self.probabilities(picture, questions)?;
        Ok(rows.iter().map(|row| self.best(row)).collect())
    }

    fn answer_batch(
        &self,
        pictures: &[(&RgbImage, &[&str])],
    ) -> Result<Vec<Vec<Answer>>, VqaError> {
        let mut answers = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(PICTURES_AT_A_TIME) {
            for rows in self.chunk_probabilities(chunk)? {
                answers.push(rows.iter().map(|row| self.best(row)).collect());
            }
        }
        Ok(answers)
    }

    fn inquire_batch(&self, inquiries: &[Inquiry<'_>]) -> Result<Vec<Vec<Answer>>, VqaError> {
        let texts: Vec<Vec<&str>> = inquiries.iter().map(Inquiry::texts).collect();
        let pictures: Vec<(&RgbImage, &[&str])> = inquiries
            .iter()
            .zip(&texts)
            .map(|(inquiry, texts)| (inquiry.picture, texts.as_slice()))
            .collect();
        self.answer_batch(&pictures)
    }

    fn info(&self) -> AnswererInfo {
        AnswererInfo {
            name: MODEL_TYPE.to_owned(),
            model: MODEL_TYPE.to_owned(),
            weights: self.weights.clone(),
        }
    }
}

/// Questions as rows of `positions` token ids.
///
/// # Errors
/// When a question is empty, or longer than `positions - 2` tokens.
pub fn tokenize_questions(
    tokenizer: &ClipTokenizer,
    questions: &[&str],
    positions: usize,
) -> Result<Vec<Vec<u32>>, VqaError> {
    let batch = tokenizer.encode(questions, positions)?;
    for (index, tokens) in batch.token_count.iter().copied().enumerate() {
        if tokens == 0 {
            return Err(VqaError::EmptyQuestion { index });
        }
        if batch.truncated[index] {
            return Err(VqaError::QuestionTooLong {
                index,
                question: questions[index].to_owned(),
                tokens,
                room: positions - 2,
            });
        }
    }
    Ok(batch.ids)
}
