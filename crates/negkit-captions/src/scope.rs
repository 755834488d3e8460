//! What a negation denies, as far as the order of words tells.
//!
//! A full parse is not at hand, and not needed: a caption is one short sentence. A negation reaches
//! from its word to the end of the clause, and is read narrowly where the words leave it open. What
//! is read too narrowly costs a caption; what is read too widely would teach the opposite of what a
//! picture shows.

use std::ops::Range;

use crate::words::{Token, is_content, places, same_stem, same_word, tokens};

/// How far a negation reaches at most, in words.
const REACH: usize = 8;
/// How far behind an object its denial may stand: "trees are nowhere to be seen".
const REACH_BACK: usize = 4;

/// Words that open another clause.
const BOUNDARIES: &[&str] = &[
    "but", "while", "although", "though", "yet", "with", "who", "which", "that", "where", "when",
    "because", "except", "however", "so", "whose",
];
/// What begins another thing, or another statement, after "and".
const OPENERS: &[&str] = &[
    "a", "an", "the", "some", "several", "many", "two", "three", "four", "five", "his", "her",
    "their", "its", "there", "it", "is", "are", "was", "were", "has", "have", "one", "another",
];
const PREPOSITIONS: &[&str] = &[
    "in", "on", "at", "near", "under", "behind", "by", "beside", "from", "to", "for", "around",
    "over", "next", "inside", "outside", "above", "below", "between", "against", "across", "of",
    "along", "through", "into", "onto", "upon", "within", "beneath", "toward", "towards",
];
/// Nouns through which a denial goes on to what they are of: "no sign of a hat".
const TRANSPARENT: &[&str] = &[
    "sign", "trace", "hint", "pair", "piece", "kind", "sort", "type", "glimpse", "presence", "bit",
    "absence", "lack", "devoid", "free", "one", "any", "single",
];
/// What is said of something that is not there.
const PRESENCE: &[&str] = &[
    "there",
    "visible",
    "present",
    "seen",
    "shown",
    "around",
    "in",
    "included",
    "depicted",
    "available",
    "nearby",
    "anywhere",
    "found",
    "pictured",
    "to",
    "appear",
    "visibly",
];
/// Turns of phrase that hold a negation and deny nothing, or affirm.
const IDIOMS: &[&[&str]] = &[
    &["not", "only"],
    &["not", "just"],
    &["not", "merely"],
    &["not", "simply"],
    &["not", "far"],
    &["not", "to", "mention"],
    &["not", "unlike"],
    &["no", "doubt"],
    &["no", "matter"],
    &["no", "wonder"],
    &["no", "less"],
    &["no", "fewer"],
    &["no", "shortage", "of"],
    &["no", "lack", "of"],
    &["no", "absence", "of"],
    &["nothing", "but"],
    &["none", "but"],
    &["none", "other", "than"],
    &["no", "one", "but"],
    &["cannot", "help"],
    &["can't", "help"],
];

/// How a negation takes what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// It denies the thing named next: "no", "without", "lacking".
    Thing,
    /// It denies what is said next: "not", "never", "cannot", "nobody".
    Statement,
}

/// A negation and the words that it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    at: usize,
    sort: Sort,
    reach: Range<usize>,
}

fn sort_of(all: &[Token], at: usize) -> Option<Sort> {
    let word = |at: usize| all.get(at).map_or("", |token| token.word.as_str());
    Some(match word(at) {
        "no" if matches!(word(at + 1), "one" | "longer") => Sort::Statement,
        "no" | "without" | "lacking" | "lacks" | "neither" => Sort::Thing,
        "absence" | "lack" | "devoid" if word(at + 1) == "of" => Sort::Thing,
        "free" if matches!(word(at + 1), "of" | "from") => Sort::Thing,
        "not" | "never" | "cannot" | "nobody" | "none" | "nor" => Sort::Statement,
        word if word.ends_with("n't") => Sort::Statement,
        _ => return None,
    })
}

/// Whether the words from `at` on are a turn of phrase that denies nothing, and its length.
fn idiom(all: &[Token], at: usize) -> Option<usize> {
    let fits = |phrase: &&&[&str]| {
        let mut words = all[at..].iter().zip(phrase.iter());
        all.len() - at >= phrase.len() && words.all(|(token, word)| token.word == *word)
    };
    IDIOMS.iter().find(fits).map(|phrase| phrase.len())
}

