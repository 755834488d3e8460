//! Truth against pixels.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use negkit_image::Mask;

use super::*;
use crate::catalog::Place;
use crate::scene::{Size, Wish, Worn};

/// Every kind in every state turns up among so many.
const SEEDS: std::ops::Range<u64> = 0..400;

fn area_drawn(thing: &Thing, side: u32) -> Vec<bool> {
    let mut canvas = Canvas::new(side, 0);
    paint_thing(&mut canvas, thing, 0);
    let picture = canvas.picture.unwrap();
    picture
        .pixels()
        .iter()
        .map(|pixel| pixel.alpha() > 0)
        .collect()
}

fn pixels(picture: &RgbImage) -> Vec<Rgb> {
    picture.pixels().map(|pixel| pixel.0).collect()
}

/// The colour name that a person would give a pixel: by lightness when it is grey, else by hue.
fn name_of([r, g, b]: Rgb) -> Colour {
    let (r, g, b) = (f32::from(r), f32::from(g), f32::from(b));
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let spread = high - low;
    if spread < 0.22 * high || high < 62. {
        return if high > 125. {
            Colour::White
        } else {
            Colour::Black
        };
    }
    let hue = if high == r {
        60. * (g - b) / spread
    } else if high == g {
        120. + 60. * (b - r) / spread
    } else {
        240. + 60. * (r - g) / spread
    };
    match hue.rem_euclid(360.) {
        h if !(12. ..=335.).contains(&h) => Colour::Red,
        h if h < 38. => Colour::Brown,
        h if h < 66. => Colour::Yellow,
        h if h < 170. => Colour::Green,
        h if h < 250. => Colour::Blue,
        _ => Colour::Purple,
    }
}

#[test]
fn the_palette_has_its_names() {
    for &colour in Colour::ALL {
        let shades = [
            rgb(colour),
            lighter(rgb(colour), 0.16),
            darker(rgb(colour), 0.26),
        ];
        assert_eq!(shades.map(name_of), [colour; 3]);
    }
}

/// The share of a mask's pixels that have that colour.
fn share_of(colour: Option<Colour>, mask: &Mask, picture: &RgbImage) -> f64 {
    let inside = mask.pixels().iter().zip(pixels(picture));
    let own = inside.filter(|(inside, pixel)| **inside && Some(name_of(*pixel)) == colour);
    own.count() as f64 / mask.area() as f64
}

