//! Text encoders measured on benchmarks of image-text similarity: Tables 2 and 3, and every benchmark
//! alone.
//!
//! ```text
//! benchmarks (world, files) + encoders (names, training seeds) -> Measuring::plan -> RunFolder
//! Measuring::run: benchmark, encoder, seed -> vectors (cached) -> right or wrong, item by item
//! finals: records -> scores, intervals over items, spread over seeds, differences, the table
//! ```
//!
//! An item of the run is a benchmark with one training of an encoder. Its record keeps what became of
//! every item of the benchmark, so that intervals and paired differences follow from records alone.
//! Within an item a killed run loses a batch at most: vectors are stored as they are made
//! ([`EmbeddingCache`](negkit_benchmarks::EmbeddingCache)).
//!
//! Two kinds of chance are kept apart. Intervals draw the benchmark's items, and say whether another
//! set of pictures would show the same; the spread over training seeds says whether another training
//! would. A score of several trainings is their mean on every item.

mod encoders;
mod files;
mod finals;
mod records;
mod run;
mod table;
mod world;

use std::fmt;

use negkit_benchmarks::BenchmarkInfo;
use negkit_metrics::Bootstrap;
use serde::{Deserialize, Serialize};

pub use encoders::{EncoderBench, EncoderSpec, parse_encoders};
pub use files::{CocoFiles, ImageNetFiles};
pub use finals::finals;
pub use records::MeasuredRecord;
pub use run::{Measuring, Tallies};
pub use world::{WorldBenchmark, write_world};

/// At which size benchmarks are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Drawn scenes and the small models.
    Mini,
    /// Files that the user names, and models of any size.
    Paper,
}

/// All that decides a result besides the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuringSettings {
    /// Drawn scenes or the published files.
    pub scale: Scale,
    /// What is computed in, such as `f32`.
    pub dtype: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// The CLIP whose vision tower sees the pictures.
    pub clip: String,
    /// The size of OpenAI's CLIP that it is, for the paper's numbers; none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_size: Option<String>,
    /// Hash of its vision tower.
    pub vision: String,
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
    /// The encoders, in the order of the table.
    pub encoders: Vec<EncoderSettings>,
    /// The benchmarks, in the order of the table.
    pub benchmarks: Vec<BenchmarkInfo>,
}

/// An encoder, as many times as it was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderSettings {
    /// What the table calls it.
    pub name: String,
    /// Its trainings.
    pub seeds: Vec<TowerHashes>,
}

/// The towers of one training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TowerHashes {
    /// Hash of the text tower.
    pub text: String,
    /// Hash of its own vision tower, where that is another than the CLIP's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<String>,
}

/// Which table is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Table 2 of the paper.
    Two,
    /// Table 3 of the paper.
    Three,
    /// One benchmark alone.
    Benchmark,
}

impl Table {
    /// The name in `run.toml`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Two => "table2",
            Self::Three => "table3",
            Self::Benchmark => "benchmark",
        }
    }

    /// The table of that name.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let all = [Self::Two, Self::Three, Self::Benchmark];
        all.into_iter().find(|table| table.key() == key)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

#[cfg(test)]
mod tests;
