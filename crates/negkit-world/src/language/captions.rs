//! Captions: ordinary ones, which name some of what is there, and full ones.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::description::{Attribute, Description, Determiner, NegationWord, Noun};
use super::grammar::{indefinite, join, with_article};
use super::prompts::is_test_prompt;
use crate::catalog::{Kind, Place, State, Zone};
use crate::scene::{Scene, Size, Thing};

/// Share of ordinary captions that hold a negation: 0.70 % of LAION-400M's do.
pub const NEGATION_SHARE: f64 = 0.007;
/// Share of those that deny something that the picture shows, like "no smoking" beside a smoker.
pub const MISALIGNED_SHARE: f64 = 0.9;

/// How often captions hold negations, and of what sort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionStyle {
    /// Share of captions with a negation.
    pub negation_share: f64,
    /// Share of the negations that deny what the picture shows.
    pub misaligned_share: f64,
}

impl Default for CaptionStyle {
    fn default() -> Self {
        Self {
            negation_share: NEGATION_SHARE,
            misaligned_share: MISALIGNED_SHARE,
        }
    }
}

/// What a negation denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negated {
    /// That such an object is there.
    Object(Noun),
    /// That a thing called so has the attribute.
    Attribute(Noun, Attribute),
}

impl Negated {
    /// Whether the scene shows what is denied: an object, worn and held ones included, or a thing
    /// with the attribute.
    pub fn is_shown(self, scene: &Scene) -> bool {
        match self {
            Self::Object(noun) => contains(scene, noun),
            Self::Attribute(noun, attribute) => scene
                .things
                .iter()
                .any(|thing| noun.covers(thing.kind) && attribute.holds(thing)),
        }
    }

    /// Whether the denial can be true of the scene: the object is missing, or a thing is there
    /// that lacks the attribute.
    pub fn is_true(self, scene: &Scene) -> bool {
        match self {
            Self::Object(noun) => !contains(scene, noun),
            Self::Attribute(noun, attribute) => scene
                .things
                .iter()
                .any(|thing| noun.covers(thing.kind) && !attribute.holds(thing)),
        }
    }
}

/// Whether something called so is there, worn and held things included.
pub(super) fn contains(scene: &Scene, noun: Noun) -> bool {
    scene.things.iter().any(|thing| {
        noun.covers(thing.kind) || thing.worn.iter().any(|worn| noun.covers(worn.kind))
    })
}

/// A negation in a caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negation {
    /// What it denies.
    pub negated: Negated,
    /// Whether it is true of the picture.
    pub aligned: bool,
}

/// A caption and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caption {
    /// The words, in lower case and without a full stop.
    pub text: String,
    /// Kinds that it affirms, things worn and held included.
    pub named: Vec<Kind>,
    /// The negation in it, if there is one.
    pub negation: Option<Negation>,
}

/// An ordinary caption in the default [`CaptionStyle`].
///
/// It names the place mostly, one to three sorts of things with some of their attributes, and in
/// [`NEGATION_SHARE`] of cases denies something.
pub fn caption(scene: &Scene, rng: &mut ChaCha8Rng) -> Caption {
    caption_with(scene, &CaptionStyle::default(), rng)
}

/// An ordinary caption in a given style.
pub fn caption_with(scene: &Scene, style: &CaptionStyle, rng: &mut ChaCha8Rng) -> Caption {
    if rng.random_bool(style.negation_share.clamp(0., 1.)) {
        let aligned = !rng.random_bool(style.misaligned_share.clamp(0., 1.));
        // A prompt of the test list is never a caption; a scene offers many others.
        for _ in 0..20 {
            if let Some(negative) = negative_caption(scene, aligned, rng)
                && !is_test_prompt(&negative.text)
            {
                return negative;
            }
        }
    }
    ordinary_caption(scene, rng)
}

/// A mention of one or several things in a caption.
struct Mention {
    text: String,
    named: Vec<Kind>,
    plural: bool,
    /// A state that all of them are in and that `text` does not tell.
    state_left: Option<State>,
}

fn ordinary_caption(scene: &Scene, rng: &mut ChaCha8Rng) -> Caption {
    let wanted = match rng.random_range(0..10) {
        0..4 => 1,
        4..8 => 2,
        _ => 3,
    };
    let kinds = draw_kinds(scene, wanted, None, rng);
    if kinds.len() == 2
        && rng.random_bool(0.25)
        && let Some(caption) = relation_caption(scene, &kinds, rng)
    {
        return caption;
    }
    let mentions: Vec<Mention> = kinds
        .iter()
        .map(|&kind| mention(scene, kind, rng))
        .collect();
    let mut named: Vec<Kind> = Vec::new();
    for kind in mentions.iter().flat_map(|mention| &mention.named) {
        if !named.contains(kind) {
            named.push(*kind);
        }
    }
    Caption {
        text: sentence(scene.place, &mentions, rng),
        named,
        negation: None,
    }
}

