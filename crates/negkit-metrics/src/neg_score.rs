//! Neg Score: whether a painted picture holds what a prompt affirms and lacks what it negates.

use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Interval, MetricsError, share};

/// What was seen in one picture of a prompt such as "a man without a hat".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NegAnswers {
    /// The affirmed question ("is this a man?") was answered yes.
    pub affirmed: bool,
    /// The negated question ("is the man wearing a hat?") was answered no.
    pub negated: bool,
}

impl NegAnswers {
    /// From the answers to the affirmed and to the negated question. An answer that is neither yes
    /// nor no fulfils neither.
    pub fn from_answers(affirmed: &str, negated: &str) -> Self {
        Self {
            affirmed: yes_or_no(affirmed) == Some(true),
            negated: yes_or_no(negated) == Some(false),
        }
    }

    /// Both hold: the picture scores.
    pub fn both(self) -> bool {
        self.affirmed && self.negated
    }
}

/// Whether an answer says yes (`true`) or no (`false`): by its first word, whatever its case and
/// punctuation.
pub fn yes_or_no(answer: &str) -> Option<bool> {
    let first = answer
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty())?;
    if first.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if first.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

/// Shares over the pictures of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PromptScore {
    /// Pictures in which both hold.
    pub score: f64,
    /// Pictures in which the affirmed thing was seen.
    pub affirmed: f64,
    /// Pictures in which the negated thing was not seen.
    pub negated: f64,
}

/// Neg Score over prompts, with its two parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NegScore {
    /// Mean over prompts of [`PromptScore::score`].
    pub score: f64,
    /// Mean over prompts of [`PromptScore::affirmed`].
    pub affirmed: f64,
    /// Mean over prompts of [`PromptScore::negated`].
    pub negated: f64,
    /// Every prompt, for intervals.
    pub prompts: Vec<PromptScore>,
}

/// Neg Score and its parts with intervals, drawing prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NegScoreIntervals {
    /// Of [`NegScore::score`].
    pub score: Interval,
    /// Of [`NegScore::affirmed`].
    pub affirmed: Interval,
    /// Of [`NegScore::negated`].
    pub negated: Interval,
}

impl NegScore {
    /// The intervals of the score and its parts.
    ///
    /// # Errors
    /// When the bootstrap's settings make no sense.
    pub fn intervals(&self, bootstrap: &Bootstrap) -> Result<NegScoreIntervals, MetricsError> {
        let part = |part: fn(&PromptScore) -> f64| {
            let values: Vec<f64> = self.prompts.iter().map(part).collect();
            bootstrap.mean(&values)
        };
        Ok(NegScoreIntervals {
            score: part(|prompt| prompt.score)?,
            affirmed: part(|prompt| prompt.affirmed)?,
            negated: part(|prompt| prompt.negated)?,
        })
    }
}

/// Neg Score: a picture scores 1 when the affirmed question is answered yes *and* the negated one
/// no; the mean over the pictures of a prompt, then over prompts. `prompts[prompt][picture]`.
///
/// # Errors
/// When there are no prompts, or one has no pictures.
pub fn neg_score<P: AsRef<[NegAnswers]>>(prompts: &[P]) -> Result<NegScore, MetricsError> {
    const METRIC: &str = "Neg Score";
    let empty = |index| MetricsError::NoValues {
        metric: METRIC,
        index,
    };
    if prompts.is_empty() {
        return Err(empty(None));
    }
    let prompts: Vec<PromptScore> = prompts
        .iter()
        .enumerate()
        .map(|(index, pictures)| match pictures.as_ref() {
            [] => Err(empty(Some(index))),
            pictures => Ok(PromptScore {
                score: share(pictures.iter().map(|picture| picture.both())),
                affirmed: share(pictures.iter().map(|picture| picture.affirmed)),
                negated: share(pictures.iter().map(|picture| picture.negated)),
            }),
        })
        .collect::<Result<_, _>>()?;
    let over = |part: fn(&PromptScore) -> f64| {
        prompts.iter().map(part).sum::<f64>() / prompts.len() as f64
    };
    Ok(NegScore {
        score: over(|prompt| prompt.score),
        affirmed: over(|prompt| prompt.affirmed),
        negated: over(|prompt| prompt.negated),
        prompts,
    })
}
