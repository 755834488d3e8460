//! Zero-shot classification: ImageNet, and any pictures in its layout.

use std::path::Path;

use negkit_data::file_hashes;
use negkit_data::zero_shot::{LabelledPictures, fill_template};
use negkit_metrics::{chosen, rank_of_right};
use rayon::prelude::*;

use crate::benchmark::{Benchmark, BenchmarkInfo, Content, Measure, Outcome};
use crate::error::{BenchmarkError, Result};
use crate::hash::Hash;
use crate::lists::{Pictures, Texts};
use crate::vectors::{Vectors, similarity, unit};

const NAME: &str = "ImageNet";

/// The words that stand for a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// The names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// One template, with `{c}` for the name: the main measure.
    pub template: String,
    /// Templates whose vectors are averaged; none where there is no such list.
    pub ensemble: Vec<String>,
}

/// Zero-shot classification: the class whose prompt is most similar to the picture must be its own.
pub struct ImageNet {
    content: Content,
    /// Picture and class.
    items: Vec<(usize, usize)>,
    /// By set of prompts and class the texts.
    prompts: Vec<(String, Vec<Vec<usize>>)>,
    classes: usize,
}

impl ImageNet {
    /// Pictures with their classes, and prompts for these; `files` are what both were read from, of
    /// which hashes go into the settings.
    ///
    /// # Errors
    /// When there are not as many names as classes, or a file cannot be read.
    pub fn new(labelled: &LabelledPictures, prompts: &Prompts, files: &[&Path]) -> Result<Self> {
        let names = &prompts.classes;
        let most = labelled.pictures.iter().map(|(_, class)| *class + 1).max();
        let needed = labelled.classes.len().max(most.unwrap_or(0));
        if needed != names.len() {
            return Err(BenchmarkError::Misfit {
                benchmark: NAME.to_owned(),
                expected: format!(
                    "a name for each of {needed} classes, in the order of the sorted folders or synsets"
                ),
                found: format!("{} names", names.len()),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        let items = labelled
            .pictures
            .iter()
            .map(|(path, class)| (all.add(path, None), *class))
            .collect::<Vec<_>>();
        let mut of = |templates: &[String]| -> Vec<Vec<usize>> {
            let prompts = |class: &String| {
                let filled = templates
                    .iter()
                    .map(|template| fill_template(template, class));
                filled.map(|text| texts.add(&text)).collect()
            };
            names.iter().map(prompts).collect()
        };
        let mut sets = vec![(
            "top-1".to_owned(),
            of(std::slice::from_ref(&prompts.template)),
        )];
        if !prompts.ensemble.is_empty() {
            let name = format!("top-1, {} templates", prompts.ensemble.len());
            sets.push((name, of(&prompts.ensemble)));
        }
        let list = prompts.ensemble.join("\n");
        let mut settings: std::collections::BTreeMap<String, String> = [
            ("pictures".to_owned(), items.len().to_string()),
            ("classes".to_owned(), names.len().to_string()),
            ("template".to_owned(), prompts.template.clone()),
            (
                "class_names_sha256".to_owned(),
                Hash::of(names.iter().map(String::as_bytes)).to_string(),
            ),
        ]
        .into();
        if !list.is_empty() {
            let hash = Hash::of(prompts.ensemble.iter().map(String::as_bytes));
            settings.insert("ensemble_sha256".to_owned(), hash.to_string());
        }
        Ok(Self {
            content: Content {
                info: BenchmarkInfo {
                    key: "imagenet".to_owned(),
                    title: NAME.to_owned(),
                    main: "top-1".to_owned(),
                    what: format!(
                        "{} pictures in {} classes: the prompt of the right one must be most similar",
                        items.len(),
                        names.len()
                    ),
                    settings,
                    files: file_hashes(files)?,
                },
                pictures: all.into_list(),
                texts: texts.into_list(),
            },
            items,
            prompts: sets,
            classes: names.len(),
        })
    }
}

/// The mean of the unit vectors of a class's prompts, at length 1: one prompt's own vector.
fn class_vector(prompts: &[usize], texts: &Vectors) -> Vec<f32> {
    let mut sum = vec![0f32; texts.width()];
    for prompt in prompts {
        match texts.get(*prompt) {
            Some(vector) if prompts.len() == 1 => return vector.to_vec(),
            Some(vector) => sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x),
            None => sum.fill(f32::NAN),
        }
    }
    unit(&sum)
}

impl Benchmark for ImageNet {
    fn content(&self) -> &Content {
        &self.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let mut measures = Vec::new();
        for (name, prompts) in &self.prompts {
            let classes: Vec<Vec<f32>> = prompts
                .par_iter()
                .map(|prompts| class_vector(prompts, texts))
                .collect();
            let outcome = |(picture, class): &(usize, usize)| {
                let Some(picture) = pictures.get(*picture) else {
                    return [Outcome::Unscored; 2];
                };
                let row: Vec<f32> = classes
                    .iter()
                    .map(|class| similarity(picture, class))
                    .collect();
                let rank = rank_of_right(&row, &[*class]);
                [
                    Outcome::of(chosen(&row) == Some(*class)),
                    Outcome::of(rank.is_some_and(|rank| rank < 5)),
                ]
            };
            let outcomes: Vec<[Outcome; 2]> = self.items.par_iter().map(outcome).collect();
            let of = |at: usize| outcomes.iter().map(|pair| pair[at]).collect();
            let chance = 1. / self.classes as f64;
            measures.push(Measure::share(name.clone(), of(0), Vec::new(), chance));
            if self.classes > 5 {
                let name = name.replace("top-1", "top-5");
                measures.push(Measure::share(name, of(1), Vec::new(), 5. * chance));
            }
        }
        measures
    }
}
