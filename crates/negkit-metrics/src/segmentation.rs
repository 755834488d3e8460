//! Masks against the truth, at many thresholds, in the protocols that papers report.
//!
//! Data goes through in two steps. [`Thresholds::count`] looks at every probability of a phrase once
//! and leaves [`PixelCounts`], a hundred small numbers that can be stored beside the phrase;
//! [`SegmentationScores`] makes every score at every threshold out of these, in one
//! [`SegmentationProtocol`] or the other. A picture's probabilities need never be kept, and a run that
//! was broken off goes on from stored counts.

mod counting;
mod precision;
mod scores;

pub use counting::{Confusion, PixelCounts, Thresholds};
pub use scores::{
    ACCURACY_IOUS, SegmentationComparison, SegmentationIntervals, SegmentationProtocol,
    SegmentationScores, SegmentationSide, ThresholdIntervals, ThresholdScores,
    compare_segmentation, phrase_ious,
};
