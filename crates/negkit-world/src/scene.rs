//! What is in a picture: a place and the things in it, with all that is true of them.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::catalog::{Colour, Kind, Place, State, Zone};

/// Size of a thing against others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// Three quarters of the normal size.
    Small,
    /// The size that its kind usually has; captions do not name it.
    Normal,
    /// Six fifths of the normal size.
    Large,
}

impl Size {
    /// Factor on width and height.
    pub fn scale(self) -> f32 {
        match self {
            Self::Small => 0.75,
            Self::Normal => 1.,
            Self::Large => 1.2,
        }
    }
}

/// Something that a person wears or holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Worn {
    /// Its kind, of [`Zone::Person`].
    pub kind: Kind,
    /// Its colour, for kinds that come in colours.
    pub colour: Option<Colour>,
}

/// One thing in a scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    /// Its kind.
    pub kind: Kind,
    /// Its colour (of a person: of the clothes); none for kinds whose colour is their nature.
    pub colour: Option<Colour>,
    /// Its state, for kinds that have states.
    pub state: Option<State>,
    /// Its size against others of its kind.
    pub size: Size,
    /// What it wears and holds; only people do.
    pub worn: Vec<Worn>,
    /// Left, top, width and height of the frame that it is drawn in, as shares of the picture's
    /// side. What a person wears or holds may reach out of it.
    pub frame: [f32; 4],
    /// Whether it looks to the left.
    pub flipped: bool,
    /// Varies what is nobody's business: skin, hair, the shape of a cloud.
    pub variation: u32,
}

impl Thing {
    /// Whether it wears or holds a thing of that kind.
    pub fn wears(&self, kind: Kind) -> bool {
        self.worn.iter().any(|worn| worn.kind == kind)
    }
}

/// A place and what is in it, in the order of drawing (from the back to the front).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// Where it plays.
    pub place: Place,
    /// What is in it.
    pub things: Vec<Thing>,
    /// Varies the tints of walls, floors and skies.
    pub variation: u32,
}

/// What is asked of one thing of a composed scene; what is left open is drawn by chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Its kind, not of [`Zone::Person`].
    pub kind: Kind,
    /// Its colour.
    pub colour: Option<Colour>,
    /// Its state.
    pub state: Option<State>,
    /// Its size.
    pub size: Option<Size>,
    /// What it wears and holds.
    pub worn: Option<Vec<Worn>>,
}

impl Wish {
    /// A thing of that kind, all else open.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            colour: None,
            state: None,
            size: None,
            worn: None,
        }
    }
}

/// Share of things that are drawn from all kinds that fit the zone, likely there or not.
const UNLIKELY: f64 = 0.08;
/// Share of things that get a second one of their kind beside them, with attributes of its own.
const COMPANION: f64 = 0.28;
/// How often a person has each thing that can be worn or held.
const WORN: [(Kind, f64); 4] = [
    (Kind::Hat, 0.35),
    (Kind::Glasses, 0.30),
    (Kind::Umbrella, 0.18),
    (Kind::Bag, 0.25),
];
/// How often a place is sought for what is high up, until nothing hides it.
const TRIES: usize = 8;
/// Width of the picture that things on the ground may take.
const GROUND_WIDTH: f32 = 0.98;

impl Scene {
    /// The scene of that seed: place, things and attributes drawn by the catalogue's weights.
    pub fn sample(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let place = *Place::ALL.choose(&mut rng).unwrap_or(&Place::Room);
        let ground = weighted(&mut rng, &[0.07, 0.38, 0.38, 0.17]);
        let above = weighted(&mut rng, &[0.35, 0.45, 0.20]);
        let high = if place.indoors() {
            Zone::Wall
        } else {
            Zone::Sky
        };
        let mut wishes: Vec<Wish> = Vec::new();
        for (zone, count) in [(high, above), (Zone::Ground, ground)] {
            for _ in 0..count {
                let taken = |kind: Kind| wishes.iter().any(|wish| wish.kind == kind);
                let Some(kind) = draw_kind(&mut rng, place, zone, taken) else {
                    continue;
                };
                wishes.push(Wish::new(kind));
                if kind != Kind::Sun && rng.random_bool(COMPANION) {
                    wishes.push(Wish::new(kind));
                }
            }
        }
        Self::arrange(seed, place, &wishes, &mut rng)
    }

