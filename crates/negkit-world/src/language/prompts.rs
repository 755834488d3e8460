//! Prompts for pictures that are yet to be painted, and the questions that check them.

use std::collections::HashSet;
use std::sync::LazyLock;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::captions::{Negated, worn_kinds};
use super::description::{Attribute, Description, Determiner, NegationWord, Noun};
use super::grammar::{indefinite, join, with_article};
use super::questions::{
    attribute_question, colour_question, existence_question, place_question, worn_colour_question,
};
use crate::catalog::{Colour, Kind, Place, State, Zone};
use crate::scene::{Thing, Worn};

/// What the negation of a prompt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegationKind {
    /// Something is not there.
    Object,
    /// Something does not have a colour.
    Attribute,
    /// Something does not do or is not in the state.
    Action,
    /// Somebody does not wear or hold something.
    Worn,
}

/// A prompt with a negation and the two questions that a picture for it must answer with "yes"
/// and "no". Its serialized form is a record of the published list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NegationPrompt {
    /// The prompt.
    pub prompt: String,
    /// Asks whether what is affirmed is there; "yes" is right.
    pub question1: String,
    /// Asks whether what is denied is there; "no" is right.
    pub question2: String,
    /// What the negation is about.
    #[serde(skip)]
    pub kind: NegationKind,
    /// What it denies.
    #[serde(skip)]
    pub negated: Negated,
    /// The place that is affirmed, if one is.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// The turns in which a place lacks something.
#[derive(Debug, Clone, Copy)]
enum Lack {
    /// "with no window"
    NoOne,
    /// "with no benches"
    NoSeveral,
    /// "without a fridge"
    WithoutOne,
    /// "without chairs"
    WithoutSeveral,
    /// "without any umbrellas"
    WithoutAny,
}

/// The 107 prompts with a negation that pictures are painted for.
///
/// The published list has 107 as well, and these hold its turns in its proportions: 45 "with no",
/// 29 "without" (8 of them "without any"), 33 "not" (2 colours, 5 worn, 5 held, 21 states).
/// They are a test: training texts leave them out ([`is_test_prompt`]).
pub fn negation_prompts() -> Vec<NegationPrompt> {
    let mut all = Vec::new();
    all.extend(
        PLACES_WITHOUT
            .iter()
            .map(|&(place, noun, lack)| lacking_place(place, noun, lack)),
    );
    all.extend(
        PEOPLE_WITHOUT
            .iter()
            .map(|&(noun, kind, word)| lacking_person(noun, kind, word)),
    );
    all.extend(NOT_IN_STATE.iter().map(|&(noun, state)| {
        let attribute = Attribute::State(state);
        NegationPrompt {
            prompt: format!("{} not {state}", with_article(noun.singular())),
            question1: existence_question(noun, None, false),
            question2: attribute_question(noun, attribute),
            kind: NegationKind::Action,
            negated: Negated::Attribute(noun, attribute),
            place: None,
        }
    }));
    all.extend(NOT_OF_COLOUR.iter().map(|&(kind, colour)| {
        let (noun, attribute) = (Noun::Kind(kind), Attribute::Colour(colour));
        NegationPrompt {
            prompt: format!("a not {colour} {kind}"),
            question1: existence_question(noun, None, false),
            question2: attribute_question(noun, attribute),
            kind: NegationKind::Attribute,
            negated: Negated::Attribute(noun, attribute),
            place: None,
        }
    }));
    all
}

fn lacking_place(place: Place, noun: Noun, lack: Lack) -> NegationPrompt {
    let (one, several) = (noun.singular(), noun.plural());
    let (words, plural) = match lack {
        Lack::NoOne => (format!("with no {one}"), false),
        Lack::NoSeveral => (format!("with no {several}"), true),
        Lack::WithoutOne => (format!("without {}", with_article(one)), false),
        Lack::WithoutSeveral => (format!("without {several}"), true),
        Lack::WithoutAny => (format!("without any {several}"), true),
    };
    NegationPrompt {
        prompt: format!("{} {words}", with_article(place.name())),
        question1: place_question(place),
        question2: existence_question(noun, Some(place), plural),
        kind: NegationKind::Object,
        negated: Negated::Object(noun),
        place: Some(place),
    }
}

