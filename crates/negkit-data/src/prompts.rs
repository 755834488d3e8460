//! Prompts to paint and what is asked of the pictures: TIFA v1.0, the Neg Score prompts, GenEval.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::records::{Ids, read_lines, read_list};

/// A prompt of TIFA (`tifa_v1.0_text_inputs.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TifaPrompt {
    /// Its id, such as `coco_301091` or `drawbench_52`.
    pub id: String,
    /// The prompt.
    pub caption: String,
    /// The COCO val2014 picture that it is a caption of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coco_val_id: Option<String>,
}

/// A question of TIFA (`tifa_v1.0_question_answers.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TifaQuestion {
    /// The prompt's id.
    pub id: String,
    /// The prompt.
    pub caption: String,
    /// The question.
    pub question: String,
    /// The answers to choose from.
    pub choices: Vec<String>,
    /// The right one.
    pub answer: String,
    /// What sort of thing is asked about: "object", "animal/human", "color", "counting", …
    pub element_type: String,
    /// The word of the prompt that is asked about.
    pub element: String,
    /// The COCO val2014 picture that the prompt is a caption of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coco_val_id: Option<String>,
}

/// A prompt of TIFA with its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TifaItem {
    /// The prompt.
    pub prompt: TifaPrompt,
    /// The questions on it, in the file's order; some prompts have none.
    pub questions: Vec<TifaQuestion>,
}

/// Reads TIFA's prompts.
///
/// # Errors
/// When the file cannot be read, a record is not what it should be, a prompt has no words, or an
/// id is there twice.
pub fn read_tifa_prompts(path: &Path) -> Result<Vec<TifaPrompt>, DataError> {
    let mut prompts = Vec::new();
    let mut ids = Ids::new(path, "", "id");
    read_list(path, &mut |index, prompt: TifaPrompt| {
        words(path, &format!("[{index}]"), "caption", &prompt.caption)?;
        ids.add(index, &prompt.id)?;
        prompts.push(prompt);
        Ok(())
    })?;
    Ok(prompts)
}

/// Hands over TIFA's questions one by one, with their positions.
///
/// # Errors
/// When the file cannot be read, a record is not what it should be, a question has no words or no
/// choices, or `each` returns an error.
pub fn read_tifa_questions(
    path: &Path,
    mut each: impl FnMut(usize, TifaQuestion) -> Result<(), DataError>,
) -> Result<(), DataError> {
    read_list(path, &mut |index, question: TifaQuestion| {
        let record = format!("[{index}]");
        words(path, &record, "question", &question.question)?;
        if question.choices.is_empty() {
            let reason = "expected answers to choose from, found none";
            return Err(DataError::record(path, record, "choices", reason));
        }
        each(index, question)
    })
}

/// Reads TIFA's prompts and puts its questions to them. Questions on prompts that are not in the
/// file of prompts are an error.
///
/// # Errors
/// As [`read_tifa_prompts`] and [`read_tifa_questions`].
pub fn read_tifa(prompts: &Path, questions: &Path) -> Result<Vec<TifaItem>, DataError> {
    let mut items: Vec<TifaItem> = read_tifa_prompts(prompts)?
        .into_iter()
        .map(|prompt| TifaItem {
            prompt,
            questions: Vec::new(),
        })
        .collect();
    let places = items.iter().enumerate();
    let places: HashMap<String, usize> = places
        .map(|(place, item)| (item.prompt.id.clone(), place))
        .collect();
    read_tifa_questions(questions, |index, question| {
        let item = places
            .get(&question.id)
            .and_then(|&place| items.get_mut(place));
        let Some(item) = item else {
            let reason = format!(
                "expected the id of a prompt of {}, found {:?}",
                prompts.display(),
                question.id
            );
            return Err(DataError::record(
                questions,
                format!("[{index}]"),
                "id",
                reason,
            ));
        };
        item.questions.push(question);
        Ok(())
    })?;
    Ok(items)
}

/// A prompt with a negation and its two questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NegPrompt {
    /// The prompt.
    pub prompt: String,
    /// Asks whether what is affirmed is there; "yes" is right.
    pub question1: String,
    /// Asks whether what is denied is there; "no" is right.
    pub question2: String,
}

/// Reads the Neg Score prompts (`prompts_with_questions.json`).
///
/// # Errors
/// When the file cannot be read, or a prompt or question has no words.
pub fn read_neg_prompts(path: &Path) -> Result<Vec<NegPrompt>, DataError> {
    let mut prompts = Vec::new();
    read_list(path, &mut |index, prompt: NegPrompt| {
        let record = format!("[{index}]");
        words(path, &record, "Prompt", &prompt.prompt)?;
        words(path, &record, "Question1", &prompt.question1)?;
        words(path, &record, "Question2", &prompt.question2)?;
        prompts.push(prompt);
        Ok(())
    })?;
    Ok(prompts)
}

/// An object that a GenEval prompt asks for, or must not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenEvalObject {
    /// Its name in `object_names.txt`.
    pub class: String,
    /// How many; in `exclude` so many or more are wrong.
    pub count: usize,
    /// Its colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// A relation ("left of", …), and the position in `include` of the object it is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(String, usize)>,
}

/// A prompt of GenEval (a line of `evaluation_metadata.jsonl`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenEvalPrompt {
    /// What it tests: "single_object", "two_object", "counting", "colors", "position" or
    /// "color_attr".
    pub tag: String,
    /// What must be there.
    pub include: Vec<GenEvalObject>,
    /// What must not be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<GenEvalObject>,
    /// The prompt.
    pub prompt: String,
}

/// Reads GenEval's prompts.
///
/// # Errors
/// When the file cannot be read, a prompt has no words, or a position is relative to an object
/// that the prompt does not have.
pub fn read_geneval(path: &Path) -> Result<Vec<GenEvalPrompt>, DataError> {
    let mut prompts = Vec::new();
    read_lines(path, &mut |index, prompt: GenEvalPrompt| {
        let record = format!("line {}", index + 1);
        words(path, &record, "prompt", &prompt.prompt)?;
        for (place, object) in prompt.include.iter().enumerate() {
            if let Some((_, other)) = &object.position
                && (*other >= prompt.include.len() || *other == place)
            {
                let field = format!("include[{place}].position[1]");
                let reason = format!("expected the position of another object, found {other}");
                return Err(DataError::record(path, record, field, reason));
            }
        }
        prompts.push(prompt);
        Ok(())
    })?;
    Ok(prompts)
}

/// A text that a score is about must have words.
pub(crate) fn words(path: &Path, record: &str, field: &str, text: &str) -> Result<(), DataError> {
    if text.trim().is_empty() {
        let reason = "expected words, found none";
        return Err(DataError::record(path, record, field, reason));
    }
    Ok(())
}
