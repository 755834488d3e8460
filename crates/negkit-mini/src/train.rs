//! The stages that everything builds on: pictures, vocabulary, and the stock CLIP.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use negkit_checkpoint::Checkpoint;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::tasks::contrastive::ContrastiveTask;
use negkit_train::tasks::grounding::CellLabels;
use negkit_train::tasks::pictures::Pictures;
use negkit_train::{ParamStore, TrainError, TrainedTokenizer, export_clip, train};
use negkit_world::{Scene, language};
use serde_json::{Value, json};

use crate::MiniError;
use crate::detect::{Naming, cell_labels};
use crate::gallery::{Gallery, draw};
use crate::recipe::{self, CONTEXT, SEED, SIDE};
use crate::stage::Workshop;
use crate::texts::OrdinaryCaptions;

/// The parameters of a model that a stage exported.
pub(crate) fn trained(export: &Path) -> Result<ParamStore, MiniError> {
    let checkpoint = Checkpoint::open(export).map_err(MiniError::other)?;
    Ok(ParamStore::from_tensors(
        Arc::new(checkpoint),
        &Device::Cpu,
    )?)
}

/// The scenes that everything is trained on and scored by.
pub struct World {
    /// For training.
    pub train: Gallery,
    /// For choosing settings and checkpoints.
    pub validation: Gallery,
}

impl World {
    /// Opens the pictures of training and validation scenes; renders them when they are not there.
    ///
    /// # Errors
    /// When files cannot be written or are damaged.
    pub fn open(shop: &Workshop) -> Result<Self, MiniError> {
        let settings = json!({
            "side": SIDE,
            "training": recipe::TRAINING,
            "validation": recipe::VALIDATION,
        });
        let folder = shop.stage("pictures", &settings, &[], |folder| {
            Gallery::open(recipe::TRAINING, &folder.join("training.rgb"))?;
            Gallery::open(recipe::VALIDATION, &folder.join("validation.rgb"))?;
            Ok(())
        })?;
        Ok(Self {
            train: Gallery::open(recipe::TRAINING, &folder.join("training.rgb"))?,
            validation: Gallery::open(recipe::VALIDATION, &folder.join("validation.rgb"))?,
        })
    }
}

/// Pictures of the scenes that `draw` makes of `seeds`: the folder `stage`.
pub(crate) fn pictures_of(
    shop: &Workshop,
    stage: &str,
    draw: fn(u64) -> Scene,
    seeds: Range<u64>,
) -> Result<Gallery, MiniError> {
    let settings = json!({ "side": SIDE, "training": seeds });
    let open =
        |folder: &Path| Gallery::open_with(draw, seeds.clone(), &folder.join("training.rgb"));
    let folder = shop.stage(stage, &settings, &[], |folder| open(folder).map(drop))?;
    open(&folder)
}

/// The stage `NAME-posed`: `learn` trains what the stage `name` exported further, in the folder it
/// gets, every second batch from posed scenes. `inputs` are those of the stage `name` besides pictures.
pub(crate) fn posed_stage(
    shop: &Workshop,
    world: &World,
    (name, inputs): (&str, &[&str]),
    described: &Value,
    learn: impl FnOnce(&[&Gallery], &ParamStore, &Path) -> Result<(), MiniError>,
) -> Result<(), MiniError> {
    let posed = posed_pictures(shop)?;
    let inputs = [&["pictures", "posed-pictures"], inputs, &[name]].concat();
    shop.stage(&format!("{name}-posed"), described, &inputs, |folder| {
        let store = trained(&shop.path(name).join("export"))?;
        learn(&[&posed, &world.train], &store, folder)
    })?;
    Ok(())
}

/// Pictures of posed scenes: folder `posed-pictures`.
pub(crate) fn posed_pictures(shop: &Workshop) -> Result<Gallery, MiniError> {
    pictures_of(shop, "posed-pictures", Scene::posed, recipe::POSED)
}

impl Pictures for &Gallery {
    fn len(&self) -> usize {
        Gallery::len(self)
    }

    fn size(&self) -> (usize, usize) {
        (SIDE as usize, SIDE as usize)
    }

    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError> {
        rgb.copy_from_slice(self.pixels(index));
        Ok(())
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        let config = recipe::detector_config().map_err(TrainError::other)?;
        let (kinds, colours) = cell_labels(self, indices, &config, Naming::Kinds)?;
        Ok(CellLabels { kinds, colours })
    }
}

