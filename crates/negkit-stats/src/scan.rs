//! Words and negations of one caption.

use std::str::Utf8Error;

use crate::words::{KEY_BYTES, Sequence, WordList, is_apostrophe, is_letter, key, normalised};

/// Bytes that are classified at a time, one bit each.
const BLOCK: usize = 64;

/// Finds the words and negations of captions. It keeps buffers from caption to caption.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    words: &'a WordList,
    hits: Vec<u32>,
    blocks: Vec<Masks>,
}

/// An entry that was found.
struct Match {
    entry: u32,
    /// Where it ends.
    end: usize,
    /// See [`Sequence::joined`].
    joined: u64,
}

impl<'a> Scanner<'a> {
    /// A scanner for these negations.
    #[must_use]
    pub fn new(words: &'a WordList) -> Self {
        Self {
            words,
            hits: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Counts the words of a caption in UTF-8; its negations are then in [`Scanner::hits`].
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn scan(&mut self, caption: &[u8]) -> Result<u64, Utf8Error> {
        self.hits.clear();
        if self.classify(caption) {
            Ok(self.scan_ascii(caption))
        } else {
            std::str::from_utf8(caption).map(|caption| self.scan_unicode(caption))
        }
    }

    /// The negations of the caption that was scanned last, as numbers of entries, in order.
    #[must_use]
    pub fn hits(&self) -> &[u32] {
        &self.hits
    }

    /// Makes the masks of the caption, if it is ASCII.
    fn classify(&mut self, caption: &[u8]) -> bool {
        self.blocks.clear();
        let (whole, rest) = caption.as_chunks::<BLOCK>();
        for block in whole {
            match Masks::of(block) {
                Some(masks) => self.blocks.push(masks),
                None => return false,
            }
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            match Masks::of(&block) {
                Some(masks) => self.blocks.push(masks),
                None => return false,
            }
        }
        // After the last byte, so that words end.
        self.blocks.push(Masks::default());
        true
    }

    fn scan_ascii(&mut self, caption: &[u8]) -> u64 {
        self.join_at_apostrophes();
        let mut count = 0;
        let mut carry = 0;
        let mut done = 0;
        // Made when the first entry may be there, which is rare.
        let mut text = None;
        for i in 0..self.blocks.len() - 1 {
            let (this, next) = (self.blocks[i], self.blocks[i + 1]);
            let mut starts = this.letters & !((this.letters << 1) | carry);
            carry = this.letters >> (BLOCK - 1);
            count += u64::from(starts.count_ones());
            let joints = (this.apostrophes | next.apostrophes) != 0 && self.words.has_endings();
            while starts != 0 {
                let bit = starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let mut length = (!(this.letters >> bit)).trailing_zeros() as usize;
                if bit + length == BLOCK {
                    length += next.letters.trailing_ones() as usize;
                }
                let at = i * BLOCK + bit;
                if self.words.may_start(key(eight(caption, at), length)) || joints {
                    let text = *text.get_or_insert_with(|| {
                        // It is ASCII.
                        std::str::from_utf8(caption).unwrap_or_default()
                    });
                    if at >= done
                        && let Some(found) = find(self.words, text, at, word_end(text, at))
                    {
                        self.hits.push(found.entry);
                        count -= found.joined;
                        done = found.end;
                    }
                }
            }
        }
        count
    }

    /// Takes apostrophes between letters for letters, and forgets the others.
    fn join_at_apostrophes(&mut self) {
        let mut before = 0;
        for i in 0..self.blocks.len() - 1 {
            let Masks {
                letters,
                apostrophes,
            } = self.blocks[i];
            let after = self.blocks[i + 1].letters;
            let follows = (letters << 1) | (before >> (BLOCK - 1));
            let precedes = (letters >> 1) | (after << (BLOCK - 1));
            let joints = apostrophes & follows & precedes;
            before = letters;
            self.blocks[i] = Masks {
                letters: letters | joints,
                apostrophes: joints,
            };
        }
    }

    fn scan_unicode(&mut self, caption: &str) -> u64 {
        let mut count = 0;
        let mut done = 0;
        let mut at = 0;
        while let Some(start) = caption[at..].find(is_letter).map(|offset| at + offset) {
            let end = word_end(caption, start);
            let word = &caption[start..end];
            count += 1;
            let may_start = !word.is_ascii()
                || word.contains('\'')
                || self
                    .words
                    .may_start(key(eight(caption.as_bytes(), start), word.len()));
            if start >= done
                && may_start
                && let Some(found) = find(self.words, caption, start, end)
            {
                self.hits.push(found.entry);
                count -= found.joined;
                done = found.end;
            }
            at = end;
        }
        count
    }
}

/// The entry that begins with the word at `start..end`, the longest one.
fn find(words: &WordList, text: &str, start: usize, end: usize) -> Option<Match> {
    let word = normalised(&text[start..end]);
    let starts = words.starts(&word);
    let sequences = starts.map_or(&[][..], |starts| &starts.sequences);
    for sequence in sequences {
        if let Some(end) = follow(text, end, sequence) {
            return Some(Match {
                entry: sequence.entry,
                end,
                joined: sequence.joined(),
            });
        }
    }
    let alone = starts.and_then(|starts| starts.word);
    let entry = alone.or_else(|| words.ending(&word))?;
    Some(Match {
        entry,
        end,
        joined: 0,
    })
}

/// Where the rest of an entry ends, if it stands at `at`.
fn follow(text: &str, mut at: usize, sequence: &Sequence) -> Option<usize> {
    for (joint, word) in &sequence.rest {
        let rest = &text[at..];
        let start = match joint {
            ' ' => rest.trim_start(),
            joint => rest.strip_prefix(*joint)?,
        };
        if start.len() == rest.len() || !start.starts_with(is_letter) {
            return None;
        }
        at += rest.len() - start.len();
        let end = word_end(text, at);
        if normalised(&text[at..end]) != *word {
            return None;
        }
        at = end;
    }
    Some(at)
}

/// Where the word ends that begins at `start`.
fn word_end(text: &str, start: usize) -> usize {
    let mut end = start;
    let mut joint = false;
    for (offset, c) in text[start..].char_indices() {
        if is_letter(c) || (is_diacritic(c) && !joint) {
            joint = false;
            end = start + offset + c.len_utf8();
        } else if is_apostrophe(c) && !joint {
            joint = true;
        } else {
            break;
        }
    }
    end
}

/// Combining diacritical marks: an accent that is a character of its own is part of the word.
fn is_diacritic(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// Eight bytes from `at`, with zeros beyond the end.
#[inline]
fn eight(text: &[u8], at: usize) -> [u8; KEY_BYTES] {
    if let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        *bytes
    } else {
        let mut bytes = [0; KEY_BYTES];
        let rest = text.get(at..).unwrap_or_default();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    }
}

/// Which of 64 bytes are letters or digits, and which apostrophes: one bit each, the first byte's
/// lowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Masks {
    letters: u64,
    apostrophes: u64,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

impl Masks {
    /// The masks of ASCII bytes; `None` for others.
    ///
    /// Eight bytes are compared in one integer: adding `0x80 - first` sets the high bit of those
    /// bytes that are `first` or more, and nothing carries over while all are below 0x80.
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Option<Self> {
        let mut masks = Self::default();
        let mut high = 0;
        for (part, i) in block.as_chunks::<8>().0.iter().zip(0..) {
            let bytes = u64::from_le_bytes(*part);
            high |= bytes;
            let bytes = bytes & !HIGH;
            let letters = within(bytes | (0x20 * ONES), b'a', b'z');
            let digits = within(bytes, b'0', b'9');
            let apostrophes = within(bytes, b'\'', b'\'');
            masks.letters |= gather(letters | digits) << (8 * i);
            masks.apostrophes |= gather(apostrophes) << (8 * i);
        }
        (high & HIGH == 0).then_some(masks)
    }
}

/// Sets the high bits of the bytes from `first` to `last`.
#[inline]
fn within(bytes: u64, first: u8, last: u8) -> u64 {
    let from = bytes + u64::from(0x80 - first) * ONES;
    let beyond = bytes + u64::from(0x7f - last) * ONES;
    from & !beyond & HIGH
}

/// The high bits of eight bytes, side by side. Each product of a bit and a summand of the factor is
/// a bit of its own, so that nothing carries.
#[inline]
fn gather(high_bits: u64) -> u64 {
    (high_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn scan(list: &WordList, text: &str) -> (u64, Vec<String>) {
        let mut scanner = Scanner::new(list);
        let words = scanner.scan(text.as_bytes()).unwrap();
        let hits = scanner.hits().iter();
        (words, hits.map(|hit| list.entry(*hit).to_owned()).collect())
    }

    #[test]
    fn words_and_negations_are_as_defined() {
        let list = WordList::extended();
        let cases: &[(&str, u64, &[&str])] = &[
            ("", 0, &[]),
            ("... ' '' - !", 0, &[]),
            ("a room with no chairs", 5, &["no"]),
            ("NO, not; Without!", 3, &["no", "not", "without"]),
            ("a knot, a notebook, another noble nose", 7, &[]),
            (
                "It isn't, doesn’t, mustn't, ain‘t, amnʼt",
                6,
                &["isn't", "doesn't", "*n't", "*n't", "*n't"],
            ),
            ("the dogs' no-one's 'no' n't", 6, &["no", "no", "*n't"]),
            ("he cannot, he can not", 5, &["cannot", "not"]),
            ("a man w/o a hat and W/OUT shoes", 8, &["w/o", "w/out"]),
            ("a w / o b, w/ or, w/office, 7w/o", 10, &[]),
            (
                "no one,  no\tone, no-one, no. one",
                7,
                &["no one", "no one", "no-one", "no"],
            ),
            ("free of charge, freedom of speech", 6, &["free of"]),
            ("Ein Café ohne Stühle, cafe\u{301} without", 6, &["without"]),
            ("нет no 没有 не", 4, &["no"]),
            ("t-shirt 1/2 3.5 it's_ok", 8, &[]),
            ("don''t dont' 'dont", 4, &["dont", "dont"]),
        ];
        for (text, words, hits) in cases {
            assert_eq!(
                scan(&list, text),
                (*words, hits.iter().map(ToString::to_string).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_utf8_is_an_error() {
        let list = WordList::negations();
        assert_eq!(
            Scanner::new(&list)
                .scan(b"no \xff hat")
                .unwrap_err()
                .valid_up_to(),
            3
        );
    }

    #[test]
    fn a_mask_has_a_bit_for_every_byte() {
        for byte in 0..128 {
            for place in 0..BLOCK {
                let mut block = [b' '; BLOCK];
                block[place] = byte;
                let bit = |is: bool| u64::from(is) << place;
                let masks = Masks::of(&block).unwrap();
                assert_eq!(
                    masks.letters,
                    bit(byte.is_ascii_alphanumeric()),
                    "{byte} at {place}"
                );
                assert_eq!(masks.apostrophes, bit(byte == b'\''));
            }
        }
        assert_eq!(Masks::of(&[0x80; BLOCK]), None);
    }

    proptest! {
        /// The way by masks against the way by characters, on texts full of negations and of what
        /// looks like them, with words across block borders.
        #[test]
        fn both_ways_agree(parts in prop::collection::vec(prop::sample::select(vec![
            "no", "NOT", "without", "w/o", "w", "/", "o", "isn't", "n't", "'", " ", "  ", "-", "free",
            "of", "knot", "nothing", "nothings", "a", "x9", ".", "nonexistent", "nonexist",
            "pneumonoultramicroscopicsilicovolcanoconiosis-without", "\t", "wouldn't've", "_",
        ]), 0..80)) {
            let list = WordList::extended();
            let text = parts.concat();
            let mut scanner = Scanner::new(&list);
            let fast = (scanner.scan(text.as_bytes()).unwrap(), scanner.hits().to_vec());
            scanner.hits.clear();
            let slow = (scanner.scan_unicode(&text), scanner.hits().to_vec());
            prop_assert_eq!(fast, slow);
        }
    }
}
