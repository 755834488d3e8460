//! mini-clip and its relatives: retrieval and foils.

use std::cell::OnceCell;

use candle_core::Tensor;
use image::RgbImage;
use negkit_clip::l2_normalize;
use negkit_metrics::{McNemar, mcnemar_exact};
use negkit_text::TextEncoder;
use negkit_world::language;
use serde::Serialize;
use serde_json::json;

use super::score::{Difference, Score};
use super::tree::{STOCK, STOCK_FOLDER, Tree};
use super::{Bench, Section, digest_of_scenes, pictures_of};
use crate::scores::{ContrastScores, contrast};
use crate::{MiniError, progress};

/// What every text encoder can tell apart.
#[derive(Debug, Clone, Serialize)]
pub struct ClipQuality {
    /// The encoders, stock first.
    pub encoders: Vec<EncoderContrast>,
    /// Encoders that are not in the folder.
    pub missing: Vec<&'static str>,
}

/// What one text encoder can tell apart.
#[derive(Debug, Clone, Serialize)]
pub struct EncoderContrast {
    /// The encoder.
    #[serde(skip)]
    pub encoder: String,
    /// Scenes found by their own full caption among the first five.
    pub recall_at_5: Score,
    /// Right captions preferred to such with another object.
    pub ordinary_foil: Score,
    /// Right captions preferred to such that differ in a negation.
    pub negation_foil: Score,
    /// The part of these in which the object is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negation_foil_absent: Option<Score>,
    /// How much better it is than the stock encoder on the same items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_stock: Option<ContrastDifference>,
}

/// Differences to the stock encoder.
#[derive(Debug, Clone, Serialize)]
pub struct ContrastDifference {
    /// In [`EncoderContrast::recall_at_5`].
    pub recall_at_5: Difference,
    /// In [`EncoderContrast::ordinary_foil`].
    pub ordinary_foil: Difference,
    /// In [`EncoderContrast::negation_foil`].
    pub negation_foil: Difference,
    /// On the negation foils: how many either encoder alone has right.
    pub mcnemar: McNemarResult,
}

/// McNemar's exact test on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemarResult {
    /// Items that the stock encoder alone has right.
    pub only_stock: usize,
    /// Items that this encoder alone has right.
    pub only_this: usize,
    /// Two-sided.
    pub p_value: f64,
}

impl From<McNemar> for McNemarResult {
    fn from(found: McNemar) -> Self {
        Self {
            only_stock: found.only_a,
            only_this: found.only_b,
            p_value: found.p_value,
        }
    }
}

/// Unit vectors of texts, `[n, projection]`.
fn embed_texts(encoder: &dyn TextEncoder, texts: &[String]) -> Result<Tensor, MiniError> {
    const AT_A_TIME: usize = 64;
    let parts = texts.chunks(AT_A_TIME).map(|part| {
        let texts: Vec<&str> = part.iter().map(String::as_str).collect();
        let projected = encoder.encode(&texts).map_err(MiniError::other)?.projected;
        let projected = projected.ok_or_else(|| {
            MiniError::other(format!("{}: it has no projection", encoder.info().name))
        })?;
        Ok(l2_normalize(&projected)?)
    });
    let parts = parts.collect::<Result<Vec<_>, MiniError>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}

/// Unit vectors of pictures, `[n, projection]`.
fn embed_pictures(tree: &Tree, pictures: &[RgbImage]) -> Result<Tensor, MiniError> {
    const AT_A_TIME: usize = 50;
    let clip = tree.clip()?;
    let bar = progress::bar(pictures.len() as u64, "pictures");
    let parts = pictures.chunks(AT_A_TIME).map(|part| {
        let part: Vec<&RgbImage> = part.iter().collect();
        let embedded = clip.encode(&part).map_err(MiniError::other)?;
        bar.inc(part.len() as u64);
        Ok(l2_normalize(&embedded)?)
    });
    let parts = parts.collect::<Result<Vec<_>, MiniError>>()?;
    bar.finish_and_clear();
    Ok(Tensor::cat(&parts, 0)?)
}

/// Measures all encoders that are there.
pub(super) fn measure(bench: &Bench) -> Result<Option<ClipQuality>, MiniError> {
    let (others, missing) = bench.tree.encoders();
    let scenes = bench.scenes(bench.counts.contrast_scenes);
    let captions: Vec<String> = scenes.iter().map(language::full_caption).collect();
    let settings = json!({
        "scenes": scenes.len(),
        "asked": digest_of_scenes(&scenes, &captions)?,
    });
    let pictures = OnceCell::new();
    let mut found: Vec<(&str, ContrastScores)> = Vec::new();
    for name in [STOCK].into_iter().chain(others) {
        let mut models = vec![STOCK_FOLDER];
        models.extend((name != STOCK).then_some(name));
        let part = format!("clip-{name}");
        let scores = bench.part(Section::Clip, &part, &models, settings.clone(), || {
            if pictures.get().is_none() {
                let embedded = embed_pictures(&bench.tree, &pictures_of(&scenes))?;
                // Nobody else sets it.
                let _ = pictures.set(embedded);
            }
            let pictures = pictures.get().ok_or_else(no_pictures)?;
            let encoder = bench.tree.encoder(name)?;
            contrast(&scenes, pictures, |texts| embed_texts(&*encoder, texts))
        })?;
        found.extend(scores.map(|scores| (name, scores)));
    }
    let stock = match found.first() {
        Some((STOCK, scores)) => scores.clone(),
        _ => return Ok(None),
    };
    let encoders = found
        .iter()
        .map(|(name, scores)| summary(bench, name, scores, &stock))
        .collect::<Result<_, _>>()?;
    Ok(Some(ClipQuality { encoders, missing }))
}

fn no_pictures() -> MiniError {
    MiniError::other("the pictures were not embedded")
}

fn summary(
    bench: &Bench,
    name: &str,
    scores: &ContrastScores,
    stock: &ContrastScores,
) -> Result<EncoderContrast, MiniError> {
    let resampling = bench.resampling;
    let some = |values: &[f64]| -> Result<Score, MiniError> {
        resampling.mean(values)?.ok_or_else(nothing)
    };
    let differ = |a: &[f64], b: &[f64]| -> Result<Difference, MiniError> {
        resampling.difference(a, b)?.ok_or_else(nothing)
    };
    let against_stock = match name {
        STOCK => None,
        _ => {
            let hits = |scores: &ContrastScores| -> Vec<bool> {
                scores
                    .negation_foil
                    .iter()
                    .map(|score| *score == 1.)
                    .collect()
            };
            let mcnemar = mcnemar_exact(&hits(stock), &hits(scores)).map_err(MiniError::other)?;
            Some(ContrastDifference {
                recall_at_5: differ(&stock.recall_at_5, &scores.recall_at_5)?,
                ordinary_foil: differ(&stock.ordinary_foil, &scores.ordinary_foil)?,
                negation_foil: differ(&stock.negation_foil, &scores.negation_foil)?,
                mcnemar: mcnemar.into(),
            })
        }
    };
    Ok(EncoderContrast {
        encoder: name.to_owned(),
        recall_at_5: some(&scores.recall_at_5)?,
        ordinary_foil: some(&scores.ordinary_foil)?,
        negation_foil: some(&scores.negation_foil)?,
        negation_foil_absent: resampling.mean(&scores.negation_foil_absent)?,
        against_stock,
    })
}

fn nothing() -> MiniError {
    MiniError::other("no scene gave a caption with a foil")
}
