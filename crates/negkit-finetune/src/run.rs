//! From files to files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Device};
use negkit_clip::{ClipImageEncoder, vision_config};
use negkit_image::write_atomic;
use negkit_nn::Compute;
use negkit_text::ClipFiles;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_text::tower::ClipTextConfig;
use negkit_train::tasks::contrastive::{
    ContrastiveModel, ContrastiveTask, Objective, frozen_in_fine_tuning,
};
use negkit_train::{
    ParamStore, TrainError, TrainedTokenizer, export_clip_as, export_openai, train,
};
use serde::Serialize;

use crate::anchors::AnchorTexts;
use crate::captions::{CaptionSet, Wanted};
use crate::data::{CaptionData, split};
use crate::features::FeatureCache;
use crate::{FineTuneError, FineTuneSettings};

/// Settings of the run, as a file.
const SETTINGS_FILE: &str = "finetune.toml";
/// What came out, as a file.
const OUTCOME_FILE: &str = "outcome.json";
/// What could not be used, one a line.
const LEFT_OUT_FILE: &str = "left-out.txt";
/// Folder of the loop: checkpoint, logs, curves.
const TRAINING: &str = "training";
/// The id that old configurations give the end of text; transformers then looks for the largest id.
const LEGACY_EOS: u32 = 2;

/// What to fine-tune on what.
#[derive(Debug, Clone)]
pub struct Job {
    /// The CLIP: a file or a folder in any published layout.
    pub clip: PathBuf,
    /// COCO caption files.
    pub captions: Vec<PathBuf>,
    /// Folder of their pictures.
    pub images: PathBuf,
    /// Folder for everything that is made.
    pub out: PathBuf,
    /// Folder for picture features, which other runs on the same pictures can use too.
    pub features: PathBuf,
    /// Whether to hash every picture, whatever its time.
    pub verify_features: bool,
    /// Name of the files in OpenAI's naming, without extension.
    pub name: String,
    /// Where to compute.
    pub device: Device,
    /// The recipe.
    pub settings: FineTuneSettings,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Captions that were trained on.
    pub train: usize,
    /// Captions that were validated by.
    pub held_out: usize,
    /// Captions that could not be used.
    pub left_out: usize,
    /// Pictures of all captions.
    pub pictures: usize,
    /// Pictures whose features were computed by this run, and the seconds that took.
    pub pictures_encoded: (usize, f64),
    /// Steps done.
    pub steps: u64,
    /// Batches of an epoch.
    pub batches: u64,
    /// Seconds of training, over all runs.
    pub seconds: f64,
    /// The best validation loss.
    pub best_loss: Option<f64>,
    /// The step after which that was.
    pub best_step: Option<u64>,
    /// The last validation.
    pub validation: Vec<(String, f64)>,
    /// Folder of the whole CLIP in transformers' layout.
    pub transformers: PathBuf,
    /// The same under OpenAI's names, as safetensors.
    pub openai_safetensors: PathBuf,
    /// The same as a PyTorch archive.
    pub openai_archive: PathBuf,
}

impl Outcome {
    /// How many times longer an epoch would take if the picture tower ran for every caption, by what
    /// this run measured of both; `None` where it encoded nothing.
    pub fn speedup(&self) -> Option<f64> {
        let (encoded, seconds) = self.pictures_encoded;
        let done = self.steps as f64 / self.batches as f64 * self.train as f64;
        let a_caption = self.seconds / done;
        (encoded > 0 && done > 0. && a_caption > 0.)
            .then(|| (a_caption + seconds / encoded as f64) / a_caption)
    }
}

