//! What of the datasets is in a folder, whether it is whole, and where to get the rest.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::coco::{Captions, Instances};
use crate::foils::{read_neg_refcocog, read_valse};
use crate::phrasecut::{self, INVALID_PICTURES, Split, read_pictures, read_skipped, read_tasks};
use crate::prompts::{read_geneval, read_neg_prompts, read_tifa_prompts, read_tifa_questions};
use crate::refcoco::{RefCoco, Splitter};
use crate::{DataError, Look, NeededPicture, PictureAudit, WordList};

/// How deep datasets lie below the folder that is checked.
const DEPTH: usize = 4;

/// How a dataset was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All there, and as it was published where that is known.
    Whole,
    /// What is there is right, but something is missing.
    Incomplete,
    /// A file is damaged or says something that cannot be, or counts differ from the published.
    Wrong,
    /// Nothing of it is there.
    Absent,
}

/// A number that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What was counted.
    pub what: String,
    /// How many there are.
    pub found: usize,
    /// How many were published, where that is known.
    pub published: Option<usize>,
}

/// What a check found of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetReport {
    /// The dataset.
    pub name: String,
    /// Where it is.
    pub folder: Option<PathBuf>,
    /// How it was found.
    pub state: State,
    /// What was counted.
    pub counts: Vec<Count>,
    /// The pictures that it needs.
    pub pictures: PictureAudit,
    /// What is wrong: file, record, field.
    pub problems: Vec<String>,
    /// Files and folders that are not there.
    pub missing: Vec<String>,
    /// What is odd without being wrong.
    pub notes: Vec<String>,
    /// Where to get it.
    pub source: &'static str,
}

/// What of the datasets a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The folder.
    pub folder: PathBuf,
    /// Whether pictures were decoded and masks drawn.
    pub deep: bool,
    /// The datasets, those that are absent too.
    pub datasets: Vec<DatasetReport>,
}

impl CheckReport {
    /// Whether nothing that was found is wrong.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.datasets
            .iter()
            .all(|found| found.state != State::Wrong)
    }
}

const PHRASECUT: &str = "download_dataset.py of https://github.com/ChenyunWu/PhraseCutDataset";
const REFCOCO: &str = "https://github.com/lichengunc/refer (refcoco.zip, refcoco+.zip, \
                       refcocog.zip); pictures: http://images.cocodataset.org/zips/train2014.zip";
const COCO: &str = "https://cocodataset.org/#download \
                    (annotations_trainval2014.zip, train2014.zip, val2014.zip)";
const TIFA: &str = "https://github.com/Yushi-Hu/tifa, tifa_v1.0/";
const NEG_SCORE: &str = "prompts_with_questions.json of https://github.com/sepehrkr/SpaceVLM";
const GENEVAL: &str = "https://github.com/djghosh13/geneval, prompts/";
const NEG_REFCOCOG: &str = "NegRefCOCOg.json of https://github.com/parkquasar/NegationCLIP; \
                            pictures: http://images.cocodataset.org/zips/train2014.zip";
const VALSE: &str = "https://github.com/Heidelberg-NLP/VALSE, data/existence.json; pictures: \
                     Visual7W's of Visual Genome";

/// Pictures and phrases of PhraseCut's splits (its paper, table 2; sums 77,262 and 345,486).
fn published_phrasecut(split: Split) -> (usize, usize) {
    match split {
        Split::Train => (71_746, 310_816),
        Split::Val => (2_971, 20_316),
        Split::Test => (2_545, 14_354),
        Split::Miniv => (100, 821),
    }
}

