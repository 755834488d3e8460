//! What can go wrong with answers about pictures.

use std::path::PathBuf;

use negkit_checkpoint::CheckpointError;
use negkit_nn::{ConfigError, ParamsError};
use negkit_text::tokenizer::TokenizerError;
use thiserror::Error;

use crate::replay::ReplayError;

/// Why a model cannot be loaded, or a question not be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VqaError {
    /// The weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights do not fit the configuration.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokenizer cannot be loaded, or a question not be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture or the preprocessing cannot be used.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// A list of the configuration must not be empty, or name a thing twice.
    #[error(
        "{model}: '{field}' in config.json {problem}; it must list every {field} once, in the \
         order of the classifier's outputs"
    )]
    Classes {
        /// The model.
        model: &'static str,
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer can give ids that the token embedding has no row for.
    #[error(
        "the tokenizer of {origin} has {tokenizer} entries, the token embedding {embedding}: they \
         do not belong together"
    )]
    VocabularyMismatch {
        /// Where the tokenizer came from.
        origin: String,
        /// Its vocabulary.
        tokenizer: usize,
        /// Rows of the token embedding.
        embedding: usize,
    },
    /// A question has no words.
    #[error("question {index} is empty: a question needs at least one word")]
    EmptyQuestion {
        /// Index of the question in its list, from 0.
        index: usize,
    },
    /// A question does not fit; an answer to its first half would be an answer to another question.
    #[error("question {index} has {tokens} tokens, the model takes {room}: shorten \"{question}\"")]
    QuestionTooLong {
        /// Index of the question in its list, from 0.
        index: usize,
        /// The question.
        question: String,
        /// Its tokens.
        tokens: usize,
        /// Tokens that a question may have.
        room: usize,
    },
    /// A score is NaN or infinite: a broken model must not give an answer that can be counted.
    #[error(
        "{model} gave scores that are not finite for picture {picture} of {path}: the weights are \
         broken, or the dtype is too small for them (try f32)"
    )]
    NotFinite {
        /// The model.
        model: &'static str,
        /// Index of the picture in its batch, from 0.
        picture: usize,
        /// Where the weights came from.
        path: PathBuf,
    },
    /// The device failed, or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Stored answers cannot be read, or there is none to a question.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// An answerer of one's own failed for a reason of its own.
    #[error("answerer '{answerer}' failed: {cause}")]
    Other {
        /// Name of the answerer.
        answerer: String,
        /// The reason.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Checks a list of class names from a configuration.
pub(crate) fn check_classes(
    model: &'static str,
    field: &'static str,
    names: &[String],
) -> Result<(), VqaError> {
    let problem = if names.is_empty() {
        "is empty".to_owned()
    } else if names.iter().any(|name| name.trim().is_empty()) {
        "holds an empty name".to_owned()
    } else {
        let mut seen = std::collections::BTreeSet::new();
        match names.iter().find(|name| !seen.insert(name.as_str())) {
            Some(twice) => format!("holds '{twice}' twice"),
            None => return Ok(()),
        }
    };
    Err(VqaError::Classes {
        model,
        field,
        problem,
    })
}
