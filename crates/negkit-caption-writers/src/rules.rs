//! A writer without a model.

use std::collections::BTreeSet;

use negkit_captions::{CaptionError, CaptionWriter, SourceCaption};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::lexicon::{Named, words};
use crate::{Entry, Kind, Lexicon, Statistics};

/// Among how many of the likeliest things one is drawn.
const CANDIDATES: usize = 8;

/// Verbs that make a caption a sentence.
const VERBS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "sits", "sit", "stands", "stand", "lies",
    "lie", "rides", "ride", "holds", "hold", "walks", "walk", "looks", "look", "plays", "play",
    "flies", "fly", "eats", "eat", "runs", "run", "jumps", "jump", "poses", "pose", "wears",
    "wear", "shows", "show", "gets", "get", "does", "do", "makes", "make", "hangs", "hang",
    "travels", "drives", "performs", "watches", "watch", "contains", "features", "grazes", "graze",
    "rests", "rest", "sleeps", "swings", "catches", "takes", "can", "waits", "carries", "carry",
    "leans", "moves", "cooks", "prepares", "goes", "go", "surfs",
];

/// First words that may be written small within a sentence.
const LOWERED: &[&str] = &[
    "A", "An", "The", "Two", "Three", "Four", "Five", "Some", "Several", "Many", "There", "This",
    "People", "Men", "Women", "Man", "Woman", "One", "Group", "It", "He", "She", "They",
];

/// Writes negations by patterns, and finds likely objects by counting: for when there is no language
/// model.
///
/// What it is not should be said plainly. It knows the things of a [`Lexicon`] and no others, and
/// tells a sentence from a phrase by a list of verbs. What it cannot put into a pattern (several
/// sentences in one caption, a question that is not about one thing) it refuses to write. Its captions
/// are grammatical and dull. The same caption, object and seed give the same words.
#[derive(Debug, Clone)]
pub struct RuleWriter {
    lexicon: Lexicon,
    statistics: Statistics,
    seed: u64,
}

fn nothing(reason: impl Into<String>) -> CaptionError {
    CaptionError::NothingToWrite {
        reason: reason.into(),
    }
}

impl RuleWriter {
    /// A writer with these things and counts; the seed decides among patterns and likely objects.
    pub fn new(lexicon: Lexicon, statistics: Statistics, seed: u64) -> Self {
        Self {
            lexicon,
            statistics,
            seed,
        }
    }

    /// The things that it knows.
    pub fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    fn rng(&self, caption: &SourceCaption, request: &str) -> ChaCha8Rng {
        // FNV-1a, so that every request has a stream of its own that no version of a library changes.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let id = caption.id.to_le_bytes();
        let text = caption.text.as_bytes();
        for byte in id.iter().chain(text).chain(request.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(hash);
        rng
    }
}

/// A caption taken apart as far as the patterns need it.
struct Parts<'a> {
    /// Without white space and the full stop.
    body: &'a str,
    /// The full stop, if there is one.
    stop: &'static str,
    is_sentence: bool,
    words: Vec<(usize, String)>,
    named: Vec<Named>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str, lexicon: &Lexicon) -> Result<Self, CaptionError> {
        let text = text.trim();
        let body = text.trim_end_matches('.').trim_end();
        let stop = if text.ends_with('.') { "." } else { "" };
        let ends_sentence = |(at, c): (usize, char)| {
            matches!(c, '.' | '!' | '?' | ';' | '\n')
                && body[at + 1..].starts_with(|next: char| next.is_whitespace())
        };
        if body.ends_with(['!', '?', ',', ':', '"']) || body.char_indices().any(ends_sentence) {
            return Err(nothing(
                "no pattern fits a caption of several sentences, or one that ends in a mark",
            ));
        }
        let words = words(body);
        let is_sentence = words.iter().any(|(_, word)| VERBS.contains(&word.as_str()));
        let named = lexicon.named(&words);
        Ok(Self {
            body,
            stop,
            is_sentence,
            words,
            named,
        })
    }

    /// The body as it stands after the beginning of a sentence.
    fn lowered(&self) -> Option<String> {
        let (first, rest) = self.body.split_once(' ')?;
        if first.starts_with(char::is_lowercase) {
            return Some(self.body.to_owned());
        }
        LOWERED
            .contains(&first)
            .then(|| format!("{} {rest}", first.to_lowercase()))
    }

    /// Where the first person of the caption is named, if what follows lets a phrase stand there:
    /// "a man | riding a horse", "a woman | is".
    fn after_person(&self, lexicon: &Lexicon) -> Option<(usize, bool)> {
        let person = |named: &&Named| lexicon.entries()[named.entry].kind == Kind::Person;
        let named = self.named.first().filter(person)?;
        let last = named.words.end - 1;
        let (start, word) = &self.words[last];
        // "a couple of men", "a baby elephant": another word takes the person further.
        let (next_at, next) = self.words.get(last + 1)?;
        let end = start + word.len();
        let stands_alone = self.body[end..*next_at].trim().is_empty();
        let goes_on = next.ends_with("ing") || matches!(next.as_str(), "is" | "are");
        let plural = matches!(
            word.as_str(),
            "people"
                | "men"
                | "women"
                | "boys"
                | "girls"
                | "children"
                | "kids"
                | "players"
                | "skiers"
                | "surfers"
                | "couple"
                | "guys"
                | "ladies"
                | "adults"
                | "riders"
        );
        (stands_alone && goes_on).then_some((end, plural))
    }
}

