//! From a run's stages to `weights/mini`: published layouts, cards and hashes.
//!
//! The tree is put together beside its place, loaded once by the very loaders that will use it, and
//! then moved there as a whole, so that a kill leaves the old tree or the new one. Its
//! `SHA256SUMS` is what [`negkit_checkpoint::Checkpoint`] compares weights with when it opens them.

mod cards;
pub(crate) mod record;
mod sheets;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use negkit_checkpoint::{Checkpoint, SUMS_FILE, Sums};
use negkit_clip::Clip;
use negkit_clipseg::{ClipSeg, ClipSegFiles};
use negkit_diffusion::{OpenPipeline, PipelineFiles, PipelineOptions, StableDiffusion};
use negkit_image::write_atomic;
use negkit_text::{ClipFiles, ClipTextEncoder};
use negkit_train::{ParamStore, export_projected_text_encoder};
use negkit_vqa::detector::MiniDetector;
use negkit_vqa::mini::MiniVqa;
use serde_json::Value;

use self::record::{ModelRecord, StageRecord};
use crate::stage::{Done, Workshop};
use crate::{MiniError, recipe};

/// Most bytes that the tree may have, cards and pictures included: it lies in the repository.
pub const MOST_BYTES: u64 = 60_000_000;
/// The card of a folder.
pub(crate) const CARD: &str = "README.md";

/// In which layout a model is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// transformers' `CLIPModel`.
    Clip,
    /// transformers' `CLIPTextModelWithProjection`.
    TextEncoder,
    /// A pipeline of diffusers.
    Pipeline,
    /// transformers' `CLIPSegForImageSegmentation`.
    ClipSeg,
    /// [`MiniVqa`]'s.
    Vqa,
    /// [`MiniDetector`]'s.
    Detector,
}

/// A model of the tree.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Its folder.
    pub name: &'static str,
    /// The stage that leaves it.
    pub stage: &'static str,
    /// The stages before its own that its card tells of as well, where the run has them.
    pub before: &'static [&'static str],
    /// How it is published.
    pub layout: Layout,
}

/// Everything that the tree holds.
pub const MODELS: [Model; 10] = {
    const fn model(
        name: &'static str,
        stage: &'static str,
        before: &'static [&'static str],
        layout: Layout,
    ) -> Model {
        Model {
            name,
            stage,
            before,
            layout,
        }
    }
    const fn encoder(name: &'static str, stage: &'static str) -> Model {
        model(name, stage, &["captions"], Layout::TextEncoder)
    }
    [
        model("clip", "clip", &["tokenizer", "towers"], Layout::Clip),
        encoder("negationclip", "negation-negationclip"),
        encoder("negationclip-p1", "negation-p1"),
        encoder("negationclip-p2", "negation-p2"),
        encoder("negationclip-rand-p1", "negation-rand-p1"),
        encoder("conclip", "negation-conclip"),
        model(
            "sd",
            "sd-looks",
            &["vae", "latents", "posed-pictures", "posed-latents", "sd"],
            Layout::Pipeline,
        ),
        model("clipseg", "clipseg", &[], Layout::ClipSeg),
        model("vqa", "vqa-posed", &["vqa"], Layout::Vqa),
        model(
            "detector",
            "detector-posed",
            &["detector"],
            Layout::Detector,
        ),
    ]
};

/// What is put into the cards besides what the stages left.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// What was measured, as `negkit mini quality` writes it. Need not be there.
    pub quality: PathBuf,
    /// Whether cards show what the models paint and mark, which takes some seconds.
    pub pictures: bool,
}

/// A model in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its folder.
    pub name: &'static str,
    /// Number of its parameters.
    pub parameters: usize,
    /// Size of its weight files.
    pub weight_bytes: u64,
    /// Size of its folder, card and pictures included.
    pub bytes: u64,
}

/// What an export came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The models, in the order of [`MODELS`].
    pub models: Vec<Exported>,
    /// Models whose stages are not through yet.
    pub missing: Vec<&'static str>,
    /// Size of the whole tree.
    pub bytes: u64,
}

