//! From `weights/mini` back to the stages of a run, so that a model can be trained anew or further
//! without those that it builds on.

use std::fs;
use std::path::Path;

use crate::MiniError;
use crate::export::record::{self, CURVES, FILE, StageRecord};
use crate::export::{CARD, MODELS, Model, copy_file, copy_tree, verify};
use crate::stage::Workshop;

/// What a trained vocabulary consists of, as `TrainedTokenizer::write` writes it.
const TOKENIZER_FILES: &[&str] = &[
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

/// What a restoring came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Stages with what they left.
    pub whole: Vec<String>,
    /// Stages of which there is a record, and whose files are made again where they are needed.
    pub recorded: Vec<String>,
}

/// Puts what is published in `weights` into the folders of the stages that made it. Stages that are
/// through already stay as they are.
///
/// What stages left beside models (pictures, latents, captions) is not published; it is made again
/// by the first stage that needs it. Where a later stage trained a model further (`clip` after `towers`,
/// `vqa-posed` after `vqa`, and so on), the published model takes the earlier one's place too: what is
/// trained anew by the later stage begins with the finished model.
///
/// # Errors
/// When files of `weights` are not those that were exported, a stage of the run is through with other
/// settings or inputs, or files cannot be copied.
pub fn restore(shop: &Workshop, weights: &Path) -> Result<Restored, MiniError> {
    verify(weights)?;
    let mut restored = Restored::default();
    for model in MODELS {
        let folder = weights.join(model.name);
        let record = record::read(&folder)?;
        let pictures = StageRecord {
            done: record.pictures,
            trainings: Vec::new(),
        };
        for record in [pictures].into_iter().chain(record.stages) {
            let stage = record.done.stage.clone();
            if restored.whole.contains(&stage) || restored.recorded.contains(&stage) {
                continue;
            }
            let has_files = restore_stage(shop, (&model, &folder), &record)?;
            shop.restore(&record.done, has_files)?;
            match has_files {
                true => restored.whole.push(stage),
                false => restored.recorded.push(stage),
            }
        }
    }
    Ok(restored)
}

/// Where in a model's folder lies what a stage left.
enum Product {
    /// The whole folder.
    Model,
    /// The folder below of that name.
    Part(&'static str),
    /// These files, which the stage has no folder of its own for.
    Files(&'static [&'static str]),
    /// Nowhere: it is not published.
    Nothing,
}

impl Product {
    fn of(model: &Model, stage: &str) -> Self {
        match stage {
            "tokenizer" => Self::Files(TOKENIZER_FILES),
            "vae" => Self::Part("vae"),
            "towers" => Self::Model,
            own if own == model.stage || own == model.name => Self::Model,
            _ => Self::Nothing,
        }
    }
}

/// Restores logs and files of a stage. Gives whether there were files.
fn restore_stage(
    shop: &Workshop,
    (model, published): (&Model, &Path),
    record: &StageRecord,
) -> Result<bool, MiniError> {
    let folder = shop.path(&record.done.stage);
    if shop.has_finished(&record.done)? {
        return Ok(true);
    }
    for training in &record.trainings {
        let of_it = folder.join(training.folder());
        training.restore(&of_it)?;
        if let Some(curves) = &training.curves {
            copy_file(&published.join(curves), &of_it.join(CURVES))?;
        }
    }
    let export = folder.join("export");
    match Product::of(model, &record.done.stage) {
        Product::Model => copy_tree(published, &export, &is_of_the_model)?,
        Product::Part(part) => copy_tree(&published.join(part), &export, &is_of_the_model)?,
        Product::Files(names) => {
            fs::create_dir_all(&folder).map_err(MiniError::io(&folder, "create"))?;
            for name in names {
                copy_file(&published.join(name), &folder.join(name))?;
            }
        }
        Product::Nothing => return Ok(false),
    }
    Ok(true)
}

/// Whether a file of a published model belongs to the model, and does not tell of it.
fn is_of_the_model(name: &str) -> bool {
    !name.ends_with(".png") && name != CARD && name != FILE
}
