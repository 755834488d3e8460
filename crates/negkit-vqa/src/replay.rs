//! Answers that were given before.
//!
//! [`ReplayAnswerer`] looks a question up by the picture's key
//! ([`Inquiry::key`](crate::Inquiry::key)) and the question's words. It never looks at a picture, and
//! never makes up an answer: where there is none, the error names the nearest that there is.
//!
//! | ending | what it holds |
//! |---|---|
//! | `.jsonl` | a [`StoredAnswer`] a line; what a chat model's run leaves is of this form too |
//! | `.csv` | the columns `picture`, `question`, `answer`, and `confidence` if there is one |
//! | `.csv` with `item_id` | the answers that DSG released (`vqa_answers_release/*.csv` of j-min/DSG). The key is `t2i_model/item_id` |
//! | `.json` | the result of a TIFA evaluation, as `tifa_score_benchmark` writes it. The key is the prompt's id, the answer `free_form_vqa` |
//!
//! ```
//! use image::RgbImage;
//! use negkit_vqa::replay::ReplayAnswerer;
//! use negkit_vqa::{Inquiry, Question, QuestionAnswerer};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("answers.csv");
//! std::fs::write(&path, "picture,question,answer\n12.png,is there a chair?,no\n")?;
//! let stored = ReplayAnswerer::open(&path)?;
//! let answers = stored.inquire(&Inquiry {
//!     picture: &RgbImage::new(8, 8),
//!     key: Some("12.png"),
//!     questions: &[Question::free("is there a chair?")],
//! })?;
//! assert_eq!(answers[0].text, "no");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, Cursor};
use std::path::{Path, PathBuf};

use image::RgbImage;
use negkit_digest::sha256;
use negkit_text::WeightsSource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Answer, AnswererInfo, Inquiry, QuestionAnswerer, Refusal, VqaError};

const NAME: &str = "replay";
/// Columns that may name the picture, the first that is there being taken.
const PICTURE_COLUMNS: [&str; 4] = ["picture", "image", "id", "item_id"];
/// In DSG's files the same item was painted by several models.
const PAINTER_COLUMN: &str = "t2i_model";

/// An answer as a line of JSON. Fields that are not listed here are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The picture's key; `image` and `id` are read too.
    #[serde(alias = "image", alias = "id")]
    pub picture: String,
    /// The question.
    pub question: String,
    /// The answer; absent when what was said was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Its probability in 0..=1, where the model gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// What was said instead of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why stored answers cannot be read, or a question not be answered from them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// The file's name does not say what it holds.
    #[error(
        "{path}: expected stored answers as .jsonl or .csv, or a result of TIFA as .json; the name \
         ends with none of these"
    )]
    Ending {
        /// The file.
        path: PathBuf,
    },
    /// A record is not what it should be.
    #[error("{path}, line {line}, field '{field}': {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The field, or what is around it.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// One question has two different answers.
    #[error(
        "{path}, line {line}: \"{question}\" about '{picture}' is answered with {found:?}, and in \
         line {first} with {before:?}; remove one of the two"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The line of the second, from 1.
        line: u64,
        /// The line of the first, from 1.
        first: u64,
        /// The picture's key.
        picture: String,
        /// The question.
        question: String,
        /// The first answer.
        before: String,
        /// The second answer.
        found: String,
    },
    /// It was not said which picture it is.
    #[error(
        "stored answers are found by the picture's key, and none was given; ask with \
         `QuestionAnswerer::inquire` and a key"
    )]
    NoKey,
    /// Nothing is stored about the picture.
    #[error(
        "{path} holds no answer about the picture '{picture}'{}",
        nearest_is(nearest)
    )]
    UnknownPicture {
        /// The file.
        path: PathBuf,
        /// The picture's key.
        picture: String,
        /// The key that is most alike.
        nearest: Option<String>,
    },
    /// The question was not asked about the picture.
    #[error(
        "{path} holds no answer to \"{question}\" about the picture '{picture}'{}",
        nearest_is(nearest)
    )]
    UnknownQuestion {
        /// The file.
        path: PathBuf,
        /// The picture's key.
        picture: String,
        /// The question.
        question: String,
        /// The question about the same picture that is most alike.
        nearest: Option<String>,
    },
}

fn nearest_is(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; the nearest is '{nearest}'"),
        None => String::new(),
    }
}

/// An answer and the line it stands in.
struct Line {
    number: u64,
    answer: Answer,
}

