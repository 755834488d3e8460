//! PhraseCut: phrases and the regions of all that they mean, on pictures of Visual Genome.
//!
//! A folder (`VGPhraseCut_v0`) holds `refer_{train,val,test,miniv}.json`, `image_data_split.json`
//! (also published as `image_data_split3000.json`), perhaps `skip.json`, and `images/ID.jpg`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use negkit_image::Mask;
use serde::Deserialize;

use crate::DataError;
use crate::polygon::pil_mask;
use crate::records::{Ids, read_list};

/// Pictures whose annotated size is not that of their file. CLIPSeg's evaluation leaves them out
/// (`invalid_img_ids` in its `datasets/phrasecut.py`).
pub const INVALID_PICTURES: [u64; 17] = [
    61530, 61564, 150333, 150344, 150417, 150516, 285665, 285743, 285761, 285814, 286065, 286093,
    498010, 498042, 498187, 498246, 498269,
];

/// Which part of the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Val,
    /// For the scores that are published.
    Test,
    /// A few pictures out of `Val`, to try things with.
    Miniv,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Train, Self::Val, Self::Test, Self::Miniv];

    /// The name in the file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::Miniv => "miniv",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A picture as `image_data_split.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PictureInfo {
    /// Its id in Visual Genome.
    pub image_id: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Where it is on the net.
    pub url: Option<String>,
    /// Its id in COCO, if it is from there.
    pub coco_id: Option<u64>,
    /// The split it belongs to.
    pub split: String,
}

/// A phrase taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PhraseStructure {
    /// The name of the kind.
    pub name: String,
    /// Its attributes.
    pub attributes: Vec<String>,
    /// Predicate and supporting object of each relation.
    pub relation_descriptions: Vec<(String, String)>,
    /// What singles the region out: "name", "attribute", "relation" or "verbose".
    #[serde(rename = "type")]
    pub kind: String,
}

/// A phrase with its region.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PhraseTask {
    /// Unique; picture and instances in one string.
    pub task_id: String,
    /// The picture.
    pub image_id: u64,
    /// The instances that are meant, by their ids in Visual Genome.
    pub ann_ids: Vec<i64>,
    /// Left, top, width and height of each, in pixels.
    pub instance_boxes: Vec<[f64; 4]>,
    /// For each instance its polygons, for each polygon its x, y points in pixels.
    #[serde(rename = "Polygons")]
    pub polygons: Vec<Vec<Vec<[f64; 2]>>>,
    /// The phrase.
    pub phrase: String,
    /// The phrase taken apart.
    #[serde(default)]
    pub phrase_structure: Option<PhraseStructure>,
}

impl PhraseTask {
    /// The region at the picture's full size, by PhraseCut's own rule: the union of the polygons
    /// as PIL draws them ([`pil_mask`]).
    ///
    /// # Errors
    /// When a point is far outside the picture or not finite.
    pub fn mask(&self, width: u32, height: u32) -> Result<Mask, DataError> {
        pil_mask(
            self.polygons.iter().flatten().map(Vec::as_slice),
            width,
            height,
        )
    }

    fn check(&self, path: &Path, index: usize) -> Result<(), DataError> {
        let wrong = |field: &str, reason: String| {
            Err(DataError::record(path, format!("[{index}]"), field, reason))
        };
        if self.phrase.trim().is_empty() {
            return wrong("phrase", "expected words, found none".to_owned());
        }
        if self.polygons.is_empty() {
            return wrong(
                "Polygons",
                "expected an instance or more, found none".to_owned(),
            );
        }
        if self.polygons.len() != self.instance_boxes.len() {
            return wrong(
                "Polygons",
                format!(
                    "expected one entry for each of {} instance_boxes, found {}",
                    self.instance_boxes.len(),
                    self.polygons.len()
                ),
            );
        }
        Ok(())
    }
}

/// A phrase that annotators skipped, of `skip.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SkippedPhrase {
    /// What its `task_id` would be.
    pub task_id: String,
    /// The picture.
    pub image_id: u64,
    /// The phrase.
    pub phrase: String,
    /// Why: "Wrong Description", "Not in Image", "Ambiguous Region", …
    #[serde(default)]
    pub reason: Option<String>,
}

/// Hands over the phrases of a `refer_*.json` one by one, with their positions. The file of the
/// training split has 400 MB; it is never in memory as a whole.
///
/// # Errors
/// When the file cannot be read, a record is not what it should be (a phrase without words, boxes
/// and polygons of different counts), a `task_id` is there twice, or `each` returns an error.
pub fn read_tasks(
    path: &Path,
    mut each: impl FnMut(usize, PhraseTask) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut ids = Ids::new(path, "", "task_id");
    read_list(path, &mut |index, task: PhraseTask| {
        task.check(path, index)?;
        ids.add(index, &task.task_id)?;
        each(index, task)
    })
}

