//! Masks against pycocotools and PIL (`eval/parity/masks.py`), and outlines that describe none.

use std::collections::BTreeMap;
use std::path::Path;

use negkit_data::coco::{Instances, Segmentation};
use negkit_data::{DataError, coco_mask, pil_mask};
use negkit_image::{Mask, Rle};
use negkit_shared_data::shared;
use proptest::prelude::*;
use serde::Deserialize;

type Case = (u32, u32, Vec<Vec<[f64; 2]>>, String);

#[derive(Deserialize)]
struct Fixture {
    shared: BTreeMap<String, Vec<String>>,
    coco: Vec<Case>,
    pil: Vec<Case>,
}

/// The committed cases, or those of `NEGKIT_MASK_CASES`, a file of more of them.
fn fixture() -> Fixture {
    let path = std::env::var_os("NEGKIT_MASK_CASES").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../eval/parity/fixtures/masks/masks.json")
        },
        Into::into,
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// FNV-1a over the pixels, eight a byte.
fn digest(mask: &Mask) -> String {
    let value = mask
        .pixels()
        .chunks(8)
        .fold(0xCBF2_9CE4_8422_2325u64, |value, pixels| {
            let packed = pixels.iter().enumerate().fold(0, |byte, (bit, &inside)| {
                byte | u64::from(inside) << (7 - bit)
            });
            (value ^ packed).wrapping_mul(0x100_0000_01B3)
        });
    format!("{value:016x}")
}

fn flat(polygons: &[Vec<[f64; 2]>]) -> Vec<Vec<f64>> {
    polygons
        .iter()
        .map(|polygon| polygon.as_flattened().to_vec())
        .collect()
}

#[test]
fn all_annotations_of_coco_equal_pycocotools() {
    for (name, digests) in fixture().shared {
        let Some(path) = shared(&name) else {
            continue;
        };
        let file = Instances::open(&path).unwrap();
        let crowds = file
            .instances
            .iter()
            .filter(|i| matches!(i.segmentation, Segmentation::Rle(_)));
        let counts = (file.pictures.len(), file.instances.len(), crowds.count());
        match name.split('/').next().unwrap() {
            "coco-iou" => assert_eq!(counts, (100, 839, 9)),
            _ => assert_eq!((counts.0, counts.1), (50, 382)),
        }
        assert_eq!(digests.len(), file.instances.len());
        for (instance, expected) in file.instances.iter().zip(digests) {
            let mask = file.mask(instance).unwrap();
            assert_eq!(
                digest(&mask),
                expected,
                "{name}: annotation {}",
                instance.id
            );
        }
    }
}

#[test]
fn polygons_equal_pycocotools() {
    let cases = fixture().coco;
    assert!(cases.len() >= 60);
    for (width, height, polygons, expected) in cases {
        let mask = coco_mask(&flat(&polygons), width, height).unwrap();
        assert_eq!(digest(&mask), expected, "{width}x{height}: {polygons:?}");
    }
}

#[test]
fn polygons_equal_pil() {
    let cases = fixture().pil;
    assert!(cases.len() >= 60);
    for (width, height, polygons, expected) in cases {
        let mask = pil_mask(polygons.iter().map(Vec::as_slice), width, height).unwrap();
        assert_eq!(digest(&mask), expected, "{width}x{height}: {polygons:?}");
    }
}

#[test]
fn outlines_that_are_none_are_refused_and_what_is_outside_is_left_out() {
    let refused = |polygon: &[f64], expected: &str| {
        let good = vec![0., 0., 4., 0., 4., 4.];
        let error = coco_mask(&[good, polygon.to_vec()], 8, 8)
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("segmentation[1]: {expected}"));
    };
    // Four numbers: pycocotools would take them for a box.
    refused(
        &[1., 1., 5., 5.],
        "expected x, y of three corners or more, found 4 numbers",
    );
    refused(
        &[],
        "expected x, y of three corners or more, found 0 numbers",
    );
    refused(
        &[1.; 7],
        "expected x, y of three corners or more, found 7 numbers",
    );
    let far = "expected coordinates from -1000000 to 1000000, found (1e300, 1)";
    refused(
        &[0., 0., 1e300, 1., 4., 4.],
        &far.replace("1e300", &format!("{}", 1e300)),
    );
    assert!(coco_mask(&[vec![0., 0., f64::NAN, 1., 4., 4.]], 8, 8).is_err());
    assert!(pil_mask([&[[0., 0.], [f64::INFINITY, 1.]][..]], 8, 8).is_err());
    assert!(matches!(coco_mask(&[], 0, 8), Err(DataError::Mask { .. })));
    assert!(matches!(
        pil_mask([], 1 << 20, 1 << 20),
        Err(DataError::Mask { .. })
    ));

    let outside = [[20., 20.], [30., 20.], [30., 30.]];
    assert_eq!(
        coco_mask(&flat(&[outside.to_vec()]), 8, 8).unwrap().area(),
        0
    );
    assert_eq!(pil_mask([&outside[..]], 8, 8).unwrap().area(), 0);
    // PhraseCut's own code passes over a single point, and two make a line.
    assert_eq!(pil_mask([&[[3., 3.]][..]], 8, 8).unwrap().area(), 0);
    assert_eq!(
        pil_mask([&[[1.9, 3.], [5.2, 3.]][..]], 8, 8)
            .unwrap()
            .area(),
        5
    );
}

#[test]
fn run_lengths_of_another_picture_are_refused() {
    let rle = Rle::from_mask(&Mask::new(4, 2, vec![true; 8]).unwrap());
    let error = Segmentation::Rle(rle).mask(2, 4).unwrap_err().to_string();
    assert_eq!(
        error,
        "segmentation.size: expected [4, 2], as the picture, found [2, 4]"
    );
    let none = Segmentation::Polygons(Vec::new()).mask(2, 4).unwrap_err();
    assert_eq!(
        none.to_string(),
        "segmentation: expected a polygon or more, found none"
    );
}

proptest! {
    #[test]
    fn no_outline_panics(
        numbers in proptest::collection::vec(-200.0f64..200., 0..40),
        scale in prop_oneof![Just(1.), Just(0.1), Just(900.)],
        width in 0u32..50,
        height in 0u32..50,
    ) {
        let numbers: Vec<f64> = numbers.iter().map(|c| c * scale).collect();
        let points = numbers.as_chunks::<2>().0.to_vec();
        let pil = pil_mask([&points[..]], width, height);
        prop_assert_eq!(pil.is_ok(), width * height > 0);
        let coco = coco_mask(std::slice::from_ref(&numbers), width, height);
        prop_assert_eq!(coco.is_ok(), width * height > 0 && numbers.len().is_multiple_of(2) && numbers.len() >= 6);
    }
}
