//! Training of mini-vqa: which answer of a closed list is right.

use std::path::Path;

use candle_core::{Device, Tensor};
use negkit_nn::Ignored;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_vqa::mini::{MiniVqaConfig, MiniVqaModel, tokenize_questions};
use serde_json::{Value, json};

use super::classes::{count_right, cross_entropy};
use super::detector::label_scores;
use super::export::{TOKENIZER_FILES, TRANSFORMERS_WEIGHTS, copy_files, write_model};
use super::split::chunks;
use crate::{ParamStore, StepLoss, Task, TrainError};

/// Name of the model in messages.
const MODEL: &str = "the mini-vqa in training";

/// Pictures with questions, as many for each picture.
#[derive(Debug, Clone)]
pub struct VqaBatch {
    /// Preprocessed pixels `[n, 3, side, side]`, f32.
    pub pixels: Tensor,
    /// `n * q` questions as rows of token ids, those of the first picture first.
    pub questions: Vec<Vec<u32>>,
    /// Index of every question's right answer in the configuration's list.
    pub answers: Vec<u32>,
    /// Kind and colour of every cell of the pictures, as in a [`DetectorBatch`]: the vision part
    /// learns them, too. From answers alone it takes ten times as long to see small things.
    ///
    /// [`DetectorBatch`]: super::detector::DetectorBatch
    pub cells: (Vec<u32>, Vec<u32>),
}

impl VqaBatch {
    /// A batch of questions and answers in words; `examples` holds `n * q` of them, those of the
    /// first picture first.
    ///
    /// # Errors
    /// When a question is empty or too long for the model, or it cannot give an answer.
    pub fn from_words(
        pixels: Tensor,
        cells: (Vec<u32>, Vec<u32>),
        examples: &[(&str, &str)],
        config: &MiniVqaConfig,
        tokenizer: &ClipTokenizer,
    ) -> Result<Self, TrainError> {
        let questions: Vec<&str> = examples.iter().map(|(question, _)| *question).collect();
        let positions = config.question_config.max_position_embeddings;
        let answers = examples.iter().map(|(question, answer)| {
            let index = config.answer_index(answer).ok_or_else(|| {
                TrainError::Task(format!(
                    "has the answer '{answer}' to '{question}', which is none of the {} answers of \
                     the configuration",
                    config.answers.len()
                ))
            })?;
            Ok(index as u32)
        });
        Ok(Self {
            answers: answers.collect::<Result<_, TrainError>>()?,
            questions: tokenize_questions(tokenizer, &questions, positions)
                .map_err(TrainError::other)?,
            pixels,
            cells,
        })
    }
}

/// Where the pictures, questions and answers come from.
pub trait VqaData: Sync {
    /// The batch of step `step`: a pure function of the step.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn batch(&self, step: u64) -> Result<VqaBatch, TrainError>;

    /// Held-out batches, the same at every call.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn validation(&self) -> Result<Vec<VqaBatch>, TrainError>;

    /// Further scores of a model, which are logged and decide nothing.
    ///
    /// # Errors
    /// When the data cannot be read or the model cannot be run.
    fn scores(&self, _model: &MiniVqaModel) -> Result<Vec<(&'static str, f64)>, TrainError> {
        Ok(Vec::new())
    }

    /// What [`Task::recipe`] shall say of the data.
    fn recipe(&self) -> Value {
        Value::Null
    }
}

/// Trains a [`MiniVqaModel`].
pub struct VqaTask<D> {
    trained: MiniVqaModel,
    /// The same parameters without gradients.
    model: MiniVqaModel,
    config: MiniVqaConfig,
    device: Device,
    data: D,
}

impl<D: VqaData> VqaTask<D> {
    /// A task over the parameters of `store`.
    ///
    /// # Errors
    /// When the store's tensors do not fit the configuration.
    pub fn new(store: &ParamStore, config: &MiniVqaConfig, data: D) -> Result<Self, TrainError> {
        let params = store.params();
        let trained = MiniVqaModel::load(&params, config)?;
        params.finish(MODEL, Ignored::default())?;
        Ok(Self {
            trained,
            model: MiniVqaModel::load(&store.detached_params(), config)?,
            config: config.clone(),
            device: store.device().clone(),
            data,
        })
    }

    /// The model in training, as it serves: without gradients.
    pub fn model(&self) -> &MiniVqaModel {
        &self.model
    }

