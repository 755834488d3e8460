//! What a benchmark is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lists::PictureInput;
use crate::{BenchmarkError, Result, Vectors};

/// A benchmark: what is shown to an encoder, and what is right.
pub trait Benchmark: Send + Sync {
    /// What it shows.
    fn content(&self) -> &Content;

    /// What is right, given a vector for every picture and text, in their order. Items whose picture is
    /// missing are not scored.
    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure>;

    /// What it is.
    fn info(&self) -> &BenchmarkInfo {
        &self.content().info
    }

    /// The pictures that are encoded, each once.
    fn pictures(&self) -> &[PictureInput] {
        &self.content().pictures
    }

    /// The texts that are encoded, each once: equal texts have one vector, so that they tie.
    fn texts(&self) -> &[String] {
        &self.content().texts
    }

    /// [`Benchmark::measures`], once it is certain that there is a vector, or a gap, for every picture
    /// and text.
    ///
    /// # Errors
    /// When there are not as many vectors.
    fn score(&self, pictures: &Vectors, texts: &Vectors) -> Result<Vec<Measure>> {
        let sides = [
            ("pictures", self.pictures().len(), pictures.len()),
            ("texts", self.texts().len(), texts.len()),
        ];
        for (what, expected, found) in sides {
            if expected != found {
                return Err(BenchmarkError::Misfit {
                    benchmark: self.info().title.clone(),
                    expected: format!("vectors of {expected} {what}"),
                    found: found.to_string(),
                });
            }
        }
        Ok(self.measures(pictures, texts))
    }
}

/// What a benchmark shows to an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// What it is, and what it was read from.
    pub info: BenchmarkInfo,
    /// The pictures, each once.
    pub pictures: Vec<PictureInput>,
    /// The texts, each once.
    pub texts: Vec<String>,
}

/// What a benchmark is, and what it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkInfo {
    /// Its name in commands and keys: "valse".
    pub key: String,
    /// Its name in tables: "VALSE existence".
    pub title: String,
    /// The measure that stands for it in a table.
    pub main: String,
    /// What is counted, in a sentence.
    pub what: String,
    /// Settings of the protocol, such as the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// SHA-256 of the files that items are from.
    pub files: BTreeMap<String, String>,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Right.
    Right,
    /// Wrong; ties and scores that are no numbers too.
    Wrong,
    /// Its picture is missing or broken.
    Unscored,
}

impl Outcome {
    /// Right or wrong.
    #[must_use]
    pub fn of(right: bool) -> Self {
        match right {
            true => Self::Right,
            false => Self::Wrong,
        }
    }
}

/// How the outcomes of items become a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Average {
    /// The share of items that are right.
    Items,
    /// The mean over groups of the share within each: balanced accuracy, where a group is a class.
    Groups,
}

/// What the outcomes are compared with where nothing was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The score of a model that guesses.
    pub chance: f64,
}

/// A number to be measured, as the items that it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Its name: "accuracy", "text to image R@5".
    pub name: String,
    /// How it is averaged.
    pub average: Average,
    /// What became of every item.
    pub outcomes: Vec<Outcome>,
    /// What every item is drawn with for an interval: items of one picture are alike. Empty where
    /// every item stands for itself.
    pub clusters: Vec<u32>,
    /// The group of every item, for [`Average::Groups`].
    pub groups: Vec<u32>,
    /// What guessing gives.
    pub reference: Option<Reference>,
}

impl Measure {
    /// A share of items.
    pub(crate) fn share(
        name: impl Into<String>,
        outcomes: Vec<Outcome>,
        clusters: Vec<u32>,
        chance: f64,
    ) -> Self {
        Self {
            name: name.into(),
            average: Average::Items,
            outcomes,
            clusters,
            groups: Vec::new(),
            reference: Some(Reference { chance }),
        }
    }

    /// The part of the items for which `wanted` says so, under another name.
    pub(crate) fn part(&self, name: impl Into<String>, wanted: impl Fn(usize) -> bool) -> Self {
        let items: Vec<usize> = (0..self.outcomes.len()).filter(|i| wanted(*i)).collect();
        let of = |all: &[u32]| -> Vec<u32> {
            items
                .iter()
                .filter_map(|item| all.get(*item).copied())
                .collect()
        };
        Self {
            name: name.into(),
            average: self.average,
            outcomes: items.iter().map(|item| self.outcomes[*item]).collect(),
            clusters: of(&self.clusters),
            groups: of(&self.groups),
            reference: self.reference,
        }
    }

    /// The share of scored items that are right, or the mean over groups; `None` where nothing was
    /// scored.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        let scored = (0..self.outcomes.len()).filter(|i| self.outcomes[*i] != Outcome::Unscored);
        let scored: Vec<usize> = scored.collect();
        let values: Vec<f64> = scored
            .iter()
            .map(|item| f64::from(u8::from(self.outcomes[*item] == Outcome::Right)))
            .collect();
        match self.average {
            Average::Items => negkit_metrics::mean(&values).ok(),
            Average::Groups => {
                let groups = scored.iter().filter_map(|item| self.groups.get(*item));
                let groups: Vec<u32> = groups.copied().collect();
                negkit_metrics::group_mean(&values, &groups).ok()
            }
        }
    }
}
