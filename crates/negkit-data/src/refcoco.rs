//! RefCOCO, RefCOCO+ and RefCOCOg: expressions that each refer to one object of a COCO picture.
//!
//! A folder holds `refs(SPLITTER).p` (a pickle; JSON with the same records is read too) and
//! `instances.json`; the pictures are COCO's train2014.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use negkit_image::Mask;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::coco::{Instance, Instances, Picture};
use crate::records::{Ids, read_list_or_pickle, text};

/// Who divided the dataset into splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Splitter {
    /// RefCOCOg: train, val and test share no picture.
    Umd,
    /// RefCOCOg (train, val) and RefCOCO (train, val, test): by object, so that a picture may be
    /// in two splits.
    Google,
    /// RefCOCO and RefCOCO+: train, val, testA (people) and testB (all else).
    Unc,
}

impl Splitter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Umd, Self::Google, Self::Unc];

    /// The name in the file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Umd => "umd",
            Self::Google => "google",
            Self::Unc => "unc",
        }
    }

    /// The file of the references in a folder: the pickle, or JSON where only that is there.
    #[must_use]
    pub fn file(self, folder: &Path) -> PathBuf {
        let pickle = folder.join(format!("refs({self}).p"));
        let json = pickle.with_extension("json");
        if !pickle.exists() && json.exists() {
            json
        } else {
            pickle
        }
    }
}

impl fmt::Display for Splitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An expression of a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferredSentence {
    /// The words.
    #[serde(deserialize_with = "text::list")]
    pub tokens: Vec<String>,
    /// The text as it was given.
    #[serde(deserialize_with = "text::deserialize")]
    pub raw: String,
    /// Its id.
    pub sent_id: u64,
    /// The text, tokenised.
    #[serde(deserialize_with = "text::deserialize")]
    pub sent: String,
}

/// One object and the expressions that refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The picture.
    pub image_id: u64,
    /// "train", "val", "test", "testA" or "testB".
    #[serde(deserialize_with = "text::deserialize")]
    pub split: String,
    /// The expressions.
    pub sentences: Vec<ReferredSentence>,
    /// The picture's name with the annotation's id.
    #[serde(deserialize_with = "text::deserialize")]
    pub file_name: String,
    /// The object's category.
    pub category_id: u64,
    /// The object's annotation.
    pub ann_id: u64,
    /// The ids of the expressions.
    pub sent_ids: Vec<u64>,
    /// The reference's id.
    pub ref_id: u64,
}

impl Reference {
    fn check(&self, path: &Path, index: usize) -> Result<(), DataError> {
        let wrong = |field: String, reason: String| {
            Err(DataError::record(path, format!("[{index}]"), field, reason))
        };
        if self.sentences.is_empty() {
            let reason = "expected an expression or more, found none".to_owned();
            return wrong("sentences".to_owned(), reason);
        }
        if let Some(empty) = self.sentences.iter().position(|s| s.sent.trim().is_empty()) {
            let reason = "expected words, found none".to_owned();
            return wrong(format!("sentences[{empty}].sent"), reason);
        }
        let ids: Vec<u64> = self.sentences.iter().map(|s| s.sent_id).collect();
        if ids != self.sent_ids {
            let reason = format!(
                "expected the ids of the sentences, {ids:?}, found {:?}",
                self.sent_ids
            );
            return wrong("sent_ids".to_owned(), reason);
        }
        Ok(())
    }
}

/// Hands over the references of a `refs(*).p` or `.json` one by one, with their positions. The
/// file's content decides which it is; a pickle is never executed, of whatever protocol.
///
/// # Errors
/// When the file cannot be read, is damaged or broken off, holds more than plain data, a record is
/// not what it should be (an expression without words), a `ref_id` or `sent_id` is there twice, or
/// `each` returns an error.
pub fn read_references(
    path: &Path,
    mut each: impl FnMut(usize, Reference) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut ids = Ids::new(path, "", "ref_id");
    let mut sentences = Ids::new(path, "", "sent_id");
    read_list_or_pickle(path, &mut |index, reference: Reference| {
        reference.check(path, index)?;
        ids.add(index, &reference.ref_id)?;
        for id in &reference.sent_ids {
            sentences.add(index, id)?;
        }
        each(index, reference)
    })
}

