//! Which prompts and phrases are shown: the best and the worst, and others from everywhere.

use std::collections::BTreeSet;

use crate::score::signed;

/// A list of telling cases.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CaseList {
    pub(crate) title: String,
    /// Indices of items, the most telling first.
    pub(crate) items: Vec<usize>,
    /// The number that the list is ordered by, of each.
    pub(crate) values: Vec<f64>,
    /// Whether these are differences.
    pub(crate) differences: bool,
}

/// The best and the worst of items: by the mean of all encoders' scores, and by the difference of
/// each encoder to the `baseline`. `scores[item][encoder]`; items that an encoder has no score of are
/// none.
pub(crate) fn case_lists(
    scores: &[Vec<Option<f64>>],
    encoders: &[String],
    baseline: usize,
    most: usize,
) -> Vec<CaseList> {
    let complete: Vec<(usize, Vec<f64>)> = scores
        .iter()
        .enumerate()
        .filter_map(|(item, scores)| {
            let all: Option<Vec<f64>> = scores.iter().copied().collect();
            Some((item, all?))
        })
        .collect();
    let list = |title: String, value: &dyn Fn(&[f64]) -> f64, from_top: bool| {
        let valued = complete.iter().map(|(item, all)| (*item, value(all)));
        let mut valued: Vec<(usize, f64)> = valued.collect();
        // Stable: of equals the first in the list.
        valued.sort_by(|a, b| match from_top {
            true => b.1.total_cmp(&a.1),
            false => a.1.total_cmp(&b.1),
        });
        valued.truncate(most);
        CaseList {
            title,
            items: valued.iter().map(|(item, _)| *item).collect(),
            values: valued.iter().map(|(_, value)| *value).collect(),
            differences: false,
        }
    };
    let base = &encoders[baseline];
    let mut lists = Vec::new();
    for (index, name) in encoders.iter().enumerate() {
        if index == baseline {
            continue;
        }
        let difference = |all: &[f64]| all[index] - all[baseline];
        let mut gains = list(format!("{name} better than {base}"), &difference, true);
        gains.keep(|value| value > 0.);
        gains.differences = true;
        let mut losses = list(format!("{name} worse than {base}"), &difference, false);
        losses.keep(|value| value < 0.);
        losses.differences = true;
        lists.extend([gains, losses]);
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let with_all = match encoders.len() {
        1 => format!("with {base}"),
        _ => "with all encoders together".to_owned(),
    };
    lists.push(list(format!("Best {with_all}"), &mean, true));
    lists.push(list(format!("Worst {with_all}"), &mean, false));
    lists.retain(|list| !list.items.is_empty());
    lists
}

impl CaseList {
    /// A value of the list, as it is written.
    pub(crate) fn shown(&self, value: f64) -> String {
        match self.differences {
            true => signed(value),
            false => format!("{value:.3}"),
        }
    }

    fn keep(&mut self, wanted: impl Fn(f64) -> bool) {
        let kept = self
            .values
            .iter()
            .take_while(|value| wanted(**value))
            .count();
        self.items.truncate(kept);
        self.values.truncate(kept);
    }
}

/// Up to `most` of `count` items, in their order: those of the lists always, the others spread evenly.
pub(crate) fn shown(count: usize, lists: &[CaseList], most: usize) -> Vec<usize> {
    let mut shown: BTreeSet<usize> = lists.iter().flat_map(|list| &list.items).copied().collect();
    let rest: Vec<usize> = (0..count).filter(|item| !shown.contains(item)).collect();
    let room = most.saturating_sub(shown.len()).min(rest.len());
    shown.extend((0..room).map(|place| rest[place * rest.len() / room]));
    shown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["stock".to_owned(), "other".to_owned()]
    }

    #[test]
    fn gains_and_losses_are_of_the_right_sign() {
        let scores = [[0.5, 0.9], [0.5, 0.5], [0.5, 0.6], [0.8, 0.1]];
        let mut scores: Vec<Vec<Option<f64>>> = scores
            .iter()
            .map(|pair| pair.iter().copied().map(Some).collect())
            .collect();
        scores.push(vec![Some(1.), None]);
        let lists = case_lists(&scores, &names(), 0, 3);
        let of = |title: &str| {
            let found = lists.iter().find(|list| list.title.starts_with(title));
            found.map(|list| list.items.clone())
        };
        assert_eq!(of("other better"), Some(vec![0, 2]));
        assert_eq!(of("other worse"), Some(vec![3]));
        // Equals keep their order, and what is not done with every encoder is no case.
        assert_eq!(of("Best"), Some(vec![0, 2, 1]));
        assert_eq!(of("Worst"), Some(vec![3, 1, 2]));
    }

    #[test]
    fn a_list_without_items_is_none() {
        let scores = vec![vec![Some(0.5), Some(0.5)]; 3];
        let lists = case_lists(&scores, &names(), 0, 2);
        let titles: Vec<&str> = lists.iter().map(|list| list.title.as_str()).collect();
        let expected = [
            "Best with all encoders together",
            "Worst with all encoders together",
        ];
        assert_eq!(titles, expected);
        assert!(case_lists(&[], &names(), 0, 2).is_empty());
    }

    #[test]
    fn cases_are_always_shown_and_the_rest_is_spread() {
        let case = |items: &[usize]| CaseList {
            title: String::new(),
            items: items.to_vec(),
            values: vec![0.; items.len()],
            differences: false,
        };
        assert_eq!(shown(10, &[case(&[9, 3])], 1), [3, 9]);
        assert_eq!(shown(10, &[], 5), [0, 2, 4, 6, 8]);
        assert_eq!(shown(10, &[case(&[5])], 4), [0, 3, 5, 7]);
        assert_eq!(shown(4, &[], 100), [0, 1, 2, 3]);
        assert!(shown(0, &[], 5).is_empty());
    }
}
