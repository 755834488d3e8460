//! Runs of made-up benchmarks and records, down to the final files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use negkit_benchmarks::{Average, Measure, Outcome, Reference};

use super::records::MeasuredRecord;
use super::*;
use crate::{Plan, RunFolder, Shard};

fn settings(trainings: &[(&str, usize)]) -> MeasuringSettings {
    let hashes = |name: &str, seed: usize| TowerHashes {
        text: format!("{name}{seed}"),
        vision: None,
    };
    MeasuringSettings {
        scale: Scale::Mini,
        dtype: "f32".into(),
        device: "cpu".into(),
        clip: "mini-clip".into(),
        clip_size: None,
        vision: "00".into(),
        bootstrap: Bootstrap {
            resamples: 200,
            ..Bootstrap::default()
        },
        encoders: trainings
            .iter()
            .map(|(name, count)| EncoderSettings {
                name: (*name).into(),
                seeds: (0..*count).map(|seed| hashes(name, seed)).collect(),
            })
            .collect(),
        benchmarks: vec![BenchmarkInfo {
            key: "valse".into(),
            title: "VALSE existence".into(),
            main: "accuracy".into(),
            what: "captions against foils".into(),
            settings: BTreeMap::new(),
            files: BTreeMap::new(),
        }],
    }
}

/// Of 40 items those whose number is below `right` are right; item 39 lacks its picture.
fn accuracy(right: usize) -> Measure {
    let outcome = |item: usize| match item {
        39 => Outcome::Unscored,
        _ => Outcome::of(item < right),
    };
    Measure {
        name: "accuracy".into(),
        average: Average::Items,
        outcomes: (0..40).map(outcome).collect(),
        clusters: (0..40).map(|item| item / 2).collect(),
        groups: Vec::new(),
        reference: Some(Reference { chance: 0.5 }),
    }
}

fn balanced() -> Measure {
    // 30 with the attribute, of which 24 are right; 10 without, of which 2 are.
    let outcome = |item: usize| Outcome::of(!(24..38).contains(&item));
    Measure {
        name: "balanced accuracy".into(),
        average: Average::Groups,
        outcomes: (0..40).map(outcome).collect(),
        clusters: Vec::new(),
        groups: (0..40).map(|item| u32::from(item >= 30)).collect(),
        reference: None,
    }
}

fn folder(settings: &MeasuringSettings, rights: &[usize]) -> (tempfile::TempDir, RunFolder) {
    let root = tempfile::tempdir().unwrap();
    let items: Vec<String> = (0..rights.len())
        .map(|item| format!("valse/{item}"))
        .collect();
    let plan = Plan::new(Table::Three.key(), settings, items).unwrap();
    let run = RunFolder::open(root.path(), plan).unwrap();
    run.work(Shard::WHOLE, |position, _| {
        let problem = negkit_benchmarks::PictureProblem {
            picture: "v7w_1.jpg".into(),
            problem: "missing".into(),
        };
        let measures = vec![accuracy(rights[position]), balanced()];
        Ok::<_, crate::EvalError>(MeasuredRecord::new(&[problem], measures))
    })
    .unwrap();
    (root, run)
}

