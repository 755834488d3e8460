//! Questions about a scene with their answers, in the forms of VQA, TIFA and Neg Score.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::captions::{absent_kind, contains, possible_attributes, worn_kinds};
use super::description::{Attribute, Noun, size_word};
use super::grammar::{indefinite_coloured, number_word, with_article};
use crate::catalog::{Colour, Kind, Place, State};
use crate::scene::{Scene, Thing};

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// Whether something is there.
    Existence,
    /// Which place it is.
    Place,
    /// A colour.
    Colour,
    /// What somebody does, or the state of a vehicle.
    State,
    /// How many there are.
    Count,
    /// What somebody wears or holds.
    Worn,
    /// Which object of a sort it is.
    Object,
}

/// A question about a picture and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question, with its question mark.
    pub text: String,
    /// The answer, one of [`answer_vocabulary`].
    pub answer: String,
    /// What it asks for.
    pub kind: QuestionKind,
    /// Whether "the" thing that it speaks of is in the picture. Where it is not ("Is the man
    /// wearing a hat?" of a street without a man) the answer is "no", but no caption can be made
    /// of it.
    pub grounded: bool,
}

/// The largest number that is an answer.
const MOST: usize = 9;

/// Every answer that a question can have: "yes", "no", the digits, colours, states, places, kinds.
pub fn answer_vocabulary() -> Vec<&'static str> {
    const DIGITS: [&str; MOST + 1] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let mut all = vec!["yes", "no"];
    all.extend(DIGITS);
    all.extend(Colour::ALL.iter().map(|colour| colour.name()));
    all.extend(State::ALL.iter().map(|state| state.name()));
    all.extend(Place::ALL.iter().map(|place| place.name()));
    all.extend(Kind::ALL.iter().map(|kind| kind.name()));
    all.extend(["person", "animal", "vehicle"]);
    all
}

/// Questions about the scene, as many answered "yes" as "no" among those that can be, and a few
/// open ones; in random order.
///
/// A question about "the" man is asked where all men of the picture give the same answer, or
/// (rarely, answered "no") where there is none.
pub fn questions(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut closed = existence(scene, rng);
    closed.extend(place_checks(scene, rng));
    closed.extend(attribute_checks(scene, rng));
    closed.extend(count_checks(scene, rng));
    closed.shuffle(rng);
    let (mut yes, mut no): (Vec<Question>, Vec<Question>) = closed
        .into_iter()
        .partition(|question| question.answer == "yes");
    let each = yes.len().min(no.len()).min(6);
    yes.truncate(each);
    no.truncate(each);
    let mut open = open_questions(scene, rng);
    open.shuffle(rng);
    open.truncate(6);
    let mut all = yes;
    all.append(&mut no);
    all.append(&mut open);
    all.shuffle(rng);
    all
}

fn answered(text: String, answer: bool, kind: QuestionKind) -> Question {
    Question {
        text,
        answer: if answer { "yes" } else { "no" }.to_owned(),
        kind,
        grounded: true,
    }
}

fn open(text: String, answer: impl ToString, kind: QuestionKind) -> Question {
    Question {
        text,
        answer: answer.to_string(),
        kind,
        grounded: true,
    }
}

/// "in the room", "on the beach".
pub(super) fn in_the(place: Place) -> String {
    format!("{} the {place}", place.preposition())
}

/// "Is there a chair in the room?"; with `several`, "Are there chairs in the room?".
pub fn existence_question(noun: Noun, place: Option<Place>, several: bool) -> String {
    let place = place.map_or_else(String::new, |place| format!(" {}", in_the(place)));
    if several || noun == Noun::Kind(Kind::Glasses) {
        format!("Are there {}{place}?", noun.plural())
    } else {
        format!("Is there {}{place}?", with_article(noun.singular()))
    }
}

/// "Is this a room?"
pub fn place_question(place: Place) -> String {
    format!("Is this {}?", with_article(place.name()))
}

/// "Is the dog running?", "Is the cat white?", "Is the man wearing a hat?".
pub fn attribute_question(noun: Noun, attribute: Attribute) -> String {
    let name = noun.singular();
    match attribute {
        Attribute::Colour(colour) if noun.is_human() => {
            format!("Is the {name} dressed in {colour}?")
        }
        Attribute::Colour(colour) => format!("Is the {name} {colour}?"),
        Attribute::State(state) => format!("Is the {name} {state}?"),
        Attribute::Size(size) => format!("Is the {name} {}?", size_word(size)),
        Attribute::Wears(kind, colour) => {
            let verb = match kind {
                Kind::Hat | Kind::Glasses => "wearing",
                _ => "holding",
            };
            format!(
                "Is the {name} {verb} {}?",
                indefinite_coloured(kind, colour)
            )
        }
    }
}