fn lacking_person(noun: Noun, kind: Kind, word: NegationWord) -> NegationPrompt {
    let one = indefinite(kind);
    let words = match word {
        NegationWord::No => format!("with no {kind}"),
        NegationWord::Without => format!("without {one}"),
        NegationWord::Not => match kind {
            Kind::Hat | Kind::Glasses => format!("not wearing {one}"),
            _ => format!("not holding {one}"),
        },
    };
    let attribute = Attribute::Wears(kind, None);
    NegationPrompt {
        prompt: format!("{} {words}", with_article(noun.singular())),
        question1: existence_question(noun, None, false),
        question2: attribute_question(noun, attribute),
        kind: NegationKind::Worn,
        negated: Negated::Attribute(noun, attribute),
        place: None,
    }
}

const fn kind(kind: Kind) -> Noun {
    Noun::Kind(kind)
}

const PLACES_WITHOUT: &[(Place, Noun, Lack)] = &[
    // 39 "with no".
    (Place::Room, kind(Kind::Window), Lack::NoOne),
    (Place::Room, kind(Kind::Sofa), Lack::NoOne),
    (Place::Room, kind(Kind::Television), Lack::NoOne),
    (Place::Room, kind(Kind::Chair), Lack::NoSeveral),
    (Place::Room, kind(Kind::Painting), Lack::NoSeveral),
    (Place::Kitchen, kind(Kind::Fridge), Lack::NoOne),
    (Place::Kitchen, kind(Kind::Window), Lack::NoOne),
    (Place::Kitchen, kind(Kind::Chair), Lack::NoSeveral),
    (Place::Kitchen, kind(Kind::Table), Lack::NoOne),
    (Place::Bathroom, kind(Kind::Toilet), Lack::NoOne),
    (Place::Bathroom, kind(Kind::Mirror), Lack::NoOne),
    (Place::Bathroom, kind(Kind::Bathtub), Lack::NoOne),
    (Place::Bedroom, kind(Kind::Bed), Lack::NoOne),
    (Place::Bedroom, kind(Kind::Lamp), Lack::NoSeveral),
    (Place::Bedroom, kind(Kind::Window), Lack::NoSeveral),
    (Place::Office, kind(Kind::Table), Lack::NoSeveral),
    (Place::Office, kind(Kind::Clock), Lack::NoOne),
    (Place::Office, kind(Kind::Bookcase), Lack::NoOne),
    (Place::Office, Noun::Person, Lack::NoSeveral),
    (Place::Street, kind(Kind::Car), Lack::NoSeveral),
    (Place::Street, Noun::Person, Lack::NoSeveral),
    (Place::Street, kind(Kind::Bus), Lack::NoOne),
    (Place::Street, kind(Kind::House), Lack::NoSeveral),
    (Place::Park, kind(Kind::Bench), Lack::NoSeveral),
    (Place::Park, kind(Kind::Tree), Lack::NoSeveral),
    (Place::Park, kind(Kind::Kite), Lack::NoSeveral),
    (Place::Beach, kind(Kind::Boat), Lack::NoSeveral),
    (Place::Beach, Noun::Person, Lack::NoSeveral),
    (Place::Beach, kind(Kind::Rock), Lack::NoSeveral),
    (Place::Garden, kind(Kind::Flower), Lack::NoSeveral),
    (Place::Garden, kind(Kind::Bench), Lack::NoOne),
    (Place::Farm, Noun::Animal, Lack::NoSeveral),
    (Place::Farm, kind(Kind::Cow), Lack::NoSeveral),
    (Place::Farm, kind(Kind::House), Lack::NoOne),
    (Place::Forest, Noun::Animal, Lack::NoSeveral),
    (Place::Forest, kind(Kind::Tent), Lack::NoOne),
    (Place::Forest, kind(Kind::Tree), Lack::NoSeveral),
    (Place::Harbor, kind(Kind::Boat), Lack::NoSeveral),
    (Place::Harbor, kind(Kind::Bird), Lack::NoSeveral),
    // 24 "without".
    (Place::Room, kind(Kind::Plant), Lack::WithoutSeveral),
    (Place::Room, kind(Kind::Lamp), Lack::WithoutOne),
    (Place::Room, kind(Kind::Table), Lack::WithoutAny),
    (Place::Kitchen, kind(Kind::Oven), Lack::WithoutOne),
    (Place::Kitchen, kind(Kind::Clock), Lack::WithoutOne),
    (Place::Bathroom, kind(Kind::Sink), Lack::WithoutOne),
    (Place::Bathroom, kind(Kind::Window), Lack::WithoutSeveral),
    (Place::Bedroom, kind(Kind::Painting), Lack::WithoutSeveral),
    (Place::Bedroom, kind(Kind::Chair), Lack::WithoutAny),
    (Place::Office, kind(Kind::Chair), Lack::WithoutSeveral),
    (Place::Office, kind(Kind::Plant), Lack::WithoutAny),
    (Place::Street, kind(Kind::Bicycle), Lack::WithoutSeveral),
    (Place::Street, Noun::Vehicle, Lack::WithoutAny),
    (Place::Street, kind(Kind::Cloud), Lack::WithoutSeveral),
    (Place::Park, kind(Kind::Dog), Lack::WithoutSeveral),
    (Place::Park, Noun::Person, Lack::WithoutSeveral),
    (Place::Beach, kind(Kind::Umbrella), Lack::WithoutAny),
    (Place::Beach, kind(Kind::Ball), Lack::WithoutSeveral),
    (Place::Garden, kind(Kind::Tree), Lack::WithoutAny),
    (Place::Garden, kind(Kind::Cat), Lack::WithoutSeveral),
    (Place::Farm, kind(Kind::Horse), Lack::WithoutAny),
    (Place::Farm, kind(Kind::Sheep), Lack::WithoutSeveral),
    (Place::Forest, kind(Kind::Rock), Lack::WithoutSeveral),
    (Place::Harbor, kind(Kind::Cloud), Lack::WithoutAny),
];