/// A dataset: references with the objects that they mean.
#[derive(Debug, Clone)]
pub struct RefCoco {
    /// The references that were asked for, in the file's order.
    pub references: Vec<Reference>,
    instances: Instances,
    by_id: HashMap<u64, usize>,
}

impl RefCoco {
    /// Reads the references of `split` (all for `None`) in `folder`, and what `instances.json`
    /// says of their objects.
    ///
    /// # Errors
    /// When a file is missing or cannot be read, a record is not what it should be, or a
    /// reference is to an object that `instances.json` does not have, or has in another picture.
    pub fn open(folder: &Path, splitter: Splitter, split: Option<&str>) -> Result<Self, DataError> {
        let path = splitter.file(folder);
        let mut references = Vec::new();
        let mut positions = Vec::new();
        read_references(&path, |index, reference| {
            if split.is_none_or(|split| split == reference.split) {
                references.push(reference);
                positions.push(index);
            }
            Ok(())
        })?;
        let wanted: HashSet<u64> = references.iter().map(|r| r.ann_id).collect();
        let file = folder.join("instances.json");
        let instances = Instances::open_where(&file, |instance| wanted.contains(&instance.id))?;
        let places = instances.instances.iter().enumerate();
        let found = Self {
            by_id: places
                .map(|(place, instance)| (instance.id, place))
                .collect(),
            references,
            instances,
        };
        for (reference, position) in found.references.iter().zip(positions) {
            let wrong = |field: &str, reason: String| {
                DataError::record(&path, format!("[{position}]"), field, reason)
            };
            match found.instance(reference) {
                None => {
                    let reason = format!(
                        "expected the id of an annotation of instances.json, found {}",
                        reference.ann_id
                    );
                    return Err(wrong("ann_id", reason));
                }
                Some(instance) if instance.image_id != reference.image_id => {
                    let reason = format!(
                        "expected {}, the picture of annotation {}, found {}",
                        instance.image_id, reference.ann_id, reference.image_id
                    );
                    return Err(wrong("image_id", reason));
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }

    /// The object that a reference means; `None` only for a reference of another dataset.
    #[must_use]
    pub fn instance(&self, reference: &Reference) -> Option<&Instance> {
        let place = self.by_id.get(&reference.ann_id)?;
        self.instances.instances.get(*place)
    }

    /// The picture of a reference; `None` only for a reference of another dataset.
    #[must_use]
    pub fn picture(&self, reference: &Reference) -> Option<&Picture> {
        self.instances.pictures.get(&reference.image_id)
    }

    /// The pixels that a reference means, at the picture's full size.
    ///
    /// # Errors
    /// When the segmentation describes no mask of the picture; the error names the annotation.
    pub fn mask(&self, reference: &Reference) -> Result<Mask, DataError> {
        match self.instance(reference) {
            Some(instance) => self.instances.mask(instance),
            None => Err(DataError::Mask {
                part: format!("reference {}", reference.ref_id),
                expected: "a reference of this dataset".to_owned(),
                found: "one of another".to_owned(),
            }),
        }
    }

    /// The references by picture, pictures by their ids: so a picture is encoded once for all its
    /// expressions.
    #[must_use]
    pub fn by_picture(&self) -> BTreeMap<u64, Vec<&Reference>> {
        let mut pictures: BTreeMap<u64, Vec<&Reference>> = BTreeMap::new();
        for reference in &self.references {
            pictures
                .entry(reference.image_id)
                .or_default()
                .push(reference);
        }
        pictures
    }
}
