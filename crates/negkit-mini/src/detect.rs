//! The stage of mini-detector: what lies where, from the renderer's own truth.
//!
//! It checks what mini-vqa says of a painted picture, and shares neither text nor weights with it.
//! The network that mini-vqa looks with has the same form and is somewhat wider.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use negkit_train::tasks::detector::{
    DetectorBatch, DetectorData, DetectorTask, PixelLabels, export_detector,
};
use negkit_train::{ParamStore, TrainError, TrainSettings, train};
use negkit_vqa::detector::DetectorConfig;
use negkit_world::{Kind, Rendering, Scene, State, render};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::MiniError;
use crate::ask::Wear;
use crate::gallery::{Gallery, Normalisation, draw, draw_pictures};
use crate::recipe::{self, CELL, SEED, SIDE};
use crate::stage::Workshop;
use crate::train::{World, posed_stage};

/// Share of a cell that a thing has to cover to be its label: legs, stems and glasses never cover
/// half of one.
const SHARE: f64 = 0.2;
/// Held-out scenes, and how many of them at a time.
const HELD_OUT: (usize, usize) = (400, 100);

/// What a cell with a thing in it is labelled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Its kind: one of as many as [`Kind::ALL`] has.
    Kinds,
    /// Its kind and its state, if it is of a kind that has states: one of [`looks`].
    Looks,
}

impl Naming {
    /// One more than the label's number.
    fn label(self, kind: Kind, state: Option<State>) -> u32 {
        let number = match self {
            Self::Kinds => kind.index(),
            Self::Looks => {
                let before = looks_of(Kind::ALL.iter().take(kind.index()));
                let states = kind.traits().states;
                let state = states.iter().position(|of_it| Some(*of_it) == state);
                before + state.unwrap_or_default()
            }
        };
        number as u32 + 1
    }
}

/// How many looks there are.
pub(crate) fn looks() -> usize {
    looks_of(Kind::ALL.iter())
}

/// A kind that has states has a look for each of them, any other has one.
fn looks_of<'a>(kinds: impl Iterator<Item = &'a Kind>) -> usize {
    kinds.map(|kind| kind.traits().states.len().max(1)).sum()
}

/// What every pixel of a scene's picture shows.
struct Labels {
    /// 0 for nothing, else one more than the number of a kind or look.
    kinds: Vec<u32>,
    /// 0 for no colour that is named, else one more than the index in `Colour::ALL`.
    colours: Vec<u32>,
}

impl Labels {
    fn of(scene: &Scene, rendering: &Rendering, naming: Naming) -> Self {
        let area = (SIDE * SIDE) as usize;
        let mut labels = Self {
            kinds: vec![0; area],
            colours: vec![0; area],
        };
        for (thing, truth) in scene.things.iter().zip(&rendering.things) {
            let of_thing = naming.label(thing.kind, thing.state);
            let colour = |colour: Option<negkit_world::Colour>| {
                colour.map_or(0, |colour| colour.index() as u32 + 1)
            };
            labels.fill(truth.visible.pixels(), of_thing, colour(thing.colour));
            for (worn, mask) in thing.worn.iter().zip(&truth.worn) {
                let of_worn = naming.label(worn.kind, None);
                labels.fill(mask.pixels(), of_worn, colour(worn.colour));
                labels.claim(of_thing, of_worn);
            }
        }
        labels
    }

    fn of_pixels(&self) -> PixelLabels<'_> {
        PixelLabels {
            kinds: &self.kinds,
            colours: &self.colours,
        }
    }

    fn fill(&mut self, mask: &[bool], kind: u32, colour: u32) {
        let labels = self.kinds.iter_mut().zip(&mut self.colours);
        for ((to_kind, to_colour), _) in labels.zip(mask).filter(|(_, covered)| **covered) {
            (*to_kind, *to_colour) = (kind, colour);
        }
    }

    /// Takes the wearer's pixels out of the cells in which what is worn covers enough: a face has
    /// more pixels than the glasses on it, and glasses would never be found.
    fn claim(&mut self, wearer: u32, worn: u32) {
        let side = SIDE as usize;
        let enough = (SHARE * (CELL * CELL) as f64).ceil() as usize;
        for row in (0..side).step_by(CELL) {
            for column in (0..side).step_by(CELL) {
                let pixels = (0..CELL * CELL).map(|i| (row + i / CELL) * side + column + i % CELL);
                let covered = pixels.clone().filter(|&i| self.kinds[i] == worn).count();
                if covered < enough {
                    continue;
                }
                for pixel in pixels
                    .filter(|&i| self.kinds[i] == wearer)
                    .collect::<Vec<_>>()
                {
                    (self.kinds[pixel], self.colours[pixel]) = (0, 0);
                }
            }
        }
    }
}

