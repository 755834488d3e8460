//! RefCOCOg's references, and NegRefCOCOg made from them.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::coco::category_id;
use super::truth::PictureTruth;
use crate::language::referring_expressions;

/// An expression of a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferredSentence {
    /// The words.
    pub tokens: Vec<String>,
    /// The text as it was given.
    pub raw: String,
    /// Its id.
    pub sent_id: u64,
    /// The text, tokenised.
    pub sent: String,
}

/// A record of `refs(umd).p`: one object and the expressions that refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The picture.
    pub image_id: u64,
    /// "train", "val" or "test".
    pub split: String,
    /// The expressions.
    pub sentences: Vec<ReferredSentence>,
    /// The picture's name with the annotation's id.
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

/// The references of a picture. Ids follow from the annotation ids.
pub(super) fn references(
    truth: &PictureTruth,
    split: &str,
    rng: &mut ChaCha8Rng,
) -> Vec<Reference> {
    let mut texts: HashMap<usize, Vec<String>> = HashMap::new();
    for phrase in referring_expressions(&truth.scene, rng) {
        if let [thing] = phrase.things[..] {
            texts.entry(thing).or_default().push(phrase.text);
        }
    }
    let (stem, extension) = truth
        .file_name
        .rsplit_once('.')
        .unwrap_or((&truth.file_name, "jpg"));
    (0..truth.scene.things.len())
        .filter_map(|thing| {
            let object = truth.object(thing, None)?;
            let sentences: Vec<ReferredSentence> = texts
                .remove(&thing)?
                .into_iter()
                .zip(object.id * 10..)
                .map(|(raw, sent_id)| {
                    let sent = raw.replace(',', " ,");
                    ReferredSentence {
                        tokens: sent.split(' ').map(str::to_owned).collect(),
                        raw,
                        sent_id,
                        sent,
                    }
                })
                .collect();
            Some(Reference {
                image_id: truth.id,
                split: split.to_owned(),
                sent_ids: sentences.iter().map(|sentence| sentence.sent_id).collect(),
                sentences,
                file_name: format!("{stem}_{}.{extension}", object.id),
                category_id: category_id(object.kind),
                ann_id: object.id,
                ref_id: object.id,
            })
        })
        .collect()
}

/// An item of NegRefCOCOg: the first box is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NegRefItem {
    /// The picture's file name.
    pub image: String,
    /// An expression with a negation.
    pub phrase: String,
    /// The box that it refers to, enlarged: left, top, width, height.
    pub ref_bbox: [f64; 4],
    /// That box and the box of another instance of its category, enlarged.
    pub bbox_list: Vec<[f64; 4]>,
}

/// Which boxes are large enough, and how much they grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeFilter {
    /// The least share of the picture that each box must take.
    pub least_share: f64,
    /// The most that one box may be larger than the other.
    pub most_ratio: f64,
    /// How much a box grows to every side, as a share of its width or height.
    pub margin: f64,
}

impl Default for SizeFilter {
    /// At least 2 % of the picture, at most four times the other, a fifth more to every side.
    fn default() -> Self {
        Self {
            least_share: 0.02,
            most_ratio: 4.,
            margin: 0.2,
        }
    }
}

/// Whether an expression holds one of the words that NegRefCOCOg's do: no, not, without.
pub fn holds_expression_negation(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .any(|word| ["no", "not", "without"].contains(&word.to_lowercase().as_str()))
}

/// NegRefCOCOg from references: for each expression with a negation the box that it refers to and
/// another instance of the same category in the picture, filtered by size and enlarged. Of several
/// other instances the largest is taken.
pub fn neg_refcocog(
    references: &[Reference],
    truths: &[&PictureTruth],
    filter: &SizeFilter,
) -> Vec<NegRefItem> {
    let by_id: HashMap<u64, &PictureTruth> =
        truths.iter().map(|truth| (truth.id, *truth)).collect();
    let mut items = Vec::new();
    for reference in references {
        let Some(truth) = by_id.get(&reference.image_id) else {
            continue;
        };
        let Some(right) = truth.objects.iter().find(|o| o.id == reference.ann_id) else {
            continue;
        };
        let area = |bbox: [u32; 4]| f64::from(bbox[2]) * f64::from(bbox[3]);
        let fits = |bbox: [u32; 4]| {
            let (a, b) = (area(right.bbox), area(bbox));
            let least = filter.least_share * f64::from(truth.side) * f64::from(truth.side);
            a.min(b) >= least && a.max(b) <= filter.most_ratio * a.min(b)
        };
        let other = truth
            .objects
            .iter()
            .filter(|o| o.kind == right.kind && o.id != right.id && fits(o.bbox))
            .max_by(|a, b| area(a.bbox).total_cmp(&area(b.bbox)));
        let Some(other) = other else { continue };
        let grown = |bbox| enlarged(bbox, filter.margin, truth.side);
        for sentence in &reference.sentences {
            if holds_expression_negation(&sentence.sent) {
                items.push(NegRefItem {
                    image: truth.file_name.clone(),
                    phrase: sentence.sent.clone(),
                    ref_bbox: grown(right.bbox),
                    bbox_list: vec![grown(right.bbox), grown(other.bbox)],
                });
            }
        }
    }
    items
}

/// The box grown to every side, as far as the picture goes.
fn enlarged(bbox: [u32; 4], margin: f64, side: u32) -> [f64; 4] {
    let [left, top, width, height] = bbox.map(f64::from);
    let side = f64::from(side);
    let (x0, y0) = (
        (left - margin * width).max(0.),
        (top - margin * height).max(0.),
    );
    let x1 = (left + width * (1. + margin)).min(side);
    let y1 = (top + height * (1. + margin)).min(side);
    [x0, y0, x1 - x0, y1 - y0]
}
