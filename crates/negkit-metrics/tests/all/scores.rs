//! Every score against numbers that were computed elsewhere: by hand, in exact fractions, by the reference
//! tool.

use std::collections::BTreeMap;
use std::path::Path;

use negkit_metrics::{
    IouCurve, MetricsError, NegAnswers, bootstrap_interval, bootstrap_statistic, foil_accuracy,
    foil_hits, mcnemar_exact, mean, neg_score, paired_bootstrap, recall_at_k, recall_hits,
    sample_deviation, tifa_score, yes_or_no,
};
use negkit_shared_data::shared;
use serde_json::Value;

const EXACT: f64 = 1e-12;

fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{found}, expected {expected}"
    );
}

#[test]
fn tifa_of_a_hand_counted_sample() {
    let captions = [vec![1., 1., 0., 1.], vec![1., 0.]];
    let score = tifa_score(&captions).unwrap();
    assert_close(score.average, 0.625, EXACT);
    // |0.75 - 0.5| / sqrt(2)
    assert_close(score.deviation.unwrap(), 0.25 / 2f64.sqrt(), EXACT);
    assert_eq!(score.captions, [0.75, 0.5]);
    assert_eq!(tifa_score(&[[1.]]).unwrap().deviation, None);
    let empty = tifa_score(&[vec![1.], vec![]]).unwrap_err();
    assert!(empty.to_string().contains("list 1"), "{empty}");
}

/// The sample result that the reference tool is published with (Yushi-Hu/tifa,
/// `sample/sample_evaluation_result.json`).
#[test]
fn tifa_is_the_reference_tools_on_its_sample() {
    let Some(path) = shared("tifa/sample_evaluation_result.json") else {
        return;
    };
    let (captions, printed) = read_tifa_result(&path);
    let score = tifa_score(&captions).unwrap();
    assert_close(score.average, printed.0, EXACT);
    assert_close(score.deviation.unwrap(), printed.1, EXACT);
}

/// Scores by caption and question, and the printed average and deviation.
fn read_tifa_result(path: &Path) -> (Vec<Vec<f64>>, (f64, f64)) {
    let text = std::fs::read_to_string(path).unwrap();
    let result: Value = serde_json::from_str(&text).unwrap();
    let captions: BTreeMap<String, Vec<f64>> = result["question_details"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(caption, questions)| {
            let questions = questions.as_object().unwrap().values();
            let scores = questions.map(|q| q["scores"].as_f64().unwrap()).collect();
            (caption.clone(), scores)
        })
        .collect();
    let printed = |name: &str| result[name].as_f64().unwrap();
    let printed = (printed("tifa_average"), printed("tifa_stdev"));
    (captions.into_values().collect(), printed)
}

#[test]
fn the_reference_tools_sample_by_its_counts() {
    // The sample's two captions have 11 and 8 questions, of which 11 and 5 are answered rightly.
    let captions = [vec![1.; 11], vec![1., 1., 1., 1., 1., 0., 0., 0.]];
    let score = tifa_score(&captions).unwrap();
    assert_close(score.average, 0.8125, EXACT);
    assert_close(score.deviation.unwrap(), 0.265_165_042_944_955_3, EXACT);
}

#[test]
fn neg_score_needs_both_answers() {
    let of = NegAnswers::from_answers;
    let prompts = [
        vec![
            of("yes", "no"),
            of("Yes.", "yes"),
            of("no", "No"),
            of("yes", "no, none"),
        ],
        vec![of("maybe", "no"), of("yes", "unclear")],
    ];
    let score = neg_score(&prompts).unwrap();
    // Prompt 1: 2 of 4 both, 3 affirmed, 3 negated; prompt 2: 0, 1 and 1 of 2.
    assert_close(score.score, 0.25, EXACT);
    assert_close(score.affirmed, (0.75 + 0.5) / 2., EXACT);
    assert_close(score.negated, (0.75 + 0.5) / 2., EXACT);
    assert_close(score.prompts[0].score, 0.5, EXACT);
    assert!(neg_score::<Vec<NegAnswers>>(&[]).is_err());
    assert!(neg_score(&[vec![of("yes", "no")], vec![]]).is_err());

    for (answer, expected) in [
        ("yes", Some(true)),
        (" \"No\"!", Some(false)),
        ("nobody", None),
        ("not at all", None),
        ("", None),
    ] {
        assert_eq!(yes_or_no(answer), expected, "{answer}");
    }
}