const PEOPLE_WITHOUT: &[(Noun, Kind, NegationWord)] = &[
    // 6 "with no".
    (kind(Kind::Man), Kind::Hat, NegationWord::No),
    (kind(Kind::Woman), Kind::Bag, NegationWord::No),
    (kind(Kind::Woman), Kind::Umbrella, NegationWord::No),
    (kind(Kind::Man), Kind::Glasses, NegationWord::No),
    (Noun::Person, Kind::Bag, NegationWord::No),
    (Noun::Person, Kind::Umbrella, NegationWord::No),
    // 5 "without".
    (kind(Kind::Woman), Kind::Glasses, NegationWord::Without),
    (kind(Kind::Woman), Kind::Hat, NegationWord::Without),
    (kind(Kind::Man), Kind::Umbrella, NegationWord::Without),
    (kind(Kind::Man), Kind::Bag, NegationWord::Without),
    (Noun::Person, Kind::Hat, NegationWord::Without),
    // 5 not worn, 5 not held.
    (kind(Kind::Man), Kind::Hat, NegationWord::Not),
    (kind(Kind::Man), Kind::Glasses, NegationWord::Not),
    (kind(Kind::Woman), Kind::Hat, NegationWord::Not),
    (kind(Kind::Woman), Kind::Glasses, NegationWord::Not),
    (Noun::Person, Kind::Glasses, NegationWord::Not),
    (kind(Kind::Man), Kind::Umbrella, NegationWord::Not),
    (kind(Kind::Man), Kind::Bag, NegationWord::Not),
    (kind(Kind::Woman), Kind::Umbrella, NegationWord::Not),
    (kind(Kind::Woman), Kind::Bag, NegationWord::Not),
    (Noun::Person, Kind::Umbrella, NegationWord::Not),
];

