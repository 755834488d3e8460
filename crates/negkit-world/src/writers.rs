//! Writer and verifier of the caption pipelines for this world: rules and exact truth where the
//! paper has a language model and a model that sees.
//!
//! [`WorldWriter`] works from the caption alone, as a language model does: it knows the world's
//! grammar and what is likely where, but no scene. [`WorldVerifier`] knows the scenes. So the
//! pipelines run here as they do on photos, a wrong guess of the writer included.

use negkit_captions::{
    CaptionError, CaptionWriter, HardNegative, ImageRef, ObjectVerifier, SourceCaption, Verdict,
};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::catalog::{Colour, Kind, Place, State, Zone};
use crate::language::{Attribute, Noun, indefinite, is_test_prompt, join, with_article};
use crate::scene::Scene;

/// Writes negations into captions of this world by templates. The same seed, caption and request
/// give the same words.
///
/// Its captions are never one of the [`negation_prompts`](crate::language::negation_prompts),
/// which are for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorldWriter {
    /// Decides between templates and likely objects.
    pub seed: u64,
}

impl WorldWriter {
    /// A writer with that seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn rng(&self, caption: &SourceCaption, request: &str) -> ChaCha8Rng {
        // FNV-1a: a stable hash of what is asked, so that every request has its own stream.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let id = caption.id.to_le_bytes();
        for byte in id
            .iter()
            .chain(caption.text.as_bytes())
            .chain(request.as_bytes())
        {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(hash);
        rng
    }
}

/// Kinds that the text names, in the singular or the plural.
fn named(text: &str) -> Vec<Kind> {
    let words: Vec<&str> = words(text).collect();
    Kind::ALL
        .iter()
        .copied()
        .filter(|kind| words.contains(&kind.name()) || words.contains(&kind.traits().plural))
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '.', '?', '\''])
        .filter(|word| !word.is_empty())
}

/// The place that the text names, or else the one where what it names is most likely.
fn place_of(text: &str, kinds: &[Kind]) -> Place {
    let by_name = words(text).find_map(Place::from_name);
    let weight = |place: Place| -> f32 {
        place
            .likely()
            .iter()
            .filter(|(kind, _)| kinds.contains(kind))
            .map(|(_, weight)| weight)
            .sum()
    };
    by_name
        .or_else(|| {
            Place::ALL
                .iter()
                .copied()
                .max_by(|a, b| weight(*a).total_cmp(&weight(*b)))
        })
        .unwrap_or(Place::Room)
}

/// How likely one misses a worn thing where people are spoken of, against the catalogue's weights.
const WORN_WEIGHT: f32 = 4.;

impl CaptionWriter for WorldWriter {
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError> {
        let mut rng = self.rng(caption, "name");
        let kinds = named(&caption.text);
        let place = place_of(&caption.text, &kinds);
        let mut open: Vec<(Kind, f32)> = place.likely().to_vec();
        if kinds.iter().any(|kind| kind.is_person()) {
            let worn = Kind::ALL
                .iter()
                .filter(|kind| kind.traits().zone == Zone::Person);
            open.extend(worn.map(|kind| (*kind, WORN_WEIGHT)));
        }
        open.retain(|(kind, _)| !kinds.contains(kind));
        open.choose_weighted(&mut rng, |&(_, weight)| weight)
            .map(|(kind, _)| kind.to_string())
            .map_err(|_| CaptionError::NothingToWrite {
                reason: format!("{:?} names all that is likely there", caption.text),
            })
    }

    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError> {
        let mut rng = self.rng(caption, object);
        let noun = noun_of(object).ok_or_else(|| CaptionError::NothingToWrite {
            reason: format!("{object:?} is not a word of this world"),
        })?;
        first_untested(|| absent(&caption.text, noun, &mut rng))
    }

    fn write_denial(
        &self,
        caption: &SourceCaption,
        question: &str,
    ) -> Result<String, CaptionError> {
        let mut rng = self.rng(caption, question);
        let denied = denied_by(question).ok_or_else(|| CaptionError::NothingToWrite {
            reason: format!("the answer to {question:?} is not a thing to say in a caption"),
        })?;
        match denied {
            Denied::Object(noun) => {
                if named(&caption.text).iter().any(|kind| noun.covers(*kind)) {
                    return Err(CaptionError::NothingToWrite {
                        reason: format!("the caption names {:?}", noun.singular()),
                    });
                }
                first_untested(|| absent(&caption.text, noun, &mut rng))
            }
            Denied::Attribute(noun, attribute) => {
                first_untested(|| lacking(&caption.text, noun, attribute, &mut rng))
            }
        }
    }
}