/// Fine-tunes a CLIP's text side, or goes on where the folder [`Job::out`] stopped.
///
/// The folder gets `finetune.toml` (the settings), `left-out.txt` (captions that could not be used,
/// where there are any), `training/` (checkpoint, logs, curves), `transformers/` (the whole CLIP as
/// `CLIPModel`, f32), `NAME.safetensors` and `NAME.pth` (the same under OpenAI's names), and
/// `outcome.json`.
///
/// # Errors
/// When settings make no sense, files cannot be read or do not fit each other, too many captions
/// cannot be used, the folder holds another training, the loss stops being a number, or files cannot
/// be written.
pub fn fine_tune(job: &Job) -> Result<Outcome, FineTuneError> {
    let settings = &job.settings;
    settings.check()?;
    let files = ClipFiles::open(&job.clip)?;
    let mut text = files.text_config()?;
    let vision = vision_config(&files)?;
    let tokenizer = files.tokenizer(text.vocab_size)?;
    let trims = settle_end_of_text(&mut text, &tokenizer);
    std::fs::create_dir_all(&job.out).map_err(FineTuneError::io(&job.out, "create"))?;

    let captions = CaptionSet::read(&job.captions, &Wanted::from(settings))?;
    let mut cache = FeatureCache::open(&job.features, &files)?;
    let load = || -> Result<ClipImageEncoder, FineTuneError> {
        let compute = Compute {
            device: job.device.clone(),
            ..Compute::cpu()
        };
        Ok(ClipImageEncoder::from_files(&files, &compute)?)
    };
    let features = cache.ensure(&job.images, &captions.pictures, job.verify_features, load)?;
    let encoded = features.encoded;
    let captions = captions.without(&job.images, &features.faults);
    let list = job.out.join(LEFT_OUT_FILE);
    captions.check(settings.largest_missing_share, &list)?;

    let store = ParamStore::from_tensors(files.tensors().clone(), &job.device)?;
    let store = store.with_products(settings.products());
    store.freeze(frozen_in_fine_tuning);
    if settings.objective() != Objective::InfoNce {
        // CLIP-bnl's loss has no temperature.
        store.freeze(|name| name == "logit_scale");
    }
    let split = split(&captions, settings)?;
    let anchors = match settings.anchors {
        0 => None,
        _ => {
            // Of its own tensors, for those of `store` change.
            let stock = ParamStore::from_tensors(files.tensors().clone(), &job.device)?;
            let stock = ContrastiveModel::load(&stock.detached_params(), &text, None)?;
            let ordinary = || split.ordinary_texts(&captions);
            Some(AnchorTexts::new(stock, settings, ordinary)?)
        }
    };
    let data = CaptionData {
        settings: settings.clone(),
        split,
        anchors,
        captions,
        features,
        context: text.max_position_embeddings,
        tokenizer,
        trims,
        encoder: cache.encoder().to_owned(),
        order: Mutex::new(None),
    };
    let (trained_on, held_out) = (data.split.train.len(), data.split.held_out.len());
    let (pictures, left_out) = (data.captions.pictures.len(), data.captions.left_out.len());
    let batches = data.batches();
    let mut task = ContrastiveTask::new(&store, &text, None, data)?
        .with_objective(settings.objective())
        .with_largest_scale(settings.largest_scale);
    if settings.anchors > 0 {
        task = task.anchored(settings.anchor_weight);
    }
    let training = job.out.join(TRAINING);
    let summary = train(&store, &task, &settings.training(trained_on), &training)
        .map_err(|error| explain(error, task.data()))?;
    // Only now is it certain that the folder is of this training.
    let toml = settings.to_toml()?;
    write_atomic(job.out.join(SETTINGS_FILE), toml.as_bytes())?;

    let transformers = job.out.join("transformers");
    let openai_safetensors = job.out.join(format!("{}.safetensors", job.name));
    let openai_archive = job.out.join(format!("{}.pth", job.name));
    let vocabulary = tokenizer_folder(&files, &text)?;
    export_clip_as(
        DType::F32,
        &store,
        &text,
        &vision,
        vocabulary.path(),
        &transformers,
    )?;
    keep_published(&files, &transformers)?;
    export_openai(&store, &openai_safetensors, &openai_archive)?;
    let outcome = Outcome {
        train: trained_on,
        held_out,
        left_out,
        pictures,
        pictures_encoded: encoded,
        steps: summary.steps,
        batches,
        seconds: summary.seconds,
        best_loss: summary.best,
        best_step: summary.best_step,
        validation: summary.metrics,
        transformers,
        openai_safetensors,
        openai_archive,
    };
    let json = serde_json::to_vec_pretty(&outcome).map_err(TrainError::other)?;
    write_atomic(job.out.join(OUTCOME_FILE), &json)?;
    Ok(outcome)
}

/// Puts the tokenizer's end of text in the place of the id 2 of old configurations, where that means
/// the same, and says whether rows may be cut behind it.
fn settle_end_of_text(text: &mut ClipTextConfig, tokenizer: &ClipTokenizer) -> bool {
    let eos = tokenizer.info().eos.id;
    let is_largest = eos as usize + 1 == text.vocab_size;
    if text.eos_token_id == LEGACY_EOS && is_largest {
        text.eos_token_id = eos;
    }
    text.eos_token_id == eos
}

/// What a number that is none was found in.
fn explain(error: TrainError, data: &CaptionData) -> FineTuneError {
    const EXAMPLES: usize = 3;
    let TrainError::NonFinite { step, .. } = &error else {
        return error.into();
    };
    let (number, batches) = (step.saturating_sub(1), data.batches());
    let items = data.items_of(number).into_iter().take(EXAMPLES);
    FineTuneError::NonFinite {
        epoch: number / batches + 1,
        batch: number % batches + 1,
        batches,
        captions: items.map(|item| data.item(item).caption.clone()).collect(),
        source: Box::new(error),
    }
}

/// A folder with the tokenizer's files.
enum Vocabulary {
    Published(PathBuf),
    Written(tempfile::TempDir),
}

impl Vocabulary {
    fn path(&self) -> &Path {
        match self {
            Self::Published(path) => path,
            Self::Written(folder) => folder.path(),
        }
    }
}

fn tokenizer_folder(files: &ClipFiles, text: &ClipTextConfig) -> Result<Vocabulary, FineTuneError> {
    if let Some(folder) = files.tokenizer_folder() {
        return Ok(Vocabulary::Published(folder.to_owned()));
    }
    let temporary = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(FineTuneError::io(&temporary, "write to"))?;
    TrainedTokenizer::clip()?.write(folder.path(), text.max_position_embeddings)?;
    Ok(Vocabulary::Written(folder))
}

/// Keeps the preprocessing that the CLIP was published with.
fn keep_published(files: &ClipFiles, to: &Path) -> Result<(), FineTuneError> {
    const NAME: &str = "preprocessor_config.json";
    if let Some(path) = files.published(NAME) {
        let bytes = std::fs::read(&path).map_err(FineTuneError::io(&path, "read"))?;
        write_atomic(to.join(NAME), &bytes)?;
    }
    Ok(())
}
