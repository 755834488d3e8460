//! What there is to do: captions, and questions to go with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use negkit_captions::{ImageRef, RandomObjects, Source, SourceCaption, VqaPair};
use negkit_data::coco::Captions;
use negkit_data::vqa::read_vqa;

use crate::CaptionRunError;

/// The files of VQAv2 that P2 takes its questions from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vqa {
    /// `v2_OpenEnded_mscoco_*_questions.json`.
    pub questions: PathBuf,
    /// `v2_mscoco_*_annotations.json`.
    pub annotations: PathBuf,
}

/// Which pipeline, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// A likely object.
    P1,
    /// An object drawn at random.
    RandP1(RandomObjects),
    /// A question whose answer is "no".
    P2(Vqa),
}

impl Task {
    /// The pipeline.
    pub fn source(&self) -> Source {
        match self {
            Self::P1 => Source::P1,
            Self::RandP1(_) => Source::RandP1,
            Self::P2(_) => Source::P2,
        }
    }

    /// Its name, as the command has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::P1 => "p1",
            Self::RandP1(_) => "rand-p1",
            Self::P2(_) => "p2",
        }
    }
}

/// One caption to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The caption.
    pub caption: SourceCaption,
    /// The question (P2).
    pub pair: Option<VqaPair>,
}

impl Item {
    /// Its key in the run.
    fn key(&self) -> String {
        match &self.pair {
            Some(pair) => format!("question/{}", pair.question_id),
            None => format!("caption/{}", self.caption.id),
        }
    }
}

/// All captions of a run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which pipeline.
    pub task: Task,
    /// The captions file.
    pub captions: PathBuf,
    /// In the order of the captions file; for P2 in that of the annotations.
    pub items: Vec<Item>,
}

impl Job {
    /// Reads the captions of a COCO file, and the questions where the task has them. `images` is the
    /// folder of the pictures; they need not be there.
    ///
    /// A question with the answer "no" is joined with a caption of its picture: the first one with the
    /// first caption, the second with the second and so on, and again from the first when there are
    /// more questions than captions. Questions about pictures without a caption are passed over.
    ///
    /// # Errors
    /// When a file cannot be read, an id is there twice, or nothing is left to do.
    pub fn read(
        task: Task,
        captions: &Path,
        images: Option<&Path>,
        limit: Option<usize>,
    ) -> Result<Self, CaptionRunError> {
        let found = Captions::open(captions)?;
        let files: HashMap<u64, PathBuf> = match images {
            Some(folder) => found
                .pictures
                .iter()
                .map(|picture| (picture.id, folder.join(&picture.file_name)))
                .collect(),
            None => HashMap::new(),
        };
        let image = |id: u64| ImageRef {
            id,
            file: files.get(&id).cloned(),
        };
        let sources = found.captions.into_iter().map(|caption| SourceCaption {
            id: caption.id,
            image: image(caption.image_id),
            text: caption.caption,
        });
        let most = limit.unwrap_or(usize::MAX);
        let items: Vec<Item> = match &task {
            Task::P1 | Task::RandP1(_) => sources
                .map(|caption| Item {
                    caption,
                    pair: None,
                })
                .take(most)
                .collect(),
            Task::P2(vqa) => join(vqa, sources, most)?,
        };
        if items.is_empty() {
            return Err(CaptionRunError::Nothing {
                path: captions.to_owned(),
                reason: match &task {
                    Task::P2(_) => {
                        "no question with the answer \"no\" is about a picture with a caption; are \
                         captions and questions of the same split?"
                    }
                    _ => "it has no captions",
                }
                .to_owned(),
            });
        }
        Ok(Self {
            task,
            captions: captions.to_owned(),
            items,
        })
    }

    /// The keys of the items.
    pub fn keys(&self) -> Vec<String> {
        self.items.iter().map(Item::key).collect()
    }
}

fn join(
    vqa: &Vqa,
    sources: impl Iterator<Item = SourceCaption>,
    most: usize,
) -> Result<Vec<Item>, CaptionRunError> {
    let mut by_picture: HashMap<u64, (Vec<SourceCaption>, usize)> = HashMap::new();
    for caption in sources {
        by_picture
            .entry(caption.image.id)
            .or_default()
            .0
            .push(caption);
    }
    let is_no = |answer: &str| answer.trim().eq_ignore_ascii_case("no");
    let mut items = Vec::new();
    for found in read_vqa(&vqa.questions, &vqa.annotations, is_no)? {
        if items.len() == most {
            break;
        }
        let Some((captions, next)) = by_picture.get_mut(&found.image_id) else {
            continue;
        };
        let caption = captions[*next % captions.len()].clone();
        *next += 1;
        let pair = VqaPair {
            question_id: found.question_id,
            image: caption.image.clone(),
            question: found.question,
            answer: found.answer,
        };
        items.push(Item {
            caption,
            pair: Some(pair),
        });
    }
    Ok(items)
}