/// Puts the models of all finished stages of `shop` into the folder `weights`, in place of what an
/// earlier export left there.
///
/// # Errors
/// When no stage is through, `weights` holds files that no export wrote, a model is refused by its
/// own loader, all together are larger than [`MOST_BYTES`], or a file cannot be written.
pub fn export(
    shop: &Workshop,
    weights: &Path,
    options: &ExportOptions,
) -> Result<Export, MiniError> {
    refuse_foreign_files(weights)?;
    let partial = beside(weights, "partial");
    remove(&partial)?;
    let (mut finished, mut missing) = (Vec::new(), Vec::new());
    for model in MODELS {
        match done_or_not(shop, model.stage)? {
            Some(done) => {
                assemble(shop, &model, &partial.join(model.name))?;
                finished.push((model, done));
            }
            None => missing.push(model.name),
        }
    }
    if finished.is_empty() {
        // Says what is to be run first.
        shop.finished(MODELS[0].stage)?;
    }
    for (model, _) in &finished {
        load(model.layout, &partial.join(model.name))?;
    }
    if options.pictures {
        sheets::draw(&partial)?;
    }
    let quality = read_quality(&options.quality)?;
    let mut models = Vec::new();
    for (model, done) in &finished {
        models.push(describe(shop, model, done, &partial, quality.as_ref())?);
    }
    let table = cards::contents(&models);
    write_atomic(partial.join(CARD), table.as_bytes())?;
    let sums = Sums::of(&partial).map_err(MiniError::other)?;
    write_atomic(partial.join(SUMS_FILE), sums.text().as_bytes())?;
    let bytes = size(&partial)?;
    if bytes > MOST_BYTES {
        return Err(MiniError::TooLarge {
            folder: partial,
            bytes,
            most: MOST_BYTES,
            sizes: models.iter().map(|m| (m.name, m.bytes)).collect(),
        });
    }
    replace(&partial, weights)?;
    Ok(Export {
        models,
        missing,
        bytes,
    })
}

/// Checks every file of an exported tree against its list of hashes. Gives the number of files.
///
/// # Errors
/// When there is no list, a file is not as listed, or one is not listed; all such files are named.
pub fn verify(weights: &Path) -> Result<usize, MiniError> {
    let sums = Sums::read(weights).map_err(MiniError::other)?;
    let mut wrong: Vec<String> = sums.wrong().iter().map(ToString::to_string).collect();
    let unlisted = sums.unlisted().map_err(MiniError::other)?;
    wrong.extend(unlisted.iter().map(|name| {
        let path = weights.join(name);
        format!("{} is not listed in {SUMS_FILE}", path.display())
    }));
    if wrong.is_empty() {
        return Ok(sums.names().count());
    }
    Err(MiniError::NotVerified {
        folder: weights.to_owned(),
        wrong,
    })
}

/// A name that no export gives its own files, in the same folder.
fn beside(weights: &Path, ending: &str) -> PathBuf {
    let name = weights.file_name().unwrap_or_default().to_string_lossy();
    weights.with_file_name(format!(".{name}.{ending}"))
}

/// What stands in the place of an export is removed by it, so that it must be an export.
fn refuse_foreign_files(weights: &Path) -> Result<(), MiniError> {
    if !weights.exists() {
        return Ok(());
    }
    let foreign = match weights.join(SUMS_FILE).is_file() {
        true => {
            let sums = Sums::read(weights).map_err(MiniError::other)?;
            sums.unlisted().map_err(MiniError::other)?
        }
        false => {
            let sums = Sums::of(weights).map_err(MiniError::other)?;
            sums.names().map(str::to_owned).collect()
        }
    };
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(MiniError::ForeignFiles {
            folder: weights.to_owned(),
            files: foreign,
        }),
    }
}

fn remove(folder: &Path) -> Result<(), MiniError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(MiniError::io(folder, "remove")(e))
        }
        _ => Ok(()),
    }
}

/// Two renames: between them the place is empty, never half filled.
fn replace(partial: &Path, weights: &Path) -> Result<(), MiniError> {
    let old = beside(weights, "old");
    remove(&old)?;
    if weights.exists() {
        fs::rename(weights, &old).map_err(MiniError::io(weights, "move away"))?;
    }
    fs::rename(partial, weights).map_err(MiniError::io(weights, "move into place"))?;
    remove(&old)
}