/// References of a split, as TensorFlow Datasets' `ref_coco` and the released files count them.
fn published_references(dataset: &str, splitter: Splitter, split: &str) -> Option<usize> {
    Some(match (dataset, splitter, split) {
        ("refcoco", Splitter::Unc, "train") => 42_404,
        ("refcoco", Splitter::Unc, "val") => 3_811,
        ("refcoco", Splitter::Unc, "testA") => 1_975,
        ("refcoco", Splitter::Unc, "testB") => 1_810,
        ("refcoco", Splitter::Google, "train") => 40_000,
        ("refcoco", Splitter::Google, "val" | "test") => 5_000,
        ("refcoco+", Splitter::Unc, "train") => 42_278,
        ("refcoco+", Splitter::Unc, "val") => 3_805,
        ("refcoco+", Splitter::Unc, "testA") => 1_975,
        ("refcoco+", Splitter::Unc, "testB") => 1_798,
        ("refcocog", Splitter::Umd, "train") => 42_226,
        ("refcocog", Splitter::Umd, "val") => 2_573,
        ("refcocog", Splitter::Umd, "test") => 5_023,
        ("refcocog", Splitter::Google, "train") => 44_822,
        ("refcocog", Splitter::Google, "val") => 5_000,
        _ => return None,
    })
}

/// Pictures, captions and instances of COCO.
fn published_coco(split: &str) -> Option<(usize, usize, usize)> {
    Some(match split {
        "train2014" => (82_783, 414_113, 604_907),
        "val2014" => (40_504, 202_654, 291_875),
        "train2017" => (118_287, 591_753, 860_001),
        "val2017" => (5_000, 25_014, 36_781),
        _ => return None,
    })
}

/// Says which datasets are in a folder or below it, recognised by the names of their files, and
/// whether they are whole. `look` decides whether pictures are decoded, and masks drawn, or only
/// looked for.
///
/// A dataset of drawn scenes has no published counts to compare with; it is recognised by its
/// `dataset.json`.
///
/// # Errors
/// When the folder cannot be read. All that is wrong with its datasets is in the report.
pub fn check(folder: &Path, look: Look) -> Result<CheckReport, DataError> {
    let mut found = Found::default();
    found.walk(folder, DEPTH, false)?;
    let mut datasets = Vec::new();
    let checks: [(&str, &str, Check); 8] = [
        ("PhraseCut", PHRASECUT, phrasecut),
        ("RefCOCO, RefCOCO+, RefCOCOg", REFCOCO, refcoco),
        ("COCO", COCO, coco),
        ("TIFA v1.0", TIFA, tifa),
        ("Neg Score prompts", NEG_SCORE, neg_score),
        ("GenEval", GENEVAL, geneval),
        ("NegRefCOCOg", NEG_REFCOCOG, neg_refcocog),
        ("VALSE existence", VALSE, valse),
    ];
    for (name, source, check) in checks {
        let drafts = check(&found, look);
        if drafts.is_empty() {
            datasets.push(DatasetReport {
                name: name.to_owned(),
                folder: None,
                state: State::Absent,
                counts: Vec::new(),
                pictures: PictureAudit::default(),
                problems: Vec::new(),
                missing: Vec::new(),
                notes: Vec::new(),
                source,
            });
        }
        datasets.extend(drafts.into_iter().map(|draft| draft.report(name, source)));
    }
    Ok(CheckReport {
        folder: folder.to_owned(),
        deep: look == Look::Decode,
        datasets,
    })
}

/// Finds a dataset, as often as it is there, and looks it over.
type Check = fn(&Found, Look) -> Vec<Draft>;

/// Files and folders below the one that is checked.
#[derive(Default)]
struct Found {
    /// Files by folder, and whether the folder is of drawn scenes.
    folders: BTreeMap<PathBuf, (Vec<String>, bool)>,
}

/// Folders of pictures, which hold nothing else.
fn holds_pictures(name: &str) -> bool {
    ["images", "visual7w"].contains(&name) || published_coco(name).is_some()
}