/// A [`QuestionAnswerer`] that repeats what is stored.
pub struct ReplayAnswerer {
    path: PathBuf,
    sha256: String,
    pictures: HashMap<String, HashMap<String, Line>>,
}

impl ReplayAnswerer {
    /// Reads a file of answers, whose form its ending tells.
    ///
    /// # Errors
    /// [`ReplayError`], with line and field, for the first record that is not what it should be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let path = path.as_ref();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let ending = ending.unwrap_or_default().to_ascii_lowercase();
        let read: fn(&mut Self, &[u8]) -> Result<(), ReplayError> = match ending.as_str() {
            "jsonl" | "ndjson" => Self::read_lines,
            "csv" => Self::read_csv,
            "json" => Self::read_tifa,
            _ => return Err(ReplayError::Ending { path: path.into() }),
        };
        let bytes = std::fs::read(path).map_err(|cause| ReplayError::Read {
            path: path.into(),
            cause,
        })?;
        let mut answers = Self {
            path: path.to_owned(),
            sha256: sha256(&bytes),
            pictures: HashMap::new(),
        };
        read(&mut answers, &bytes)?;
        Ok(answers)
    }

    /// Answers that there are.
    pub fn len(&self) -> usize {
        self.pictures.values().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of the pictures that something is stored about, in no order.
    pub fn pictures(&self) -> impl Iterator<Item = &str> {
        self.pictures.keys().map(String::as_str)
    }

    /// The answer to a question about the picture of that key.
    ///
    /// # Errors
    /// [`ReplayError::UnknownPicture`] or [`ReplayError::UnknownQuestion`].
    pub fn find(&self, picture: &str, question: &str) -> Result<&Answer, ReplayError> {
        let Some(about) = self.pictures.get(picture) else {
            return Err(ReplayError::UnknownPicture {
                path: self.path.clone(),
                picture: picture.to_owned(),
                nearest: nearest(picture, self.pictures.keys()),
            });
        };
        match about.get(question.trim()) {
            Some(line) => Ok(&line.answer),
            None => Err(ReplayError::UnknownQuestion {
                path: self.path.clone(),
                picture: picture.to_owned(),
                question: question.to_owned(),
                nearest: nearest(question, about.keys()),
            }),
        }
    }

    fn read_lines(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        for (index, line) in Cursor::new(bytes).split(b'\n').enumerate() {
            let number = index as u64 + 1;
            let line = line.map_err(|cause| ReplayError::Read {
                path: self.path.clone(),
                cause,
            })?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let stored: StoredAnswer =
                from_json(&line).map_err(|(_, field, reason)| self.bad(number, &field, reason))?;
            let answer = match (stored.answer, stored.refusal) {
                (Some(text), None) => Answer::new(text, stored.confidence),
                (None, Some(refusal)) => Answer::refused(refusal),
                (found, _) => {
                    let reason = match found {
                        Some(_) => "expected an answer or a refusal, found both",
                        None => "expected an answer or a refusal, found neither",
                    };
                    return Err(self.bad(number, "answer", reason.into()));
                }
            };
            self.add(number, &stored.picture, &stored.question, answer)?;
        }
        Ok(())
    }

    fn read_csv(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        let mut reader = csv::Reader::from_reader(bytes);
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(self.bad_row(1, &error)),
        };
        let column = |name: &str| header.iter().position(|each| each.trim() == name);
        let required = |name: &str| {
            column(name).ok_or_else(|| {
                let found: Vec<&str> = header.iter().collect();
                let reason = format!(
                    "expected a column of this name, found the columns {}",
                    found.join(", ")
                );
                self.bad(1, name, reason)
            })
        };
        let picture = PICTURE_COLUMNS.into_iter().find_map(column);
        let picture = match picture {
            Some(picture) => picture,
            None => required(PICTURE_COLUMNS[0])?,
        };
        let (question, text) = (required("question")?, required("answer")?);
        let painter = column(PAINTER_COLUMN);
        let confidence = column("confidence");
        for row in reader.into_records() {
            let row = row.map_err(|error| self.bad_row(0, &error))?;
            let number = row.position().map_or(0, csv::Position::line);
            let cell = |at: usize| row.get(at).unwrap_or_default();
            let confidence = match confidence.map(cell).map(str::trim) {
                None | Some("") => None,
                Some(found) => Some(found.parse().map_err(|_| {
                    let reason = format!("expected a number from 0 to 1, found {found:?}");
                    self.bad(number, "confidence", reason)
                })?),
            };
            let key = match painter {
                Some(painter) => format!("{}/{}", cell(painter), cell(picture)),
                None => cell(picture).to_owned(),
            };
            let answer = Answer::new(cell(text).trim(), confidence);
            self.add(number, &key, cell(question), answer)?;
        }
        Ok(())
    }

    fn read_tifa(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        let result: TifaResult =
            from_json(bytes).map_err(|(line, field, reason)| self.bad(line, &field, reason))?;
        for (id, questions) in result.question_details {
            for (question, detail) in questions {
                let answer = Answer::new(detail.free_form_vqa, None);
                // The file is one value; which line a question stands in is not known any more.
                self.add(1, &id, &question, answer)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        number: u64,
        picture: &str,
        question: &str,
        answer: Answer,
    ) -> Result<(), ReplayError> {
        let question = question.trim();
        for (field, text) in [("picture", picture), ("question", question)] {
            if text.trim().is_empty() {
                return Err(self.bad(number, field, "expected words, found none".into()));
            }
        }
        if answer.refusal.is_none() && answer.text.trim().is_empty() {
            return Err(self.bad(number, "answer", "expected words, found none".into()));
        }
        if let Some(found) = answer.confidence.filter(|p| !(0. ..=1.).contains(p)) {
            let reason = format!("expected a number from 0 to 1, found {found}");
            return Err(self.bad(number, "confidence", reason));
        }
        let about = self.pictures.entry(picture.to_owned()).or_default();
        match about.entry(question.to_owned()) {
            Entry::Vacant(place) => {
                place.insert(Line { number, answer });
            }
            Entry::Occupied(before) if before.get().answer.text != answer.text => {
                return Err(ReplayError::Contradiction {
                    path: self.path.clone(),
                    line: number,
                    first: before.get().number,
                    picture: picture.to_owned(),
                    question: question.to_owned(),
                    before: before.get().answer.text.clone(),
                    found: answer.text,
                });
            }
            // Files repeat themselves: runs that went on, questions that came up twice.
            Entry::Occupied(_) => {}
        }
        Ok(())
    }

    fn bad(&self, line: u64, field: &str, reason: String) -> ReplayError {
        ReplayError::Record {
            path: self.path.clone(),
            line,
            field: field.to_owned(),
            reason,
        }
    }

    fn bad_row(&self, line: u64, error: &csv::Error) -> ReplayError {
        let line = error.position().map_or(line, csv::Position::line);
        let (field, reason) = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => (
                "all of the row",
                format!("expected {expected_len} fields as in the first line, found {len}"),
            ),
            csv::ErrorKind::Utf8 { .. } => ("all of the row", "it is not UTF-8".to_owned()),
            _ => ("all of the row", error.to_string()),
        };
        self.bad(line, field, reason)
    }
}

