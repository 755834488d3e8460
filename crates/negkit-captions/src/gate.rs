//! Checks of what a writer wrote.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::scope::{denials, denied_content, denies_object, denies_one_of};
use crate::words::{Token, is_content, names_object, same_stem, same_word, tokens};

/// Words that make a negation, one a line; contractions in "n't" are recognised by their ending.
pub const NEGATION_WORDS: &str = include_str!("negation_words.txt");

static NEGATIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| NEGATION_WORDS.lines().collect());

fn is_negation(word: &str) -> bool {
    NEGATIONS.contains(word) || word.ends_with("n't")
}

/// Whether the text holds a word of [`NEGATION_WORDS`] or a contraction in "n't".
pub fn holds_negation(text: &str) -> bool {
    tokens(text).iter().any(|token| is_negation(&token.word))
}

/// What is wrong with a caption that a negation is to be worked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    /// It has no words.
    #[error("the caption to start from has no words: {text:?}")]
    Empty {
        /// The caption.
        text: String,
    },
    /// Whatever is added, it would be too long.
    #[error(
        "the caption to start from has {found} words; with a negation it would have more than {most}"
    )]
    TooLong {
        /// Its words.
        found: usize,
        /// The most that a caption may have.
        most: usize,
    },
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
    /// It names the object, and denies something else.
    #[error("the caption holds a negation, but not of {object:?}: {text:?}")]
    ObjectNotDenied {
        /// The object.
        object: String,
        /// The caption.
        text: String,
    },
    /// It denies nothing that the question asks about.
    #[error("the caption denies nothing that {question:?} asks about: {text:?}")]
    QuestionNotDenied {
        /// The question.
        question: String,
        /// The caption.
        text: String,
    },
    /// It denies what the original says is there.
    #[error("the caption denies {word:?}, which the original says is there: {text:?}")]
    ContentDenied {
        /// The word.
        word: String,
        /// The caption.
        text: String,
    },
    /// It lost what the original said.
    #[error("the caption lost words of the original: {}", lost.join(", "))]
    ContentLost {
        /// The words.
        lost: Vec<String>,
    },
    /// It says more than was asked for.
    #[error("the caption adds {} words, more than {most}: {}", added.len(), added.join(", "))]
    TooMuchAdded {
        /// The words that are neither the original's nor asked for.
        added: Vec<String>,
        /// The most that are let through.
        most: usize,
    },
}

/// What a rewritten caption must fulfil.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityGate {
    /// The share of the original's content words that must be kept.
    pub kept_share: f64,
    /// The most words that it may have.
    pub most_words: usize,
    /// The most content words that it may add beside what it denies: an answer that speaks about
    /// the caption instead of giving it has more.
    pub most_added: usize,
}

impl Default for QualityGate {
    /// Four fifths of the content words kept, at most 77 words, at most 6 added.
    fn default() -> Self {
        Self {
            kept_share: 0.8,
            most_words: 77,
            most_added: 6,
        }
    }
}

impl QualityGate {
    /// Lets a caption through to be rewritten, or says why that is no use.
    ///
    /// # Errors
    /// [`SourceFault`].
    pub fn check_source(&self, text: &str) -> Result<(), SourceFault> {
        let found = tokens(text).len();
        if found == 0 {
            return Err(SourceFault::Empty {
                text: text.to_owned(),
            });
        }
        // "no" and what it denies.
        if found + 2 > self.most_words {
            return Err(SourceFault::TooLong {
                found,
                most: self.most_words,
            });
        }
        Ok(())
    }

