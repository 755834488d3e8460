//! TIFA: whether a picture answers questions about its caption rightly.
//!
//! A model answers freely; [`choose`] makes one of the choices of it, [`QuestionScore`] says whether
//! it is the right one, and [`TifaScore`] takes the means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::check_values;
use crate::{
    Bootstrap, Clusters, Interval, ItemValue, MetricsError, mean, sample_deviation, share,
};

const METRIC: &str = "TIFA";

/// Finds the choice that says most nearly what an answer says.
pub trait ChoiceMatcher {
    /// What can go wrong.
    type Error;

    /// The index of the choice nearest to `answer`; the first of equals.
    ///
    /// # Errors
    /// When there are no choices, or they cannot be compared.
    fn nearest(&self, answer: &str, choices: &[String]) -> Result<usize, Self::Error>;
}

/// Matches by the cosine of sentence embeddings, as TIFA does with SBERT (`mc_sbert.py`). The
/// embedding is a function from texts to one vector each, such as a sentence encoder's; it need not be
/// normalised.
#[derive(Debug, Clone)]
pub struct EmbeddingMatcher<F> {
    embed: F,
}

impl<F> EmbeddingMatcher<F> {
    /// A matcher by this embedding.
    pub fn new(embed: F) -> Self {
        Self { embed }
    }
}

/// Why an answer has no nearest choice.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MatchError<E> {
    /// The embedding failed.
    #[error(transparent)]
    Embedding(E),
    /// Embeddings that cannot be compared.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl<F, E> ChoiceMatcher for EmbeddingMatcher<F>
where
    F: Fn(&[&str]) -> Result<Vec<Vec<f32>>, E>,
{
    type Error = MatchError<E>;

    fn nearest(&self, answer: &str, choices: &[String]) -> Result<usize, Self::Error> {
        if choices.is_empty() {
            return Err(no_choices().into());
        }
        let texts: Vec<&str> = std::iter::once(answer)
            .chain(choices.iter().map(String::as_str))
            .collect();
        let embedded = (self.embed)(&texts).map_err(MatchError::Embedding)?;
        Ok(nearest_embedding(texts.len(), &embedded)?)
    }
}

fn no_choices() -> MetricsError {
    MetricsError::NoValues {
        metric: "choices of an answer",
        index: None,
    }
}

/// The index after the first of the vector with the greatest cosine to the first.
fn nearest_embedding(texts: usize, embedded: &[Vec<f32>]) -> Result<usize, MetricsError> {
    const METRIC: &str = "embedding of an answer";
    crate::error::check_length(METRIC, "vectors", texts, embedded.len())?;
    let Some((answer, choices)) = embedded.split_first() else {
        return Err(no_choices());
    };
    let answer = normalised(answer)?;
    let mut best = (0, f64::NEG_INFINITY);
    for (index, choice) in choices.iter().enumerate() {
        crate::error::check_length(METRIC, "numbers in each vector", answer.len(), choice.len())?;
        let choice = normalised(choice)?;
        let cosine: f64 = answer.iter().zip(&choice).map(|(a, b)| a * b).sum();
        if cosine > best.1 {
            best = (index, cosine);
        }
    }
    Ok(best.0)
}

fn normalised(vector: &[f32]) -> Result<Vec<f64>, MetricsError> {
    let vector: Vec<f64> = vector.iter().map(|value| f64::from(*value)).collect();
    check_values("embedding of an answer", &vector)?;
    // PyTorch's `normalize` divides by no less than this.
    let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
    Ok(vector.into_iter().map(|value| value / norm).collect())
}

/// The choice that a free answer stands for: the answer itself where it is one of them, letter for
/// letter, else the nearest (`multiple_choice_vqa` of the reference tool). The matcher is asked only
/// then.
///
/// # Errors
/// When the matcher fails, or names a choice that is not there.
pub fn choose<'a, M: ChoiceMatcher>(
    answer: &str,
    choices: &'a [String],
    matcher: &M,
) -> Result<&'a str, ChooseError<M::Error>> {
    if let Some(same) = choices.iter().find(|choice| *choice == answer) {
        return Ok(same);
    }
    if choices.is_empty() {
        return Err(ChooseError::NoChoices);
    }
    let index = matcher
        .nearest(answer, choices)
        .map_err(ChooseError::Matcher)?;
    let choice = choices.get(index).ok_or(ChooseError::NoSuchChoice {
        index,
        choices: choices.len(),
    })?;
    Ok(choice)
}

