//! How far a mean can be trusted, and whether two of them differ.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::{check_length, check_values};
use crate::{MetricsError, mean};

/// A score with its percentile bootstrap interval (Efron and Tibshirani, "An Introduction to the
/// Bootstrap", 1993, chapter 13).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The score of all items.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Share of resamples between the ends, such as 0.95.
    pub level: f64,
}

/// The mean of `values` with its percentile bootstrap interval: the mean of as many values drawn
/// with replacement, `resamples` times, between the quantiles `(1 - level) / 2` and
/// `(1 + level) / 2` (linearly interpolated, as numpy does). The same seed gives the same interval.
///
/// A value is the unit that was sampled: for a score over prompts with ten pictures each, one value
/// a prompt, not one a picture.
///
/// # Errors
/// When there are no values or resamples, one value is not finite, or `level` is not between 0
/// and 1.
pub fn bootstrap_interval(
    values: &[f64],
    resamples: usize,
    seed: u64,
    level: f64,
) -> Result<Interval, MetricsError> {
    check_values("bootstrap", values)?;
    let mean_of =
        |items: &[usize]| items.iter().map(|item| values[*item]).sum::<f64>() / items.len() as f64;
    bootstrap_statistic(values.len(), mean_of, resamples, seed, level)
}

/// As [`bootstrap_interval`], for any statistic of `items` items: it is given the indices of the
/// items, first each once, then of every resample. For scores that are no mean, such as a cumulative
/// IoU.
///
/// # Errors
/// When there are no items or resamples, `level` is not between 0 and 1, or the statistic is not
/// finite.
pub fn bootstrap_statistic(
    items: usize,
    statistic: impl Fn(&[usize]) -> f64,
    resamples: usize,
    seed: u64,
    level: f64,
) -> Result<Interval, MetricsError> {
    let drawn = resample(items, &statistic, resamples, seed, level)?;
    let whole: Vec<usize> = (0..items).collect();
    let estimate = statistic(&whole);
    check_values("bootstrap", &[estimate])?;
    Ok(interval(estimate, &drawn, level))
}

/// The statistic of every resample, in ascending order.
fn resample(
    items: usize,
    statistic: impl Fn(&[usize]) -> f64,
    resamples: usize,
    seed: u64,
    level: f64,
) -> Result<Vec<f64>, MetricsError> {
    let settings = Bootstrap {
        resamples,
        seed,
        level,
    };
    let mut drawn = Vec::new();
    settings.draw(items, |items| drawn.push(statistic(items)))?;
    check_values(METRIC, &drawn)?;
    Ok(sorted(drawn))
}

const METRIC: &str = "bootstrap";

/// How an interval is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How often items are drawn with replacement, as many as there are.
    pub resamples: usize,
    /// The same seed draws the same items.
    pub seed: u64,
    /// Share of resamples within an interval.
    pub level: f64,
}

impl Default for Bootstrap {
    /// 2,000 resamples at 95 %: an end then scatters by a thirtieth of the interval's half width.
    fn default() -> Self {
        Self {
            resamples: 2000,
            seed: 0,
            level: 0.95,
        }
    }
}

/// Items that are drawn together, because they are alike: the pictures of one prompt, the phrases of
/// one picture. Intervals from single items would be too narrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    clusters: Vec<Vec<usize>>,
    items: usize,
}

impl Clusters {
    /// Every item for itself.
    pub fn singletons(items: usize) -> Self {
        Self {
            clusters: (0..items).map(|item| vec![item]).collect(),
            items,
        }
    }

    /// Items with the same label, in the order of the labels.
    pub fn by_label<L: Ord>(labels: impl IntoIterator<Item = L>) -> Self {
        let mut clusters = BTreeMap::<L, Vec<usize>>::new();
        let mut items = 0;
        for label in labels {
            clusters.entry(label).or_default().push(items);
            items += 1;
        }
        Self {
            clusters: clusters.into_values().collect(),
            items,
        }
    }

    /// Number of items in all clusters.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// The items of every cluster.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.clusters.iter().map(Vec::as_slice)
    }
}

impl Bootstrap {
    /// The mean of `values` with its interval; see [`bootstrap_interval`].
    ///
    /// # Errors
    /// As there.
    pub fn mean(&self, values: &[f64]) -> Result<Interval, MetricsError> {
        bootstrap_interval(values, self.resamples, self.seed, self.level)
    }

    /// Several statistics of the items of all clusters, each with its interval. They are given the
    /// indices of the items of the clusters that were drawn, and are computed from the same draws.
    ///
    /// # Errors
    /// When there are no clusters or resamples, the level is not between 0 and 1, a statistic is not
    /// finite, or there are not always as many.
    pub fn intervals(
        &self,
        clusters: &Clusters,
        statistics: impl Fn(&[usize]) -> Vec<f64>,
    ) -> Result<Vec<Interval>, MetricsError> {
        let (estimates, drawn) = self.statistics(clusters, statistics)?;
        let pairs = estimates.into_iter().zip(drawn);
        Ok(pairs
            .map(|(estimate, drawn)| interval(estimate, &sorted(drawn), self.level))
            .collect())
    }

