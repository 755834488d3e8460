//! Scores from similarities: retrieval, and captions against foils.

use crate::choice::rank_of_right;
use crate::error::check_length;
use crate::{MetricsError, share};

/// For each query whether one of its right candidates is among the `k` most similar ones.
///
/// `rows[query][candidate]` are similarities, `targets[query]` the indices of the right candidates.
/// A candidate as similar as the best right one counts as more similar, so that a model which finds
/// everything alike finds nothing.
///
/// # Errors
/// When there are no queries, `k` is 0, lists differ in length, a target is no candidate or missing,
/// or a similarity is not finite.
pub fn recall_hits<R: AsRef<[f32]>, T: AsRef<[usize]>>(
    rows: &[R],
    targets: &[T],
    k: usize,
) -> Result<Vec<bool>, MetricsError> {
    const METRIC: &str = "recall at k";
    if rows.is_empty() {
        return Err(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        });
    }
    if k == 0 {
        return Err(MetricsError::Setting {
            metric: METRIC,
            setting: "k",
            found: k.to_string(),
            expected: "1 or more",
        });
    }
    check_length(METRIC, "lists of targets", rows.len(), targets.len())?;
    let candidates = rows[0].as_ref().len();
    rows.iter()
        .zip(targets)
        .enumerate()
        .map(|(query, (row, targets))| {
            let (row, targets) = (row.as_ref(), targets.as_ref());
            check_length(METRIC, "similarities in each row", candidates, row.len())?;
            if let Some(index) = row.iter().position(|s| !s.is_finite()) {
                return Err(MetricsError::NotFinite {
                    metric: METRIC,
                    index,
                    value: f64::from(row[index]),
                });
            }
            if let Some(outside) = targets.iter().find(|target| **target >= row.len()) {
                return Err(MetricsError::Setting {
                    metric: METRIC,
                    setting: "target",
                    found: format!("{outside} for query {query}"),
                    expected: "the index of a candidate",
                });
            }
            // Only a query without a target has no rank by now.
            let rank = rank_of_right(row, targets).ok_or(MetricsError::NoValues {
                metric: METRIC,
                index: Some(query),
            })?;
            Ok(rank < k)
        })
        .collect()
}

/// The share of queries with a right candidate among the `k` most similar ones; see [`recall_hits`].
///
/// # Errors
/// As [`recall_hits`].
pub fn recall_at_k<R: AsRef<[f32]>, T: AsRef<[usize]>>(
    rows: &[R],
    targets: &[T],
    k: usize,
) -> Result<f64, MetricsError> {
    Ok(share(recall_hits(rows, targets, k)?.into_iter()))
}

/// For each pair whether the caption is more similar to the picture than the foil. Equal similarity
/// is wrong: the model cannot tell them apart.
///
/// # Errors
/// When there are no pairs, or a similarity is not finite.
pub fn foil_hits(pairs: &[(f32, f32)]) -> Result<Vec<bool>, MetricsError> {
    const METRIC: &str = "foil accuracy";
    if pairs.is_empty() {
        return Err(MetricsError::NoValues {
            metric: METRIC,
            index: None,
        });
    }
    pairs
        .iter()
        .enumerate()
        .map(|(index, &(caption, foil))| {
            match [caption, foil].into_iter().find(|s| !s.is_finite()) {
                Some(value) => Err(MetricsError::NotFinite {
                    metric: METRIC,
                    index,
                    value: f64::from(value),
                }),
                None => Ok(caption > foil),
            }
        })
        .collect()
}

/// The share of pairs (similarity of the caption, similarity of the foil) in which the caption wins;
/// see [`foil_hits`].
///
/// # Errors
/// As [`foil_hits`].
pub fn foil_accuracy(pairs: &[(f32, f32)]) -> Result<f64, MetricsError> {
    Ok(share(foil_hits(pairs)?.into_iter()))
}
