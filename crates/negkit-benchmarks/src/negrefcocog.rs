//! NegRefCOCOg: which of two boxes an expression with a negation means.

use std::path::Path;

use negkit_data::foils::read_neg_refcocog;
use negkit_data::{PictureFolder, WordList};

use crate::benchmark::{Benchmark, Content, Measure};
use crate::choice::{ForcedChoice, Item, Question};
use crate::error::Result;
use crate::lists::PictureInput;
use crate::vectors::Vectors;

const QUESTION: Question = Question {
    key: "negrefcocog",
    title: "NegRefCOCOg",
    item: "an expression with two boxes",
    what: "expressions with a negation: the crop that is meant must be more similar than that of \
           another instance of its category",
    chance: 0.5,
};

/// NegRefCOCOg: the crop of the box that is meant must be more similar to the expression than that of
/// another instance of its category.
pub struct NegRefCocog {
    choice: ForcedChoice,
    /// Of every item the place of its word of negation in the list; none for another word.
    negations: Vec<Option<usize>>,
}

impl NegRefCocog {
    /// Opens `NegRefCOCOg.json`; `pictures` is the folder of COCO's `train2014`.
    ///
    /// # Errors
    /// When the file cannot be read or holds no item.
    pub fn open(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = read_neg_refcocog(file)?;
        let items = found.iter().map(|item| {
            let path = pictures.find(&item.image);
            let crops = item.bbox_list.iter().map(|bbox| PictureInput {
                path: path.clone(),
                bbox: Some(*bbox),
            });
            Item {
                pictures: crops.collect(),
                texts: vec![&item.phrase],
            }
        });
        let words = WordList::default();
        let negation = |phrase: &str| {
            let found = words.found_in(phrase)?;
            words.words().iter().position(|word| word == found)
        };
        Ok(Self {
            choice: ForcedChoice::new(&QUESTION, items, file)?,
            negations: found.iter().map(|item| negation(&item.phrase)).collect(),
        })
    }
}

impl Benchmark for NegRefCocog {
    fn content(&self) -> &Content {
        &self.choice.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let all = self.choice.accuracy(pictures, texts);
        let words = WordList::default();
        let parts = words.words().iter().enumerate().map(|(place, word)| {
            all.part(format!("accuracy, \"{word}\""), |item| {
                self.negations[item] == Some(place)
            })
        });
        let parts = parts.filter(|part| !part.outcomes.is_empty());
        std::iter::once(all.clone()).chain(parts).collect()
    }
}