/// Why no choice was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChooseError<E> {
    /// A question without choices.
    #[error("a question has no choices; a multiple-choice question needs one or more")]
    NoChoices,
    /// The matcher's own.
    #[error(transparent)]
    Matcher(E),
    /// The matcher is broken.
    #[error("the matcher chose choice {index} of {choices}; expected an index below {choices}")]
    NoSuchChoice {
        /// What it chose.
        index: usize,
        /// How many there are.
        choices: usize,
    },
}

/// One question about one picture, answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionScore {
    /// Id of the caption.
    pub caption: String,
    /// Which of the caption's pictures, such as its seed.
    pub picture: u64,
    /// What the question is about: `object`, `color`, `counting` …
    pub element_type: String,
    /// Whether the choice is the right one.
    pub right: bool,
}

/// The questions of one type.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TypeScore {
    /// Share of right answers, drawing captions for the interval.
    pub accuracy: Interval,
    /// Questions that were asked, over all pictures.
    pub questions: usize,
}

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

/// TIFA with its intervals and parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TifaReport {
    /// Mean over captions.
    pub average: Interval,
    /// Sample standard deviation over captions; `None` for one caption.
    pub deviation: Option<f64>,
    /// Every caption: the mean over its questions, then over its pictures.
    pub captions: BTreeMap<String, f64>,
    /// Every element type: the mean over all its questions, whatever their caption, as the reference
    /// tool has it.
    pub types: BTreeMap<String, TypeScore>,
}

impl TifaReport {
    /// From the questions of all pictures, in any order.
    ///
    /// # Errors
    /// When there are none, or the bootstrap's settings make no sense.
    pub fn new(questions: &[QuestionScore], bootstrap: &Bootstrap) -> Result<Self, MetricsError> {
        let mut captions = BTreeMap::<&str, Vec<f64>>::new();
        for picture in picture_scores(questions) {
            captions
                .entry(picture.cluster)
                .or_default()
                .push(picture.value);
        }
        let captions = captions
            .into_iter()
            .map(|(caption, pictures)| Ok((caption.to_owned(), mean(&pictures)?)))
            .collect::<Result<BTreeMap<_, _>, MetricsError>>()?;
        let mut types = BTreeMap::<&str, Vec<&QuestionScore>>::new();
        for question in questions {
            types
                .entry(&question.element_type)
                .or_default()
                .push(question);
        }
        let values: Vec<f64> = captions.values().copied().collect();
        check_values(METRIC, &values)?;
        let types = types
            .into_iter()
            .map(|(name, questions)| Ok((name.to_owned(), type_score(&questions, bootstrap)?)))
            .collect::<Result<_, MetricsError>>()?;
        Ok(Self {
            average: bootstrap.mean(&values)?,
            deviation: sample_deviation(&values)?,
            captions,
            types,
        })
    }
}

/// The share of right questions of every picture, by caption and picture: what
/// [`PairedScores`](crate::PairedScores) compares two encoders by.
pub fn picture_scores(questions: &[QuestionScore]) -> Vec<ItemValue<&str, u64>> {
    let mut pictures = BTreeMap::<(&str, u64), Vec<bool>>::new();
    for question in questions {
        let key = (question.caption.as_str(), question.picture);
        pictures.entry(key).or_default().push(question.right);
    }
    pictures
        .into_iter()
        .map(|((cluster, item), right)| ItemValue {
            cluster,
            item,
            value: share(right.into_iter()),
        })
        .collect()
}

fn type_score(
    questions: &[&QuestionScore],
    bootstrap: &Bootstrap,
) -> Result<TypeScore, MetricsError> {
    let clusters = Clusters::by_label(questions.iter().map(|question| &question.caption));
    let accuracy = bootstrap.share(&clusters, |item| questions[item].right)?;
    Ok(TypeScore {
        accuracy,
        questions: questions.len(),
    })
}

/// TIFA ("TIFA: Accurate and Interpretable Text-to-Image Faithfulness Evaluation with Question
/// Answering", Hu et al., 2023; `tifascore/tifa_score.py`): the mean over the questions of a
/// caption, then over captions. `captions[caption][question]` is 1 for a right answer, else 0.
///
/// # Errors
/// When there are no captions, one has no questions, or a value is not finite.
pub fn tifa_score<C: AsRef<[f64]>>(captions: &[C]) -> Result<TifaScore, MetricsError> {
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
