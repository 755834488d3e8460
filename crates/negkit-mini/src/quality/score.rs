//! Scores with intervals, and differences of scores.

use negkit_metrics::{MetricsError, bootstrap_interval, bootstrap_statistic, paired_bootstrap};
use serde::{Deserialize, Serialize};

use crate::MiniError;
use crate::recipe::SEED;

/// Share of resamples within an interval.
pub(super) const LEVEL: f64 = 0.95;

/// A mean with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Of all items.
    pub mean: f64,
    /// Lower and upper end.
    pub interval: [f64; 2],
    /// How many items it is the mean of.
    pub items: usize,
}

/// How much better another encoder is on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean over the items.
    pub mean: f64,
    /// Lower and upper end of its 95 % bootstrap interval.
    pub interval: [f64; 2],
    /// Two-sided, of the bootstrap.
    pub p_value: f64,
}

impl Difference {
    /// Whether the interval leaves out zero.
    pub fn is_clear(&self) -> bool {
        self.interval[0] > 0. || self.interval[1] < 0.
    }
}

/// Bootstraps of one size, all of the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resampling {
    resamples: usize,
}

impl Resampling {
    pub(super) fn new(resamples: usize) -> Self {
        Self { resamples }
    }

    /// Mean of values that were sampled one by one; none of no values.
    pub(super) fn mean(&self, values: &[f64]) -> Result<Option<Score>, MiniError> {
        if values.is_empty() {
            return Ok(None);
        }
        let found = bootstrap_interval(values, self.resamples, SEED, LEVEL).map_err(other)?;
        Ok(Some(Score {
            mean: found.estimate,
            interval: [found.low, found.high],
            items: values.len(),
        }))
    }

    /// Mean over all items of all clusters, of which clusters were sampled: the questions of a
    /// picture, the phrases of a scene. None of no items.
    pub(super) fn clustered<C: AsRef<[f64]>>(
        &self,
        clusters: &[C],
    ) -> Result<Option<Score>, MiniError> {
        let sums: Vec<(f64, usize)> = clusters
            .iter()
            .map(|cluster| (cluster.as_ref().iter().sum(), cluster.as_ref().len()))
            .filter(|(_, items)| *items > 0)
            .collect();
        if sums.is_empty() {
            return Ok(None);
        }
        let mean = |drawn: &[usize]| {
            let (mut sum, mut items) = (0., 0);
            for &cluster in drawn {
                sum += sums[cluster].0;
                items += sums[cluster].1;
            }
            sum / items as f64
        };
        let found =
            bootstrap_statistic(sums.len(), mean, self.resamples, SEED, LEVEL).map_err(other)?;
        Ok(Some(Score {
            mean: found.estimate,
            interval: [found.low, found.high],
            items: sums.iter().map(|(_, items)| items).sum(),
        }))
    }

    /// How much better `b` is than `a` on the same items; none of no items.
    pub(super) fn difference(&self, a: &[f64], b: &[f64]) -> Result<Option<Difference>, MiniError> {
        if a.is_empty() && b.is_empty() {
            return Ok(None);
        }
        let found = paired_bootstrap(a, b, self.resamples, SEED, LEVEL).map_err(other)?;
        Ok(Some(Difference {
            mean: found.difference.estimate,
            interval: [found.difference.low, found.difference.high],
            p_value: found.p_value,
        }))
    }
}

fn other(error: MetricsError) -> MiniError {
    MiniError::other(error)
}

/// 1 for right, 0 for wrong.
pub(super) fn as_number(right: bool) -> f64 {
    f64::from(u8::from(right))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clusters_count_by_their_items_and_vary_as_a_whole() {
        let resampling = Resampling::new(2000);
        // Two answers right of one picture, one of four of another; the third was asked nothing.
        let clusters = [vec![1., 1.], vec![1., 0., 0., 0.], vec![]];
        let score = resampling.clustered(&clusters).unwrap().unwrap();
        assert_eq!((score.mean, score.items), (0.5, 6));
        // Only the first, both, only the second picture.
        assert_eq!(score.interval, [0.25, 1.]);
        assert_eq!(resampling.clustered(&[vec![]]).unwrap(), None);
        // Ten alike items of one cluster are no more certain than one.
        let alike: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i % 2); 10]).collect();
        let single: Vec<f64> = alike.iter().flatten().copied().collect();
        let width = |score: Score| score.interval[1] - score.interval[0];
        let clustered = width(resampling.clustered(&alike).unwrap().unwrap());
        let naive = width(resampling.mean(&single).unwrap().unwrap());
        assert!(clustered > 2. * naive, "{clustered} and {naive}");
    }

    #[test]
    fn a_difference_is_clear_when_its_interval_leaves_out_zero() {
        let resampling = Resampling::new(500);
        let a: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let better = vec![1.; 40];
        let clear = resampling.difference(&a, &better).unwrap().unwrap();
        assert!(clear.is_clear() && clear.mean == 0.5, "{clear:?}");
        let same = resampling.difference(&a, &a).unwrap().unwrap();
        assert!(!same.is_clear() && same.p_value == 1., "{same:?}");
        assert_eq!(resampling.difference(&[], &[]).unwrap(), None);
        assert!(resampling.difference(&a, &better[..3]).is_err());
    }
}
