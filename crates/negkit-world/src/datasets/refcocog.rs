//! RefCOCOg's references, and NegRefCOCOg made from them.

use std::collections::HashMap;

use negkit_data::WordList;
use negkit_data::foils::NegRefItem;
use negkit_data::refcoco::{Reference, ReferredSentence};
use rand_chacha::ChaCha8Rng;

use super::coco::category_id;
use super::truth::PictureTruth;
use crate::language::referring_expressions;

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
    let negations = WordList::default();
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
            if negations.found_in(&sentence.sent).is_some() {
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