    /// The share of items that are right, drawing clusters.
    ///
    /// # Errors
    /// As [`Bootstrap::intervals`].
    pub fn share(
        &self,
        clusters: &Clusters,
        right: impl Fn(usize) -> bool,
    ) -> Result<Interval, MetricsError> {
        let found = self.intervals(clusters, |items| {
            let right = items.iter().filter(|item| right(**item)).count();
            vec![right as f64 / items.len() as f64]
        })?;
        found.first().copied().ok_or(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        })
    }

    /// As [`Bootstrap::intervals`], for statistics that are differences of two encoders on the same
    /// items: with p values.
    ///
    /// # Errors
    /// As there.
    pub fn differences(
        &self,
        clusters: &Clusters,
        differences: impl Fn(&[usize]) -> Vec<f64>,
    ) -> Result<Vec<PairedDifference>, MetricsError> {
        let (estimates, drawn) = self.statistics(clusters, differences)?;
        let pairs = estimates.into_iter().zip(drawn);
        Ok(pairs
            .map(|(estimate, drawn)| {
                let drawn = sorted(drawn);
                PairedDifference {
                    difference: interval(estimate, &drawn, self.level),
                    p_value: two_sided(&drawn),
                }
            })
            .collect())
    }

    /// The mean over strata of a statistic, with its interval: the clusters of every stratum are drawn
    /// for themselves, so that each stratum keeps its size. The statistic is given the index of the
    /// stratum and the items that were drawn.
    ///
    /// # Errors
    /// As [`Bootstrap::intervals`], and when there are no strata.
    pub fn stratified(
        &self,
        strata: &[Clusters],
        statistic: impl Fn(usize, &[usize]) -> f64,
    ) -> Result<Interval, MetricsError> {
        let count = strata.len() as f64;
        let mut estimates = Vec::new();
        let mut sums = Vec::new();
        for (index, clusters) in strata.iter().enumerate() {
            let settings = Self {
                // Strata of one size must not be drawn alike.
                seed: self.seed.wrapping_add(index as u64),
                ..*self
            };
            let (estimate, drawn) =
                settings.statistics(clusters, |items| vec![statistic(index, items)])?;
            estimates.extend(estimate);
            sums.resize(self.resamples, 0.);
            for (sum, drawn) in sums.iter_mut().zip(drawn.iter().flatten()) {
                *sum += drawn;
            }
        }
        let estimate = mean(&estimates)?;
        let means = sums.into_iter().map(|sum| sum / count).collect();
        Ok(interval(estimate, &sorted(means), self.level))
    }

    /// Every statistic of all items, and of every resample in the order of drawing.
    fn statistics(
        &self,
        clusters: &Clusters,
        statistics: impl Fn(&[usize]) -> Vec<f64>,
    ) -> Result<(Vec<f64>, Vec<Vec<f64>>), MetricsError> {
        if clusters.is_empty() {
            return Err(MetricsError::NoValues {
                metric: METRIC,
                index: None,
            });
        }
        let all: Vec<usize> = clusters.iter().flatten().copied().collect();
        let estimates = statistics(&all);
        check_values(METRIC, &estimates)?;
        let mut drawn = vec![Vec::new(); estimates.len()];
        let mut found = estimates.len();
        let mut items = Vec::with_capacity(all.len());
        self.draw(clusters.len(), |drawn_clusters| {
            items.clear();
            for cluster in drawn_clusters {
                items.extend_from_slice(&clusters.clusters[*cluster]);
            }
            let values = statistics(&items);
            if values.len() != drawn.len() {
                found = values.len();
            }
            for (drawn, value) in drawn.iter_mut().zip(values) {
                drawn.push(value);
            }
        })?;
        check_length(
            METRIC,
            "statistics of every resample",
            estimates.len(),
            found,
        )?;
        for values in &drawn {
            check_values(METRIC, values)?;
        }
        Ok((estimates, drawn))
    }

    /// Draws as many of `items` items as there are, with replacement, again and again.
    fn draw(&self, items: usize, mut each: impl FnMut(&[usize])) -> Result<(), MetricsError> {
        let Self {
            resamples,
            seed,
            level,
        } = *self;
        if items == 0 {
            return Err(MetricsError::NoValues {
                metric: METRIC,
                index: None,
            });
        }
        let setting = |setting, found: String, expected| MetricsError::Setting {
            metric: METRIC,
            setting,
            found,
            expected,
        };
        if resamples == 0 {
            return Err(setting("resamples", "0".to_owned(), "1 or more"));
        }
        if !(level > 0. && level < 1.) {
            return Err(setting("level", level.to_string(), "between 0 and 1"));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = vec![0; items];
        for _ in 0..resamples {
            for item in &mut drawn {
                // The high half of a 64 x 64 bit product is uniform over 0..items to 2^-64 * items.
                *item = ((u128::from(rng.next_u64()) * items as u128) >> 64) as usize;
            }
            each(&drawn);
        }
        Ok(())
    }
}

