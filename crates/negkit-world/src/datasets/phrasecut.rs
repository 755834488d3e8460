//! PhraseCut: phrases and the regions of all that they mean.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outline::Polygon;
use super::truth::{ObjectTruth, PictureTruth};
use crate::catalog::{Colour, Kind, State};
use crate::language::{Phrase, phrases};

/// A phrase of PhraseCut with its region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhraseTask {
    /// Picture and instances in one string, unique.
    pub task_id: String,
    /// The picture.
    pub image_id: u64,
    /// The instances that are meant.
    pub ann_ids: Vec<u64>,
    /// Left, top, width and height of each.
    pub instance_boxes: Vec<[u32; 4]>,
    /// For each instance its polygons, for each polygon its points.
    #[serde(rename = "Polygons")]
    pub polygons: Vec<Vec<Polygon>>,
    /// The phrase.
    pub phrase: String,
    /// Name, attributes and relations of the phrase.
    pub phrase_structure: Value,
}

/// Phrases of the picture. Things of which nothing is seen are no part of a region, and a phrase
/// that means nothing seen is left out.
pub(super) fn tasks(truth: &PictureTruth, rng: &mut ChaCha8Rng) -> Vec<PhraseTask> {
    phrases(&truth.scene, rng)
        .into_iter()
        .enumerate()
        .filter_map(|(number, phrase)| task(truth, number, phrase))
        .collect()
}

fn task(truth: &PictureTruth, number: usize, phrase: Phrase) -> Option<PhraseTask> {
    let objects: Vec<&ObjectTruth> = match phrase.worn {
        Some((thing, worn)) => truth.object(thing, Some(worn)).into_iter().collect(),
        None => phrase
            .things
            .iter()
            .filter_map(|&thing| truth.object(thing, None))
            .collect(),
    };
    if objects.is_empty() {
        return None;
    }
    Some(PhraseTask {
        task_id: format!("{}__{number}", truth.id),
        image_id: truth.id,
        ann_ids: objects.iter().map(|object| object.id).collect(),
        instance_boxes: objects.iter().map(|object| object.bbox).collect(),
        polygons: objects
            .iter()
            .map(|object| object.centres.clone())
            .collect(),
        phrase_structure: structure(&phrase.text),
        phrase: phrase.text,
    })
}

/// The phrase taken apart: the first kind or general word is its name.
fn structure(text: &str) -> Value {
    let words: Vec<&str> = text.split(' ').collect();
    let is_name = |word: &&&str| {
        Kind::ALL
            .iter()
            .any(|kind| kind.name() == **word || kind.traits().plural == **word)
            || [
                "person", "people", "animal", "animals", "vehicle", "vehicles",
            ]
            .contains(*word)
    };
    let name = words.iter().find(is_name).copied().unwrap_or(text);
    let end = words.iter().position(|word| *word == name).unwrap_or(0);
    let attributes: Vec<&str> = words
        .iter()
        .enumerate()
        .filter(|&(i, word)| {
            i < end + 3
                && (Colour::from_name(word).is_some()
                    || State::from_name(word).is_some()
                    || ["small", "large"].contains(word))
        })
        .map(|(_, word)| *word)
        .collect();
    let support = words[(end + 1).min(words.len())..]
        .iter()
        .find(|word| is_name(word));
    let relations: Vec<Value> = support
        .map(|name| json!(["with", name]))
        .into_iter()
        .collect();
    let sort = match (relations.is_empty(), attributes.is_empty()) {
        (false, _) => "relation",
        (true, false) => "attribute",
        (true, true) => "name",
    };
    json!({
        "name": name,
        "attributes": attributes,
        "relation_ids": [],
        "relation_descriptions": relations,
        "type": sort,
    })
}

/// An entry of `image_data_split.json`.
pub(super) fn image_entry(truth: &PictureTruth, split: &str) -> Value {
    json!({
        "image_id": truth.id,
        "width": truth.side,
        "height": truth.side,
        "url": truth.file_name,
        "coco_id": truth.id,
        "flickr_id": null,
        "split": split,
    })
}
