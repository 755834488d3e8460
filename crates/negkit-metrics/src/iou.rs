//! Intersection over union of masks, over thresholds.

use serde::Serialize;

use crate::{MetricsError, Thresholds};

/// IoU over thresholds, gathered phrase by phrase.
///
/// A plain curve in which a phrase that names nothing can be answered rightly: where neither truth nor
/// mask has a pixel, the IoU is 1. In the protocols of the papers it is 0; for these see
/// [`SegmentationScores`](crate::SegmentationScores).
#[derive(Debug, Clone, PartialEq)]
pub struct IouCurve {
    thresholds: Thresholds,
    phrases: Vec<PhraseCounts>,
}

/// Pixels of one phrase, at every threshold.
#[derive(Debug, Clone, PartialEq)]
struct PhraseCounts {
    intersections: Vec<u64>,
    unions: Vec<u64>,
}

/// The scores at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IouAtThreshold {
    /// A pixel belongs to the mask when its probability is above this.
    pub threshold: f32,
    /// Mean over phrases of each phrase's IoU.
    pub mean_iou: f64,
    /// Sum of all intersections over sum of all unions: large things weigh more.
    pub cumulative_iou: f64,
}

impl IouCurve {
    /// An empty curve over `thresholds`, in ascending order.
    ///
    /// # Errors
    /// When there are none, or they do not ascend.
    pub fn new(thresholds: &[f32]) -> Result<Self, MetricsError> {
        Ok(Self {
            thresholds: Thresholds::new(thresholds)?,
            phrases: Vec::new(),
        })
    }

    /// Adds a phrase: the probability and the truth of every pixel, in one order.
    ///
    /// # Errors
    /// As [`Thresholds::count`].
    pub fn add(&mut self, probabilities: &[f32], truth: &[bool]) -> Result<(), MetricsError> {
        let counts = self.thresholds.count(probabilities, truth)?;
        let pixels = counts.confusions();
        self.phrases.push(PhraseCounts {
            intersections: pixels.iter().map(|p| p.true_positives).collect(),
            unions: pixels
                .iter()
                .map(|p| p.true_positives + p.false_positives + p.false_negatives)
                .collect(),
        });
        Ok(())
    }

    /// Number of phrases.
    pub fn len(&self) -> usize {
        self.phrases.len()
    }

    /// Whether no phrase has been added.
    pub fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// The IoU of every phrase at the threshold of this index, for intervals; empty for an index
    /// beyond the thresholds. Where neither truth nor mask has a pixel, the IoU is 1: nothing was
    /// to be found and nothing was marked.
    pub fn phrase_ious(&self, threshold: usize) -> Vec<f64> {
        let counts = self.phrase_counts(threshold);
        counts.into_iter().map(ratio).collect()
    }

    /// Intersection and union of every phrase, in pixels, at the threshold of this index; empty for
    /// an index beyond the thresholds.
    pub fn phrase_counts(&self, threshold: usize) -> Vec<(u64, u64)> {
        let counts = self.phrases.iter().filter_map(|phrase| {
            Some((
                *phrase.intersections.get(threshold)?,
                *phrase.unions.get(threshold)?,
            ))
        });
        counts.collect()
    }

    /// The scores at every threshold.
    ///
    /// # Errors
    /// When no phrase has been added.
    pub fn scores(&self) -> Result<Vec<IouAtThreshold>, MetricsError> {
        if self.is_empty() {
            return Err(MetricsError::NoValues {
                metric: "IoU",
                index: None,
            });
        }
        let scores = self
            .thresholds
            .values()
            .iter()
            .enumerate()
            .map(|(index, threshold)| {
                let counts = self.phrase_counts(index);
                let all = counts
                    .iter()
                    .fold((0, 0), |sum, phrase| (sum.0 + phrase.0, sum.1 + phrase.1));
                let ious = counts.iter().copied().map(ratio);
                IouAtThreshold {
                    threshold: *threshold,
                    mean_iou: ious.sum::<f64>() / counts.len() as f64,
                    cumulative_iou: ratio(all),
                }
            });
        Ok(scores.collect())
    }

    /// The threshold with the best mean IoU, the lowest of equals.
    ///
    /// # Errors
    /// When no phrase has been added.
    pub fn best(&self) -> Result<IouAtThreshold, MetricsError> {
        let scores = self.scores()?;
        let best = scores.iter().copied().reduce(|best, score| {
            if score.mean_iou > best.mean_iou {
                score
            } else {
                best
            }
        });
        best.ok_or(MetricsError::NoValues {
            metric: "IoU",
            index: None,
        })
    }
}

fn ratio((intersection, union): (u64, u64)) -> f64 {
    if union == 0 {
        return 1.;
    }
    intersection as f64 / union as f64
}