#[test]
fn scores_are_means_over_trainings_and_differences_pair_items() {
    let settings = settings(&[("stock", 1), ("p1", 3)]);
    let (_root, run) = folder(&settings, &[13, 26, 30, 28]);
    let found = finals(&run).unwrap();
    let measure = &found.summary["benchmarks"][0]["measures"][0];
    assert_eq!(measure["items"], 39);
    assert_eq!(measure["clusters"], 20);
    let close = |value: &serde_json::Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 1e-12, "{value}, {expected}");
    };
    let (stock, p1) = (&measure["encoders"][0], &measure["encoders"][1]);
    close(&stock["score"]["estimate"], 13. / 39.);
    assert!(stock["deviation"].is_null());
    close(&p1["score"]["estimate"], 28. / 39.);
    // Of 26, 28 and 30 the sample standard deviation is 2.
    close(&p1["deviation"], 2. / 39.);
    let against = &p1["against_first"];
    close(&against["difference"]["estimate"], 15. / 39.);
    assert_eq!(
        (&against["better"], &against["worse"]),
        (&3.into(), &0.into())
    );
    close(&stock["paper"], 0.7097);
    close(&p1["paper"], 0.8015);
    let balanced = &found.summary["benchmarks"][0]["measures"][1]["encoders"][0];
    close(&balanced["score"]["estimate"], (0.8 + 0.2) / 2.);

    for part in [
        "# Table 3",
        "stock 1, p1 3",
        "| p1 | **0.718** ± 0.051 [",
        "| 0.802 |",
        "3, 0 of 3",
        "v7w_1.jpg: missing",
        "(1 of 1): p1 (VALSE existence)",
    ] {
        assert!(
            found.table.contains(part),
            "{part:?} is not in\n{}",
            found.table
        );
    }
    assert_eq!(found.csv.lines().count(), 1 + 4);
    assert_eq!(finals(&run).unwrap(), found);
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let settings = settings(&[("stock", 1), ("p1", 1)]);
    let root = tempfile::tempdir().unwrap();
    let items = vec!["valse/stock/1".to_owned(), "valse/p1/1".to_owned()];
    let plan = Plan::new(Table::Two.key(), &settings, items).unwrap();
    let run = RunFolder::open(root.path(), plan).unwrap();
    run.work(Shard::WHOLE, |position, _| {
        let mut measure = accuracy(20);
        measure.outcomes.truncate(40 - position);
        Ok::<_, crate::EvalError>(MeasuredRecord::new(&[], vec![measure]))
    })
    .unwrap();
    let error = finals(&run).unwrap_err().to_string();
    assert!(error.contains("measure 'accuracy'"), "{error}");
}

#[test]
fn nothing_scored_is_an_error_that_names_a_picture() {
    let settings = settings(&[("stock", 1)]);
    let root = tempfile::tempdir().unwrap();
    let plan = Plan::new(
        Table::Two.key(),
        &settings,
        vec!["valse/stock/1".to_owned()],
    )
    .unwrap();
    let run = RunFolder::open(root.path(), plan).unwrap();
    run.work(Shard::WHOLE, |_, _| {
        let mut measure = accuracy(20);
        measure.outcomes.fill(Outcome::Unscored);
        let problem = negkit_benchmarks::PictureProblem {
            picture: "a.jpg".into(),
            problem: "missing".into(),
        };
        Ok::<_, crate::EvalError>(MeasuredRecord::new(&[problem], vec![measure]))
    })
    .unwrap();
    let error = finals(&run).unwrap_err().to_string();
    assert!(error.contains("a.jpg: missing"), "{error}");
}

/// The lines of the table that say who does worse than guessing.
fn below_chance(settings: &MeasuringSettings, rights: &[usize]) -> Vec<String> {
    let (_root, run) = folder(settings, rights);
    let table = finals(&run).unwrap().table;
    let lines = table.lines().filter(|line| line.contains("Below chance"));
    lines.map(str::to_owned).collect()
}

#[test]
fn an_encoder_that_is_surely_worse_than_guessing_is_named() {
    let encoders = settings(&[("stock", 1), ("p1", 1), ("conclip", 1), ("p2", 2)]);
    // Of 39 items. 5 right are far below one half whatever is drawn, and so are 4 and 8, the two
    // trainings of p2. The interval of 18 right is below in its middle and reaches over one half.
    let rights = [30, 18, 5, 4, 8];
    let (_root, run) = folder(&encoders, &rights);
    let found = finals(&run).unwrap();
    let scores = &found.summary["benchmarks"][0]["measures"][0]["encoders"];
    let bounds = |place: usize| {
        let score = &scores[place]["score"];
        (
            score["low"].as_f64().unwrap(),
            score["high"].as_f64().unwrap(),
        )
    };
    assert!(bounds(0).0 > 0.5, "{:?}", bounds(0));
    assert!(bounds(1).0 < 0.5 && bounds(1).1 >= 0.5, "{:?}", bounds(1));
    assert!(bounds(2).1 < 0.5 && bounds(3).1 < 0.5, "{scores}");
    assert_eq!(
        below_chance(&encoders, &rights),
        [
            "**Below chance** on VALSE existence: conclip, p2. Guessing gives 0.500; these prefer what \
             is wrong."
        ]
    );
}

#[test]
fn an_encoder_whose_interval_reaches_chance_is_not_named() {
    let encoders = settings(&[("stock", 1), ("p1", 1)]);
    assert_eq!(below_chance(&encoders, &[18, 20]), [""; 0]);
    // Every item right but the one without a picture, and every one wrong.
    assert_eq!(below_chance(&encoders, &[39, 0]).len(), 1);
}
