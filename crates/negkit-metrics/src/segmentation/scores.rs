//! Scores of many phrases, out of their counts.

use serde::{Deserialize, Serialize};

use super::counting::{Confusion, confusions};
use super::precision::{simpson, steps};
use super::{PixelCounts, Thresholds};
use crate::error::check_length;
use crate::{Bootstrap, Clusters, Interval, MetricsError, PairedDifference};

const METRIC: &str = "segmentation";

/// A phrase is right when its IoU is *above* one of these (PhraseCut's evaluator).
pub const ACCURACY_IOUS: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];

/// How counts become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentationProtocol {
    /// CLIPSeg's (`FixedIntervalMetrics` of timojl/clipseg): every denominator has 1 added, so that
    /// none is 0 and a phrase whose mask and truth are both empty scores 0; average precision by
    /// Simpson's rule over the points at which anything is marked. Meant for pictures squashed to
    /// [`SegmentationProtocol::CLIPSEG_SIDE`].
    ClipSeg,
    /// PhraseCut's (`utils/iou.py` and `utils/evaluator.py` of ChenyunWu/PhraseCutDataset): plain
    /// ratios, 0 where nothing was found. Meant for pictures at full size. Its evaluator knows no average
    /// precision; here it is the sum of every precision times the recall that its threshold adds.
    PhraseCut,
}

impl SegmentationProtocol {
    /// Side of the square that CLIPSeg's evaluation squashes pictures and truth to.
    pub const CLIPSEG_SIDE: usize = 352;

    /// A share of pixels: `part / whole` as this protocol has it.
    fn share(self, part: u64, whole: u64) -> f64 {
        match self {
            Self::ClipSeg => part as f64 / (1 + whole) as f64,
            Self::PhraseCut if part == 0 => 0.,
            Self::PhraseCut => part as f64 / whole as f64,
        }
    }

    /// Intersection over union of what is marked and what is true.
    pub fn foreground_iou(self, pixels: &Confusion) -> f64 {
        let found = pixels.true_positives;
        let union = found + pixels.false_positives + pixels.false_negatives;
        self.share(found, union)
    }

    /// Mean of the IoU of the foreground and that of the background.
    pub fn binary_iou(self, pixels: &Confusion) -> f64 {
        let left = pixels.true_negatives;
        let union = left + pixels.false_negatives + pixels.false_positives;
        0.5 * self.foreground_iou(pixels) + 0.5 * self.share(left, union)
    }

    /// The area under precision against recall, of the pixels of all phrases at every threshold. 0
    /// where nothing is marked at any (CLIPSeg's code stops there).
    pub fn average_precision(self, pixels: &[Confusion]) -> f64 {
        let marked = pixels
            .iter()
            .filter(|p| p.true_positives + p.false_positives > 0);
        let mut points: Vec<(f64, f64)> = marked
            .map(|p| {
                let found = p.true_positives;
                let recall = self.share(found, found + p.false_negatives);
                (recall, self.share(found, found + p.false_positives))
            })
            .collect();
        // CLIPSeg's code leaves the order of points of one recall to a Python set.
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points.dedup();
        match self {
            Self::ClipSeg => simpson(&points),
            Self::PhraseCut => steps(&points),
        }
    }
}

/// The scores at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ThresholdScores {
    /// A pixel is marked when its probability is above this.
    pub threshold: f32,
    /// Mean over phrases of each phrase's IoU.
    pub mean_iou: f64,
    /// IoU of the pixels of all phrases together: large things weigh more.
    pub foreground_iou: f64,
    /// Mean of the foreground's and the background's IoU, of all pixels together.
    pub binary_iou: f64,
    /// Share of phrases whose IoU is above each of [`ACCURACY_IOUS`].
    pub accuracy: [f64; ACCURACY_IOUS.len()],
}

/// The scores of many phrases in one protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationScores {
    /// How they were made.
    pub protocol: SegmentationProtocol,
    /// Area under precision against recall; see [`SegmentationProtocol::average_precision`].
    pub average_precision: f64,
    /// At every threshold, in ascending order.
    pub thresholds: Vec<ThresholdScores>,
}

impl SegmentationScores {
    /// Scores phrases by their counts, which must be of `thresholds`.
    ///
    /// # Errors
    /// When there are no phrases, or counts are of another number of thresholds.
    pub fn new(
        protocol: SegmentationProtocol,
        thresholds: &Thresholds,
        phrases: &[PixelCounts],
    ) -> Result<Self, MetricsError> {
        let indices: Vec<usize> = (0..thresholds.values().len()).collect();
        let phrases = Phrases::new(protocol, thresholds, phrases, &indices)?;
        let all: Vec<usize> = (0..phrases.counts.len()).collect();
        Ok(phrases.scores(&all))
    }

