//! Writes a dataset: what belongs into it, in which order, and what a second run leaves alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use negkit_captions::{
    NegationCaption, Outcome, QualityGate, RandomObjects, p1, p2, rand_p1, updated_captions,
};
use negkit_data::negrefcocog::BoxFilter;
use negkit_data::refcoco::Reference;
use negkit_digest::sha256;
use negkit_image::write_atomic;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::refcocog::{neg_refcocog, references};
use super::truth::PictureTruth;
use super::{coco, phrasecut, pickle, text};
use crate::catalog::Kind;
use crate::language::{CaptionStyle, negation_prompts, referring_scene, tifa_items};
use crate::scene::Scene;
use crate::writers::{WorldVerifier, WorldWriter, hard_negative};

/// Number of the layout; a folder of another one is not continued.
const LAYOUT: u32 = 1;
const DATASET: &str = "dataset.json";
const MARKERS: &str = ".markers";
const PLAN: &str = ".markers/plan.json";
/// Pictures that are drawn between two reports of progress.
pub(super) const CHUNK: usize = 64;
const JPEG_QUALITY: u8 = 95;
/// Scenes among which CoN-CLIP's distractors are looked for.
const DISTRACTORS: usize = 500;

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Pictures for training.
    pub train: u64,
    /// Pictures held out.
    pub val: u64,
    /// TIFA prompts.
    pub tifa: usize,
}

/// How pictures are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// JPEG at quality 95, as the photo datasets are published.
    Jpg,
    /// PNG: exact.
    Png,
}

/// All that a dataset follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides the scenes and the words.
    pub seed: u64,
    /// How much of everything.
    pub counts: Counts,
    /// Width and height of the pictures.
    pub side: u32,
    /// How they are stored.
    pub format: PictureFormat,
}

/// Size and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

impl FileRecord {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        }
    }
}

/// What `dataset.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// "negkit world".
    pub name: String,
    /// The version of the crate that wrote it.
    pub version: String,
    /// Number of the layout.
    pub layout: u32,
    /// What it follows from.
    pub plan: Plan,
    /// Every other file of the dataset, by its path in the folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// How far the writing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What was done last: "pictures" or a file's path.
    pub what: &'a str,
    /// Steps done; a picture is one, a file is one.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
}

/// Why a dataset could not be written or is not whole.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] negkit_image::Error),
    /// A file or folder could not be read or made.
    #[error("cannot access {}: {source}", path.display())]
    Access {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged: expected {expected}, found {found}; write the dataset again into the same folder to mend it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its hash or form as recorded.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The folder holds a dataset of another plan.
    #[error("{} holds a dataset of another plan ({found}), not of {expected}; choose another folder, or delete this one", folder.display())]
    OtherPlan {
        /// The folder.
        folder: PathBuf,
        /// The plan asked for.
        expected: String,
        /// The plan found.
        found: String,
    },
    /// A picture or a record could not be put into its format.
    #[error("cannot encode {path}: {reason}")]
    Encode {
        /// The file.
        path: String,
        /// The cause.
        reason: String,
    },
}

fn access(path: &Path) -> impl FnOnce(io::Error) -> DatasetError {
    let path = path.to_owned();
    |source| DatasetError::Access { path, source }
}

/// Which pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// Held out.
    Val,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train2014",
            Self::Val => "val2014",
        }
    }
}

