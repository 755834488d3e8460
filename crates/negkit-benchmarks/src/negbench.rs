//! NegBench: multiple choice among captions, and retrieval by negated captions.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::negbench::{CaptionType, read_multiple_choice, read_retrieval};

use crate::benchmark::{Benchmark, BenchmarkInfo, Measure};
use crate::error::{BenchmarkError, Result};
use crate::foils::{Choice, choose_texts, pictures_of};
use crate::hash::file_hash;
use crate::lists::{PictureInput, Pictures, Texts, check};
use crate::retrieval::Retrieval;
use crate::vectors::Vectors;

const CHOICE: &str = "NegBench multiple choice";
const RETRIEVAL: &str = "NegBench retrieval";

/// NegBench's multiple choice: of four captions the true one must be most similar to the picture.
pub struct NegBenchChoice {
    info: BenchmarkInfo,
    pictures: Vec<PictureInput>,
    texts: Vec<String>,
    items: Vec<Choice>,
    types: Vec<CaptionType>,
}

impl NegBenchChoice {
    /// Opens a file such as `COCO_val_mcq_llama3.1_rephrased.csv`; `pictures` is the folder that its
    /// paths end in.
    ///
    /// # Errors
    /// When the file cannot be read or holds no question.
    pub fn open(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = read_multiple_choice(file)?;
        if found.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: CHOICE,
                expected: "a question with four captions",
                path: file.to_owned(),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        let items: Vec<Choice> = found
            .iter()
            .map(|question| Choice {
                picture: all.add(&pictures.find(&question.image), None),
                texts: question
                    .captions
                    .iter()
                    .map(|text| texts.add(text))
                    .collect(),
            })
            .collect();
        Ok(Self {
            info: BenchmarkInfo {
                key: "negbench-mcq".to_owned(),
                title: CHOICE.to_owned(),
                main: "accuracy".to_owned(),
                what: format!(
                    "{} questions: of four captions the true one must be most similar to the picture",
                    items.len()
                ),
                settings: [("items".to_owned(), items.len().to_string())].into(),
                files: [file_hash(file)?].into(),
            },
            pictures: all.into_list(),
            texts: texts.into_list(),
            items,
            types: found.iter().map(|question| question.right).collect(),
        })
    }
}

impl Benchmark for NegBenchChoice {
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
        check(CHOICE, (&self.pictures, pictures), (&self.texts, texts))?;
        let outcomes = choose_texts(&self.items, pictures, texts);
        let all = Measure::share("accuracy", outcomes, pictures_of(&self.items), 0.25);
        let parts = CaptionType::ALL.into_iter().map(|right| {
            all.part(format!("accuracy, {right}"), |item| {
                self.types[item] == right
            })
        });
        let parts = parts.filter(|part| !part.outcomes.is_empty());
        Ok(std::iter::once(all.clone()).chain(parts).collect())
    }
}

/// NegBench's retrieval: pictures found by captions that also say what is not there, and the other way
/// round.
pub struct NegBenchRetrieval {
    info: BenchmarkInfo,
    retrieval: Retrieval,
}

impl NegBenchRetrieval {
    /// Opens a file such as `COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true.csv`, or
    /// `COCO_val_retrieval.csv` for the same pictures with plain captions; `pictures` is the folder that
    /// its paths end in.
    ///
    /// # Errors
    /// When the file cannot be read or holds no picture.
    pub fn open(file: &Path, pictures: &PictureFolder) -> Result<Self> {
        let found = read_retrieval(file)?;
        let lists = found.iter().map(|picture| {
            let captions = picture.captions.iter().map(String::as_str).collect();
            (pictures.find(&picture.image), captions)
        });
        let retrieval = Retrieval::new(RETRIEVAL, lists, file)?;
        Ok(Self {
            info: BenchmarkInfo {
                key: "negbench-retrieval".to_owned(),
                title: RETRIEVAL.to_owned(),
                main: "text to image R@5".to_owned(),
                what: retrieval.what(),
                settings: retrieval.settings(),
                files: [file_hash(file)?].into(),
            },
            retrieval,
        })
    }
}

impl Benchmark for NegBenchRetrieval {
    fn info(&self) -> &BenchmarkInfo {
        &self.info
    }

    fn pictures(&self) -> &[PictureInput] {
        &self.retrieval.pictures
    }

    fn texts(&self) -> &[String] {
        &self.retrieval.texts
    }

    fn score(&self, pictures: &Vectors, texts: &Vectors) -> Result<Vec<Measure>> {
        self.retrieval.score(pictures, texts)
    }
}
