//! Which words are negations.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{StatsError, WordListError};

const DEFAULT: &str = include_str!("../words/default.txt");
const EXTENDED: &str = include_str!("../words/extended.txt");

/// Bytes of a word that are compared as one integer.
pub(crate) const KEY_BYTES: usize = 8;

/// Words to look for, in the format that the head of `words/default.txt` explains.
///
/// ```
/// use negkit_stats::{Scanner, WordList};
///
/// let words = WordList::negations();
/// let mut scanner = Scanner::new(&words);
/// assert_eq!(scanner.scan(b"It isn't a man w/o a hat")?, 7);
/// let found: Vec<&str> = scanner.hits().iter().map(|entry| words.entry(*entry)).collect();
/// assert_eq!(found, ["isn't", "w/o"]);
/// # Ok::<(), std::str::Utf8Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WordList {
    entries: Vec<String>,
    /// What may begin with a word, by that word.
    by_word: HashMap<String, Starts>,
    /// The same for ASCII words, by their first [`KEY_BYTES`].
    keys: KeyTable,
    /// Endings with an apostrophe, with their entries.
    endings: Vec<(String, u32)>,
}

/// What begins with one word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts {
    /// The word alone.
    pub(crate) word: Option<u32>,
    /// Longer entries, the longest first.
    pub(crate) sequences: Vec<Sequence>,
}

/// The rest of an entry of several words.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) entry: u32,
    /// What stands before each further word (a space means any white space), and the word.
    pub(crate) rest: Vec<(char, String)>,
}

impl Sequence {
    /// Words that the entry counts less than its parts: parts joined by / or - are one word.
    pub(crate) fn joined(&self) -> u64 {
        self.rest.iter().filter(|(joint, _)| *joint != ' ').count() as u64
    }
}

impl WordList {
    /// The default list: English words that negate by themselves.
    #[must_use]
    pub fn negations() -> Self {
        Self::built_in(&[DEFAULT])
    }

    /// The default list, and words that often but not always say that something is absent.
    #[must_use]
    pub fn extended() -> Self {
        Self::built_in(&[DEFAULT, EXTENDED])
    }

