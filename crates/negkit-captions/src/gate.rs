//! Checks of what a writer wrote.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Words that make a negation, one a line; contractions in "n't" are recognised by their ending.
pub const NEGATION_WORDS: &str = include_str!("negation_words.txt");

static NEGATIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| NEGATION_WORDS.lines().collect());

/// Words that carry no content: a rewritten caption may drop or change them.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "is", "are", "was", "were", "be", "being", "been", "there", "it", "its",
    "in", "on", "at", "of", "to", "and", "or", "but", "with", "by", "for", "from", "as", "this",
    "that", "these", "those", "some", "has", "have", "having", "very",
];

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
        .filter(|word| !word.is_empty())
        .map(|word| word.to_lowercase().replace('’', "'"))
}

/// Whether the text holds a word of [`NEGATION_WORDS`] or a contraction in "n't".
pub fn holds_negation(text: &str) -> bool {
    words(text).any(|word| NEGATIONS.contains(word.as_str()) || word.ends_with("n't"))
}

/// What is wrong with a rewritten caption.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateFault {
    /// It is empty.
    #[error("the caption is empty")]
    Empty,
    /// It runs on.
    #[error("the caption has {found} words, more than {most}")]
    TooLong {
        /// Its words.
        found: usize,
        /// The most that are let through.
        most: usize,
    },
    /// It denies nothing.
    #[error("the caption holds no negation: {text:?}")]
    NoNegation {
        /// The caption.
        text: String,
    },
    /// It does not speak of the object.
    #[error("the caption does not name {object:?}: {text:?}")]
    ObjectMissing {
        /// The object.
        object: String,
        /// The caption.
        text: String,
    },
    /// It lost what the original said.
    #[error("the caption lost words of the original: {}", lost.join(", "))]
    ContentLost {
        /// The words.
        lost: Vec<String>,
    },
}

/// What a rewritten caption must fulfil.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityGate {
    /// The share of the original's content words that must be kept.
    pub kept_share: f64,
    /// The most words that it may have.
    pub most_words: usize,
}

impl Default for QualityGate {
    /// Four fifths of the content words kept, at most 77 words.
    fn default() -> Self {
        Self {
            kept_share: 0.8,
            most_words: 77,
        }
    }
}

impl QualityGate {
    /// Lets the rewritten caption through, or says what is wrong with it. `object` is what it
    /// must deny, where that is a single object.
    ///
    /// # Errors
    /// The first [`GateFault`] found.
    pub fn check(
        &self,
        original: &str,
        updated: &str,
        object: Option<&str>,
    ) -> Result<(), GateFault> {
        let found: Vec<String> = words(updated).collect();
        if found.is_empty() {
            return Err(GateFault::Empty);
        }
        if found.len() > self.most_words {
            return Err(GateFault::TooLong {
                found: found.len(),
                most: self.most_words,
            });
        }
        if !holds_negation(updated) {
            return Err(GateFault::NoNegation {
                text: updated.to_owned(),
            });
        }
        if let Some(object) = object
            && !names(&found, object)
        {
            return Err(GateFault::ObjectMissing {
                object: object.to_owned(),
                text: updated.to_owned(),
            });
        }
        let content: Vec<String> = words(original)
            .filter(|word| !FUNCTION_WORDS.contains(&word.as_str()))
            .collect();
        let lost: Vec<String> = content
            .iter()
            .filter(|word| !found.iter().any(|other| same_word(word, other)))
            .cloned()
            .collect();
        let most_lost = (1. - self.kept_share) * content.len() as f64;
        if lost.len() as f64 > most_lost + 1e-9 {
            return Err(GateFault::ContentLost { lost });
        }
        Ok(())
    }
}

/// Whether the text names the object, in the singular or the plural.
pub(crate) fn names_object(text: &str, object: &str) -> bool {
    names(&words(text).collect::<Vec<_>>(), object)
}

/// Whether the words hold the object, in the singular or the plural.
fn names(words: &[String], object: &str) -> bool {
    let wanted: Vec<String> = self::words(object).collect();
    let fits = |window: &[String]| window.iter().zip(&wanted).all(|(a, b)| same_word(a, b));
    !wanted.is_empty() && words.windows(wanted.len()).any(fits)
}

/// Whether two words are the same but for a plural's ending: enough to see "benches" as "bench".
/// Irregular plurals of people are listed.
fn same_word(a: &str, b: &str) -> bool {
    const IRREGULAR: [(&str, &str); 4] = [
        ("man", "men"),
        ("woman", "women"),
        ("child", "children"),
        ("person", "people"),
    ];
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let ending = long.strip_prefix(short);
    matches!(ending, Some("" | "s" | "es"))
        || IRREGULAR
            .iter()
            .any(|&(one, several)| (a, b) == (one, several) || (b, a) == (one, several))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn negations_are_whole_words() {
        for text in ["no hat", "It isn't red.", "a man Without shoes", "don’t"] {
            assert!(holds_negation(text), "{text}");
        }
        for text in ["a knot", "noble", "a notebook", "another man", ""] {
            assert!(!holds_negation(text), "{text}");
        }
    }

    #[test]
    fn the_gate_says_what_is_wrong() {
        let gate = QualityGate::default();
        let check = |updated: &str, object| gate.check("a red bus on a street", updated, object);
        assert_eq!(
            check("a red bus on a street with no benches", Some("bench")),
            Ok(())
        );
        assert_eq!(
            check("a red bus on a street with no buses", Some("bus")),
            Ok(())
        );
        assert_eq!(check("  ", None), Err(GateFault::Empty));
        assert!(matches!(
            check("a red bus on a street", None),
            Err(GateFault::NoNegation { .. })
        ));
        assert!(matches!(
            check("a red bus on a street, not moving", Some("tree")),
            Err(GateFault::ObjectMissing { .. })
        ));
        assert!(matches!(
            check("there is no tree", Some("tree")),
            Err(GateFault::ContentLost { .. })
        ));
        let long = "no ".repeat(500);
        assert!(matches!(check(&long, None), Err(GateFault::TooLong { .. })));
    }
}