impl QuestionAnswerer for ReplayAnswerer {
    fn answer(&self, _: &RgbImage, questions: &[&str]) -> Result<Vec<Answer>, VqaError> {
        match questions {
            [] => Ok(Vec::new()),
            _ => Err(ReplayError::NoKey.into()),
        }
    }

    fn inquire(&self, inquiry: &Inquiry<'_>) -> Result<Vec<Answer>, VqaError> {
        let Some(key) = inquiry.key else {
            return self.answer(inquiry.picture, &inquiry.texts());
        };
        let questions = inquiry.questions.iter();
        let found = questions.map(|question| Ok(self.find(key, question.text)?.clone()));
        found.collect()
    }

    fn info(&self) -> AnswererInfo {
        AnswererInfo {
            name: NAME.to_owned(),
            model: NAME.to_owned(),
            weights: WeightsSource::new(self.path.display().to_string(), Some(self.sha256.clone())),
        }
    }
}

/// What `tifa_score_benchmark` writes, as far as it is read.
#[derive(Deserialize)]
struct TifaResult {
    /// Prompt id, then question.
    question_details: HashMap<String, HashMap<String, TifaDetail>>,
}

#[derive(Deserialize)]
struct TifaDetail {
    free_form_vqa: String,
}

/// A value, or the line in `bytes`, the field, and what is wrong with it.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, (u64, String, String)> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let cause = error.into_inner();
        (cause.line() as u64, field, cause.to_string())
    })?;
    json.end()
        .map_err(|cause| (cause.line() as u64, ".".to_owned(), cause.to_string()))?;
    Ok(value)
}

/// What of `known` is most alike, where anything is: the same on every run.
fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let alike = known.map(|each| (strsim::normalized_levenshtein(text, each), each));
    let best = alike.max_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| y.cmp(x)));
    best.map(|(_, each)| each.clone())
}
