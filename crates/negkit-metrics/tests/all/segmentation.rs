//! Segmentation against a recomputation in NumPy (`eval/parity/segmentation.py`), which makes a mask a
//! threshold where negkit counts once.

use negkit_metrics::{
    ACCURACY_IOUS, Bootstrap, Clusters, Confusion, MetricsError, PixelCounts,
    SegmentationIntervals, SegmentationProtocol, SegmentationScores, SegmentationSide, Thresholds,
    compare_segmentation, phrase_ious,
};
use proptest::prelude::*;
use serde::Deserialize;

const NUMPY: f64 = 1e-9;

#[derive(Deserialize)]
struct Fixture {
    thresholds: Vec<f32>,
    sets: std::collections::BTreeMap<String, Set>,
}

#[derive(Deserialize)]
struct Set {
    protocol: SegmentationProtocol,
    phrases: Vec<(usize, usize, usize, i64)>,
    points: usize,
    #[serde(rename = "marked_above_0.5")]
    marked: Vec<u64>,
    average_precision: f64,
    mean_iou: Vec<f64>,
    foreground_iou: Vec<f64>,
    binary_iou: Vec<f64>,
    accuracy: Vec<[f64; ACCURACY_IOUS.len()]>,
}

fn fixture() -> Fixture {
    let text = include_str!("../../../../eval/parity/fixtures/segmentation/scores.json");
    serde_json::from_str(text).unwrap()
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The script's `phrase`, in the same integer arithmetic.
fn phrase(
    index: usize,
    shape: (usize, usize, usize, i64),
    thresholds: &[f32],
) -> (Vec<f32>, Vec<bool>) {
    let (width, height, radius, sixteenths) = shape;
    let pixels = (0..width * height).map(|pixel| {
        let drawn = (splitmix64(((index as u64) << 32) + pixel as u64) >> 48) as i64;
        let (x, y) = ((pixel % width) as i64, (pixel / width) as i64);
        let (dx, dy) = (x - (width / 2) as i64, y - (height / 3) as i64);
        let truth = dx * dx + dy * dy < (radius * radius) as i64;
        let level = if truth {
            20000 + ((drawn * 45535) >> 16)
        } else {
            (drawn * drawn) >> 17
        };
        let probability = if drawn % 13 == 0 {
            thresholds[(((drawn % 49) * sixteenths) >> 4) as usize]
        } else {
            ((level * sixteenths) >> 4) as f32 / 65536.
        };
        (probability, truth)
    });
    pixels.unzip()
}

fn counts(set: &Set, thresholds: &Thresholds) -> Vec<PixelCounts> {
    let phrases = set.phrases.iter().enumerate();
    phrases
        .map(|(index, shape)| {
            let (probabilities, truth) = phrase(index, *shape, thresholds.values());
            thresholds.count(&probabilities, &truth).unwrap()
        })
        .collect()
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= NUMPY,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn both_protocols_are_numpys() {
    let fixture = fixture();
    let thresholds = Thresholds::clipseg();
    assert_eq!(thresholds.values(), fixture.thresholds);
    let mut parities = [false; 2];
    for (name, set) in &fixture.sets {
        let counts = counts(set, &thresholds);
        let marked: Vec<u64> = counts
            .iter()
            .map(|phrase| {
                let at = phrase.confusions()[24];
                at.true_positives + at.false_positives
            })
            .collect();
        assert_eq!(marked, set.marked, "{name}");
        let scores = SegmentationScores::new(set.protocol, &thresholds, &counts).unwrap();
        let what = format!("{name}, average precision");
        assert_close(scores.average_precision, set.average_precision, &what);
        assert_eq!(scores.thresholds.len(), 49);
        for (index, found) in scores.thresholds.iter().enumerate() {
            let what = format!("{name} at {}", found.threshold);
            assert_close(found.mean_iou, set.mean_iou[index], &what);
            assert_close(found.foreground_iou, set.foreground_iou[index], &what);
            assert_close(found.binary_iou, set.binary_iou[index], &what);
            for (found, expected) in found.accuracy.iter().zip(set.accuracy[index]) {
                assert_close(*found, expected, &what);
            }
        }
        parities[set.points % 2] = true;
    }
    assert_eq!(parities, [true; 2], "Simpson's rule has two cases");
}

#[test]
fn the_protocols_differ_by_what_they_add() {
    let pixels = Confusion {
        true_positives: 6,
        false_positives: 1,
        false_negatives: 2,
        true_negatives: 7,
    };
    let (clipseg, phrasecut) = (
        SegmentationProtocol::ClipSeg,
        SegmentationProtocol::PhraseCut,
    );
    assert_close(clipseg.foreground_iou(&pixels), 0.6, "6 / (1 + 9)");
    assert_close(phrasecut.foreground_iou(&pixels), 6. / 9., "6 / 9");
    let binary = (6. / 10. + 7. / 11.) / 2.;
    assert_close(clipseg.binary_iou(&pixels), binary, "with 1 added");
    assert_close(phrasecut.binary_iou(&pixels), (6. / 9. + 0.7) / 2., "plain");
    let nothing = Confusion {
        true_negatives: 4,
        ..Confusion::default()
    };
    for protocol in [clipseg, phrasecut] {
        assert_close(protocol.foreground_iou(&nothing), 0., "nothing was found");
        assert_close(protocol.average_precision(&[nothing]), 0., "or marked");
    }
    assert_eq!(
        serde_json::to_string(&[clipseg, phrasecut]).unwrap(),
        r#"["clipseg","phrasecut"]"#
    );
}

/// Two pictures of three phrases, the second of which is found twice as well by `b`.
fn two_encoders() -> (Thresholds, Vec<PixelCounts>, Vec<PixelCounts>) {
    let thresholds = Thresholds::new(&[0.25, 0.5]).unwrap();
    let count = |found: usize| {
        let probabilities: Vec<f32> = (0..100)
            .map(|i| [0.1, 0.9][usize::from(i < found)])
            .collect();
        let truth: Vec<bool> = (0..100).map(|i| i < 50).collect();
        thresholds.count(&probabilities, &truth).unwrap()
    };
    let a = [10, 20, 30, 20, 20, 20].map(count).to_vec();
    let b = [10, 20, 30, 40, 40, 40].map(count).to_vec();
    (thresholds, a, b)
}

#[test]
fn scores_have_intervals_over_pictures() {
    let (thresholds, a, b) = two_encoders();
    let protocol = SegmentationProtocol::PhraseCut;
    let pictures = Clusters::by_label([7, 7, 7, 9, 9, 9]);
    let bootstrap = Bootstrap::default();
    let intervals =
        SegmentationIntervals::new(protocol, &thresholds, &a, &[1], &pictures, &bootstrap).unwrap();
    // Both pictures have a mean IoU of 0.4: over pictures there is no spread.
    let mean_iou = intervals.thresholds[0].mean_iou;
    assert_eq!(intervals.thresholds[0].threshold, 0.5);
    assert_close(mean_iou.low, 0.4, "low");
    assert_close(mean_iou.high, 0.4, "high");
    let singles = Clusters::singletons(6);
    let single =
        SegmentationIntervals::new(protocol, &thresholds, &a, &[1], &singles, &bootstrap).unwrap();
    assert!(single.thresholds[0].mean_iou.low < 0.39);

    let scores = SegmentationScores::new(protocol, &thresholds, &a).unwrap();
    let found = intervals.thresholds[0];
    assert_close(
        found.foreground_iou.estimate,
        scores.thresholds[1].foreground_iou,
        "fg",
    );
    assert_close(
        found.binary_iou.estimate,
        scores.thresholds[1].binary_iou,
        "binary",
    );
    assert_close(
        found.accuracy[0].estimate,
        1. / 6.,
        "one of six is above 0.5",
    );
    assert_close(
        intervals.average_precision.estimate,
        scores.average_precision,
        "AP",
    );
    assert_eq!(scores.best_by(|at| at.mean_iou), 0, "the lowest of equals");

    let side = |phrases| SegmentationSide {
        phrases,
        threshold: 1,
    };
    let compare = |a, b, clusters: &Clusters| {
        compare_segmentation(
            protocol,
            &thresholds,
            side(a),
            side(b),
            clusters,
            &bootstrap,
        )
    };
    let better = compare(&a, &b, &singles).unwrap();
    assert_close(
        better.mean_iou.difference.estimate,
        0.2,
        "0, 0, 0, 0.4, 0.4, 0.4",
    );
    assert!(better.mean_iou.p_value < 0.05);
    assert!(better.foreground_iou.difference.low > 0.);
    let same = compare(&a, &a, &singles).unwrap();
    assert_eq!(same.average_precision.p_value, 1.);

    assert!(compare(&a, &b[1..], &singles).is_err());
    assert!(compare(&a, &b, &Clusters::singletons(5)).is_err());
    let mut other_truth = b.clone();
    other_truth[2].inside[0] += 1;
    let error = compare(&a, &other_truth, &singles).unwrap_err();
    assert!(error.to_string().contains("inside the truth"), "{error}");
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let thresholds = Thresholds::clipseg();
    let refused = |p: f32| thresholds.count(&[0.5, p], &[true, false]).unwrap_err();
    for nan in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(matches!(
            refused(nan),
            MetricsError::NotFinite { index: 1, .. }
        ));
    }
    for logit in [-0.2, 1.2, 7., f32::MAX, f32::MIN] {
        let error = refused(logit);
        assert!(matches!(
            error,
            MetricsError::NoProbability { index: 1, .. }
        ));
        assert!(error.to_string().contains("sigmoid"), "{error}");
    }
    // What bilinear interpolation makes of a 1.
    let rounded = thresholds
        .count(&[1.000_000_2, -1e-7], &[true, false])
        .unwrap();
    assert_eq!((rounded.inside[49], rounded.outside[0]), (1, 1));
    assert!(thresholds.count(&[0.5], &[]).is_err());
    assert!(thresholds.count(&[], &[]).is_err());
    let protocol = SegmentationProtocol::ClipSeg;
    assert!(SegmentationScores::new(protocol, &thresholds, &[]).is_err());
    let few = Thresholds::new(&[0.5])
        .unwrap()
        .count(&[0.5], &[true])
        .unwrap();
    assert!(SegmentationScores::new(protocol, &thresholds, std::slice::from_ref(&few)).is_err());
    assert!(phrase_ious(protocol, std::slice::from_ref(&few), 1).is_err());
    assert_eq!(phrase_ious(protocol, &[few], 0).unwrap(), [0.]);
    assert_eq!(thresholds.nearest(0.3), 14);
    assert_eq!(thresholds.nearest(-4.), 0);
}

/// Right and wrong pixels by a mask.
fn by_mask(threshold: f32, probabilities: &[f32], truth: &[bool]) -> Confusion {
    let mut pixels = Confusion::default();
    for (probability, truth) in probabilities.iter().zip(truth) {
        match (*probability > threshold, truth) {
            (true, true) => pixels.true_positives += 1,
            (true, false) => pixels.false_positives += 1,
            (false, true) => pixels.false_negatives += 1,
            (false, false) => pixels.true_negatives += 1,
        }
    }
    pixels
}

proptest! {
    #[test]
    fn counting_is_masking(
        thresholds in prop::collection::btree_set(0u32..=1000, 1..60),
        step in prop::sample::select(vec![1e-3f32, 2e-4, 1e-5]),
        pixels in prop::collection::vec((0u32..=2000, any::<bool>(), -2i32..=2), 1..300),
    ) {
        // Some thresholds fall into one cell, some pixels next to a threshold or on it.
        let values: Vec<f32> = thresholds.iter().map(|t| *t as f32 * step).collect();
        let thresholds = Thresholds::new(&values).unwrap();
        let probabilities: Vec<f32> = pixels
            .iter()
            .map(|(level, _, ulps)| {
                let p = (*level as f32 * step).min(1.);
                f32::from_bits(p.to_bits().saturating_add_signed(*ulps)).clamp(0., 1.)
            })
            .collect();
        let truth: Vec<bool> = pixels.iter().map(|(_, truth, _)| *truth).collect();
        let found = thresholds.count(&probabilities, &truth).unwrap().confusions();
        let expected: Vec<Confusion> =
            values.iter().map(|t| by_mask(*t, &probabilities, &truth)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn scores_lie_between_0_and_1_and_fall_with_nothing_found(
        phrases in prop::collection::vec(
            prop::collection::vec((0f32..=1., any::<bool>()), 1..80), 1..6),
    ) {
        let thresholds = Thresholds::clipseg();
        let counts: Vec<PixelCounts> = phrases
            .iter()
            .map(|pixels| {
                let (p, t): (Vec<f32>, Vec<bool>) = pixels.iter().copied().unzip();
                thresholds.count(&p, &t).unwrap()
            })
            .collect();
        for protocol in [SegmentationProtocol::ClipSeg, SegmentationProtocol::PhraseCut] {
            let scores = SegmentationScores::new(protocol, &thresholds, &counts).unwrap();
            if protocol == SegmentationProtocol::PhraseCut {
                prop_assert!((0. ..=1. + 1e-12).contains(&scores.average_precision));
            }
            for at in &scores.thresholds {
                let shares = [at.mean_iou, at.foreground_iou, at.binary_iou];
                prop_assert!(shares.iter().chain(&at.accuracy).all(|s| (0. ..=1.).contains(s)));
                prop_assert!(at.accuracy.windows(2).all(|pair| pair[0] >= pair[1]));
            }
        }
    }
}