/// Puts the files of a model together.
fn assemble(shop: &Workshop, model: &Model, folder: &Path) -> Result<(), MiniError> {
    let from = shop.path(model.stage).join("export");
    if model.layout != Layout::TextEncoder {
        return copy_tree(&from, folder, &|name| !name.starts_with('.'));
    }
    // Both towers were written; pictures are still seen by the stock one.
    let files = ClipFiles::open(&from).map_err(MiniError::other)?;
    let store = ParamStore::from_tensors(files.tensors().clone(), &Device::Cpu)?;
    let text = files.text_config().map_err(MiniError::other)?;
    fs::create_dir_all(folder).map_err(MiniError::io(folder, "create"))?;
    Ok(export_projected_text_encoder(&store, &text, &from, folder)?)
}

/// Copies the files below a folder whose names are `wanted`, as plain files.
pub(crate) fn copy_tree(
    from: &Path,
    to: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), MiniError> {
    fs::create_dir_all(to).map_err(MiniError::io(to, "create"))?;
    for entry in fs::read_dir(from).map_err(MiniError::io(from, "list"))? {
        let entry = entry.map_err(MiniError::io(from, "list"))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if !wanted(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match path.is_dir() {
            true => copy_tree(&path, &target, wanted)?,
            false => copy_file(&path, &target)?,
        }
    }
    Ok(())
}

/// Content alone: the permissions of a working folder are not the tree's.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), MiniError> {
    let bytes = fs::read(from).map_err(MiniError::io(from, "read"))?;
    fs::write(to, bytes).map_err(MiniError::io(to, "write"))
}

/// Whether the loader of that layout takes the folder.
fn load(layout: Layout, folder: &Path) -> Result<(), MiniError> {
    let compute = recipe::compute();
    match layout {
        Layout::Clip => drop(Clip::load(folder, &compute).map_err(MiniError::other)?),
        Layout::TextEncoder => drop(text_encoder(folder)?),
        Layout::Pipeline => drop(pipeline(folder)?),
        Layout::ClipSeg => drop(clipseg(folder)?),
        Layout::Vqa => drop(MiniVqa::load(folder, &compute).map_err(MiniError::other)?),
        Layout::Detector => {
            drop(MiniDetector::load(folder, &compute).map_err(MiniError::other)?);
        }
    }
    Ok(())
}

pub(crate) fn text_encoder(folder: &Path) -> Result<Arc<ClipTextEncoder>, MiniError> {
    let encoder = ClipTextEncoder::load(folder, &recipe::compute()).map_err(MiniError::other)?;
    Ok(Arc::new(encoder))
}

pub(crate) fn pipeline(folder: &Path) -> Result<StableDiffusion, MiniError> {
    let files = PipelineFiles::open(folder, &OpenPipeline::default()).map_err(MiniError::other)?;
    let options = PipelineOptions::new(recipe::compute());
    StableDiffusion::from_files(&files, None, &options).map_err(MiniError::other)
}

pub(crate) fn clipseg(folder: &Path) -> Result<ClipSeg, MiniError> {
    let files = ClipSegFiles::open(folder, None).map_err(MiniError::other)?;
    ClipSeg::from_files(&files, None, &recipe::compute()).map_err(MiniError::other)
}

fn read_quality(path: &Path) -> Result<Option<Value>, MiniError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).map_err(MiniError::json(path))?,
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(MiniError::io(path, "read")(e)),
    }
}

/// Whether measurements are reportable, and of the very files in the folder.
fn is_of_these_weights(quality: &Value, model: &Model, folder: &Path) -> bool {
    if quality["fast"].as_bool() == Some(true) {
        return false;
    }
    let Some(measured) = quality["weights"][model.name].as_object() else {
        return true;
    };
    // A list of the measured hashes finds what differs.
    let text = measured.iter().filter_map(|(name, hash)| {
        let hash = hash.as_str()?;
        Some(format!("{hash}  {name}\n"))
    });
    Sums::parse(folder, &text.collect::<String>()).is_ok_and(|sums| sums.wrong().is_empty())
}