/// What stands in every cell of scenes' pictures, and its colour, in cells as a detector of `config`
/// has them.
pub(crate) fn cell_labels(
    gallery: &Gallery,
    indices: &[usize],
    config: &DetectorConfig,
    naming: Naming,
) -> Result<(Vec<u32>, Vec<u32>), TrainError> {
    let labels = rendered(gallery, indices, naming);
    let labels: Vec<PixelLabels<'_>> = labels.iter().map(Labels::of_pixels).collect();
    // Of a batch only the labels are wanted here.
    let none = Tensor::zeros((labels.len(), 1), DType::F32, &Device::Cpu)?;
    let batch = DetectorBatch::from_pixels(none, &labels, config, SHARE)?;
    Ok((batch.kinds, batch.colours))
}

/// Labels are rendered anew each time: that takes less than a thousandth of a second a picture, and
/// those of all scenes would fill the memory.
fn rendered(gallery: &Gallery, indices: &[usize], naming: Naming) -> Vec<Labels> {
    let labels = indices.par_iter().map(|&i| {
        let scene = gallery.scene(i);
        Labels::of(scene, &render(scene, SIDE), naming)
    });
    labels.collect()
}

/// Scenes with the truth of their pixels.
struct LabelledScenes<'a> {
    /// Batches come from one after the other.
    train: &'a [&'a Gallery],
    held_out: &'a Gallery,
    wear: &'a Wear,
    config: &'a DetectorConfig,
    pictures: usize,
}

impl LabelledScenes<'_> {
    /// A batch of those scenes; worn, when there are random numbers to wear them by.
    fn of(
        &self,
        gallery: &Gallery,
        indices: &[usize],
        wear: Option<&mut ChaCha8Rng>,
    ) -> Result<DetectorBatch, TrainError> {
        let labels = rendered(gallery, indices, Naming::Kinds);
        let mut pixels = gallery.tensor(indices, Normalisation::SYMMETRIC)?;
        if let Some(rng) = wear {
            pixels = self.wear.apply(&pixels, rng)?;
        }
        let labels: Vec<PixelLabels<'_>> = labels.iter().map(Labels::of_pixels).collect();
        DetectorBatch::from_pixels(pixels, &labels, self.config, SHARE)
    }
}

impl DetectorData for LabelledScenes<'_> {
    fn batch(&self, step: u64) -> Result<DetectorBatch, TrainError> {
        let mut rng = draw("detector", step);
        let (gallery, indices) = draw_pictures(self.train, step, self.pictures, &mut rng);
        self.of(gallery, &indices, Some(&mut rng))
    }

    fn validation(&self) -> Result<Vec<DetectorBatch>, TrainError> {
        let (scenes, at_a_time) = HELD_OUT;
        let indices: Vec<usize> = (0..scenes.min(self.held_out.len())).collect();
        indices
            .chunks(at_a_time)
            .map(|part| self.of(self.held_out, part, None))
            .collect()
    }

    fn recipe(&self) -> Value {
        json!({ "pictures": self.pictures, "share": SHARE })
    }
}

/// mini-detector: folder `detector-posed`, ready for use under `export`; as it is before it
/// sees posed scenes, in the folder `detector`.
///
/// # Errors
/// When the training fails.
pub fn detector(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let (settings, pictures) = recipe::detector_training();
    let described = json!({
        "training": settings,
        "pictures": pictures,
        "share": SHARE,
        "model": recipe::detector_config()?,
    });
    shop.stage("detector", &described, &["pictures", "vae"], |folder| {
        let store = ParamStore::random(SEED, &Device::Cpu);
        train_detector(shop, world, &[&world.train], (&store, &settings), folder)
    })?;

    let settings = recipe::detector_posed_training();
    let described = json!({
        "training": settings,
        "pictures": pictures,
        "share": SHARE,
    });
    let of_it = ("detector", &["vae"][..]);
    posed_stage(
        shop,
        world,
        of_it,
        &described,
        |galleries, store, folder| {
            train_detector(shop, world, galleries, (store, &settings), folder)
        },
    )
}