#[test]
fn recall_counts_ranks_and_ties_against_the_model() {
    let rows = [
        [0.9, 0.1, 0.2, 0.3],
        [0.9, 0.1, 0.2, 0.3],
        [0.5, 0.5, 0.5, 0.5],
        [0.1, 0.8, 0.7, 0.9],
    ];
    // Ranks: 1, 4, 4 (all alike), 3.
    let targets = [[0], [1], [2], [2]];
    for (k, expected) in [(1, 0.25), (2, 0.25), (3, 0.5), (4, 1.)] {
        assert_close(recall_at_k(&rows, &targets, k).unwrap(), expected, EXACT);
    }
    // Several right candidates: the best one counts, and one does not stand in another's way.
    let several = [vec![1, 3], vec![0, 2], vec![0, 1, 2, 3], vec![2]];
    let hits = recall_hits(&rows, &several, 2).unwrap();
    assert_eq!(hits, [true, true, true, false]);

    assert!(recall_at_k(&rows, &targets[..3], 1).is_err());
    assert!(recall_at_k(&rows, &[[0], [0], [0], [4]], 1).is_err());
    assert!(recall_at_k(&rows, &targets, 0).is_err());
    let broken = recall_at_k(&[[f32::NAN, 0.]], &[[0]], 1).unwrap_err();
    assert!(matches!(broken, MetricsError::NotFinite { index: 0, .. }));
}

#[test]
fn foils_that_look_the_same_are_wrong() {
    let pairs = [(0.3, 0.2), (0.2, 0.3), (0.3, 0.3), (-0.1, -0.2)];
    assert_eq!(foil_hits(&pairs).unwrap(), [true, false, false, true]);
    assert_close(foil_accuracy(&pairs).unwrap(), 0.5, EXACT);
    assert!(foil_accuracy(&[]).is_err());
    assert!(foil_accuracy(&[(0.1, f32::INFINITY)]).is_err());
}

#[test]
fn mcnemar_is_the_binomial_test() {
    let lists = |both: usize, only_a: usize, only_b: usize| {
        let mut a = vec![true; both + only_a];
        let mut b = vec![true; both];
        b.extend(vec![false; only_a]);
        a.extend(vec![false; only_b]);
        b.extend(vec![true; only_b]);
        (a, b)
    };
    // 2 * sum(C(n, i), i <= min) / 2^n in exact fractions; what scipy.stats.binomtest computes.
    for (only_a, only_b, expected) in [
        (0, 0, 1.),
        (1, 1, 1.),
        (0, 5, 0.0625),
        (2, 10, 0.038_574_218_75),
        (15, 30, 0.035_697_803_555_194_696),
    ] {
        let (a, b) = lists(3, only_a, only_b);
        let test = mcnemar_exact(&a, &b).unwrap();
        assert_eq!((test.only_a, test.only_b), (only_a, only_b));
        assert_close(test.p_value, expected, 1e-11);
    }
    // 2^-1999 is below the smallest f64.
    let (a, b) = lists(0, 950, 1050);
    assert_close(
        mcnemar_exact(&a, &b).unwrap().p_value,
        0.026_824_146_240_280_695,
        1e-11,
    );
    assert!(mcnemar_exact(&a, &b[1..]).is_err());
    assert!(mcnemar_exact(&[], &[]).is_err());
}

#[test]
fn a_bootstrap_interval_covers_what_theory_says() {
    let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
    let interval = bootstrap_interval(&values, 4000, 1, 0.95).unwrap();
    assert_close(interval.estimate, 0.25, EXACT);
    // 1.96 sqrt(0.25 * 0.75 / 400) = 0.0424; an end of 4,000 resamples scatters by about 0.001.
    assert_close(interval.low, 0.25 - 0.0424, 0.006);
    assert_close(interval.high, 0.25 + 0.0424, 0.006);
    assert_eq!(
        interval,
        bootstrap_interval(&values, 4000, 1, 0.95).unwrap()
    );
    assert_ne!(
        interval,
        bootstrap_interval(&values, 4000, 2, 0.95).unwrap()
    );

    let constant = bootstrap_interval(&[0.5; 9], 100, 0, 0.9).unwrap();
    assert_eq!((constant.low, constant.high), (0.5, 0.5));
    // One resample of one value.
    let single = bootstrap_interval(&[2.], 1, 0, 0.95).unwrap();
    assert_eq!((single.low, single.high), (2., 2.));

    assert!(bootstrap_interval(&[], 100, 0, 0.95).is_err());
    assert!(bootstrap_interval(&[1.], 0, 0, 0.95).is_err());
    assert!(bootstrap_interval(&[1., f64::NAN], 10, 0, 0.95).is_err());
    for level in [0., 1., f64::NAN] {
        assert!(bootstrap_interval(&[1.], 10, 0, level).is_err());
    }
}

#[test]
fn a_statistic_of_items_may_be_a_ratio() {
    let counts = [(1u64, 2u64), (90, 100), (5, 10)];
    let ratio = |items: &[usize]| {
        let sum =
            |part: fn(&(u64, u64)) -> u64| items.iter().map(|i| part(&counts[*i])).sum::<u64>();
        sum(|c| c.0) as f64 / sum(|c| c.1) as f64
    };
    let interval = bootstrap_statistic(counts.len(), ratio, 2000, 3, 0.95).unwrap();
    assert_close(interval.estimate, 96. / 112., EXACT);
    assert!(interval.low >= 0.5 && interval.high <= 0.9 && interval.low < interval.high);
    assert!(bootstrap_statistic(0, ratio, 10, 0, 0.9).is_err());
}

