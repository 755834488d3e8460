//! COCO run-length encoding against pycocotools.

use std::collections::HashMap;

use negkit_image::{Error, Mask, Rle};
use negkit_shared_data::shared;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::reference::{fixture, fnv1a};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    shared: Shared,
}

#[derive(Deserialize)]
struct Case {
    rows: Vec<String>,
    counts: String,
    area: u64,
    #[serde(rename = "box")]
    bounding_box: [u32; 4],
}

#[derive(Deserialize)]
struct Shared {
    crowds: HashMap<String, Crowd>,
    /// Area, box and the digest of the decoded mask, of every fifth result.
    results: Vec<(u64, u32, u32, u32, u32, String)>,
}

#[derive(Deserialize)]
struct Crowd {
    counts_fnv1a: String,
    area: u64,
    #[serde(rename = "box")]
    bounding_box: [u32; 4],
}

fn fixture_values() -> Fixture {
    serde_json::from_slice(&std::fs::read(fixture("rle.json")).unwrap()).unwrap()
}

fn from_rows(rows: &[String]) -> Mask {
    let pixels = rows
        .iter()
        .flat_map(|row| row.bytes().map(|b| b == b'1'))
        .collect();
    Mask::new(rows[0].len() as u32, rows.len() as u32, pixels).unwrap()
}

#[test]
fn encoding_equals_pycocotools() {
    let cases = fixture_values().cases;
    assert!(cases.len() >= 13);
    for case in cases {
        let mask = from_rows(&case.rows);
        let rle = Rle::from_mask(&mask);
        assert_eq!(rle.to_compressed(), case.counts, "{:?}", case.rows);
        assert_eq!(rle.area(), case.area);
        assert_eq!(mask.area(), case.area);
        assert_eq!(rle.bounding_box(), case.bounding_box, "{:?}", case.rows);
        assert_eq!(rle.to_mask().unwrap(), mask);
        let read = Rle::from_compressed(mask.width(), mask.height(), &case.counts).unwrap();
        assert_eq!(read, rle);
    }
}

/// numpy's `packbits` over the pixels row by row (C order), as the fixture was digested.
fn digest(mask: &Mask) -> u64 {
    let bytes: Vec<u8> = mask
        .pixels()
        .chunks(8)
        .map(|bits| {
            bits.iter()
                .enumerate()
                .fold(0, |byte, (at, &bit)| byte | (u8::from(bit) << (7 - at)))
        })
        .collect();
    fnv1a(&bytes)
}

