//! The stage of mini-clipseg.

use candle_core::Device;
use negkit_clipseg::decoder::ClipSegConfig;
use negkit_train::tasks::pictures::Pictures;
use negkit_train::tasks::segmentation::{
    FrozenClip, PhraseMasks, SegmentationTask, decoder_init, export_clipseg,
};
use negkit_train::{ParamStore, TrainError, train};
use negkit_world::language::{self, Noun, Phrase};
use negkit_world::{Kind, Rendering, Scene, Zone, render};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;

use crate::MiniError;
use crate::recipe::{self, SEED, SEGMENTATION_SIDE};
use crate::stage::Workshop;
use crate::train::World;

/// Pixels that a phrase means: all of its things, or the worn thing.
pub fn phrase_mask(rendering: &Rendering, phrase: &Phrase) -> Vec<bool> {
    let (width, height) = rendering.picture.dimensions();
    let mut pixels = vec![false; (width * height) as usize];
    let mut add = |mask: &negkit_image::Mask| {
        for (pixel, covered) in pixels.iter_mut().zip(mask.pixels()) {
            *pixel |= covered;
        }
    };
    match phrase.worn {
        Some((thing, worn)) => add(&rendering.things[thing].worn[worn]),
        None => phrase
            .things
            .iter()
            .for_each(|&thing| add(&rendering.things[thing].visible)),
    }
    pixels
}

/// Scenes with phrases that mean something in them.
struct Phrases<'a> {
    scenes: Vec<&'a Scene>,
}

/// Whether the phrase means some of several that are called alike, so that one has to read all of it:
/// "man with a hat" where there is one without.
fn tells_apart(scene: &Scene, phrase: &Phrase) -> bool {
    let called_alike = |a: Kind, b: Kind| {
        let general = Noun::general(a);
        a == b || (general.is_some() && general == Noun::general(b))
    };
    let is_meant = |thing: usize| phrase.things.contains(&thing);
    let meant = phrase.things.iter().map(|&thing| scene.things[thing].kind);
    let others = scene.things.iter().enumerate();
    let others: Vec<Kind> = others
        .filter(|(i, _)| !is_meant(*i))
        .map(|(_, other)| other.kind)
        .collect();
    meant
        .into_iter()
        .any(|kind| others.iter().any(|&other| called_alike(kind, other)))
}

/// Random numbers of one choice.
fn choose(choice: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(choice)
}

/// A kind that is nowhere in the scene, mostly one that is likely at the place.
fn absent_kind(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<Kind> {
    let likely = scene.place.likely().iter().map(|&(kind, _)| kind);
    let worn = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.traits().zone == Zone::Person);
    let candidates: Vec<Kind> = match rng.random_bool(0.7) {
        true => likely
            .chain(worn)
            .filter(|&kind| !scene.contains(kind))
            .collect(),
        false => Kind::ALL
            .iter()
            .copied()
            .filter(|&kind| !scene.contains(kind))
            .collect(),
    };
    candidates.choose(rng).copied()
}

impl Pictures for Phrases<'_> {
    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn size(&self) -> (usize, usize) {
        (SEGMENTATION_SIDE as usize, SEGMENTATION_SIDE as usize)
    }

    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError> {
        let picture = negkit_world::render_picture(self.scenes[index], SEGMENTATION_SIDE);
        rgb.copy_from_slice(picture.as_raw());
        Ok(())
    }
}

impl PhraseMasks for Phrases<'_> {
    fn phrase(&self, index: usize, choice: u64, mask: &mut [u8]) -> Result<String, TrainError> {
        let scene = self.scenes[index];
        let mut rng = choose(choice);
        let phrases = language::phrases(scene, &mut rng);
        mask.fill(0);
        let telling: Vec<&Phrase> = phrases.iter().filter(|p| tells_apart(scene, p)).collect();
        let phrase = match telling.choose(&mut rng) {
            Some(phrase) if rng.random_bool(recipe::TELLING_PHRASES) => Some(*phrase),
            _ => phrases.choose(&mut rng),
        };
        let Some(phrase) = phrase else {
            // Nothing is in the picture that could be meant.
            return self.absent_phrase(index, choice);
        };
        let rendering = render(scene, SEGMENTATION_SIDE);
        for (value, covered) in mask.iter_mut().zip(phrase_mask(&rendering, phrase)) {
            *value = u8::from(covered);
        }
        Ok(phrase.text.clone())
    }

    fn absent_phrase(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        let scene = self.scenes[index];
        let mut rng = choose(choice);
        let kind = absent_kind(scene, &mut rng);
        let kind =
            kind.ok_or_else(|| TrainError::Task("found everything in a scene".to_owned()))?;
        let colours = kind.traits().colours;
        Ok(match colours.choose(&mut rng) {
            Some(colour) if rng.random_bool(0.3) => format!("{colour} {kind}"),
            _ => kind.to_string(),
        })
    }
}

/// mini-clipseg: folder `clipseg`, in transformers' layout under `export`.
///
/// # Errors
/// When the training fails.
pub fn clipseg(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let (settings, task_settings) = recipe::clipseg_training();
    let config = recipe::clipseg_config();
    let described = json!({
        "training": settings,
        "task": task_settings,
        "extract_layers": config.extract_layers,
        "reduce_dim": config.reduce_dim,
        "side": SEGMENTATION_SIDE,
        "referring": recipe::REFERRING,
        "telling_phrases": recipe::TELLING_PHRASES,
    });
    shop.stage("clipseg", &described, &["pictures", "clip"], |folder| {
        let clip = shop.path("clip").join("export");
        let clip = FrozenClip::open(&clip, SEGMENTATION_SIDE, &Device::Cpu)?;
        let config: ClipSegConfig = clip.describe(&config)?;
        let store = ParamStore::random_with(SEED, &Device::Cpu, decoder_init);
        let referring: Vec<Scene> = recipe::REFERRING.map(language::referring_scene).collect();
        let scenes = world.train.scenes().iter().chain(&referring).collect();
        let held_out = world.validation.scenes().iter().collect();
        let phrases = (Phrases { scenes }, Phrases { scenes: held_out });
        let task = SegmentationTask::new(&store, &config, &clip, phrases, task_settings.clone())?;
        train(&store, &task, &settings, &folder.join("training"))?;
        export_clipseg(&store, &config, &clip, &folder.join("export"))?;
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_phrases_leave_out_something_of_the_same_name() {
        let mut counts = [0, 0];
        for scene in recipe::REFERRING.take(40).map(language::referring_scene) {
            for phrase in language::phrases(&scene, &mut choose(scene.seed)) {
                let telling = tells_apart(&scene, &phrase);
                counts[usize::from(telling)] += 1;
                let kinds = phrase.things.iter().map(|&thing| scene.things[thing].kind);
                let all_of_it = kinds.clone().all(|kind| {
                    scene.of_kind(kind).count() == phrase.things.len()
                        && Noun::general(kind).is_none()
                });
                assert!(!(telling && all_of_it), "{} of {scene:?}", phrase.text);
            }
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
