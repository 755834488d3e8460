//! Masks of phrases.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use negkit_data::WordList;
use negkit_image::Rle;
use negkit_metrics::{
    ACCURACY_IOUS, Bootstrap, Clusters, PixelCounts, SegmentationIntervals, SegmentationProtocol,
    SegmentationSide, Thresholds, compare_segmentation,
};
use serde::Deserialize;

use super::{Files, Scored, ScoredRow, bad_line, json_lines};
use crate::RunError;
use crate::table5::{DatasetSource, Table5Data, Table5Error};

/// The mask of a phrase, as COCO's result files write one.
#[derive(Deserialize)]
struct Line {
    /// PhraseCut's `task_id`, or RefCOCOg's `sent_id`.
    id: Id,
    segmentation: Rle,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

/// Scores of masks that are given as JSON lines, `{"id": …, "segmentation": {"size": [height, width],
/// "counts": …}}` with COCO's compressed run lengths, in PhraseCut's protocol at the pictures' full
/// size. The id is PhraseCut's `task_id`, or RefCOCOg's `sent_id`, of whose expressions those count
/// that hold one of `words`. Every phrase must have a mask.
///
/// # Errors
/// When a dataset or file cannot be read, a phrase has no mask or two, or a mask is of another size.
pub fn segmentation(
    source: &DatasetSource,
    words: &WordList,
    masks: &Files<'_>,
    bootstrap: &Bootstrap,
) -> Result<Scored, Table5Error> {
    const PROTOCOL: SegmentationProtocol = SegmentationProtocol::PhraseCut;
    let data = Table5Data::open(std::slice::from_ref(source), words, None)?;
    // What is marked is 1, what is not is 0.
    let thresholds = Thresholds::new(&[0.5])?;
    let first = count(masks.first, &data, &thresholds)?;
    let second = masks.second.map(|path| count(path, &data, &thresholds));
    let second = second.transpose()?;
    let pictures = data.pictures.iter();
    let labels = pictures.flat_map(|picture| picture.phrases.iter().map(|_| picture.id));
    let clusters = Clusters::by_label(labels);
    let intervals = |phrases: &[PixelCounts]| {
        SegmentationIntervals::new(PROTOCOL, &thresholds, phrases, &[0], &clusters, bootstrap)
    };
    let found = intervals(&first)?;
    let other = second.as_deref().map(intervals).transpose()?;
    let side = |phrases| SegmentationSide {
        phrases,
        threshold: 0,
    };
    let compared = second.as_deref().map(|second| {
        let (a, b) = (side(&first), side(second));
        compare_segmentation(PROTOCOL, &thresholds, a, b, &clusters, bootstrap)
    });
    let compared = compared.transpose()?;
    let mut rows = Vec::new();
    if let Some(at) = found.thresholds.first() {
        let other = other.as_ref().and_then(|other| other.thresholds.first());
        let mut add = |name: String, first, second, difference| {
            rows.push(ScoredRow {
                name,
                first,
                second,
                difference,
                mcnemar: None,
            });
        };
        let compared = compared.as_ref();
        add(
            "mIoU".to_owned(),
            at.mean_iou,
            other.map(|other| other.mean_iou),
            compared.map(|one| one.mean_iou),
        );
        add(
            "IoU FG, cumulative".to_owned(),
            at.foreground_iou,
            other.map(|other| other.foreground_iou),
            compared.map(|one| one.foreground_iou),
        );
        add(
            "IoU of both classes".to_owned(),
            at.binary_iou,
            other.map(|other| other.binary_iou),
            compared.map(|one| one.binary_iou),
        );
        for (index, bound) in ACCURACY_IOUS.iter().enumerate() {
            add(
                format!("IoU > {bound}"),
                at.accuracy[index],
                other.map(|other| other.accuracy[index]),
                None,
            );
        }
    }
    Ok(Scored {
        score: "segmentation",
        counts: BTreeMap::from([("pictures", data.pictures.len()), ("phrases", first.len())]),
        rows,
        notes: Vec::new(),
    })
}

/// The counts of every phrase, in the order of the data.
fn count(
    path: &Path,
    data: &Table5Data,
    thresholds: &Thresholds,
) -> Result<Vec<PixelCounts>, Table5Error> {
    let mut masks: HashMap<String, (usize, Rle)> = HashMap::new();
    for (number, line) in json_lines::<Line>(path)? {
        let id = match line.id {
            Id::Text(id) => id,
            Id::Number(id) => id.to_string(),
        };
        if let Some((first, _)) = masks.insert(id.clone(), (number, line.segmentation)) {
            let reason = format!("expected one mask of phrase {id}, line {first} has one too");
            return Err(bad_line(path, number, reason).into());
        }
    }
    let mut counts = Vec::new();
    for picture in &data.pictures {
        let (width, height) = picture.size;
        for phrase in &picture.phrases {
            let Some((number, runs)) = masks.remove(&phrase.id) else {
                return Err(RunError::Record {
                    item: format!("{} of {}", phrase.id, picture.key()),
                    reason: format!("{} holds no mask of this phrase", path.display()),
                }
                .into());
            };
            if (runs.width(), runs.height()) != picture.size {
                let reason = format!(
                    "segmentation.size: expected [{height}, {width}], as the picture, found [{}, {}]",
                    runs.height(),
                    runs.width()
                );
                return Err(bad_line(path, number, reason).into());
            }
            let mask = runs.to_mask()?;
            let marked: Vec<f32> = mask
                .pixels()
                .iter()
                .map(|pixel| f32::from(u8::from(*pixel)))
                .collect();
            let truth = phrase.truth.mask(width, height)?;
            counts.push(thresholds.count(&marked, truth.pixels())?);
        }
    }
    match masks.into_iter().min_by_key(|(_, (number, _))| *number) {
        None => Ok(counts),
        Some((id, (number, _))) => {
            let reason = format!("expected the id of a phrase of the dataset, found {id}");
            Err(bad_line(path, number, reason).into())
        }
    }
}
