//! From a free answer to one of a question's choices.

use negkit_metrics::{ChoiceMatcher, ChooseError, choose};
use negkit_sbert::{SbertError, SentenceEncoder};

use crate::{Result, RunError};

/// The sentence encoder in the place that scores have for it.
struct ByMeaning<'a>(&'a SentenceEncoder);

impl ChoiceMatcher for ByMeaning<'_> {
    type Error = SbertError;

    fn nearest(&self, answer: &str, choices: &[String]) -> std::result::Result<usize, SbertError> {
        let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
        Ok(self.0.nearest(answer, &choices)?.index)
    }
}

/// The choice that an answer stands for. Without a sentence encoder an answer in other words stands for
/// none.
pub(crate) fn chosen(
    answer: &str,
    choices: &[String],
    sentences: Option<&SentenceEncoder>,
) -> Result<Option<String>> {
    let Some(sentences) = sentences else {
        let same = choices.iter().find(|choice| *choice == answer);
        return Ok(same.cloned());
    };
    match choose(answer, choices, &ByMeaning(sentences)) {
        Ok(choice) => Ok(Some(choice.to_owned())),
        Err(ChooseError::Matcher(error)) => Err(error.into()),
        Err(error) => Err(RunError::Settings {
            reason: error.to_string(),
        }
        .into()),
    }
}
