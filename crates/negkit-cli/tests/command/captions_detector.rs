//! `negkit captions detector`, and detectors as verifiers.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::bench::Bench;

/// A detector of colours (red is an apple, green broccoli, blue skis), three pictures of a bright apple,
/// of none and of a dark one, and their captions and instances.
fn bench() -> Bench {
    let bench = Bench::new();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../negkit-detect-onnx/tests/all/tiny");
    for file in ["tiny.onnx", "coco.names"] {
        fs::copy(tiny.join(file), bench.path(file)).unwrap();
    }
    fs::create_dir(bench.path("photos")).unwrap();
    let (mut images, mut captions) = (Vec::new(), Vec::new());
    for (id, red) in [255, 0, 77].into_iter().enumerate() {
        let name = format!("{id}.png");
        let mut picture = RgbImage::new(32, 32);
        for (x, y) in (0..8).flat_map(|y| (0..8).map(move |x| (x, y))) {
            picture.put_pixel(8 + x, 16 + y, Rgb([red, 0, 0]));
        }
        picture.save(bench.path("photos").join(&name)).unwrap();
        images.push(json!({"id": id, "file_name": name, "width": 32, "height": 32}));
        captions.push(json!({"id": id, "image_id": id, "caption": "A plate on a wooden table."}));
    }
    let apple = |id: usize| {
        json!({"id": id, "image_id": id, "category_id": 53, "segmentation": [], "iscrowd": 0,
               "bbox": [8, 16, 8, 8]})
    };
    let categories = json!([
        {"id": 53, "name": "apple", "supercategory": "food"},
        {"id": 18, "name": "dog", "supercategory": "animal"},
    ]);
    let write = |name: &str, content: Value| {
        fs::write(bench.path(name), content.to_string()).unwrap();
    };
    write(
        "captions.json",
        json!({"images": &images, "annotations": captions}),
    );
    write(
        "instances.json",
        json!({"images": images, "annotations": [apple(0), apple(2)], "categories": categories}),
    );
    fs::write(bench.path("objects.txt"), "apple\n").unwrap();
    bench
}

const MEASURE: &str = "captions detector tiny.onnx --instances instances.json --images photos";
const RAND: &str = "captions rand-p1 --captions captions.json --images photos --writer rules \
                    --objects objects.txt --verifier onnx:tiny.onnx";

#[test]
fn a_detector_is_measured_on_annotated_pictures() {
    let bench = bench();
    let told = bench.run_line(MEASURE, &[]).good().stdout;
    let expected = "\
3 photos, 1 classes
              precision  recall
yes               1.000   0.500  (1 right, 0 wrong, 1 missed)
no                1.000   1.000  (1 right, 0 wrong, 0 missed)
boxes             1.000   1.000  (2 right, 0 wrong, 0 missed)
cannot tell   1 of 3, 1 of them there
not asked, for they are no classes of the detector: dog
";
    assert_eq!(told, expected);
    let line = format!("{MEASURE} --yes-from 0.3 --json");
    let found = bench.run_line(&line, &[]).good().json();
    assert_eq!(found["yes"], json!({"right": 2, "wrong": 0, "missed": 0}));
    assert_eq!(found["unsure"], 0);
    assert_eq!(found["boxes_by_class"]["apple"]["right"], 2);
}

#[test]
fn its_verdicts_decide_what_is_written() {
    let bench = bench();
    let line = format!("{RAND} --out out");
    let told = bench.run_line(&line, &[]).good().stdout;
    assert!(
        told.contains("3 captions: 1 kept, 2 rejected, 0 dead letters"),
        "{told}"
    );
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(bench.path("out").join(name)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let [kept] = &lines("provenance.jsonl")[..] else {
        panic!("{told}");
    };
    let kept = kept.to_string();
    assert!(
        kept.contains("apple has the score 0.000, under 0.05"),
        "{kept}"
    );
    let rejected: Vec<String> = lines("rejected.jsonl")
        .iter()
        .map(Value::to_string)
        .collect();
    assert!(rejected[0].contains("object-there"), "{rejected:?}");
    assert!(
        rejected[1].contains("apple has the score 0.302, between 0.05 and 0.5"),
        "{rejected:?}"
    );

    // Another model under the same name is another run.
    let again = format!("{line} --no-below 0.1");
    bench
        .run_line(&again, &[])
        .refused(&["settings.verifier.no_below was \"0.05\", now \"0.1\""]);
    let model = bench.path("tiny.onnx");
    let mut bytes = fs::read(&model).unwrap();
    // A remark (field 6 of the protobuf) that changes nothing but the bytes.
    bytes.extend(b"\x32\x03new");
    fs::write(&model, bytes).unwrap();
    bench
        .run_line(&line, &[])
        .refused(&["settings.verifier.model_sha256"]);
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_done() {
    let bench = bench();
    let measure = |more: &str| bench.run_line(&format!("{MEASURE} {more}"), &[]);
    measure("--no-below 0.7").refused(&["--no-below", "found 0.7 and 0.5"]);
    measure("--yes-from nan").refused(&["--yes-from"]);
    measure("--names objects.txt").refused(&[
        "tiny.onnx",
        "an output of 1 x 6 x rows x columns",
        "objects.txt",
        "found 1 x 8 x 4 x 4",
    ]);
    let line = RAND.replace("--images photos", "");
    bench
        .run_line(&format!("{line} --out x"), &[])
        .refused(&["--images"]);
    let broken: PathBuf = bench.path("broken.onnx");
    let whole = fs::read(bench.path("tiny.onnx")).unwrap();
    fs::write(broken, &whole[..whole.len() / 2]).unwrap();
    let line = RAND.replace("tiny.onnx", "broken.onnx");
    bench
        .run_line(&format!("{line} --out x"), &[])
        .refused(&["broken.onnx is no ONNX model"]);
    fs::remove_file(bench.path("coco.names")).unwrap();
    bench
        .run_line(&format!("{RAND} --out x"), &[])
        .refused(&["cannot read coco.names", "--names"]);
    assert!(!bench.path("x").exists());
}