/// Writes the card of a model, with its curves.
fn describe(
    shop: &Workshop,
    model: &Model,
    done: &Done,
    partial: &Path,
    quality: Option<&Value>,
) -> Result<Exported, MiniError> {
    let folder = partial.join(model.name);
    let (parameters, weight_bytes) = weight_sizes(&folder)?;
    let mut stages = Vec::new();
    for stage in model.before {
        stages.extend(done_or_not(shop, stage)?);
    }
    stages.push(done.clone());
    let records = stages
        .iter()
        .map(|done| record_of(shop, done, &folder))
        .collect::<Result<Vec<_>, _>>()?;
    let record = ModelRecord {
        pictures: recorded(&shop.finished("pictures")?),
        stages: records,
    };
    record::write(&folder, &record)?;
    let remade = remade_inputs(shop, &stages)?;
    let measured = quality.filter(|quality| is_of_these_weights(quality, model, &folder));
    let text = cards::card(&cards::Card {
        model,
        pictures: &record.pictures,
        captions: caption_settings(shop)?.as_ref(),
        stages: &record.stages,
        remade: &remade,
        parameters,
        weight_bytes,
        sheet: folder.join(sheets::FILE).is_file(),
        quality: measured,
    });
    write_atomic(folder.join(CARD), text.as_bytes())?;
    Ok(Exported {
        name: model.name,
        parameters,
        weight_bytes,
        bytes: size(&folder)?,
    })
}

/// The same stage, wherever its files are.
fn recorded(done: &Done) -> Done {
    Done {
        record_only: false,
        ..done.clone()
    }
}

/// What a stage leaves on record, with the curves of its trainings copied into `folder`.
fn record_of(shop: &Workshop, done: &Done, folder: &Path) -> Result<StageRecord, MiniError> {
    Ok(StageRecord {
        done: recorded(done),
        trainings: cards::trainings(shop, done, folder)?,
    })
}

/// Inputs that those stages were built on and that the run has other ones of by now, each as the stage
/// and the input.
fn remade_inputs(shop: &Workshop, stages: &[Done]) -> Result<Vec<(String, String)>, MiniError> {
    let mut remade = Vec::new();
    for stage in stages {
        for (input, digest) in &stage.inputs {
            let now = done_or_not(shop, input)?;
            if now.is_some_and(|now| now.digest() != *digest) {
                remade.push((stage.stage.clone(), input.clone()));
            }
        }
    }
    Ok(remade)
}

fn done_or_not(shop: &Workshop, stage: &str) -> Result<Option<Done>, MiniError> {
    match shop.finished(stage) {
        Ok(done) => Ok(Some(done)),
        Err(MiniError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The settings of the stage that stock mini-clip learned from captions in.
fn caption_settings(shop: &Workshop) -> Result<Option<Value>, MiniError> {
    for stage in ["towers", "clip"] {
        let settings = done_or_not(shop, stage)?.map(|done| done.settings);
        if let Some(settings) = settings.filter(|s| s.get("negation_share").is_some()) {
            return Ok(Some(settings));
        }
    }
    Ok(None)
}

/// Parameters in, and bytes of, all weight files below a folder.
fn weight_sizes(folder: &Path) -> Result<(usize, u64), MiniError> {
    let (mut parameters, mut bytes) = (0, 0);
    for path in files_below(folder)? {
        if path.extension().is_some_and(|e| e == "safetensors") {
            let checkpoint = Checkpoint::open(&path).map_err(MiniError::other)?;
            parameters += checkpoint.elements();
            bytes += checkpoint.file_bytes();
        }
    }
    Ok((parameters, bytes))
}

fn size(folder: &Path) -> Result<u64, MiniError> {
    let sizes = files_below(folder)?.into_iter().map(|path| {
        let size = fs::metadata(&path).map(|about| about.len());
        size.map_err(MiniError::io(&path, "read the size of"))
    });
    sizes.sum()
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, MiniError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(MiniError::io(folder, "list"))? {
        let path = entry.map_err(MiniError::io(folder, "list"))?.path();
        match path.is_dir() {
            true => found.extend(files_below(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}
