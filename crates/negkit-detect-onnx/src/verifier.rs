//! The detector as verifier.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use negkit_captions::{CaptionError, ImageRef, ObjectVerifier, Sighting, Verdict};
use negkit_data::open_picture;

use crate::{ClassWords, DetectError, Detector, Reading};

/// Pictures whose scores are kept: a dataset's captions of one picture come together.
const KEPT: usize = 256;

/// From which score on it is yes, and below which it is no.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Scores under this one mean that the class is not there.
    pub no_below: f32,
    /// Scores from this one on mean that it is.
    pub yes_from: f32,
}

impl Default for Thresholds {
    /// 0.05 and 0.5: what they do for FastestDet on photos is what `negkit captions detector` prints.
    fn default() -> Self {
        Self {
            no_below: 0.05,
            yes_from: 0.5,
        }
    }
}

/// Says whether an object is in a picture, by a detector's scores.
pub struct DetectorVerifier {
    detector: Detector,
    words: ClassWords,
    thresholds: Thresholds,
    seen: Mutex<HashMap<u64, Arc<Vec<f32>>>>,
}

impl DetectorVerifier {
    /// A verifier that reads words by that list, which must be made for the detector's classes.
    ///
    /// # Errors
    /// [`DetectError::Thresholds`] unless `0 <= no_below <= yes_from <= 1`.
    pub fn new(
        detector: Detector,
        words: ClassWords,
        thresholds: Thresholds,
    ) -> Result<Self, DetectError> {
        let Thresholds { no_below, yes_from } = thresholds;
        // Written so that NaN is refused.
        if !(0. <= no_below && no_below <= yes_from && yes_from <= 1.) {
            return Err(DetectError::Thresholds { no_below, yes_from });
        }
        Ok(Self {
            detector,
            words,
            thresholds,
            seen: Mutex::new(HashMap::new()),
        })
    }

    /// The detector.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The words that it knows.
    pub fn words(&self) -> &ClassWords {
        &self.words
    }

    /// The verdict that a score means.
    pub fn verdict(&self, score: f32) -> Verdict {
        match score {
            score if score >= self.thresholds.yes_from => Verdict::Yes,
            score if score < self.thresholds.no_below => Verdict::No,
            _ => Verdict::Unsure,
        }
    }

    fn scores(&self, image: &ImageRef) -> Result<Arc<Vec<f32>>, CaptionError> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scores) = seen().get(&image.id) {
            return Ok(Arc::clone(scores));
        }
        let failed = |reason: String| CaptionError::Picture {
            id: image.id,
            reason,
        };
        let Some(file) = &image.file else {
            return Err(failed("no file is known for it".to_owned()));
        };
        let picture = open_picture(file, None)
            .map_err(|fault| failed(format!("{}: {fault}", file.display())))?;
        let found = self.detector.detect(&picture);
        let found = found.map_err(|error| failed(format!("{}: {error}", file.display())))?;
        let scores = Arc::new(found.scores);
        let mut seen = seen();
        if seen.len() >= KEPT {
            seen.clear();
        }
        seen.insert(image.id, Arc::clone(&scores));
        Ok(scores)
    }

    /// The verdict on one class, and its score in words.
    fn of_class(&self, scores: &[f32], class: usize) -> (Verdict, String) {
        let score = scores[class];
        let Thresholds { no_below, yes_from } = self.thresholds;
        let verdict = self.verdict(score);
        let place = match verdict {
            Verdict::Yes => format!("not under {yes_from}"),
            Verdict::No => format!("under {no_below}"),
            Verdict::Unsure => format!("between {no_below} and {yes_from}"),
        };
        let name = &self.detector.classes()[class];
        (verdict, format!("{name} has the score {score:.3}, {place}"))
    }

    /// The verdict on an object that is read as `reading`.
    fn sighting(&self, scores: &[f32], object: &str, reading: &Reading) -> Sighting {
        let classes = self.detector.classes();
        let (verdict, note) = match reading {
            Reading::Class(class) => self.of_class(scores, *class),
            Reading::Narrower(class) => {
                let (verdict, note) = self.of_class(scores, *class);
                let name = &classes[*class];
                match verdict {
                    Verdict::Yes => (
                        Verdict::Unsure,
                        format!("{note}, and whether that is '{object}' the detector cannot tell"),
                    ),
                    _ => (verdict, format!("'{object}' is some {name}; {note}")),
                }
            }
            Reading::Broader(some) => {
                let mut each = some.iter().map(|class| self.of_class(scores, *class));
                let there = each.find(|(verdict, _)| *verdict == Verdict::Yes);
                there.unwrap_or_else(|| {
                    let names: Vec<&str> = some.iter().map(|c| classes[*c].as_str()).collect();
                    let names = names.join(", ");
                    let note = format!(
                        "of all that '{object}' may be the detector knows only {names}, and is sure of none"
                    );
                    (Verdict::Unsure, note)
                })
            }
        };
        Sighting {
            verdict,
            note: Some(note),
        }
    }
}

impl ObjectVerifier for DetectorVerifier {
    fn is_there(&self, image: &ImageRef, object: &str) -> Result<Verdict, CaptionError> {
        self.look(image, object).map(|sighting| sighting.verdict)
    }

    fn look(&self, image: &ImageRef, object: &str) -> Result<Sighting, CaptionError> {
        let Some(reading) = self.words.read(object) else {
            let count = self.detector.classes().len();
            return Ok(Sighting {
                verdict: Verdict::Unsure,
                note: Some(format!(
                    "'{object}' is none of the {count} classes of the detector"
                )),
            });
        };
        let scores = self.scores(image)?;
        Ok(self.sighting(&scores, object, reading))
    }
}
