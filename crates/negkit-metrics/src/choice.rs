//! One right answer among several: boxes, captions, classes.
//!
//! Files of benchmarks list the right answer first, and `argmax` gives the first of equals: a broken
//! model whose scores are all alike would have everything right. Here it has everything wrong.

use crate::MetricsError;
use crate::error::{check_length, check_values};

/// The option that is chosen: the one whose score is above that of every other. `None` when two share
/// the highest score, a score is not finite, or there are fewer than two options; whatever is right,
/// it was not chosen.
///
/// ```
/// use negkit_metrics::chosen;
///
/// assert_eq!(chosen(&[0.2, 0.3, 0.1]), Some(1));
/// assert_eq!(chosen(&[0.3, 0.3, 0.1]), None);
/// assert_eq!(chosen(&[f32::NAN, 0.3]), None);
/// ```
#[must_use]
pub fn chosen(scores: &[f32]) -> Option<usize> {
    if scores.len() < 2 || scores.iter().any(|score| !score.is_finite()) {
        return None;
    }
    let best = scores.iter().copied().reduce(f32::max)?;
    let mut at_top = (0..scores.len()).filter(|option| scores[*option] >= best);
    match (at_top.next(), at_top.next()) {
        (Some(option), None) => Some(option),
        _ => None,
    }
}

/// How many candidates that are not right are at least as similar as the best right one: 0 when a
/// right one comes first, below `k` when recall at `k` counts a hit. `None` when there is no right
/// candidate, one of them is not in the row, or a similarity is not finite: the query finds nothing.
///
/// A candidate as similar as the right one counts as more similar, so that a model which finds
/// everything alike finds nothing.
#[must_use]
pub fn rank_of_right(row: &[f32], right: &[usize]) -> Option<usize> {
    if row.iter().any(|similarity| !similarity.is_finite()) {
        return None;
    }
    let mut best = f32::NEG_INFINITY;
    for candidate in right {
        best = best.max(*row.get(*candidate)?);
    }
    if right.is_empty() {
        return None;
    }
    let ahead =
        |(index, similarity): &(usize, &f32)| **similarity >= best && !right.contains(index);
    Some(row.iter().enumerate().filter(ahead).count())
}

/// The mean over groups of the mean within each: every group counts alike, however many items it has.
/// Over the two classes of an attribute this is balanced accuracy, and over the classes of all
/// attributes the mean of their balanced accuracies.
///
/// # Errors
/// When there are no values, the lists differ in length, or a value is not finite.
pub fn group_mean(values: &[f64], groups: &[u32]) -> Result<f64, MetricsError> {
    const METRIC: &str = "mean over groups";
    check_values(METRIC, values)?;
    check_length(METRIC, "groups", values.len(), groups.len())?;
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for (value, group) in values.iter().zip(groups) {
        let group = *group as usize;
        if sums.len() <= group {
            sums.resize(group + 1, (0., 0.));
        }
        sums[group].0 += value;
        sums[group].1 += 1.;
    }
    let means = sums.iter().filter(|(_, count)| *count > 0.);
    let (mut sum, mut count) = (0., 0.);
    for (total, of) in means {
        sum += total / of;
        count += 1.;
    }
    Ok(sum / count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_chosen_by_ties_constants_and_numbers_that_are_none() {
        assert_eq!(chosen(&[0.1, -0.2]), Some(0));
        assert_eq!(chosen(&[0.1, 0.4, 0.4]), None);
        assert_eq!(chosen(&[0.5; 4]), None);
        assert_eq!(chosen(&[0., -0.]), None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(chosen(&[1., bad]), None);
            assert_eq!(chosen(&[bad, 1.]), None);
        }
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[1.]), None);
    }

    #[test]
    fn ranks_count_ties_against_the_right_one() {
        let row = [0.1, 0.5, 0.5, 0.9];
        assert_eq!(rank_of_right(&row, &[3]), Some(0));
        assert_eq!(rank_of_right(&row, &[1]), Some(2));
        assert_eq!(rank_of_right(&row, &[1, 2]), Some(1));
        assert_eq!(rank_of_right(&row, &[0, 3]), Some(0));
        assert_eq!(rank_of_right(&[0.3; 5], &[0]), Some(4));
        assert_eq!(rank_of_right(&row, &[]), None);
        assert_eq!(rank_of_right(&row, &[4]), None);
        assert_eq!(rank_of_right(&[f32::NAN, 1.], &[1]), None);
    }

    #[test]
    fn a_group_mean_over_two_classes_is_balanced_accuracy() {
        // Nine of ten with the attribute right, one of two without it: (0.9 + 0.5) / 2.
        let mut values = vec![1.; 9];
        values.extend([0., 1., 0.]);
        let mut groups = vec![0; 10];
        groups.extend([1, 1]);
        assert!((group_mean(&values, &groups).unwrap() - 0.7).abs() < 1e-12);
        // A group without items is none.
        assert_eq!(group_mean(&[1., 0.], &[0, 5]).unwrap(), 0.5);
        assert!(group_mean(&[], &[]).is_err());
        assert!(group_mean(&[1.], &[]).is_err());
        assert!(group_mean(&[f64::NAN], &[0]).is_err());
    }
}