const NOT_IN_STATE: &[(Noun, State)] = &[
    (kind(Kind::Dog), State::Running),
    (kind(Kind::Dog), State::Sitting),
    (kind(Kind::Dog), State::Standing),
    (kind(Kind::Cat), State::Sitting),
    (kind(Kind::Cat), State::Running),
    (kind(Kind::Bird), State::Flying),
    (kind(Kind::Bird), State::Perched),
    (kind(Kind::Horse), State::Running),
    (kind(Kind::Horse), State::Standing),
    (kind(Kind::Cow), State::Running),
    (kind(Kind::Sheep), State::Standing),
    (kind(Kind::Man), State::Sitting),
    (kind(Kind::Man), State::Running),
    (kind(Kind::Woman), State::Sitting),
    (kind(Kind::Woman), State::Standing),
    (Noun::Person, State::Running),
    (kind(Kind::Car), State::Parked),
    (kind(Kind::Car), State::Moving),
    (kind(Kind::Bus), State::Moving),
    (kind(Kind::Truck), State::Parked),
    (kind(Kind::Bicycle), State::Moving),
];

const NOT_OF_COLOUR: &[(Kind, Colour)] = &[(Kind::Cat, Colour::White), (Kind::Ball, Colour::Blue)];

/// Whether the words are one of the [`negation_prompts`], which no training text may be.
pub fn is_test_prompt(text: &str) -> bool {
    static TEXTS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let prompts = negation_prompts().into_iter();
        prompts.map(|prompt| prompt.prompt).collect()
    });
    TEXTS.contains(text.trim().trim_end_matches('.').to_lowercase().as_str())
}

/// One thing that an affirmative prompt names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedThing {
    /// Its kind.
    pub kind: Kind,
    /// How many there are to be.
    pub count: usize,
    /// The colour, if it is told.
    pub colour: Option<Colour>,
    /// The state, if it is told.
    pub state: Option<State>,
    /// What it wears or holds, with the colours that are told.
    pub worn: Vec<Worn>,
}

impl NamedThing {
    /// Whether the thing is as it was asked for.
    pub fn matches(&self, thing: &Thing) -> bool {
        self.description().matches(thing)
    }

    fn description(&self) -> Description {
        let mut description = Description::new(Noun::Kind(self.kind));
        if let Some(colour) = self.colour {
            description = description.with(Attribute::Colour(colour));
        }
        if let Some(state) = self.state {
            description = description.with(Attribute::State(state));
        }
        for worn in &self.worn {
            description = description.with(Attribute::Wears(worn.kind, worn.colour));
        }
        description
    }
}

/// A prompt without a negation, and what a picture for it must show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffirmativePrompt {
    /// The prompt.
    pub prompt: String,
    /// The place, if it is named.
    pub place: Option<Place>,
    /// The things.
    pub things: Vec<NamedThing>,
}

/// Prompts without a negation: a place (mostly) and one or two sorts of things likely there, some
/// with a colour, a state, a number, or something worn. The same for the same seed; prompt `i` does
/// not depend on `count`.
pub fn affirmative_prompts(seed: u64, count: usize) -> Vec<AffirmativePrompt> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| affirmative_prompt(&mut rng)).collect()
}