/// Texts of every sort that the models will read, from the first training scenes: what the
/// vocabulary is made from.
fn vocabulary_texts(world: &World) -> Vec<String> {
    let mut texts = Vec::new();
    for (i, scene) in world.train.scenes().iter().take(8000).enumerate() {
        let mut rng = draw("vocabulary", i as u64);
        texts.push(language::caption(scene, &mut rng).text);
        texts.push(language::full_caption(scene));
        texts.extend(
            language::questions(scene, &mut rng)
                .into_iter()
                .map(|q| q.text),
        );
        texts.extend(
            language::referring_expressions(scene, &mut rng)
                .into_iter()
                .map(|p| p.text),
        );
    }
    texts
}

/// The vocabulary: folder `tokenizer`.
///
/// # Errors
/// When it cannot be trained or written.
pub fn tokenizer(shop: &Workshop, world: &World) -> Result<ClipTokenizer, MiniError> {
    let settings = json!({ "tokens": recipe::VOCABULARY, "scenes": 8000 });
    let folder = shop.stage("tokenizer", &settings, &["pictures"], |folder| {
        let texts = vocabulary_texts(world);
        TrainedTokenizer::train(texts.iter().map(String::as_str), recipe::VOCABULARY)?
            .write(folder, CONTEXT)?;
        Ok(())
    })?;
    ClipTokenizer::from_folder(&folder).map_err(MiniError::other)
}

/// Both towers of stock mini-clip, from scratch: folder `towers`, in transformers' layout under
/// `export`.
///
/// # Errors
/// When the training fails.
fn towers(shop: &Workshop, world: &World, tokenizer: &ClipTokenizer) -> Result<PathBuf, MiniError> {
    let settings = recipe::clip_training();
    let text = recipe::text_config(tokenizer.info().vocab_size);
    let vision = recipe::vision_config();
    let style = recipe::caption_style();
    let described = json!({
        "training": settings,
        "batch_size": recipe::CLIP_BATCH,
        "text": text,
        "vision": vision,
        "negation_share": style.negation_share,
        "misaligned_share": style.misaligned_share,
        "full_share": recipe::FULL_CAPTIONS,
    });
    let inputs = ["pictures", "tokenizer"];
    shop.stage("towers", &described, &inputs, |folder| {
        let store = ParamStore::random(SEED, &Device::Cpu);
        let data = ordinary(world, tokenizer);
        let task = ContrastiveTask::new(&store, &text, Some(&vision), data)?;
        train(&store, &task, &settings, &folder.join("training"))?;
        export(shop, &store, tokenizer, &folder.join("export"))
    })
}

/// Stock mini-clip: folder `clip`, in transformers' layout under `export`.
///
/// After a first training, both towers learn on from captions with near misses, the vision tower from
/// what stands where as well.
///
/// # Errors
/// When the training fails.
pub fn clip(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let tokenizer = tokenizer(shop, world)?;
    let first = towers(shop, world, &tokenizer)?.join("export");
    let (settings, grounding) = recipe::sharper_clip_training();
    let style = recipe::sharper_caption_style();
    let described = json!({
        "training": settings,
        "grounding": grounding,
        "batch_size": recipe::CLIP_BATCH,
        "near_misses": recipe::CLIP_BATCH / 2,
        "negation_share": style.negation_share,
        "misaligned_share": style.misaligned_share,
    });
    let inputs = ["pictures", "tokenizer", "towers"];
    shop.stage("clip", &described, &inputs, |folder| {
        let store = trained(&first)?;
        let text = recipe::text_config(tokenizer.info().vocab_size);
        let data = OrdinaryCaptions {
            style,
            near_misses: true,
            cells: true,
            ..ordinary(world, &tokenizer)
        };
        let vision = recipe::vision_config();
        let task = ContrastiveTask::new(&store, &text, Some(&vision), data)?;
        let task = task.grounded(&store, grounding)?;
        train(&store, &task, &settings, &folder.join("training"))?;
        export(shop, &store, &tokenizer, &folder.join("export"))
    })?;
    Ok(())
}

fn ordinary<'a>(world: &'a World, tokenizer: &'a ClipTokenizer) -> OrdinaryCaptions<'a> {
    OrdinaryCaptions {
        train: &world.train,
        held_out: &world.validation,
        tokenizer,
        batch_size: recipe::CLIP_BATCH,
        style: recipe::caption_style(),
        full_share: recipe::FULL_CAPTIONS,
        near_misses: false,
        cells: false,
    }
}

fn export(
    shop: &Workshop,
    store: &ParamStore,
    tokenizer: &ClipTokenizer,
    folder: &Path,
) -> Result<(), MiniError> {
    let text = recipe::text_config(tokenizer.info().vocab_size);
    let tokenizer = shop.path("tokenizer");
    export_clip(store, &text, &recipe::vision_config(), &tokenizer, folder)?;
    Ok(())
}