    /// Lets the rewritten caption through, or says what is wrong with it. `object` is what it
    /// must deny, where that is a single object: by its name in the singular or the plural, and with
    /// a negation that reaches it.
    ///
    /// # Errors
    /// The first [`GateFault`] found.
    pub fn check(
        &self,
        original: &str,
        updated: &str,
        object: Option<&str>,
    ) -> Result<(), GateFault> {
        let found = self.form(updated)?;
        let text = || updated.to_owned();
        if denials(&found).is_empty() && !holds_negation(updated) {
            return Err(GateFault::NoNegation { text: text() });
        }
        let targets: Vec<String> = object.map(content).unwrap_or_default();
        if let Some(object) = object {
            let object = || object.to_owned();
            if !names_object(updated, &object()) {
                return Err(GateFault::ObjectMissing {
                    object: object(),
                    text: text(),
                });
            }
            if !denies_object(&found, &object()) {
                return Err(GateFault::ObjectNotDenied {
                    object: object(),
                    text: text(),
                });
            }
        }
        self.compare(original, updated, &found, &targets)
    }

    /// As [`check`](Self::check) for a caption that states a question's "no": a negation must reach
    /// something that the question asks about.
    ///
    /// # Errors
    /// The first [`GateFault`] found.
    pub fn check_answer(
        &self,
        original: &str,
        updated: &str,
        question: &str,
    ) -> Result<(), GateFault> {
        let found = self.form(updated)?;
        let text = || updated.to_owned();
        if denials(&found).is_empty() && !holds_negation(updated) {
            return Err(GateFault::NoNegation { text: text() });
        }
        let targets = content(question);
        let denied = denies_one_of(&found, &targets)
            || targets.iter().any(|word| denies_object(&found, word));
        if !denied {
            return Err(GateFault::QuestionNotDenied {
                question: question.to_owned(),
                text: text(),
            });
        }
        self.compare(original, updated, &found, &targets)
    }

    fn form(&self, updated: &str) -> Result<Vec<Token>, GateFault> {
        let found = tokens(updated);
        if found.is_empty() {
            return Err(GateFault::Empty);
        }
        if found.len() > self.most_words {
            return Err(GateFault::TooLong {
                found: found.len(),
                most: self.most_words,
            });
        }
        Ok(found)
    }

    /// What the new caption does to the words of the old one; `targets` are what it may deny.
    fn compare(
        &self,
        original: &str,
        updated: &str,
        found: &[Token],
        targets: &[String],
    ) -> Result<(), GateFault> {
        let old = content(original);
        let lost: Vec<String> = old
            .iter()
            .filter(|word| !found.iter().any(|other| same_word(word, &other.word)))
            .cloned()
            .collect();
        let most_lost = (1. - self.kept_share) * old.len() as f64;
        if lost.len() as f64 > most_lost + 1e-9 {
            return Err(GateFault::ContentLost { lost });
        }
        if let Some(word) = denied_content(original, found, targets) {
            return Err(GateFault::ContentDenied {
                word,
                text: updated.to_owned(),
            });
        }
        let asked = |word: &str| {
            let known = old.iter().any(|other| same_word(other, word));
            known || targets.iter().any(|target| same_stem(target, word))
        };
        let added: Vec<String> = found
            .iter()
            .map(|token| token.word.clone())
            .filter(|word| is_content(word) && !is_negation(word) && !asked(word))
            .collect();
        if added.len() > self.most_added {
            return Err(GateFault::TooMuchAdded {
                added,
                most: self.most_added,
            });
        }
        Ok(())
    }
}