/// The first text that is no prompt of the test list.
fn first_untested(mut write: impl FnMut() -> String) -> Result<String, CaptionError> {
    (0..20)
        .map(|_| write())
        .find(|text| !is_test_prompt(text))
        .ok_or_else(|| CaptionError::NothingToWrite {
            reason: "every wording is a prompt of the test list".to_owned(),
        })
}

fn noun_of(word: &str) -> Option<Noun> {
    let general = [Noun::Person, Noun::Animal, Noun::Vehicle];
    let kinds = Kind::ALL.iter().copied().map(Noun::Kind);
    kinds
        .chain(general)
        .find(|noun| noun.singular() == word || noun.plural() == word)
}

/// "a chair", "glasses", "the sun".
fn one(noun: Noun) -> String {
    match noun {
        Noun::Kind(kind) => indefinite(kind),
        _ => with_article(noun.singular()),
    }
}

/// "with no chair", "without a chair", "with no chairs", "without any chairs".
fn with_none(noun: Noun, rng: &mut ChaCha8Rng) -> String {
    let (singular, plural) = (noun.singular(), noun.plural());
    match (rng.random_range(0..7), noun) {
        (0 | 1, _) => format!("with no {singular}"),
        (2 | 3, _) => format!("without {}", one(noun)),
        (_, Noun::Kind(Kind::Sun)) => "with no sun".to_owned(),
        (4, _) => format!("with no {plural}"),
        (5, _) => format!("without any {plural}"),
        _ => format!("without {plural}"),
    }
}

/// The caption with the object's absence worked in.
fn absent(caption: &str, noun: Noun, rng: &mut ChaCha8Rng) -> String {
    let several = noun != Noun::Kind(Kind::Sun) && rng.random_bool(0.5);
    let bare = if several {
        noun.plural()
    } else {
        noun.singular()
    };
    let is = if several || noun == Noun::Kind(Kind::Glasses) {
        "are"
    } else {
        "is"
    };
    // What is worn goes to who would wear it.
    if let Noun::Kind(kind) = noun
        && kind.traits().zone == Zone::Person
        && rng.random_bool(0.6)
        && let Some(text) = insert_after(caption, Noun::Person, |_| match rng.random_range(0..3) {
            0 => format!("with no {kind}"),
            1 => format!("without {}", indefinite(kind)),
            _ => format!("not {} {}", wearing(kind), indefinite(kind)),
        })
    {
        return text;
    }
    let place_first = Place::ALL.iter().find_map(|place| {
        let head = with_article(place.name());
        let things = caption.strip_prefix(&format!("{head} with "))?;
        Some((place, head, things))
    });
    if let Some((place, head, things)) = place_first {
        return match rng.random_range(0..9) {
            7 => format!("{caption} but not {}", one(noun)),
            0 => format!("{caption} but no {bare}"),
            1 => format!("{caption} and no {bare}"),
            2 => format!("{head} with no {bare} but {things}"),
            3 => format!("{head} {}, with {things}", with_none(noun, rng)),
            4 => format!("{caption}, {}", with_none(noun, rng)),
            5 => format!("{caption} but without {}", one(noun)),
            6 => format!("{head} without {} but with {things}", one(noun)),
            _ => format!("there {is} no {bare} {} {caption}", place.preposition()),
        };
    }
    let sentence = [" is ", " are "].iter().any(|verb| caption.contains(verb));
    let at_place = Place::ALL
        .iter()
        .any(|place| caption.ends_with(&format!(" {place}")));
    match rng.random_range(0..10) {
        8 | 9 if !sentence => format!("no {bare} but {caption}"),
        5 if !sentence => format!("{caption}, but not {}", one(noun)),
        0 if !sentence => format!("{caption}, but no {bare}"),
        1 if !sentence => format!("no {bare}, {caption}"),
        2 if sentence => format!("{caption} and there {is} no {bare}"),
        3 => format!("{caption}, and no {bare} {is} there"),
        4 if sentence => format!("there {is} no {bare}, and {caption}"),
        4 if at_place => format!("{caption} where there {is} no {bare}"),
        _ if at_place => format!("{caption} {}", with_none(noun, rng)),
        _ => format!("{caption}, {}", with_none(noun, rng)),
    }
}