fn train_detector(
    shop: &Workshop,
    world: &World,
    galleries: &[&Gallery],
    (store, settings): (&ParamStore, &TrainSettings),
    folder: &Path,
) -> Result<(), MiniError> {
    let (_, pictures) = recipe::detector_training();
    let config = recipe::detector_config()?;
    let wear = Wear::open(&shop.path("vae").join("export"))?;
    let data = LabelledScenes {
        train: galleries,
        held_out: &world.validation,
        wear: &wear,
        config: &config,
        pictures,
    };
    let task = DetectorTask::new(store, &config, data)?;
    train(store, &task, settings, &folder.join("training"))?;
    export_detector(store, &config, &folder.join("export"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_and_state_has_a_look_of_its_own() {
        let labels = Kind::ALL.iter().flat_map(|kind| {
            let states = kind.traits().states;
            let states: Vec<_> = match states {
                [] => vec![None],
                _ => states.iter().copied().map(Some).collect(),
            };
            states
                .into_iter()
                .map(|state| Naming::Looks.label(*kind, state))
        });
        let expected: Vec<u32> = (1..=looks() as u32).collect();
        assert_eq!(labels.collect::<Vec<_>>(), expected);
        assert!(looks() > Kind::ALL.len());
    }

    #[test]
    fn a_thing_in_another_state_has_other_cells() {
        let config = recipe::detector_config().unwrap();
        let scenes: Vec<Scene> = (0..1000).map(Scene::posed).collect();
        let with = |state: State| {
            let birds = |scene: &Scene| -> Vec<Option<State>> {
                let things = scene.things.iter();
                let birds = things.filter(|thing| thing.kind == Kind::Bird);
                birds.map(|thing| thing.state).collect()
            };
            let is_one = |scene: &&Scene| birds(scene) == [Some(state)];
            scenes.iter().find(is_one).unwrap()
        };
        let labels = |scene: &Scene, naming: Naming| {
            let labels = Labels::of(scene, &render(scene, SIDE), naming);
            let none = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap();
            let batch = DetectorBatch::from_pixels(none, &[labels.of_pixels()], &config, SHARE);
            batch.unwrap().kinds
        };
        let bird = |naming: Naming, state: State| naming.label(Kind::Bird, Some(state));
        for (state, other) in [
            (State::Flying, State::Perched),
            (State::Perched, State::Flying),
        ] {
            let looks = labels(with(state), Naming::Looks);
            assert!(looks.contains(&bird(Naming::Looks, state)));
            assert!(!looks.contains(&bird(Naming::Looks, other)));
            let kinds = labels(with(state), Naming::Kinds);
            assert!(kinds.contains(&bird(Naming::Kinds, state)));
            // Only the names differ, not which cells have one.
            let named = |labels: &[u32]| labels.iter().map(|label| *label != 0).collect::<Vec<_>>();
            assert_eq!(named(&looks), named(&kinds));
        }
    }

    /// The detector finds only what its labels hold: whatever is seen well must be in the grid.
    #[test]
    fn whatever_is_seen_has_cells() {
        let config = recipe::detector_config().unwrap();
        let (mut seen, mut labelled) = (0, 0);
        for seed in 0..120 {
            let scene = Scene::sample(seed);
            let rendering = render(&scene, SIDE);
            let labels = Labels::of(&scene, &rendering, Naming::Kinds);
            let pixels = candle_core::Tensor::zeros(
                (1, 3, SIDE as usize, SIDE as usize),
                candle_core::DType::F32,
                &Device::Cpu,
            )
            .unwrap();
            let of_picture = PixelLabels {
                kinds: &labels.kinds,
                colours: &labels.colours,
            };
            let batch = DetectorBatch::from_pixels(pixels, &[of_picture], &config, SHARE).unwrap();
            let cells = |kind: Kind| {
                let class = kind.index() as u32 + 1;
                batch.kinds.iter().filter(|label| **label == class).count()
            };
            for kind in Kind::ALL.iter().filter(|kind| !scene.contains(**kind)) {
                assert_eq!(cells(*kind), 0, "scene {seed} has no {kind}");
            }
            for (thing, truth) in scene.things.iter().zip(&rendering.things) {
                let worn = thing.worn.iter().zip(&truth.worn);
                let worn = worn.map(|(worn, mask)| (worn.kind, mask.area()));
                for (kind, area) in worn.chain([(thing.kind, truth.visible.area())]) {
                    if area >= 24 {
                        seen += 1;
                        labelled += usize::from(cells(kind) >= config.min_cells);
                    }
                }
            }
        }
        assert!(seen > 200, "{seen} things");
        let share = f64::from(labelled as u32) / f64::from(seen);
        assert!(share > 0.97, "{labelled} of {seen} things have cells");
    }
}