/// The words of a text that say something.
fn content(text: &str) -> Vec<String> {
    let words = tokens(text).into_iter().map(|token| token.word);
    words.filter(|word| is_content(word)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn negations_are_whole_words() {
        for text in [
            "no hat",
            "It isn't red.",
            "a man Without shoes",
            "don’t",
            "\"no\" hats",
            "he cannot see",
            "nothing on it",
            "no longer there",
        ] {
            assert!(holds_negation(text), "{text}");
        }
        for text in ["a knot", "noble", "a notebook", "another man", "", "'"] {
            assert!(!holds_negation(text), "{text}");
        }
    }

    #[test]
    fn the_gate_says_what_is_wrong() {
        let gate = QualityGate::default();
        let check = |updated: &str, object| gate.check("a red bus on a street", updated, object);
        for (updated, object) in [
            ("a red bus on a street with no benches", "bench"),
            ("a red bus on a street with no bench", "benches"),
            ("A red bus on a street, but there isn't a bench.", "bench"),
            ("\"a red bus on a street where no bench is seen\"", "bench"),
            ("a red bus on a street without people", "person"),
        ] {
            assert_eq!(check(updated, Some(object)), Ok(()), "{updated}");
        }
        assert_eq!(check("  ", None), Err(GateFault::Empty));
        assert_eq!(check("\"...\"", None), Err(GateFault::Empty));
        assert!(matches!(
            check("a red bus on a street", None),
            Err(GateFault::NoNegation { .. })
        ));
        assert!(matches!(
            check("a red bus on a street, not moving", Some("tree")),
            Err(GateFault::ObjectMissing { .. })
        ));
        for updated in [
            "a red bus with a tree on a street without cars",
            "a red bus on a street with not only a tree",
        ] {
            let fault = check(updated, Some("tree"));
            assert!(
                matches!(fault, Err(GateFault::ObjectNotDenied { .. })),
                "{fault:?}"
            );
        }
        assert!(matches!(
            check("there is no tree", Some("tree")),
            Err(GateFault::ContentLost { .. })
        ));
        for updated in [
            "no red bus on a street, and no tree",
            "a red bus not on a street, without a tree",
        ] {
            let fault = check(updated, Some("tree"));
            assert!(
                matches!(fault, Err(GateFault::ContentDenied { .. })),
                "{fault:?}"
            );
        }
        let long = "no ".repeat(500);
        assert!(matches!(check(&long, None), Err(GateFault::TooLong { .. })));
    }

    #[test]
    fn an_essay_is_not_a_caption() {
        let gate = QualityGate::default();
        let check = |updated: &str| gate.check("a red bus on a street", updated, Some("tree"));
        for updated in [
            "Sure! Here is the updated caption that you asked me for: a red bus on a street with no tree",
            "a red bus on a street with no tree. I hope this helps! Let me know if you need more captions",
        ] {
            let fault = check(updated);
            assert!(
                matches!(fault, Err(GateFault::TooMuchAdded { .. })),
                "{fault:?}"
            );
        }
        for updated in [
            "un bus rouge dans une rue sans arbre",
            "街上有一辆红色的公共汽车，没有树",
        ] {
            assert!(check(updated).is_err(), "{updated}");
        }
    }

    #[test]
    fn an_answer_must_deny_what_was_asked() {
        let gate = QualityGate::default();
        let original = "a dog on a sofa";
        let check = |updated: &str, question: &str| gate.check_answer(original, updated, question);
        for (updated, question) in [
            ("a dog that is not brown on a sofa", "Is the dog brown?"),
            (
                "a dog on a sofa with no cushions",
                "Are there any cushions?",
            ),
            (
                "a dog not wearing a collar on a sofa",
                "Does the dog wear a collar?",
            ),
            (
                "a dog on a sofa, and it is not sitting",
                "Does the dog sit?",
            ),
        ] {
            assert_eq!(check(updated, question), Ok(()), "{updated}");
        }
        let fault = check("a dog on a sofa with no cat", "Is the dog brown?");
        assert!(
            matches!(fault, Err(GateFault::QuestionNotDenied { .. })),
            "{fault:?}"
        );
        let fault = check("a brown dog on a sofa", "Is the dog brown?");
        assert!(
            matches!(fault, Err(GateFault::NoNegation { .. })),
            "{fault:?}"
        );
    }

    #[test]
    fn captions_to_start_from_are_looked_at_first() {
        let gate = QualityGate::default();
        for empty in ["", "  \n", "\"\"", "..."] {
            let fault = gate.check_source(empty);
            assert!(matches!(fault, Err(SourceFault::Empty { .. })), "{fault:?}");
        }
        let long = "word ".repeat(500);
        let fault = gate.check_source(&long);
        assert_eq!(
            fault,
            Err(SourceFault::TooLong {
                found: 500,
                most: 77
            })
        );
        assert_eq!(gate.check_source("a sign that says \"no parking\""), Ok(()));
    }
}
