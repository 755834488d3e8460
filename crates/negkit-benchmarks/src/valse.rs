//! VALSE's "existence": a caption that says what is or is not in the picture, against its opposite.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::foils::read_valse;

use crate::benchmark::{Benchmark, BenchmarkInfo, Measure};
use crate::error::{BenchmarkError, Result};
use crate::foils::{Choice, choose_texts, pictures_of};
use crate::hash::file_hash;
use crate::lists::{PictureInput, Pictures, Texts, check};
use crate::vectors::Vectors;

const NAME: &str = "VALSE existence";

/// Votes of three by which VALSE's authors keep an item.
const VALIDATED: u32 = 2;

/// VALSE existence, all items. One of the 534 published ones has the same text twice, and is wrong for
/// every model.
pub struct Valse {
    info: BenchmarkInfo,
    pictures: Vec<PictureInput>,
    texts: Vec<String>,
    items: Vec<Choice>,
    validated: Vec<bool>,
    negated: Vec<bool>,
}

impl Valse {
    /// Opens `existence.json`; `pictures` is the folder of its pictures, which are Visual7W's.
    ///
    /// # Errors
    /// When the file cannot be read or holds no item.
    pub fn open(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = read_valse(file)?;
        if found.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: NAME,
                expected: "a caption with its foil",
                path: file.to_owned(),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        let items: Vec<Choice> = found
            .iter()
            .map(|item| Choice {
                picture: all.add(&pictures.find(&item.image_file), None),
                texts: vec![texts.add(&item.caption), texts.add(&item.foil)],
            })
            .collect();
        let words = negkit_data::WordList::default();
        Ok(Self {
            validated: found
                .iter()
                .map(|item| item.mturk.is_none_or(|votes| votes.caption >= VALIDATED))
                .collect(),
            negated: found
                .iter()
                .map(|item| words.found_in(&item.caption).is_some())
                .collect(),
            info: BenchmarkInfo {
                key: "valse".to_owned(),
                title: NAME.to_owned(),
                main: "accuracy".to_owned(),
                what: format!(
                    "{} captions against foils: the caption must be more similar to the picture",
                    items.len()
                ),
                settings: [("items".to_owned(), items.len().to_string())].into(),
                files: [file_hash(file)?].into(),
            },
            pictures: all.into_list(),
            texts: texts.into_list(),
            items,
        })
    }
}

impl Benchmark for Valse {
    fn info(&self) -> &BenchmarkInfo {
        &self.info
    }

    fn pictures(&self) -> &[PictureInput] {
        &self.pictures
    }

    fn texts(&self) -> &[String] {
        &self.texts
    }

    fn score(&self, pictures: &Vectors, texts: &Vectors) -> Result<Vec<Measure>> {
        check(NAME, (&self.pictures, pictures), (&self.texts, texts))?;
        let outcomes = choose_texts(&self.items, pictures, texts);
        let all = Measure::share("accuracy", outcomes, pictures_of(&self.items), 0.5);
        let mut measures = Vec::new();
        if self.validated.contains(&false) {
            let kept = |item: usize| self.validated[item];
            measures.push(all.part("accuracy, items that annotators agree on", kept));
        }
        // A model that prefers every caption without a "no" has one of these right and the other wrong.
        measures.push(all.part("accuracy, caption negated", |item| self.negated[item]));
        measures.push(all.part("accuracy, foil negated", |item| !self.negated[item]));
        measures.retain(|measure| !measure.outcomes.is_empty());
        measures.insert(0, all);
        Ok(measures)
    }
}
