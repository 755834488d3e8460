//! What a text encoder can tell apart, on scenes with known truth.

use candle_core::Tensor;
use negkit_world::{Scene, language};
use serde::{Deserialize, Serialize};

use crate::gallery::draw;

/// Seed of the foils and captions that encoders are scored by.
const FOILS: u64 = 7;

/// Scores of one text encoder against the same pictures: a value for every item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContrastScores {
    /// Whether the scene's own full caption finds it among the first five of all scenes. Scenes
    /// with the same full caption count as one.
    pub recall_at_5: Vec<f64>,
    /// Whether the right caption is nearer than one with another object; a half for a tie.
    pub ordinary_foil: Vec<f64>,
    /// Whether the right one of two captions that differ in a negation is nearer.
    pub negation_foil: Vec<f64>,
    /// The part of `negation_foil` where the object is missing, so that the negated caption is right.
    pub negation_foil_absent: Vec<f64>,
}

/// Mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Scores `embed` (texts to unit vectors `[n, d]`) on scenes whose pictures have the embeddings
/// `pictures` `[scenes, d]`.
///
/// # Errors
/// When `embed` or the device fails.
pub fn contrast<E: From<candle_core::Error>>(
    scenes: &[Scene],
    pictures: &Tensor,
    embed: impl Fn(&[String]) -> Result<Tensor, E>,
) -> Result<ContrastScores, E> {
    let full: Vec<String> = scenes.iter().map(language::full_caption).collect();
    let similarities = embed(&full)?.matmul(&pictures.t()?)?.to_vec2::<f32>()?;
    let recall_at_5 = similarities
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let nearer = (0..row.len()).filter(|&j| row[j] > row[i] && full[j] != full[i]);
            f64::from(nearer.count() < 5)
        })
        .collect();
    let foils = |negated: bool| -> Result<Vec<(f64, bool)>, E> {
        let mut rng = draw("foils", FOILS + u64::from(negated));
        let mut items = Vec::new();
        for (i, scene) in scenes.iter().enumerate() {
            let pair = match negated {
                true => language::negation_foil(scene, &mut rng),
                false => language::ordinary_foil(scene, &mut rng),
            };
            items.extend(pair.map(|(right, wrong)| (i, right, wrong)));
        }
        let texts = |pick: fn(&(usize, String, String)) -> &String| -> Vec<String> {
            items.iter().map(|item| pick(item).clone()).collect()
        };
        let numbers: Vec<u32> = items.iter().map(|item| item.0 as u32).collect();
        let own = pictures.index_select(&Tensor::new(numbers, pictures.device())?, 0)?;
        let near = |texts: Vec<String>| -> Result<Vec<f32>, E> {
            Ok((embed(&texts)? * &own)?.sum(1)?.to_vec1()?)
        };
        let right = near(texts(|item| &item.1))?;
        let wrong = near(texts(|item| &item.2))?;
        let judged = right.iter().zip(&wrong).zip(&items);
        Ok(judged
            .map(|((right, wrong), item)| {
                let score = match right.partial_cmp(wrong) {
                    Some(std::cmp::Ordering::Greater) => 1.,
                    Some(std::cmp::Ordering::Equal) => 0.5,
                    _ => 0.,
                };
                // The longer one of the two texts holds the negation.
                (score, holds_negation(&item.1))
            })
            .collect())
    };
    let negation = foils(true)?;
    Ok(ContrastScores {
        recall_at_5,
        ordinary_foil: foils(false)?.into_iter().map(|(score, _)| score).collect(),
        negation_foil: negation.iter().map(|(score, _)| *score).collect(),
        negation_foil_absent: negation
            .iter()
            .filter(|(_, absent)| *absent)
            .map(|(score, _)| *score)
            .collect(),
    })
}

/// Whether a text holds one of the words that negate.
pub fn holds_negation(text: &str) -> bool {
    text.split_whitespace()
        .any(|word| ["no", "not", "without"].contains(&word))
}
