//! FastestDet on the photos of tiny-coco: against ONNX Runtime, and against their annotations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use negkit_captions::{ImageRef, ObjectVerifier, Verdict};
use negkit_data::coco::Instances;
use negkit_data::open_picture;
use negkit_detect_onnx::{ClassWords, Detection, Detector, DetectorVerifier, Thresholds, measure};
use negkit_shared_data::shared;
use serde::Deserialize;

/// What ONNX Runtime finds in a photo.
#[derive(Deserialize)]
struct Reference {
    scores: Vec<f64>,
    /// Class, score and frame.
    boxes: Vec<(usize, f64, [f64; 4])>,
}

/// FastestDet and the photos of tiny-coco.
pub struct Data {
    pub model: PathBuf,
    pub photos: PathBuf,
    instances: PathBuf,
}

/// Both, or `None` after saying what is skipped and why.
pub fn data() -> Option<Data> {
    Some(Data {
        model: shared("fastestdet/FastestDet.onnx")?,
        photos: shared("tiny-coco/val2017")?,
        instances: shared("tiny-coco/instances_val2017.json")?,
    })
}

fn detector(data: &Data) -> Detector {
    Detector::open_with_names_beside(&data.model).unwrap()
}

fn verifier(data: &Data) -> DetectorVerifier {
    let detector = detector(data);
    let words = ClassWords::coco(detector.classes()).unwrap();
    DetectorVerifier::new(detector, words, Thresholds::default()).unwrap()
}

/// Two libraries decode JPEG, up to two grey levels apart; a wrong channel order or size gives 0.1.
const TOLERANCE: f64 = 0.02;

#[test]
fn it_finds_what_onnx_runtime_finds() {
    let Some(data) = data() else { return };
    let detector = detector(&data);
    // Made by eval/parity/detector.py.
    let reference: BTreeMap<String, Reference> =
        serde_json::from_str(include_str!("reference.json")).unwrap();
    let mut worst = 0f64;
    let (mut boxes, mut alone) = (0, 0);
    for (photo, expected) in &reference {
        let path = data.photos.join(photo);
        let found = detector
            .detect(&open_picture(&path, None).unwrap())
            .unwrap();
        assert_eq!(found.scores.len(), expected.scores.len());
        for (score, expected) in found.scores.iter().zip(&expected.scores) {
            worst = worst.max((f64::from(*score) - expected).abs());
        }
        let same = |detection: &Detection, (class, score, frame): &(usize, f64, [f64; 4])| {
            let values = detection.frame.iter().zip(frame);
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < TOLERANCE;
            detection.class == *class
                && near(detection.score, *score)
                && values.into_iter().all(|(a, b)| near(*a, *b))
        };
        boxes += expected.boxes.len();
        let (ours, theirs) = (&found.boxes, &expected.boxes);
        alone += ours
            .iter()
            .filter(|a| !theirs.iter().any(|b| same(a, b)))
            .count();
        alone += theirs
            .iter()
            .filter(|b| !ours.iter().any(|a| same(a, b)))
            .count();
    }
    println!(
        "scores differ by {worst:.4} at most; of {boxes} boxes {alone} are found by one alone"
    );
    assert!(worst < TOLERANCE, "{worst}");
    // Scores next to the threshold and overlaps next to the limit fall to either side; measured: 5.
    assert!(boxes == 53 && alone <= 6, "{boxes} boxes, {alone} alone");
}

#[test]
fn its_verdicts_are_measured_on_annotated_photos() {
    let Some(data) = data() else { return };
    let verifier = verifier(&data);
    let instances = Instances::open(&data.instances).unwrap();
    let found = measure(&verifier, &instances, &data.photos, &|| {}).unwrap();
    for (what, count) in [("yes", found.yes), ("no", found.no), ("boxes", found.boxes)] {
        println!(
            "{what}: precision {:.3}, recall {:.3}, {count:?}",
            count.precision().unwrap(),
            count.recall().unwrap()
        );
    }
    assert_eq!((found.photos, found.classes), (50, 80));
    assert!(found.unknown.is_empty(), "{:?}", found.unknown);
    let asked = found.yes.right + found.yes.wrong + found.no.right + found.no.wrong + found.unsure;
    assert_eq!(asked, 50 * 80);
    // With ONNX Runtime: yes 56 right and 10 wrong, no 3555 right and 17 wrong of 136 that are there.
    assert!(found.yes.precision().unwrap() > 0.8, "{:?}", found.yes);
    assert!(found.yes.recall().unwrap() > 0.38, "{:?}", found.yes);
    assert!(found.no.precision().unwrap() > 0.99, "{:?}", found.no);
    assert!(found.no.recall().unwrap() > 0.9, "{:?}", found.no);
    assert!(found.boxes.precision().unwrap() > 0.33, "{:?}", found.boxes);
    assert!(found.boxes.recall().unwrap() > 0.28, "{:?}", found.boxes);
    let classes = found.boxes_by_class.values();
    assert_eq!(
        classes.map(|count| count.right).sum::<usize>(),
        found.boxes.right
    );
}

#[test]
fn what_it_cannot_decide_it_says() {
    let Some(data) = data() else { return };
    let verifier = verifier(&data);
    let image = ImageRef {
        id: 87038,
        file: Some(data.photos.join("000000087038.jpg")),
    };
    let look = |object: &str| {
        let sighting = verifier.look(&image, object).unwrap();
        (sighting.verdict, sighting.note.unwrap())
    };
    let (verdict, note) = look("people");
    assert_eq!(verdict, Verdict::Yes, "{note}");
    assert!(note.contains("person has the score 0."), "{note}");
    let (verdict, note) = look("woman");
    assert!(
        verdict == Verdict::Unsure && note.contains("cannot tell"),
        "{note}"
    );
    let (verdict, note) = look("toaster");
    assert_eq!(verdict, Verdict::No, "{note}");
    let (verdict, note) = look("poodle");
    assert!(
        verdict != Verdict::Yes && note.contains("'poodle' is some dog; dog has the score"),
        "{note}"
    );
    let (verdict, note) = look("tree");
    assert!(
        verdict == Verdict::Unsure && note.contains("none of the 80 classes"),
        "{note}"
    );
    let (verdict, note) = look("dessert");
    assert!(
        verdict == Verdict::Unsure && note.contains("only cake, donut"),
        "{note}"
    );
}
