//! Retrieval both ways: a picture by each of its captions, and its captions by a picture.

use std::path::{Path, PathBuf};

use negkit_data::file_hashes;
use negkit_metrics::rank_of_right;
use rayon::prelude::*;

use crate::benchmark::{BenchmarkInfo, Content, Measure, Outcome};
use crate::error::{BenchmarkError, Result};
use crate::lists::{Pictures, Texts};
use crate::vectors::{Vectors, similarity};

/// How many of the most similar ones are looked at.
const AT: [usize; 3] = [1, 5, 10];

/// Pictures with captions.
pub(crate) struct Retrieval {
    pub(crate) content: Content,
    /// Of every caption its picture and its text. Two captions may have one text.
    captions: Vec<(usize, usize)>,
    /// The captions of every picture.
    of_picture: Vec<Vec<usize>>,
}

impl Retrieval {
    /// Of pictures with their captions; `file` is where they are from.
    pub(crate) fn new<'a>(
        (key, title): (&str, &'static str),
        lists: impl Iterator<Item = (PathBuf, Vec<&'a str>)>,
        file: &Path,
    ) -> Result<Self> {
        let (mut pictures, mut texts) = (Pictures::default(), Texts::default());
        let mut captions = Vec::new();
        let mut of_picture: Vec<Vec<usize>> = Vec::new();
        for (path, list) in lists {
            let picture = pictures.add(&path, None);
            of_picture.resize(of_picture.len().max(picture + 1), Vec::new());
            for text in list {
                of_picture[picture].push(captions.len());
                captions.push((picture, texts.add(text)));
            }
        }
        if captions.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: title,
                expected: "a picture with captions",
                path: file.to_owned(),
            });
        }
        let pictures = pictures.into_list();
        let info = BenchmarkInfo {
            key: key.to_owned(),
            title: title.to_owned(),
            main: "text to image R@5".to_owned(),
            what: format!(
                "{} captions of {} pictures: a hit when the right one, or one of the right ones, is \
                 among the first k",
                captions.len(),
                pictures.len()
            ),
            settings: [
                ("pictures".to_owned(), pictures.len().to_string()),
                ("captions".to_owned(), captions.len().to_string()),
            ]
            .into(),
            files: file_hashes([file])?,
        };
        Ok(Self {
            content: Content {
                info,
                pictures,
                texts: texts.into_list(),
            },
            captions,
            of_picture,
        })
    }

    /// Recall at 1, 5 and 10 both ways. Missing pictures and their captions are no candidates either.
    pub(crate) fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let there: Vec<usize> = (0..pictures.len())
            .filter(|picture| pictures.get(*picture).is_some())
            .collect();
        let mut place = vec![usize::MAX; pictures.len()];
        for (at, picture) in there.iter().enumerate() {
            place[*picture] = at;
        }
        let scored: Vec<usize> = (0..self.captions.len())
            .filter(|caption| place[self.captions[*caption].0] != usize::MAX)
            .collect();
        let mut caption_place = vec![usize::MAX; self.captions.len()];
        for (at, caption) in scored.iter().enumerate() {
            caption_place[*caption] = at;
        }
        let similar = |picture: usize, text: usize| match (pictures.get(picture), texts.get(text)) {
            (Some(picture), Some(text)) => similarity(picture, text),
            _ => f32::NAN,
        };
        let by_text = |caption: &usize| {
            let (picture, text) = self.captions[*caption];
            let row: Vec<f32> = there
                .iter()
                .map(|picture| similar(*picture, text))
                .collect();
            rank_of_right(&row, &[place[picture]])
        };
        let by_picture = |picture: &usize| {
            let row: Vec<f32> = scored
                .iter()
                .map(|caption| similar(*picture, self.captions[*caption].1))
                .collect();
            let right = self.of_picture[*picture].iter().map(|c| caption_place[*c]);
            rank_of_right(&row, &right.collect::<Vec<_>>())
        };
        let text_ranks: Vec<Option<usize>> = scored.par_iter().map(by_text).collect();
        let picture_ranks: Vec<Option<usize>> = there.par_iter().map(by_picture).collect();

        let candidates = (there.len().max(1) as f64, scored.len().max(1) as f64);
        let mut measures = Vec::new();
        let clusters: Vec<u32> = self.captions.iter().map(|(p, _)| *p as u32).collect();
        for k in AT {
            let mut outcomes = vec![Outcome::Unscored; self.captions.len()];
            for (caption, rank) in scored.iter().zip(&text_ranks) {
                outcomes[*caption] = Outcome::of(rank.is_some_and(|rank| rank < k));
            }
            let chance = (k as f64 / candidates.0).min(1.);
            let name = format!("text to image R@{k}");
            measures.push(Measure::share(name, outcomes, clusters.clone(), chance));
        }
        for k in AT {
            let mut outcomes = vec![Outcome::Unscored; self.of_picture.len()];
            for (picture, rank) in there.iter().zip(&picture_ranks) {
                outcomes[*picture] = Outcome::of(rank.is_some_and(|rank| rank < k));
            }
            // One of c right ones among k of n drawn without order: 1 - (1 - k/n)^c, nearly.
            let each = self.captions.len() as f64 / self.of_picture.len().max(1) as f64;
            let chance = 1. - (1. - (k as f64 / candidates.1).min(1.)).powf(each);
            let name = format!("image to text R@{k}");
            measures.push(Measure::share(name, outcomes, Vec::new(), chance));
        }
        measures
    }
}
