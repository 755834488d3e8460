//! The pictures and phrases of Table 5.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use negkit_data::phrasecut::{self, PhraseCut, PhraseTask};
use negkit_data::refcoco::{RefCoco, Splitter};
use negkit_data::{WordList, file_hashes};
use negkit_image::{Mask, Rle};
use negkit_world::datasets::{Counts, PictureFormat, Plan as WorldPlan, write_plan};
use serde::{Deserialize, Serialize};

use super::{Result, Table5Error};
use crate::RunError;
use crate::folder::PaperFolder;

/// A column of the paper's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataset {
    /// PhraseCut.
    PhraseCut,
    /// The expressions of RefCOCOg that hold a negation.
    RefCocog,
}

impl Dataset {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 2] = [Self::PhraseCut, Self::RefCocog];

    /// The name in the keys of items.
    pub fn key(self) -> &'static str {
        match self {
            Self::PhraseCut => "phrasecut",
            Self::RefCocog => "refcocog",
        }
    }

    /// The dataset of an item and the picture's id there, by the item's key.
    pub fn of_item(item: &str) -> Option<(Self, u64)> {
        let (dataset, id) = item.split_once('/')?;
        let dataset = Self::ALL.into_iter().find(|known| known.key() == dataset)?;
        Some((dataset, id.parse().ok()?))
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PhraseCut => "PhraseCut",
            Self::RefCocog => "RefCOCOg (Neg)",
        })
    }
}

/// What a phrase means.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// PhraseCut's polygons.
    Phrase(Box<PhraseTask>),
    /// A mask.
    Runs(Rle),
}

impl Truth {
    /// The mask at the picture's size.
    pub(crate) fn mask(&self, width: u32, height: u32) -> Result<Mask> {
        Ok(match self {
            Self::Phrase(task) => task.mask(width, height)?,
            Self::Runs(runs) => runs.to_mask()?,
        })
    }
}

/// A phrase to be marked.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedPhrase {
    /// Its id in the dataset.
    pub id: String,
    /// The phrase.
    pub text: String,
    /// What it means.
    pub truth: Truth,
}

/// A picture with all its phrases.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureItem {
    /// The dataset.
    pub dataset: Dataset,
    /// The picture's id there.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Width and height by the dataset, in pixels.
    pub size: (u32, u32),
    /// The phrases.
    pub phrases: Vec<PlannedPhrase>,
}

impl PictureItem {
    /// The key of the item.
    pub fn key(&self) -> String {
        format!("{}/{}", self.dataset.key(), self.id)
    }
}

/// What phrases and truth of a dataset are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetFiles {
    /// The dataset.
    pub dataset: Dataset,
    /// Its split, such as `test`.
    pub split: String,
    /// Ids of pictures that the protocol leaves out: CLIPSeg's list of those whose size is not that
    /// of their annotation.
    pub left_out: Vec<u64>,
    /// SHA-256 of its files.
    pub files: BTreeMap<String, String>,
}

/// The pictures of Table 5, and the files that they are from.
#[derive(Debug, Clone)]
pub struct Table5Data {
    /// In the order of the datasets, then of the ids.
    pub pictures: Vec<PictureItem>,
    /// One entry a dataset.
    pub files: Vec<DatasetFiles>,
}

/// Where a dataset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetSource {
    /// PhraseCut.
    PhraseCut {
        /// The folder of `refer_*.json` and `images`.
        folder: PathBuf,
        /// The split.
        split: phrasecut::Split,
    },
    /// RefCOCOg.
    RefCocog {
        /// The folder of `refs(*).p` and `instances.json`.
        folder: PathBuf,
        /// The folder of COCO's pictures.
        pictures: PathBuf,
        /// Who divided it.
        splitter: Splitter,
        /// The split; all of them where none is named.
        split: Option<String>,
    },
}

impl DatasetSource {
    /// The dataset.
    pub fn dataset(&self) -> Dataset {
        match self {
            Self::PhraseCut { .. } => Dataset::PhraseCut,
            Self::RefCocog { .. } => Dataset::RefCocog,
        }
    }
}

impl Table5Data {
    /// Reads the datasets. Of RefCOCOg those expressions count that hold one of `words`. `most` bounds
    /// the pictures of each dataset.
    ///
    /// # Errors
    /// When a dataset cannot be read, or gives no phrase.
    pub fn open(sources: &[DatasetSource], words: &WordList, most: Option<usize>) -> Result<Self> {
        let mut all = Self {
            pictures: Vec::new(),
            files: Vec::new(),
        };
        for source in sources {
            let (mut pictures, files) = match source {
                DatasetSource::PhraseCut { folder, split } => open_phrasecut(folder, *split)?,
                DatasetSource::RefCocog {
                    folder,
                    pictures,
                    splitter,
                    split,
                } => open_refcocog(folder, pictures, (*splitter, split.as_deref()), words)?,
            };
            pictures.truncate(most.unwrap_or(usize::MAX));
            if pictures.is_empty() {
                return Err(Table5Error::NoPhrases {
                    dataset: files.dataset,
                    words: words.words().join(", "),
                });
            }
            all.pictures.extend(pictures);
            all.files.push(files);
        }
        Ok(all)
    }
}

