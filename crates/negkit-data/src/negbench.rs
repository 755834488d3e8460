//! NegBench: captions with and without a negation to choose between, and negated captions to find a
//! picture by.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::delimited::read_csv;
use crate::prompts::words;

/// What the right caption of a question says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptionType {
    /// What is there.
    Positive,
    /// What is not there.
    Negative,
    /// Both.
    Hybrid,
}

impl CaptionType {
    /// All of them, in the order of the published tables.
    pub const ALL: [Self; 3] = [Self::Positive, Self::Negative, Self::Hybrid];

    /// The name in the files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for CaptionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A multiple-choice question: the first caption is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultipleChoice {
    /// The picture, by the path that the authors had.
    pub image: String,
    /// Four captions, of which the first is true.
    pub captions: [String; 4],
    /// What the first one says.
    pub right: CaptionType,
}

/// Reads a file of questions, such as `COCO_val_mcq_llama3.1_rephrased.csv`.
///
/// # Errors
/// When the file cannot be read, a column is missing, a caption has no words, the right answer is not
/// the first, or its type is none of [`CaptionType`].
pub fn read_multiple_choice(path: &Path) -> Result<Vec<MultipleChoice>, DataError> {
    const COLUMNS: [&[&str]; 7] = [
        &["image_path", "filepath"],
        &["correct_answer"],
        &["correct_answer_template"],
        &["caption_0"],
        &["caption_1"],
        &["caption_2"],
        &["caption_3"],
    ];
    let mut questions = Vec::new();
    read_csv(path, &COLUMNS, &mut |line, fields| {
        let record = format!("line {line}");
        let [image, answer, kind, captions @ ..] = fields else {
            return Ok(());
        };
        words(path, &record, "image_path", image)?;
        for (place, caption) in captions.iter().enumerate() {
            words(path, &record, &format!("caption_{place}"), caption)?;
        }
        if answer.trim() != "0" {
            let reason = format!("expected 0, for the first caption is right, found {answer:?}");
            return Err(DataError::record(path, record, "correct_answer", reason));
        }
        let right = CaptionType::ALL
            .into_iter()
            .find(|known| known.name() == kind.trim());
        let Some(right) = right else {
            let reason = format!("expected positive, negative or hybrid, found {kind:?}");
            let field = "correct_answer_template";
            return Err(DataError::record(path, record, field, reason));
        };
        questions.push(MultipleChoice {
            image: (*image).to_owned(),
            captions: std::array::from_fn(|place| captions[place].to_owned()),
            right,
        });
        Ok(())
    })?;
    Ok(questions)
}

/// A picture with the captions that it is to be found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptionedPicture {
    /// The picture, by the path that the authors had.
    pub image: String,
    /// Its captions.
    pub captions: Vec<String>,
}

/// Reads a file of retrieval, such as
/// `COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true.csv`: a line a picture, its captions as
/// a list of Python.
///
/// # Errors
/// When the file cannot be read, a column is missing, or the captions are no list of texts with words.
pub fn read_retrieval(path: &Path) -> Result<Vec<CaptionedPicture>, DataError> {
    const COLUMNS: [&[&str]; 2] = [&["filepath", "image_path"], &["captions"]];
    let mut pictures = Vec::new();
    read_csv(path, &COLUMNS, &mut |line, fields| {
        let record = format!("line {line}");
        let [image, captions] = fields else {
            return Ok(());
        };
        words(path, &record, "filepath", image)?;
        let captions = python_list(captions)
            .map_err(|reason| DataError::record(path, &record, "captions", reason))?;
        if captions.is_empty() {
            let reason = "expected a caption or more, found none";
            return Err(DataError::record(path, record, "captions", reason));
        }
        for caption in &captions {
            words(path, &record, "captions", caption)?;
        }
        pictures.push(CaptionedPicture {
            image: (*image).to_owned(),
            captions,
        });
        Ok(())
    })?;
    Ok(pictures)
}

/// A list of texts as Python prints it: `['a dog', "the dog's bone"]`. The published tool gives it to
/// `eval`; here nothing is executed.
fn python_list(text: &str) -> Result<Vec<String>, String> {
    let wrong = |found: &str| format!("expected a list of texts as ['…', '…'], found {found:?}");
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or_else(|| wrong(text.get(..40).unwrap_or(text)))?;
    let mut rest = inner.chars();
    let mut list = Vec::new();
    loop {
        let quote = match rest.by_ref().find(|c| !c.is_whitespace()) {
            None => return Ok(list),
            Some(quote @ ('\'' | '"')) => quote,
            Some(other) => return Err(wrong(&other.to_string())),
        };
        let mut item = String::new();
        loop {
            match rest.next() {
                None => return Err(wrong("a text without an end")),
                Some(end) if end == quote => break,
                Some('\\') => item.push(escaped(&mut rest).ok_or_else(|| wrong("\\"))?),
                Some(c) => item.push(c),
            }
        }
        list.push(item);
        match rest.by_ref().find(|c| !c.is_whitespace()) {
            None => return Ok(list),
            Some(',') => {}
            Some(other) => return Err(wrong(&other.to_string())),
        }
    }
}

/// The character that a backslash and what follows stand for.
fn escaped(rest: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match rest.next()? {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        c @ ('\'' | '"' | '\\') => return Some(c),
        _ => return None,
    };
    let code: String = rest.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_of_python_are_read() {
        let read = |text| python_list(text);
        assert_eq!(read("[]").unwrap(), Vec::<String>::new());
        assert_eq!(
            read(r#"['A dog, no cat.', "The dog's \"bone\"",  'it\'s \xe9']"#).unwrap(),
            ["A dog, no cat.", "The dog's \"bone\"", "it's é"]
        );
        assert_eq!(read("['a',]").unwrap(), ["a"]);
        for bad in [
            "",
            "a dog",
            "['a' 'b']",
            "['a",
            "['a\\']",
            "[1]",
            "['\\q']",
            "[__import__('os')]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