fn affirmative_prompt(rng: &mut ChaCha8Rng) -> AffirmativePrompt {
    let place = *Place::ALL.choose(rng).unwrap_or(&Place::Room);
    let wanted = if rng.random_bool(0.6) { 1 } else { 2 };
    let mut things: Vec<NamedThing> = Vec::new();
    while things.len() < wanted {
        let likely: Vec<(Kind, f32)> = place
            .likely()
            .iter()
            .map(|&(kind, weight)| match kind.traits().zone {
                Zone::Ground => (kind, weight),
                _ => (kind, 0.5 * weight),
            })
            .filter(|&(kind, _)| things.iter().all(|thing| thing.kind != kind))
            .collect();
        let Ok(&(kind, _)) = likely.choose_weighted(rng, |&(_, weight)| weight) else {
            break;
        };
        things.push(named_thing(kind, wanted == 1, rng));
    }
    let named_place = rng.random_bool(0.85);
    let texts: Vec<String> = things
        .iter()
        .map(|thing| {
            let determiner = match thing.count {
                1 => Determiner::Indefinite,
                count => Determiner::Count(count),
            };
            thing.description().text(determiner, NegationWord::Not, rng)
        })
        .collect();
    let listed = join(&texts);
    let a_place = with_article(place.name());
    let prompt = match (named_place, rng.random_bool(0.5)) {
        (false, _) => listed,
        (true, false) => format!("{listed} {} {a_place}", place.preposition()),
        (true, true) => format!("{a_place} with {listed}"),
    };
    AffirmativePrompt {
        prompt,
        place: named_place.then_some(place),
        things,
    }
}

fn named_thing(kind: Kind, alone: bool, rng: &mut ChaCha8Rng) -> NamedThing {
    let traits = kind.traits();
    // Two of what is half as wide as the picture would not fit.
    let countable = alone && kind != Kind::Sun && traits.width <= 0.4;
    let count = if countable && rng.random_bool(0.2) {
        2
    } else {
        1
    };
    let colour = traits.colours.choose(rng).copied();
    let state = traits.states.choose(rng).copied();
    let mut worn = Vec::new();
    if kind.is_person()
        && count == 1
        && rng.random_bool(0.5)
        && let Some(&worn_kind) = worn_kinds().collect::<Vec<_>>().choose(rng)
    {
        let colour = worn_kind.traits().colours.choose(rng).copied();
        worn.push(Worn {
            kind: worn_kind,
            colour: colour.filter(|_| rng.random_bool(0.4)),
        });
    }
    NamedThing {
        kind,
        count,
        colour: colour.filter(|_| rng.random_bool(0.55)),
        state: state.filter(|_| rng.random_bool(0.4)),
        worn,
    }
}

/// A question of TIFA about a picture for a prompt, a record of its `question_answers` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TifaQuestion {
    /// The prompt's id.
    pub id: String,
    /// The prompt.
    pub caption: String,
    /// The question.
    pub question: String,
    /// The answers to choose from.
    pub choices: Vec<String>,
    /// The right one.
    pub answer: String,
    /// TIFA's category: "object", "animal/human", "location", "activity", "color", "counting".
    pub element_type: String,
    /// The word of the prompt that is asked about.
    pub element: String,
}

/// A prompt of TIFA with its questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TifaItem {
    /// Its id, "world_0" and so on.
    pub id: String,
    /// The prompt.
    pub caption: String,
    /// The questions on it; a picture that shows the prompt gets all right.
    pub questions: Vec<TifaQuestion>,
    /// What the prompt names.
    #[serde(skip)]
    pub prompt: Option<AffirmativePrompt>,
}

/// Affirmative prompts with questions in TIFA's form. The same for the same seed.
pub fn tifa_items(seed: u64, count: usize) -> Vec<TifaItem> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let prompts: Vec<AffirmativePrompt> =
        (0..count).map(|_| affirmative_prompt(&mut rng)).collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut items = Vec::new();
    for prompt in prompts {
        let mut prompt = prompt;
        // Twice the same prompt would count twice; new ones do not run out.
        for _ in 0..1000 {
            if seen.insert(prompt.prompt.clone()) {
                break;
            }
            prompt = affirmative_prompt(&mut rng);
        }
        let id = format!("world_{}", items.len());
        items.push(TifaItem {
            questions: tifa_questions(&id, &prompt, &mut rng),
            id,
            caption: prompt.prompt.clone(),
            prompt: Some(prompt),
        });
    }
    items
}

