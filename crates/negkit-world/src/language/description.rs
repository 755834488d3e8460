//! A noun with properties: the words for a thing, and the test whether a thing is meant.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::grammar::{indefinite_coloured, number_word, with_article};
use crate::catalog::{Colour, Kind, State};
use crate::scene::{Size, Thing};

/// What a thing is called: its kind, or a word for several kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noun {
    /// The kind's own name.
    Kind(Kind),
    /// A man or a woman.
    Person,
    /// Any animal.
    Animal,
    /// Any vehicle.
    Vehicle,
}

impl Noun {
    /// Whether things of that kind are called so.
    pub fn covers(self, kind: Kind) -> bool {
        match self {
            Self::Kind(own) => own == kind,
            Self::Person => kind.is_person(),
            Self::Animal => kind.is_animal(),
            Self::Vehicle => kind.is_vehicle(),
        }
    }

    /// The word for one.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Person => "person",
            Self::Animal => "animal",
            Self::Vehicle => "vehicle",
        }
    }

    /// The word for several.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.traits().plural,
            Self::Person => "people",
            Self::Animal => "animals",
            Self::Vehicle => "vehicles",
        }
    }

    /// The more general word for things of that kind, if there is one.
    pub fn general(kind: Kind) -> Option<Self> {
        [Self::Person, Self::Animal, Self::Vehicle]
            .into_iter()
            .find(|noun| noun.covers(kind))
    }

    /// Whether it means people: they are "who", not "that", and are dressed in their colour.
    pub fn is_human(self) -> bool {
        match self {
            Self::Kind(kind) => kind.is_person(),
            Self::Person => true,
            _ => false,
        }
    }
}

/// Something that a thing may have or be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// Its colour; of a person, of the clothes.
    Colour(Colour),
    /// Its state.
    State(State),
    /// Its size, where that is not the normal one.
    Size(Size),
    /// What it wears or holds, and in which colour if that is said.
    Wears(Kind, Option<Colour>),
}

impl Attribute {
    /// Whether the thing has it.
    pub fn holds(self, thing: &Thing) -> bool {
        match self {
            Self::Colour(colour) => thing.colour == Some(colour),
            Self::State(state) => thing.state == Some(state),
            Self::Size(size) => thing.size == size,
            Self::Wears(kind, colour) => thing
                .worn
                .iter()
                .any(|worn| worn.kind == kind && (colour.is_none() || worn.colour == colour)),
        }
    }
}

/// An attribute, or that it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Property {
    /// The attribute.
    pub attribute: Attribute,
    /// Whether the thing must *not* have it.
    pub negated: bool,
}

impl Property {
    /// Whether it is true of the thing.
    pub fn holds(self, thing: &Thing) -> bool {
        self.attribute.holds(thing) != self.negated
    }
}

/// The words that a negation is made with, as in the expressions of RefCOCOg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NegationWord {
    /// "with no hat"
    No,
    /// "not wearing a hat"
    Not,
    /// "without a hat"
    Without,
}

/// What stands before a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determiner {
    /// Nothing.
    Bare,
    /// "a", "an"; nothing before "glasses", "the" before "sun".
    Indefinite,
    /// "the"
    Definite,
    /// A number, and the noun in the plural if it is above one.
    Count(usize),
}

/// A noun and properties that together mean things of a scene.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What the things are called.
    pub noun: Noun,
    /// What is true of all of them.
    pub properties: Vec<Property>,
}

impl Description {
    /// The noun alone.
    pub fn new(noun: Noun) -> Self {
        Self {
            noun,
            properties: Vec::new(),
        }
    }

    /// The same with an attribute that the things have.
    #[must_use]
    pub fn with(mut self, attribute: Attribute) -> Self {
        self.properties.push(Property {
            attribute,
            negated: false,
        });
        self
    }

    /// The same with an attribute that the things do not have.
    #[must_use]
    pub fn without(mut self, attribute: Attribute) -> Self {
        self.properties.push(Property {
            attribute,
            negated: true,
        });
        self
    }

    /// Whether the thing is meant.
    pub fn matches(&self, thing: &Thing) -> bool {
        self.noun.covers(thing.kind) && self.properties.iter().all(|property| property.holds(thing))
    }

    /// Positions of the things that are meant.
    pub fn matching(&self, things: &[Thing]) -> Vec<usize> {
        (0..things.len())
            .filter(|&i| self.matches(&things[i]))
            .collect()
    }

    /// Whether a property is negated.
    pub fn is_negated(&self) -> bool {
        self.properties.iter().any(|property| property.negated)
    }