fn existence_turn(noun: Noun, place: Place, rng: &mut ChaCha8Rng) -> String {
    let form = match noun {
        Noun::Kind(Kind::Sun) => rng.random_range(0..6),
        _ => rng.random_range(0..10),
    };
    match form {
        0..3 => existence_question(noun, None, false),
        3..6 => existence_question(noun, Some(place), false),
        6..8 => existence_question(noun, Some(place), true),
        8 => format!("Are there any {}?", noun.plural()),
        _ if noun == Noun::Kind(Kind::Glasses) => existence_question(noun, None, true),
        _ => format!("Is this {}?", with_article(noun.singular())),
    }
}

fn existence(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut all = Vec::new();
    let mut asked: Vec<Noun> = Vec::new();
    let mut present: Vec<Noun> = Vec::new();
    for thing in &scene.things {
        present.push(Noun::Kind(thing.kind));
        present.extend(Noun::general(thing.kind).filter(|_| rng.random_bool(0.3)));
        present.extend(thing.worn.iter().map(|worn| Noun::Kind(worn.kind)));
    }
    let mut absent: Vec<Noun> = Vec::new();
    for _ in 0..4 {
        absent.extend(absent_kind(scene, rng).map(Noun::Kind));
    }
    absent.extend(Kind::ALL.choose(rng).copied().map(Noun::Kind));
    absent.extend(
        worn_kinds()
            .map(Noun::Kind)
            .filter(|_| rng.random_bool(0.3)),
    );
    for noun in [Noun::Person, Noun::Animal, Noun::Vehicle] {
        if rng.random_bool(0.3) {
            absent.push(noun);
        }
    }
    absent.retain(|&noun| !contains(scene, noun));
    for noun in present.into_iter().chain(absent) {
        if asked.contains(&noun) {
            continue;
        }
        asked.push(noun);
        all.push(answered(
            existence_turn(noun, scene.place, rng),
            contains(scene, noun),
            QuestionKind::Existence,
        ));
    }
    all
}

fn place_checks(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut all = vec![answered(
        place_question(scene.place),
        true,
        QuestionKind::Place,
    )];
    if let Some(&other) = Place::ALL.choose(rng)
        && places_differ(scene.place, other)
    {
        all.push(answered(place_question(other), false, QuestionKind::Place));
    }
    all
}

/// Whether a picture of the one cannot be called the other: a kitchen is a room, too.
pub(super) fn places_differ(place: Place, other: Place) -> bool {
    place != other && !(other == Place::Room && place.indoors())
}

/// The answer that all things called so give, if there are any and they agree.
fn unanimous<T: PartialEq>(scene: &Scene, noun: Noun, answer: impl Fn(&Thing) -> T) -> Option<T> {
    let mut answers = scene
        .things
        .iter()
        .filter(|thing| noun.covers(thing.kind))
        .map(answer);
    let first = answers.next()?;
    answers.all(|other| other == first).then_some(first)
}

fn kind_of_question(attribute: Attribute) -> QuestionKind {
    match attribute {
        Attribute::Colour(_) | Attribute::Size(_) => QuestionKind::Colour,
        Attribute::State(_) => QuestionKind::State,
        Attribute::Wears(..) => QuestionKind::Worn,
    }
}

/// The nouns of the scene, each once, the general ones included.
fn nouns(scene: &Scene) -> Vec<Noun> {
    let mut all: Vec<Noun> = Vec::new();
    for thing in &scene.things {
        let names = [Some(Noun::Kind(thing.kind)), Noun::general(thing.kind)];
        for noun in names.into_iter().flatten() {
            if !all.contains(&noun) {
                all.push(noun);
            }
        }
    }
    all
}

fn attribute_checks(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut all = Vec::new();
    for noun in nouns(scene) {
        let Some(thing) = scene.things.iter().find(|thing| noun.covers(thing.kind)) else {
            continue;
        };
        let possible = possible_attributes(thing.kind);
        let (has, lacks): (Vec<Attribute>, Vec<Attribute>) = possible
            .into_iter()
            .partition(|attribute| attribute.holds(thing));
        // All that it has; of what it lacks, one of a sort so that "no" does not take over.
        let mut asked = has;
        for sort in [
            QuestionKind::Colour,
            QuestionKind::State,
            QuestionKind::Worn,
        ] {
            let of_sort: Vec<Attribute> = lacks
                .iter()
                .copied()
                .filter(|&attribute| kind_of_question(attribute) == sort)
                .collect();
            let count = if sort == QuestionKind::Worn { 2 } else { 1 };
            asked.extend(of_sort.choose_multiple(rng, count).copied());
        }
        for attribute in asked {
            let Some(answer) = unanimous(scene, noun, |thing| attribute.holds(thing)) else {
                continue;
            };
            let text = match attribute {
                Attribute::Wears(kind, _) if rng.random_bool(0.3) => format!(
                    "Does the {} have {}?",
                    noun.singular(),
                    indefinite_coloured(kind, None)
                ),
                _ => attribute_question(noun, attribute),
            };
            all.push(answered(text, answer, kind_of_question(attribute)));
        }
        for worn in &thing.worn {
            let Some(others) = worn.kind.traits().colours.choose(rng).copied() else {
                continue;
            };
            let colour = if rng.random_bool(0.5) {
                worn.colour
            } else {
                Some(others)
            };
            let attribute = Attribute::Wears(worn.kind, colour);
            if let Some(answer) = unanimous(scene, noun, |thing| attribute.holds(thing)) {
                all.push(answered(
                    attribute_question(noun, attribute),
                    answer,
                    QuestionKind::Worn,
                ));
            }
        }
    }
    // About somebody who is not there nothing is true.
    if rng.random_bool(0.3)
        && let Some(kind) = absent_kind(scene, rng)
        && let Some(&attribute) = possible_attributes(kind).choose(rng)
    {
        all.push(Question {
            grounded: false,
            ..answered(
                attribute_question(Noun::Kind(kind), attribute),
                false,
                kind_of_question(attribute),
            )
        });
    }
    all
}

