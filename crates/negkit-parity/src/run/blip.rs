//! BLIP's answers.

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_bert::PaddedIds;
use negkit_blip::{BlipError, BlipVqa};
use negkit_nn::Compute;
use negkit_vqa::QuestionAnswerer;

use super::Outputs;
use crate::{Case, ParityError};

/// Answers may be as long as the default of `generate`.
const MAX_NEW_TOKENS: usize = 20;

/// The reference asks each question alone; here all are asked at once.
pub(super) fn run(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let blip = BlipVqa::load(&case.model, compute)?;
    let questions: Vec<String> = case.option("questions")?;
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let picture = picture(case)?;
    compare_words(case, &blip, &picture, &questions)?;

    let values = blip.preprocess().apply(&picture).map_err(BlipError::from)?;
    let shape = values.dim();
    let (values, _) = values.into_raw_vec_and_offset();
    let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?.unsqueeze(0)?;
    let seen = blip.look(&picture)?;
    let first = blip.read(&seen, &questions[..questions.len().min(1)])?;
    let answers = blip
        .model()
        .answer(&blip.read(&seen, &questions)?, MAX_NEW_TOKENS, true)?;
    let logits: Vec<Tensor> = answers
        .iter()
        .flat_map(|answer| &answer.logits)
        .map(|row| Tensor::from_slice(row, (1, row.len()), &Device::Cpu))
        .collect::<candle_core::Result<_>>()?;
    let ids: Vec<&[u32]> = answers.iter().map(|answer| answer.ids.as_slice()).collect();
    let padded = |rows: &PaddedIds| rows.ids(&Device::Cpu)?.to_dtype(DType::F32);
    Ok(Outputs::from([
        ("pixel_values".into(), pixels),
        ("image_states".into(), seen),
        ("question_states".into(), first.states),
        (
            "input_ids".into(),
            padded(&PaddedIds::new(&blip.tokenize(&questions)?, 0))?,
        ),
        ("answer_ids".into(), padded(&PaddedIds::new(&ids, 0))?),
        ("logits".into(), Tensor::cat(&logits, 0)?),
    ]))
}

fn picture(case: &Case) -> Result<RgbImage, ParityError> {
    let pixels = case.input("pixel_values", &Device::Cpu)?;
    let wrong = || ParityError::Picture {
        case: case.name.clone(),
        input: "pixel_values",
        shape: pixels.dims().to_vec(),
    };
    let [height, width, 3] = *pixels.dims() else {
        return Err(wrong());
    };
    let samples = pixels.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?;
    RgbImage::from_raw(width as u32, height as u32, samples).ok_or_else(wrong)
}

fn compare_words(
    case: &Case,
    blip: &BlipVqa,
    picture: &RgbImage,
    questions: &[&str],
) -> Result<(), ParityError> {
    let expected: Vec<String> = case.option("answers")?;
    let found = blip.answer(picture, questions)?;
    for ((question, expected), found) in questions.iter().zip(expected).zip(found) {
        if found.text != expected {
            return Err(ParityError::Answer {
                case: case.name.clone(),
                question: (*question).to_owned(),
                expected,
                found: found.text,
            });
        }
    }
    Ok(())
}
