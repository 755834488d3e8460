//! Scores of files: answers, detections and masks that are there already, whoever made them.
//!
//! Every function reads one file or two, and gives a [`Scored`]: each score with its interval, and with
//! two files the paired difference on the same items. The scorers are those of `negkit-metrics` that
//! the tables use too; nothing is run, and no picture is opened.
//!
//! A picture's key in a file of answers is the id of its prompt, alone or followed by `/` and which of
//! the prompt's pictures it is: `coco_301091`, `coco_301091/3`. Two files are compared on the same
//! keys.

mod dsg;
mod geneval;
mod masks;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use negkit_metrics::{
    Bootstrap, Interval, ItemValue, McNemar, MeanOver, PairedDifference, PairedScores,
};
use negkit_vqa::replay::ReplayAnswerer;
use serde::Serialize;

use crate::{Result, RunError};

pub use dsg::dsg;
pub use geneval::geneval_results;
pub use masks::segmentation;
pub use questions::{neg_prompts, tifa};

/// One file, or two that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// What is scored.
    pub first: &'a Path,
    /// What it is compared with.
    pub second: Option<&'a Path>,
}

impl Files<'_> {
    fn read<T>(&self, read: impl Fn(&Path) -> Result<T>) -> Result<Sides<T>> {
        Ok(Sides {
            first: read(self.first)?,
            second: self.second.map(read).transpose()?,
        })
    }
}

/// What was read of one file or two.
struct Sides<T> {
    first: T,
    second: Option<T>,
}

impl<T> Sides<T> {
    fn map<U>(&self, of: impl Fn(&T) -> Result<U>) -> Result<Sides<U>> {
        Ok(Sides {
            first: of(&self.first)?,
            second: self.second.as_ref().map(of).transpose()?,
        })
    }

    fn pair(&self) -> Option<(&T, &T)> {
        Some((&self.first, self.second.as_ref()?))
    }
}

/// The scores of one file, or of two.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// Which score it is.
    pub score: &'static str,
    /// What was scored, in numbers.
    pub counts: BTreeMap<&'static str, usize>,
    /// The score, and its parts.
    pub rows: Vec<ScoredRow>,
    /// What else a reader must know.
    pub notes: Vec<String>,
}

/// A score, or a part of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredRow {
    /// Its name.
    pub name: String,
    /// Of the first file.
    pub first: Interval,
    /// Of the second file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Interval>,
    /// The second minus the first on the same items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<PairedDifference>,
    /// Where an item is right or wrong and stands alone: McNemar's exact test, with the first file as
    /// `a`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcnemar: Option<McNemar>,
}

/// The value of an item, by its prompt and by which of the prompt's items it is.
type Item = ItemValue<String, String>;

/// A row whose items have a value each.
fn row(
    name: impl Into<String>,
    scores: Sides<Interval>,
    items: Option<(Vec<Item>, Vec<Item>)>,
    over: MeanOver,
    bootstrap: &Bootstrap,
) -> Result<ScoredRow> {
    let pairs = items.map(|(first, second)| PairedScores::new(first, second));
    let pairs = pairs.transpose()?;
    let difference = pairs.as_ref().map(|pairs| pairs.bootstrap(over, bootstrap));
    Ok(ScoredRow {
        name: name.into(),
        first: scores.first,
        second: scores.second,
        difference: difference.transpose()?,
        // Values between right and wrong have no such test.
        mcnemar: pairs.and_then(|pairs| pairs.mcnemar().ok()),
    })
}

/// A line of a file that is not what it should be.
fn bad_line(path: &Path, line: usize, reason: impl Into<String>) -> RunError {
    let path = path.to_owned();
    let reason = reason.into();
    RunError::Damaged { path, line, reason }
}

/// A file that cannot be read.
fn unreadable(path: &Path, source: std::io::Error) -> RunError {
    let path = path.to_owned();
    RunError::Read { path, source }
}

/// The records of a file of JSON lines, with their lines.
fn json_lines<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> std::result::Result<Vec<(usize, T)>, RunError> {
    let text = std::fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let record = serde_json::from_str(line)
                .map_err(|error| bad_line(path, index + 1, error.to_string()))?;
            Ok((index + 1, record))
        })
        .collect()
}

/// Answers by prompt, each with the rest of its picture's key.
struct Answers {
    stored: ReplayAnswerer,
    /// Of every prompt the keys of its pictures, by what follows the prompt's id.
    pictures: BTreeMap<String, BTreeMap<String, String>>,
}

impl Answers {
    /// Reads a file of answers about pictures of these prompts. A key of no prompt is refused: it would
    /// be left out without a word.
    fn open(path: &Path, prompts: &BTreeSet<String>) -> Result<Self> {
        let stored = ReplayAnswerer::open(path).map_err(negkit_vqa::VqaError::from)?;
        let mut pictures: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for key in stored.pictures() {
            // Ids of prompts may hold a stroke themselves.
            let ends = key.match_indices('/').map(|(at, _)| at);
            let ends = std::iter::once(key.len()).chain(ends);
            let mut ids = ends.map(|end| key.split_at(end));
            let Some((id, rest)) = ids.find(|(id, _)| prompts.contains(*id)) else {
                return Err(RunError::Record {
                    item: key.to_owned(),
                    reason: format!(
                        "{} holds answers about it, and no prompt has this id: expected the id of a \
                         prompt, alone or followed by / and which picture of it is meant",
                        path.display()
                    ),
                }
                .into());
            };
            let of_prompt = pictures.entry(id.to_owned()).or_default();
            of_prompt.insert(rest.to_owned(), key.to_owned());
        }
        Ok(Self { stored, pictures })
    }

    fn find(&self, key: &str, question: &str) -> Result<&negkit_vqa::Answer> {
        let found = self.stored.find(key, question);
        Ok(found.map_err(negkit_vqa::VqaError::from)?)
    }

    /// Prompts and pictures that there are answers about.
    fn counts(&self, prompts: usize) -> BTreeMap<&'static str, usize> {
        let pictures = self.pictures.values().map(BTreeMap::len).sum();
        BTreeMap::from([
            ("prompts", self.pictures.len()),
            ("prompts without an answer", prompts - self.pictures.len()),
            ("pictures", pictures),
        ])
    }
}

#[cfg(test)]
mod tests;