    /// The index of the threshold at which `score` is best, the lowest of equals, as CLIPSeg's code
    /// chooses it: on the phrases that are scored, so it flatters.
    pub fn best_by(&self, score: impl Fn(&ThresholdScores) -> f64) -> usize {
        let mut best = 0;
        for (index, scores) in self.thresholds.iter().enumerate() {
            if score(scores) > score(&self.thresholds[best]) {
                best = index;
            }
        }
        best
    }

    /// All scores in a row, for the bootstrap.
    fn row(&self) -> Vec<f64> {
        let at = self.thresholds.iter().flat_map(|scores| {
            let first = [scores.mean_iou, scores.foreground_iou, scores.binary_iou];
            first.into_iter().chain(scores.accuracy)
        });
        std::iter::once(self.average_precision).chain(at).collect()
    }
}

/// The IoU of each phrase at the threshold of index `threshold`, for paired tests and for looking at
/// the best and the worst.
///
/// # Errors
/// When a phrase's counts have no such threshold.
pub fn phrase_ious(
    protocol: SegmentationProtocol,
    phrases: &[PixelCounts],
    threshold: usize,
) -> Result<Vec<f64>, MetricsError> {
    let iou = |phrase: &PixelCounts| {
        let confusions = phrase.confusions();
        let at = confusions.get(threshold);
        at.map(|pixels| protocol.foreground_iou(pixels))
            .ok_or_else(|| no_threshold(threshold))
    };
    phrases.iter().map(iou).collect()
}

fn no_threshold(index: usize) -> MetricsError {
    MetricsError::Setting {
        metric: METRIC,
        setting: "threshold",
        found: index.to_string(),
        expected: "the index of a threshold",
    }
}

/// Phrases made ready for being scored again and again.
struct Phrases<'a> {
    protocol: SegmentationProtocol,
    counts: &'a [PixelCounts],
    /// Index and value of the thresholds to score at.
    thresholds: Vec<(usize, f32)>,
    /// The IoU of every phrase at these.
    ious: Vec<Vec<f64>>,
}

impl<'a> Phrases<'a> {
    fn new(
        protocol: SegmentationProtocol,
        thresholds: &Thresholds,
        counts: &'a [PixelCounts],
        indices: &[usize],
    ) -> Result<Self, MetricsError> {
        if counts.is_empty() {
            return Err(MetricsError::NoValues {
                metric: METRIC,
                index: None,
            });
        }
        let values = thresholds.values();
        counts
            .iter()
            .try_for_each(|phrase| phrase.check(values.len()))?;
        let value = |index: &usize| values.get(*index).ok_or_else(|| no_threshold(*index));
        let thresholds = indices
            .iter()
            .map(|index| Ok((*index, *value(index)?)))
            .collect::<Result<_, MetricsError>>()?;
        let ious = |phrase: &PixelCounts| {
            let pixels = phrase.confusions();
            let at = indices.iter().map(|index| &pixels[*index]);
            at.map(|pixels| protocol.foreground_iou(pixels)).collect()
        };
        Ok(Self {
            protocol,
            counts,
            thresholds,
            ious: counts.iter().map(ious).collect(),
        })
    }

    /// The scores of these phrases; one may be there several times.
    fn scores(&self, items: &[usize]) -> SegmentationScores {
        let together = self.together(items);
        let at = self
            .thresholds
            .iter()
            .enumerate()
            .map(|(column, threshold)| {
                let (index, value) = *threshold;
                let (mean_iou, accuracy) = self.means(items, column);
                ThresholdScores {
                    threshold: value,
                    mean_iou,
                    foreground_iou: self.protocol.foreground_iou(&together[index]),
                    binary_iou: self.protocol.binary_iou(&together[index]),
                    accuracy,
                }
            });
        SegmentationScores {
            protocol: self.protocol,
            average_precision: self.protocol.average_precision(&together),
            thresholds: at.collect(),
        }
    }

    /// Right and wrong pixels of these phrases together, at every threshold of the counts.
    fn together(&self, items: &[usize]) -> Vec<Confusion> {
        let bins = self.counts[0].inside.len();
        let (mut inside, mut outside) = (vec![0u64; bins], vec![0u64; bins]);
        let add = |sums: &mut [u64], counts: &[u32]| {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        };
        for item in items {
            add(&mut inside, &self.counts[*item].inside);
            add(&mut outside, &self.counts[*item].outside);
        }
        confusions(&inside, &outside)
    }

    /// Mean IoU and shares of right phrases.
    fn means(&self, items: &[usize], column: usize) -> (f64, [f64; ACCURACY_IOUS.len()]) {
        let (mut sum, mut right) = (0., [0u64; ACCURACY_IOUS.len()]);
        for item in items {
            let iou = self.ious[*item][column];
            sum += iou;
            for (right, bound) in right.iter_mut().zip(ACCURACY_IOUS) {
                *right += u64::from(iou > bound);
            }
        }
        let phrases = items.len() as f64;
        (sum / phrases, right.map(|right| right as f64 / phrases))
    }
}