impl CaptionWriter for RuleWriter {
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError> {
        let found = self.lexicon.named(&words(&caption.text));
        let context: BTreeSet<usize> = found.iter().map(|named| named.entry).collect();
        let mut likely = self
            .statistics
            .likely(&self.lexicon, caption.image.id, &context);
        likely.truncate(CANDIDATES);
        let mut rng = self.rng(caption, "object");
        let chosen = likely.choose_weighted(&mut rng, |(_, score)| *score);
        let (thing, _) = chosen.map_err(|_| {
            nothing(format!(
                "nothing is known to be likely beside what {:?} names",
                caption.text
            ))
        })?;
        Ok(self.lexicon.entries()[*thing].singular.clone())
    }

    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError> {
        let Some(entry) = self.lexicon.find(object) else {
            return Err(nothing(format!("{object:?} is not in the lexicon")));
        };
        let parts = Parts::of(&caption.text, &self.lexicon)?;
        let mut rng = self.rng(caption, object);
        Ok(absence(&parts, entry, &self.lexicon, &mut rng))
    }

    fn write_denial(
        &self,
        caption: &SourceCaption,
        question: &str,
    ) -> Result<String, CaptionError> {
        let parts = Parts::of(&caption.text, &self.lexicon)?;
        let mut rng = self.rng(caption, question);
        let denied = denied_by(question, &self.lexicon)
            .ok_or_else(|| nothing(format!("no pattern fits the question {question:?}")))?;
        Ok(match denied {
            Denied::Thing(entry) => absence(&parts, entry, &self.lexicon, &mut rng),
            Denied::Clause(clause) => {
                let Parts { body, stop, .. } = parts;
                let joint = [", and", ", but"]
                    .choose(&mut rng)
                    .copied()
                    .unwrap_or(", and");
                format!("{body}{joint} {clause}{stop}")
            }
        })
    }
}

/// "is" or "are", for what is denied in that form.
fn verb(plural: bool) -> &'static str {
    if plural { "are" } else { "is" }
}

fn absence(parts: &Parts<'_>, entry: &Entry, lexicon: &Lexicon, rng: &mut ChaCha8Rng) -> String {
    let Parts { body, stop, .. } = parts;
    let one = entry.one();
    // "no chair" and "no chairs" are both said; things without number have one form.
    let several = entry.has_only_plural()
        || (!matches!(entry.kind, Kind::Mass) && rng.random_bool(0.5))
        || entry.kind == Kind::Person;
    let bare = if several {
        &entry.plural
    } else {
        &entry.singular
    };
    let any = match entry.kind {
        Kind::Mass => entry.singular.clone(),
        _ => format!("any {}", entry.plural),
    };
    if matches!(entry.kind, Kind::Worn | Kind::Carried | Kind::Pair)
        && let Some((end, plural)) = parts.after_person(lexicon)
        && entry.singular != "skis"
        && entry.singular != "scissors"
    {
        let (before, after) = body.split_at(end);
        let theirs = if plural && entry.kind != Kind::Pair {
            entry.plural.clone()
        } else {
            one
        };
        let doing = if entry.kind == Kind::Carried {
            "carrying"
        } else {
            "wearing"
        };
        return match rng.random_range(0..3) {
            0 => format!("{before} not {doing} {theirs}{after}{stop}"),
            _ => format!("{before} without {theirs}{after}{stop}"),
        };
    }
    let is = verb(several);
    if !parts.is_sentence {
        return match rng.random_range(0..6) {
            0 => format!("{body} with no {bare}{stop}"),
            1 => format!("{body} without {any}{stop}"),
            2 => format!("{body}, with no {bare} in sight{stop}"),
            3 => format!("{body}, but no {bare}{stop}"),
            4 => format!("{body}, and no {bare} {is} to be seen{stop}"),
            _ => match parts.lowered() {
                Some(lowered) => format!("With no {bare} in sight, {lowered}{stop}"),
                None => format!("{body} and no {bare}{stop}"),
            },
        };
    }
    match rng.random_range(0..6) {
        0 => format!("{body}, and there {is} no {bare}{stop}"),
        1 => format!("{body}, but there {is} no {bare} in sight{stop}"),
        2 => format!("{body}, with no {bare} in sight{stop}"),
        3 => match parts.lowered() {
            Some(lowered) => format!("With no {bare} in sight, {lowered}{stop}"),
            None => format!("{body}, without {any}{stop}"),
        },
        4 => format!("{body}, and no {bare} {is} to be seen{stop}"),
        _ => format!("{body}, without {any} around{stop}"),
    }
}

