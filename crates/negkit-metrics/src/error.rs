//! What cannot be scored.

use thiserror::Error;

/// Why there is no score.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// There is nothing to score.
    #[error("{metric}: there are no values{}", at(*.index))]
    NoValues {
        /// The score.
        metric: &'static str,
        /// Index of the empty list, where there are several.
        index: Option<usize>,
    },
    /// A value is NaN or infinite.
    #[error("{metric}: value {index} is {value}, expected a finite number")]
    NotFinite {
        /// The score.
        metric: &'static str,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A value is no probability; most often a logit.
    #[error(
        "{metric}: value {index} is {value}, expected a probability from 0 to 1 (logits need a sigmoid first)"
    )]
    NoProbability {
        /// The score.
        metric: &'static str,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Two lists that belong together differ in length.
    #[error("{metric}: expected {expected} {what}, found {found}")]
    Length {
        /// The score.
        metric: &'static str,
        /// What the list holds.
        what: &'static str,
        /// Its length should be this.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// An item that should be there once is there twice, or is missing.
    #[error("{metric}: {item} is {problem}")]
    Item {
        /// The score.
        metric: &'static str,
        /// Which one.
        item: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A setting makes no sense.
    #[error("{metric}: {setting} is {found}, expected {expected}")]
    Setting {
        /// The score.
        metric: &'static str,
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

fn at(index: Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!(" in list {index}"))
}

/// Checks that there are values and that all are finite.
pub(crate) fn check_values(metric: &'static str, values: &[f64]) -> Result<(), MetricsError> {
    if values.is_empty() {
        return Err(MetricsError::NoValues {
            metric,
            index: None,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(MetricsError::NotFinite {
            metric,
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

/// Checks that a list has the length of the one that it belongs to.
pub(crate) fn check_length(
    metric: &'static str,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), MetricsError> {
    if expected == found {
        return Ok(());
    }
    Err(MetricsError::Length {
        metric,
        what,
        expected,
        found,
    })
}
