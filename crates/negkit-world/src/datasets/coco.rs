//! COCO's captions and instances.

use negkit_data::coco::Category;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outline::Polygon;
use super::truth::{ObjectTruth, PictureTruth};
use crate::catalog::{Kind, Zone};

/// A picture in a COCO file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureEntry {
    /// Its licence's number in the file.
    pub license: u32,
    /// Its file's name.
    pub file_name: String,
    /// Where it is found on the net; drawn pictures are not.
    pub coco_url: String,
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
    /// Its id.
    pub id: u64,
}

impl PictureEntry {
    pub(super) fn of(truth: &PictureTruth) -> Self {
        Self {
            license: 1,
            file_name: truth.file_name.clone(),
            coco_url: String::new(),
            height: truth.side,
            width: truth.side,
            id: truth.id,
        }
    }
}

/// The id of a kind's category.
pub(super) fn category_id(kind: Kind) -> u64 {
    kind.index() as u64 + 1
}

/// All kinds as categories.
pub fn categories() -> Vec<Category> {
    Kind::ALL
        .iter()
        .map(|&kind| {
            let sort = if kind.is_person() {
                "person"
            } else if kind.is_animal() {
                "animal"
            } else if kind.is_vehicle() {
                "vehicle"
            } else {
                match kind.traits().zone {
                    Zone::Ground => "object",
                    Zone::Wall => "wall",
                    Zone::Sky => "sky",
                    Zone::Person => "accessory",
                }
            };
            Category {
                supercategory: sort.to_owned(),
                id: category_id(kind),
                name: kind.to_string(),
            }
        })
        .collect()
}

/// An instance in a COCO file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Polygons, each as x, y, x, y, …, or an RLE.
    pub segmentation: Value,
    /// Pixels.
    pub area: f64,
    /// 0: none of these is a crowd.
    pub iscrowd: u8,
    /// The picture.
    pub image_id: u64,
    /// Left, top, width, height.
    pub bbox: [f64; 4],
    /// The category.
    pub category_id: u64,
    /// The annotation's id.
    pub id: u64,
}

/// A polygon as COCO lists it: x, y, x, y, …
fn flat(polygon: &Polygon) -> Vec<f64> {
    polygon.iter().flatten().map(|&at| f64::from(at)).collect()
}

impl Annotation {
    pub(super) fn of(truth: &PictureTruth, object: &ObjectTruth, rle: bool) -> Self {
        let segmentation = if rle {
            json!(object.rle)
        } else {
            json!(object.corners.iter().map(flat).collect::<Vec<_>>())
        };
        Self {
            segmentation,
            area: object.area as f64,
            iscrowd: 0,
            image_id: truth.id,
            bbox: object.bbox.map(f64::from),
            category_id: category_id(object.kind),
            id: object.id,
        }
    }
}

pub(super) fn info() -> Value {
    json!({
        "description": "Drawn scenes in the format of MS COCO",
        "version": env!("CARGO_PKG_VERSION"),
        "year": 2014,
        "contributor": "negkit",
    })
}

pub(super) fn licenses() -> Value {
    json!([{
        "url": "https://creativecommons.org/publicdomain/zero/1.0/",
        "id": 1,
        "name": "CC0 1.0",
    }])
}

fn images(truths: &[&PictureTruth]) -> Vec<PictureEntry> {
    truths.iter().map(|truth| PictureEntry::of(truth)).collect()
}

/// An `instances_*.json`, with polygons or RLE.
pub(super) fn instances(truths: &[&PictureTruth], rle: bool) -> Value {
    let annotations: Vec<Annotation> = truths
        .iter()
        .flat_map(|truth| {
            let of = |object| Annotation::of(truth, object, rle);
            truth.objects.iter().map(of)
        })
        .collect();
    json!({
        "info": info(),
        "images": images(truths),
        "annotations": annotations,
        "categories": categories(),
        "licenses": licenses(),
    })
}

/// A `captions_*.json` with the given annotations.
pub(super) fn captions(truths: &[&PictureTruth], annotations: impl Serialize) -> Value {
    json!({
        "info": info(),
        "images": images(truths),
        "annotations": annotations,
        "licenses": licenses(),
    })
}
