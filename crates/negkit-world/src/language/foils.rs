//! Pairs of a right caption and one that differs in a single point: what an encoder must tell
//! apart.

use negkit_data::negbench::CaptionType;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::captions::{absent_kind, present_kind};
use super::grammar::{indefinite, with_article};
use crate::catalog::Kind;
use crate::scene::Scene;

/// A right caption without a negation, and the same with one object exchanged for one that is
/// likely at that place but not in the picture.
///
/// `None` when the scene is empty or holds all that is likely.
pub fn ordinary_foil(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<(String, String)> {
    let there = present_kind(scene, rng)?;
    let absent: Vec<(Kind, f32)> = scene
        .place
        .likely()
        .iter()
        .copied()
        .filter(|&(kind, _)| !scene.contains(kind))
        .collect();
    // From the same zone if possible, so that the sky does not give a ground thing away.
    let zone = there.traits().zone;
    let alike: Vec<(Kind, f32)> = absent
        .iter()
        .copied()
        .filter(|(kind, _)| kind.traits().zone == zone)
        .collect();
    let pool = if alike.is_empty() { &absent } else { &alike };
    let missing = pool
        .choose_weighted(rng, |&(_, weight)| weight)
        .ok()
        .map(|&(kind, _)| kind)?;
    let a_place = with_article(scene.place.name());
    let preposition = scene.place.preposition();
    let form = rng.random_range(0..3);
    let text = |kind: Kind| {
        let one = indefinite(kind);
        match form {
            0 => format!("{a_place} with {one}"),
            1 => format!("{one} {preposition} {a_place}"),
            _ => format!("there is {one} {preposition} {a_place}"),
        }
    };
    Some((text(there), text(missing)))
}

/// Two captions that differ in a negation, the right one first: "a room with no chair" and "a room
/// with a chair" for a room where no chair is, the other way round where one is.
///
/// In half of the cases the object is there. Kinds that are missing are drawn from what is likely
/// at the place, as those that are there mostly were, so that the kind alone tells nothing.
pub fn negation_foil(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<(String, String)> {
    let there = rng.random_bool(0.5);
    let kind = if there {
        present_kind(scene, rng)?
    } else {
        absent_kind(scene, rng)?
    };
    let count = scene.of_kind(kind).count();
    let several = count != 1 && kind != Kind::Sun && rng.random_bool(0.3);
    let (one, bare, verb) = if several {
        let plural = kind.traits().plural;
        (plural.to_owned(), plural, "are")
    } else {
        (indefinite(kind), kind.name(), "is")
    };
    let a_place = with_article(scene.place.name());
    let (place, preposition) = (scene.place, scene.place.preposition());
    let (with, without) = match rng.random_range(0..5) {
        0 | 1 => (
            format!("{a_place} with {one}"),
            format!("{a_place} with no {bare}"),
        ),
        2 => (
            format!("{a_place} with {one}"),
            format!("{a_place} without {one}"),
        ),
        3 => (
            format!("there {verb} {one} {preposition} the {place}"),
            format!("there {verb} no {bare} {preposition} the {place}"),
        ),
        _ => (
            format!("{one} {preposition} {a_place}"),
            format!("no {bare} {preposition} {a_place}"),
        ),
    };
    Some(if there {
        (with, without)
    } else {
        (without, with)
    })
}

/// Four captions of a scene, the first one true and the others not, as NegBench asks for them: the true
/// one says what is there, what is not there, or both (`right`), and the others say both, what is there
/// and what is not the wrong way round, in that order.
///
/// One kind is in the scene; the other is likely at the place, but not there. `None` when the scene is
/// empty or holds all that is likely.
pub fn multiple_choice(
    scene: &Scene,
    right: CaptionType,
    rng: &mut ChaCha8Rng,
) -> Option<[String; 4]> {
    let there = present_kind(scene, rng)?;
    let missing = absent_kind(scene, rng)?;
    let a_place = with_article(scene.place.name());
    let (place, preposition) = (scene.place, scene.place.preposition());
    let form = rng.random_range(0..3);
    let positive = |kind: Kind| match form {
        0 => format!("{a_place} with {}", indefinite(kind)),
        1 => format!("there is {} {preposition} the {place}", indefinite(kind)),
        _ => format!("{} {preposition} {a_place}", indefinite(kind)),
    };
    let negative = |kind: Kind| match form {
        0 => format!("{a_place} with no {kind}"),
        1 => format!("there is no {kind} {preposition} the {place}"),
        _ => format!("no {kind} {preposition} {a_place}"),
    };
    let hybrid = |a: Kind, b: Kind| match form {
        0 => format!("{a_place} with {} but no {b}", indefinite(a)),
        1 => format!(
            "there is {} but no {b} {preposition} the {place}",
            indefinite(a)
        ),
        _ => format!("{} but no {b} {preposition} {a_place}", indefinite(a)),
    };
    let first = match right {
        CaptionType::Positive => positive(there),
        CaptionType::Negative => negative(missing),
        CaptionType::Hybrid => hybrid(there, missing),
    };
    Some([
        first,
        hybrid(missing, there),
        positive(missing),
        negative(there),
    ])
}
