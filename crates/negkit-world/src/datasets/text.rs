//! Captions, questions and prompts as records of their files.

use negkit_captions::{ImageRef, SourceCaption, VqaPair};
use serde::Serialize;
use serde_json::{Value, json};

use super::coco::{info, licenses};
use super::truth::PictureTruth;
use super::writer::Streams;
use crate::language::{CaptionStyle, QuestionKind, caption_with, questions};

/// Captions per picture, as in COCO.
pub(super) const CAPTIONS: u64 = 5;

/// An annotation of a captions file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CaptionAnnotation {
    pub image_id: u64,
    pub id: u64,
    pub caption: String,
}

/// The captions of a picture, in the style given.
pub(super) fn captions_of(
    truth: &PictureTruth,
    style: &CaptionStyle,
    streams: &Streams,
) -> Vec<CaptionAnnotation> {
    let mut rng = streams.of(truth.id, "captions");
    (0..CAPTIONS)
        .map(|number| CaptionAnnotation {
            image_id: truth.id,
            id: truth.id * CAPTIONS + number,
            caption: caption_with(&truth.scene, style, &mut rng).text,
        })
        .collect()
}

/// The captions that negations are worked into: those without one.
pub(super) fn source_captions(truth: &PictureTruth, streams: &Streams) -> Vec<SourceCaption> {
    let style = CaptionStyle {
        negation_share: 0.,
        ..CaptionStyle::default()
    };
    captions_of(truth, &style, streams)
        .into_iter()
        .map(|annotation| SourceCaption {
            id: annotation.id,
            image: ImageRef::new(annotation.image_id),
            text: annotation.caption,
        })
        .collect()
}

/// A question with its id, and whether a caption can be made of its "no".
pub(super) struct AskedQuestion {
    pub pair: VqaPair,
    pub kind: QuestionKind,
    pub grounded: bool,
}

pub(super) fn questions_of(truth: &PictureTruth, streams: &Streams) -> Vec<AskedQuestion> {
    let mut rng = streams.of(truth.id, "questions");
    questions(&truth.scene, &mut rng)
        .into_iter()
        .zip(truth.id * 1000..)
        .map(|(question, question_id)| AskedQuestion {
            pair: VqaPair {
                question_id,
                image: ImageRef::new(truth.id),
                question: question.text,
                answer: question.answer,
            },
            kind: question.kind,
            grounded: question.grounded,
        })
        .collect()
}

fn vqa_frame(split: &str) -> serde_json::Map<String, Value> {
    let mut frame = serde_json::Map::new();
    frame.insert("info".into(), info());
    frame.insert("task_type".into(), json!("Open-Ended"));
    frame.insert("data_type".into(), json!("mscoco"));
    frame.insert("license".into(), licenses()[0].clone());
    frame.insert("data_subtype".into(), json!(split));
    frame
}

/// `v2_OpenEnded_mscoco_*_questions.json`
pub(super) fn vqa_questions(asked: &[AskedQuestion], split: &str) -> Value {
    let records: Vec<Value> = asked
        .iter()
        .map(|asked| {
            json!({
                "image_id": asked.pair.image.id,
                "question": asked.pair.question,
                "question_id": asked.pair.question_id,
            })
        })
        .collect();
    let mut frame = vqa_frame(split);
    frame.insert("questions".into(), json!(records));
    Value::Object(frame)
}

/// `v2_mscoco_*_annotations.json`: ten answers to each question, here all the same.
pub(super) fn vqa_annotations(asked: &[AskedQuestion], split: &str) -> Value {
    let records: Vec<Value> = asked
        .iter()
        .map(|asked| {
            let answer = &asked.pair.answer;
            let sort = match (answer.as_str(), asked.kind) {
                ("yes" | "no", _) => "yes/no",
                (_, QuestionKind::Count) => "number",
                _ => "other",
            };
            let answers: Vec<Value> = (1..=10)
                .map(|id| json!({"answer": answer, "answer_confidence": "yes", "answer_id": id}))
                .collect();
            json!({
                "question_type": question_type(&asked.pair.question),
                "multiple_choice_answer": answer,
                "answers": answers,
                "image_id": asked.pair.image.id,
                "answer_type": sort,
                "question_id": asked.pair.question_id,
            })
        })
        .collect();
    let mut frame = vqa_frame(split);
    frame.remove("task_type");
    frame.insert("annotations".into(), json!(records));
    Value::Object(frame)
}

/// The opening words that VQAv2 sorts questions by.
fn question_type(question: &str) -> String {
    const TYPES: [&str; 16] = [
        "what color is the",
        "is there a",
        "is this a",
        "is this an",
        "are there any",
        "how many",
        "what is the",
        "what animal is",
        "is the man",
        "is the woman",
        "is the person",
        "is the",
        "does the",
        "are there",
        "where is the",
        "what",
    ];
    let lower = question.to_lowercase();
    TYPES
        .iter()
        .find(|opening| lower.starts_with(*opening))
        .map_or_else(
            || "none of the above".to_owned(),
            |opening| (*opening).to_owned(),
        )
}
