//! The trait that every score takes its answers from.

use image::RgbImage;
use negkit_text::WeightsSource;
use serde::{Deserialize, Serialize};

use crate::VqaError;

/// The choices of a question that is answered with yes or no.
pub const YES_NO: [&str; 2] = ["yes", "no"];

/// Answers questions about pictures.
///
/// ```
/// use image::RgbImage;
/// use negkit_text::WeightsSource;
/// use negkit_vqa::{Answer, AnswererInfo, QuestionAnswerer, VqaError};
///
/// /// Says yes to everything, as a model with a bias would.
/// struct YesMan;
///
/// impl QuestionAnswerer for YesMan {
///     fn answer(&self, _: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError> {
///         Ok(vec![Answer::new("yes", None); questions.len()])
///     }
///     fn info(&self) -> AnswererInfo {
///         AnswererInfo {
///             name: "yes man".into(),
///             model: "none".into(),
///             weights: WeightsSource::new("no weights", None),
///         }
///     }
/// }
///
/// let answers = YesMan.answer(&RgbImage::new(8, 8), &["is it day?"])?;
/// assert_eq!(answers[0].text, "yes");
/// # Ok::<(), VqaError>(())
/// ```
pub trait QuestionAnswerer: Send + Sync {
    /// Answers each of `questions` about `picture`, in their order. No questions, no answers.
    ///
    /// # Errors
    /// When a question is empty or too long, the picture cannot be used, or the model fails.
    fn answer(&self, picture: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError>;

    /// Answers questions about several pictures: for each picture, in their order, one answer a
    /// question. A model that computes batches faster than singles does so here.
    ///
    /// # Errors
    /// As [`QuestionAnswerer::answer`]; one failure fails the batch.
    fn answer_batch(
        &self,
        pictures: &[(&RgbImage, &[&str])],
    ) -> Result<Vec<Vec<Answer>>, VqaError> {
        pictures
            .iter()
            .map(|(picture, questions)| self.answer(picture, questions))
            .collect()
    }

    /// As [`QuestionAnswerer::answer`], with all that is known of what is asked: which picture it is
    /// and which answers there are to choose from. A model that only looks and answers freely needs
    /// neither and leaves this as it is; a recording knows pictures by their keys alone, and a chat
    /// model is told the choices. Those who score ask in this way.
    ///
    /// # Errors
    /// As [`QuestionAnswerer::answer`].
    fn inquire(&self, inquiry: &Inquiry<'_>) -> Result<Vec<Answer>, VqaError> {
        self.answer(inquiry.picture, &inquiry.texts())
    }

    /// As [`QuestionAnswerer::inquire`], of several pictures.
    ///
    /// # Errors
    /// As [`QuestionAnswerer::inquire`]; one failure fails the batch.
    fn inquire_batch(&self, inquiries: &[Inquiry<'_>]) -> Result<Vec<Vec<Answer>>, VqaError> {
        inquiries.iter().map(|each| self.inquire(each)).collect()
    }

    /// What this answerer is.
    fn info(&self) -> AnswererInfo;
}

/// A question, and what it may be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The question.
    pub text: &'a str,
    /// The answers to choose from; none leave the words to the model.
    pub choices: &'a [&'a str],
}

impl<'a> Question<'a> {
    /// A question that is answered in the model's own words.
    pub fn free(text: &'a str) -> Self {
        Self { text, choices: &[] }
    }

    /// A question that is answered with yes or no.
    pub fn yes_no(text: &'a str) -> Self {
        Self {
            text,
            choices: &YES_NO,
        }
    }
}

/// What is asked about one picture.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The picture.
    pub picture: &'a RgbImage,
    /// What the picture is called wherever answers are stored: an id of its dataset or its path
    /// within the run, the same on every machine.
    pub key: Option<&'a str>,
    /// The questions.
    pub questions: &'a [Question<'a>],
}

impl<'a> Inquiry<'a> {
    /// The questions without their choices.
    pub fn texts(&self) -> Vec<&'a str> {
        self.questions.iter().map(|each| each.text).collect()
    }
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer in the model's words, such as `yes` or `red`. Empty when it was refused, so that
    /// nothing that was not understood is ever scored as an answer.
    pub text: String,
    /// Its probability in 0..=1, where the model gives one.
    pub confidence: Option<f32>,
    /// Why what the model said is no answer to the question, where it is none.
    pub refusal: Option<Refusal>,
}

impl Answer {
    /// An answer.
    pub fn new(text: impl Into<String>, confidence: Option<f32>) -> Self {
        Self {
            text: text.into(),
            confidence,
            refusal: None,
        }
    }

    /// What a model said that is no answer.
    pub fn refused(refusal: Refusal) -> Self {
        Self {
            text: String::new(),
            confidence: None,
            refusal: Some(refusal),
        }
    }
}

/// Words of a model from which no answer can be read without guessing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong with them.
    pub reason: RefusalReason,
    /// The words.
    pub raw: String,
}

/// Why words are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalReason {
    /// There are no words.
    #[error("there are no words")]
    Empty,
    /// Neither the word yes nor the word no is the answer.
    #[error("it is neither yes nor no")]
    NeitherYesNorNo,
    /// It names none of the choices.
    #[error("it is none of the choices")]
    NoChoice,
    /// It names more than one of the choices.
    #[error("it names more than one of the choices")]
    SeveralChoices,
    /// It is a text where a word or a short phrase was asked for.
    #[error("it is a text, not a short phrase")]
    TooLong,
    /// The model was stopped before it had finished.
    #[error("it was cut off")]
    CutOff,
}

/// What an answerer is: enough to name it in a result.
#[derive(Debug, Clone)]
pub struct AnswererInfo {
    /// Name to show.
    pub name: String,
    /// The kind of model, such as `mini-vqa`.
    pub model: String,
    /// Where the weights came from, or where the model runs.
    pub weights: WeightsSource,
}
