//! A few captions for each word, chosen at random and yet always the same.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::faults::Place;

/// Bytes of a caption that an example keeps.
const KEPT: usize = 400;

/// A caption that holds an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Example {
    /// Its text, cut off after some hundred bytes.
    pub text: String,
    /// The file that it stands in, as a number among the inputs.
    #[serde(skip)]
    pub(crate) file: usize,
    /// Where it stands there; the first place, where it stands in several.
    pub place: Place,
}

/// The texts with the smallest hashes: a sample of the different captions, each equally likely,
/// that does not depend on the order in which they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Examples(BTreeMap<(u64, Box<str>), Example>);

impl Examples {
    /// Takes the caption if it is among the `most` smallest.
    pub(crate) fn offer(
        &mut self,
        most: usize,
        hash: u64,
        text: &str,
        file: usize,
        place: impl FnOnce() -> Place,
    ) {
        let full = self.0.len() >= most;
        let beyond = |last: &(u64, Box<str>)| hash > last.0;
        if most == 0
            || full
                && self
                    .0
                    .last_key_value()
                    .is_some_and(|(last, _)| beyond(last))
        {
            return;
        }
        let cut = text.floor_char_boundary(KEPT);
        let mut kept = text[..cut].to_owned();
        if cut < text.len() {
            kept.push('…');
        }
        let key = (hash, kept.clone().into_boxed_str());
        let example = Example {
            text: kept,
            file,
            place: place(),
        };
        self.insert(most, key, example);
    }

    fn insert(&mut self, most: usize, key: (u64, Box<str>), example: Example) {
        let earlier = |old: &Example| (old.file, &old.place) <= (example.file, &example.place);
        if self.0.get(&key).is_some_and(earlier) {
            return;
        }
        self.0.insert(key, example);
        if self.0.len() > most {
            self.0.pop_last();
        }
    }

    /// Adds those of another part of the input.
    pub(crate) fn merge(&mut self, most: usize, other: Self) {
        for (key, example) in other.0 {
            self.insert(most, key, example);
        }
    }

    /// The examples, in the order of their hashes.
    pub(crate) fn into_vec(self) -> Vec<Example> {
        self.0.into_values().collect()
    }
}

/// The hash that chooses examples: FNV-1a, then SplitMix64's last steps, which spread it.
pub(crate) fn hash(seed: u64, text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
