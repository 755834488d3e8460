//! TIFA: whether a picture answers questions about its caption rightly.

use serde::Serialize;

use crate::error::check_values;
use crate::{MetricsError, mean, sample_deviation};

/// TIFA over captions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TifaScore {
    /// Mean over captions.
    pub average: f64,
    /// Sample standard deviation over captions; `None` for one caption.
    pub deviation: Option<f64>,
    /// Mean over the questions of every caption, for intervals.
    pub captions: Vec<f64>,
}

/// TIFA ("TIFA: Accurate and Interpretable Text-to-Image Faithfulness Evaluation with Question
/// Answering", Hu et al., 2023; `tifascore/tifa_score.py`): the mean over the questions of a
/// caption, then over captions. `captions[caption][question]` is 1 for a right answer, else 0.
///
/// # Errors
/// When there are no captions, one has no questions, or a value is not finite.
pub fn tifa_score<C: AsRef<[f64]>>(captions: &[C]) -> Result<TifaScore, MetricsError> {
    const METRIC: &str = "TIFA";
    let captions: Vec<f64> = captions
        .iter()
        .enumerate()
        .map(|(index, questions)| match questions.as_ref() {
            [] => Err(MetricsError::NoValues {
                metric: METRIC,
                index: Some(index),
            }),
            questions => mean(questions),
        })
        .collect::<Result<_, _>>()?;
    check_values(METRIC, &captions)?;
    Ok(TifaScore {
        average: mean(&captions)?,
        deviation: sample_deviation(&captions)?,
        captions,
    })
}
