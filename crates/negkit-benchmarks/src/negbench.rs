//! NegBench: multiple choice among captions, and retrieval by negated captions.

use std::path::Path;

use negkit_data::PictureFolder;
use negkit_data::negbench::{CaptionType, read_multiple_choice, read_retrieval};

use crate::benchmark::{Benchmark, Content, Measure};
use crate::choice::{ForcedChoice, Item, Question};
use crate::error::Result;
use crate::lists::PictureInput;
use crate::retrieval::Retrieval;
use crate::vectors::Vectors;

const CHOICE: Question = Question {
    key: "negbench-mcq",
    title: "NegBench multiple choice",
    item: "a question with four captions",
    what: "questions: of four captions the true one must be most similar to the picture",
    chance: 0.25,
};
const RETRIEVAL: (&str, &str) = ("negbench-retrieval", "NegBench retrieval");

/// NegBench's multiple choice: of four captions the true one must be most similar to the picture.
pub struct NegBenchChoice {
    choice: ForcedChoice,
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
        let items = found.iter().map(|question| Item {
            pictures: vec![PictureInput::whole(pictures.find(&question.image))],
            texts: question.captions.iter().map(String::as_str).collect(),
        });
        Ok(Self {
            choice: ForcedChoice::new(&CHOICE, items, file)?,
            types: found.iter().map(|question| question.right).collect(),
        })
    }
}

impl Benchmark for NegBenchChoice {
    fn content(&self) -> &Content {
        &self.choice.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let all = self.choice.accuracy(pictures, texts);
        let parts = CaptionType::ALL.into_iter().map(|right| {
            all.part(format!("accuracy, {right}"), |item| {
                self.types[item] == right
            })
        });
        let parts = parts.filter(|part| !part.outcomes.is_empty());
        std::iter::once(all.clone()).chain(parts).collect()
    }
}

/// NegBench's retrieval: pictures found by captions that also say what is not there, and the other way
/// round.
pub struct NegBenchRetrieval(Retrieval);

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
        Ok(Self(Retrieval::new(RETRIEVAL, lists, file)?))
    }
}

impl Benchmark for NegBenchRetrieval {
    fn content(&self) -> &Content {
        &self.0.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        self.0.measures(pictures, texts)
    }
}
