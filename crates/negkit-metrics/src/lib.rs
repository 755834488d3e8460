//! Scores from plain numbers.
//!
//! Slices go in, numbers come out; no model and no dataset is known here, so that a score can be
//! checked against a calculation by hand, and recomputed from stored answers years later. A score is
//! made in three steps:
//!
//! 1. A value for every item: [`NegAnswers`] or a [`QuestionScore`] for a picture, [`dsg_score`] and
//!    [`geneval()`] for its questions and objects, [`PixelCounts`] for a phrase, [`chosen`] for a
//!    question with options, [`rank_of_right`] and [`recall_hits`] for a query. These are what a run stores.
//! 2. The score over all items with its interval, by a [`Bootstrap`] that draws what was sampled: prompts
//!    and pictures, not the pictures and phrases that each of them brought along ([`Clusters`]).
//! 3. Whether two encoders differ, on the same items: [`PairedScores`] and [`compare_segmentation`].
//!
//! Keeping the values apart, instead of their mean alone, is what makes the last two steps possible.
//!
//! What cannot be scored (no values, NaN, lists of unequal length) is an error, never a 0.
#![deny(missing_docs)]

mod bootstrap;
mod choice;
mod comparison;
mod dsg;
mod error;
mod geneval;
mod iou;
mod neg_score;
mod ranking;
mod segmentation;
mod tifa;

pub use bootstrap::{
    Bootstrap, Clusters, Interval, McNemar, PairedDifference, bootstrap_interval,
    bootstrap_statistic, mcnemar_exact, paired_bootstrap,
};
pub use choice::{chosen, group_mean, rank_of_right};
pub use comparison::{ItemValue, MeanOver, PairedScores};
pub use dsg::{DependentAnswer, DsgReport, DsgScore, dsg_score};
pub use error::MetricsError;
pub use geneval::{
    DetectedObject, Exclude, GenevalClauses, GenevalFault, GenevalPicture, GenevalReport,
    GenevalSettings, Include, Relation, geneval,
};
pub use iou::{IouAtThreshold, IouCurve};
pub use neg_score::{NegAnswers, NegScore, NegScoreIntervals, PromptScore, neg_score, yes_or_no};
pub use ranking::{foil_accuracy, foil_hits, recall_at_k, recall_hits};
pub use segmentation::{
    ACCURACY_IOUS, Confusion, PixelCounts, SegmentationComparison, SegmentationIntervals,
    SegmentationProtocol, SegmentationScores, SegmentationSide, ThresholdIntervals,
    ThresholdScores, Thresholds, compare_segmentation, phrase_ious,
};
pub use tifa::{
    ChoiceMatcher, ChooseError, EmbeddingMatcher, MatchError, QuestionScore, TifaReport, TifaScore,
    TypeScore, choose, picture_scores, tifa_score,
};

/// Arithmetic mean of finite values.
///
/// # Errors
/// When there are none, or one is not finite.
pub fn mean(values: &[f64]) -> Result<f64, MetricsError> {
    error::check_values("mean", values)?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of a sample: with `n - 1` in the denominator, as `statistics.stdev` of Python.
/// `None` for fewer than two values.
///
/// # Errors
/// When there are no values, or one is not finite.
pub fn sample_deviation(values: &[f64]) -> Result<Option<f64>, MetricsError> {
    let mean = mean(values)?;
    if values.len() < 2 {
        return Ok(None);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Ok(Some((squares / (values.len() - 1) as f64).sqrt()))
}

/// The share of `true`, 0 for an empty slice; callers check for that.
fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
    let count = hits.len().max(1);
    hits.filter(|hit| *hit).count() as f64 / count as f64
}
