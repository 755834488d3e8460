//! What a broken model scores on the published files: nothing. And what a model that guesses scores.

use negkit_benchmarks::{Benchmark, Measure, NegBenchChoice, NegRefCocog, Outcome, Valse, Vectors};
use negkit_data::PictureFolder;
use negkit_shared_data::shared;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTH: usize = 16;

/// The vectors of a made-up model.
fn vectors(count: usize, mut of: impl FnMut(usize) -> Vec<f32>) -> Vectors {
    let mut all = Vectors::new(WIDTH);
    for place in 0..count {
        all.push(Some(&of(place)));
    }
    all
}

fn random(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let vector: Vec<f32> = (0..WIDTH).map(|_| rng.random_range(-1f32..1.)).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

/// What a model scores whose pictures and texts are as said.
fn score(
    benchmark: &dyn Benchmark,
    mut picture: impl FnMut(usize) -> Vec<f32>,
    mut text: impl FnMut(usize) -> Vec<f32>,
) -> Vec<Measure> {
    let pictures = vectors(benchmark.pictures().len(), &mut picture);
    let texts = vectors(benchmark.texts().len(), &mut text);
    benchmark.score(&pictures, &texts).unwrap()
}

/// Constant models of all sorts have nothing right, a guessing one about `chance`.
fn broken_models_score_nothing(benchmark: &dyn Benchmark, items: usize, chance: f64) {
    let constant = vec![0.25f32; WIDTH];
    let nan = vec![f32::NAN; WIDTH];
    let huge = vec![f32::MAX; WIDTH];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..2 {
        let mut draw = ChaCha8Rng::seed_from_u64(rng.random());
        let mut draw = || random(&mut draw);
        // Which side is broken, and how.
        let all: Vec<Vec<Measure>> = vec![
            score(benchmark, |_| constant.clone(), |_| constant.clone()),
            score(benchmark, |_| nan.clone(), |_| draw()),
            score(benchmark, |_| draw(), |_| nan.clone()),
            score(benchmark, |_| huge.clone(), |_| huge.clone()),
        ];
        for measures in all {
            for measure in measures {
                assert_eq!(measure.value(), Some(0.), "{}", measure.name);
            }
        }
    }
    let mut shares = Vec::new();
    for seed in 0..20 {
        let rng = std::cell::RefCell::new(ChaCha8Rng::seed_from_u64(seed));
        let draw = |_| random(&mut rng.borrow_mut());
        let measures = score(benchmark, draw, draw);
        assert_eq!(measures[0].outcomes.len(), items);
        shares.push(measures[0].value().unwrap());
    }
    // Items share pictures and texts; even if every ten of them fell alike, five standard deviations.
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let bound = 5. * (chance * (1. - chance) / (items as f64 / 10. * shares.len() as f64)).sqrt();
    assert!((mean - chance).abs() < bound, "{mean}, {chance} +- {bound}");
}

#[test]
fn negrefcocog() {
    let Some(file) = shared("negrefcocog/NegRefCOCOg.json") else {
        return;
    };
    let benchmark = NegRefCocog::open(&file, &PictureFolder::new("nowhere")).unwrap();
    broken_models_score_nothing(&benchmark, 440, 0.5);
    // A text side that sees nothing, before pictures that it tells apart: ties need not be there, and it
    // guesses. A picture side that sees nothing ties everywhere.
    let constant = vec![0.25f32; WIDTH];
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let measures = score(&benchmark, |_| constant.clone(), |_| random(&mut rng));
    assert_eq!(measures[0].value(), Some(0.));
    let words: Vec<(&str, usize)> = measures[1..]
        .iter()
        .map(|measure| (measure.name.as_str(), measure.outcomes.len()))
        .collect();
    assert_eq!(
        words,
        [
            ("accuracy, \"no\"", 143),
            ("accuracy, \"not\"", 200),
            ("accuracy, \"without\"", 97)
        ]
    );
}

#[test]
fn valse() {
    let Some(file) = shared("valse/existence.json") else {
        return;
    };
    let benchmark = Valse::open(&file, &PictureFolder::new("nowhere")).unwrap();
    broken_models_score_nothing(&benchmark, 534, 0.5);
    // A text side for which all texts are one.
    let constant = vec![0.25f32; WIDTH];
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let measures = score(&benchmark, |_| random(&mut rng), |_| constant.clone());
    assert_eq!(measures[0].value(), Some(0.));
}

#[test]
fn the_item_with_one_text_twice_is_wrong_for_a_perfect_model() {
    let Some(file) = shared("valse/existence.json") else {
        return;
    };
    let benchmark = Valse::open(&file, &PictureFolder::new("nowhere")).unwrap();
    let items = negkit_data::foils::read_valse(&file).unwrap();
    // Pictures are alike and every caption points their way; foils point away, unless a foil is the
    // caption of another item.
    let captions: std::collections::HashSet<&str> =
        items.iter().map(|item| item.caption.as_str()).collect();
    let texts = benchmark.texts().to_vec();
    let along = |sign: f32| {
        let mut vector = vec![0f32; WIDTH];
        vector[0] = sign;
        vector
    };
    let measures = score(
        &benchmark,
        |_| along(1.),
        |text| match captions.contains(texts[text].as_str()) {
            true => along(1.),
            false => along(-1.),
        },
    );
    for (item, outcome) in items.iter().zip(&measures[0].outcomes) {
        let decidable = !captions.contains(item.foil.as_str());
        assert_eq!(*outcome, Outcome::of(decidable), "{}", item.id);
    }
    assert_eq!(items.iter().filter(|item| item.is_undecidable()).count(), 1);
}

#[test]
fn negbench_multiple_choice() {
    let Some(file) = shared("negbench/COCO_val_mcq_llama3.1_rephrased.csv") else {
        return;
    };
    let benchmark = NegBenchChoice::open(&file, &PictureFolder::new("nowhere")).unwrap();
    broken_models_score_nothing(&benchmark, 5914, 0.25);
    let constant = vec![0.25f32; WIDTH];
    let measures = score(&benchmark, |_| constant.clone(), |_| constant.clone());
    let parts: Vec<(&str, usize)> = measures
        .iter()
        .map(|measure| (measure.name.as_str(), measure.outcomes.len()))
        .collect();
    assert_eq!(
        parts,
        [
            ("accuracy", 5914),
            ("accuracy, positive", 2032),
            ("accuracy, negative", 1870),
            ("accuracy, hybrid", 2012)
        ]
    );
}