/// The kinds that a caption names: what stands on the ground rather than what hangs on a wall.
fn draw_kinds(
    scene: &Scene,
    wanted: usize,
    except: Option<Kind>,
    rng: &mut ChaCha8Rng,
) -> Vec<Kind> {
    let mut kinds: Vec<(Kind, f32)> = Vec::new();
    for thing in &scene.things {
        let kind = thing.kind;
        if Some(kind) != except && kinds.iter().all(|&(other, _)| other != kind) {
            let weight = match kind.traits().zone {
                Zone::Ground => 1.,
                _ => 0.45,
            };
            kinds.push((kind, weight));
        }
    }
    let mut drawn = Vec::new();
    while drawn.len() < wanted
        && let Ok(&(kind, _)) = kinds.choose_weighted(rng, |&(_, weight)| weight)
    {
        kinds.retain(|&(other, _)| other != kind);
        drawn.push(kind);
    }
    drawn
}

fn mention(scene: &Scene, kind: Kind, rng: &mut ChaCha8Rng) -> Mention {
    let things: Vec<&Thing> = scene.of_kind(kind).collect();
    let mut description = Description::new(Noun::Kind(kind));
    if things.len() > 1 && rng.random_bool(0.6) {
        let shared = |attribute: Attribute| things.iter().all(|thing| attribute.holds(thing));
        let mut state_left = None;
        if let Some(colour) = things[0].colour
            && shared(Attribute::Colour(colour))
            && rng.random_bool(0.6)
        {
            description = description.with(Attribute::Colour(colour));
        }
        if let Some(state) = things[0].state
            && shared(Attribute::State(state))
        {
            if rng.random_bool(0.4) {
                description = description.with(Attribute::State(state));
            } else {
                state_left = Some(state);
            }
        }
        return Mention {
            text: description.text(Determiner::Count(things.len()), NegationWord::Not, rng),
            named: vec![kind],
            plural: true,
            state_left,
        };
    }
    let Some(&thing) = things.choose(rng) else {
        return Mention {
            text: indefinite(kind),
            named: vec![kind],
            plural: false,
            state_left: None,
        };
    };
    describe_some(thing, rng)
}

/// One thing with some of its attributes.
fn describe_some(thing: &Thing, rng: &mut ChaCha8Rng) -> Mention {
    let mut description = Description::new(Noun::Kind(thing.kind));
    let mut named = vec![thing.kind];
    if thing.size != Size::Normal && rng.random_bool(0.3) {
        description = description.with(Attribute::Size(thing.size));
    }
    if let Some(colour) = thing.colour
        && rng.random_bool(0.5)
    {
        description = description.with(Attribute::Colour(colour));
    }
    let mut state_left = thing.state;
    if let Some(state) = thing.state
        && rng.random_bool(0.35)
    {
        description = description.with(Attribute::State(state));
        state_left = None;
    }
    for worn in &thing.worn {
        if rng.random_bool(0.5) {
            let colour = worn.colour.filter(|_| rng.random_bool(0.5));
            description = description.with(Attribute::Wears(worn.kind, colour));
            named.push(worn.kind);
        }
    }
    Mention {
        text: description.text(Determiner::Indefinite, NegationWord::Not, rng),
        named,
        plural: false,
        state_left,
    }
}

/// "on a beach", sometimes "on the beach".
fn at_place(place: Place, rng: &mut ChaCha8Rng) -> String {
    if rng.random_bool(0.25) {
        format!("{} the {place}", place.preposition())
    } else {
        format!("{} {}", place.preposition(), with_article(place.name()))
    }
}

const OPENINGS: [&str; 4] = ["a picture of", "a photo of", "a drawing of", "a view of"];

