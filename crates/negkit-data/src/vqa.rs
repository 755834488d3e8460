//! VQAv2: questions about COCO's pictures, in one file, and their answers, in another.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::DataError;
use crate::records::{Ids, read_named_list};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VqaItem {
    /// The question's id.
    pub question_id: u64,
    /// The picture.
    pub image_id: u64,
    /// The question.
    pub question: String,
    /// What most of the ten annotators said: `multiple_choice_answer`.
    pub answer: String,
}

#[derive(Deserialize)]
struct Question {
    question_id: u64,
    image_id: u64,
    question: String,
}

#[derive(Deserialize)]
struct Annotation {
    question_id: u64,
    image_id: u64,
    multiple_choice_answer: String,
}

/// Reads `v2_OpenEnded_mscoco_*_questions.json` and `v2_mscoco_*_annotations.json` together, and
/// keeps the items whose answer `wanted` lets through, in the order of the annotations.
///
/// # Errors
/// When a file cannot be read, a question id is there twice in one of them, or an answer is of a
/// question that is not in the other file or is about another picture.
pub fn read_vqa(
    questions: &Path,
    annotations: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<VqaItem>, DataError> {
    let mut asked: HashMap<u64, Question> = HashMap::new();
    let mut ids = Ids::new(questions, "questions", "question_id");
    read_named_list(questions, "questions", &mut |index, question: Question| {
        ids.add(index, &question.question_id)?;
        asked.insert(question.question_id, question);
        Ok(())
    })?;
    let mut items = Vec::new();
    let mut ids = Ids::new(annotations, "annotations", "question_id");
    read_named_list(
        annotations,
        "annotations",
        &mut |index, found: Annotation| {
            ids.add(index, &found.question_id)?;
            let record = || format!("annotations[{index}]");
            let Some(question) = asked.get(&found.question_id) else {
                let reason = format!(
                    "expected the id of a question in {}, found {}; take the questions and annotations \
                 of the same split",
                    questions.display(),
                    found.question_id
                );
                return Err(DataError::record(
                    annotations,
                    record(),
                    "question_id",
                    reason,
                ));
            };
            if question.image_id != found.image_id {
                let reason = format!(
                    "expected {}, as the question has it, found {}",
                    question.image_id, found.image_id
                );
                return Err(DataError::record(annotations, record(), "image_id", reason));
            }
            if wanted(&found.multiple_choice_answer) {
                items.push(VqaItem {
                    question_id: found.question_id,
                    image_id: found.image_id,
                    question: question.question.clone(),
                    answer: found.multiple_choice_answer,
                });
            }
            Ok(())
        },
    )?;
    Ok(items)
}
