//! RefCOCOg's references, and NegRefCOCOg made from them.

use std::collections::HashMap;

use negkit_data::WordList;
use negkit_data::foils::NegRefItem;
use negkit_data::negrefcocog::BoxFilter;
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

/// NegRefCOCOg from references: for each expression with a negation the box that it refers to and
/// another instance of the same category in the picture, filtered by size and enlarged. Of several
/// other instances the largest is taken.
pub fn neg_refcocog(
    references: &[Reference],
    truths: &[&PictureTruth],
    filter: &BoxFilter,
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
        let others = truth
            .objects
            .iter()
            .filter(|o| o.kind == right.kind && o.id != right.id)
            .map(|o| o.bbox.map(f64::from));
        let size = (f64::from(truth.side), f64::from(truth.side));
        let Some(pair) = filter.pair(right.bbox.map(f64::from), others, size) else {
            continue;
        };
        for sentence in &reference.sentences {
            if negations.found_in(&sentence.sent).is_some() {
                items.push(NegRefItem {
                    image: truth.file_name.clone(),
                    phrase: sentence.sent.clone(),
                    ref_bbox: pair[0],
                    bbox_list: pair.to_vec(),
                });
            }
        }
    }
    items
}