/// Puts the right answer among up to three wrong ones.
fn choices(
    right: &str,
    wrong: impl IntoIterator<Item = &'static str>,
    rng: &mut ChaCha8Rng,
) -> Vec<String> {
    let mut others: Vec<&str> = wrong.into_iter().filter(|&other| other != right).collect();
    others.shuffle(rng);
    others.truncate(3);
    let mut all: Vec<String> = others.into_iter().map(str::to_owned).collect();
    all.push(right.to_owned());
    all.shuffle(rng);
    all
}

fn yes_no() -> Vec<String> {
    vec!["yes".to_owned(), "no".to_owned()]
}

fn tifa_questions(id: &str, prompt: &AffirmativePrompt, rng: &mut ChaCha8Rng) -> Vec<TifaQuestion> {
    let mut all: Vec<TifaQuestion> = Vec::new();
    let mut ask =
        |question: String, choices: Vec<String>, answer: &str, sort: &str, element: &str| {
            all.push(TifaQuestion {
                id: id.to_owned(),
                caption: prompt.prompt.clone(),
                question: question.to_lowercase(),
                choices,
                answer: answer.to_owned(),
                element_type: sort.to_owned(),
                element: element.to_owned(),
            });
        };
    if let Some(place) = prompt.place {
        ask(
            place_question(place),
            yes_no(),
            "yes",
            "location",
            place.name(),
        );
        let others = Place::ALL
            .iter()
            .filter(|other| super::questions::places_differ(place, **other))
            .map(|other| other.name());
        let offered = choices(place.name(), others, rng);
        ask(
            "What place is this?".to_owned(),
            offered,
            place.name(),
            "location",
            place.name(),
        );
    }
    for thing in &prompt.things {
        let noun = Noun::Kind(thing.kind);
        let name = noun.singular();
        let living = thing.kind.is_person() || thing.kind.is_animal();
        let sort = if living { "animal/human" } else { "object" };
        let several = thing.count > 1;
        ask(
            existence_question(noun, None, several),
            yes_no(),
            "yes",
            sort,
            name,
        );
        if thing.kind.is_animal() {
            let others = Kind::ALL.iter().filter(|kind| kind.is_animal());
            let offered = choices(name, others.map(|kind| kind.name()), rng);
            ask(
                "What animal is in the picture?".to_owned(),
                offered,
                name,
                sort,
                name,
            );
        }
        if several {
            let right = thing.count.to_string();
            let offered = choices(&right, ["1", "2", "3", "4"], rng);
            let question = format!("How many {} are there?", noun.plural());
            ask(question, offered, &right, "counting", &right);
        }
        if let Some(colour) = thing.colour {
            let offered = choices(colour.name(), Colour::ALL.iter().map(|c| c.name()), rng);
            ask(
                colour_question(noun),
                offered,
                colour.name(),
                "color",
                colour.name(),
            );
            let question = attribute_question(noun, Attribute::Colour(colour));
            ask(question, yes_no(), "yes", "color", colour.name());
        }
        if let Some(state) = thing.state {
            let question = attribute_question(noun, Attribute::State(state));
            ask(question, yes_no(), "yes", "activity", state.name());
            if living {
                let states = thing.kind.traits().states.iter().map(|state| state.name());
                let offered = choices(state.name(), states, rng);
                let question = format!("What is the {name} doing?");
                ask(question, offered, state.name(), "activity", state.name());
            }
        }
        for worn in &thing.worn {
            let question = attribute_question(noun, Attribute::Wears(worn.kind, None));
            ask(question, yes_no(), "yes", "object", worn.kind.name());
            if let Some(colour) = worn.colour {
                let offered = choices(colour.name(), Colour::ALL.iter().map(|c| c.name()), rng);
                let question = worn_colour_question(noun, worn.kind);
                ask(question, offered, colour.name(), "color", colour.name());
            }
        }
    }
    all
}
