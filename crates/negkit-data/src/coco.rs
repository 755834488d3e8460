//! COCO's `instances_*.json` and `captions_*.json`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use negkit_image::{Mask, Rle};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::polygon::coco_mask;
use crate::records::{Ids, Lists, read_lists};

/// A picture of a COCO file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Picture {
    /// Its id.
    pub id: u64,
    /// Its file's name, without the folder.
    pub file_name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A category of a COCO file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// The sort of things it belongs to.
    #[serde(default)]
    pub supercategory: String,
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// Which pixels an instance covers.
#[derive(Debug, Clone, PartialEq)]
pub enum Segmentation {
    /// Outlines, each as `x, y, x, y, …` in pixels; their union is meant.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths, compressed in the file or not.
    Rle(Rle),
}

impl Segmentation {
    /// The pixels, as `COCO.annToMask` of `pycocotools` gives them.
    ///
    /// # Errors
    /// [`DataError::Mask`] for polygons that [`coco_mask`] refuses, no polygon at all, and run
    /// lengths of a picture of another size.
    pub fn mask(&self, width: u32, height: u32) -> Result<Mask, DataError> {
        match self {
            Self::Polygons(polygons) if polygons.is_empty() => Err(DataError::Mask {
                part: "segmentation".to_owned(),
                expected: "a polygon or more".to_owned(),
                found: "none".to_owned(),
            }),
            Self::Polygons(polygons) => coco_mask(polygons, width, height),
            Self::Rle(rle) if (rle.width(), rle.height()) != (width, height) => {
                Err(DataError::Mask {
                    part: "segmentation.size".to_owned(),
                    expected: format!("[{height}, {width}], as the picture"),
                    found: format!("[{}, {}]", rle.height(), rle.width()),
                })
            }
            Self::Rle(rle) => Ok(rle.to_mask()?),
        }
    }
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SegmentationVisitor)
    }
}

/// By hand, and not as an untagged enum: so an error knows the polygon it is in.
struct SegmentationVisitor;

impl<'de> Visitor<'de> for SegmentationVisitor {
    type Value = Segmentation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of polygons or run lengths with `size` and `counts`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Segmentation, A::Error> {
        let mut polygons = Vec::new();
        while let Some(polygon) = seq.next_element()? {
            polygons.push(polygon);
        }
        Ok(Segmentation::Polygons(polygons))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Segmentation, A::Error> {
        Rle::deserialize(MapAccessDeserializer::new(map)).map(Segmentation::Rle)
    }
}

/// An instance of a COCO file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: u64,
    /// The picture.
    pub image_id: u64,
    /// The category.
    pub category_id: u64,
    /// Its pixels.
    pub segmentation: Segmentation,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// 1 for a crowd: many things in one annotation.
    #[serde(default)]
    pub iscrowd: u8,
}

/// A caption of a COCO file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Caption {
    /// Its id.
    pub id: u64,
    /// The picture.
    pub image_id: u64,
    /// The words.
    pub caption: String,
    /// The caption with a negation worked in; only negation caption files have it.
    pub updated_caption: Option<String>,
    /// The caption with its meaning denied, which is untrue of the picture; only files of hard
    /// negatives have it.
    pub negated_caption: Option<String>,
    /// The id of a picture that the denied caption is true of; only files of hard negatives may have
    /// it.
    pub distractor: Option<u64>,
}

/// An `instances_*.json`.
#[derive(Debug, Clone)]
pub struct Instances {
    path: PathBuf,
    /// The pictures by their ids.
    pub pictures: HashMap<u64, Picture>,
    /// The categories by their ids.
    pub categories: HashMap<u64, Category>,
    /// The instances that were asked for, in the file's order.
    pub instances: Vec<Instance>,
}