/// What a question answered "no" denies.
enum Denied<'a> {
    /// That the thing is in the picture.
    Thing(&'a Entry),
    /// A statement, as a clause.
    Clause(String),
}

/// Reads a question of one of the common forms. `None` where no pattern fits.
fn denied_by<'a>(question: &str, lexicon: &'a Lexicon) -> Option<Denied<'a>> {
    let text = question.trim().trim_end_matches(['?', ' ']).to_lowercase();
    if text.contains([',', '.', '?', '"', ';']) || text.contains(" or ") {
        return None;
    }
    let all = words(&text);
    let word: Vec<&str> = all.iter().map(|(_, word)| word.as_str()).collect();
    // What was seen, and where: "in the picture" says nothing.
    let everywhere = |rest: &[&str]| {
        matches!(
            rest,
            [] | ["here" | "visible" | "present"]
                | [
                    "in",
                    "the" | "this",
                    "picture" | "photo" | "image" | "scene"
                ]
                | ["in", "here"]
        )
    };
    let thing = |from: usize| {
        let named = lexicon.named(&all[from..]);
        let first = named.first().filter(|named| named.words.start == 0)?;
        Some((&lexicon.entries()[first.entry], from + first.words.end))
    };
    match word[..] {
        ["is" | "are", "there", "a" | "an" | "any", ..] => {
            let (entry, end) = thing(3)?;
            if everywhere(&word[end..]) {
                return Some(there_is_none(word[0], &word[3..end], entry));
            }
            // "in the bowl", "on the wall"
            let placed = matches!(word[end], "in" | "on" | "near" | "behind" | "under" | "at")
                && matches!(
                    word.get(end + 1),
                    Some(&("the" | "this" | "his" | "her" | "their"))
                );
            let place = word[end..].join(" ");
            let plural = word[0] == "are";
            let name = word[3..end].join(" ");
            placed.then(|| Denied::Clause(format!("there {} no {name} {place}", verb(plural))))
        }
        ["are", "there", ..] => {
            let (entry, end) = thing(2)?;
            everywhere(&word[end..]).then(|| there_is_none(word[0], &word[2..end], entry))
        }
        [
            "is" | "are" | "was" | "were",
            subject @ ("he" | "she" | "they" | "it"),
            ref rest @ ..,
        ] if !rest.is_empty() => {
            let rest = predicate(rest)?;
            Some(Denied::Clause(format!("{subject} {} not {rest}", word[0])))
        }
        [
            "is" | "are" | "was" | "were" | "does" | "do" | "did",
            "the" | "this" | "these",
            ..,
        ] => {
            let (_, end) = thing(2)?;
            let rest = predicate(&word[end..])?;
            let subject = word[2..end].join(" ");
            Some(Denied::Clause(format!(
                "the {subject} {} not {rest}",
                word[0]
            )))
        }
        _ => None,
    }
}

/// The denial of a thing under the name that was asked for: that there is no woman does not mean that
/// there are no people.
fn there_is_none<'a>(is: &str, name: &[&str], entry: &'a Entry) -> Denied<'a> {
    let name = name.join(" ");
    match name == entry.singular || name == entry.plural {
        true => Denied::Thing(entry),
        false => Denied::Clause(format!("there {is} no {name}")),
    }
}

