//! Files that are no detector: each is refused with what was expected and found, and none panics.

use std::path::Path;

use negkit_detect_onnx::{DetectError, Detector};
use tempfile::TempDir;
use tract_onnx::pb::GraphProto;

use crate::tiny::{folder, model, value};

/// Opens these bytes as a model with the tiny model's names.
fn open(bytes: &[u8]) -> Result<Detector, DetectError> {
    let place = TempDir::new().unwrap();
    let path = place.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    Detector::open(&path, &folder().join("coco.names"))
}

#[track_caller]
fn refused(opened: Result<Detector, DetectError>, parts: &[&str]) -> DetectError {
    let error = opened.map(|_| ()).unwrap_err();
    for part in parts {
        assert!(
            error.to_string().contains(part),
            "'{part}' is not in: {error}"
        );
    }
    error
}

#[test]
fn files_that_are_missing_or_something_else() {
    let none = Path::new("none.onnx");
    refused(
        Detector::open_with_names_beside(none),
        &["cannot read none.onnx"],
    );
    let place = TempDir::new().unwrap();
    let alone = place.path().join("model.onnx");
    std::fs::write(&alone, model(|_| {})).unwrap();
    refused(
        Detector::open_with_names_beside(&alone),
        &["cannot read ", "coco.names"],
    );
    let error = refused(
        open(b"[package]\nname = 'x'\n"),
        &["model.onnx is no ONNX model"],
    );
    assert!(matches!(error, DetectError::Model { .. }), "{error}");
    refused(open(b""), &["model.onnx"]);
}

#[test]
fn models_of_another_form() {
    let changed = |change: fn(&mut GraphProto)| open(&model(change));
    for (found, change) in [
        (
            "found 1 x 1 x 32 x 32",
            (|g| g.input[0] = value("picture", &[1, 1, 32, 32])) as fn(&mut GraphProto),
        ),
        ("found 1 x 3072", |g| {
            g.input[0] = value("picture", &[1, 3072])
        }),
        ("found 1 x 3 x 32 x 100000", |g| {
            g.input[0] = value("picture", &[1, 3, 32, 100_000])
        }),
        ("found 2 and 1", |g| g.input.push(value("more", &[1]))),
        ("found 1 and 2", |g| {
            g.output.push(value("cells", &[1, 3, 4, 4]))
        }),
        ("found 1 x 3 x 4 x 4", |g| {
            g.node.pop();
            g.output[0] = value("cells", &[1, 3, 4, 4]);
        }),
    ] {
        let error = refused(
            changed(change),
            &["model.onnx is no detector", "expected ", found],
        );
        assert!(matches!(error, DetectError::Form { .. }), "{error}");
    }
    for change in [
        (|g| g.node[0].op_type = "Unheard".to_owned()) as fn(&mut GraphProto),
        // Weights that are not as many as they say.
        |g| {
            g.initializer[0].float_data.pop();
        },
        |g| g.initializer[0].dims = vec![-8, 3, 1, 1],
        |g| g.initializer[0].data_type = 99,
        |g| g.output[0].name = "nothing".to_owned(),
        // A step whose input nobody makes.
        |g| g.node[1].input[0] = "nothing".to_owned(),
        |g| g.node[0].attribute.clear(),
    ] {
        let error = refused(
            changed(change),
            &["model.onnx is no ONNX model that can be run"],
        );
        assert!(matches!(error, DetectError::Model { .. }), "{error}");
    }
}

#[test]
fn names_that_do_not_fit() {
    let place = TempDir::new().unwrap();
    let model = folder().join("tiny.onnx");
    let with = |names: &[u8]| {
        let path = place.path().join("names");
        std::fs::write(&path, names).unwrap();
        Detector::open(&model, &path)
    };
    refused(
        with(b"\n \n"),
        &["names: expected a class a line", "found no line"],
    );
    refused(with(b"apple\nApple\n"), &["found 'apple' twice"]);
    refused(with(b"apple\n\xff\n"), &["no UTF-8"]);
    let error = refused(
        with(b"apple\nbroccoli\n"),
        &[
            "an output of 1 x 7 x rows x columns",
            "the 2 classes of",
            "found 1 x 8 x 4 x 4",
        ],
    );
    assert!(matches!(error, DetectError::Form { .. }), "{error}");
    let detector = with(b" Apple \n\nbroccoli\r\nskis").unwrap();
    assert_eq!(detector.classes(), ["apple", "broccoli", "skis"]);
    assert_eq!(detector.sha256().len(), 64);
    assert_ne!(detector.sha256(), detector.names_sha256());
}

#[test]
fn a_model_that_gives_no_numbers() {
    let detector = open(&model(|g| g.initializer[1].float_data[0] = f32::NAN)).unwrap();
    let error = detector.detect(&image::RgbImage::new(9, 5)).unwrap_err();
    assert!(matches!(error, DetectError::Run(_)), "{error}");
    assert!(error.to_string().contains("found NaN"), "{error}");
}

#[test]
fn a_file_that_was_cut_off_or_damaged_never_panics() {
    let whole = model(|_| {});
    // Behind the graph stands only the version of its operators, without which it can be read.
    let graph = whole.len() - 4;
    for length in 0..whole.len() {
        let opened = open(&whole[..length]);
        assert!(
            opened.is_err() || length >= graph,
            "the first {length} bytes"
        );
    }
    for place in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[place] ^= flip;
            // Damage to a weight or a name is nothing that can be seen.
            let _ = open(&damaged).map(|detector| detector.detect(&image::RgbImage::new(8, 8)));
        }
    }
}

/// FastestDet itself, cut off: `tract` reads protobuf until it ends.
#[test]
fn a_download_that_was_cut_off() {
    let Some(data) = crate::photos::data() else {
        return;
    };
    let whole = std::fs::read(data.model).unwrap();
    for part in 1..20 {
        let error = open(&whole[..whole.len() * part / 20])
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(error, DetectError::Model { .. }),
            "{part}/20: {error}"
        );
    }
    // Of the whole file, the tiny model's names are too few.
    refused(open(&whole), &["found 1 x 85 x 22 x 22"]);
}
