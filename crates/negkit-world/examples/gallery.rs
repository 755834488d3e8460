//! Draws everything that there is in the world onto sheets: kinds by colours and states, people by
//! what they wear, places, and scenes as they are sampled.
//!
//! `cargo run -p negkit-world --example gallery -- FOLDER [SIDE]`

use std::path::PathBuf;
use std::time::Instant;

use negkit_image::write_png;
use negkit_world::catalog::{Colour, Kind, Place, State, Zone};
use negkit_world::render_picture;
use negkit_world::scene::{Scene, Size, Thing, Wish, Worn};
use negkit_world::sheet::contact_sheet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "gallery".into()));
    let side = arguments.next().map_or(Ok(64), |side| side.parse())?;
    std::fs::create_dir_all(&folder)?;
    let sheets = [
        ("kinds", kinds(), 8),
        ("people", people(), 8),
        ("places", places(), 6),
        ("colours", colours(), 8),
        ("sampled", (0..48).map(Scene::sample).collect(), 8),
    ];
    for (name, scenes, columns) in sheets {
        let path = folder.join(format!("{name}-{side}.png"));
        write_png(&path, &contact_sheet(&scenes, side, columns)?, &[])?;
        println!("{}", path.display());
    }
    let count = 2000;
    let scenes: Vec<Scene> = (0..count).map(Scene::sample).collect();
    let start = Instant::now();
    let mut sum = 0u64;
    for scene in &scenes {
        sum += u64::from(render_picture(scene, side).as_raw()[0]);
    }
    let micros = start.elapsed().as_micros() as f64 / count as f64;
    println!("{micros:.0} µs a picture at {side} pixels (sum {sum})");
    Ok(())
}

fn one(place: Place, wish: Wish, seed: u64) -> Scene {
    Scene::compose(seed, place, &[wish])
}

/// A place where the kind is likely.
fn home(kind: Kind) -> Place {
    let likely = |place: &&Place| place.likely().iter().any(|(other, _)| *other == kind);
    Place::ALL
        .iter()
        .rev()
        .find(likely)
        .copied()
        .unwrap_or(Place::Park)
}

fn kinds() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for &kind in Kind::ALL
        .iter()
        .filter(|kind| kind.traits().zone != Zone::Person)
    {
        let states: Vec<Option<State>> = match kind.traits().states {
            [] => vec![None],
            states => states.iter().copied().map(Some).collect(),
        };
        for state in states {
            let mut wish = Wish::new(kind);
            wish.state = state;
            wish.size = Some(Size::Normal);
            wish.worn = Some(Vec::new());
            scenes.push(one(home(kind), wish, scenes.len() as u64));
        }
    }
    scenes
}

fn people() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let kinds = [Kind::Hat, Kind::Glasses, Kind::Umbrella, Kind::Bag];
    for kind in [Kind::Man, Kind::Woman] {
        for &state in kind.traits().states {
            for worn in 0..8u64 {
                let mut wish = Wish::new(kind);
                wish.state = Some(state);
                let seed = scenes.len() as u64;
                wish.colour = Some(Colour::ALL[(seed % 7) as usize]);
                let on = kinds.iter().enumerate().filter(|(i, _)| match worn {
                    0 => false,
                    1..=4 => *i as u64 == worn - 1,
                    5 => *i < 2,
                    6 => *i != 1,
                    _ => true,
                });
                wish.worn = Some(
                    on.map(|(i, &kind)| Worn {
                        kind,
                        colour: kind.traits().colours.get((seed as usize + i) % 8).copied(),
                    })
                    .collect(),
                );
                let place = Place::ALL[(seed % 12) as usize];
                scenes.push(one(place, wish, seed));
            }
        }
    }
    scenes
}

fn places() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for &place in Place::ALL {
        for seed in 0..3 {
            scenes.push(Scene::compose(seed, place, &[]));
        }
    }
    scenes
}

/// Each kind in each of its colours, several kinds a row.
fn colours() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for &kind in Kind::ALL
        .iter()
        .filter(|kind| kind.traits().colours.len() > 4)
    {
        if kind.traits().zone == Zone::Person {
            continue;
        }
        for (index, &colour) in kind.traits().colours.iter().enumerate() {
            let mut wish = Wish::new(kind);
            wish.colour = Some(colour);
            wish.worn = Some(Vec::new());
            wish.size = Some(Size::Normal);
            let places: Vec<Place> = Place::ALL
                .iter()
                .copied()
                .filter(|place| place.likely().iter().any(|(other, _)| *other == kind))
                .collect();
            let place = places
                .get(index % places.len().max(1))
                .copied()
                .unwrap_or(Place::Park);
            let scene = one(place, wish, index as u64);
            debug_assert!(scene.things.iter().all(|thing: &Thing| thing.kind == kind));
            scenes.push(scene);
        }
    }
    scenes
}
