//! What mini-clipseg marks.

use negkit_clipseg::ClipSeg;
use negkit_metrics::IouCurve;
use negkit_world::language::{self, Phrase};
use negkit_world::{Scene, render};
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::score::Score;
use super::tree::STOCK;
use super::{Bench, Section, digest_of_scenes};
use crate::gallery::draw;
use crate::recipe::{self, SEGMENTATION_SIDE};
use crate::segment::phrase_mask;
use crate::{MiniError, progress};

/// Probabilities above which a pixel may count as marked.
const THRESHOLDS: [f32; 19] = [
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85,
    0.9, 0.95,
];

/// Whether ordinary phrases are marked. Scenes are what is drawn for the intervals.
#[derive(Debug, Clone, Serialize)]
pub struct ClipSegQuality {
    /// Mean IoU at the threshold that is best on these very phrases.
    pub mean_iou: Score,
    /// That threshold.
    pub best_threshold: f32,
    /// Mean IoU at the threshold that is best on validation scenes.
    pub mean_iou_at_chosen: Score,
    /// That threshold.
    pub chosen_threshold: f32,
    /// At the best threshold: sum of intersections over sum of unions.
    pub cumulative_iou: f64,
    /// Scenes.
    pub scenes: usize,
}

/// A scene with phrases about it.
pub(super) type Asked = (Scene, Vec<Phrase>);

/// IoUs of phrases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PhraseIous {
    /// The best of the thresholds on these phrases.
    pub(super) best_threshold: f32,
    /// Mean IoU there.
    pub(super) best_mean: f64,
    /// Sum of intersections over sum of unions there.
    pub(super) best_cumulative: f64,
    /// IoU of every phrase there, scene by scene.
    pub(super) at_best: Vec<Vec<f64>>,
    /// IoU of every phrase at the threshold that was asked for, scene by scene.
    pub(super) at_chosen: Vec<Vec<f64>>,
}

/// Ordinary phrases of a scene, at most `each`.
pub(super) fn ordinary(scene: Scene, each: usize) -> Asked {
    let mut rng = draw("quality-phrases", scene.seed);
    let phrases = language::phrases(&scene, &mut rng);
    let chosen = phrases.choose_multiple(&mut rng, each).cloned().collect();
    (scene, chosen)
}

/// Marks all phrases of all scenes.
pub(super) fn mark(
    model: &ClipSeg,
    asked: &[Asked],
    chosen_threshold: f32,
) -> Result<PhraseIous, MiniError> {
    let mut curve = IouCurve::new(&THRESHOLDS).map_err(MiniError::other)?;
    let bar = progress::bar(asked.len() as u64, "marked");
    for (scene, phrases) in asked.iter().filter(|(_, phrases)| !phrases.is_empty()) {
        let rendering = render(scene, SEGMENTATION_SIDE);
        let texts: Vec<&str> = phrases.iter().map(|phrase| phrase.text.as_str()).collect();
        let found = model
            .segment_phrases(&rendering.picture, &texts)
            .map_err(MiniError::other)?;
        for (phrase, found) in phrases.iter().zip(&found) {
            let probabilities = found
                .probabilities_at_picture_size()
                .map_err(MiniError::other)?;
            curve
                .add(&probabilities, &phrase_mask(&rendering, phrase))
                .map_err(MiniError::other)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let best = curve.best().map_err(MiniError::other)?;
    let by_scene = |threshold: f32| -> Vec<Vec<f64>> {
        let index = THRESHOLDS.iter().position(|t| *t == threshold);
        let mut ious = index
            .map(|index| curve.phrase_ious(index))
            .unwrap_or_default()
            .into_iter();
        let scenes = asked.iter();
        scenes
            .map(|(_, phrases)| ious.by_ref().take(phrases.len()).collect())
            .collect()
    };
    Ok(PhraseIous {
        best_threshold: best.threshold,
        best_mean: best.mean_iou,
        best_cumulative: best.cumulative_iou,
        at_best: by_scene(best.threshold),
        at_chosen: by_scene(chosen_threshold),
    })
}

/// Of scenes with their phrases.
pub(super) fn digest_of_asked(asked: &[Asked]) -> Result<String, MiniError> {
    let (scenes, phrases): (Vec<Scene>, Vec<&Vec<Phrase>>) = asked
        .iter()
        .map(|(scene, phrases)| (scene.clone(), phrases))
        .unzip();
    digest_of_scenes(&scenes, &phrases)
}

/// The threshold that is best for ordinary phrases of validation scenes, with the stock encoder.
pub(super) fn chosen_threshold(bench: &Bench, section: Section) -> Result<Option<f32>, MiniError> {
    let count = bench.counts.threshold_scenes;
    let seeds = recipe::VALIDATION.take(count);
    let asked: Vec<Asked> = seeds
        .map(|seed| ordinary(Scene::sample(seed), bench.counts.phrases_each))
        .collect();
    let settings = json!({
        "scenes": count,
        "asked": digest_of_asked(&asked)?,
        "thresholds": THRESHOLDS,
    });
    let models = ["clipseg"];
    bench.part(section, "clipseg-threshold", &models, settings, || {
        let model = bench.tree.clipseg(STOCK)?;
        Ok(mark(&model, &asked, THRESHOLDS[0])?.best_threshold)
    })
}

/// Measures mini-clipseg with the stock text encoder.
pub(super) fn measure(bench: &Bench) -> Result<Option<ClipSegQuality>, MiniError> {
    let Some(threshold) = chosen_threshold(bench, Section::Clipseg)? else {
        return Ok(None);
    };
    let (count, each) = (bench.counts.phrase_scenes, bench.counts.phrases_each);
    let scenes = bench.scenes(count).into_iter();
    let asked: Vec<Asked> = scenes.map(|scene| ordinary(scene, each)).collect();
    let settings = json!({
        "scenes": count,
        "phrases_each": each,
        "asked": digest_of_asked(&asked)?,
        "thresholds": THRESHOLDS,
        "chosen": threshold,
    });
    let found = bench.part(Section::Clipseg, "clipseg", &["clipseg"], settings, || {
        mark(&bench.tree.clipseg(STOCK)?, &asked, threshold)
    })?;
    let Some(found) = found else { return Ok(None) };
    let score = |ious: &[Vec<f64>]| -> Result<Score, MiniError> {
        let score = bench.resampling.clustered(ious)?;
        score.ok_or_else(|| MiniError::other("no scene gave a phrase"))
    };
    Ok(Some(ClipSegQuality {
        mean_iou: score(&found.at_best)?,
        best_threshold: found.best_threshold,
        mean_iou_at_chosen: score(&found.at_chosen)?,
        chosen_threshold: threshold,
        cumulative_iou: found.best_cumulative,
        scenes: found.at_best.len(),
    }))
}
