//! Table 3: which captions NegationCLIP was fine-tuned on, by VALSE existence and NegRefCOCOg.

use std::path::Path;

use negkit_benchmarks::Benchmark;

use crate::PaperFolder;
use crate::Result;
use crate::measuring::WorldBenchmark;
use crate::table2::Row;

/// The heading of its page.
pub(crate) const TITLE: &str = "Table 3: captions of which pipeline NegationCLIP learnt from";

/// The benchmarks of drawn scenes, in the folder that
/// [`write_world`](crate::measuring::write_world) wrote.
///
/// # Errors
/// When a file cannot be read.
pub fn mini(world: &Path) -> Result<Vec<Box<dyn Benchmark>>> {
    let all = [WorldBenchmark::Valse, WorldBenchmark::NegRefCocog];
    all.into_iter().map(|one| one.open(world)).collect()
}

/// The published benchmarks, below one folder.
///
/// # Errors
/// When one of them is not there or cannot be read; the error says where to get it.
pub fn paper(folder: &PaperFolder) -> Result<Vec<Box<dyn Benchmark>>> {
    Ok(vec![folder.valse()?, folder.negrefcocog()?])
}

/// The paper's score of an encoder on a benchmark; all of Table 3 is of ViT-B/32.
pub(crate) fn of_paper(encoder: &str, benchmark: &str, size: &str) -> Option<f64> {
    let [valse, negrefcocog] = match (Row::of(encoder)?, size) {
        (Row::Stock, "ViT-B/32") => [70.97, 57.73],
        (Row::RandP1, "ViT-B/32") => [73.78, 62.05],
        (Row::P1, "ViT-B/32") => [80.15, 63.18],
        (Row::P2, "ViT-B/32") => [76.78, 64.32],
        (Row::NegationClip, "ViT-B/32") => [80.15, 64.09],
        _ => return None,
    };
    let percent = match benchmark {
        "valse" => valse,
        "negrefcocog" => negrefcocog,
        _ => return None,
    };
    Some(percent / 100.)
}
