//! How well a detector does on annotated photos.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use negkit_captions::Verdict;
use negkit_data::coco::{Instance, Instances, Picture};
use negkit_data::open_picture;
use rayon::prelude::*;
use serde::Serialize;

use crate::detector::{Frame, inside, iou};
use crate::{DetectError, Detection, DetectorVerifier, Reading};

/// From this overlap on, a box is that of an instance.
const SAME_BOX: f32 = 0.5;

/// What was right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Said and so.
    pub right: usize,
    /// Said and not so.
    pub wrong: usize,
    /// So and not said.
    pub missed: usize,
}

impl Count {
    /// The share of what was said that is so; `None` where nothing was.
    pub fn precision(&self) -> Option<f64> {
        share(self.right, self.right + self.wrong)
    }

    /// The share of what is so that was said; `None` where nothing is.
    pub fn recall(&self) -> Option<f64> {
        share(self.right, self.right + self.missed)
    }

    fn say(&mut self, said: bool, so: bool) {
        match (said, so) {
            (true, true) => self.right += 1,
            (true, false) => self.wrong += 1,
            (false, true) => self.missed += 1,
            (false, false) => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// A detector against annotations: every class asked of every photo, and every box.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Photos.
    pub photos: usize,
    /// Classes that annotations and detector have.
    pub classes: usize,
    /// Categories of the annotations that are no class of the detector. It is not asked for them.
    pub unknown: Vec<String>,
    /// Verdict yes.
    pub yes: Count,
    /// Verdict no: `wrong` are those said absent that are there.
    pub no: Count,
    /// Pairs of photo and class that it could not decide.
    pub unsure: usize,
    /// Of the undecided, those that are there.
    pub unsure_there: usize,
    /// Boxes of a score over [`Detector::THRESHOLD`](crate::Detector::THRESHOLD) against instances, at
    /// an intersection over union of 0.5. Crowds are neither found nor missed, and boxes in them are
    /// neither right nor wrong, as in COCO's own evaluation.
    pub boxes: Count,
    /// The same by class, where there is anything.
    pub boxes_by_class: BTreeMap<String, Count>,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.photos += other.photos;
        self.yes.add(other.yes);
        self.no.add(other.no);
        self.unsure += other.unsure;
        self.unsure_there += other.unsure_there;
        self.boxes.add(other.boxes);
        for (class, count) in other.boxes_by_class {
            self.boxes_by_class.entry(class).or_default().add(count);
        }
    }
}

/// Asks the verifier for every class of every annotated photo, and compares the boxes. `progress` is
/// told after each photo.
///
/// # Errors
/// When a photo cannot be opened or has another size than the annotations say, or the detector fails.
pub fn measure(
    verifier: &DetectorVerifier,
    annotated: &Instances,
    photos: &Path,
    progress: &(dyn Fn() + Sync),
) -> Result<Measured, DetectError> {
    let mut class_of: BTreeMap<u64, usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    for category in annotated.categories.values() {
        match verifier.words().read(&category.name) {
            Some(Reading::Class(class)) => {
                class_of.insert(category.id, *class);
            }
            _ => unknown.push(category.name.clone()),
        }
    }
    unknown.sort_unstable();
    let mut of_photo: HashMap<u64, Vec<&Instance>> = HashMap::new();
    for instance in &annotated.instances {
        of_photo
            .entry(instance.image_id)
            .or_default()
            .push(instance);
    }
    let asked = Asked {
        verifier,
        classes: class_of.values().copied().collect(),
        class_of,
    };
    let mut pictures: Vec<&Picture> = annotated.pictures.values().collect();
    pictures.sort_unstable_by_key(|picture| picture.id);
    let each = pictures.par_iter().map(|picture| {
        let own = of_photo.get(&picture.id).map_or(&[][..], Vec::as_slice);
        let found = asked.photo(picture, photos, own);
        progress();
        found
    });
    let each: Vec<Measured> = each.collect::<Result<_, _>>()?;
    let mut all = Measured {
        classes: asked.classes.len(),
        unknown,
        ..Measured::default()
    };
    for found in each {
        all.add(found);
    }
    Ok(all)
}

/// What is asked of each photo.
struct Asked<'a> {
    verifier: &'a DetectorVerifier,
    /// The categories of the annotations, as classes of the detector.
    class_of: BTreeMap<u64, usize>,
    classes: BTreeSet<usize>,
}

/// An annotated box that no detection has been found to be yet.
struct Open {
    class: usize,
    frame: Frame,
    crowd: bool,
}

impl Asked<'_> {
    fn photo(
        &self,
        picture: &Picture,
        folder: &Path,
        own: &[&Instance],
    ) -> Result<Measured, DetectError> {
        let path = folder.join(&picture.file_name);
        let size = (picture.width, picture.height);
        let photo = open_picture(&path, Some(size))
            .map_err(|fault| DetectError::Picture { path, fault })?;
        let seen = self.verifier.detector().detect(&photo)?;
        let mut found = Measured {
            photos: 1,
            ..Measured::default()
        };
        let there: BTreeSet<usize> = own
            .iter()
            .filter_map(|instance| self.class_of.get(&instance.category_id).copied())
            .collect();
        for class in &self.classes {
            let is = there.contains(class);
            let verdict = self.verifier.verdict(seen.scores[*class]);
            found.yes.say(verdict == Verdict::Yes, is);
            found.no.say(verdict == Verdict::No, !is);
            if verdict == Verdict::Unsure {
                found.unsure += 1;
                found.unsure_there += usize::from(is);
            }
        }
        for (class, count) in self.boxes(picture, &seen.boxes, own) {
            let name = self.verifier.detector().classes()[class].clone();
            found.boxes.add(count);
            found.boxes_by_class.insert(name, count);
        }
        Ok(found)
    }

    /// The boxes of one photo against its instances, by class.
    fn boxes(
        &self,
        picture: &Picture,
        boxes: &[Detection],
        own: &[&Instance],
    ) -> BTreeMap<usize, Count> {
        let (width, height) = (f64::from(picture.width), f64::from(picture.height));
        let mut open: Vec<Open> = own
            .iter()
            .filter_map(|instance| {
                let [left, top, wide, high] = instance.bbox;
                let frame = [
                    left / width,
                    top / height,
                    (left + wide) / width,
                    (top + high) / height,
                ];
                Some(Open {
                    class: *self.class_of.get(&instance.category_id)?,
                    frame: frame.map(|value| value as f32),
                    crowd: instance.iscrowd == 1,
                })
            })
            .collect();
        let mut counts: BTreeMap<usize, Count> = BTreeMap::new();
        for detection in boxes.iter().filter(|b| self.classes.contains(&b.class)) {
            let same = open
                .iter()
                .enumerate()
                .filter(|(_, one)| one.class == detection.class && !one.crowd)
                .map(|(index, one)| (index, iou(one.frame, detection.frame)))
                .filter(|(_, overlap)| *overlap >= SAME_BOX)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            let in_crowd = || {
                open.iter().any(|one| {
                    one.class == detection.class
                        && one.crowd
                        && inside(detection.frame, one.frame) >= SAME_BOX
                })
            };
            match same {
                // An instance is found once; a second box of it is wrong.
                Some((index, _)) => {
                    open.remove(index);
                    counts.entry(detection.class).or_default().right += 1;
                }
                None if in_crowd() => {}
                None => counts.entry(detection.class).or_default().wrong += 1,
            }
        }
        for one in open.iter().filter(|one| !one.crowd) {
            counts.entry(one.class).or_default().missed += 1;
        }
        counts
    }
}
