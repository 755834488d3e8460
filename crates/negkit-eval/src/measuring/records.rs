//! What is kept of a benchmark with one training of an encoder.

use negkit_benchmarks::{Average, Measure, Outcome, PictureProblem, Reference};
use serde::{Deserialize, Serialize};

/// A benchmark measured with one training of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRecord {
    /// Pictures that are missing or broken, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<(String, String)>,
    /// What was measured.
    pub measures: Vec<MeasureRecord>,
}

/// What became of the items of a measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureRecord {
    /// Its name.
    pub name: String,
    /// How it is averaged.
    pub average: Average,
    /// A letter an item: 1 right, 0 wrong, - without its picture.
    pub outcomes: String,
    /// What every item is drawn with; empty where it is drawn alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<u32>,
    /// The group of every item, where groups are averaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// What guessing gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
}

impl MeasuredRecord {
    pub(super) fn new(problems: &[PictureProblem], measures: Vec<Measure>) -> Self {
        let problems = problems.iter();
        Self {
            problems: problems
                .map(|one| (one.picture.clone(), one.problem.clone()))
                .collect(),
            measures: measures.into_iter().map(MeasureRecord::from).collect(),
        }
    }
}

impl From<Measure> for MeasureRecord {
    fn from(measure: Measure) -> Self {
        let letters = measure.outcomes.iter().map(|outcome| match outcome {
            Outcome::Right => '1',
            Outcome::Wrong => '0',
            Outcome::Unscored => '-',
        });
        Self {
            outcomes: letters.collect(),
            name: measure.name,
            average: measure.average,
            clusters: measure.clusters,
            groups: measure.groups,
            reference: measure.reference,
        }
    }
}

impl MeasureRecord {
    /// 1, 0 or nothing for every item; `None` for letters that are none of these.
    pub(super) fn values(&self) -> Option<Vec<Option<f64>>> {
        let value = |letter: char| match letter {
            '1' => Some(Some(1.)),
            '0' => Some(Some(0.)),
            '-' => Some(None),
            _ => None,
        };
        self.outcomes.chars().map(value).collect()
    }
}
