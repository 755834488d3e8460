//! The sums over captions.

use crate::estimate::RatioSums;
use crate::examples::{self, Examples};
use crate::faults::{Fault, Faults, Place};
use crate::scan::Scanner;
use crate::source::Stop;
use crate::words::WordList;

/// Sums over captions; those of parts of the input add up to those of the whole.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Captions with anything but white space in them.
    pub(crate) captions: u64,
    /// Captions without.
    pub(crate) empty: u64,
    /// Records whose caption is null.
    pub(crate) missing: u64,
    /// Bytes of the captions.
    pub(crate) bytes: u64,
    pub(crate) words: u64,
    /// The sum over captions of the square of their words.
    pub(crate) words_squared: u128,
    /// Captions with a negation.
    pub(crate) negated: u64,
    /// All negations together.
    pub(crate) negations: Occurrences,
    /// By entry of the list.
    pub(crate) entries: Vec<Entry>,
    pub(crate) faults: Faults,
}

/// One entry of the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Captions that hold it.
    pub(crate) captions: u64,
    pub(crate) occurrences: Occurrences,
    pub(crate) examples: Examples,
}

/// Sums over captions, of which `h` words are negations and `w` words in all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Occurrences {
    h: u64,
    hh: u128,
    hw: u128,
}

impl Occurrences {
    fn add(&mut self, h: u64, w: u64) {
        self.h += h;
        self.hh += u128::from(h) * u128::from(h);
        self.hw += u128::from(h) * u128::from(w);
    }

    fn merge(&mut self, other: Self) {
        self.h += other.h;
        self.hh += other.hh;
        self.hw += other.hw;
    }
}

impl Tally {
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            captions: 0,
            empty: 0,
            missing: 0,
            bytes: 0,
            words: 0,
            words_squared: 0,
            negated: 0,
            negations: Occurrences::default(),
            entries: vec![Entry::default(); entries],
            faults: Faults::default(),
        }
    }

    /// Adds the sums of another part of the input.
    pub(crate) fn merge(&mut self, other: Self, most_examples: usize) {
        self.captions += other.captions;
        self.empty += other.empty;
        self.missing += other.missing;
        self.bytes += other.bytes;
        self.words += other.words;
        self.words_squared += other.words_squared;
        self.negated += other.negated;
        self.negations.merge(other.negations);
        for (entry, other) in self.entries.iter_mut().zip(other.entries) {
            entry.captions += other.captions;
            entry.occurrences.merge(other.occurrences);
            entry.examples.merge(most_examples, other.examples);
        }
        self.faults.merge(other.faults);
    }

    /// The sums that the share of these words among all is estimated from.
    pub(crate) fn ratio(&self, of: &Occurrences) -> RatioSums {
        RatioSums {
            h: of.h,
            w: self.words,
            hh: of.hh,
            hw: of.hw,
            ww: self.words_squared,
        }
    }
}

/// Counts the captions of a thread.
pub(crate) struct Counter<'a> {
    scanner: Scanner<'a>,
    tally: Tally,
    /// Examples of each entry, and what chooses them.
    examples: usize,
    seed: u64,
    /// The file that is being read.
    file: usize,
    name: String,
    sorted: Vec<u32>,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(words: &'a WordList, examples: usize, seed: u64) -> Self {
        Self {
            scanner: Scanner::new(words),
            tally: Tally::new(words.len()),
            examples,
            seed,
            file: 0,
            name: String::new(),
            sorted: Vec::new(),
        }
    }

    /// What comes is in this file.
    pub(crate) fn begin(&mut self, file: usize, name: impl FnOnce() -> String) {
        if self.file != file || self.name.is_empty() {
            self.file = file;
            self.name = name();
        }
    }

    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Counts a caption.
    #[inline]
    pub(crate) fn caption(&mut self, caption: &[u8], place: impl Fn() -> Place) {
        let words = match self.scanner.scan(caption) {
            Ok(words) => words,
            Err(error) => {
                let valid = error.valid_up_to();
                let reason =
                    format!("expected UTF-8, found another byte at byte {valid} of the caption");
                self.fault(place(), reason);
                return;
            }
        };
        if words == 0 && std::str::from_utf8(caption).is_ok_and(|text| text.trim().is_empty()) {
            self.tally.empty += 1;
            return;
        }
        self.tally.captions += 1;
        self.tally.bytes += caption.len() as u64;
        self.tally.words += words;
        self.tally.words_squared += u128::from(words) * u128::from(words);
        if !self.scanner.hits().is_empty() {
            self.negated(caption, words, place);
        }
    }

    /// Counts the negations of a caption that has some.
    fn negated(&mut self, caption: &[u8], words: u64, place: impl Fn() -> Place) {
        let tally = &mut self.tally;
        tally.negated += 1;
        tally.negations.add(self.scanner.hits().len() as u64, words);
        self.sorted.clear();
        self.sorted.extend_from_slice(self.scanner.hits());
        self.sorted.sort_unstable();
        // The scanner has seen that it is UTF-8.
        let text = std::str::from_utf8(caption).unwrap_or_default();
        let hash = match self.examples {
            0 => 0,
            _ => examples::hash(self.seed, text),
        };
        for same in self.sorted.chunk_by(|a, b| a == b) {
            let entry = &mut tally.entries[same[0] as usize];
            entry.captions += 1;
            entry.occurrences.add(same.len() as u64, words);
            entry
                .examples
                .offer(self.examples, hash, text, self.file, &place);
        }
    }

    /// Counts a record whose caption is null.
    pub(crate) fn missing(&mut self) {
        self.tally.missing += 1;
    }

    /// Notes a record that cannot be read.
    pub(crate) fn fault(&mut self, place: Place, reason: String) {
        self.add_fault(place, reason, false);
    }

    /// Notes that the rest of the file cannot be read.
    pub(crate) fn stop(&mut self, stop: Stop) {
        self.add_fault(stop.0, stop.1, true);
    }

    fn add_fault(&mut self, place: Place, reason: String, ends_file: bool) {
        self.tally.faults.add(Fault {
            file_number: self.file,
            place,
            reason,
            ends_file,
            file: self.name.clone(),
        });
    }
}