    /// The mean loss of a batch, and how many answers are right.
    fn score(&self, model: &MiniVqaModel, batch: &VqaBatch) -> Result<(Tensor, usize), TrainError> {
        let (questions, answers) = (batch.questions.len(), batch.answers.len());
        if questions == 0 || questions != answers {
            return Err(TrainError::Task(format!(
                "has {answers} answers to {questions} questions in a batch, expected as many, and \
                 at least one"
            )));
        }
        let known = self.config.answers.len() as u32;
        if let Some(outside) = batch.answers.iter().find(|answer| **answer >= known) {
            return Err(TrainError::Task(format!(
                "has the answer {outside} in a batch, the configuration lists {known}"
            )));
        }
        let pixels = batch.pixels.to_device(&self.device)?;
        let (pictures, labels) = model.encode_and_label(&pixels)?;
        let logits = model.answer_logits(&pictures, &batch.questions)?;
        let wanted = Tensor::new(&batch.answers[..], &self.device)?;
        let mut loss = cross_entropy(&logits, &wanted)?.mean_all()?;
        let (kinds, colours) = &batch.cells;
        let cells = labels.kinds.elem_count() / labels.kinds.dim(1)?;
        if (kinds.len(), colours.len()) != (cells, cells) {
            return Err(TrainError::Task(format!(
                "has {} kinds and {} colours for {cells} cells in a batch, expected as many",
                kinds.len(),
                colours.len()
            )));
        }
        loss = (loss + label_scores(&labels, kinds, colours)?.loss)?;
        Ok((loss, count_right(&logits, &batch.answers)?))
    }
}

impl<D: VqaData> Task for VqaTask<D> {
    type Batch = VqaBatch;

    fn batch(&self, step: u64) -> Result<VqaBatch, TrainError> {
        self.data.batch(step)
    }

    fn split(&self, batch: VqaBatch, parts: usize) -> Result<Vec<VqaBatch>, TrainError> {
        let pixels = chunks(&batch.pixels, parts)?;
        let each = batch.answers.len() / parts;
        let texts = batch.questions.chunks_exact(each);
        let pairs = texts.zip(batch.answers.chunks_exact(each));
        Ok(pixels
            .into_iter()
            .zip(pairs)
            .enumerate()
            .map(|(i, (pixels, (questions, answers)))| VqaBatch {
                pixels,
                questions: questions.to_vec(),
                answers: answers.to_vec(),
                cells: {
                    let (kinds, colours) = &batch.cells;
                    let each = kinds.len() / parts;
                    let own = i * each..(i + 1) * each;
                    (kinds[own.clone()].to_vec(), colours[own].to_vec())
                },
            })
            .collect())
    }

    fn loss(&self, batch: VqaBatch) -> Result<StepLoss, TrainError> {
        let (loss, right) = self.score(&self.trained, &batch)?;
        let accuracy = right as f64 / batch.answers.len() as f64;
        Ok(StepLoss {
            loss,
            metrics: vec![("accuracy", accuracy)],
        })
    }

    /// `loss` and `accuracy` over all held-out questions, then the data's own scores.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let (mut loss, mut right, mut questions) = (0., 0, 0);
        for batch in self.data.validation()? {
            let (mean, hits) = self.score(&self.model, &batch)?;
            loss += f64::from(mean.to_scalar::<f32>()?) * batch.answers.len() as f64;
            right += hits;
            questions += batch.answers.len();
        }
        if questions == 0 {
            return Err(TrainError::Task("has no held-out questions".to_owned()));
        }
        let count = questions as f64;
        let mut scores = vec![("loss", loss / count), ("accuracy", right as f64 / count)];
        scores.extend(self.data.scores(&self.model)?);
        Ok(scores)
    }

    fn recipe(&self) -> Value {
        json!({ "model": self.config, "data": self.data.recipe() })
    }
}

/// Writes a folder that [`negkit_vqa::mini::MiniVqa::load`] takes: `config.json`, the tokenizer in the
/// folder `tokenizer`, and the parameters in f16.
///
/// # Errors
/// When a file cannot be read or written.
pub fn export_vqa(
    store: &ParamStore,
    config: &MiniVqaConfig,
    tokenizer: &Path,
    folder: &Path,
) -> Result<(), TrainError> {
    copy_files(tokenizer, folder, &TOKENIZER_FILES)?;
    let config = format!("{:#}\n", json!(config));
    write_model(store, &config, folder, TRANSFORMERS_WEIGHTS)
}
