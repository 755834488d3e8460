//! NegRefCOCOg: which of two boxes an expression with a negation means.

use std::path::Path;

use negkit_data::foils::read_neg_refcocog;
use negkit_data::{PictureFolder, WordList};
use negkit_metrics::chosen;

use crate::benchmark::{Benchmark, BenchmarkInfo, Measure, Outcome};
use crate::error::{BenchmarkError, Result};
use crate::hash::file_hash;
use crate::lists::{PictureInput, Pictures, Texts, check};
use crate::vectors::{Vectors, similarity};

const NAME: &str = "NegRefCOCOg";

struct Item {
    text: usize,
    /// The right box first.
    boxes: Vec<usize>,
    /// Place of its word of negation in the list; beyond it for another.
    word: usize,
}

/// NegRefCOCOg: the crop of the box that is meant must be more similar to the expression than that of
/// another instance of its category.
pub struct NegRefCocog {
    info: BenchmarkInfo,
    pictures: Vec<PictureInput>,
    texts: Vec<String>,
    items: Vec<Item>,
}

impl NegRefCocog {
    /// Opens `NegRefCOCOg.json`; `pictures` is the folder of COCO's `train2014`.
    ///
    /// # Errors
    /// When the file cannot be read or holds no item.
    pub fn open(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = read_neg_refcocog(file)?;
        if found.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: NAME,
                expected: "an expression with two boxes",
                path: file.to_owned(),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        let words = WordList::default();
        let items: Vec<Item> = found
            .iter()
            .map(|item| {
                let path = pictures.find(&item.image);
                let boxes = item.bbox_list.iter();
                let word = words.found_in(&item.phrase);
                let listed = |word: &str| words.words().iter().position(|known| known == word);
                Item {
                    text: texts.add(&item.phrase),
                    boxes: boxes.map(|bbox| all.add(&path, Some(*bbox))).collect(),
                    word: word.and_then(listed).unwrap_or(words.words().len()),
                }
            })
            .collect();
        Ok(Self {
            info: BenchmarkInfo {
                key: "negrefcocog".to_owned(),
                title: NAME.to_owned(),
                main: "accuracy".to_owned(),
                what: format!(
                    "{} expressions with a negation: the crop that is meant must be more similar than \
                     that of another instance of its category",
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

impl Benchmark for NegRefCocog {
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
        let outcome = |item: &Item| {
            let crops: Option<Vec<&[f32]>> =
                item.boxes.iter().map(|at| pictures.get(*at)).collect();
            let Some(crops) = crops else {
                return Outcome::Unscored;
            };
            let Some(text) = texts.get(item.text) else {
                return Outcome::Wrong;
            };
            let similar = crops.iter().map(|crop| similarity(crop, text));
            Outcome::of(chosen(&similar.collect::<Vec<_>>()) == Some(0))
        };
        let outcomes = self.items.iter().map(outcome).collect();
        // Items of one picture share it; its first crop stands for it.
        let mut of_picture = std::collections::HashMap::new();
        let clusters = self.items.iter().map(|item| {
            let path = item.boxes.first().map(|at| &self.pictures[*at].path);
            let next = of_picture.len() as u32;
            *of_picture.entry(path).or_insert(next)
        });
        let clusters = clusters.collect();
        let all = Measure::share("accuracy", outcomes, clusters, 0.5);
        let words = WordList::default();
        let parts = words.words().iter().enumerate().map(|(place, word)| {
            all.part(format!("accuracy, \"{word}\""), |item| {
                self.items[item].word == place
            })
        });
        let parts = parts.filter(|part| !part.outcomes.is_empty());
        Ok(std::iter::once(all.clone()).chain(parts).collect())
    }
}
