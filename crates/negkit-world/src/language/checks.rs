//! From a prompt's words to the questions that check a picture of it.

use super::description::{Attribute, Noun};
use super::questions::{
    Question, QuestionKind, attribute_question, existence_question, place_question,
};
use crate::catalog::{Colour, Kind, Place, State, Zone};

/// What a word of a prompt is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    /// "no", "without": what they deny comes after them.
    No,
    /// "not", which denies the very next word if that is a property.
    Not,
    /// "a", "an", "the", "one".
    Article,
    Place(Place),
    Thing {
        noun: Noun,
        several: bool,
    },
    Property(Attribute),
    Other,
}

/// Questions for "yes" or "no" about whatever a prompt names, with the answers that a picture of it
/// must give: "yes" for what it affirms, "no" for what it denies.
///
/// Each negation denies the next thing or property alone: "a room with no chairs and a table" wants
/// a table. What somebody wears or holds is asked of the person that was named last. Words that are
/// not of this world are passed over, so that there can be no question at all.
///
/// ```
/// use negkit_world::language::prompt_questions;
///
/// let asked = prompt_questions("A man without a hat");
/// let asked: Vec<_> = asked.iter().map(|q| (&*q.text, &*q.answer)).collect();
/// assert_eq!(asked, [("Is there a man?", "yes"), ("Is the man wearing a hat?", "no")]);
/// ```
pub fn prompt_questions(prompt: &str) -> Vec<Question> {
    let lower = prompt.to_lowercase();
    let words: Vec<Word> = lower
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .filter(|word| !word.is_empty())
        .map(read)
        .collect();
    let mut reader = Reader::default();
    for (i, &word) in words.iter().enumerate() {
        reader.take(word, &words[..i], &words[i + 1..]);
    }
    reader.asked
}

fn read(word: &str) -> Word {
    match word {
        "no" | "without" => return Word::No,
        "a" | "an" | "the" | "one" => return Word::Article,
        "not" => return Word::Not,
        _ if word.ends_with("n't") || word.ends_with("n’t") => return Word::Not,
        _ => {}
    }
    let kinds = Kind::ALL.iter().map(|&kind| Noun::Kind(kind));
    let noun = [Noun::Person, Noun::Animal, Noun::Vehicle]
        .into_iter()
        .chain(kinds)
        .find(|noun| word == noun.singular() || word == noun.plural());
    if let Some(noun) = noun {
        let several = word == noun.plural();
        return Word::Thing { noun, several };
    }
    let place = Place::from_name(word).map(Word::Place);
    let colour = || Colour::from_name(word).map(|colour| Word::Property(Attribute::Colour(colour)));
    let state = || State::from_name(word).map(|state| Word::Property(Attribute::State(state)));
    place.or_else(colour).or_else(state).unwrap_or(Word::Other)
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    asked: Vec<Question>,
    /// Whether the next thing or property is denied.
    denied: bool,
    /// Properties before their noun, each with whether it is denied.
    before: Vec<(Attribute, bool)>,
    place: Option<Place>,
    last: Option<Noun>,
    person: Option<Noun>,
}

impl Reader {
    fn take(&mut self, word: Word, before: &[Word], after: &[Word]) {
        match word {
            Word::No | Word::Not => self.denied = true,
            Word::Place(place) => {
                let denied = std::mem::take(&mut self.denied);
                self.ask(place_question(place), denied, QuestionKind::Place);
                self.place = Some(place);
            }
            Word::Property(attribute) => self.property(attribute, before, after),
            Word::Thing { noun, several } => {
                // "sheep" is one after an article.
                let mut words = before.iter().rev();
                let counted = words.find(|word| !matches!(word, Word::Property(_)));
                let one = noun.singular() == noun.plural() && counted == Some(&Word::Article);
                self.thing(noun, several && !one);
            }
            Word::Article | Word::Other => {}
        }
    }

    fn property(&mut self, attribute: Attribute, before: &[Word], after: &[Word]) {
        let mut words = after.iter();
        let next = words.find(|word| !matches!(word, Word::Property(_)));
        if let Some(Word::Thing { .. }) = next {
            let denied = before.last() == Some(&Word::Not);
            if denied {
                self.denied = false;
            }
            self.before.push((attribute, denied));
        } else if let Some(noun) = self.last {
            let denied = std::mem::take(&mut self.denied);
            self.ask_attribute(noun, attribute, denied);
        }
    }