#[test]
fn a_paired_difference_is_found_where_two_intervals_overlap() {
    // Items differ much, encoders by a constant tenth with a little noise.
    let a: Vec<f64> = (0..50).map(|i| f64::from(i % 10) / 10.).collect();
    let b: Vec<f64> = a
        .iter()
        .enumerate()
        .map(|(i, a)| a + 0.1 + [0.02, -0.02][i % 2])
        .collect();
    let found = paired_bootstrap(&a, &b, 2000, 5, 0.95).unwrap();
    assert_close(found.difference.estimate, 0.1, 1e-9);
    assert!(found.difference.low > 0.09 && found.difference.high < 0.11);
    assert_close(found.p_value, 2. / 2001., EXACT);
    let alone = |values: &[f64]| bootstrap_interval(values, 2000, 5, 0.95).unwrap();
    assert!(alone(&a).high > alone(&b).low);

    let same = paired_bootstrap(&a, &a, 500, 5, 0.95).unwrap();
    assert_close(same.p_value, 1., EXACT);
    assert!(paired_bootstrap(&a, &b[1..], 10, 0, 0.95).is_err());
}

#[test]
fn iou_over_thresholds_by_hand() {
    let mut curve = IouCurve::new(&[0.2, 0.5, 0.9]).unwrap();
    assert!(curve.scores().is_err());
    curve
        .add(&[0.95, 0.6, 0.3, 0.1], &[true, true, false, false])
        .unwrap();
    // A pixel at the threshold is not above it.
    curve
        .add(&[0.5, 0.2, 0.6, 0.0], &[true, false, false, false])
        .unwrap();
    let scores = curve.scores().unwrap();
    // Above 0.2: {0,1,2} and {0,2}: 2/3 and 1/2. Above 0.5: {0,1} and {2}: 1 and 0/2.
    // Above 0.9: {0} and {}: 1/2 and 0/1.
    let expected = [
        ((2. / 3. + 0.5) / 2., 3. / 5.),
        (0.5, 2. / 4.),
        (0.25, 1. / 3.),
    ];
    for (score, (mean_iou, cumulative)) in scores.iter().zip(expected) {
        assert_close(score.mean_iou, mean_iou, EXACT);
        assert_close(score.cumulative_iou, cumulative, EXACT);
    }
    assert_eq!(curve.best().unwrap().threshold, 0.2);
    assert_eq!(curve.phrase_ious(1), [1., 0.]);
    assert_eq!(curve.phrase_counts(0), [(2, 3), (1, 2)]);
    assert!(curve.phrase_ious(3).is_empty());

    // Nothing to be found: right only when nothing is marked.
    let mut absent = IouCurve::new(&[0.5]).unwrap();
    absent.add(&[0.1, 0.2], &[false, false]).unwrap();
    absent.add(&[0.1, 0.7], &[false, false]).unwrap();
    assert_eq!(absent.phrase_ious(0), [1., 0.]);

    assert!(absent.add(&[0.1], &[true, false]).is_err());
    assert!(absent.add(&[f32::NAN], &[true]).is_err());
    assert!(absent.add(&[], &[]).is_err());
    assert_eq!(absent.len(), 2);
    for thresholds in [&[][..], &[0.5, 0.5], &[0.6, 0.5], &[f32::NAN]] {
        assert!(IouCurve::new(thresholds).is_err());
    }
}

#[test]
fn iou_by_counting_is_iou_by_masks() {
    let pixels: Vec<f32> = (0..997u32)
        .map(|i| ((i * 7919) % 1000) as f32 / 1000.)
        .collect();
    let truth: Vec<bool> = (0..997u32).map(|i| (i * 31) % 7 < 3).collect();
    let thresholds: Vec<f32> = (0..=20).map(|i| i as f32 / 20.).collect();
    let mut curve = IouCurve::new(&thresholds).unwrap();
    curve.add(&pixels, &truth).unwrap();
    for (index, threshold) in thresholds.iter().enumerate() {
        let marked: Vec<bool> = pixels.iter().map(|p| p > threshold).collect();
        let count = |wanted: fn(bool, bool) -> bool| {
            marked
                .iter()
                .zip(&truth)
                .filter(|(m, t)| wanted(**m, **t))
                .count() as u64
        };
        let expected = (count(|m, t| m && t), count(|m, t| m || t));
        assert_eq!(curve.phrase_counts(index), [expected]);
    }
}

#[test]
fn means_and_deviations() {
    assert_close(mean(&[1., 2., 6.]).unwrap(), 3., EXACT);
    // statistics.stdev([1, 2, 6])
    assert_close(
        sample_deviation(&[1., 2., 6.]).unwrap().unwrap(),
        7f64.sqrt(),
        EXACT,
    );
    assert_eq!(sample_deviation(&[1.]).unwrap(), None);
    assert!(mean(&[]).is_err());
}