    fn built_in(texts: &[&str]) -> Self {
        let lines = texts.iter().flat_map(|text| text.lines());
        match Self::from_lines(lines) {
            Ok(list) => list,
            Err(error) => unreachable!("a test reads the built-in lists: {error}"),
        }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// With the number of the line that is no entry or stands there twice; when there is none.
    pub fn parse(text: &str) -> Result<Self, WordListError> {
        Self::from_lines(text.lines())
    }

    /// Reads a list from a file.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`WordList::parse`].
    pub fn open(path: &Path) -> Result<Self, StatsError> {
        let text = std::fs::read_to_string(path).map_err(|source| StatsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| StatsError::Words {
            path: path.to_owned(),
            source,
        })
    }

    fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, WordListError> {
        let mut list = Self {
            entries: Vec::new(),
            by_word: HashMap::new(),
            keys: KeyTable::default(),
            endings: Vec::new(),
        };
        for (line, number) in lines.zip(1..) {
            let line = line.trim().trim_start_matches('\u{feff}');
            if !line.is_empty() && !line.starts_with('#') {
                list.add(line, number)?;
            }
        }
        if list.entries.is_empty() {
            return Err(WordListError::Empty);
        }
        for starts in list.by_word.values_mut() {
            let length = |sequence: &Sequence| sequence.rest.len();
            starts
                .sequences
                .sort_by_key(|s| std::cmp::Reverse(length(s)));
        }
        list.keys = KeyTable::new(list.by_word.keys().filter(|word| word.is_ascii()));
        Ok(list)
    }

    fn add(&mut self, line: &str, number: usize) -> Result<(), WordListError> {
        let text = normalised(line);
        if self.entries.contains(&text) {
            return Err(WordListError::Twice { line: number, text });
        }
        let entry = self.entries.len() as u32;
        let wrong = |reason| WordListError::Entry {
            line: number,
            text: line.to_owned(),
            reason,
        };
        if let Some(ending) = text.strip_prefix('*') {
            if !ending.contains('\'') || !ending.chars().all(|c| is_letter(c) || c == '\'') {
                return Err(wrong("an ending is letters with an apostrophe, as *n't"));
            }
            self.endings.push((ending.to_owned(), entry));
        } else {
            let (first, rest) = parts(&text).ok_or_else(|| {
                wrong("expected words joined by single spaces, / or -, as in: no, w/o, free of")
            })?;
            let starts = self.by_word.entry(first).or_default();
            if rest.is_empty() {
                starts.word = Some(entry);
            } else {
                starts.sequences.push(Sequence { entry, rest });
            }
        }
        self.entries.push(text);
        Ok(())
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, as written in the list, in lower case.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// The entry with a number, as [`Scanner::hits`](crate::Scanner::hits) gives it; "" for a number
    /// of another list.
    #[must_use]
    pub fn entry(&self, number: u32) -> &str {
        self.entries.get(number as usize).map_or("", String::as_str)
    }

    /// What begins with this word, which is in lower case with straight apostrophes.
    pub(crate) fn starts(&self, word: &str) -> Option<&Starts> {
        self.by_word.get(word)
    }

    /// Whether an ASCII word with this key may begin an entry.
    pub(crate) fn may_start(&self, key: u64) -> bool {
        self.keys.contains(key)
    }

    /// Whether there are endings.
    pub(crate) fn has_endings(&self) -> bool {
        !self.endings.is_empty()
    }

    /// The entry for the ending of a word.
    pub(crate) fn ending(&self, word: &str) -> Option<u32> {
        let fits = |ending: &&(String, u32)| word.ends_with(ending.0.as_str());
        self.endings.iter().find(fits).map(|(_, entry)| *entry)
    }
}

/// Splits an entry into its first word and the rest.
fn parts(text: &str) -> Option<(String, Vec<(char, String)>)> {
    let mut words = vec![(' ', String::new())];
    for c in text.chars() {
        match words.last_mut() {
            Some((_, word)) if is_letter(c) || (c == '\'' && !word.is_empty()) => word.push(c),
            Some((_, word)) if matches!(c, ' ' | '/' | '-') && !word.is_empty() => {
                words.push((c, String::new()));
            }
            _ => return None,
        }
    }
    let whole = |word: &str| !word.is_empty() && !word.ends_with('\'') && !word.contains("''");
    if !words.iter().all(|(_, word)| whole(word)) {
        return None;
    }
    let (_, first) = words.remove(0);
    Some((first, words))
}

/// Lower case, with straight apostrophes.
pub(crate) fn normalised(text: &str) -> String {
    text.chars()
        .map(|c| if is_apostrophe(c) { '\'' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether words are made of it: alphabetic or numeric in Unicode's sense.
pub(crate) fn is_letter(c: char) -> bool {
    // The modifier letter apostrophe is alphabetic in Unicode.
    c.is_alphanumeric() && !is_apostrophe(c)
}

/// The straight apostrophe, the curly ones, the modifier letter and the full-width one.
pub(crate) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{2018}' | '\u{2bc}' | '\u{ff07}')
}

/// The key of an ASCII word: its first bytes in lower case, in little-endian order, filled with
/// zeros.
pub(crate) fn key(bytes: [u8; KEY_BYTES], length: usize) -> u64 {
    // Bit 5 makes capital letters small and is set in digits and the apostrophe anyway.
    let lower = u64::from_le_bytes(bytes) | 0x2020_2020_2020_2020;
    if length < KEY_BYTES {
        lower & ((1 << (8 * length)) - 1)
    } else {
        lower
    }
}

/// A set of keys with open addressing. It is sparse, so that a word that is no entry, which nearly
/// all are, is known as such by one look.
#[derive(Debug, Clone, Default)]
struct KeyTable {
    /// Zero is no key and means a free place.
    places: Vec<u64>,
    shift: u32,
}

impl KeyTable {
    fn new<'a>(words: impl Iterator<Item = &'a String>) -> Self {
        let keys: Vec<u64> = words
            .map(|word| {
                let mut bytes = [0; KEY_BYTES];
                let length = word.len().min(KEY_BYTES);
                bytes[..length].copy_from_slice(&word.as_bytes()[..length]);
                key(bytes, word.len())
            })
            .collect();
        let size = (16 * keys.len()).next_power_of_two().max(2);
        let mut table = Self {
            places: vec![0; size],
            shift: 64 - size.trailing_zeros(),
        };
        for key in keys {
            let place = table.place(key);
            table.places[place] = key;
        }
        table
    }

    /// Where the key is, or the free place where it would be.
    fn place(&self, key: u64) -> usize {
        let mut place = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        while self.places[place] != 0 && self.places[place] != key {
            place = (place + 1) & (self.places.len() - 1);
        }
        place
    }

    #[inline]
    fn contains(&self, key: u64) -> bool {
        self.places[self.place(key)] == key
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn built_in_lists_are_read() {
        let (default, extended) = (WordList::negations(), WordList::extended());
        for word in ["no", "not", "without"] {
            assert!(default.starts(word).unwrap().word.is_some(), "{word}");
        }
        assert_eq!(default.entries(), &extended.entries()[..default.len()]);
        assert!(extended.len() > default.len());
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        for (text, line) in [
            ("no\n\n# a comment\nfree  of", 4),
            ("*less", 1),
            ("no!", 1),
            ("free of ,", 1),
            ("'no", 1),
            ("dogs'", 1),
            ("/o", 1),
            ("no\nNO", 2),
            ("don't\ndon’t", 2),
        ] {
            let error = WordList::parse(text).unwrap_err();
            assert!(
                error.to_string().contains(&format!("line {line}")),
                "{error}"
            );
        }
        assert!(matches!(WordList::parse("# no"), Err(WordListError::Empty)));
    }

    #[test]
    fn every_word_of_a_long_list_has_its_key() {
        let words: Vec<String> = (0..5000).map(|i| format!("word{i}")).collect();
        let table = KeyTable::new(words.iter());
        let of = |word: &str| {
            let mut bytes = [0; KEY_BYTES];
            let length = word.len().min(KEY_BYTES);
            bytes[..length].copy_from_slice(&word.as_bytes()[..length]);
            key(bytes, word.len())
        };
        assert!(words.iter().all(|word| table.contains(of(word))));
        assert!(table.contains(of("WORD17")) && !table.contains(of("word5000")));
    }
}
