//! Every benchmark on small files in the published forms, against NumPy: the letters of all items, their
//! counts, and the scores. eval/parity/benchmarks.py says what is in the fixtures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use negkit_benchmarks::{
    AttributePrompts, Benchmark, CcNeg, CelebA, CocoRetrieval, ImageNet, NegBenchChoice,
    NegBenchRetrieval, NegRefCocog, Outcome, PictureInput, Prompts, Valse, Vectors,
};
use negkit_data::PictureFolder;
use negkit_data::celeba::{Attributes, Partition};
use negkit_data::zero_shot::{LabelledPictures, SynsetOrder, read_class_names, read_templates};
use negkit_digest::hexadecimal;
use negkit_image::{Limits, crop_box_pil, open_rgb};
use negkit_shared_data::shared;
use serde::Deserialize;
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/benchmarks")
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(fixtures().join(name)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Given {
    pictures: BTreeMap<String, Vec<f64>>,
    texts: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Expected {
    outcomes: String,
    right: usize,
    score: f64,
}

fn unit(vector: &[f64]) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| (x / length) as f32).collect()
}

fn key(picture: &PictureInput) -> String {
    let name = picture
        .path
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    match picture.bbox {
        None => name,
        Some(bbox) => {
            let parts = bbox.map(|x| format!("{x:?}"));
            format!("{name}|{}", parts.join(","))
        }
    }
}

fn check(name: &str, benchmark: &dyn Benchmark) {
    let given: Given = json("vectors.json");
    let mut expected: BTreeMap<String, BTreeMap<String, Expected>> = json("expected.json");
    let mut expected = expected.remove(name).unwrap();
    let mut pictures = Vectors::new(8);
    for picture in benchmark.pictures() {
        let vector = given.pictures.get(&key(picture)).map(|vector| unit(vector));
        pictures.push(vector.as_deref());
    }
    let mut texts = Vectors::new(8);
    for text in benchmark.texts() {
        texts.push(Some(&unit(&given.texts[text])));
    }
    let measures = benchmark.score(&pictures, &texts).unwrap();
    assert!(
        measures
            .iter()
            .any(|measure| measure.name == benchmark.info().main)
    );
    for measure in &measures {
        let expected = expected
            .remove(&measure.name)
            .unwrap_or_else(|| panic!("{name} has no measure '{}'", measure.name));
        let letters: String = measure
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Right => '1',
                Outcome::Wrong => '0',
                Outcome::Unscored => '-',
            })
            .collect();
        assert_eq!(letters, expected.outcomes, "{name}, {}", measure.name);
        assert_eq!(letters.matches('1').count(), expected.right);
        let value = measure.value().unwrap();
        // Both are f64 means of the same zeros and ones.
        assert!(
            (value - expected.score).abs() < 1e-12,
            "{name}, {}",
            measure.name
        );
    }
    assert!(expected.is_empty(), "{name} lacks {:?}", expected.keys());
}

fn pictures() -> PictureFolder {
    PictureFolder::new("pictures")
}

#[test]
fn valse() {
    let file = fixtures().join("valse.json");
    check("valse", &Valse::open(&file, &pictures()).unwrap());
}

#[test]
fn negrefcocog() {
    let file = fixtures().join("negrefcocog.json");
    check(
        "negrefcocog",
        &NegRefCocog::open(&file, &pictures()).unwrap(),
    );
}

#[test]
fn negbench() {
    let file = fixtures().join("mcq.csv");
    check(
        "negbench_mcq",
        &NegBenchChoice::open(&file, &pictures()).unwrap(),
    );
    let file = fixtures().join("retrieval.csv");
    check(
        "negbench_retrieval",
        &NegBenchRetrieval::open(&file, &pictures()).unwrap(),
    );
}

#[test]
fn coco_by_either_file() {
    let file = fixtures().join("dataset_coco.json");
    check(
        "coco",
        &CocoRetrieval::karpathy(&file, "test", &pictures()).unwrap(),
    );
    let file = fixtures().join("captions.json");
    check("coco", &CocoRetrieval::whole(&file, &pictures()).unwrap());
}