fn sorted(mut drawn: Vec<f64>) -> Vec<f64> {
    drawn.sort_by(f64::total_cmp);
    drawn
}

/// Twice the share of resamples at or beyond zero on the rarer side, at most 1.
fn two_sided(drawn: &[f64]) -> f64 {
    let at_most_zero = drawn.iter().filter(|d| **d <= 0.).count();
    let at_least_zero = drawn.iter().filter(|d| **d >= 0.).count();
    let rarer = (at_most_zero.min(at_least_zero) + 1) as f64 / (drawn.len() + 1) as f64;
    (2. * rarer).min(1.)
}

fn interval(estimate: f64, sorted: &[f64], level: f64) -> Interval {
    Interval {
        estimate,
        low: quantile(sorted, (1. - level) / 2.),
        high: quantile(sorted, (1. + level) / 2.),
        level,
    }
}

/// Of ascending values, linearly interpolated: numpy's default.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor();
    let low = sorted[below as usize];
    let high = sorted[position.ceil() as usize];
    low + (high - low) * (position - below)
}

/// How much better `b` is than `a` on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedDifference {
    /// Mean of `b - a` over the items.
    pub difference: Interval,
    /// Two-sided: twice the share of resamples at or beyond zero on the rarer side, at most 1. No
    /// smaller than `2 / (resamples + 1)`.
    pub p_value: f64,
}

/// The mean of `b - a` with its percentile bootstrap interval, drawing items (so that what is hard
/// for both counts for neither).
///
/// # Errors
/// As [`bootstrap_interval`], and when the lists differ in length.
pub fn paired_bootstrap(
    a: &[f64],
    b: &[f64],
    resamples: usize,
    seed: u64,
    level: f64,
) -> Result<PairedDifference, MetricsError> {
    check_values("paired bootstrap", a)?;
    check_values("paired bootstrap", b)?;
    check_length(
        "paired bootstrap",
        "values to compare with",
        a.len(),
        b.len(),
    )?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let mean_of = |items: &[usize]| {
        items.iter().map(|item| differences[*item]).sum::<f64>() / items.len() as f64
    };
    let drawn = resample(differences.len(), mean_of, resamples, seed, level)?;
    Ok(PairedDifference {
        difference: interval(mean(&differences)?, &drawn, level),
        p_value: two_sided(&drawn),
    })
}

/// McNemar's exact test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Items that `a` alone has right.
    pub only_a: usize,
    /// Items that `b` alone has right.
    pub only_b: usize,
    /// Two-sided: of a fair coin that fell as unevenly, or more, over the items that differ.
    pub p_value: f64,
}

/// McNemar's exact (binomial) test of two encoders on the same items, each right or wrong. Without
/// an item on which they differ the p value is 1.
///
/// # Errors
/// When there are no items, or the lists differ in length.
pub fn mcnemar_exact(a: &[bool], b: &[bool]) -> Result<McNemar, MetricsError> {
    if a.is_empty() {
        return Err(MetricsError::NoValues {
            metric: "McNemar's test",
            index: None,
        });
    }
    check_length("McNemar's test", "items to compare with", a.len(), b.len())?;
    let only = |wanted: (bool, bool)| {
        a.iter()
            .zip(b)
            .filter(|(a, b)| (**a, **b) == wanted)
            .count()
    };
    let (only_a, only_b) = (only((true, false)), only((false, true)));
    Ok(McNemar {
        only_a,
        only_b,
        p_value: binomial_two_sided(only_a.min(only_b), only_a + only_b),
    })
}

/// Twice the probability of at most `fewer` heads in `flips` flips of a fair coin, at most 1.
fn binomial_two_sided(fewer: usize, flips: usize) -> f64 {
    // In logarithms: 2^-flips is no f64 beyond a thousand flips.
    let mut log_choose = 0f64;
    let mut tail = 0f64;
    let log_all = flips as f64 * 2f64.ln();
    for heads in 0..=fewer {
        if heads > 0 {
            log_choose += ((flips - heads + 1) as f64 / heads as f64).ln();
        }
        tail += (log_choose - log_all).exp();
    }
    (2. * tail).min(1.)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        // np.quantile([1, 2, 4, 8], [0, 0.1, 0.5, 0.9, 1])
        let sorted = [1., 2., 4., 8.];
        for (q, expected) in [(0., 1.), (0.1, 1.3), (0.5, 3.), (0.9, 6.8), (1., 8.)] {
            let found = quantile(&sorted, q);
            assert!((found - expected).abs() < 1e-12, "{q}: {found}");
        }
    }
}
