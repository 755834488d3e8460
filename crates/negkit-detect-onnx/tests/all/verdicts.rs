//! What the verifier says, and how it is counted, on pictures whose scores are known.

use negkit_captions::{CaptionError, ImageRef, ObjectVerifier, Verdict};
use negkit_detect_onnx::{
    ClassWords, Count, DetectError, Detector, DetectorVerifier, Thresholds, measure,
};

use crate::tiny;

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
/// A score of 0.3: over the threshold of boxes, under that of yes.
const DIM_RED: [u8; 3] = [77, 0, 0];

#[test]
fn a_box_is_where_the_colour_is() {
    let verifier = tiny::verifier();
    let picture = tiny::picture(&[(2, 1, RED), (0, 3, DIM_RED)]);
    let found = verifier.detector().detect(&picture).unwrap();
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close(&found.scores, &[1., 0., 0.]), "{found:?}");
    let [first, second] = found.boxes[..] else {
        panic!("{found:?}");
    };
    assert_eq!((first.class, second.class), (0, 0));
    assert!(close(&[first.score, second.score], &[1., 77. / 255.]));
    assert!(close(&first.frame, &[0.5, 0.25, 0.75, 0.5]), "{first:?}");
    assert!(close(&second.frame, &[0., 0.75, 0.25, 1.]), "{second:?}");
}

#[test]
fn verdicts_have_three_values_and_reasons() {
    let verifier = tiny::verifier();
    let picture = tiny::picture(&[(0, 0, DIM_RED), (1, 1, GREEN)]);
    let (folder, _) = tiny::dataset(&[(picture, &[])]);
    let image = ImageRef {
        id: 0,
        file: Some(folder.path().join("0.png")),
    };
    for (object, verdict, reason) in [
        (
            "broccoli",
            Verdict::Yes,
            "broccoli has the score 1.000, not under 0.5",
        ),
        (
            "apple",
            Verdict::Unsure,
            "apple has the score 0.302, between 0.05 and 0.5",
        ),
        ("Apples", Verdict::Unsure, "apple has the score 0.302"),
        ("ski", Verdict::No, "skis has the score 0.000, under 0.05"),
        ("vegetable", Verdict::Yes, "broccoli has the score 1.000"),
        (
            "fruit",
            Verdict::Unsure,
            "'fruit' may be the detector knows only apple, and is sure of none",
        ),
        (
            "tree",
            Verdict::Unsure,
            "'tree' is none of the 3 classes of the detector",
        ),
        // COCO has them, this detector does not.
        ("dog", Verdict::Unsure, "none of the 3 classes"),
    ] {
        let sighting = verifier.look(&image, object).unwrap();
        let note = sighting.note.unwrap();
        assert_eq!(sighting.verdict, verdict, "{object}: {note}");
        assert!(note.contains(reason), "{object}: {note}");
        assert_eq!(verifier.is_there(&image, object), Ok(verdict));
    }
}

#[test]
fn what_is_narrower_than_a_class_is_absent_where_the_class_is() {
    let detector = Detector::open_with_names_beside(&tiny::folder().join("tiny.onnx")).unwrap();
    let list = "apple | | cox\nbroccoli | | romanesco\nskis | | skiboards";
    let words = ClassWords::parse(list, detector.classes()).unwrap();
    let verifier = DetectorVerifier::new(detector, words, Thresholds::default()).unwrap();
    let picture = tiny::picture(&[(0, 0, DIM_RED), (1, 1, GREEN)]);
    let (folder, _) = tiny::dataset(&[(picture, &[])]);
    let image = ImageRef {
        id: 0,
        file: Some(folder.path().join("0.png")),
    };
    for (object, verdict, reason) in [
        (
            "skiboards",
            Verdict::No,
            "'skiboards' is some skis; skis has the score 0.000",
        ),
        (
            "cox",
            Verdict::Unsure,
            "'cox' is some apple; apple has the score 0.302, between",
        ),
        (
            "romanesco",
            Verdict::Unsure,
            "broccoli has the score 1.000, not under 0.5, and whether that is 'romanesco' the \
             detector cannot tell",
        ),
    ] {
        let sighting = verifier.look(&image, object).unwrap();
        let note = sighting.note.unwrap();
        assert_eq!(sighting.verdict, verdict, "{object}: {note}");
        assert!(note.contains(reason), "{object}: {note}");
    }
}