fn wearing(kind: Kind) -> &'static str {
    match kind {
        Kind::Hat | Kind::Glasses => "wearing",
        _ => "holding",
    }
}

/// What a question answered "no" denies.
enum Denied {
    Object(Noun),
    Attribute(Noun, Attribute),
}

/// Reads a question of one of the forms that are asked in this world. `None` for a question whose
/// "no" says little: about another place, or a number.
fn denied_by(question: &str) -> Option<Denied> {
    let text = question.trim().trim_end_matches('?').to_lowercase();
    let words: Vec<&str> = text.split(' ').collect();
    let attribute = |noun: &str, rest: &[&str]| {
        let noun = noun_of(noun)?;
        let attribute = match rest {
            ["dressed", "in", colour] => Attribute::Colour(Colour::from_name(colour)?),
            [word] => State::from_name(word)
                .map(Attribute::State)
                .or_else(|| Colour::from_name(word).map(Attribute::Colour))?,
            ["wearing" | "holding" | "carrying" | "have", rest @ ..] => {
                let kind = Kind::from_name(rest.last()?)?;
                let colour = rest.iter().find_map(|word| Colour::from_name(word));
                Attribute::Wears(kind, colour)
            }
            _ => return None,
        };
        Some(Denied::Attribute(noun, attribute))
    };
    match words[..] {
        ["is", "there", "a" | "an", noun, ..]
        | ["are", "there", "any", noun, ..]
        | ["is", "this", "a" | "an", noun] => noun_of(noun).map(Denied::Object),
        ["are", "there", noun, ..] => noun_of(noun).map(Denied::Object),
        ["is" | "does", "the", noun, ref rest @ ..] => attribute(noun, rest),
        _ => None,
    }
}

/// The caption with what its thing is not, or does not have, worked in.
fn lacking(caption: &str, noun: Noun, attribute: Attribute, rng: &mut ChaCha8Rng) -> String {
    let human = noun.is_human();
    let relative = if human { "who" } else { "that" };
    let predicate = match attribute {
        Attribute::Colour(colour) if human => format!("dressed in {colour}"),
        Attribute::Colour(colour) => colour.to_string(),
        Attribute::State(state) => state.to_string(),
        Attribute::Size(size) => format!("{size:?}").to_lowercase(),
        Attribute::Wears(kind, colour) => format!(
            "{} {}",
            wearing(kind),
            crate::language::indefinite_coloured(kind, colour)
        ),
    };
    let turn = rng.random_range(0..4);
    let phrase = |plural: bool| {
        let is = if plural { "are" } else { "is" };
        match (attribute, turn) {
            (Attribute::Wears(kind, colour), 0) => format!(
                "without {}",
                crate::language::indefinite_coloured(kind, colour)
            ),
            (Attribute::Wears(kind, None), 1) => format!("with no {kind}"),
            (Attribute::Wears(kind, Some(colour)), 1) => format!("with no {colour} {kind}"),
            (Attribute::Colour(_), _) | (_, 2) => format!("{relative} {is} not {predicate}"),
            _ => format!("not {predicate}"),
        }
    };
    if rng.random_bool(0.75)
        && let Some(text) = insert_after(caption, noun, phrase)
    {
        return text;
    }
    match find_noun(caption, noun) {
        Some((_, end, plural)) => {
            let start = caption[..end].rfind(' ').map_or(0, |space| space + 1);
            let name = &caption[start..end];
            let is = if plural { "are" } else { "is" };
            match rng.random_range(0..2) {
                0 => format!("{caption}, the {name} {is} not {predicate}"),
                _ => format!("{caption}, and the {name} {is} not {predicate}"),
            }
        }
        // A thing that the caption left out: the question speaks of it, so it is there.
        None if caption.contains(" is ") || caption.contains(" are ") => format!(
            "{caption}, and {} is not {predicate}",
            with_article(noun.singular())
        ),
        None => format!(
            "{caption} and {} {}",
            with_article(noun.singular()),
            phrase(false)
        ),
    }
}

/// Start and end of the first word in the text that the noun fits, and whether it is a plural.
fn find_noun(text: &str, noun: Noun) -> Option<(usize, usize, bool)> {
    let mut start = 0;
    for word in text.split(' ') {
        let bare = word.trim_end_matches([',', '.']);
        for kind in Kind::ALL.iter().copied().filter(|kind| noun.covers(*kind)) {
            let plural = bare == kind.traits().plural && bare != kind.name();
            if bare == kind.name() || plural {
                return Some((start, start + bare.len(), plural));
            }
        }
        start += word.len() + 1;
    }
    None
}