/// The scores at one threshold with their intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ThresholdIntervals {
    /// A pixel is marked when its probability is above this.
    pub threshold: f32,
    /// See [`ThresholdScores::mean_iou`].
    pub mean_iou: Interval,
    /// See [`ThresholdScores::foreground_iou`].
    pub foreground_iou: Interval,
    /// See [`ThresholdScores::binary_iou`].
    pub binary_iou: Interval,
    /// See [`ThresholdScores::accuracy`].
    pub accuracy: [Interval; ACCURACY_IOUS.len()],
}

/// Scores with their intervals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentationIntervals {
    /// See [`SegmentationScores::average_precision`].
    pub average_precision: Interval,
    /// At the thresholds that were asked for.
    pub thresholds: Vec<ThresholdIntervals>,
}

impl SegmentationIntervals {
    /// Intervals of the average precision and of the scores at the thresholds of these indices.
    /// `clusters` are the phrases of each picture: a picture that is hard is hard for all its phrases,
    /// so pictures are drawn, not phrases.
    ///
    /// # Errors
    /// As [`SegmentationScores::new`], when an index is no threshold's, or when the clusters are not of
    /// these phrases.
    pub fn new(
        protocol: SegmentationProtocol,
        thresholds: &Thresholds,
        phrases: &[PixelCounts],
        indices: &[usize],
        clusters: &Clusters,
        bootstrap: &Bootstrap,
    ) -> Result<Self, MetricsError> {
        check_length(
            METRIC,
            "phrases in clusters",
            phrases.len(),
            clusters.items(),
        )?;
        let phrases = Phrases::new(protocol, thresholds, phrases, indices)?;
        let row = bootstrap.intervals(clusters, |items| phrases.scores(items).row())?;
        let at = phrases
            .thresholds
            .iter()
            .zip(row[1..].chunks_exact(PER_THRESHOLD));
        let at = at.map(|((_, threshold), scores)| ThresholdIntervals {
            threshold: *threshold,
            mean_iou: scores[0],
            foreground_iou: scores[1],
            binary_iou: scores[2],
            accuracy: std::array::from_fn(|bound| scores[3 + bound]),
        });
        Ok(Self {
            average_precision: row[0],
            thresholds: at.collect(),
        })
    }
}

/// Scores at each threshold in [`SegmentationScores::row`].
const PER_THRESHOLD: usize = 3 + ACCURACY_IOUS.len();

/// One encoder's phrases, and the threshold at which it is compared.
#[derive(Debug, Clone, Copy)]
pub struct SegmentationSide<'a> {
    /// Counts of every phrase, in the same order for both encoders.
    pub phrases: &'a [PixelCounts],
    /// Index of a threshold.
    pub threshold: usize,
}

/// How much better one encoder is than another on the same phrases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SegmentationComparison {
    /// Of [`SegmentationScores::average_precision`].
    pub average_precision: PairedDifference,
    /// Of [`ThresholdScores::mean_iou`].
    pub mean_iou: PairedDifference,
    /// Of [`ThresholdScores::foreground_iou`].
    pub foreground_iou: PairedDifference,
    /// Of [`ThresholdScores::binary_iou`].
    pub binary_iou: PairedDifference,
}

/// Compares `b` with `a` by paired bootstrap over clusters; see [`SegmentationIntervals::new`].
///
/// # Errors
/// As there, and when the two have not the same number of phrases, or of pixels in each.
pub fn compare_segmentation<'a>(
    protocol: SegmentationProtocol,
    thresholds: &Thresholds,
    a: SegmentationSide<'a>,
    b: SegmentationSide<'a>,
    clusters: &Clusters,
    bootstrap: &Bootstrap,
) -> Result<SegmentationComparison, MetricsError> {
    check_length(
        METRIC,
        "phrases to compare with",
        a.phrases.len(),
        b.phrases.len(),
    )?;
    check_length(
        METRIC,
        "phrases in clusters",
        a.phrases.len(),
        clusters.items(),
    )?;
    for (a, b) in a.phrases.iter().zip(b.phrases) {
        let pixels = |counts: &[u32]| counts.iter().map(|count| *count as usize).sum();
        let what = "pixels inside the truth of a phrase to compare with";
        check_length(METRIC, what, pixels(&a.inside), pixels(&b.inside))?;
        let what = "pixels outside the truth of a phrase to compare with";
        check_length(METRIC, what, pixels(&a.outside), pixels(&b.outside))?;
    }
    let ready = |side: SegmentationSide<'a>| {
        Phrases::new(protocol, thresholds, side.phrases, &[side.threshold])
    };
    let (a, b) = (ready(a)?, ready(b)?);
    let row = bootstrap.differences(clusters, |items| {
        let (a, b) = (a.scores(items).row(), b.scores(items).row());
        a.iter().zip(b).map(|(a, b)| b - a).collect()
    })?;
    Ok(SegmentationComparison {
        average_precision: row[0],
        mean_iou: row[1],
        foreground_iou: row[2],
        binary_iou: row[3],
    })
}
