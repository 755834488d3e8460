//! What the small models can do, on test scenes, with intervals and bars.
//!
//! [`measure`] is what matters: it takes the exported folders through the engines' own inference
//! code. Every test of one model or encoder is a *part*, which leaves the answer to every single
//! item in a file. Scores, intervals and paired differences are computed from these, so that a run
//! that was killed goes on after its last part, and nothing is measured again whose weights and
//! settings are the same. [`Quality`] is all that came out; it is written as `quality.json` and
//! `quality.md`.
//!
//! What is reported is measured on the scenes of [`recipe::TEST`] and on prompts that no training
//! has seen. Nothing is chosen by them: the threshold at which text encoders are compared comes from
//! validation scenes, and so did the guidance scale, by [`HeldOut::Validation`].

mod agreement;
mod clip;
mod clipseg;
mod painter;
mod parts;
mod report;
mod score;
mod sd;
pub mod sheet;
mod swap;
mod tree;
mod vqa;

use std::ops::Range;
use std::path::Path;

use image::RgbImage;
use negkit_digest::{hexadecimal, sha256};
use negkit_image::write_atomic;
use negkit_vqa::QuestionAnswerer;
use negkit_vqa::mini::MiniVqa;
use negkit_world::{Scene, render_picture};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::recipe::{self, SIDE};
use crate::{MiniError, progress};
use parts::Parts;
use score::Resampling;
use tree::Tree;

pub use agreement::Agreement;
pub use clip::{ClipQuality, EncoderContrast};
pub use clipseg::ClipSegQuality;
pub use painter::Painting;
pub use report::{Bar, Limit, Quality, Verdict};
pub use score::{Difference, Score};
pub use sd::SdQuality;
pub use swap::{EncoderSwap, PromptRow, SwapQuality};
pub use tree::{STOCK, encoder_names};
pub use vqa::{DetectorQuality, VqaQuality};

/// What the models of the folders are called.
const NAMES: [(&str, &str); 5] = [
    ("clip", "mini-clip"),
    ("vqa", "mini-vqa"),
    ("detector", "mini-detector"),
    ("sd", "mini-sd"),
    ("clipseg", "mini-clipseg"),
];
/// File of all numbers.
pub const JSON_FILE: &str = "quality.json";
/// File for people.
pub const PAGE_FILE: &str = "quality.md";
/// Folder of the parts' files, beside these.
const PARTS_FOLDER: &str = ".parts";

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Retrieval and foils, with every text encoder.
    Clip,
    /// mini-vqa on scenes, and its agreement with mini-detector.
    Vqa,
    /// What mini-sd paints of prompts without a negation.
    Sd,
    /// What mini-clipseg marks.
    Clipseg,
    /// mini-sd and mini-clipseg with other text encoders.
    Swap,
}

impl Section {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Clip, Self::Vqa, Self::Sd, Self::Clipseg, Self::Swap];
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Test scenes for mini-clip.
    pub contrast_scenes: usize,
    /// Test scenes for mini-vqa and mini-detector.
    pub question_scenes: usize,
    /// Painted pictures on which mini-vqa and mini-detector are compared.
    pub checked_pictures: usize,
    /// Prompts without a negation, a picture each.
    pub prompts: usize,
    /// Test scenes for mini-clipseg.
    pub phrase_scenes: usize,
    /// Phrases of each, at most.
    pub phrases_each: usize,
    /// Validation scenes by which a threshold is chosen.
    pub threshold_scenes: usize,
    /// Prompts with a negation, at most.
    pub negation_prompts: usize,
    /// Pictures of each.
    pub pictures_each: usize,
    /// Prompts of TIFA, a picture each.
    pub tifa_prompts: usize,
    /// Scenes with several of a kind, for referring expressions.
    pub referring_scenes: usize,
    /// Resamples of a bootstrap.
    pub resamples: usize,
}

impl Counts {
    /// What is reported.
    pub const FULL: Self = Self {
        contrast_scenes: 1000,
        question_scenes: 1000,
        checked_pictures: 200,
        prompts: 500,
        phrase_scenes: 500,
        phrases_each: 4,
        threshold_scenes: 200,
        negation_prompts: usize::MAX,
        pictures_each: 10,
        tifa_prompts: 200,
        referring_scenes: 1000,
        resamples: 10_000,
    };
    /// Enough to see that everything runs, and no result.
    pub const FAST: Self = Self {
        contrast_scenes: 40,
        question_scenes: 16,
        checked_pictures: 4,
        prompts: 6,
        phrase_scenes: 8,
        phrases_each: 2,
        threshold_scenes: 4,
        negation_prompts: 4,
        pictures_each: 2,
        tifa_prompts: 4,
        referring_scenes: 8,
        resamples: 200,
    };
}

/// Scenes and prompts that no training has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldOut {
    /// For results; nothing may be chosen by them.
    #[default]
    Test,
    /// For choices between settings; no results.
    Validation,
}

impl HeldOut {
    /// Seeds of the scenes. The first is the seed of the prompts, too.
    pub fn seeds(self) -> Range<u64> {
        match self {
            Self::Test => recipe::TEST,
            Self::Validation => recipe::VALIDATION,
        }
    }

    /// `test` or `validation`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
        }
    }
}

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct QualityOptions {
    /// Sections to measure. Of the others, what was measured before with the same weights is
    /// reported.
    pub sections: Vec<Section>,
    /// Text encoders to swap in besides the stock one, by their folders.
    pub encoders: Vec<String>,
    /// On what it is measured.
    pub held_out: HeldOut,
    /// Whether [`Counts::FAST`] is enough.
    pub fast: bool,
    /// How mini-sd paints.
    pub painting: Painting,
}

