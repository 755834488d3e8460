//! What eval/parity/caption_stats.py counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use negkit_stats::Report;
use serde::Deserialize;

/// What is counted of a file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counts {
    pub captions: u64,
    pub empty: u64,
    pub missing: u64,
    pub words: u64,
    pub negated: u64,
    pub negations: u64,
    /// Times and captions by entry, those that were found.
    pub entries: BTreeMap<String, [u64; 2]>,
}

impl Counts {
    /// The same of a report.
    pub fn of(report: &Report) -> Self {
        let entries = report.entries.iter();
        let entries = entries.map(|entry| {
            let counts = [entry.words.count, entry.captions.count];
            (entry.entry.clone(), counts)
        });
        Self {
            captions: report.captions,
            empty: report.empty,
            missing: report.missing,
            words: report.words,
            negated: report.negated_captions.count,
            negations: report.negation_words.count,
            entries: entries.filter(|(_, counts)| counts[0] > 0).collect(),
        }
    }
}

/// Counts, and the interval of the share of words.
#[derive(Debug, Clone, Deserialize)]
pub struct Recount {
    #[serde(flatten)]
    pub counts: Counts,
    pub interval: [f64; 2],
}

/// A file of `shared/data`.
#[derive(Debug, Clone, Deserialize)]
pub struct Shared {
    pub file: String,
    pub column: String,
    pub default: Recount,
    pub extended: Recount,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Recounts {
    pub default: Recount,
    pub extended: Recount,
    pub default_without_null: Recount,
    pub shared: Vec<Shared>,
}

/// Where the files are.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/captions")
}

/// The recounts.
pub fn counts() -> Recounts {
    let path = fixtures().join("counts.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