    /// A scene with one or two sorts of things, what a short caption tells all of: a kind, all alike
    /// often, at a place that it is likely at; a second sort by the place's weights.
    ///
    /// By the weights of [`Scene::sample`] a person is in every second scene and a bus in one of a
    /// hundred.
    pub fn sparse(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kind = *Kind::ALL.choose(&mut rng).unwrap_or(&Kind::Chair);
        let mut wishes = vec![wish_for(kind, &mut rng)];
        let seen = wishes[0].kind;
        let is_likely = |place: &Place| place.likely().iter().any(|(kind, _)| *kind == seen);
        let mut places: Vec<Place> = Place::ALL.iter().copied().filter(is_likely).collect();
        if places.is_empty() {
            places.extend(Place::ALL);
        }
        let place = *places.choose(&mut rng).unwrap_or(&Place::Room);
        if rng.random_bool(0.4) {
            let zone = match (rng.random_bool(0.75), place.indoors()) {
                (true, _) => Zone::Ground,
                (false, true) => Zone::Wall,
                (false, false) => Zone::Sky,
            };
            let second = draw_kind(&mut rng, place, zone, |kind| kind == seen);
            wishes.extend(second.map(Wish::new));
        } else if kind == seen && kind != Kind::Sun && rng.random_bool(COMPANION) {
            wishes.push(Wish::new(kind));
        }
        Self::arrange(seed, place, &wishes, &mut rng)
    }

    /// A scene at `place` with the things asked for, as far as there is room for them, in that
    /// order; the same for the same seed.
    pub fn compose(seed: u64, place: Place, wishes: &[Wish]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::arrange(seed, place, wishes, &mut rng)
    }

    fn arrange(seed: u64, place: Place, wishes: &[Wish], rng: &mut ChaCha8Rng) -> Self {
        let mut things: Vec<Thing> = wishes.iter().map(|wish| fulfil(wish, rng)).collect();
        let mut low: Vec<Thing> = Vec::new();
        let mut high: Vec<Thing> = Vec::new();
        for thing in things.drain(..) {
            let flying = thing.state == Some(State::Flying);
            let zone = thing.kind.traits().zone;
            if zone == Zone::Ground && !flying {
                low.push(thing);
            } else {
                high.push(thing);
            }
        }
        let mut standing = row(low, rng);
        for thing in &mut standing {
            let base = match thing.kind {
                Kind::House | Kind::Tree => rng.random_range(0.72..0.80),
                // On the water of beach and harbor, which ends there.
                Kind::Boat => rng.random_range(0.66..0.70),
                _ => rng.random_range(0.84..0.95),
            };
            thing.frame[1] = base - thing.frame[3];
        }
        standing.sort_by(|a, b| (a.frame[1] + a.frame[3]).total_cmp(&(b.frame[1] + b.frame[3])));
        let mut placed = above(&high, &standing, rng);
        placed.extend(standing);
        Self {
            seed,
            place,
            things: placed,
            variation: rng.random(),
        }
    }

    /// Whether a thing of that kind is there, worn and held ones included.
    pub fn contains(&self, kind: Kind) -> bool {
        self.things
            .iter()
            .any(|thing| thing.kind == kind || thing.wears(kind))
    }

    /// Things of that kind that stand for themselves.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Thing> {
        self.things.iter().filter(move |thing| thing.kind == kind)
    }
}