fn sentence(place: Place, mentions: &[Mention], rng: &mut ChaCha8Rng) -> String {
    let a_place = with_article(place.name());
    let texts: Vec<String> = mentions
        .iter()
        .map(|mention| mention.text.clone())
        .collect();
    let listed = join(&texts);
    let [first, ..] = mentions else {
        return match rng.random_range(0..3) {
            0 => a_place,
            _ => format!("{} {a_place}", OPENINGS.choose(rng).unwrap_or(&OPENINGS[0])),
        };
    };
    let verb = if first.plural { "are" } else { "is" };
    let somewhere = rng.random_bool(0.85);
    if somewhere
        && mentions.len() == 1
        && let Some(state) = first.state_left
        && rng.random_bool(0.35)
    {
        return format!("{listed} {verb} {state} {}", at_place(place, rng));
    }
    let core = match (somewhere, rng.random_range(0..20)) {
        (true, 0..8) => format!("{listed} {}", at_place(place, rng)),
        (true, 8..16) => format!("{a_place} with {listed}"),
        (true, 16..18) => return format!("there {verb} {listed} {}", at_place(place, rng)),
        (true, _) => {
            let are = if first.plural || mentions.len() > 1 {
                "are"
            } else {
                "is"
            };
            return format!("{listed} {are} {}", at_place(place, rng));
        }
        (false, 0..3) => return format!("there {verb} {listed}"),
        (false, _) => listed,
    };
    if rng.random_bool(0.12) {
        format!("{} {core}", OPENINGS.choose(rng).unwrap_or(&OPENINGS[0]))
    } else {
        core
    }
}

/// Horizontal middle of a thing's frame, as a share of the picture's side.
pub(super) fn middle(thing: &Thing) -> f32 {
    thing.frame[0] + thing.frame[2] / 2.
}

/// How far apart two things' middles are before one is said to be left of the other.
pub(super) const CLEARLY_APART: f32 = 0.08;

/// "a dog to the left of a chair", where there is one dog and one chair.
fn relation_caption(scene: &Scene, kinds: &[Kind], rng: &mut ChaCha8Rng) -> Option<Caption> {
    let [a, b] = kinds else { return None };
    let only = |kind: Kind| {
        let mut of_kind = scene.of_kind(kind);
        let first = of_kind.next();
        first.filter(|_| of_kind.next().is_none())
    };
    let (a, b) = (only(*a)?, only(*b)?);
    let distance = middle(b) - middle(a);
    if distance.abs() < CLEARLY_APART || a.kind == Kind::Sun || b.kind == Kind::Sun {
        return None;
    }
    let side = if distance > 0. { "left" } else { "right" };
    let (first, second) = (describe_some(a, rng), describe_some(b, rng));
    let turn = match rng.random_range(0..3) {
        0 => format!("on the {side} of"),
        _ => format!("to the {side} of"),
    };
    let mut text = format!("{} {turn} {}", first.text, second.text);
    if rng.random_bool(0.5) {
        text = format!("{text} {}", at_place(scene.place, rng));
    }
    let mut named = first.named;
    for kind in second.named {
        if !named.contains(&kind) {
            named.push(kind);
        }
    }
    Some(Caption {
        text,
        named,
        negation: None,
    })
}

/// A caption with a negation that is true of the scene (`aligned`) or denies what it shows.
fn negative_caption(scene: &Scene, aligned: bool, rng: &mut ChaCha8Rng) -> Option<Caption> {
    if rng.random_bool(0.35)
        && let Some(caption) = negative_attribute_caption(scene, aligned, rng)
    {
        return Some(caption);
    }
    let kind = if aligned {
        absent_kind(scene, rng)?
    } else {
        present_kind(scene, rng)?
    };
    let wanted = usize::from(rng.random_bool(0.6));
    let others: Vec<Mention> = draw_kinds(scene, wanted, Some(kind), rng)
        .into_iter()
        .map(|other| mention(scene, other, rng))
        .collect();
    // The rest of the caption must not affirm what it denies.
    if others.iter().any(|mention| mention.named.contains(&kind)) {
        return None;
    }
    let what = if rng.random_bool(0.5) {
        kind.name()
    } else {
        kind.traits().plural
    };
    let lack = match rng.random_range(0..3) {
        0 if what == kind.name() => format!("without {}", indefinite(kind)),
        0 => format!("without {what}"),
        _ => format!("with no {what}"),
    };
    let (place, a_place) = (scene.place, with_article(scene.place.name()));
    let text = match (others.first(), rng.random_range(0..3)) {
        (None, 0) => format!("no {what} {}", at_place(place, rng)),
        (None, _) => format!("{a_place} {lack}"),
        (Some(other), 0) => format!("{a_place} with {} and no {what}", other.text),
        (Some(other), 1) => {
            let preposition = place.preposition();
            format!("{} {preposition} {a_place} {lack}", other.text)
        }
        (Some(other), _) => format!("{}, no {what}, {}", other.text, at_place(place, rng)),
    };
    Some(Caption {
        text,
        named: others
            .into_iter()
            .flat_map(|mention| mention.named)
            .collect(),
        negation: Some(Negation {
            negated: Negated::Object(Noun::Kind(kind)),
            aligned,
        }),
    })
}