fn count_checks(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let mut all = Vec::new();
    for noun in nouns(scene) {
        let count = count_of(scene, noun);
        let asked = if rng.random_bool(0.5) {
            count
        } else if count > 2 && rng.random_bool(0.5) {
            count - 1
        } else {
            count + 1
        };
        if asked > 1 && noun != Noun::Kind(Kind::Sun) && rng.random_bool(0.5) {
            all.push(answered(
                format!("Are there {} {}?", number_word(asked), noun.plural()),
                asked == count,
                QuestionKind::Count,
            ));
        }
    }
    all
}

fn count_of(scene: &Scene, noun: Noun) -> usize {
    scene
        .things
        .iter()
        .filter(|thing| noun.covers(thing.kind))
        .count()
}

fn open_questions(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Question> {
    let where_to = ["What place is this?", "Where is this?"];
    let mut all = vec![open(
        where_to.choose(rng).unwrap_or(&where_to[0]).to_string(),
        scene.place,
        QuestionKind::Place,
    )];
    for noun in nouns(scene) {
        let name = noun.singular();
        if let Some(Some(colour)) = unanimous(scene, noun, |thing| thing.colour) {
            all.push(open(colour_question(noun), colour, QuestionKind::Colour));
        }
        if let Some(Some(state)) = unanimous(scene, noun, |thing| thing.state) {
            let vehicle = matches!(state, State::Parked | State::Moving);
            let text = if vehicle {
                format!("Is the {name} parked or moving?")
            } else {
                format!("What is the {name} doing?")
            };
            all.push(open(text, state, QuestionKind::State));
        }
        let count = count_of(scene, noun);
        if count <= MOST && noun != Noun::Kind(Kind::Sun) {
            all.push(open(
                format!("How many {} are there?", noun.plural()),
                count,
                QuestionKind::Count,
            ));
        }
        if noun.is_human() {
            all.extend(worn_questions(scene, noun));
        }
        if let Noun::Person | Noun::Animal | Noun::Vehicle = noun
            && let Some(kind) = unanimous(scene, noun, |thing| thing.kind)
        {
            let text = match noun {
                Noun::Person => "Is the person a man or a woman?".to_owned(),
                _ if rng.random_bool(0.5) => format!("What {name} is this?"),
                _ => format!("What {name} is in the picture?"),
            };
            all.push(open(text, kind, QuestionKind::Object));
        }
    }
    if rng.random_bool(0.3)
        && let Some(kind) = absent_kind(scene, rng)
        && kind != Kind::Sun
    {
        all.push(open(
            format!("How many {} are there?", kind.traits().plural),
            0,
            QuestionKind::Count,
        ));
    }
    all
}

/// "What color is the chair?", of people "What color is the man dressed in?".
pub fn colour_question(noun: Noun) -> String {
    let name = noun.singular();
    if noun.is_human() {
        format!("What color is the {name} dressed in?")
    } else {
        format!("What color is the {name}?")
    }
}

/// "What color is the man's hat?"
pub fn worn_colour_question(noun: Noun, kind: Kind) -> String {
    format!("What color is the {}'s {kind}?", noun.singular())
}

fn worn_questions(scene: &Scene, noun: Noun) -> Vec<Question> {
    let mut all = Vec::new();
    let name = noun.singular();
    for (verb, pair) in [
        ("wearing", [Kind::Hat, Kind::Glasses]),
        ("holding", [Kind::Umbrella, Kind::Bag]),
    ] {
        let only = |thing: &Thing| match pair.map(|kind| thing.wears(kind)) {
            [true, false] => Some(pair[0]),
            [false, true] => Some(pair[1]),
            _ => None,
        };
        if let Some(Some(kind)) = unanimous(scene, noun, only) {
            all.push(open(
                format!("What is the {name} {verb}?"),
                kind,
                QuestionKind::Worn,
            ));
        }
    }
    for kind in worn_kinds() {
        let colour = |thing: &Thing| {
            thing
                .worn
                .iter()
                .find(|worn| worn.kind == kind)
                .and_then(|worn| worn.colour)
        };
        if let Some(Some(colour)) = unanimous(scene, noun, colour) {
            all.push(open(
                worn_colour_question(noun, kind),
                colour,
                QuestionKind::Colour,
            ));
        }
    }
    all
}
