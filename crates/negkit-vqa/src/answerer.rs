//! The trait that every score takes its answers from.

use image::RgbImage;
use negkit_text::WeightsSource;

use crate::VqaError;

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
///         let yes = Answer { text: "yes".into(), confidence: None };
///         Ok(vec![yes; questions.len()])
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

    /// What this answerer is.
    fn info(&self) -> AnswererInfo;
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer in the model's words, such as `yes` or `red`.
    pub text: String,
    /// Its probability in 0..=1, where the model gives one.
    pub confidence: Option<f32>,
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
