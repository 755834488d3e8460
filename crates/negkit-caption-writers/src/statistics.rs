//! Which things captions name together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::lexicon::words;
use crate::{Kind, Lexicon};

/// How much how often a thing is named counts beside what it is named with.
const PRIOR: f64 = 0.05;

/// Counts over pictures: which things their captions name, and which together. The captions of one
/// picture are taken as one text.
#[derive(Debug, Clone)]
pub struct Statistics {
    pictures: usize,
    /// Pictures whose captions name the thing.
    single: Vec<usize>,
    /// Pictures whose captions name both, the smaller index first.
    pairs: HashMap<(usize, usize), usize>,
    /// What the captions of each picture name.
    named: HashMap<u64, BTreeSet<usize>>,
}

impl Statistics {
    /// Counts over captions, each with the id of its picture.
    pub fn count<'a>(
        lexicon: &Lexicon,
        captions: impl IntoIterator<Item = (u64, &'a str)>,
    ) -> Self {
        let mut named: HashMap<u64, BTreeSet<usize>> = HashMap::new();
        for (picture, text) in captions {
            let found = lexicon.named(&words(text));
            let all = named.entry(picture).or_default();
            all.extend(found.iter().map(|thing| thing.entry));
        }
        let mut single = vec![0; lexicon.entries().len()];
        let mut pairs = HashMap::new();
        for things in named.values() {
            for (index, &first) in things.iter().enumerate() {
                single[first] += 1;
                for &second in things.iter().skip(index + 1) {
                    *pairs.entry((first, second)).or_default() += 1;
                }
            }
        }
        Self {
            pictures: named.len(),
            single,
            pairs,
            named,
        }
    }

    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        self.pictures
    }

    /// Things that are likely where the things of `context` are, the likeliest first, each with the
    /// mean share of pictures of them that name it too. Left out are settings and what any caption of
    /// the picture names.
    pub(crate) fn likely(
        &self,
        lexicon: &Lexicon,
        picture: u64,
        context: &BTreeSet<usize>,
    ) -> Vec<(usize, f64)> {
        let nothing = BTreeSet::new();
        let known = self.named.get(&picture).unwrap_or(&nothing);
        let together = |a: usize, b: usize| {
            let pair = (a.min(b), a.max(b));
            self.pairs.get(&pair).copied().unwrap_or(0) as f64
        };
        let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
        for (thing, entry) in lexicon.entries().iter().enumerate() {
            let open = entry.kind != Kind::Place && !context.contains(&thing);
            if !open || known.contains(&thing) || self.single[thing] == 0 {
                continue;
            }
            let shares = context.iter().filter(|other| self.single[**other] > 0);
            let shares: Vec<f64> = shares
                .map(|&other| together(thing, other) / self.single[other] as f64)
                .collect();
            let prior = self.single[thing] as f64 / self.pictures as f64;
            let score = match shares.len() {
                0 => prior,
                // One picture says little: what is never named with the context stays out.
                count => shares.iter().sum::<f64>() / count as f64 + PRIOR * prior,
            };
            if shares.is_empty() || shares.iter().any(|share| *share > 0.) {
                scores.insert(thing, score);
            }
        }
        let mut likely: Vec<(usize, f64)> = scores.into_iter().collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        likely
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_named_together_is_likely_together() {
        let lexicon = Lexicon::built_in().unwrap();
        let captions = [
            (1, "a man with a surfboard on a beach"),
            (2, "a surfer on a wave"),
            (2, "a surfboard in the ocean"),
            (3, "a dog on a couch"),
            (4, "a cat and a dog on a couch"),
            (5, "a couch in a living room"),
            (5, "there is a television"),
        ];
        let statistics = Statistics::count(&lexicon, captions);
        assert_eq!(statistics.pictures(), 5);
        let context = |text: &str| -> BTreeSet<usize> {
            lexicon
                .named(&words(text))
                .iter()
                .map(|thing| thing.entry)
                .collect()
        };
        let names = |picture, text: &str| -> Vec<&str> {
            let likely = statistics.likely(&lexicon, picture, &context(text));
            likely
                .iter()
                .map(|(thing, _)| lexicon.entries()[*thing].singular.as_str())
                .collect()
        };
        assert_eq!(names(9, "a couch"), ["dog", "cat", "television"]);
        // What another caption of the picture names is known to be there.
        assert_eq!(names(5, "a couch"), ["dog", "cat"]);
        assert_eq!(names(9, "a surfer"), ["surfboard", "wave"]);
        // Without any context, what is named most.
        assert_eq!(names(9, "something")[..1], ["couch"]);
    }
}