fn shared_json(name: &str) -> Option<Value> {
    let path = shared(name)?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

#[test]
fn crowds_of_coco_equal_pycocotools() {
    let name = "coco-iou/instances_val2014_100.json";
    let Some(truth) = shared_json(name) else {
        return;
    };
    let expected = fixture_values().shared.crowds;
    let mut compared = 0;
    for annotation in truth["annotations"].as_array().unwrap() {
        if !annotation["segmentation"].is_object() {
            continue;
        }
        let rle: Rle = serde_json::from_value(annotation["segmentation"].clone()).unwrap();
        let expected = &expected[&annotation["id"].to_string()];
        let packed = rle.to_compressed();
        assert_eq!(
            (fnv1a(packed.as_bytes()) as i64).to_string(),
            expected.counts_fnv1a
        );
        assert_eq!(rle.area(), expected.area);
        assert_eq!(rle.bounding_box(), expected.bounding_box);
        assert_eq!(Rle::from_mask(&rle.to_mask().unwrap()), rle);
        compared += 1;
    }
    assert_eq!(compared, expected.len());
    assert!(compared > 0);
}

#[test]
fn results_of_coco_equal_pycocotools() {
    let name = "coco-iou/instances_val2014_fakesegm100_results.json";
    let Some(results) = shared_json(name) else {
        return;
    };
    let results = results.as_array().unwrap();
    for result in results {
        let rle: Rle = serde_json::from_value(result["segmentation"].clone()).unwrap();
        assert_eq!(serde_json::to_value(&rle).unwrap(), result["segmentation"]);
    }
    let expected = fixture_values().shared.results;
    assert_eq!(expected.len(), results.len().div_ceil(5));
    for (result, (area, x, y, w, h, packed)) in results.iter().step_by(5).zip(expected) {
        let rle: Rle = serde_json::from_value(result["segmentation"].clone()).unwrap();
        assert_eq!((rle.area(), rle.bounding_box()), (area, [x, y, w, h]));
        let mask = rle.to_mask().unwrap();
        assert_eq!((digest(&mask) as i64).to_string(), packed);
    }
}

#[test]
fn strings_that_are_no_encoding_are_errors() {
    for (packed, why) in [
        ("1", "add up"),
        ("<<", "add up"),
        ("\u{7f}", "byte 0x7f"),
        ("é", "byte"),
        (" 4", "byte 0x20"),
        ("P", "breaks off"),
        ("oooooooo0", "at most seven"),
        ("O", "-1"),
    ] {
        let error = Rle::from_compressed(4, 3, packed).unwrap_err();
        assert!(matches!(error, Error::Rle { .. }), "{error}");
        assert!(error.to_string().contains(why), "{packed:?}: {error}");
    }
    assert!(serde_json::from_str::<Rle>(r#"{"size":[2,2],"counts":[1,2]}"#).is_err());
    assert!(serde_json::from_str::<Rle>(r#"{"size":[2,2],"counts":[1,2,1]}"#).is_ok());
}

#[test]
fn a_few_bytes_do_not_ask_for_gigabytes() {
    let huge = Rle::from_counts(1 << 20, 1 << 11, vec![1 << 31]).unwrap();
    assert!(matches!(huge.to_mask(), Err(Error::Rle { .. })));
}

#[test]
fn thresholds_are_exclusive_and_pictures_of_masks_come_back() {
    let mask = Mask::from_threshold(&[0.4, 0.5, 0.6, f32::NAN], 2, 2, 0.5).unwrap();
    assert_eq!(mask.pixels(), [false, false, true, false]);
    assert!(mask.contains(0, 1) && !mask.contains(1, 1) && !mask.contains(2, 0));
    assert_eq!(mask.to_luma().as_raw(), &[0, 0, 255, 0]);
    assert_eq!(Mask::from_luma(&mask.to_luma()), mask);
    assert!(matches!(
        Mask::new(2, 2, vec![true; 3]),
        Err(Error::Shape { .. })
    ));
}

proptest! {
    #[test]
    fn masks_survive_the_encoding(
        width in 0_u32..20,
        height in 0_u32..20,
        seed in prop::collection::vec(any::<bool>(), 400),
    ) {
        let pixels = seed[..(width * height) as usize].to_vec();
        let mask = Mask::new(width, height, pixels).unwrap();
        let rle = Rle::from_mask(&mask);
        prop_assert_eq!(rle.area(), mask.area());
        let json = serde_json::to_string(&rle).unwrap();
        let read: Rle = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read.to_mask().unwrap(), mask);
    }

    #[test]
    fn any_counts_survive_the_packing(counts in prop::collection::vec(0_u32..100_000_000, 1..30)) {
        let pixels = counts.iter().sum::<u32>();
        let rle = Rle::from_counts(pixels, 1, counts).unwrap();
        prop_assert_eq!(Rle::from_compressed(pixels, 1, &rle.to_compressed()).unwrap(), rle);
    }

    #[test]
    fn any_string_is_an_encoding_or_an_error(packed in "[0-o]{0,40}") {
        if let Ok(rle) = Rle::from_compressed(30, 40, &packed) {
            prop_assert_eq!(rle.to_mask().unwrap().area(), rle.area());
            let _ = rle.bounding_box();
        }
    }
}