/// Gives things a place side by side, in random order and with random gaps; drops the last ones
/// when there is no room for all.
fn row(things: Vec<Thing>, rng: &mut ChaCha8Rng) -> Vec<Thing> {
    let mut kept: Vec<Thing> = Vec::new();
    let mut used = 0.;
    for thing in things {
        let width = reach(&thing);
        if used + width <= GROUND_WIDTH {
            used += width;
            kept.push(thing);
        }
    }
    let mut order: Vec<usize> = (0..kept.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    let cuts: Vec<f32> = (0..=kept.len())
        .map(|_| rng.random_range(0.05f32..1.))
        .collect();
    let unit = (1. - used) / cuts.iter().sum::<f32>();
    let mut x = 0.;
    for (cut, &i) in cuts.iter().zip(&order) {
        x += cut * unit;
        let thing = &mut kept[i];
        let width = reach(thing);
        thing.frame[0] = x + (width - thing.frame[2]) / 2.;
        x += width;
    }
    kept
}

/// Places things high up, and of several tries keeps the one in which those that stand hide least
/// of them.
fn above(high: &[Thing], standing: &[Thing], rng: &mut ChaCha8Rng) -> Vec<Thing> {
    let mut best = (f32::INFINITY, Vec::new());
    for _ in 0..TRIES {
        let mut placed = row(high.to_vec(), rng);
        for thing in &mut placed {
            let low = (0.44 - thing.frame[3]).max(0.031);
            thing.frame[1] = rng.random_range(0.03..=low);
        }
        let hidden: f32 = placed.iter().map(|thing| hidden(thing, standing)).sum();
        if hidden < best.0 {
            best = (hidden, placed);
        }
        if hidden <= 0. {
            break;
        }
    }
    best.1
}

/// Share of a thing's frame that lies behind those of others, what they wear and hold included.
fn hidden(thing: &Thing, before: &[Thing]) -> f32 {
    let [x, y, width, height] = thing.frame;
    let covered = before.iter().map(|other| {
        let reach = reach(other);
        let left = other.frame[0] + (other.frame[2] - reach) / 2.;
        let top = other.frame[1] - rise(other);
        let across = (x + width).min(left + reach) - x.max(left);
        let down = (y + height).min(other.frame[1] + other.frame[3]) - y.max(top);
        across.max(0.) * down.max(0.)
    });
    covered.sum::<f32>() / (width * height)
}

/// How far what a person wears and holds reaches over the frame.
fn rise(thing: &Thing) -> f32 {
    let rise: f32 = if thing.wears(Kind::Umbrella) {
        0.15
    } else if thing.wears(Kind::Hat) {
        0.03
    } else {
        0.
    };
    rise * thing.size.scale()
}

/// Width that a thing takes with what it holds.
fn reach(thing: &Thing) -> f32 {
    if thing.wears(Kind::Umbrella) {
        thing.frame[2].max(Kind::Umbrella.traits().width * thing.size.scale())
    } else if thing.wears(Kind::Bag) {
        thing.frame[2] * 1.25
    } else {
        thing.frame[2]
    }
}

/// A thing of that kind, all else open; for what is worn, a person with it.
fn wish_for(kind: Kind, rng: &mut ChaCha8Rng) -> Wish {
    let traits = kind.traits();
    if traits.zone != Zone::Person {
        return Wish::new(kind);
    }
    let person = match rng.random_bool(0.5) {
        true => Kind::Man,
        false => Kind::Woman,
    };
    let colour = traits.colours.choose(rng).copied();
    Wish {
        worn: Some(vec![Worn { kind, colour }]),
        ..Wish::new(person)
    }
}

fn fulfil(wish: &Wish, rng: &mut ChaCha8Rng) -> Thing {
    let traits = wish.kind.traits();
    let colour = wish.colour.or_else(|| traits.colours.choose(rng).copied());
    let state = wish.state.or_else(|| traits.states.choose(rng).copied());
    let drawn = match weighted(rng, &[0.15, 0.65, 0.20]) {
        0 => Size::Small,
        1 => Size::Normal,
        _ => Size::Large,
    };
    let size = wish.size.unwrap_or(drawn);
    let mut worn = Vec::new();
    if wish.kind.is_person() {
        for (kind, share) in WORN {
            let has = rng.random_bool(share);
            let colour = kind.traits().colours.choose(rng).copied();
            if has {
                worn.push(Worn { kind, colour });
            }
        }
    }
    if let Some(wished) = &wish.worn {
        worn.clone_from(wished);
    }
    let (mut width, mut height) = (traits.width, traits.height);
    if wish.kind.is_person() && state == Some(State::Sitting) {
        height *= 0.8;
    }
    width *= size.scale();
    height *= size.scale();
    Thing {
        kind: wish.kind,
        colour,
        state,
        size,
        worn,
        frame: [0., 0., width, height],
        flipped: rng.random(),
        variation: rng.random(),
    }
}

fn draw_kind(
    rng: &mut ChaCha8Rng,
    place: Place,
    zone: Zone,
    taken: impl Fn(Kind) -> bool,
) -> Option<Kind> {
    let fits = |kind: Kind| kind.traits().zone == zone && !taken(kind);
    if rng.random_bool(UNLIKELY) {
        let all: Vec<Kind> = Kind::ALL.iter().copied().filter(|&k| fits(k)).collect();
        return all.choose(rng).copied();
    }
    let likely: Vec<(Kind, f32)> = place
        .likely()
        .iter()
        .copied()
        .filter(|&(kind, _)| fits(kind))
        .collect();
    likely
        .choose_weighted(rng, |&(_, weight)| weight)
        .ok()
        .map(|&(kind, _)| kind)
}

/// Index drawn with the given probabilities.
fn weighted(rng: &mut ChaCha8Rng, shares: &[f64]) -> usize {
    let mut left = rng.random_range(0. ..shares.iter().sum::<f64>());
    for (i, share) in shares.iter().enumerate() {
        if left < *share {
            return i;
        }
        left -= share;
    }
    shares.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_scenes_have_few_things_and_every_kind_as_often() {
        let mut seen = vec![0; Kind::ALL.len()];
        let count = 100 * Kind::ALL.len() as u64;
        for seed in 0..count {
            let scene = Scene::sparse(seed);
            assert_eq!(scene, Scene::sparse(seed));
            assert!((1..=2).contains(&scene.things.len()), "{scene:?}");
            for kind in Kind::ALL.iter().filter(|kind| scene.contains(**kind)) {
                seen[kind.index()] += 1;
            }
        }
        for (kind, seen) in Kind::ALL.iter().zip(seen) {
            assert!(seen > 60, "{kind} in {seen} of {count} scenes");
        }
    }
}