/// The text with a phrase directly after the noun, where the noun ends what is said of the thing.
fn insert_after(text: &str, noun: Noun, mut phrase: impl FnMut(bool) -> String) -> Option<String> {
    let (_, end, plural) = find_noun(text, noun)?;
    let rest = &text[end..];
    let mut next = rest.trim_start().split(' ');
    let ends_there = match (next.next(), next.next()) {
        _ if rest.starts_with(',') => true,
        (Some("" | "and") | None, _) => true,
        (Some("in" | "on"), Some("a" | "an" | "the")) => true,
        _ => false,
    };
    ends_there.then(|| format!("{} {}{rest}", &text[..end], phrase(plural)))
}

/// Knows what is in the pictures, because it knows their scenes.
pub struct WorldVerifier<F> {
    scenes: F,
}

impl WorldVerifier<fn(u64) -> Option<Scene>> {
    /// For pictures whose id is the seed of their scene.
    pub fn by_seed() -> Self {
        Self {
            scenes: |seed| Some(Scene::sample(seed)),
        }
    }
}

impl<F: Fn(u64) -> Option<Scene> + Sync> WorldVerifier<F> {
    /// For pictures whose scenes are found by their ids.
    pub fn new(scenes: F) -> Self {
        Self { scenes }
    }
}

impl<F: Fn(u64) -> Option<Scene> + Sync> ObjectVerifier for WorldVerifier<F> {
    fn is_there(&self, image: &ImageRef, object: &str) -> Result<Verdict, CaptionError> {
        let noun = noun_of(object).ok_or_else(|| CaptionError::UnknownObject {
            object: object.to_owned(),
        })?;
        let scene = (self.scenes)(image.id).ok_or(CaptionError::UnknownImage { id: image.id })?;
        let there = crate::language::Negated::Object(noun).is_shown(&scene);
        Ok(if there { Verdict::Yes } else { Verdict::No })
    }
}

/// A pair of captions of CoN-CLIP's sort for a scene, and a distractor from `pool`: the scene that
/// resembles this one most (place, then kinds shared) and lacks what is denied.
///
/// `pool` holds scenes by their picture's id. `None` for a scene without things.
pub fn hard_negative(
    id: u64,
    scene: &Scene,
    pool: &[(u64, Scene)],
    rng: &mut ChaCha8Rng,
) -> Option<HardNegative> {
    let mut kinds: Vec<Kind> = scene.things.iter().map(|thing| thing.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.shuffle(rng);
    let (&denied, others) = kinds.split_first()?;
    let others: Vec<String> = others
        .iter()
        .take(1)
        .map(|kind| indefinite(*kind))
        .collect();
    let a_place = with_article(scene.place.name());
    let at = format!("{} {a_place}", scene.place.preposition());
    let (object, bare) = (indefinite(denied), denied.name());
    let form = rng.random_range(0..3);
    let (caption, negated_caption) = if others.is_empty() {
        match form {
            0 => (format!("{object} {at}"), format!("no {bare} {at}")),
            _ => (
                format!("{a_place} with {object}"),
                format!("{a_place} without {object}"),
            ),
        }
    } else {
        let rest = join(&others);
        match form {
            0 => (
                format!("{a_place} with {rest} and {object}"),
                format!("{a_place} with {rest} and no {bare}"),
            ),
            1 => (
                format!("{rest} and {object} {at}"),
                format!("{rest} but no {bare} {at}"),
            ),
            _ => (
                format!("{rest} {at} with {object}"),
                format!("{rest} {at} without {object}"),
            ),
        }
    };
    if is_test_prompt(&negated_caption) {
        return None;
    }
    let likeness = |other: &Scene| {
        let shared = kinds.iter().filter(|kind| other.contains(**kind)).count();
        (
            usize::from(other.place == scene.place) * 4 + shared,
            other.seed,
        )
    };
    let distractor = pool
        .iter()
        .filter(|(other, candidate)| *other != id && !candidate.contains(denied))
        .max_by_key(|(_, candidate)| likeness(candidate))
        .map(|(other, _)| *other);
    Some(HardNegative {
        image_id: id,
        caption,
        negated_caption,
        object: denied.to_string(),
        distractor,
    })
}
