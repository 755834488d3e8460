//! VALSE's "existence": a caption that says what is or is not in the picture, against its opposite.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::foils::read_valse;

use crate::benchmark::{Benchmark, Content, Measure};
use crate::choice::{ForcedChoice, Item, Question};
use crate::error::Result;
use crate::lists::PictureInput;
use crate::vectors::Vectors;

const QUESTION: Question = Question {
    key: "valse",
    title: "VALSE existence",
    item: "a caption with its foil",
    what: "captions against foils: the caption must be more similar to the picture",
    chance: 0.5,
};

/// Votes of three by which VALSE's authors keep an item.
const VALIDATED: u32 = 2;

/// VALSE existence, all items. One of the 534 published ones has the same text twice, and is wrong for
/// every model.
pub struct Valse {
    choice: ForcedChoice,
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
        let items = found.iter().map(|item| Item {
            pictures: vec![PictureInput::whole(pictures.find(&item.image_file))],
            texts: vec![&item.caption, &item.foil],
        });
        let words = negkit_data::WordList::default();
        Ok(Self {
            choice: ForcedChoice::new(&QUESTION, items, file)?,
            validated: found
                .iter()
                .map(|item| item.mturk.is_none_or(|votes| votes.caption >= VALIDATED))
                .collect(),
            negated: found
                .iter()
                .map(|item| words.found_in(&item.caption).is_some())
                .collect(),
        })
    }
}

impl Benchmark for Valse {
    fn content(&self) -> &Content {
        &self.choice.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let all = self.choice.accuracy(pictures, texts);
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
        measures
    }
}