/// What is said of the subject, where it reads well after "not".
fn predicate(rest: &[&str]) -> Option<String> {
    // "is the man the owner", "is the dog in the picture", "is the man's hat red"
    const HARD: &[&str] = &[
        "picture", "photo", "image", "scene", "any", "anyone", "anything", "same",
    ];
    let fits = (1..=8).contains(&rest.len())
        && !matches!(
            rest[0],
            "and" | "that" | "who" | "which" | "of" | "not" | "the"
        )
        && !rest
            .iter()
            .any(|word| HARD.contains(word) || word.ends_with("n't"));
    fits.then(|| rest.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use negkit_captions::{ImageRef, QualityGate};

    use super::*;

    fn caption(id: u64, text: &str) -> SourceCaption {
        SourceCaption {
            id,
            image: ImageRef::new(id),
            text: text.to_owned(),
        }
    }

    fn writer() -> RuleWriter {
        let lexicon = Lexicon::built_in().unwrap();
        let statistics = Statistics::count(&lexicon, [(1, "a man with a dog on a couch")]);
        RuleWriter::new(lexicon, statistics, 0)
    }

    #[test]
    fn an_absence_passes_the_gate_in_every_pattern() {
        let (writer, gate) = (writer(), QualityGate::default());
        let texts = [
            "A man is in a kitchen making pizzas.",
            "a woman riding a horse in a field",
            "The dining table near the kitchen has a bowl of fruit on it.",
            "a blue bike parked on a side walk ",
            "A bathroom with no toilets and a red and green bucket. ",
            "Two men playing frisbee on grass",
        ];
        let mut written = BTreeSet::new();
        for text in texts {
            for object in [
                "umbrella",
                "hat",
                "snow",
                "backpack",
                "elephant",
                "sunglasses",
            ] {
                for id in 0..40 {
                    let source = caption(id, text);
                    let new = writer.write_absence(&source, object).unwrap();
                    assert_eq!(gate.check(text, &new, Some(object)), Ok(()), "{new}");
                    assert_eq!(text.trim().ends_with('.'), new.ends_with('.'), "{new}");
                    assert!(!new.contains("  ") && !new.contains(" ,"), "{new}");
                    assert_eq!(writer.write_absence(&source, object).unwrap(), new);
                    written.insert(new);
                }
            }
        }
        for part in [
            "A man without a hat is in a kitchen",
            "a woman not wearing a hat riding a horse",
            "Two men not carrying backpacks playing",
            "With no snow in sight, a man is",
            "without snow",
        ] {
            assert!(
                written.iter().any(|text| text.contains(part)),
                "{part}: {written:#?}"
            );
        }
    }

    #[test]
    fn questions_of_the_common_forms_are_denied() {
        let (writer, gate) = (writer(), QualityGate::default());
        let text = "A man with a dog on a couch.";
        for (question, parts) in [
            ("Is there a cat?", &["cat"][..]),
            ("Are there any books in this picture?", &["book"]),
            (
                "Is there a book on the table?",
                &["there is no book on the table."],
            ),
            ("Is there a woman?", &["there is no woman."]),
            (
                "Are there any women in the photo?",
                &["there are no women."],
            ),
            ("Is the dog brown?", &["the dog is not brown."]),
            (
                "Is the man wearing a hat?",
                &["the man is not wearing a hat."],
            ),
            (
                "Does the man have a beard?",
                &["the man does not have a beard."],
            ),
            ("Is it raining?", &["it is not raining."]),
        ] {
            let new = writer.write_denial(&caption(3, text), question).unwrap();
            assert!(parts.iter().all(|part| new.contains(part)), "{new}");
            assert_eq!(gate.check_answer(text, &new, question), Ok(()), "{new}");
        }
        for question in [
            "What is this?",
            "Is this a farm?",
            "Is the dog brown or black?",
            "Is that the owner of the dog?",
            "Is there a quokka?",
            "",
        ] {
            let error = writer
                .write_denial(&caption(3, text), question)
                .unwrap_err();
            assert!(
                matches!(error, CaptionError::NothingToWrite { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn what_fits_no_pattern_is_not_written() {
        let writer = writer();
        for text in [
            "A dog runs. A cat sleeps.",
            "Look at that dog!",
            "a sign that says \"stop\"",
        ] {
            let error = writer.write_absence(&caption(1, text), "hat").unwrap_err();
            assert!(
                matches!(error, CaptionError::NothingToWrite { .. }),
                "{error}"
            );
        }
        let error = writer
            .write_absence(&caption(1, "a dog"), "quokka")
            .unwrap_err();
        assert!(error.to_string().contains("lexicon"), "{error}");
        let likely = writer.name_absent_object(&caption(8, "a couch")).unwrap();
        assert!(["dog", "person"].contains(&likely.as_str()), "{likely}");
        let error = writer.name_absent_object(&caption(8, "a zebra and a rock"));
        assert!(
            error.is_ok(),
            "nothing was counted of it, and what is named most is taken"
        );
    }
}
