//! A part of a run.

use std::fmt;
use std::str::FromStr;

use crate::RunError;

/// Every `count`-th item of a run, from the `index`-th on: interleaved, so that long items are spread
/// over all shards. Written `2/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All items.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Shard `index`, from 1, of `count`.
    ///
    /// # Errors
    /// [`RunError::Shard`] when there is none such.
    pub fn new(index: usize, count: usize) -> Result<Self, RunError> {
        if index == 0 || index > count {
            return Err(RunError::Shard {
                text: format!("{index}/{count}"),
            });
        }
        Ok(Self { index, count })
    }

    /// Whether it is all there is.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// Whether the item at `position`, from 0, is in it.
    pub fn holds(self, position: usize) -> bool {
        position % self.count == self.index - 1
    }

    /// The name of its file `stem.extension`: that of a whole run has no number.
    pub(crate) fn file(self, stem: &str, extension: &str) -> String {
        match self.is_whole() {
            true => format!("{stem}.{extension}"),
            false => format!("{stem}-{}-of-{}.{extension}", self.index, self.count),
        }
    }
}

impl FromStr for Shard {
    type Err = RunError;

    fn from_str(text: &str) -> Result<Self, RunError> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let index: usize = index.trim().parse().ok()?;
            let count: usize = count.trim().parse().ok()?;
            Some((index, count))
        });
        let no_shard = || RunError::Shard {
            text: text.to_owned(),
        };
        let (index, count) = numbers.ok_or_else(no_shard)?;
        Self::new(index, count).map_err(|_| no_shard())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn every_item_is_in_one_shard() {
        for count in 1..6 {
            for position in 0..20 {
                let shards = (1..=count).map(|index| Shard::new(index, count).unwrap());
                assert_eq!(shards.filter(|shard| shard.holds(position)).count(), 1);
            }
        }
    }

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let shard: Shard = "2/4".parse().unwrap();
        assert_eq!(shard.to_string(), "2/4");
        assert_eq!(shard.file("records", "jsonl"), "records-2-of-4.jsonl");
        assert_eq!(Shard::WHOLE.file("records", "jsonl"), "records.jsonl");
        for text in ["0/4", "5/4", "1/0", "", "2", "a/b", "-1/2", "1/2/3"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains(&format!("'{text}'")), "{error}");
        }
    }
}
