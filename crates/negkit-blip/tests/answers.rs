//! What a caller of BLIP relies on, with the random model of the parity fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use negkit_blip::{BlipError, BlipVqa};
use negkit_checkpoint::Checkpoint;
use negkit_nn::{Compute, TensorSource};
use negkit_vqa::{QuestionAnswerer, VqaError};

const QUESTIONS: [&str; 3] = [
    "is there a dog in the picture?",
    "what?",
    "no hat, or no man with no hat?",
];

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/models/weights/blip-vqa-published")
}

fn blip() -> BlipVqa {
    BlipVqa::load(published(), &Compute::cpu()).unwrap()
}

fn picture() -> RgbImage {
    RgbImage::from_fn(40, 30, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, 90]))
}

/// A copy of the published folder in which `change` may spoil something.
fn copy(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(published()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    change(folder.path());
    folder
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn questions_asked_together_get_the_answers_that_they_get_alone() {
    let blip = blip();
    let together = blip.answer(&picture(), &QUESTIONS).unwrap();
    for (question, together) in QUESTIONS.iter().zip(&together) {
        let alone = blip.answer(&picture(), &[question]).unwrap();
        assert_eq!(alone[0].text, together.text, "{question}");
        let (alone, together) = (alone[0].confidence.unwrap(), together.confidence.unwrap());
        assert!((alone - together).abs() <= 1e-5 * alone, "{question}");
        assert!(alone > 0. && alone <= 1., "{alone}");
    }
}

#[test]
fn words_written_one_by_one_have_the_logits_of_the_whole_answer() {
    let blip = blip();
    let seen = blip.look(&picture()).unwrap();
    let read = blip.read(&seen, &QUESTIONS[..1]).unwrap();
    let answer = blip.model().answer(&read, 20, true).unwrap().remove(0);
    let mut ids = vec![blip.config().text_config.bos_token_id];
    ids.extend_from_slice(&answer.ids[..answer.ids.len() - 1]);
    let ids = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu).unwrap();
    let logits = blip.model().answer_logits(&read, &ids).unwrap();
    let logits: Vec<Vec<f32>> = logits.squeeze(0).unwrap().to_vec2().unwrap();
    assert_eq!(logits.len(), answer.logits.len());
    for (whole, step) in logits.iter().flatten().zip(answer.logits.iter().flatten()) {
        assert!((whole - step).abs() < 1e-4, "{whole} and {step}");
    }
}

#[test]
fn no_questions_no_answers() {
    assert_eq!(blip().answer(&picture(), &[]).unwrap(), []);
}

#[test]
fn a_question_without_words_or_with_too_many_is_an_error_that_names_it() {
    let blip = blip();
    for empty in ["", " \n "] {
        let error = blip.answer(&picture(), &["what?", empty]).unwrap_err();
        assert!(
            matches!(error, VqaError::EmptyQuestion { index: 1 }),
            "{error}"
        );
    }
    let long = "dog ".repeat(47);
    let mut many = vec!["what?"; 70];
    many[66] = &long;
    match blip.answer(&picture(), &many).unwrap_err() {
        VqaError::QuestionTooLong {
            index,
            tokens,
            room,
            ..
        } => assert_eq!((index, tokens, room), (66, 47, 46)),
        other => panic!("{other}"),
    }
    let fits = "dog ".repeat(46);
    assert_eq!(blip.answer(&picture(), &[&fits]).unwrap().len(), 1);
}

#[test]
fn logits_that_are_not_finite_give_no_answer() {
    let folder = copy(|folder| {
        let path = folder.join("model.safetensors");
        let whole = Checkpoint::open(&path).unwrap();
        let mut tensors = std::collections::HashMap::new();
        for name in whole.names() {
            let mut tensor = whole.load(&name, DType::F32, &Device::Cpu).unwrap();
            if name == "text_decoder.cls.predictions.transform.dense.bias" {
                tensor = (tensor * f64::NAN).unwrap();
            }
            tensors.insert(name, tensor);
        }
        drop(whole);
        candle_core::safetensors::save(&tensors, path).unwrap();
    });
    let blip = BlipVqa::load(folder.path(), &Compute::cpu()).unwrap();
    let error = blip.answer(&picture(), &["what?"]).unwrap_err();
    assert!(matches!(error, VqaError::NotFinite { .. }), "{error}");
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let load = |folder: &tempfile::TempDir| {
        let result = BlipVqa::load(folder.path(), &Compute::cpu());
        result.err().expect("it was loaded")
    };
    let other = copy(|f| edit(&f.join("config.json"), "\"blip\"", "\"clip\""));
    let error = load(&other);
    assert!(
        matches!(error, BlipError::Config(_)) && error.to_string().contains("'model_type'"),
        "{error}"
    );
    let narrow = copy(|f| {
        edit(
            &f.join("config.json"),
            "\"vocab_size\": 102",
            "\"vocab_size\": 101",
        )
    });
    let error = load(&narrow);
    assert!(matches!(error, BlipError::Params(_)), "{error}");
    let speechless = copy(|f| fs::remove_file(f.join("tokenizer.json")).unwrap());
    let error = load(&speechless);
    assert!(
        matches!(error, BlipError::Tokenizer(_)) && error.to_string().contains("tokenizer.json"),
        "{error}"
    );
}
