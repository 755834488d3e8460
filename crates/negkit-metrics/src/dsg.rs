//! Questions that make sense only where others were answered yes: "is the hat red?" needs a hat.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Interval, MetricsError};

const METRIC: &str = "DSG";

/// One question about one picture, answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependentAnswer {
    /// Id of the question.
    pub id: u32,
    /// Ids of the questions that must hold for this one to make sense. 0 is no question (the files
    /// of DSG write `0` where there is none).
    pub parents: Vec<u32>,
    /// Whether it was answered as the prompt has it.
    pub right: bool,
}

/// The questions of one picture.
///
/// Published code reads "a question counts only if its parents hold" in two ways, which differ where a
/// parent was answered yes though its own parent was not. Both are here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DsgScore {
    /// Share of right questions whose parents hold, and the parents' parents: the score. Of all
    /// questions, so that one which cannot be asked is wrong (README of j-min/DSG; DPG-Bench).
    pub score: f64,
    /// The same where a parent holds that was itself answered yes (the code that j-min/DSG ships).
    pub direct: f64,
    /// Share of right questions, whatever their parents.
    pub independent: f64,
    /// Share of right questions among those whose parents hold, as if the others had not been asked.
    pub asked: f64,
    /// For each question, in order, whether its parents hold.
    pub valid: Vec<bool>,
}

/// Scores the questions of one picture ("Davidsonian Scene Graph: Improving Reliability in Fine-grained
/// Evaluation for Text-to-Image Generation", Cho et al., 2024).
///
/// # Errors
/// When there are none, an id is 0 or there twice, a parent is no question, or questions depend on each
/// other in a circle.
pub fn dsg_score(answers: &[DependentAnswer]) -> Result<DsgScore, MetricsError> {
    if answers.is_empty() {
        return Err(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        });
    }
    let parents = parents(answers)?;
    let holds = holding(answers, &parents)?;
    let valid: Vec<bool> = parents
        .iter()
        .map(|parents| parents.iter().all(|parent| holds[*parent]))
        .collect();
    let direct = |parents: &Vec<usize>| parents.iter().all(|parent| answers[*parent].right);
    let count = |counts: &dyn Fn(usize) -> bool| {
        let questions = answers.iter().enumerate();
        questions
            .filter(|(q, answer)| answer.right && counts(*q))
            .count() as f64
    };
    let all = answers.len() as f64;
    let right_and_valid = count(&|question| valid[question]);
    let asked = valid.iter().filter(|valid| **valid).count();
    Ok(DsgScore {
        score: right_and_valid / all,
        direct: count(&|question| direct(&parents[question])) / all,
        independent: count(&|_| true) / all,
        // Never 0: without a circle, some question has no parents.
        asked: right_and_valid / asked as f64,
        valid,
    })
}

/// The parents of every question, by index.
fn parents(answers: &[DependentAnswer]) -> Result<Vec<Vec<usize>>, MetricsError> {
    let broken = |id: u32, problem| MetricsError::Item {
        metric: METRIC,
        item: format!("question {id}"),
        problem,
    };
    let mut indices = BTreeMap::new();
    for (index, answer) in answers.iter().enumerate() {
        if answer.id == 0 {
            return Err(broken(
                0,
                "no id; ids start at 1, since a parent 0 means none",
            ));
        }
        if indices.insert(answer.id, index).is_some() {
            return Err(broken(answer.id, "there twice"));
        }
    }
    let of = |answer: &DependentAnswer| {
        let parents = answer.parents.iter().filter(|parent| **parent != 0);
        parents
            .map(|parent| {
                let missing = || broken(*parent, "the parent of another, and missing");
                indices.get(parent).copied().ok_or_else(missing)
            })
            .collect()
    };
    answers.iter().map(of).collect()
}

/// Whether each question was answered rightly and so were all that it rests on.
fn holding(answers: &[DependentAnswer], parents: &[Vec<usize>]) -> Result<Vec<bool>, MetricsError> {
    let mut holds: Vec<Option<bool>> = vec![None; answers.len()];
    // Each round settles the questions whose parents are settled; a round that settles none has found
    // a circle.
    loop {
        let mut settled = false;
        for question in 0..answers.len() {
            let known: Option<Vec<bool>> = parents[question].iter().map(|p| holds[*p]).collect();
            if let (None, Some(parents)) = (holds[question], known) {
                let all = parents.into_iter().all(|holds| holds);
                holds[question] = Some(all && answers[question].right);
                settled = true;
            }
        }
        if !settled {
            break;
        }
    }
    let settled = holds.iter().zip(answers).map(|(holds, answer)| {
        holds.ok_or_else(|| MetricsError::Item {
            metric: METRIC,
            item: format!("question {}", answer.id),
            problem: "its own ancestor; dependencies must not form a circle",
        })
    });
    settled.collect()
}

/// DSG over prompts, each score the mean over a prompt's pictures, then over prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DsgReport {
    /// Of [`DsgScore::score`].
    pub score: Interval,
    /// Of [`DsgScore::direct`].
    pub direct: Interval,
    /// Of [`DsgScore::independent`].
    pub independent: Interval,
    /// Of [`DsgScore::asked`].
    pub asked: Interval,
}

impl DsgReport {
    /// From the pictures of every prompt: `prompts[prompt][picture]`.
    ///
    /// # Errors
    /// When there are no prompts, one has no pictures, or the bootstrap's settings make no sense.
    pub fn new<P: AsRef<[DsgScore]>>(
        prompts: &[P],
        bootstrap: &Bootstrap,
    ) -> Result<Self, MetricsError> {
        let of = |part: fn(&DsgScore) -> f64| {
            let means = prompts.iter().enumerate().map(|(index, pictures)| {
                let pictures = pictures.as_ref();
                if pictures.is_empty() {
                    return Err(MetricsError::NoValues {
                        metric: METRIC,
                        index: Some(index),
                    });
                }
                Ok(pictures.iter().map(part).sum::<f64>() / pictures.len() as f64)
            });
            let means: Vec<f64> = means.collect::<Result<_, _>>()?;
            bootstrap.mean(&means)
        };
        Ok(Self {
            score: of(|picture| picture.score)?,
            direct: of(|picture| picture.direct)?,
            independent: of(|picture| picture.independent)?,
            asked: of(|picture| picture.asked)?,
        })
    }
}
