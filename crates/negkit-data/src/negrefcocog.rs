//! Makes a NegRefCOCOg of a dataset of referring expressions.
//!
//! NegRefCOCOg takes the expressions with a negation and lays the box that is meant beside that of
//! another instance of its category in the same picture. How its authors chose is not published with
//! it; what the 440 published items show is in [`BoxFilter::photos`].

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use crate::coco::Instances;
use crate::foils::NegRefItem;
use crate::refcoco::{Reference, read_references};
use crate::{DataError, WordList};

/// How much a box grows to every side, as far as the picture goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// So many pixels.
    Pixels(f64),
    /// This share of its width or height.
    Share(f64),
}

/// Which boxes are compared, and how much they grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxFilter {
    /// The least share of the picture that each box must take, before it grows.
    pub least_share: f64,
    /// The most that one box may be larger than the other, before they grow.
    pub most_ratio: f64,
    /// How much they grow.
    pub margin: Margin,
    /// The most that both may overlap when they have grown, as intersection over union.
    pub most_iou: f64,
}

impl BoxFilter {
    /// For photos, from what the published items show. Their boxes have two decimals, as COCO's, so
    /// they grew by whole pixels; of those that touch no edge of the picture none is narrower than 206
    /// pixels, so by at most 103 to each side, and 100 is taken. No two overlap by more than 0.29998, so
    /// 0.3 is taken. What sizes were left out cannot be seen; here it is what [`BoxFilter::drawn`] has.
    #[must_use]
    pub fn photos() -> Self {
        Self {
            margin: Margin::Pixels(100.),
            most_iou: 0.3,
            ..Self::drawn()
        }
    }

    /// For drawn scenes, which are small: at least 2 % of the picture, at most four times the other, a
    /// fifth more to every side, and any overlap.
    #[must_use]
    pub fn drawn() -> Self {
        Self {
            least_share: 0.02,
            most_ratio: 4.,
            margin: Margin::Share(0.2),
            most_iou: 1.,
        }
    }

    /// The boxes of an item, the right one first; of several other instances that fit the largest is
    /// taken. `size` is the picture's width and height.
    #[must_use]
    pub fn pair(
        &self,
        right: [f64; 4],
        others: impl IntoIterator<Item = [f64; 4]>,
        size: (f64, f64),
    ) -> Option<[[f64; 4]; 2]> {
        let least = self.least_share * size.0 * size.1;
        let own = area(right);
        let fits = |other: &[f64; 4]| {
            let area = area(*other);
            own.min(area) > 0.
                && own.min(area) >= least
                && own.max(area) <= self.most_ratio * own.min(area)
        };
        let right = self.grown(right, size);
        others
            .into_iter()
            .filter(fits)
            .map(|other| (area(other), self.grown(other, size)))
            .filter(|(_, grown)| iou(right, *grown) <= self.most_iou)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, other)| [right, other])
    }

    fn grown(&self, bbox: [f64; 4], size: (f64, f64)) -> [f64; 4] {
        let [left, top, width, height] = bbox;
        let (across, down) = match self.margin {
            Margin::Pixels(pixels) => (pixels, pixels),
            Margin::Share(share) => (share * width, share * height),
        };
        let (x0, y0) = ((left - across).max(0.), (top - down).max(0.));
        let x1 = (left + width + across).min(size.0);
        let y1 = (top + height + down).min(size.1);
        [x0, y0, x1 - x0, y1 - y0]
    }
}

fn area(bbox: [f64; 4]) -> f64 {
    bbox[2] * bbox[3]
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let across = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]);
    let down = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]);
    let common = across.max(0.) * down.max(0.);
    common / (area(a) + area(b) - common)
}

/// What became of the expressions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Expressions of the chosen split.
    pub expressions: usize,
    /// Of these, those with a negation.
    pub negated: usize,
    /// Of these, those without another instance of the category in the picture.
    pub alone: usize,
    /// Those whose other instances are all of another size, or overlap too much.
    pub unlike: usize,
    /// Items that were made.
    pub items: usize,
}