#[test]
fn a_mask_covers_its_things_colour() {
    let mut wrong = Vec::new();
    for &kind in Kind::ALL {
        for (index, &colour) in kind.traits().colours.iter().enumerate() {
            for seed in 0..6 {
                let worn = Worn {
                    kind,
                    colour: Some(colour),
                };
                let is_worn = kind.traits().zone == Zone::Person;
                let mut wish = Wish::new(if is_worn { Kind::Man } else { kind });
                wish.worn = Some(if is_worn { vec![worn] } else { Vec::new() });
                wish.colour = (!is_worn).then_some(colour);
                let place = Place::ALL[(index + 2 * seed as usize) % Place::ALL.len()];
                let rendering = render(&Scene::compose(seed, place, &[wish]), 64);
                let thing = &rendering.things[0];
                let mask = if is_worn {
                    &thing.worn[0]
                } else {
                    &thing.visible
                };
                let share = share_of(Some(colour), mask, &rendering.picture);
                // Skin, hair and shoes are nobody's clothes, a bicycle is half tyres, sails are
                // white and roofs of tile.
                let least = match kind {
                    Kind::Man | Kind::Woman | Kind::Bicycle | Kind::Boat => 0.3,
                    Kind::House => 0.4,
                    _ => 0.5,
                };
                if share < least {
                    wrong.push(format!("{share:.2} of a {colour} {kind}, seed {seed}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_thing_that_is_absent_leaves_nothing() {
    for seed in 0..120 {
        let scene = Scene::sample(seed);
        let whole = render(&scene, 64);
        for index in 0..scene.things.len() {
            let mut without = scene.clone();
            let thing = without.things.remove(index);
            let rest = render(&without, 64);
            let drawn = area_drawn(&thing, 64);
            let both = pixels(&whole.picture)
                .into_iter()
                .zip(pixels(&rest.picture));
            for (pixel, ((a, b), drawn)) in both.zip(&drawn).enumerate() {
                assert!(
                    a == b || *drawn,
                    "seed {seed}, thing {index}, pixel {pixel}"
                );
            }
            for (pixel, inside) in whole.things[index].visible.pixels().iter().enumerate() {
                assert!(
                    !inside || drawn[pixel],
                    "seed {seed}, thing {index}, pixel {pixel}"
                );
            }
        }
    }
}

#[test]
fn masks_do_not_overlap_and_hold_what_is_worn() {
    for seed in SEEDS {
        let scene = Scene::sample(seed);
        let rendering = render(&scene, 64);
        assert_eq!(rendering.things.len(), scene.things.len());
        let mut owners = vec![0u8; 64 * 64];
        for (thing, truth) in scene.things.iter().zip(&rendering.things) {
            assert_eq!(truth.worn.len(), thing.worn.len());
            let mut add = |mask: &Mask| {
                for (owners, inside) in owners.iter_mut().zip(mask.pixels()) {
                    *owners += u8::from(*inside);
                }
            };
            add(&truth.visible);
            for (worn, mask) in thing.worn.iter().zip(&truth.worn) {
                if matches!(worn.kind, Kind::Hat | Kind::Glasses) {
                    let within = mask.pixels().iter().zip(truth.visible.pixels());
                    assert!(within.into_iter().all(|(worn, person)| !worn || *person));
                } else {
                    add(mask);
                }
            }
            assert_eq!(truth.frame, crate::truth::frame(&truth.visible));
        }
        assert!(owners.iter().all(|&count| count <= 1), "seed {seed}");
    }
}

#[test]
fn a_hidden_part_belongs_to_what_hides_it() {
    let thing = |kind: Kind, left: f32| {
        let mut scene = Scene::compose(1, Place::Park, &[Wish::new(kind)]);
        let mut thing = scene.things.remove(0);
        thing.frame[0] = left;
        thing.frame[1] = 0.9 - thing.frame[3];
        thing
    };
    let mut scene = Scene::compose(1, Place::Park, &[]);
    scene.things = vec![thing(Kind::Bookcase, 0.3)];
    let alone = render(&scene, 64).things[0].visible.area();
    scene.things.push(thing(Kind::Fridge, 0.3));
    let both = render(&scene, 64).things;
    let mut front = scene.clone();
    front.things.remove(0);
    assert_eq!(both[1].visible, render(&front, 64).things[0].visible);
    assert!(
        both[0].visible.area() < alone / 2,
        "{} of {alone}",
        both[0].visible.area()
    );
}

#[test]
fn everything_of_size_is_seen_somewhere() {
    let side = 64;
    for seed in SEEDS {
        let scene = Scene::sample(seed);
        // In the last place nothing is drawn over a thing.
        let (Some(thing), rendering) = (scene.things.last(), render(&scene, side)) else {
            continue;
        };
        let truth = rendering.things.last().unwrap();
        let frame = thing.frame[2] * thing.frame[3] * (side * side) as f32;
        let share = truth.visible.area() as f32 / frame;
        assert!(
            share > 0.17,
            "{} fills {share:.2} of its frame, seed {seed}",
            thing.kind
        );
        for (worn, mask) in thing.worn.iter().zip(&truth.worn) {
            assert!(
                mask.area() >= 4,
                "seed {seed}: {} has {} pixels",
                worn.kind,
                mask.area()
            );
        }
    }
}

#[test]
fn things_stay_in_the_picture() {
    let side = 128;
    for seed in SEEDS {
        let mut scene = Scene::sample(seed);
        // The picture is drawn at half its size in the middle of another one: what left it would
        // show outside of the middle. Umbrellas keep below the upper edge by the picture's own
        // edge, which is farther away here.
        for thing in &mut scene.things {
            thing.worn.retain(|worn| worn.kind != Kind::Umbrella);
            let [x, y, width, height] = thing.frame;
            thing.frame = [0.25 + x / 2., 0.25 + y / 2., width / 2., height / 2.];
        }
        for (thing, truth) in scene.things.iter().zip(render(&scene, side).things) {
            for mask in truth.worn.iter().chain([&truth.visible]) {
                let Some([x, y, width, height]) = crate::truth::frame(mask) else {
                    continue;
                };
                let (low, high) = (side / 4, side * 3 / 4);
                assert!(
                    x >= low && y >= low && x + width <= high && y + height <= high,
                    "{} at {:?}, seed {seed}",
                    thing.kind,
                    thing.frame
                );
            }
        }
    }
}

#[test]
fn an_umbrella_stays_below_the_upper_edge() {
    for (seed, &state) in Kind::Man.traits().states.iter().enumerate() {
        for size in [Size::Small, Size::Normal, Size::Large] {
            let mut wish = Wish::new(Kind::Man);
            wish.state = Some(state);
            wish.size = Some(size);
            wish.worn = Some(vec![Worn {
                kind: Kind::Umbrella,
                colour: Some(Colour::Red),
            }]);
            let scene = Scene::compose(seed as u64, Place::Park, &[wish]);
            let truth = render(&scene, 256).things.remove(0);
            let [x, y, width, height] = crate::truth::frame(&truth.worn[0]).unwrap();
            assert!(
                y > 0 && x > 0 && x + width < 256,
                "{state:?} {size:?}: {x} {y} {width}"
            );
            assert!(height > 30 && width > 60, "{width} {height}");
        }
    }
}

#[test]
fn every_resolution_shows_the_same_scene() {
    for seed in 0..12 {
        let scene = Scene::sample(seed);
        let share = |side: u32| -> Vec<f32> {
            let rendering = render(&scene, side);
            assert_eq!(rendering.picture.dimensions(), (side, side));
            let areas = rendering.things.iter().map(|thing| thing.visible.area());
            areas
                .map(|area| area as f32 / (side * side) as f32)
                .collect()
        };
        let fine = share(512);
        for side in [32, 33, 48, 64, 96, 127, 224, 256, 352] {
            for (thing, (coarse, fine)) in scene.things.iter().zip(share(side).iter().zip(&fine)) {
                let close = (coarse - fine).abs() < 0.012 + 0.25 * fine;
                assert!(
                    close,
                    "seed {seed}, {} at {side}: {coarse} and {fine}",
                    thing.kind
                );
            }
        }
    }
    assert_eq!(render_picture(&Scene::sample(0), 0).dimensions(), (8, 8));
}

#[test]
fn a_seed_has_one_picture() {
    for seed in 0..60 {
        let scene = Scene::sample(seed);
        let once = render(&scene, 64);
        let twice = render(&Scene::sample(seed), 64);
        assert_eq!(once.picture, twice.picture);
        assert_eq!(once.picture, render_picture(&scene, 64), "seed {seed}");
        for (a, b) in once.things.iter().zip(&twice.things) {
            assert_eq!(a.visible, b.visible);
        }
    }
}

/// Mean red, green and blue of the four quarters of a picture.
fn quarters(picture: &RgbImage) -> [Rgb; 4] {
    let half = picture.width() / 2;
    [(0, 0), (half, 0), (0, half), (half, half)].map(|(left, top)| {
        let mut sums = [0u32; 3];
        for (x, y) in (0..half).flat_map(|y| (0..half).map(move |x| (x, y))) {
            for (sum, value) in sums.iter_mut().zip(picture.get_pixel(left + x, top + y).0) {
                *sum += u32::from(value);
            }
        }
        sums.map(|sum| (sum / (half * half)) as u8)
    })
}

/// Trained models know these pictures. Means, because the last bit of a blend may differ between
/// processors with other vector instructions.
#[test]
fn pictures_are_those_that_models_were_trained_on() {
    let found: Vec<[Rgb; 4]> = (0..12)
        .map(|seed| quarters(&render_picture(&Scene::sample(seed), 64)))
        .collect();
    let close = |a: &Rgb, b: &Rgb| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1);
    for (seed, (found, known)) in found.iter().zip(KNOWN).enumerate() {
        let same = found.iter().zip(&known).all(|(a, b)| close(a, b));
        assert!(same, "seed {seed}: {found:?}, known {known:?}");
    }
}

const KNOWN: [[Rgb; 4]; 12] = [
    [
        [208, 228, 233],
        [198, 212, 216],
        [178, 190, 173],
        [194, 180, 160],
    ],
    [
        [186, 218, 232],
        [189, 220, 240],
        [177, 156, 108],
        [162, 167, 113],
    ],
    [
        [173, 208, 231],
        [173, 208, 231],
        [167, 186, 194],
        [153, 169, 177],
    ],
    [
        [216, 224, 221],
        [225, 222, 209],
        [162, 158, 157],
        [185, 184, 186],
    ],
    [
        [198, 222, 238],
        [194, 215, 229],
        [164, 178, 179],
        [159, 174, 172],
    ],
    [
        [186, 219, 225],
        [183, 215, 221],
        [164, 191, 201],
        [140, 161, 170],
    ],
    [
        [223, 207, 223],
        [217, 205, 217],
        [190, 184, 197],
        [160, 167, 164],
    ],
    [
        [236, 236, 222],
        [236, 237, 222],
        [228, 216, 201],
        [200, 191, 180],
    ],
    [
        [211, 204, 218],
        [210, 198, 205],
        [184, 177, 196],
        [185, 171, 189],
    ],
    [
        [195, 220, 225],
        [210, 226, 224],
        [119, 158, 145],
        [152, 183, 119],
    ],
    [
        [190, 170, 169],
        [198, 208, 211],
        [155, 164, 170],
        [150, 165, 171],
    ],
    [
        [199, 183, 179],
        [209, 189, 191],
        [179, 167, 180],
        [183, 161, 183],
    ],
];
