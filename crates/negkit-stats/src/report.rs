//! What a survey found.

use std::fmt;

use serde::Serialize;

use crate::counter::Tally;
use crate::estimate::{Share, ratio_share, wilson_share};
use crate::examples::Example;
use crate::faults::Faults;
use crate::input::Found;
use crate::words::WordList;

/// What Table 1 of the paper says of LAION-400M, in percent: captions and words with a negation.
pub(crate) const PAPER: [f64; 2] = [0.70, 0.08];

/// How often the captions hold a negation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Captions that were counted.
    pub captions: u64,
    /// Captions of nothing but white space; not counted.
    pub empty: u64,
    /// Records without a caption; not counted.
    pub missing: u64,
    /// Words of the captions.
    pub words: u64,
    /// Bytes of the captions.
    pub bytes: u64,
    /// Captions with at least one negation, of all. The interval is Wilson's.
    pub negated_captions: Share,
    /// Negations, of all words. The interval knows that captions are drawn and not words.
    pub negation_words: Share,
    /// The same by entry of the list, in the list's order.
    pub entries: Vec<EntryReport>,
    /// Files that were read.
    pub files: u64,
    /// Files in folders that were passed over, for their names say no format that is known.
    pub passed_over: u64,
    /// What could not be read.
    pub faults: Faults,
}

/// One entry of the list of words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryReport {
    /// The entry.
    pub entry: String,
    /// Captions that hold it, of all.
    pub captions: Share,
    /// How often it stands there, of all words.
    pub words: Share,
    /// Captions with it.
    pub examples: Vec<NamedExample>,
}

/// An example with the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedExample {
    /// The caption and where it stands.
    #[serde(flatten)]
    pub example: Example,
    /// The file.
    pub file: String,
}

impl Report {
    pub(crate) fn new(mut tally: Tally, list: &WordList, found: &Found) -> Self {
        tally.faults.shorten();
        let entries = std::mem::take(&mut tally.entries);
        let entries = list.entries().iter().zip(entries);
        let entries = entries.map(|(name, entry)| EntryReport {
            entry: name.clone(),
            captions: wilson_share(entry.captions, tally.captions),
            words: ratio_share(tally.captions, &tally.ratio(&entry.occurrences)),
            examples: (entry.examples.into_vec().into_iter())
                .map(|example| NamedExample {
                    file: found.files[example.file].to_string(),
                    example,
                })
                .collect(),
        });
        Self {
            entries: entries.collect(),
            captions: tally.captions,
            empty: tally.empty,
            missing: tally.missing,
            words: tally.words,
            bytes: tally.bytes,
            negated_captions: wilson_share(tally.negated, tally.captions),
            negation_words: ratio_share(tally.captions, &tally.ratio(&tally.negations)),
            files: found.files.len() as u64,
            passed_over: found.passed_over,
            faults: tally.faults,
        }
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share in percent, with its interval.
fn percent(share: &Share) -> String {
    let [low, high] = share.interval.map(|end| 100. * end);
    format!("{:8.4} %  [{low:.4}, {high:.4}]", 100. * share.share)
}

impl fmt::Display for Report {
    /// A table for people. Entries that were not found are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut about = Vec::new();
        let notes = [
            (self.empty, "empty, not counted"),
            (self.missing, "records without a caption"),
        ];
        for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
            about.push(format!("{} {what}", grouped(*count)));
        }
        let about = match about.is_empty() {
            true => String::new(),
            false => format!("  ({})", about.join("; ")),
        };
        let mean = self.words as f64 / self.captions.max(1) as f64;
        writeln!(f, "captions  {:>14}{about}", grouped(self.captions))?;
        writeln!(
            f,
            "words     {:>14}  ({mean:.1} a caption)",
            grouped(self.words)
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "with a negation         count      share  [95 % interval]"
        )?;
        for (what, share) in [
            ("captions", &self.negated_captions),
            ("words", &self.negation_words),
        ] {
            writeln!(
                f,
                "{what:<14} {:>14}  {}",
                grouped(share.count),
                percent(share)
            )?;
        }
        let mut found: Vec<&EntryReport> = self.entries.iter().collect();
        found.retain(|entry| entry.words.count > 0);
        found.sort_by_key(|entry| std::cmp::Reverse(entry.words.count));
        if !found.is_empty() {
            writeln!(
                f,
                "\nword                 times       captions  of captions"
            )?;
        }
        for entry in found {
            let times = grouped(entry.words.count);
            let captions = grouped(entry.captions.count);
            let share = percent(&entry.captions);
            writeln!(f, "{:<12} {times:>13} {captions:>14}  {share}", entry.entry)?;
            for NamedExample { example, file } in &entry.examples {
                let text = example.text.replace(char::is_control, " ");
                writeln!(f, "    {text}  ({file}, {})", example.place)?;
            }
        }
        writeln!(
            f,
            "\nIntervals hold if these captions are a random sample of more. The paper's Table 1 for \
             LAION-400M: {:.2} % of captions, {:.2} % of words; its list of words is not known.",
            PAPER[0], PAPER[1]
        )
    }
}