    fn thing(&mut self, noun: Noun, several: bool) {
        let denied = std::mem::take(&mut self.denied);
        let properties = std::mem::take(&mut self.before);
        let worn = match noun {
            Noun::Kind(kind) if kind.traits().zone == Zone::Person => Some(kind),
            _ => None,
        };
        if let (Some(kind), Some(person)) = (worn, self.person) {
            let colour = properties.iter().find_map(|property| match property {
                (Attribute::Colour(colour), false) => Some(*colour),
                _ => None,
            });
            self.ask_attribute(person, Attribute::Wears(kind, colour), denied);
            return;
        }
        // "no red chairs" says nothing of blue ones.
        if !denied || properties.is_empty() {
            let text = existence_question(noun, self.place, several);
            self.ask(text, denied, QuestionKind::Existence);
        }
        for (attribute, not) in properties {
            self.ask_attribute(noun, attribute, denied || not);
        }
        self.last = Some(noun);
        if noun.is_human() {
            self.person = Some(noun);
        }
    }

    fn ask_attribute(&mut self, noun: Noun, attribute: Attribute, denied: bool) {
        let kind = match attribute {
            Attribute::Colour(_) | Attribute::Size(_) => QuestionKind::Colour,
            Attribute::State(_) => QuestionKind::State,
            Attribute::Wears(..) => QuestionKind::Worn,
        };
        self.ask(attribute_question(noun, attribute), denied, kind);
    }

    fn ask(&mut self, text: String, denied: bool, kind: QuestionKind) {
        if self.asked.iter().any(|question| question.text == text) {
            return;
        }
        self.asked.push(Question {
            text,
            answer: if denied { "no" } else { "yes" }.to_owned(),
            kind,
            grounded: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{affirmative_prompts, full_caption, negation_prompts};
    use super::*;
    use crate::scene::Scene;

    fn asked(prompt: &str) -> Vec<(String, String)> {
        let questions = prompt_questions(prompt).into_iter();
        questions.map(|asked| (asked.text, asked.answer)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |&(text, answer): &(&str, &str)| (text.to_owned(), answer.to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn every_test_prompt_is_asked_its_own_two_questions() {
        for prompt in negation_prompts() {
            let expected = [(&*prompt.question1, "yes"), (&*prompt.question2, "no")];
            assert_eq!(asked(&prompt.prompt), pairs(&expected), "{}", prompt.prompt);
        }
    }

    #[test]
    fn a_negation_reaches_as_far_as_the_next_thing() {
        for (prompt, expected) in [
            (
                "A room with no chairs, and a table!",
                &[
                    ("Is this a room?", "yes"),
                    ("Are there chairs in the room?", "no"),
                    ("Is there a table in the room?", "yes"),
                ][..],
            ),
            (
                "a dog that isn't running beside a white cat",
                &[
                    ("Is there a dog?", "yes"),
                    ("Is the dog running?", "no"),
                    ("Is there a cat?", "yes"),
                    ("Is the cat white?", "yes"),
                ],
            ),
            (
                "a sitting woman not in blue with a red hat but without a black bag",
                &[
                    ("Is there a woman?", "yes"),
                    ("Is the woman sitting?", "yes"),
                    ("Is the woman dressed in blue?", "no"),
                    ("Is the woman wearing a red hat?", "yes"),
                    ("Is the woman holding a black bag?", "no"),
                ],
            ),
            (
                "a street with no red cars",
                &[("Is this a street?", "yes"), ("Is the car red?", "no")],
            ),
            (
                "two sheep and a sheep",
                &[("Are there sheep?", "yes"), ("Is there a sheep?", "yes")],
            ),
            ("an astronaut without a helmet on the moon", &[]),
            ("no", &[]),
            ("red", &[]),
            ("", &[]),
        ] {
            assert_eq!(asked(prompt), pairs(expected), "{prompt}");
        }
    }

    #[test]
    fn what_is_affirmed_is_wanted() {
        for prompt in affirmative_prompts(3, 400) {
            let questions = asked(&prompt.prompt);
            assert!(questions.iter().all(|(_, answer)| answer == "yes"));
            let holds = |text: String| questions.iter().any(|(asked, _)| *asked == text);
            for thing in &prompt.things {
                let noun = Noun::Kind(thing.kind);
                let places = [None, prompt.place];
                let existence = places.iter().any(|&place| {
                    let one = existence_question(noun, place, false);
                    holds(one) || holds(existence_question(noun, place, true))
                });
                assert!(existence, "{}: {questions:?}", prompt.prompt);
                let colour = thing.colour.map(Attribute::Colour);
                let worn = thing.worn.iter();
                let worn = worn.map(|worn| Attribute::Wears(worn.kind, worn.colour));
                let state = thing.state.map(Attribute::State);
                for attribute in colour.into_iter().chain(state).chain(worn) {
                    let text = attribute_question(noun, attribute);
                    assert!(holds(text), "{}: {questions:?}", prompt.prompt);
                }
            }
        }
        for seed in 0..400 {
            let caption = full_caption(&Scene::sample(seed));
            let questions = asked(&caption);
            assert!(!questions.is_empty(), "{caption}");
            assert!(questions.iter().all(|(_, answer)| answer == "yes"));
        }
    }
}
