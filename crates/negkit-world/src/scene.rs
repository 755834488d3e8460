//! What is in a picture: a place and the things in it, with all that is true of them.

use std::ops::Range;

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
/// Where that which is high up ends.
const HIGH_ENDS: f32 = 0.44;
/// How many times as large things of [`Scene::posed`] are at most.
const NEAREST: f32 = 1.6;
/// How far they stand beside their place, at most.
const WAVER: f32 = 0.015;
/// Share of the scenes of [`Scene::posed`] without anything in them.
const EMPTY: f64 = 0.1;

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

    /// A scene with at most two things that is composed as a photographer would: seen from as near as
    /// there is room for them, each in the middle of its part of the picture, and turned to one side.
    ///
    /// A chair of [`Scene::sample`] is 14 pixels wide in a picture of 64 and may stand anywhere.
    /// Pictures that say the same look much alike here, so that a small model has less to learn before
    /// it paints them clearly. All kinds are as often there, where by the weights of [`Scene::sample`] a
    /// person is in every second scene and a bus in one of a hundred. One of ten is empty.
    pub fn posed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kind = *Kind::ALL.choose(&mut rng).unwrap_or(&Kind::Chair);
        let first = posed_wish(wish_for(kind, &mut rng), &mut rng);
        let place = place_for(first.kind, &mut rng);
        let mut wishes = Vec::new();
        if rng.random_bool(1. - EMPTY) {
            let seen = first.kind;
            wishes.push(first);
            if rng.random_bool(0.35) {
                let zone = second_zone(place, &mut rng);
                let second = draw_kind(&mut rng, place, zone, |kind| kind == seen);
                let second = second.map(|kind| posed_wish(Wish::new(kind), &mut rng));
                wishes.extend(second);
            } else if kind == seen && kind != Kind::Sun && rng.random_bool(0.15) {
                wishes.push(posed_wish(Wish::new(kind), &mut rng));
            }
        }
        let mut things: Vec<Thing> = wishes.iter().map(|wish| fulfil(wish, &mut rng)).collect();
        while things.len() > 1 && most_nearness(&things) < 1. {
            things.pop();
        }
        things.sort_by_key(|thing| thing.kind.index());
        let nearness = NEAREST.min(most_nearness(&things)).max(1.);
        for thing in &mut things {
            thing.flipped = false;
            thing.frame[2] *= nearness;
            thing.frame[3] *= nearness;
        }
        let (low, high): (Vec<Thing>, Vec<Thing>) = things.into_iter().partition(is_low);
        let mut standing = evenly(low, nearness);
        for thing in &mut standing {
            let bases = bases(thing.kind);
            let base = f32::midpoint(bases.start, bases.end) + waver(&mut rng);
            thing.frame[1] = base - thing.frame[3];
            thing.frame[0] += waver(&mut rng);
        }
        let mut placed = evenly_above(high, &standing, nearness);
        for thing in &mut placed {
            thing.frame[0] += waver(&mut rng);
            thing.frame[1] += waver(&mut rng);
        }
        placed.extend(standing);
        Self {
            seed,
            place,
            things: placed,
            variation: rng.random(),
        }
    }

    /// A scene at `place` with the things asked for, as far as there is room for them, in that
    /// order; the same for the same seed.
    pub fn compose(seed: u64, place: Place, wishes: &[Wish]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::arrange(seed, place, wishes, &mut rng)
    }

    fn arrange(seed: u64, place: Place, wishes: &[Wish], rng: &mut ChaCha8Rng) -> Self {
        let things = wishes.iter().map(|wish| fulfil(wish, rng));
        let (low, high): (Vec<Thing>, Vec<Thing>) = things.partition(is_low);
        let mut standing = row(low, rng);
        for thing in &mut standing {
            thing.frame[1] = rng.random_range(bases(thing.kind)) - thing.frame[3];
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
        let width = reach(&thing, 1.);
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
        let width = reach(thing, 1.);
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
            let low = (HIGH_ENDS - thing.frame[3]).max(0.031);
            thing.frame[1] = rng.random_range(0.03..=low);
        }
        let hidden = |thing| hidden(thing, standing, 1.);
        let hidden: f32 = placed.iter().map(hidden).sum();
        if hidden < best.0 {
            best = (hidden, placed);
        }
        if hidden <= 0. {
            break;
        }
    }
    best.1
}

/// Gives things a place side by side with equal gaps.
fn evenly(mut things: Vec<Thing>, nearness: f32) -> Vec<Thing> {
    let used: f32 = things.iter().map(|thing| reach(thing, nearness)).sum();
    let gap = (1. - used) / (things.len() + 1) as f32;
    let mut x = 0.;
    for thing in &mut things {
        x += gap;
        let width = reach(thing, nearness);
        thing.frame[0] = x + (width - thing.frame[2]) / 2.;
        x += width;
    }
    things
}

/// The same high up: in the middle, or to a side where those that stand hide less of them.
fn evenly_above(high: Vec<Thing>, standing: &[Thing], nearness: f32) -> Vec<Thing> {
    let mut middle = evenly(high, nearness);
    for thing in &mut middle {
        let low = (HIGH_ENDS - thing.frame[3]).max(0.05);
        thing.frame[1] = f32::midpoint(0.05, low);
    }
    let left = middle.iter().map(|thing| thing.frame[0]);
    let room = left.fold(f32::INFINITY, f32::min).max(0.02) - 0.02;
    let aside = |by: f32| {
        let mut moved = middle.clone();
        for thing in &mut moved {
            thing.frame[0] += by;
        }
        moved
    };
    let hidden = |things: &[Thing]| -> f32 {
        let each = things.iter().map(|thing| hidden(thing, standing, nearness));
        each.sum()
    };
    let places = [middle.clone(), aside(-room), aside(room)];
    let best = places
        .into_iter()
        .min_by(|a, b| hidden(a).total_cmp(&hidden(b)));
    best.unwrap_or_default()
}