impl Found {
    fn walk(&mut self, folder: &Path, depth: usize, drawn: bool) -> Result<(), DataError> {
        let failed = |source| DataError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut files = Vec::new();
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            // `metadata` and not the entry's type: links to folders are common for pictures.
            if !path.is_dir() {
                files.push(name);
            } else if holds_pictures(&name) {
                self.folders.insert(path, (Vec::new(), drawn));
            } else if !name.starts_with('.') {
                folders.push(path);
            }
        }
        files.sort();
        let drawn = drawn || (files.iter().any(|name| name == "dataset.json") && is_drawn(folder));
        self.folders.insert(folder.to_owned(), (files, drawn));
        if depth > 1 {
            for folder in folders {
                self.walk(&folder, depth - 1, drawn)?;
            }
        }
        Ok(())
    }

    /// Files whose names fit, with whether they are of drawn scenes.
    fn files(&self, fits: impl Fn(&str) -> bool) -> Vec<(PathBuf, bool)> {
        let mut found = Vec::new();
        for (folder, (files, drawn)) in &self.folders {
            let fitting = files.iter().filter(|name| fits(name));
            found.extend(fitting.map(|name| (folder.join(name), *drawn)));
        }
        found
    }

    /// The folder of that name which is nearest to `to`: shares the most of its path.
    fn picture_folder(&self, name: &str, to: &Path) -> Option<&Path> {
        let shared = |path: &Path| {
            let pairs = path.components().zip(to.components());
            pairs.take_while(|(a, b)| a == b).count()
        };
        let named = self.folders.keys().filter(|path| path.ends_with(name));
        named.map(PathBuf::as_path).max_by_key(|path| shared(path))
    }
}

