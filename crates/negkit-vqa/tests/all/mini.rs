//! mini-vqa with random weights: what holds whatever it has learned.

use candle_core::{DType, Device};
use image::{Rgb, RgbImage};
use negkit_nn::{Compute, Params};
use negkit_text::WeightsSource;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_vqa::detector::DetectorConfig;
use negkit_vqa::mini::{MiniVqa, MiniVqaConfig, MiniVqaModel, QuestionConfig};
use negkit_vqa::{QuestionAnswerer, VqaError};

/// Larger than f32 rounding over these depths, far smaller than any difference of two pictures.
const TOLERANCE: f32 = 1e-5;

fn vqa() -> MiniVqa {
    let vision = DetectorConfig {
        image_size: 32,
        widths: [8, 16, 24, 32],
        ..DetectorConfig::new(vec!["cat".to_owned()], Vec::new()).unwrap()
    };
    let question = QuestionConfig {
        vocab_size: 49408,
        hidden_size: 48,
        intermediate_size: 96,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        max_position_embeddings: 12,
        ..QuestionConfig::default()
    };
    let answers = ["yes", "no", "red", "two"].map(str::to_owned).to_vec();
    let config = MiniVqaConfig::new(vision, question, answers).unwrap();
    let params = Params::random(7, DType::F32, &Device::Cpu);
    let model = MiniVqaModel::load(&params, &config).unwrap();
    let weights = WeightsSource::new("random weights", None);
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let preprocess = config.vision_config.preprocess();
    MiniVqa::new(
        model,
        config,
        tokenizer,
        preprocess,
        weights,
        &Compute::cpu(),
    )
    .unwrap()
}

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(40, 32, |x, y| {
        let v = (x * (seed + 3) + y * 5 * (seed + 1)) % 256;
        Rgb([v as u8, (255 - v) as u8, (seed * 60 % 256) as u8])
    })
}

fn assert_close(a: &[Vec<f32>], b: &[Vec<f32>]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() < TOLERANCE, "{a} {b}");
    }
}

#[test]
fn an_answer_depends_on_its_own_picture_and_question_alone() {
    let vqa = vqa();
    let (a, b) = (picture(0), picture(1));
    let together = vqa.probabilities(&a, &["is there a cat?", "what colour?"]);
    let together = together.unwrap();
    let first = vqa.probabilities(&a, &["is there a cat?"]).unwrap();
    let second = vqa.probabilities(&a, &["what colour?"]).unwrap();
    assert_close(&together, &[first[0].clone(), second[0].clone()]);

    let other = vqa.probabilities(&b, &["is there a cat?"]).unwrap();
    let difference =
        |x: &[f32], y: &[f32]| -> f32 { x.iter().zip(y).map(|(x, y)| (x - y).abs()).sum() };
    assert!(difference(&first[0], &other[0]) > 100. * TOLERANCE);
    assert!(difference(&first[0], &second[0]) > 100. * TOLERANCE);
    for row in &together {
        assert!((row.iter().sum::<f32>() - 1.).abs() < TOLERANCE);
    }
}

#[test]
fn a_batch_of_unequal_lists_equals_its_singles() {
    let vqa = vqa();
    let pictures: Vec<RgbImage> = (0..35).map(picture).collect();
    let lists: [&[&str]; 3] = [
        &["is there a cat?", "how many?", "where is this?"],
        &[],
        &["what is red?"],
    ];
    let items: Vec<(&RgbImage, &[&str])> = pictures
        .iter()
        .enumerate()
        .map(|(i, picture)| (picture, lists[i % 3]))
        .collect();
    let batch = vqa.answer_batch(&items).unwrap();
    assert_eq!(batch.len(), items.len());
    for ((picture, questions), answers) in items.iter().zip(&batch) {
        let singles = vqa.answer(picture, questions).unwrap();
        assert_eq!(singles.len(), answers.len());
        for (single, answer) in singles.iter().zip(answers) {
            assert_eq!(single.text, answer.text);
            let (a, b) = (single.confidence.unwrap(), answer.confidence.unwrap());
            assert!((a - b).abs() < TOLERANCE && a >= 0.25);
        }
    }
    assert!(vqa.answer_batch(&[]).unwrap().is_empty());
    assert!(vqa.answer(&pictures[0], &[]).unwrap().is_empty());
}

#[test]
fn a_question_that_cannot_be_read_whole_is_refused_and_unknown_words_are_not() {
    let vqa = vqa();
    let picture = picture(0);
    let refused = vqa.answer(&picture, &["is it day?", "  "]).unwrap_err();
    assert!(matches!(refused, VqaError::EmptyQuestion { index: 1 }));
    let long = "is there a very very very very very very red chair in it?";
    match vqa.answer(&picture, &[long]).unwrap_err() {
        VqaError::QuestionTooLong {
            index: 0,
            tokens,
            room: 10,
            ..
        } => assert!(tokens > 10),
        other => panic!("{other}"),
    }
    assert_eq!(vqa.answer(&picture, &["Xyzzy plugh ¿?"]).unwrap().len(), 1);
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let good = vqa().config().clone();
    let twice = vec!["yes".to_owned(), "yes".to_owned()];
    let refused = |answers| {
        let (vision, question) = (good.vision_config.clone(), good.question_config.clone());
        MiniVqaConfig::new(vision, question, answers)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(twice).contains("'yes' twice"));
    assert!(refused(Vec::new()).contains("is empty"));
    let odd = DetectorConfig {
        image_size: 30,
        ..good.vision_config.clone()
    };
    let error = MiniVqaConfig::new(odd, good.question_config.clone(), good.answers.clone());
    assert!(error.unwrap_err().to_string().contains("image_size"));
}
