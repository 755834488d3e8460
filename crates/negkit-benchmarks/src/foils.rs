//! A caption against a foil, for a picture: what VALSE and CC-Neg ask. CC-Neg itself.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::foils::{CaptionPair, read_caption_pairs};
use negkit_metrics::chosen;

use crate::benchmark::{Benchmark, BenchmarkInfo, Measure, Outcome};
use crate::error::{BenchmarkError, Result};
use crate::hash::file_hash;
use crate::lists::{PictureInput, Pictures, Texts, check};
use crate::vectors::{Vectors, similarity};

/// A picture with the texts, or a text with the pictures, of which the first is right.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) picture: usize,
    pub(crate) texts: Vec<usize>,
}

/// Whether the first text is most similar to the picture, for every item.
pub(crate) fn choose_texts(items: &[Choice], pictures: &Vectors, texts: &Vectors) -> Vec<Outcome> {
    let outcome = |item: &Choice| {
        let Some(picture) = pictures.get(item.picture) else {
            return Outcome::Unscored;
        };
        let similar = item.texts.iter().map(|text| {
            let text = texts.get(*text);
            text.map_or(f32::NAN, |text| similarity(picture, text))
        });
        let similar: Vec<f32> = similar.collect();
        Outcome::of(chosen(&similar) == Some(0))
    };
    items.iter().map(outcome).collect()
}

/// The picture of every item, by which items are drawn.
pub(crate) fn pictures_of(items: &[Choice]) -> Vec<u32> {
    items.iter().map(|item| item.picture as u32).collect()
}

const NAME: &str = "CC-Neg";

/// The last items of the published file that its authors evaluate on.
const PUBLISHED: usize = 40_000;

/// CC-Neg: of a true caption and the same with a part denied, which is more similar to the picture.
pub struct CcNeg {
    info: BenchmarkInfo,
    pictures: Vec<PictureInput>,
    texts: Vec<String>,
    items: Vec<Choice>,
}

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
        if pairs.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: NAME,
                expected: "a caption with its negated one",
                path: file.to_owned(),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        let items: Vec<Choice> = pairs
            .iter()
            .map(|pair| Choice {
                picture: all.add(&pictures.find(&pair.image), None),
                texts: vec![texts.add(&pair.caption), texts.add(&pair.negated_caption)],
            })
            .collect();
        Ok(Self {
            info: BenchmarkInfo {
                key: "ccneg".to_owned(),
                title: NAME.to_owned(),
                main: "accuracy".to_owned(),
                what: format!(
                    "{} pictures with a true caption and its negated one: the true one must be more \
                     similar",
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

impl Benchmark for CcNeg {
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
        let clusters = pictures_of(&self.items);
        Ok(vec![Measure::share("accuracy", outcomes, clusters, 0.5)])
    }
}