#[test]
fn pictures_that_cannot_be_looked_at_are_named() {
    let verifier = tiny::verifier();
    let (folder, _) = tiny::dataset(&[]);
    let gone = ImageRef {
        id: 7,
        file: Some(folder.path().join("none.png")),
    };
    let error = verifier.look(&gone, "apple").unwrap_err();
    assert!(
        matches!(error, CaptionError::Picture { id: 7, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("none.png: "), "{error}");
    let broken = ImageRef {
        id: 8,
        file: Some(folder.path().join("instances.json")),
    };
    let error = verifier.look(&broken, "apple").unwrap_err();
    assert!(
        matches!(error, CaptionError::Picture { id: 8, .. }),
        "{error}"
    );
    let error = verifier.look(&ImageRef::new(9), "apple").unwrap_err();
    assert!(error.to_string().contains("no file is known"), "{error}");
    // Nothing has to be opened for a word that it does not know.
    assert_eq!(verifier.is_there(&gone, "tree"), Ok(Verdict::Unsure));
}

#[test]
fn thresholds_must_be_in_order() {
    for (no_below, yes_from) in [(0.6, 0.5), (-0.1, 0.5), (0.1, 1.5), (f32::NAN, 0.5)] {
        let detector = Detector::open_with_names_beside(&tiny::folder().join("tiny.onnx")).unwrap();
        let words = ClassWords::coco(detector.classes()).unwrap();
        let thresholds = Thresholds { no_below, yes_from };
        let made = DetectorVerifier::new(detector, words, thresholds);
        let error = made.map(|_| ()).unwrap_err();
        assert!(matches!(error, DetectError::Thresholds { .. }), "{error}");
    }
}

#[test]
fn verdicts_and_boxes_are_counted_as_by_hand() {
    let pictures: [(_, &[_]); 4] = [
        // Found; and a second box where none is annotated.
        (tiny::picture(&[(0, 0, RED), (2, 2, RED)]), &[(1, 0, 0, 0)]),
        // Neither yes nor no, though the box is right; broccoli is overlooked.
        (
            tiny::picture(&[(1, 1, DIM_RED)]),
            &[(1, 1, 1, 0), (2, 3, 3, 0)],
        ),
        // Broccoli that nobody annotated, and a crowd of apples, which is no single box.
        (
            tiny::picture(&[(3, 0, GREEN), (1, 2, RED)]),
            &[(1, 1, 2, 1)],
        ),
        // What the detector does not know is not asked.
        (tiny::picture(&[]), &[(4, 0, 0, 0)]),
    ];
    let (folder, instances) = tiny::dataset(&pictures);
    let verifier = tiny::verifier();
    let found = measure(&verifier, &instances, folder.path(), &|| {}).unwrap();
    let count = |right, wrong, missed| Count {
        right,
        wrong,
        missed,
    };
    assert_eq!((found.photos, found.classes), (4, 3));
    assert_eq!(found.unknown, ["unicorn"]);
    // Apples in the first and third; broccoli in the third; missed: apple and broccoli in the second.
    assert_eq!(found.yes, count(2, 1, 2));
    // Of twelve pairs eight are absent; broccoli in the third is taken for there, that in the second
    // for absent.
    assert_eq!(found.no, count(7, 1, 1));
    assert_eq!((found.unsure, found.unsure_there), (1, 1));
    assert_eq!(found.boxes, count(2, 2, 1));
    assert_eq!(found.boxes_by_class["apple"], count(2, 1, 0));
    assert_eq!(found.boxes_by_class["broccoli"], count(0, 1, 1));
    assert_eq!(found.yes.precision(), Some(2. / 3.));
    assert_eq!(found.yes.recall(), Some(0.5));
    assert_eq!(Count::default().precision(), None);

    std::fs::remove_file(folder.path().join("2.png")).unwrap();
    let error = measure(&verifier, &instances, folder.path(), &|| {}).unwrap_err();
    assert!(matches!(error, DetectError::Picture { .. }), "{error}");
    assert!(error.to_string().contains("2.png"), "{error}");
}
