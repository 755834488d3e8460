//! CC-Neg: a caption against the same with a part denied.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::foils::{CaptionPair, read_caption_pairs};

use crate::benchmark::{Benchmark, Content, Measure};
use crate::choice::{ForcedChoice, Item, Question};
use crate::error::Result;
use crate::lists::PictureInput;
use crate::vectors::Vectors;

const QUESTION: Question = Question {
    key: "ccneg",
    title: "CC-Neg",
    item: "a caption with its negated one",
    what: "pictures with a true caption and its negated one: the true one must be more similar",
    chance: 0.5,
};

/// The last items of the published file that its authors evaluate on.
const PUBLISHED: usize = 40_000;

/// CC-Neg: of a true caption and the same with a part denied, which is more similar to the picture.
pub struct CcNeg(ForcedChoice);

impl CcNeg {
    /// Opens caption pairs in any form that [`read_caption_pairs`] takes; `pictures` is the folder that
    /// the pictures' paths end in. `last` keeps that many items from the end; where it is `None`, a
    /// `.pt` keeps the last 40,000, as the published evaluation does, and other files all.
    ///
    /// # Errors
    /// When the file cannot be read or holds no pair.
    pub fn open(file: &Path, pictures: &PictureFolder, last: Option<usize>) -> Result<Self> {
        let mut pairs: Vec<CaptionPair> = read_caption_pairs(file)?;
        let is_published = file.extension().is_some_and(|end| end == "pt");
        let last = last.or(is_published.then_some(PUBLISHED));
        if let Some(last) = last {
            pairs.drain(..pairs.len().saturating_sub(last));
        }
        let items = pairs.iter().map(|pair| Item {
            pictures: vec![PictureInput::whole(pictures.find(&pair.image))],
            texts: vec![&pair.caption, &pair.negated_caption],
        });
        Ok(Self(ForcedChoice::new(&QUESTION, items, file)?))
    }
}

impl Benchmark for CcNeg {
    fn content(&self) -> &Content {
        &self.0.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        vec![self.0.accuracy(pictures, texts)]
    }
}