impl Default for QualityOptions {
    fn default() -> Self {
        Self {
            sections: Section::ALL.to_vec(),
            encoders: vec!["conclip".to_owned(), "negationclip".to_owned()],
            held_out: HeldOut::default(),
            fast: false,
            painting: Painting::default(),
        }
    }
}

/// All that a section needs.
struct Bench {
    tree: Tree,
    parts: Parts,
    sections: Vec<Section>,
    held_out: HeldOut,
    counts: Counts,
    painting: Painting,
    resampling: Resampling,
}

impl Bench {
    /// Seed of the prompts without a negation, and of their first picture's noise.
    fn prompts_seed(&self) -> u64 {
        self.held_out.seeds().start
    }

    /// The first `count` scenes.
    fn scenes(&self, count: usize) -> Vec<Scene> {
        let seeds: Vec<u64> = self.held_out.seeds().take(count).collect();
        seeds.into_par_iter().map(Scene::sample).collect()
    }

    /// The part `name`, which depends on `models` and `settings`: from its file, or measured by
    /// `work` when its section is. `None` when there is neither.
    fn part<T: Serialize + serde::de::DeserializeOwned>(
        &self,
        section: Section,
        name: &str,
        models: &[&str],
        settings: Value,
        work: impl FnOnce() -> Result<T, MiniError>,
    ) -> Result<Option<T>, MiniError> {
        let wanted = self.sections.contains(&section);
        if !wanted && !models.iter().all(|model| self.tree.has(model)) {
            return Ok(None);
        }
        let mut hashes = serde_json::Map::new();
        for model in models {
            let what = format!("the measurement {name}");
            hashes.insert((*model).to_owned(), self.tree.hashes(model, &what)?);
        }
        let work = wanted.then_some(work);
        self.parts.part(name, settings, Value::Object(hashes), work)
    }
}

/// Measures the models in the folder `weights` and writes `quality.json` and `quality.md` into
/// `out`.
///
/// # Errors
/// When a model that a wanted section needs is missing or damaged, an encoder is not known, a model
/// gives what is no number, or a file cannot be written.
pub fn measure(weights: &Path, out: &Path, options: &QualityOptions) -> Result<Quality, MiniError> {
    let tree = Tree::open(weights)?;
    let swapped = tree::check_names(&options.encoders)?;
    let counts = match options.fast {
        true => Counts::FAST,
        false => Counts::FULL,
    };
    let bench = Bench {
        tree,
        parts: Parts::open(&out.join(PARTS_FOLDER), options.fast)?,
        sections: options.sections.clone(),
        held_out: options.held_out,
        counts,
        painting: options.painting,
        resampling: Resampling::new(counts.resamples),
    };
    let mut quality = Quality {
        fast: options.fast,
        held_out: bench.held_out,
        painting: bench.painting,
        counts,
        clip: clip::measure(&bench)?,
        vqa: vqa::measure(&bench)?,
        sd: sd::measure(&bench)?,
        clipseg: clipseg::measure(&bench)?,
        swap: swap::measure(&bench, &swapped)?,
        bars: Vec::new(),
        seconds: bench.parts.seconds(),
        weights: bench.tree.all_hashes(),
    };
    quality.set_bars();
    let json_path = out.join(JSON_FILE);
    let json =
        serde_json::to_string_pretty(&quality.json()?).map_err(MiniError::json(&json_path))?;
    write_atomic(&json_path, format!("{json}\n").as_bytes())?;
    write_atomic(out.join(PAGE_FILE), quality.page().as_bytes())?;
    Ok(quality)
}

/// Scenes of which [`digest_of_scenes`] looks at the pictures, too.
const LOOKED_AT: usize = 8;

/// SHA-256 of whatever is asked of a model, so that a part is measured again when the world's
/// language is another.
fn digest(asked: &impl Serialize) -> Result<String, MiniError> {
    let text = serde_json::to_vec(asked).map_err(MiniError::other)?;
    Ok(sha256(text))
}

/// The same of scenes with texts about them, and of what the first scenes look like.
fn digest_of_scenes(scenes: &[Scene], texts: &impl Serialize) -> Result<String, MiniError> {
    let mut hash = Sha256::new();
    hash.update(digest(&(scenes, texts))?);
    for picture in pictures_of(&scenes[..scenes.len().min(LOOKED_AT)]) {
        hash.update(picture.as_raw());
    }
    Ok(hexadecimal(hash.finalize()))
}

/// What scenes look like.
fn pictures_of(scenes: &[Scene]) -> Vec<RgbImage> {
    let draw = |scene: &Scene| render_picture(scene, SIDE);
    scenes.par_iter().map(draw).collect()
}

/// Answers of mini-vqa: for each picture one to each of its questions.
fn ask(
    vqa: &MiniVqa,
    pictures: &[RgbImage],
    questions: &[Vec<String>],
    what: &'static str,
) -> Result<Vec<Vec<String>>, MiniError> {
    const AT_A_TIME: usize = 32;
    let texts: Vec<Vec<&str>> = questions
        .iter()
        .map(|of_one| of_one.iter().map(String::as_str).collect())
        .collect();
    let pairs: Vec<(&RgbImage, &[&str])> = pictures
        .iter()
        .zip(&texts)
        .map(|(picture, texts)| (picture, texts.as_slice()))
        .collect();
    let bar = progress::bar(pairs.len() as u64, what);
    let mut answers = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(AT_A_TIME) {
        let found = vqa.answer_batch(chunk).map_err(MiniError::other)?;
        let texts = |of_one: Vec<negkit_vqa::Answer>| -> Vec<String> {
            of_one.into_iter().map(|answer| answer.text).collect()
        };
        answers.extend(found.into_iter().map(texts));
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(answers)
}