/// A little to one side or the other.
fn waver(rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(-WAVER..WAVER)
}

/// Whether a thing stands, lies or drives on the ground.
fn is_low(thing: &Thing) -> bool {
    thing.kind.traits().zone == Zone::Ground && thing.state != Some(State::Flying)
}

/// A place that things of that kind are likely at, all alike often; any where they are likely nowhere.
fn place_for(kind: Kind, rng: &mut ChaCha8Rng) -> Place {
    let is_likely = |place: &Place| place.likely().iter().any(|(likely, _)| *likely == kind);
    let mut places: Vec<Place> = Place::ALL.iter().copied().filter(is_likely).collect();
    if places.is_empty() {
        places.extend(Place::ALL);
    }
    *places.choose(rng).unwrap_or(&Place::Room)
}

/// Where a second thing is: on the ground three times of four.
fn second_zone(place: Place, rng: &mut ChaCha8Rng) -> Zone {
    match (rng.random_bool(0.75), place.indoors()) {
        (true, _) => Zone::Ground,
        (false, true) => Zone::Wall,
        (false, false) => Zone::Sky,
    }
}

/// The same of normal size, every second person without what can be worn.
fn posed_wish(wish: Wish, rng: &mut ChaCha8Rng) -> Wish {
    let is_bare = rng.random_bool(0.5);
    let worn = match wish.worn {
        None if wish.kind.is_person() && is_bare => Some(Vec::new()),
        worn => worn,
    };
    Wish {
        size: Some(Size::Normal),
        worn,
        ..wish
    }
}

/// Share of a thing's frame that lies behind those of others, what they wear and hold included.
fn hidden(thing: &Thing, before: &[Thing], nearness: f32) -> f32 {
    let [x, y, width, height] = thing.frame;
    let covered = before.iter().map(|other| {
        let reach = reach(other, nearness);
        let left = other.frame[0] + (other.frame[2] - reach) / 2.;
        let top = other.frame[1] - nearness * rise(other);
        let across = (x + width).min(left + reach) - x.max(left);
        let down = (y + height).min(other.frame[1] + other.frame[3]) - y.max(top);
        across.max(0.) * down.max(0.)
    });
    covered.sum::<f32>() / (width * height)
}

/// Where the lower edge of what stands on the ground lies.
fn bases(kind: Kind) -> Range<f32> {
    match kind {
        Kind::House | Kind::Tree => 0.72..0.80,
        // On the water of beach and harbor, which ends there.
        Kind::Boat => 0.66..0.70,
        _ => 0.84..0.95,
    }
}

/// The factor by which all these may grow before one reaches over the picture's edge or pushes
/// another out of it.
fn most_nearness(things: &[Thing]) -> f32 {
    let row = |low: bool| -> f32 {
        let own = |thing: &&Thing| is_low(thing) == low;
        let reaches = things.iter().filter(own).map(|thing| reach(thing, 1.));
        (GROUND_WIDTH - 2. * WAVER) / reaches.sum::<f32>().max(f32::MIN_POSITIVE)
    };
    let tall = things.iter().map(|thing| {
        let room = match is_low(thing) {
            true => bases(thing.kind).start - WAVER,
            false => HIGH_ENDS,
        };
        room / (thing.frame[3] + rise(thing))
    });
    tall.fold(row(true).min(row(false)), f32::min)
}

/// How far what a person wears and holds reaches over the frame, at its own size.
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
fn reach(thing: &Thing, nearness: f32) -> f32 {
    if thing.wears(Kind::Umbrella) {
        let umbrella = Kind::Umbrella.traits().width * thing.size.scale();
        thing.frame[2].max(nearness * umbrella)
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
    fn posed_scenes_have_few_things_and_every_kind_as_often() {
        let mut seen = vec![0; Kind::ALL.len()];
        let count = 100 * Kind::ALL.len() as u64;
        for seed in 0..count {
            let scene = Scene::posed(seed);
            assert!(scene.things.len() <= 2, "{scene:?}");
            for kind in Kind::ALL.iter().filter(|kind| scene.contains(**kind)) {
                seen[kind.index()] += 1;
            }
        }
        for (kind, seen) in Kind::ALL.iter().zip(seen) {
            assert!(seen > 50, "{kind} in {seen} of {count} scenes");
        }
    }

    #[test]
    fn posed_things_are_large_and_wholly_in_the_picture() {
        let (mut widths, mut empty) = (Vec::new(), 0);
        for seed in 0..3000 {
            let scene = Scene::posed(seed);
            assert_eq!(scene, Scene::posed(seed));
            empty += u32::from(scene.things.is_empty());
            for thing in &scene.things {
                let [x, y, width, height] = thing.frame;
                let inside = x > 0. && x + width < 1. && y > 0. && y + height < 1.;
                assert!(inside, "seed {seed}: {thing:?}");
                let own = thing.kind.traits().width;
                assert!(width >= 0.99 * own, "seed {seed}: {thing:?}");
                widths.push(width / own);
            }
        }
        assert!((200..400).contains(&empty), "{empty}");
        let mean = widths.iter().sum::<f32>() / widths.len() as f32;
        assert!(mean > 1.3 && mean <= NEAREST, "{mean}");
    }
}