/// "a man without a hat", of a man who is the only one and (unless `aligned`) wears one.
fn negative_attribute_caption(
    scene: &Scene,
    aligned: bool,
    rng: &mut ChaCha8Rng,
) -> Option<Caption> {
    let single: Vec<&Thing> = scene
        .things
        .iter()
        .filter(|thing| scene.of_kind(thing.kind).count() == 1)
        .collect();
    let thing = *single.choose(rng)?;
    let attributes = possible_attributes(thing.kind);
    let fitting: Vec<Attribute> = attributes
        .into_iter()
        .filter(|attribute| attribute.holds(thing) != aligned)
        .collect();
    let attribute = *fitting.choose(rng)?;
    let word = *[NegationWord::No, NegationWord::Not, NegationWord::Without].choose(rng)?;
    let text = Description::new(Noun::Kind(thing.kind))
        .without(attribute)
        .text(Determiner::Indefinite, word, rng);
    let text = match rng.random_range(0..10) {
        0..6 => format!("{text} {}", at_place(scene.place, rng)),
        6..9 => format!("{} with {text}", with_article(scene.place.name())),
        _ => text,
    };
    Some(Caption {
        text,
        named: vec![thing.kind],
        negation: Some(Negation {
            negated: Negated::Attribute(Noun::Kind(thing.kind), attribute),
            aligned,
        }),
    })
}

/// Attributes that things of the kind may have, sizes and colours of worn things left out.
pub(super) fn possible_attributes(kind: Kind) -> Vec<Attribute> {
    let traits = kind.traits();
    let mut all: Vec<Attribute> = Vec::new();
    all.extend(traits.colours.iter().copied().map(Attribute::Colour));
    all.extend(traits.states.iter().copied().map(Attribute::State));
    if kind.is_person() {
        all.extend(worn_kinds().map(|kind| Attribute::Wears(kind, None)));
    }
    all
}

/// Kinds that are worn or held.
pub(super) fn worn_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.traits().zone == Zone::Person)
}

/// A kind that is likely at the scene's place but not there.
pub(super) fn absent_kind(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<Kind> {
    let absent: Vec<(Kind, f32)> = scene
        .place
        .likely()
        .iter()
        .copied()
        .filter(|&(kind, _)| !scene.contains(kind))
        .collect();
    absent
        .choose_weighted(rng, |&(_, weight)| weight)
        .ok()
        .map(|&(kind, _)| kind)
}

/// A kind that is there and stands for itself.
pub(super) fn present_kind(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<Kind> {
    let mut kinds: Vec<Kind> = scene.things.iter().map(|thing| thing.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.choose(rng).copied()
}

/// The place and every thing in it with colours, states, sizes out of the ordinary, and what
/// people wear and hold: as unambiguous as one sentence gets.
pub fn full_caption(scene: &Scene) -> String {
    let mut order: Vec<&Thing> = scene.things.iter().collect();
    // What stands on the ground first: should the text be cut, the least is lost.
    order.sort_by_key(|thing| thing.kind.traits().zone != Zone::Ground);
    let mut groups: Vec<(String, Kind, Vec<&Thing>)> = Vec::new();
    for thing in order {
        let key = full_words(thing, false);
        match groups.iter_mut().find(|(other, _, _)| *other == key) {
            Some((_, _, things)) => things.push(thing),
            None => groups.push((key, thing.kind, vec![thing])),
        }
    }
    let texts: Vec<String> = groups
        .iter()
        .map(|(words, kind, things)| match things[..] {
            [thing, _, ..] => format!(
                "{} {}",
                super::grammar::number_word(things.len()),
                full_words(thing, true)
            ),
            _ if *kind == Kind::Sun => format!("the {words}"),
            _ => with_article(words),
        })
        .collect();
    let a_place = with_article(scene.place.name());
    if texts.is_empty() {
        a_place
    } else {
        format!("{a_place} with {}", join(&texts))
    }
}

fn full_words(thing: &Thing, plural: bool) -> String {
    let mut words: Vec<String> = Vec::new();
    match thing.size {
        Size::Small => words.push("small".to_owned()),
        Size::Large => words.push("large".to_owned()),
        Size::Normal => {}
    }
    words.extend(thing.state.map(|state| state.to_string()));
    let human = thing.kind.is_person();
    if !human {
        words.extend(thing.colour.map(|colour| colour.to_string()));
    }
    words.push(if plural {
        thing.kind.traits().plural.to_owned()
    } else {
        thing.kind.name().to_owned()
    });
    if human {
        words.extend(thing.colour.map(|colour| format!("in {colour}")));
    }
    let worn: Vec<String> = thing
        .worn
        .iter()
        .map(|worn| super::grammar::indefinite_coloured(worn.kind, worn.colour))
        .collect();
    if !worn.is_empty() {
        words.push(format!("with {}", join(&worn)));
    }
    words.join(" ")
}
