//! Two encoders on the same prompts and seeds.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::error::check_values;
use crate::{Bootstrap, Clusters, McNemar, MetricsError, PairedDifference, mcnemar_exact};

const METRIC: &str = "paired scores";

/// The value of one item: a prompt's picture by its seed, a picture's phrase by its id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemValue<C, I> {
    /// What the item is drawn with: the prompt, or the picture.
    pub cluster: C,
    /// Which of the cluster's items: the seed, or the phrase.
    pub item: I,
    /// Its score; 0 or 1 where it is right or wrong.
    pub value: f64,
}

/// What counts once in a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeanOver {
    /// Every cluster: a mean per prompt, then over prompts, as Neg Score and TIFA are made.
    Clusters,
    /// Every item: a mean over phrases, whatever picture they are of.
    Items,
}

/// The scores of two encoders, item by item.
///
/// Encoders are compared on the same prompts painted from the same noise, so that what is hard for
/// both counts for neither. Lists that do not name the same items are refused: a picture that one
/// encoder failed to paint would otherwise shift all that follow.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedScores {
    a: Vec<f64>,
    b: Vec<f64>,
    clusters: Clusters,
}

impl PairedScores {
    /// Pairs two encoders' items by cluster and item, whatever their order.
    ///
    /// # Errors
    /// When there are none, one is there twice or for one encoder only, or a value is not finite.
    pub fn new<C: Ord + Debug, I: Ord + Debug>(
        a: impl IntoIterator<Item = ItemValue<C, I>>,
        b: impl IntoIterator<Item = ItemValue<C, I>>,
    ) -> Result<Self, MetricsError> {
        let a = by_key(a)?;
        let mut b = by_key(b)?;
        let (mut a_values, mut b_values) = (Vec::new(), Vec::new());
        for (key, value) in &a {
            let other = b.remove(key).ok_or_else(|| MetricsError::Item {
                metric: METRIC,
                item: name(key),
                problem: "missing for the second encoder; compare the items that both have",
            })?;
            a_values.push(*value);
            b_values.push(other);
        }
        if let Some(key) = b.keys().next() {
            return Err(MetricsError::Item {
                metric: METRIC,
                item: name(key),
                problem: "missing for the first encoder; compare the items that both have",
            });
        }
        check_values(METRIC, &a_values)?;
        check_values(METRIC, &b_values)?;
        Ok(Self {
            a: a_values,
            b: b_values,
            clusters: Clusters::by_label(a.keys().map(|(cluster, _)| cluster)),
        })
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.a.len()
    }

    /// Number of clusters.
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// The mean of `b - a` with its interval and p value, drawing clusters.
    ///
    /// # Errors
    /// When there are no resamples or the level is not between 0 and 1.
    pub fn bootstrap(
        &self,
        over: MeanOver,
        bootstrap: &Bootstrap,
    ) -> Result<PairedDifference, MetricsError> {
        let difference = |item: &usize| self.b[*item] - self.a[*item];
        let mean = |items: &[usize]| items.iter().map(difference).sum::<f64>() / items.len() as f64;
        let found = match over {
            MeanOver::Items => bootstrap.differences(&self.clusters, |items| vec![mean(items)])?,
            MeanOver::Clusters => {
                let means: Vec<f64> = self.clusters.iter().map(mean).collect();
                bootstrap.differences(&Clusters::singletons(means.len()), |drawn| {
                    let sum: f64 = drawn.iter().map(|cluster| means[*cluster]).sum();
                    vec![sum / drawn.len() as f64]
                })?
            }
        };
        found.first().copied().ok_or(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        })
    }

    /// McNemar's exact test. It takes every item for independent: with several pictures a prompt its p
    /// value is too small, and [`PairedScores::bootstrap`] is the test to trust.
    ///
    /// # Errors
    /// When a value is neither 0 nor 1.
    pub fn mcnemar(&self) -> Result<McNemar, MetricsError> {
        mcnemar_exact(&right_or_wrong(&self.a)?, &right_or_wrong(&self.b)?)
    }
}

fn by_key<C: Ord + Debug, I: Ord + Debug>(
    items: impl IntoIterator<Item = ItemValue<C, I>>,
) -> Result<BTreeMap<(C, I), f64>, MetricsError> {
    let mut values = BTreeMap::new();
    for ItemValue {
        cluster,
        item,
        value,
    } in items
    {
        let key = (cluster, item);
        if values.contains_key(&key) {
            return Err(MetricsError::Item {
                metric: METRIC,
                item: name(&key),
                problem: "there twice",
            });
        }
        values.insert(key, value);
    }
    Ok(values)
}

fn name<C: Debug, I: Debug>((cluster, item): &(C, I)) -> String {
    format!("item {item:?} of {cluster:?}")
}

fn right_or_wrong(values: &[f64]) -> Result<Vec<bool>, MetricsError> {
    values
        .iter()
        .enumerate()
        .map(|(index, value)| match *value {
            0. => Ok(false),
            1. => Ok(true),
            _ => Err(MetricsError::Setting {
                metric: "McNemar's test",
                setting: "value",
                found: format!("{value} (item {index})"),
                expected: "0 or 1",
            }),
        })
        .collect()
}