/// The seed of a dataset's scene. Scenes of the two splits do not repeat each other for any
/// practical count.
pub fn scene_seed(seed: u64, split: Split, index: u64) -> u64 {
    let salt = match split {
        Split::Train => 0x7472_6169_6e00_0000u64,
        Split::Val => 0x7661_6c00_0000_0000,
    };
    // SplitMix64, a bijection of its counter.
    let mut z = seed
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(salt)
        .wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The scene of a dataset's picture: each third one is a [`referring_scene`], for people are as
/// common in the photos of COCO as they are rare in [`Scene::sample`].
pub fn dataset_scene(seed: u64, split: Split, index: u64) -> Scene {
    let seed = scene_seed(seed, split, index);
    if index % 3 == 2 {
        referring_scene(seed)
    } else {
        Scene::sample(seed)
    }
}

/// Random streams, one for each picture and purpose.
pub(super) struct Streams {
    seed: u64,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream of a picture for a purpose; it does not depend on any other.
    pub(super) fn of(&self, id: u64, purpose: &str) -> ChaCha8Rng {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in purpose.bytes().chain(id.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(hash);
        rng
    }
}

/// Writes a dataset with JPEG pictures into `folder`, or completes the one that a run before left
/// unfinished; see the [module](super). `progress` is told after each file and each few pictures.
///
/// # Errors
/// When the folder holds another dataset, or a file cannot be read or written. What is written by
/// then stays, whole, for the next run.
pub fn write_all(
    folder: &Path,
    seed: u64,
    counts: Counts,
    side: u32,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Dataset, DatasetError> {
    let plan = Plan {
        seed,
        counts,
        side,
        format: PictureFormat::Jpg,
    };
    write_plan(folder, &plan, progress)
}

/// As [`write_all`], with the format of the pictures chosen.
///
/// # Errors
/// As [`write_all`].
pub fn write_plan(
    folder: &Path,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Dataset, DatasetError> {
    if folder.join(DATASET).is_file() {
        match verify(folder) {
            Ok(dataset) => {
                agree(folder, plan, &dataset.plan)?;
                let total = dataset.files.len() as u64;
                progress(Progress {
                    what: DATASET,
                    done: total,
                    total,
                });
                return Ok(dataset);
            }
            Err(DatasetError::Damaged { .. }) => {
                if let Ok(dataset) = read_dataset(folder) {
                    agree(folder, plan, &dataset.plan)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    make_folder(&folder.join(MARKERS))?;
    let plan_file = folder.join(PLAN);
    if let Ok(bytes) = std::fs::read(&plan_file)
        && let Ok(found) = serde_json::from_slice::<Plan>(&bytes)
    {
        agree(folder, plan, &found)?;
    }
    write_atomic(&plan_file, &json_bytes(PLAN, plan)?)?;

    let mut writer = Writer {
        folder,
        files: BTreeMap::new(),
        done: 0,
        total: plan.counts.train + plan.counts.val + STEPS,
        progress,
    };
    let truths = writer.pictures(plan)?;
    writer.texts(plan, &truths)?;
    let dataset = Dataset {
        name: "negkit world".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        layout: LAYOUT,
        plan: *plan,
        files: writer.files,
    };
    clear_leftovers(folder)?;
    write_atomic(folder.join(DATASET), &json_bytes(DATASET, &dataset)?)?;
    let markers = folder.join(MARKERS);
    std::fs::remove_dir_all(&markers).map_err(access(&markers))?;
    Ok(dataset)
}

fn agree(folder: &Path, plan: &Plan, found: &Plan) -> Result<(), DatasetError> {
    if plan == found {
        return Ok(());
    }
    Err(DatasetError::OtherPlan {
        folder: folder.to_owned(),
        expected: format!("{plan:?}"),
        found: format!("{found:?}"),
    })
}

fn read_dataset(folder: &Path) -> Result<Dataset, DatasetError> {
    let path = folder.join(DATASET);
    let bytes = std::fs::read(&path).map_err(access(&path))?;
    serde_json::from_slice(&bytes).map_err(|error| DatasetError::Damaged {
        path,
        expected: "a dataset's description".to_owned(),
        found: error.to_string(),
    })
}

/// Reads `dataset.json` and checks every file that it names against its hash.
///
/// # Errors
/// [`DatasetError::Damaged`] for the first file that is missing or differs.
pub fn verify(folder: &Path) -> Result<Dataset, DatasetError> {
    let dataset = read_dataset(folder)?;
    if dataset.layout != LAYOUT {
        return Err(DatasetError::Damaged {
            path: folder.join(DATASET),
            expected: format!("layout {LAYOUT}"),
            found: format!("layout {}", dataset.layout),
        });
    }
    dataset.files.par_iter().try_for_each(|(path, record)| {
        let file = folder.join(path);
        let found = std::fs::read(&file).map(|bytes| FileRecord::of(&bytes));
        match found {
            Ok(found) if found == *record => Ok(()),
            Ok(found) => Err(DatasetError::Damaged {
                path: file,
                expected: format!("sha256 {}", record.sha256),
                found: format!("{} with {} bytes", found.sha256, found.bytes),
            }),
            Err(error) => Err(DatasetError::Damaged {
                path: file,
                expected: format!("sha256 {}", record.sha256),
                found: error.to_string(),
            }),
        }
    })?;
    Ok(dataset)
}

/// Removes what a kill in the midst of a write left: temporary files that were never renamed.
fn clear_leftovers(folder: &Path) -> Result<(), DatasetError> {
    let mut pending = vec![folder.to_owned()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(&current).map_err(access(&current))? {
            let path = entry.map_err(access(&current))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            if path.is_dir() {
                pending.push(path);
            } else if name.starts_with(".negkit-") && name.ends_with(".partial") {
                std::fs::remove_file(&path).map_err(access(&path))?;
            }
        }
    }
    Ok(())
}

pub(super) fn make_folder(path: &Path) -> Result<(), DatasetError> {
    std::fs::create_dir_all(path).map_err(access(path))
}

pub(super) fn json_bytes(path: &str, value: &impl Serialize) -> Result<Vec<u8>, DatasetError> {
    serde_json::to_vec_pretty(value).map_err(|error| DatasetError::Encode {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

pub(super) fn compact(path: &str, value: &impl Serialize) -> Result<Vec<u8>, DatasetError> {
    serde_json::to_vec(value).map_err(|error| DatasetError::Encode {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

pub(super) fn encoded(
    path: &str,
    picture: &RgbImage,
    format: PictureFormat,
) -> Result<Vec<u8>, DatasetError> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    let kind = ExtendedColorType::Rgb8;
    let result = match format {
        PictureFormat::Jpg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .write_image(picture, width, height, kind),
        PictureFormat::Png => PngEncoder::new(&mut bytes).write_image(picture, width, height, kind),
    };
    result.map_err(|error| DatasetError::Encode {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

/// Puts a file in its place unless it lies there already.
pub(super) fn settle(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let same = std::fs::metadata(path).is_ok_and(|data| data.len() == bytes.len() as u64)
        && std::fs::read(path).is_ok_and(|found| found == bytes);
    if !same {
        write_atomic(path, bytes)?;
    }
    Ok(())
}

/// Pictures by split.
struct Truths {
    all: Vec<PictureTruth>,
    train: usize,
}

impl Truths {
    fn of(&self, split: Split) -> Vec<&PictureTruth> {
        let (train, val) = self.all.split_at(self.train);
        match split {
            Split::Train => train.iter().collect(),
            Split::Val => val.iter().collect(),
        }
    }
}

struct Writer<'a> {
    folder: &'a Path,
    files: BTreeMap<String, FileRecord>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

/// Files beside the pictures.
const STEPS: u64 = 2 * 5 + 3 + 4 + 2 + 1 + 1 + 4 + 1;

impl Writer<'_> {
    fn report(&mut self, what: &str, steps: u64) {
        self.done += steps;
        (self.progress)(Progress {
            what,
            done: self.done,
            total: self.total,
        });
    }

    /// Draws all pictures. Those that lie there as they should are not written again.
    fn pictures(&mut self, plan: &Plan) -> Result<Truths, DatasetError> {
        let Counts { train, val, .. } = plan.counts;
        let extension = match plan.format {
            PictureFormat::Jpg => "jpg",
            PictureFormat::Png => "png",
        };
        for folder in ["train2014", "val2014", "phrasecut/images"] {
            make_folder(&self.folder.join(folder))?;
        }
        let splits = (0..train).map(|i| (Split::Train, i));
        let splits: Vec<(Split, u64)> = splits.chain((0..val).map(|i| (Split::Val, i))).collect();
        let mut all = Vec::with_capacity(splits.len());
        for (start, chunk) in (0u64..).step_by(CHUNK).zip(splits.chunks(CHUNK)) {
            let folder = self.folder;
            let drawn: Result<Vec<_>, DatasetError> = chunk
                .par_iter()
                .enumerate()
                .map(|(k, &(split, index))| {
                    let id = start + k as u64 + 1;
                    let scene = dataset_scene(plan.seed, split, index);
                    let name = format!("COCO_{}_{id:012}.{extension}", split.name());
                    let path = format!("{}/{name}", split.name());
                    let (picture, truth) = PictureTruth::of(id, name, scene, plan.side);
                    let bytes = encoded(&path, &picture, plan.format)?;
                    settle(&folder.join(&path), &bytes)?;
                    // PhraseCut's loader looks for `images/ID.jpg`.
                    let link = format!("phrasecut/images/{id}.{extension}");
                    link_or_copy(&folder.join(&path), &folder.join(&link), &bytes)?;
                    Ok((truth, [path, link], FileRecord::of(&bytes)))
                })
                .collect();
            for (truth, paths, record) in drawn? {
                for path in paths {
                    self.files.insert(path, record.clone());
                }
                all.push(truth);
            }
            self.report("pictures", chunk.len() as u64);
        }
        Ok(Truths {
            all,
            train: train as usize,
        })
    }

    /// Writes a file if its marker and its bytes do not say that it is there.
    fn file(
        &mut self,
        path: &str,
        make: impl FnOnce() -> Result<Vec<u8>, DatasetError>,
    ) -> Result<(), DatasetError> {
        let target = self.folder.join(path);
        let marker = self.folder.join(MARKERS).join(path.replace('/', "__"));
        let recorded = std::fs::read(&marker)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<FileRecord>(&bytes).ok());
        let there = recorded.filter(|record| {
            std::fs::read(&target).is_ok_and(|bytes| FileRecord::of(&bytes) == *record)
        });
        let record = match there {
            Some(record) => record,
            None => {
                if let Some(folder) = target.parent() {
                    make_folder(folder)?;
                }
                let bytes = make()?;
                let record = FileRecord::of(&bytes);
                write_atomic(&target, &bytes)?;
                write_atomic(&marker, &compact(path, &record)?)?;
                record
            }
        };
        self.files.insert(path.to_owned(), record);
        self.report(path, 1);
        Ok(())
    }

    fn texts(&mut self, plan: &Plan, truths: &Truths) -> Result<(), DatasetError> {
        let streams = Streams::new(plan.seed);
        for split in [Split::Train, Split::Val] {
            self.coco(split, truths, &streams)?;
        }
        self.refcocog(truths, &streams)?;
        self.phrasecut(truths, &streams)?;
        self.tifa(plan)?;
        self.file("negscore/prompts_with_questions.json", || {
            json_bytes("negscore", &negation_prompts())
        })?;
        self.negations(plan, truths, &streams)?;
        self.file("scenes.json", || {
            let scenes: Vec<Value> = truths
                .all
                .iter()
                .map(|truth| json!({"image_id": truth.id, "scene": truth.scene}))
                .collect();
            compact("scenes.json", &scenes)
        })
    }

    fn coco(
        &mut self,
        split: Split,
        truths: &Truths,
        streams: &Streams,
    ) -> Result<(), DatasetError> {
        let (name, of_split) = (split.name(), truths.of(split));
        let path = format!("annotations/captions_{name}.json");
        self.file(&path, || {
            let style = CaptionStyle::default();
            let annotations: Vec<_> = of_split
                .par_iter()
                .flat_map_iter(|truth| text::captions_of(truth, &style, streams))
                .collect();
            compact(&path, &coco::captions(&of_split, annotations))
        })?;
        for (kind, rle) in [("instances", false), ("instances_rle", true)] {
            let path = format!("annotations/{kind}_{name}.json");
            self.file(&path, || compact(&path, &coco::instances(&of_split, rle)))?;
        }
        let asked = || -> Vec<_> {
            of_split
                .par_iter()
                .flat_map_iter(|truth| text::questions_of(truth, streams))
                .collect()
        };
        let path = format!("vqa/v2_OpenEnded_mscoco_{name}_questions.json");
        self.file(&path, || {
            compact(&path, &text::vqa_questions(&asked(), name))
        })?;
        let path = format!("vqa/v2_mscoco_{name}_annotations.json");
        self.file(&path, || {
            compact(&path, &text::vqa_annotations(&asked(), name))
        })
    }

    /// RefCOCOg lies over COCO's train pictures; eight tenths of them train, a tenth each val and
    /// test. NegRefCOCOg is made from the latter two.
    fn refcocog(&mut self, truths: &Truths, streams: &Streams) -> Result<(), DatasetError> {
        let pictures = truths.of(Split::Train);
        let split_of = |position: usize| match position * 10 / pictures.len().max(1) {
            8 => "val",
            9 => "test",
            _ => "train",
        };
        let refs: Vec<Reference> = pictures
            .par_iter()
            .enumerate()
            .flat_map_iter(|(position, truth)| {
                let mut rng = streams.of(truth.id, "references");
                references(truth, split_of(position), &mut rng)
            })
            .collect();
        let value = json!(refs);
        self.file("refcocog/refs(umd).p", || Ok(pickle::to_pickle(&value)))?;
        self.file("refcocog/refs(umd).json", || {
            compact("refs(umd).json", &value)
        })?;
        self.file("refcocog/instances.json", || {
            compact("instances.json", &coco::instances(&pictures, false))
        })?;
        self.file("negrefcocog/NegRefCOCOg.json", || {
            let held_out: Vec<Reference> = refs
                .iter()
                .filter(|reference| reference.split != "train")
                .cloned()
                .collect();
            let items = neg_refcocog(&held_out, &pictures, &BoxFilter::drawn());
            json_bytes("NegRefCOCOg.json", &items)
        })
    }

    /// PhraseCut: the train pictures train, the held-out ones by turns val and test.
    fn phrasecut(&mut self, truths: &Truths, streams: &Streams) -> Result<(), DatasetError> {
        let train = truths.all[..truths.train].iter();
        let mut of_split: Vec<(&str, Vec<&PictureTruth>)> = vec![
            ("train", train.collect()),
            ("val", vec![]),
            ("test", vec![]),
        ];
        for (i, truth) in truths.all[truths.train..].iter().enumerate() {
            of_split[1 + i % 2].1.push(truth);
        }
        for (split, pictures) in &of_split {
            let path = format!("phrasecut/refer_{split}.json");
            self.file(&path, || {
                let tasks: Vec<_> = pictures
                    .par_iter()
                    .flat_map_iter(|truth| {
                        phrasecut::tasks(truth, &mut streams.of(truth.id, "phrases"))
                    })
                    .collect();
                compact(&path, &tasks)
            })?;
        }
        self.file("phrasecut/image_data_split.json", || {
            let entries: Vec<Value> = of_split
                .iter()
                .flat_map(|(split, pictures)| {
                    pictures
                        .iter()
                        .map(|truth| phrasecut::image_entry(truth, split))
                })
                .collect();
            compact("image_data_split.json", &entries)
        })
    }

    fn tifa(&mut self, plan: &Plan) -> Result<(), DatasetError> {
        let items = tifa_items(plan.seed, plan.counts.tifa);
        self.file("tifa/tifa_v1.0_text_inputs.json", || {
            let inputs: Vec<Value> = items
                .iter()
                .map(|item| json!({"id": item.id, "caption": item.caption}))
                .collect();
            json_bytes("tifa_v1.0_text_inputs.json", &inputs)
        })?;
        self.file("tifa/tifa_v1.0_question_answers.json", || {
            let questions: Vec<_> = items.iter().flat_map(|item| &item.questions).collect();
            json_bytes("tifa_v1.0_question_answers.json", &questions)
        })
    }

    /// The captions of the train pictures with negations worked in.
    fn negations(
        &mut self,
        plan: &Plan,
        truths: &Truths,
        streams: &Streams,
    ) -> Result<(), DatasetError> {
        let pictures = truths.of(Split::Train);
        let writer = WorldWriter::new(plan.seed);
        let gate = QualityGate::default();
        let scene_of = |id: u64| {
            let index = usize::try_from(id).ok()?.checked_sub(1)?;
            truths.all.get(index).map(|truth| truth.scene.clone())
        };
        let verifier = WorldVerifier::new(scene_of);
        let objects = RandomObjects {
            vocabulary: Kind::ALL.iter().map(|kind| kind.to_string()).collect(),
            seed: plan.seed,
        };
        // What is dropped is no part of a published captions file.
        let captions_file = |path: &str, outcomes: Vec<Outcome>| {
            let records: Vec<NegationCaption> = outcomes.into_iter().flatten().collect();
            let annotations: Vec<_> = updated_captions(&records).collect();
            compact(path, &coco::captions(&pictures, annotations))
        };
        let sources = || {
            pictures
                .iter()
                .flat_map(|truth| text::source_captions(truth, streams))
        };
        let path = "negation/captions_p1_train2014.json";
        self.file(path, || {
            captions_file(path, p1(sources(), &writer, &verifier, &gate).collect())
        })?;
        let path = "negation/captions_rand_p1_train2014.json";
        self.file(path, || {
            let outcomes = rand_p1(sources(), &objects, &writer, &verifier, &gate).collect();
            captions_file(path, outcomes)
        })?;
        let path = "negation/captions_p2_train2014.json";
        self.file(path, || {
            let mut pairs = Vec::new();
            for truth in &pictures {
                let captions = text::source_captions(truth, streams);
                let mut rng = streams.of(truth.id, "pairs");
                for asked in text::questions_of(truth, streams) {
                    if asked.grounded
                        && asked.pair.answer == "no"
                        && let Some(caption) = captions.choose(&mut rng)
                    {
                        pairs.push((caption.clone(), asked.pair));
                    }
                }
            }
            captions_file(path, p2(pairs, &writer, &gate).collect())
        })?;
        let path = "negation/cc_neg_train2014.json";
        self.file(path, || {
            let pool: Vec<(u64, Scene)> = pictures
                .iter()
                .take(DISTRACTORS)
                .map(|truth| (truth.id, truth.scene.clone()))
                .collect();
            let pairs: Vec<_> = pictures
                .par_iter()
                .filter_map(|truth| {
                    let mut rng = streams.of(truth.id, "hard negatives");
                    hard_negative(truth.id, &truth.scene, &pool, &mut rng)
                })
                .collect();
            compact(path, &pairs)
        })
    }
}

/// Gives a file a second name; where the file system has no hard links, a second copy.
fn link_or_copy(file: &Path, link: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    if std::fs::read(link).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    // A damaged one must go first; that there is none is the usual case.
    let _ = std::fs::remove_file(link);
    if std::fs::hard_link(file, link).is_ok() {
        return Ok(());
    }
    settle(link, bytes)
}