#[test]
fn ccneg_as_csv_and_as_published() {
    for file in ["ccneg.csv", "ccneg.pt"] {
        let file = fixtures().join(file);
        check("ccneg", &CcNeg::open(&file, &pictures(), None).unwrap());
        let last = CcNeg::open(&file, &pictures(), Some(4)).unwrap();
        assert_eq!(last.pictures().len(), 4);
    }
}

#[test]
fn imagenet() {
    let (names, templates) = (
        fixtures().join("classnames.json"),
        fixtures().join("templates.json"),
    );
    let labels = fixtures().join("labels.txt");
    let order = SynsetOrder::alphabetical();
    let labelled = LabelledPictures::flat(Path::new("pictures"), &labels, order).unwrap();
    let ensemble = read_templates(&templates, "imagenet1k").unwrap();
    let mut prompts = Prompts {
        classes: read_class_names(&names, "imagenet1k").unwrap(),
        template: ensemble[0].clone(),
        ensemble,
    };
    check(
        "imagenet",
        &ImageNet::new(&labelled, &prompts, &[&names]).unwrap(),
    );
    prompts.classes.pop();
    let error = ImageNet::new(&labelled, &prompts, &[])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("7 classes") && error.contains("6 names"),
        "{error}"
    );
}

#[test]
fn celeba() {
    let (list, parts) = (
        fixtures().join("list_attr_celeba.txt"),
        fixtures().join("list_eval_partition.txt"),
    );
    let mut attributes = Attributes::open(&list).unwrap();
    attributes.keep(Partition::Test, &parts).unwrap();
    let prompts = AttributePrompts::open(&fixtures().join("prompts.json")).unwrap();
    check(
        "celeba",
        &CelebA::new(&attributes, &prompts, &pictures(), &[&list]).unwrap(),
    );
    // The prompts that come with the crate are for attributes that these pictures do not have.
    let own = AttributePrompts::celeba().unwrap();
    let error = CelebA::new(&attributes, &own, &pictures(), &[])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("5_o_Clock_Shadow"), "{error}");
}

#[derive(Deserialize)]
struct Crops {
    negrefcocog: Vec<String>,
    photos: BTreeMap<String, PhotoCrop>,
}

#[derive(Deserialize)]
struct PhotoCrop {
    #[serde(rename = "box")]
    bbox: [f64; 4],
    sha256: String,
}

fn digest(picture: &image::RgbImage, [left, top, width, height]: [f64; 4]) -> String {
    let crop = crop_box_pil(picture, left, top, left + width, top + height).unwrap();
    let mut hash = Sha256::new();
    hash.update(format!("({}, {})", crop.width(), crop.height()));
    hash.update(crop.as_raw());
    hexadecimal(hash.finalize())
}

#[test]
fn all_boxes_of_negrefcocog_are_cut_as_pil_cuts_them() {
    let Some(file) = shared("negrefcocog/NegRefCOCOg.json") else {
        return;
    };
    let crops: Crops = json("crops.json");
    let coded = image::RgbImage::from_fn(640, 640, |x, y| {
        image::Rgb([
            (x % 256) as u8,
            (y % 256) as u8,
            ((x / 256) * 16 + y / 256) as u8,
        ])
    });
    let items = negkit_data::foils::read_neg_refcocog(&file).unwrap();
    let boxes: Vec<[f64; 4]> = items.into_iter().flat_map(|item| item.bbox_list).collect();
    assert_eq!((boxes.len(), crops.negrefcocog.len()), (880, 880));
    for (bbox, expected) in boxes.iter().zip(&crops.negrefcocog) {
        assert_eq!(&digest(&coded, *bbox), expected, "{bbox:?}");
    }
}

#[test]
fn photos_are_cut_as_pil_cuts_them() {
    let Some(folder) = shared("tiny-coco/val2017") else {
        return;
    };
    let crops: Crops = json("crops.json");
    assert_eq!(crops.photos.len(), 50);
    for (stem, expected) in &crops.photos {
        let photo = open_rgb(folder.join(format!("{stem}.jpg")), &Limits::default()).unwrap();
        assert_eq!(digest(&photo, expected.bbox), expected.sha256, "{stem}");
    }
}
