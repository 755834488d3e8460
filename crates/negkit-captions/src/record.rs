//! What the pipelines make, and the files that it goes into.

use std::io::{BufRead, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::traits::{ImageRef, Verdict};

/// Which pipeline a caption comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// A likely object that is not there.
    P1,
    /// A question answered "no".
    P2,
    /// A random object that is not there.
    RandP1,
}

/// A question about a picture and its answer, as VQAv2 has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VqaPair {
    /// The question's id.
    pub question_id: u64,
    /// The picture.
    pub image: ImageRef,
    /// The question.
    pub question: String,
    /// The answer; P2 takes those with "no".
    pub answer: String,
}

/// A caption with a negation worked in, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegationCaption {
    /// The picture's id.
    pub image_id: u64,
    /// The annotation id of the caption that it was made from.
    pub caption_id: u64,
    /// The caption that it was made from.
    pub caption: String,
    /// The caption with the negation.
    pub updated_caption: String,
    /// The object whose absence it states (P1, Rand-P1).
    pub object: Option<String>,
    /// The question whose answer "no" it states (P2).
    pub question: Option<String>,
    /// What the verifier said of the object (P1, Rand-P1).
    pub verdict: Option<Verdict>,
    /// What the verifier said beside it, such as a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict_note: Option<String>,
    /// The pipeline.
    pub source: Source,
}

/// One request to a model, and all that it said: where a caption comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What was asked for: `object`, `verify`, `absence` or `denial`.
    pub step: String,
    /// The model.
    pub model: String,
    /// SHA-256 of the prompt's file.
    pub prompt_sha256: String,
    /// SHA-256 of the whole request; the same request has the same.
    pub request_sha256: String,
    /// All that the model said.
    pub answer: String,
    /// Why it stopped, such as `stop` or `length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens of the request, where the endpoint counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, where the endpoint counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
}

/// The exchanges that one caption took, in their order. Writer and verifier add to it.
#[derive(Debug, Default)]
pub struct Transcript(Mutex<Vec<Exchange>>);

impl Transcript {
    /// Adds one.
    pub fn add(&self, exchange: Exchange) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(exchange);
    }

    /// All of them.
    pub fn into_exchanges(self) -> Vec<Exchange> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caption of a picture, the same with an object of the picture denied (a hard negative), and a
/// picture for which the denial is true: the data of CoN-CLIP (CC-Neg).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardNegative {
    /// The picture's id.
    pub image_id: u64,
    /// A caption that is true of it.
    pub caption: String,
    /// The caption with `object` denied: untrue of it.
    pub negated_caption: String,
    /// What is denied.
    pub object: String,
    /// The id of a picture that the negated caption fits, if one was found.
    pub distractor: Option<u64>,
}

/// An annotation of a COCO captions file with the negation beside the caption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatedAnnotation {
    /// The picture's id.
    pub image_id: u64,
    /// The annotation's id.
    pub id: u64,
    /// The original caption.
    pub caption: String,
    /// The caption with the negation.
    pub updated_caption: String,
}

/// The annotations of a COCO captions file for these records. Annotation ids must be unique and a
/// caption may have several records, so ids are given anew, from 1.
pub fn updated_captions<'a>(
    records: impl IntoIterator<Item = &'a NegationCaption>,
) -> impl Iterator<Item = UpdatedAnnotation> {
    records
        .into_iter()
        .zip(1u64..)
        .map(|(record, id)| UpdatedAnnotation {
            image_id: record.image_id,
            id,
            caption: record.caption.clone(),
            updated_caption: record.updated_caption.clone(),
        })
}

/// Writes records one a line.
///
/// # Errors
/// When writing fails.
pub fn write_json_lines<'a, T: Serialize + 'a>(
    out: &mut impl Write,
    records: impl IntoIterator<Item = &'a T>,
) -> std::io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *out, record)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads records one a line, as they come; empty lines are skipped.
pub fn read_json_lines<T: for<'de> Deserialize<'de>>(
    input: impl BufRead,
) -> impl Iterator<Item = std::io::Result<T>> {
    input.lines().filter_map(|line| match line {
        Ok(line) if line.trim().is_empty() => None,
        Ok(line) => Some(serde_json::from_str(&line).map_err(std::io::Error::from)),
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn record(caption_id: u64, source: Source) -> NegationCaption {
        NegationCaption {
            image_id: 3,
            caption_id,
            caption: "a man on a beach".to_owned(),
            updated_caption: "a man on a beach without a \"hat\"".to_owned(),
            object: Some("hat".to_owned()),
            question: None,
            verdict: Some(Verdict::No),
            verdict_note: None,
            source,
        }
    }

    #[test]
    fn records_survive_json_lines_and_a_torn_line_is_an_error() {
        let records = [record(1, Source::P1), record(1, Source::RandP1)];
        let mut bytes = Vec::new();
        write_json_lines(&mut bytes, &records).unwrap();
        let read: Vec<NegationCaption> = read_json_lines(&bytes[..]).map(Result::unwrap).collect();
        assert_eq!(read, records);
        bytes.truncate(bytes.len() - 9);
        let torn: Vec<std::io::Result<NegationCaption>> = read_json_lines(&bytes[..]).collect();
        assert!(torn[0].is_ok() && torn[1].is_err());
    }

    #[test]
    fn annotations_of_one_caption_get_ids_of_their_own() {
        let records = [record(7, Source::P1), record(7, Source::P2)];
        let annotations: Vec<UpdatedAnnotation> = updated_captions(&records).collect();
        assert_eq!(annotations.iter().map(|a| a.id).collect::<Vec<_>>(), [1, 2]);
        let json = serde_json::to_value(&annotations[0]).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["image_id", "id", "caption", "updated_caption"]);
    }
}