/// Whether the folder is one that `negkit-world` wrote.
fn is_drawn(folder: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
    }
    let bytes = std::fs::read(folder.join("dataset.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).is_ok_and(|Name { name }| name == "negkit world")
}

/// A report in the making.
struct Draft {
    title: Option<String>,
    folder: PathBuf,
    drawn: bool,
    counts: Vec<Count>,
    needed: Vec<NeededPicture>,
    audit: Option<PictureAudit>,
    problems: Vec<String>,
    missing: Vec<String>,
    notes: Vec<String>,
}

impl Draft {
    fn new(file_or_folder: &Path, drawn: bool) -> Self {
        let folder = if file_or_folder.is_dir() {
            file_or_folder
        } else {
            file_or_folder.parent().unwrap_or(file_or_folder)
        };
        Self {
            title: None,
            folder: folder.to_owned(),
            drawn,
            counts: Vec::new(),
            needed: Vec::new(),
            audit: None,
            problems: Vec::new(),
            missing: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn count(&mut self, what: impl Into<String>, found: usize, published: Option<usize>) {
        self.counts.push(Count {
            what: what.into(),
            found,
            published: published.filter(|_| !self.drawn),
        });
    }

    /// Notes an error, or passes the value on.
    fn take<T>(&mut self, result: Result<T, DataError>) -> Option<T> {
        result
            .map_err(|error| match error {
                DataError::Missing { .. } => self.missing.push(error.to_string()),
                _ => self.problems.push(error.to_string()),
            })
            .ok()
    }

    /// Looks for pictures in the folder of that name, or says that there is none.
    fn pictures_in(
        &mut self,
        found: &Found,
        name: &str,
        pictures: impl Iterator<Item = (String, Option<(u32, u32)>)>,
    ) {
        match found.picture_folder(name, &self.folder) {
            Some(folder) => self
                .needed
                .extend(pictures.map(|(file, size)| NeededPicture {
                    path: folder.join(file),
                    size,
                })),
            None => {
                let files: HashSet<String> = pictures.map(|(file, _)| file).collect();
                self.missing
                    .push(format!("a folder {name} with {} pictures", files.len()));
            }
        }
    }

    fn look(mut self, look: Look) -> Self {
        self.audit = Some(PictureAudit::of(std::mem::take(&mut self.needed), look));
        self
    }

    fn report(mut self, name: &str, source: &'static str) -> DatasetReport {
        for count in &self.counts {
            if let Some(published) = count.published
                && published != count.found
            {
                self.problems.push(format!(
                    "{}: expected {published} as published, found {}",
                    count.what, count.found
                ));
            }
        }
        let pictures = self.audit.unwrap_or_default();
        let state = if !self.problems.is_empty() {
            State::Wrong
        } else if !self.missing.is_empty() || !pictures.faults.is_empty() {
            State::Incomplete
        } else {
            State::Whole
        };
        DatasetReport {
            name: self.title.unwrap_or_else(|| name.to_owned()),
            folder: Some(self.folder),
            state,
            counts: self.counts,
            pictures,
            problems: self.problems,
            missing: self.missing,
            notes: self.notes,
            source,
        }
    }
}

fn phrasecut(found: &Found, look: Look) -> Vec<Draft> {
    let files = |name: &str| {
        Split::ALL
            .iter()
            .any(|split| name == format!("refer_{split}.json"))
    };
    let mut folders: Vec<(PathBuf, bool)> = found
        .files(|name| files(name) || name.starts_with("image_data_split"))
        .into_iter()
        .filter_map(|(path, drawn)| Some((path.parent()?.to_owned(), drawn)))
        .collect();
    folders.dedup();
    let check = |(folder, drawn): (PathBuf, bool)| {
        let mut draft = Draft::new(&folder, drawn);
        let infos = phrasecut::pictures_file(&folder).and_then(|path| read_pictures(&path));
        let infos = draft.take(infos).unwrap_or_default();
        for split in Split::ALL {
            let path = phrasecut::tasks_file(&folder, split);
            if !path.is_file() {
                // A few pictures of val: nothing is lost without them.
                if split != Split::Miniv {
                    draft.missing.push(format!("refer_{split}.json"));
                }
                continue;
            }
            let mut pictures: HashSet<u64> = HashSet::new();
            let (mut phrases, mut unknown, mut masks) = (0, 0, Vec::new());
            let read = read_tasks(&path, |index, task| {
                phrases += 1;
                pictures.insert(task.image_id);
                match infos.get(&task.image_id) {
                    None => unknown += 1,
                    Some(info) if look == Look::Decode => {
                        let mask = task.mask(info.width, info.height).map_err(|error| {
                            error.in_record(&path, format!("[{index}]"), "Polygons")
                        });
                        match mask {
                            Ok(mask) if mask.area() > 0 => {}
                            Ok(_) => masks.push(format!(
                                "{}: [{index}], field `Polygons`: expected pixels inside the \
                                 {}x{} picture, found none",
                                path.display(),
                                info.width,
                                info.height
                            )),
                            Err(error) => masks.push(error.to_string()),
                        }
                    }
                    Some(_) => {}
                }
                Ok(())
            });
            draft.problems.append(&mut masks);
            if draft.take(read).is_none() {
                continue;
            }
            let published = published_phrasecut(split);
            draft.count(
                format!("{split}: pictures"),
                pictures.len(),
                Some(published.0),
            );
            draft.count(format!("{split}: phrases"), phrases, Some(published.1));
            if unknown > 0 && !infos.is_empty() {
                draft.problems.push(format!(
                    "{}: {unknown} phrases of pictures that image_data_split.json does not have",
                    path.display()
                ));
            }
            let needed = pictures.into_iter().map(|id| NeededPicture {
                path: phrasecut::picture_path(&folder, id),
                // CLIPSeg's authors found the sizes of these wrong.
                size: infos
                    .get(&id)
                    .filter(|_| !INVALID_PICTURES.contains(&id))
                    .map(|info| (info.width, info.height)),
            });
            draft.needed.extend(needed);
        }
        let skip = folder.join("skip.json");
        if skip.is_file()
            && let Some(skipped) = draft.take(read_skipped(&skip))
        {
            draft.notes.push(format!(
                "skip.json: {} phrases skipped by annotators",
                skipped.len()
            ));
        }
        draft.look(look)
    };
    folders.into_iter().map(check).collect()
}

fn refcoco(found: &Found, look: Look) -> Vec<Draft> {
    let splitter_of = |name: &str| {
        let stem = name
            .strip_suffix(".p")
            .or_else(|| name.strip_suffix(".json"))?;
        Splitter::ALL
            .into_iter()
            .find(|splitter| stem == format!("refs({splitter})"))
    };
    let mut places: Vec<(PathBuf, Splitter, bool)> = Vec::new();
    for (path, drawn) in found.files(|name| splitter_of(name).is_some()) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if let (Some(splitter), Some(folder)) = (name.and_then(|n| splitter_of(&n)), path.parent())
        {
            places.push((folder.to_owned(), splitter, drawn));
        }
    }
    // Pickle and JSON of the same references stand next to each other.
    places.dedup();
    let check = |(folder, splitter, drawn): (PathBuf, Splitter, bool)| {
        let mut draft = Draft::new(&folder, drawn);
        let dataset = folder
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        draft.title = Some(format!("{dataset} ({splitter})"));
        if !folder.join("instances.json").is_file() {
            draft.missing.push("instances.json".to_owned());
            return draft;
        }
        let Some(data) = draft.take(RefCoco::open(&folder, splitter, None)) else {
            return draft;
        };
        let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
        let negations = WordList::default();
        let mut negated = 0;
        for reference in &data.references {
            *splits.entry(&reference.split).or_default() += 1;
            let texts = reference.sentences.iter().map(|sentence| &sentence.sent);
            negated += texts
                .filter(|text| negations.found_in(text).is_some())
                .count();
            if look == Look::Decode
                && let Err(error) = data.mask(reference)
            {
                draft.problems.push(error.to_string());
            }
        }
        for (split, count) in splits {
            let published = published_references(&dataset, splitter, split);
            draft.count(format!("{split}: references"), count, published);
        }
        draft.count("expressions with no, not or without", negated, None);
        let pictures = data
            .references
            .iter()
            .filter_map(|reference| data.picture(reference));
        let pictures = pictures.map(|p| (p.file_name.clone(), Some((p.width, p.height))));
        draft.pictures_in(found, "train2014", pictures);
        draft.look(look)
    };
    places.into_iter().map(check).collect()
}

fn coco(found: &Found, look: Look) -> Vec<Draft> {
    let split_of = |name: &str| {
        let stem = name.strip_suffix(".json")?;
        let split = stem.strip_prefix("captions_").or_else(|| {
            let rest = stem.strip_prefix("instances_")?;
            Some(rest.strip_prefix("rle_").unwrap_or(rest))
        })?;
        published_coco(split).map(|_| split.to_owned())
    };
    let mut drafts: BTreeMap<PathBuf, Draft> = BTreeMap::new();
    for (path, drawn) in found.files(|name| split_of(name).is_some()) {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (Some(split), Some(folder)) = (split_of(&name), path.parent()) else {
            continue;
        };
        let draft = drafts
            .entry(folder.to_owned())
            .or_insert_with(|| Draft::new(folder, drawn));
        let published = published_coco(&split);
        let pictures: Vec<crate::coco::Picture> = if name.starts_with("captions_") {
            let Some(file) = draft.take(Captions::open(&path)) else {
                continue;
            };
            draft.count(
                format!("{name}: pictures"),
                file.pictures.len(),
                published.map(|p| p.0),
            );
            draft.count(
                format!("{name}: captions"),
                file.captions.len(),
                published.map(|p| p.1),
            );
            file.pictures
        } else {
            let Some(file) = draft.take(Instances::open(&path)) else {
                continue;
            };
            draft.count(
                format!("{name}: pictures"),
                file.pictures.len(),
                published.map(|p| p.0),
            );
            draft.count(
                format!("{name}: instances"),
                file.instances.len(),
                published.map(|p| p.2),
            );
            if look == Look::Decode {
                let masks = file
                    .instances
                    .iter()
                    .filter_map(|instance| file.mask(instance).err());
                draft.problems.extend(masks.map(|error| error.to_string()));
            }
            file.pictures.into_values().collect()
        };
        let pictures = pictures
            .into_iter()
            .map(|p| (p.file_name, Some((p.width, p.height))));
        draft.pictures_in(found, &split, pictures);
    }
    drafts.into_values().map(|draft| draft.look(look)).collect()
}

fn tifa(found: &Found, _: Look) -> Vec<Draft> {
    let names = [
        "tifa_v1.0_text_inputs.json",
        "tifa_v1.0_question_answers.json",
    ];
    let files = found.files(|name| names.contains(&name));
    let mut folders: Vec<(PathBuf, bool)> = files
        .into_iter()
        .filter_map(|(path, drawn)| Some((path.parent()?.to_owned(), drawn)))
        .collect();
    folders.dedup();
    let check = |(folder, drawn): (PathBuf, bool)| {
        let mut draft = Draft::new(&folder, drawn);
        let [prompts, questions] = names.map(|name| folder.join(name));
        let mut ids: Option<HashSet<String>> = None;
        if !prompts.is_file() {
            draft.missing.push(names[0].to_owned());
        } else if let Some(prompts) = draft.take(read_tifa_prompts(&prompts)) {
            draft.count("prompts", prompts.len(), Some(4_081));
            ids = Some(prompts.into_iter().map(|prompt| prompt.id).collect());
        }
        if !questions.is_file() {
            draft.missing.push(names[1].to_owned());
            return draft;
        }
        let (mut count, mut unanswerable, mut unknown) = (0, 0, 0);
        let read = read_tifa_questions(&questions, |_, question| {
            count += 1;
            unanswerable += usize::from(!question.choices.contains(&question.answer));
            unknown += usize::from(ids.as_ref().is_some_and(|ids| !ids.contains(&question.id)));
            Ok(())
        });
        if draft.take(read).is_some() {
            draft.count("questions", count, None);
        }
        if unanswerable > 0 {
            let note = format!("{unanswerable} questions whose answer is none of the choices");
            draft.notes.push(note);
        }
        if unknown > 0 {
            let problem = format!(
                "{unknown} questions on prompts that {} does not have",
                names[0]
            );
            draft.problems.push(problem);
        }
        draft
    };
    folders.into_iter().map(check).collect()
}

/// Files that each are a dataset.
fn each_file(found: &Found, name: &str, mut check: impl FnMut(&mut Draft, &Path)) -> Vec<Draft> {
    let files = found.files(|file| file == name).into_iter();
    let drafts = files.map(|(path, drawn)| {
        let mut draft = Draft::new(&path, drawn);
        check(&mut draft, &path);
        draft
    });
    drafts.collect()
}

fn neg_score(found: &Found, _: Look) -> Vec<Draft> {
    each_file(found, "prompts_with_questions.json", |draft, path| {
        if let Some(prompts) = draft.take(read_neg_prompts(path)) {
            draft.count("prompts", prompts.len(), Some(107));
        }
    })
}

fn geneval(found: &Found, _: Look) -> Vec<Draft> {
    each_file(found, "evaluation_metadata.jsonl", |draft, path| {
        if let Some(prompts) = draft.take(read_geneval(path)) {
            draft.count("prompts", prompts.len(), Some(553));
        }
    })
}

fn neg_refcocog(found: &Found, look: Look) -> Vec<Draft> {
    let drafts = each_file(found, "NegRefCOCOg.json", |draft, path| {
        if let Some(items) = draft.take(read_neg_refcocog(path)) {
            draft.count("items", items.len(), Some(440));
            let pictures = items.into_iter().map(|item| (item.image, None));
            draft.pictures_in(found, "train2014", pictures);
        }
    });
    drafts.into_iter().map(|draft| draft.look(look)).collect()
}

fn valse(found: &Found, look: Look) -> Vec<Draft> {
    let drafts = each_file(found, "existence.json", |draft, path| {
        if let Some(items) = draft.take(read_valse(path)) {
            draft.count("items", items.len(), Some(534));
            for item in items.iter().filter(|item| item.is_undecidable()) {
                let note = format!("{}: caption and foil are the same text", item.id);
                draft.notes.push(note);
            }
            let pictures = items.into_iter().map(|item| (item.image_file, None));
            draft.pictures_in(found, "visual7w", pictures);
        }
    });
    drafts.into_iter().map(|draft| draft.look(look)).collect()
}
