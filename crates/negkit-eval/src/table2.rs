//! Table 2: encoders on VALSE existence, NegRefCOCOg, ImageNet and COCO retrieval.
//!
//! The first two ask for negation, the other two whether what CLIP could do before is kept. How they are
//! measured is in [`measuring`](crate::measuring) and in `negkit-benchmarks`. That the paper's COCO is
//! text-to-image recall at 5, and its ImageNet top-1 with a single template, are inferences.

use negkit_benchmarks::Benchmark;
use std::path::Path;

use crate::PaperFolder;
use crate::Result;
use crate::measuring::WorldBenchmark;

/// The heading of its page.
pub(crate) const TITLE: &str = "Table 2: what text encoders know of negation, and of all else";

/// The benchmarks of drawn scenes, in the folder that
/// [`write_world`](crate::measuring::write_world) wrote.
///
/// # Errors
/// When a file cannot be read.
pub fn mini(world: &Path) -> Result<Vec<Box<dyn Benchmark>>> {
    let all = [
        WorldBenchmark::Valse,
        WorldBenchmark::NegRefCocog,
        WorldBenchmark::ImageNet,
        WorldBenchmark::Coco,
    ];
    all.into_iter().map(|one| one.open(world)).collect()
}

/// The published benchmarks, below one folder.
///
/// # Errors
/// When one of them is not there or cannot be read; the error says where to get it.
pub fn paper(folder: &PaperFolder) -> Result<Vec<Box<dyn Benchmark>>> {
    Ok(vec![
        folder.valse()?,
        folder.negrefcocog()?,
        folder.imagenet()?,
        folder.coco()?,
    ])
}

/// A row of Tables 2 and 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// OpenAI's CLIP.
    Stock,
    /// CLIP-bnl.
    ClipBnl,
    /// CoN-CLIP.
    ConClip,
    /// NegationCLIP on captions of random objects.
    RandP1,
    /// NegationCLIP on P1 alone.
    P1,
    /// NegationCLIP on P2 alone.
    P2,
    /// NegationCLIP on both.
    NegationClip,
}

impl Row {
    /// The row of an encoder by the name or path that a user gives.
    pub(crate) fn of(encoder: &str) -> Option<Self> {
        let parts = encoder.rsplit(['/', '\\', ':', '@']);
        parts
            .map(|part| {
                let letters = part.chars().filter(|c| c.is_alphanumeric());
                letters.collect::<String>().to_lowercase()
            })
            .find_map(|name| Self::of_word(&name))
    }

    fn of_word(name: &str) -> Option<Self> {
        let rest = name
            .strip_prefix("negationclip")
            .or(name.strip_prefix("mini"));
        Some(match rest.unwrap_or(name) {
            "randp1" => Self::RandP1,
            "p1" => Self::P1,
            "p2" => Self::P2,
            "p1p2" => Self::NegationClip,
            _ if name == "stock" || name == "clip" => Self::Stock,
            _ if name.starts_with("clipbnl") || name == "bnl" => Self::ClipBnl,
            _ if name.starts_with("conclip") => Self::ConClip,
            _ if name.starts_with("negationclip") => Self::NegationClip,
            _ => return None,
        })
    }
}

/// Whether the encoder is NegationCLIP itself, none of its ablations.
pub(crate) fn is_negationclip(encoder: &str) -> bool {
    Row::of(encoder) == Some(Row::NegationClip)
}

/// The paper's score of an encoder of that size on a benchmark.
pub(crate) fn of_paper(encoder: &str, benchmark: &str, size: &str) -> Option<f64> {
    let [valse, negrefcocog, imagenet, coco] = match (Row::of(encoder)?, size) {
        (Row::Stock, "ViT-B/32") => [70.97, 57.73, 62.02, 54.78],
        (Row::ClipBnl, "ViT-B/32") => [76.78, 62.05, 53.33, 55.47],
        (Row::ConClip, "ViT-B/32") => [71.72, 55.45, 63.08, 55.66],
        (Row::NegationClip, "ViT-B/32") => [80.15, 64.09, 60.97, 68.00],
        (Row::Stock, "ViT-L/14") => [66.85, 57.27, 73.44, 59.99],
        (Row::NegationClip, "ViT-L/14") => [79.59, 62.95, 73.91, 72.77],
        _ => return None,
    };
    let percent = match benchmark {
        "valse" => valse,
        "negrefcocog" => negrefcocog,
        "imagenet" => imagenet,
        "coco" => coco,
        _ => return None,
    };
    Some(percent / 100.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_are_known_by_the_names_that_they_have() {
        for (name, row) in [
            ("stock", Some(Row::Stock)),
            ("clip", Some(Row::Stock)),
            ("conclip", Some(Row::ConClip)),
            ("CoN-CLIP", Some(Row::ConClip)),
            ("clip-bnl", Some(Row::ClipBnl)),
            ("negationclip", Some(Row::NegationClip)),
            ("negationclip:ViT-B-32", Some(Row::NegationClip)),
            ("weights/negationclip_ViT-B32.pth", Some(Row::NegationClip)),
            ("p1+p2", Some(Row::NegationClip)),
            ("P1", Some(Row::P1)),
            ("negationclip-p2", Some(Row::P2)),
            ("rand-p1", Some(Row::RandP1)),
            ("weights/mini/negationclip-rand-p1", Some(Row::RandP1)),
            ("my-encoder", None),
            ("", None),
        ] {
            assert_eq!(Row::of(name), row, "{name}");
        }
    }

    #[test]
    fn the_papers_scores_are_shares() {
        let stock = of_paper("stock", "valse", "ViT-B/32").unwrap_or_default();
        assert!((stock - 379. / 534.).abs() < 1e-4, "{stock}");
        let large = of_paper("negationclip", "negrefcocog", "ViT-L/14").unwrap_or_default();
        assert!((large - 277. / 440.).abs() < 1e-4, "{large}");
        assert_eq!(of_paper("conclip", "valse", "ViT-L/14"), None);
        assert_eq!(of_paper("p1", "valse", "ViT-B/32"), None);
        assert_eq!(of_paper("stock", "celeba", "ViT-B/32"), None);
    }
}