/// The negations of a text that deny something further on.
pub(crate) fn denials(all: &[Token]) -> Vec<Denial> {
    let mut found: Vec<Denial> = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if let Some(length) = idiom(all, at) {
            at += length;
            continue;
        }
        if let Some(sort) = sort_of(all, at) {
            // "not without a hat": the second takes back the first.
            let inside = |denial: &Denial| denial.reach.contains(&at);
            let taken_back = sort == Sort::Thing
                && found
                    .last()
                    .is_some_and(|last| last.sort == Sort::Statement && inside(last));
            if taken_back {
                found.pop();
            } else {
                let reach = reach(all, at);
                found.push(Denial { at, sort, reach });
            }
        }
        at += 1;
    }
    found
}

fn reach(all: &[Token], at: usize) -> Range<usize> {
    let most = all.len().min(at + 1 + REACH);
    let word = |at: usize| all.get(at).map_or("", |token| token.word.as_str());
    let ends = |next: usize| {
        let first = next == at + 1;
        all[next].breaks
            || (BOUNDARIES.contains(&word(next)) && !first)
            || (word(next) == "and" && OPENERS.contains(&word(next + 1)))
    };
    at + 1..(at + 1..most).find(|next| ends(*next)).unwrap_or(most)
}

impl Denial {
    /// Whether it denies the thing at `place`.
    fn denies(&self, all: &[Token], place: &Range<usize>) -> bool {
        if !(self.reach.contains(&place.start) && place.end <= self.reach.end) {
            return false;
        }
        let between = &all[self.at + 1..place.start];
        match self.sort {
            Sort::Statement => true,
            Sort::Thing => between.iter().enumerate().all(|(index, token)| {
                let through = || {
                    let before = &all[self.at + index].word;
                    TRANSPARENT.iter().any(|word| same_word(before, word))
                };
                !PREPOSITIONS.contains(&token.word.as_str())
                    || (matches!(token.word.as_str(), "of" | "from") && through())
            }),
        }
    }

    /// The words that it denies before it comes to `place`, or all that it reaches.
    fn denied<'a>(&self, all: &'a [Token], place: Option<&Range<usize>>) -> &'a [Token] {
        let end = place.map_or(self.reach.end, |place| place.start);
        let start = self.at + 1;
        let thing_ends = |token: &Token| PREPOSITIONS.contains(&token.word.as_str());
        let own = &all[start..end.max(start)];
        match (self.sort, place) {
            // "no dogs on the sofa" says nothing against the sofa.
            (Sort::Thing, None) => {
                let end = own.iter().position(thing_ends).unwrap_or(own.len());
                &own[..end]
            }
            _ => own,
        }
    }
}

/// Whether the thing at `place` is said to be absent after it is named: "the bench is missing".
fn denied_behind(all: &[Token], place: &Range<usize>) -> bool {
    let end = all.len().min(place.end + REACH_BACK);
    let mut at = place.end;
    while at < end && !all[at].breaks {
        let word = all[at].word.as_str();
        if matches!(word, "missing" | "absent" | "nowhere" | "lacking") {
            return true;
        }
        if word == "not" || word.ends_with("n't") || word == "never" {
            let next = all.get(at + 1).map_or("", |token| token.word.as_str());
            return PRESENCE.contains(&next);
        }
        let glue = matches!(
            word,
            "is" | "are" | "was" | "were" | "being" | "be" | "can" | "to"
        );
        if !glue {
            return false;
        }
        at += 1;
    }
    false
}

/// Whether the text says of the object that it is not there.
pub(crate) fn denies_object(all: &[Token], object: &str) -> bool {
    let denials = denials(all);
    places(all, object).iter().any(|place| {
        denied_behind(all, place) || denials.iter().any(|denial| denial.denies(all, place))
    })
}

/// Whether a negation reaches one of the words.
pub(crate) fn denies_one_of(all: &[Token], words: &[String]) -> bool {
    denials(all).iter().any(|denial| {
        let mut reached = all[denial.reach.clone()].iter();
        reached.any(|token| words.iter().any(|word| same_stem(&token.word, word)))
    })
}