    /// The description in words. `word` is the word for its negations; where English has no such
    /// form ("a dog with no running") it is "not". Which of the possible turns is taken is left to
    /// `rng`.
    pub fn text(&self, determiner: Determiner, word: NegationWord, rng: &mut ChaCha8Rng) -> String {
        let mut size = None;
        let mut before: Vec<String> = Vec::new();
        let mut colour_before = None;
        let mut after: Vec<String> = Vec::new();
        let mut worn: Vec<String> = Vec::new();
        let human = self.noun.is_human();
        for property in &self.properties {
            match (property.attribute, property.negated) {
                (Attribute::Size(wanted), negated) => {
                    let name = size_word(wanted);
                    if negated {
                        after.push(format!("{} {name}", relative(human, rng)));
                    } else {
                        size = Some(name);
                    }
                }
                (Attribute::Colour(colour), false) if human => {
                    let turn = ["in", "in", "dressed in"].choose(rng).unwrap_or(&"in");
                    after.push(format!("{turn} {colour}"));
                }
                (Attribute::Colour(colour), true) if human => {
                    let turn = ["not in", "not dressed in", "who is not dressed in"];
                    after.push(format!(
                        "{} {colour}",
                        turn.choose(rng).unwrap_or(&"not in")
                    ));
                }
                (Attribute::Colour(colour), false) => colour_before = Some(colour.to_string()),
                (Attribute::Colour(colour), true) => {
                    if rng.random_bool(0.35) {
                        colour_before = Some(format!("not {colour}"));
                    } else {
                        after.push(format!("{} {colour}", relative(human, rng)));
                    }
                }
                (Attribute::State(state), false) => {
                    if rng.random_bool(0.4) {
                        before.push(state.to_string());
                    } else {
                        after.push(state.to_string());
                    }
                }
                (Attribute::State(state), true) => {
                    let turn = if rng.random_bool(0.5) {
                        "not"
                    } else {
                        relative(human, rng)
                    };
                    after.push(format!("{turn} {state}"));
                }
                (Attribute::Wears(kind, colour), false) => {
                    worn.push(indefinite_coloured(kind, colour));
                    if worn.len() == 1 {
                        let held = matches!(kind, Kind::Umbrella | Kind::Bag);
                        let verb = match (rng.random_range(0..3), held) {
                            (0, false) => "wearing",
                            (0, true) => "holding",
                            _ => "with",
                        };
                        worn[0].insert_str(0, &format!("{verb} "));
                    }
                }
                (Attribute::Wears(kind, colour), true) => {
                    after.push(lacking(kind, colour, word, human, rng));
                }
            }
        }
        if !worn.is_empty() {
            // "wearing a hat and an umbrella" would put the umbrella on the head.
            if worn.len() > 1
                && let Some(rest) = ["wearing ", "holding "]
                    .iter()
                    .find_map(|verb| worn[0].strip_prefix(verb))
            {
                worn[0] = format!("with {rest}");
            }
            // What is affirmed comes before what is denied: "with a bag but no hat" is for writers.
            after.insert(
                after
                    .iter()
                    .position(|part| part.starts_with("not ") || part.contains(" not "))
                    .unwrap_or(after.len()),
                super::grammar::join(&worn),
            );
        }
        let several = matches!(determiner, Determiner::Count(count) if count != 1);
        let noun = if several {
            self.noun.plural()
        } else {
            self.noun.singular()
        };
        let core: Vec<&str> = size
            .into_iter()
            .chain(before.iter().map(String::as_str))
            .chain(colour_before.as_deref())
            .chain([noun])
            .chain(after.iter().map(String::as_str))
            .collect();
        let core = core.join(" ");
        match determiner {
            Determiner::Bare => core,
            Determiner::Definite => format!("the {core}"),
            Determiner::Count(count) => format!("{} {core}", number_word(count)),
            Determiner::Indefinite if self.noun == Noun::Kind(Kind::Glasses) => core,
            Determiner::Indefinite if self.noun == Noun::Kind(Kind::Sun) => format!("the {core}"),
            Determiner::Indefinite => with_article(&core),
        }
    }
}

pub(super) fn size_word(size: Size) -> &'static str {
    match size {
        Size::Small => "small",
        Size::Normal => "normal",
        Size::Large => "large",
    }
}

fn relative(human: bool, rng: &mut ChaCha8Rng) -> &'static str {
    match (human, rng.random_bool(0.5)) {
        (true, _) => "who is not",
        (false, true) => "which is not",
        (false, false) => "that is not",
    }
}

/// How one says that somebody has no such thing.
fn lacking(
    kind: Kind,
    colour: Option<Colour>,
    word: NegationWord,
    human: bool,
    rng: &mut ChaCha8Rng,
) -> String {
    let one = indefinite_coloured(kind, colour);
    let bare = colour.map_or_else(|| kind.to_string(), |colour| format!("{colour} {kind}"));
    let verb = match kind {
        Kind::Hat | Kind::Glasses => "wearing",
        Kind::Bag if rng.random_bool(0.5) => "carrying",
        _ => "holding",
    };
    match word {
        NegationWord::No => format!("with no {bare}"),
        NegationWord::Without if kind != Kind::Glasses && rng.random_bool(0.15) => {
            format!("without any {bare}")
        }
        NegationWord::Without => format!("without {one}"),
        NegationWord::Not if human && rng.random_bool(0.4) => format!("who is not {verb} {one}"),
        NegationWord::Not => format!("not {verb} {one}"),
    }
}