/// Makes the items from a file of references (a pickle or JSON) and COCO's instances. `split` chooses
/// a split of the references; crowds are never the other instance.
///
/// # Errors
/// When a file cannot be read, or a reference is to an instance or picture that `instances` lacks.
pub fn make_neg_refcocog(
    references: &Path,
    instances: &Path,
    split: Option<&str>,
    negations: &WordList,
    filter: &BoxFilter,
) -> Result<(Vec<NegRefItem>, Tally), DataError> {
    let mut tally = Tally::default();
    let mut wanted: Vec<(usize, Reference)> = Vec::new();
    read_references(references, |index, mut reference| {
        if split.is_some_and(|split| split != reference.split) {
            return Ok(());
        }
        tally.expressions += reference.sentences.len();
        let negated = |text: &str| negations.found_in(text).is_some();
        reference
            .sentences
            .retain(|sentence| negated(&sentence.sent));
        tally.negated += reference.sentences.len();
        if !reference.sentences.is_empty() {
            wanted.push((index, reference));
        }
        Ok(())
    })?;
    let pictures: HashSet<u64> = wanted.iter().map(|(_, r)| r.image_id).collect();
    let all = Instances::open_where(instances, |i| pictures.contains(&i.image_id))?;
    let mut by_picture: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, instance) in all.instances.iter().enumerate() {
        by_picture.entry(instance.image_id).or_default().push(place);
    }
    let mut items = Vec::new();
    for (index, reference) in &wanted {
        let missing = |field: &str, reason: String| {
            DataError::record(references, format!("[{index}]"), field, reason)
        };
        let of_picture = by_picture
            .get(&reference.image_id)
            .map_or(&[][..], Vec::as_slice);
        let of_picture = || of_picture.iter().map(|place| &all.instances[*place]);
        let right = of_picture().find(|instance| instance.id == reference.ann_id);
        let (Some(right), Some(picture)) = (right, all.pictures.get(&reference.image_id)) else {
            let reason = format!(
                "expected the id of an annotation of picture {} in {}, found {}",
                reference.image_id,
                instances.display(),
                reference.ann_id
            );
            return Err(missing("ann_id", reason));
        };
        let others: Vec<[f64; 4]> = of_picture()
            .filter(|other| other.category_id == right.category_id)
            .filter(|other| other.id != right.id && other.iscrowd == 0)
            .map(|other| other.bbox)
            .collect();
        if others.is_empty() {
            tally.alone += reference.sentences.len();
            continue;
        }
        let size = (f64::from(picture.width), f64::from(picture.height));
        let Some(pair) = filter.pair(right.bbox, others, size) else {
            tally.unlike += reference.sentences.len();
            continue;
        };
        items.extend(reference.sentences.iter().map(|sentence| NegRefItem {
            image: picture.file_name.clone(),
            phrase: sentence.sent.clone(),
            ref_bbox: pair[0],
            bbox_list: pair.to_vec(),
        }));
    }
    tally.items = items.len();
    Ok((items, tally))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_largest_other_that_fits_is_taken_and_both_grow_within_the_picture() {
        let filter = BoxFilter::photos();
        let size = (640., 480.);
        let right = [400., 100., 120., 200.];
        // Too small, too large, overlapping when grown, and two that fit.
        let others = [
            [10., 10., 20., 20.],
            [0., 0., 640., 480.],
            [390., 110., 120., 190.],
            [10., 200., 100., 180.],
            [20., 20., 110., 190.],
        ];
        let [first, second] = filter.pair(right, others, size).unwrap();
        assert_eq!(first, [300., 0., 320., 400.]);
        assert_eq!(second, [0., 0., 230., 310.]);
        assert!(filter.pair(right, others[..3].to_vec(), size).is_none());
        assert!(filter.pair(right, [[0., 0., 0., 0.]], size).is_none());
    }
}