/// A content word of the original that the new text denies on its way to `targets`, where the
/// original did not.
pub(crate) fn denied_content(original: &str, all: &[Token], targets: &[String]) -> Option<String> {
    let before = tokens(original);
    let known = |denial: &Denial| {
        let next = all.get(denial.at + 1).map(|token| &token.word);
        let pairs = before.iter().zip(before.iter().skip(1));
        let mut pairs = pairs.map(|(cue, next)| (&cue.word, Some(&next.word)));
        pairs.any(|pair| pair == (&all[denial.at].word, next))
    };
    let is_target = |word: &str| targets.iter().any(|target| same_stem(target, word));
    let in_original = |word: &str| before.iter().any(|token| same_word(&token.word, word));
    for denial in denials(all).iter().filter(|denial| !known(denial)) {
        let reached = denial.reach.clone();
        let place = reached.clone().find(|at| is_target(&all[*at].word));
        let place = place.map(|at| at..at + 1);
        let denied = denial.denied(all, place.as_ref());
        // "not wearing a hat" denies the hat: what is done with it need not be new.
        let action = |word: &str| word.ends_with("ing") && place.is_some();
        let mut words = denied.iter().map(|token| &token.word);
        let found = words.find(|word| is_content(word) && in_original(word) && !action(word));
        if let Some(word) = found {
            return Some(word.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denies(text: &str, object: &str) -> bool {
        denies_object(&tokens(text), object)
    }

    #[test]
    fn an_object_is_denied_in_many_ways() {
        for text in [
            "a room with no chairs",
            "a room without a chair",
            "a room without any chairs",
            "a room that has no table or chair",
            "there isn't a chair in the room",
            "There aren’t any chairs.",
            "a man not sitting on a chair",
            "a man who cannot find a chair",
            "a man no longer on a chair",
            "nobody is sitting on a chair",
            "no one has a chair",
            "a room lacking a chair",
            "a room devoid of chairs",
            "a room free of chairs",
            "a room with no sign of a chair",
            "an absence of chairs in a room",
            "the chair is missing from the room",
            "a room where chairs are nowhere to be seen",
            "a chair is not visible in the room",
            "a room, no chair in sight",
            "a room with neither a table nor a chair",
            "a room with no comfortable old wooden chairs",
            "a room (no chairs)",
            "no tables and chairs in the room",
            "a room without a single chair",
            "a man without sitting down on, well, no chair",
        ] {
            assert!(denies(text, "chair"), "{text}");
        }
    }

    #[test]
    fn what_denies_something_else_does_not_deny_the_object() {
        for text in [
            "a room with a chair",
            "a chair but no table",
            "no table, a chair",
            "no table and a chair",
            "a room with no table but a chair",
            "no man with a chair",
            "no table near a chair",
            "not only a table but also a chair",
            "nothing but a chair",
            "no doubt a chair",
            "a man not without a chair",
            "a man who is never seen without a chair",
            "the chair is not red",
            "the chair isn't broken",
            "a man who is not tall while sitting on a chair",
            "a chairman with no hat",
            "no shortage of chairs",
            "not far from a chair",
            "no less than two chairs",
            "",
            "no",
        ] {
            assert!(!denies(text, "chair"), "{text}");
        }
    }

    #[test]
    fn what_the_original_says_must_not_be_denied() {
        let denied = |original: &str, text: &str, object: &str| {
            denied_content(original, &tokens(text), &[object.to_owned()])
        };
        let man = "a man wearing a shirt on a beach";
        for text in [
            "no man wearing a shirt on a beach with a hat",
            "a man not on a beach, wearing a shirt and no hat",
            "without a man holding a hat on a beach wearing a shirt",
            "a man wearing no shirt on a beach and no hat",
        ] {
            assert!(denied(man, text, "hat").is_some(), "{text}");
        }
        for text in [
            "a man wearing a shirt on a beach with no hat",
            "a man wearing a shirt but not wearing a hat on a beach",
            "there is no hat on a beach, a man wearing a shirt",
            "a man without a hat wearing a shirt on a beach",
        ] {
            assert_eq!(denied(man, text, "hat"), None, "{text}");
        }
        // What it denied before, it may go on to deny.
        let before = "a sign that says no parking";
        assert_eq!(
            denied(before, "a sign that says no parking, without a car", "car"),
            None
        );
    }
}
