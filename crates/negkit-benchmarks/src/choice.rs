//! Forced choice: of two or more pairs of a picture and a text, the right one must be the most similar.

use std::collections::HashMap;
use std::path::Path;

use negkit_data::file_hashes;
use negkit_metrics::chosen;

use crate::benchmark::{BenchmarkInfo, Content, Measure, Outcome};
use crate::error::{BenchmarkError, Result};
use crate::lists::{PictureInput, Pictures, Texts};
use crate::vectors::{Vectors, similarity};

/// What a benchmark of forced choice is.
pub(crate) struct Question {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// An item, for the error that there is none.
    pub(crate) item: &'static str,
    /// What is counted, after the number of items.
    pub(crate) what: &'static str,
    pub(crate) chance: f64,
}

/// An item: a picture with the texts, or a text with the pictures, of which the first is right.
pub(crate) struct Item<'a> {
    pub(crate) pictures: Vec<PictureInput>,
    pub(crate) texts: Vec<&'a str>,
}

/// Items of forced choice.
pub(crate) struct ForcedChoice {
    pub(crate) content: Content,
    /// Of every item the places of picture and text, the right pair first.
    items: Vec<Vec<(usize, usize)>>,
    chance: f64,
}

impl ForcedChoice {
    /// Of items; `file` is where they are from.
    pub(crate) fn new<'a>(
        question: &Question,
        items: impl Iterator<Item = Item<'a>>,
        file: &Path,
    ) -> Result<Self> {
        let (mut pictures, mut texts) = (Pictures::default(), Texts::default());
        let mut places = |item: Item| {
            let shown = item.pictures.iter();
            let shown: Vec<usize> = shown
                .map(|picture| pictures.add(&picture.path, picture.bbox))
                .collect();
            let said: Vec<usize> = item.texts.iter().map(|text| texts.add(text)).collect();
            let pairs = shown
                .iter()
                .flat_map(|picture| said.iter().map(|text| (*picture, *text)));
            pairs.collect()
        };
        let items: Vec<Vec<(usize, usize)>> = items.map(&mut places).collect();
        if items.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: question.title,
                expected: question.item,
                path: file.to_owned(),
            });
        }
        let info = BenchmarkInfo {
            key: question.key.to_owned(),
            title: question.title.to_owned(),
            main: "accuracy".to_owned(),
            what: format!("{} {}", items.len(), question.what),
            settings: [("items".to_owned(), items.len().to_string())].into(),
            files: file_hashes([file])?,
        };
        Ok(Self {
            content: Content {
                info,
                pictures: pictures.into_list(),
                texts: texts.into_list(),
            },
            items,
            chance: question.chance,
        })
    }

    /// The share of items whose first pair is the most similar. Those of one picture are drawn together.
    pub(crate) fn accuracy(&self, pictures: &Vectors, texts: &Vectors) -> Measure {
        let outcome = |pairs: &Vec<(usize, usize)>| {
            let mut similar = Vec::with_capacity(pairs.len());
            for (picture, text) in pairs {
                let Some(picture) = pictures.get(*picture) else {
                    return Outcome::Unscored;
                };
                let text = texts.get(*text);
                similar.push(text.map_or(f32::NAN, |text| similarity(picture, text)));
            }
            Outcome::of(chosen(&similar) == Some(0))
        };
        let outcomes = self.items.iter().map(outcome).collect();
        // Crops of one picture are alike too: its file stands for it.
        let mut of_picture = HashMap::new();
        let clusters = self.items.iter().map(|pairs| {
            let first = pairs.first();
            let path = first.map(|(picture, _)| &self.content.pictures[*picture].path);
            let next = of_picture.len() as u32;
            *of_picture.entry(path).or_insert(next)
        });
        Measure::share("accuracy", outcomes, clusters.collect(), self.chance)
    }
}