impl Instances {
    /// Reads a file whole.
    ///
    /// # Errors
    /// When the file cannot be read, a record is not what it should be, an id is there twice, or
    /// an instance is of a picture that the file does not have.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_where(path, |_| true)
    }

    /// As [`open`](Self::open), but only the instances for which `wanted` says so stay in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_where(
        path: &Path,
        mut wanted: impl FnMut(&Instance) -> bool,
    ) -> Result<Self, DataError> {
        let mut found = Self {
            path: path.to_owned(),
            pictures: HashMap::new(),
            categories: HashMap::new(),
            instances: Vec::new(),
        };
        let mut picture_ids = Ids::new(path, "images", "id");
        let mut category_ids = Ids::new(path, "categories", "id");
        let mut ids = Ids::new(path, "annotations", "id");
        let mut pictures_of: Vec<u64> = Vec::new();
        let Self {
            pictures,
            categories,
            instances,
            ..
        } = &mut found;
        read_lists(
            path,
            Lists {
                images: &mut |index, picture: Picture| {
                    picture_ids.add(index, &picture.id)?;
                    pictures.insert(picture.id, picture);
                    Ok(())
                },
                annotations: &mut |index, instance: Instance| {
                    ids.add(index, &instance.id)?;
                    pictures_of.push(instance.image_id);
                    if wanted(&instance) {
                        instances.push(instance);
                    }
                    Ok(())
                },
                categories: &mut |index, category: Category| {
                    category_ids.add(index, &category.id)?;
                    categories.insert(category.id, category);
                    Ok(())
                },
            },
        )?;
        known_pictures(path, &pictures_of, |id| picture_ids.contains(&id))?;
        Ok(found)
    }

    /// The pixels of an instance, at the size of its picture.
    ///
    /// # Errors
    /// When the segmentation describes no mask of that picture; the error names the annotation.
    pub fn mask(&self, instance: &Instance) -> Result<Mask, DataError> {
        let record = || format!("annotation {}", instance.id);
        let Some(picture) = self.pictures.get(&instance.image_id) else {
            let reason = format!("no picture {} in this file", instance.image_id);
            return Err(DataError::record(&self.path, record(), "image_id", reason));
        };
        instance
            .segmentation
            .mask(picture.width, picture.height)
            .map_err(|error| error.in_record(&self.path, record(), "segmentation"))
    }
}

/// A `captions_*.json`.
#[derive(Debug, Clone)]
pub struct Captions {
    /// The pictures, in the file's order.
    pub pictures: Vec<Picture>,
    /// The captions, in the file's order.
    pub captions: Vec<Caption>,
}

impl Captions {
    /// Reads a file whole.
    ///
    /// # Errors
    /// As [`Instances::open`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut pictures = Vec::new();
        let mut captions = Vec::new();
        let mut picture_ids = Ids::new(path, "images", "id");
        let mut ids = Ids::new(path, "annotations", "id");
        read_lists(
            path,
            Lists {
                images: &mut |index, picture: Picture| {
                    picture_ids.add(index, &picture.id)?;
                    pictures.push(picture);
                    Ok(())
                },
                annotations: &mut |index, caption: Caption| {
                    ids.add(index, &caption.id)?;
                    captions.push(caption);
                    Ok(())
                },
                categories: &mut |_, _: IgnoredAny| Ok(()),
            },
        )?;
        let pictures_of: Vec<u64> = captions.iter().map(|caption| caption.image_id).collect();
        known_pictures(path, &pictures_of, |id| picture_ids.contains(&id))?;
        Ok(Self { pictures, captions })
    }
}

/// Each annotation must be of a picture of its file. Known only at the end: the lists of a COCO
/// file come in any order.
fn known_pictures(
    path: &Path,
    pictures_of: &[u64],
    known: impl Fn(u64) -> bool,
) -> Result<(), DataError> {
    match pictures_of.iter().position(|&id| !known(id)) {
        None => Ok(()),
        Some(index) => Err(DataError::record(
            path,
            format!("annotations[{index}]"),
            "image_id",
            format!(
                "expected the id of a picture of this file, found {}",
                pictures_of[index]
            ),
        )),
    }
}
