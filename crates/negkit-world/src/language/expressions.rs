//! Phrases for segmentation, and expressions that refer to exactly one thing.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::captions::{CLEARLY_APART, middle, possible_attributes, worn_kinds};
use super::description::{Attribute, Description, Determiner, NegationWord, Noun};
use crate::catalog::{Kind, Place, Zone};
use crate::scene::{Scene, Size, Thing, Wish, Worn};

/// Words and what they mean in a scene.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phrase {
    /// The words.
    pub text: String,
    /// Positions in [`Scene::things`] of all that is meant; empty if something worn is meant.
    pub things: Vec<usize>,
    /// The thing and the position in its [`Thing::worn`], if a worn or held thing is meant.
    pub worn: Option<(usize, usize)>,
    /// Whether the words hold a negation.
    pub negated: bool,
}

/// Phrases as PhraseCut has them ("red chair", "running dog", "hat"), no negations among them.
///
/// What is meant is everything in the scene that the words fit; a worn thing is spoken of where
/// only one fits.
pub fn phrases(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Phrase> {
    let mut found: Vec<Phrase> = Vec::new();
    for thing in &scene.things {
        let own = Noun::Kind(thing.kind);
        let mut descriptions = vec![Description::new(own)];
        descriptions.extend(Noun::general(thing.kind).map(Description::new));
        for attribute in attributes_of(thing) {
            let noun = match Noun::general(thing.kind) {
                Some(general) if rng.random_bool(0.2) => general,
                _ => own,
            };
            descriptions.push(Description::new(noun).with(attribute));
        }
        for description in descriptions {
            let things = description.matching(&scene.things);
            let determiner = if things.len() > 1 && rng.random_bool(0.3) {
                Determiner::Count(things.len())
            } else if rng.random_bool(0.15) {
                Determiner::Indefinite
            } else {
                Determiner::Bare
            };
            let mut text = description.text(determiner, NegationWord::Not, rng);
            if let Determiner::Count(count) = determiner
                && rng.random_bool(0.7)
            {
                let number = super::grammar::number_word(count);
                text = text.replacen(&format!("{number} "), "", 1);
            }
            found.push(Phrase {
                text,
                things,
                worn: None,
                negated: false,
            });
        }
    }
    found.extend(worn_phrases(scene, rng));
    let mut distinct: Vec<Phrase> = Vec::new();
    for phrase in found {
        if distinct.iter().all(|other| other.text != phrase.text) {
            distinct.push(phrase);
        }
    }
    distinct
}

/// All attributes of the thing that a phrase may tell.
fn attributes_of(thing: &Thing) -> Vec<Attribute> {
    let mut all: Vec<Attribute> = Vec::new();
    all.extend(thing.colour.map(Attribute::Colour));
    all.extend(thing.state.map(Attribute::State));
    if thing.size != Size::Normal {
        all.push(Attribute::Size(thing.size));
    }
    for worn in &thing.worn {
        all.push(Attribute::Wears(worn.kind, None));
        if worn.colour.is_some() {
            all.push(Attribute::Wears(worn.kind, worn.colour));
        }
    }
    all
}

fn worn_phrases(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Phrase> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (i, thing) in scene.things.iter().enumerate() {
        all.extend((0..thing.worn.len()).map(|k| (i, k)));
    }
    let at = |(i, k): (usize, usize)| scene.things[i].worn[k];
    let mut found = Vec::new();
    for &position in &all {
        let worn = at(position);
        for colour in [None, worn.colour] {
            let fits = |&&other: &&(usize, usize)| {
                let other = at(other);
                other.kind == worn.kind && (colour.is_none() || other.colour == colour)
            };
            if all.iter().filter(fits).count() != 1 {
                continue;
            }
            let text = if rng.random_bool(0.15) {
                super::grammar::indefinite_coloured(worn.kind, colour)
            } else {
                colour.map_or_else(
                    || worn.kind.to_string(),
                    |colour| format!("{colour} {}", worn.kind),
                )
            };
            found.push(Phrase {
                text,
                things: Vec::new(),
                worn: Some(position),
                negated: false,
            });
        }
    }
    found
}

/// Expressions each of which fits exactly one thing of the scene.
///
/// For every thing up to two ordinary ones (by colour, state, size, what is worn, position) and up
/// to one with a negation. A negation is necessary wherever possible: another thing of the same
/// name has what this one lacks ("the man without a hat" beside a man with one). Negation words
/// are drawn in RefCOCOg's proportions, as far as English has the form: no, not and without as
/// 143, 200 and 98.
pub fn referring_expressions(scene: &Scene, rng: &mut ChaCha8Rng) -> Vec<Phrase> {
    let mut found: Vec<Phrase> = Vec::new();
    for i in 0..scene.things.len() {
        let mut ordinary = ordinary_expressions(scene, i, rng);
        ordinary.shuffle(rng);
        let texts = ordinary.into_iter().take(2).map(|text| (text, false));
        let negated = negated_expression(scene, i, rng).map(|text| (text, true));
        for (text, negated) in texts.chain(negated) {
            if found.iter().all(|other| other.text != text) {
                found.push(Phrase {
                    text,
                    things: vec![i],
                    worn: None,
                    negated,
                });
            }
        }
    }
    found
}

/// A scene to refer in: as in RefCOCOg's photos several of a kind, mostly people, that differ in
/// what they wear and do; the same for the same seed.
///
/// [`Scene::sample`] seldom has two people, of whom one lacks a hat.
pub fn referring_scene(seed: u64) -> Scene {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let place = *Place::ALL.choose(&mut rng).unwrap_or(&Place::Street);
    let likely = |rng: &mut ChaCha8Rng, zone: Option<Zone>| {
        let open: Vec<(Kind, f32)> = place
            .likely()
            .iter()
            .copied()
            .filter(|(kind, _)| !kind.is_person() && zone.is_none_or(|z| kind.traits().zone == z))
            .collect();
        open.choose_weighted(rng, |&(_, weight)| weight)
            .ok()
            .map(|&(kind, _)| kind)
    };
    let mut wishes: Vec<Wish> = Vec::new();
    let people = rng.random_bool(0.75);
    if people {
        let kind = if rng.random_bool(0.5) {
            Kind::Man
        } else {
            Kind::Woman
        };
        wishes.extend([Wish::new(kind), Wish::new(kind)]);
        if rng.random_bool(0.3) {
            let other = if kind == Kind::Man {
                Kind::Woman
            } else {
                Kind::Man
            };
            wishes.push(Wish::new(other));
        }
        // Something that the first of them has and the second lacks.
        if let Some(&worn) = worn_kinds().collect::<Vec<_>>().choose(&mut rng) {
            let colour = worn.traits().colours.choose(&mut rng).copied();
            wishes[0].worn = Some(vec![Worn { kind: worn, colour }]);
            let others: Vec<Worn> = worn_kinds()
                .filter(|kind| *kind != worn && rng.random_bool(0.25))
                .map(|kind| Worn { kind, colour: None })
                .collect();
            let coloured = others.into_iter().map(|other| Worn {
                colour: other.kind.traits().colours.choose(&mut rng).copied(),
                ..other
            });
            wishes[1].worn = Some(coloured.collect());
        }
    } else if let Some(kind) = likely(&mut rng, Some(Zone::Ground)) {
        wishes.extend([Wish::new(kind), Wish::new(kind)]);
    }
    if let Some(kind) = likely(&mut rng, None)
        && rng.random_bool(0.6)
        && wishes.iter().all(|wish| wish.kind != kind)
    {
        wishes.push(Wish::new(kind));
    }
    Scene::compose(rng.random(), place, &wishes)
}

fn nouns(kind: Kind) -> impl Iterator<Item = Noun> {
    [Noun::Kind(kind)].into_iter().chain(Noun::general(kind))
}

fn determiner(rng: &mut ChaCha8Rng) -> Determiner {
    match rng.random_range(0..20) {
        0..12 => Determiner::Definite,
        12..17 => Determiner::Indefinite,
        _ => Determiner::Bare,
    }
}

/// Whether the description means thing `i` and nothing else.
fn means_only(scene: &Scene, description: &Description, i: usize) -> bool {
    description.matching(&scene.things) == [i]
}

fn ordinary_expressions(scene: &Scene, i: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let thing = &scene.things[i];
    let attributes = attributes_of(thing);
    let mut texts = Vec::new();
    for noun in nouns(thing.kind) {
        let bare = Description::new(noun);
        let mut candidates = vec![bare.clone()];
        for (k, &first) in attributes.iter().enumerate() {
            candidates.push(bare.clone().with(first));
            for &second in &attributes[k + 1..] {
                let both_worn = matches!((first, second), (Attribute::Wears(a, _), Attribute::Wears(b, _)) if a == b);
                if !both_worn && rng.random_bool(0.4) {
                    candidates.push(bare.clone().with(first).with(second));
                }
            }
        }
        for description in candidates {
            if means_only(scene, &description, i) {
                let determiner = determiner(rng);
                texts.push(description.text(determiner, NegationWord::Not, rng));
            }
        }
        texts.extend(position_expressions(scene, i, noun, rng));
    }
    texts
}

/// "the chair on the left", "the biggest chair", "the chair to the left of the table".
fn position_expressions(scene: &Scene, i: usize, noun: Noun, rng: &mut ChaCha8Rng) -> Vec<String> {
    let thing = &scene.things[i];
    let name = noun.singular();
    let mut texts = Vec::new();
    for (side, word) in [(-1., "left"), (1., "right")] {
        if is_outermost(scene, i, noun, side) {
            texts.push(match rng.random_range(0..4) {
                0 => format!("the {word}most {name}"),
                1 => format!("{name} on the {word}"),
                2 => format!("the {word} {name}"),
                _ => format!("the {name} on the {word}"),
            });
        }
    }
    let area = |thing: &Thing| thing.frame[2] * thing.frame[3];
    let others: Vec<&Thing> = others_called(scene, i, noun).collect();
    if !others.is_empty() && others.iter().all(|other| area(thing) > 1.25 * area(other)) {
        let turn = ["biggest", "largest"].choose(rng).unwrap_or(&"biggest");
        texts.push(format!("the {turn} {name}"));
    }
    // Beside something that is there only once; of the things called so, only this one is on that
    // side of it.
    let marks: Vec<&Thing> = scene
        .things
        .iter()
        .filter(|mark| !noun.covers(mark.kind) && scene.of_kind(mark.kind).count() == 1)
        .collect();
    if let Some(mark) = marks.choose(rng) {
        let distance = middle(thing) - middle(mark);
        let same_side = |other: &Thing| (middle(other) - middle(mark)) * distance.signum();
        if distance.abs() >= CLEARLY_APART
            && others.iter().all(|other| same_side(other) < -CLEARLY_APART)
        {
            let side = if distance < 0. { "left" } else { "right" };
            texts.push(format!("the {name} to the {side} of the {}", mark.kind));
        }
    }
    texts
}

fn others_called(scene: &Scene, i: usize, noun: Noun) -> impl Iterator<Item = &Thing> {
    scene
        .things
        .iter()
        .enumerate()
        .filter(move |(j, other)| *j != i && noun.covers(other.kind))
        .map(|(_, other)| other)
}

/// Whether thing `i` is clearly farther to that side (-1 left, 1 right) than all others called so,
/// and there are others.
fn is_outermost(scene: &Scene, i: usize, noun: Noun, side: f32) -> bool {
    let here = middle(&scene.things[i]);
    let mut others = others_called(scene, i, noun).peekable();
    others.peek().is_some() && others.all(|other| (here - middle(other)) * side >= CLEARLY_APART)
}

/// How often the negated expressions of NegRefCOCOg hold each word.
const WORD_SHARES: [(NegationWord, u32); 3] = [
    (NegationWord::No, 143),
    (NegationWord::Not, 200),
    (NegationWord::Without, 98),
];

fn negated_expression(scene: &Scene, i: usize, rng: &mut ChaCha8Rng) -> Option<String> {
    // Of things "not" alone can be said; people would not make up for it if all of them were.
    if !scene.things[i].kind.is_person() && rng.random_bool(0.6) {
        return None;
    }
    let (word, _) = *WORD_SHARES.choose_weighted(rng, |&(_, share)| share).ok()?;
    let necessary = negated_descriptions(scene, i, true, rng);
    let descriptions = if necessary.is_empty() {
        // One that is true but not needed, in a third of the cases.
        if !rng.random_bool(0.33) {
            return None;
        }
        negated_descriptions(scene, i, false, rng)
    } else {
        if word == NegationWord::Not
            && rng.random_bool(0.15)
            && let Some(text) = contrasting_expression(scene, i, rng)
        {
            return Some(text);
        }
        necessary
    };
    // "no" and "without" go with what is worn or held, "not" with everything.
    let about_worn = |description: &&Description| {
        description
            .properties
            .iter()
            .any(|p| p.negated && matches!(p.attribute, Attribute::Wears(..)))
    };
    let wants_worn = word != NegationWord::Not;
    let preferred: Vec<&Description> = descriptions
        .iter()
        .filter(|description| about_worn(description) == wants_worn)
        .collect();
    // A chair cannot lack what it never wears: then there is none with this word, or the word that
    // everything goes with would drown the others.
    let chosen = match preferred.choose(rng) {
        Some(description) => *description,
        None if wants_worn => return None,
        None => descriptions.choose(rng)?,
    };
    let mut determiner = determiner(rng);
    if determiner == Determiner::Bare && rng.random_bool(0.5) {
        determiner = Determiner::Definite;
    }
    Some(chosen.text(determiner, word, rng))
}

/// Descriptions with one negation that mean thing `i` alone. A necessary negation denies what
/// another thing of the same name has, and without it the description would mean others too.
fn negated_descriptions(
    scene: &Scene,
    i: usize,
    necessary: bool,
    rng: &mut ChaCha8Rng,
) -> Vec<Description> {
    let thing = &scene.things[i];
    let mut found = Vec::new();
    for noun in nouns(thing.kind) {
        let denied: Vec<Attribute> = if necessary {
            let mut all: Vec<Attribute> = others_called(scene, i, noun)
                .flat_map(attributes_of)
                .filter(|attribute| !attribute.holds(thing))
                .collect();
            all.dedup();
            all
        } else {
            possible_attributes(thing.kind)
                .into_iter()
                .filter(|attribute| !attribute.holds(thing))
                .collect()
        };
        for attribute in denied {
            let plain = Description::new(noun).without(attribute);
            if means_only(scene, &plain, i) {
                found.push(plain);
            }
            if !necessary {
                continue;
            }
            // With one more property, where the negation still tells it from others.
            let own = attributes_of(thing);
            let Some(&added) = own.choose(rng) else {
                continue;
            };
            let affirmed = Description::new(noun).with(added);
            let both = affirmed.clone().without(attribute);
            let same_sort = matches!(
                (added, attribute),
                (Attribute::Colour(_), Attribute::Colour(_))
                    | (Attribute::State(_), Attribute::State(_))
                    | (Attribute::Size(_), Attribute::Size(_))
            ) || matches!((added, attribute), (Attribute::Wears(a, _), Attribute::Wears(b, _)) if a == b);
            if !same_sort && !means_only(scene, &affirmed, i) && means_only(scene, &both, i) {
                found.push(both);
            }
        }
    }
    found
}

/// "the blue chair, not the red one", "not the chair on the left, the one on the right".
fn contrasting_expression(scene: &Scene, i: usize, rng: &mut ChaCha8Rng) -> Option<String> {
    let thing = &scene.things[i];
    let noun = Noun::Kind(thing.kind);
    let name = noun.singular();
    let mut turns: Vec<(String, String)> = Vec::new();
    for other in others_called(scene, i, noun) {
        if let (Some(own), Some(others)) = (thing.colour, other.colour)
            && means_only(
                scene,
                &Description::new(noun).with(Attribute::Colour(own)),
                i,
            )
        {
            turns.push(if thing.kind.is_person() {
                (format!("in {own}"), format!("in {others}"))
            } else {
                (own.to_string(), others.to_string())
            });
        }
    }
    for (side, own, others) in [(-1., "left", "right"), (1., "right", "left")] {
        if is_outermost(scene, i, noun, side) {
            turns.push((format!("on the {own}"), format!("on the {others}")));
        }
    }
    let (own, others) = turns.choose(rng)?;
    let place = |words: &str, name: &str| {
        if words.contains(' ') {
            format!("the {name} {words}")
        } else {
            format!("the {words} {name}")
        }
    };
    Some(if rng.random_bool(0.5) {
        format!("{}, not {}", place(own, name), place(others, "one"))
    } else {
        format!("not {}, {}", place(others, name), place(own, "one"))
    })
}