/// Reads `image_data_split.json`.
///
/// # Errors
/// When the file cannot be read, a record is not what it should be, or an id is there twice.
pub fn read_pictures(path: &Path) -> Result<HashMap<u64, PictureInfo>, DataError> {
    let mut pictures = HashMap::new();
    let mut ids = Ids::new(path, "", "image_id");
    read_list(path, &mut |index, picture: PictureInfo| {
        ids.add(index, &picture.image_id)?;
        pictures.insert(picture.image_id, picture);
        Ok(())
    })?;
    Ok(pictures)
}

/// Reads `skip.json`, the phrases that annotators skipped.
///
/// # Errors
/// When the file cannot be read or a record is not what it should be.
pub fn read_skipped(path: &Path) -> Result<Vec<SkippedPhrase>, DataError> {
    let mut skipped = Vec::new();
    read_list(path, &mut |_, phrase| {
        skipped.push(phrase);
        Ok(())
    })?;
    Ok(skipped)
}

/// A picture with its phrases.
#[derive(Debug, Clone, PartialEq)]
pub struct PhrasePicture {
    /// The picture.
    pub info: PictureInfo,
    /// Its phrases, in the file's order.
    pub tasks: Vec<PhraseTask>,
}

/// A split of PhraseCut, by picture: so a picture is encoded once for all its phrases.
#[derive(Debug, Clone)]
pub struct PhraseCut {
    folder: PathBuf,
    /// The pictures by their ids, as the reference loader sorts them.
    pub pictures: Vec<PhrasePicture>,
}

impl PhraseCut {
    /// Reads a split of the dataset in `folder`.
    ///
    /// # Errors
    /// When a file is missing or cannot be read, a record is not what it should be, or a phrase is
    /// of a picture that `image_data_split.json` does not know.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let infos = read_pictures(&pictures_file(folder)?)?;
        let path = tasks_file(folder, split);
        let mut pictures: BTreeMap<u64, PhrasePicture> = BTreeMap::new();
        read_tasks(&path, |index, task| {
            let Some(info) = infos.get(&task.image_id) else {
                let reason = format!(
                    "expected the id of a picture of image_data_split.json, found {}",
                    task.image_id
                );
                return Err(DataError::record(
                    &path,
                    format!("[{index}]"),
                    "image_id",
                    reason,
                ));
            };
            let picture = pictures
                .entry(task.image_id)
                .or_insert_with(|| PhrasePicture {
                    info: info.clone(),
                    tasks: Vec::new(),
                });
            picture.tasks.push(task);
            Ok(())
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            pictures: pictures.into_values().collect(),
        })
    }

    /// How many phrases there are.
    #[must_use]
    pub fn phrases(&self) -> usize {
        self.pictures
            .iter()
            .map(|picture| picture.tasks.len())
            .sum()
    }

    /// Leaves out the [`INVALID_PICTURES`] and returns their ids.
    pub fn drop_invalid(&mut self) -> Vec<u64> {
        let invalid = |picture: &PhrasePicture| INVALID_PICTURES.contains(&picture.info.image_id);
        let dropped = self.pictures.iter().filter(|picture| invalid(picture));
        let dropped = dropped.map(|picture| picture.info.image_id).collect();
        self.pictures.retain(|picture| !invalid(picture));
        dropped
    }

    /// The file of a picture: `images/ID.jpg`, or `.png` where only that is there.
    #[must_use]
    pub fn picture_path(&self, image_id: u64) -> PathBuf {
        picture_path(&self.folder, image_id)
    }
}

/// The file of a picture: `images/ID.jpg`, or `.png` where only that is there.
#[must_use]
pub fn picture_path(folder: &Path, image_id: u64) -> PathBuf {
    let jpg = folder.join(format!("images/{image_id}.jpg"));
    let png = jpg.with_extension("png");
    if !jpg.exists() && png.exists() {
        png
    } else {
        jpg
    }
}

/// The file of a split's phrases.
#[must_use]
pub fn tasks_file(folder: &Path, split: Split) -> PathBuf {
    folder.join(format!("refer_{split}.json"))
}

/// The file of the pictures, under either of its names.
///
/// # Errors
/// [`DataError::Missing`] when neither is there.
pub fn pictures_file(folder: &Path) -> Result<PathBuf, DataError> {
    let names = ["image_data_split.json", "image_data_split3000.json"];
    let found = names
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.is_file());
    found.ok_or_else(|| DataError::Missing {
        path: folder.join(names[0]),
        hint: "PhraseCut's list of pictures; download_dataset.py of \
               https://github.com/ChenyunWu/PhraseCutDataset fetches it"
            .to_owned(),
    })
}