fn open_phrasecut(
    folder: &Path,
    split: phrasecut::Split,
) -> Result<(Vec<PictureItem>, DatasetFiles)> {
    let mut data = PhraseCut::open(folder, split)?;
    let left_out = data.drop_invalid();
    let files = [
        phrasecut::tasks_file(folder, split),
        phrasecut::pictures_file(folder)?,
    ];
    let files = DatasetFiles {
        dataset: Dataset::PhraseCut,
        split: split.to_string(),
        left_out,
        files: file_hashes(&files)?,
    };
    let paths: Vec<PathBuf> = data
        .pictures
        .iter()
        .map(|picture| data.picture_path(picture.info.image_id))
        .collect();
    let pictures = data.pictures.into_iter().zip(paths);
    let pictures = pictures.map(|(picture, path)| PictureItem {
        dataset: Dataset::PhraseCut,
        id: picture.info.image_id,
        path,
        size: (picture.info.width, picture.info.height),
        phrases: picture.tasks.into_iter().map(planned).collect(),
    });
    Ok((pictures.collect(), files))
}

fn planned(task: PhraseTask) -> PlannedPhrase {
    PlannedPhrase {
        id: task.task_id.clone(),
        text: task.phrase.clone(),
        truth: Truth::Phrase(Box::new(task)),
    }
}

fn open_refcocog(
    folder: &Path,
    picture_folder: &Path,
    (splitter, split): (Splitter, Option<&str>),
    words: &WordList,
) -> Result<(Vec<PictureItem>, DatasetFiles)> {
    let data = RefCoco::open(folder, splitter, split)?;
    let files = [splitter.file(folder), folder.join("instances.json")];
    let files = DatasetFiles {
        dataset: Dataset::RefCocog,
        split: format!("{splitter}, {}", split.unwrap_or("all")),
        left_out: Vec::new(),
        files: file_hashes(&files)?,
    };
    let mut pictures = Vec::new();
    for (id, references) in data.by_picture() {
        let mut phrases = Vec::new();
        for reference in &references {
            let negated = |text: &str| words.found_in(text).is_some();
            let mut negated = reference.sentences.iter().filter(|s| negated(&s.sent));
            let Some(first) = negated.next() else {
                continue;
            };
            let runs = Rle::from_mask(&data.mask(reference)?);
            phrases.extend(
                std::iter::once(first)
                    .chain(negated)
                    .map(|sentence| PlannedPhrase {
                        id: sentence.sent_id.to_string(),
                        text: sentence.sent.clone(),
                        truth: Truth::Runs(runs.clone()),
                    }),
            );
        }
        let picture = references.first().and_then(|first| data.picture(first));
        if let (Some(picture), false) = (picture, phrases.is_empty()) {
            pictures.push(PictureItem {
                dataset: Dataset::RefCocog,
                id,
                path: picture_folder.join(&picture.file_name),
                size: (picture.width, picture.height),
                phrases,
            });
        }
    }
    Ok((pictures, files))
}

impl PaperFolder {
    /// Finds PhraseCut: `phrasecut`, `VGPhraseCut_v0`, or the folder itself.
    ///
    /// # Errors
    /// [`negkit_data::DataError::Missing`] when it is in none of them.
    pub fn phrasecut(&self, split: phrasecut::Split) -> Result<DatasetSource> {
        let file = format!("refer_{split}.json");
        let folder = self.find_holding(
            &["phrasecut", "VGPhraseCut_v0", "PhraseCut", ""],
            &[&file],
            "PhraseCut's phrases; download_dataset.py of \
             https://github.com/ChenyunWu/PhraseCutDataset fetches them",
        )?;
        Ok(DatasetSource::PhraseCut { folder, split })
    }

    /// Finds RefCOCOg (`refcocog`) and COCO's pictures (`train2014`, `coco/train2014`).
    ///
    /// # Errors
    /// [`negkit_data::DataError::Missing`] when one of them is not there.
    pub fn refcocog(&self, splitter: Splitter, split: Option<String>) -> Result<DatasetSource> {
        let pickle = format!("refs({splitter}).p");
        let json = format!("refs({splitter}).json");
        let folder = self.find_holding(
            &["refcocog", "refer/data/refcocog", "data/refcocog", ""],
            &[&pickle, &json],
            "RefCOCOg's references; https://github.com/lichengunc/refer",
        )?;
        let pictures = self.train2014()?;
        Ok(DatasetSource::RefCocog {
            folder,
            pictures,
            splitter,
            split,
        })
    }
}

/// How many scenes are drawn for each dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorldCounts {
    /// Pictures of PhraseCut's test split.
    pub phrasecut: u64,
    /// Pictures of RefCOCOg, of which those count that have a negation.
    pub refcocog: u64,
}

impl Default for WorldCounts {
    fn default() -> Self {
        Self {
            phrasecut: 200,
            refcocog: 600,
        }
    }
}

/// Decides the scenes. No model was trained on them: their seeds are hashes of this one, where the
/// recipe of the small models counts from 0.
const WORLD_SEED: u64 = 5;

/// Draws scenes of `side` pixels, writes them into `folder` in the published formats, and says where
/// each dataset is: so that drawn scenes go through the very readers that photos go through.
///
/// # Errors
/// When the folder holds another dataset or cannot be written.
pub fn write_world(folder: &Path, side: u32, counts: WorldCounts) -> Result<Vec<DatasetSource>> {
    let plan = WorldPlan {
        seed: WORLD_SEED,
        counts: Counts {
            // The held-out pictures go to PhraseCut's val and test by turns.
            train: counts.refcocog,
            val: counts.phrasecut * 2,
            tifa: 1,
        },
        side,
        format: PictureFormat::Png,
    };
    let _alone = alone(folder)?;
    write_plan(folder, &plan, &mut |_| {})?;
    let paper = PaperFolder::new(folder);
    Ok(vec![
        paper.phrasecut(phrasecut::Split::Test)?,
        paper.refcocog(Splitter::Umd, None)?,
    ])
}

/// Waits until no other shard writes the same scenes.
fn alone(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let locked = || {
        fs::create_dir_all(folder)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|source| {
        RunError::Write {
            path: path.clone(),
            source,
        }
        .into()
    })
}
