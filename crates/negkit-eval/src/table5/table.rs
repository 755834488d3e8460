//! `table.md`: the paper's table, to be read.

use std::fmt::Write as _;

use negkit_metrics::{ACCURACY_IOUS, Interval, PairedDifference, SegmentationProtocol};

use super::data::Dataset;
use super::finals::{DatasetSummary, EncoderSummary, ProtocolSummary, Summary, protocol_key};
use super::{Scale, Settings};

/// Differences of the paper up to this much are none: its CLIPSeg and NegationCLIPSeg differ by 0.001
/// on PhraseCut, on 14,354 phrases.
const NO_DIFFERENCE: f64 = 0.005;

/// Faults that the table names; `summary.json` has all.
const MOST_NAMED: usize = 10;

/// The paper's mean IoU.
fn of_paper(dataset: Dataset, encoder: &str) -> Option<f64> {
    let name = encoder.split(':').next().unwrap_or_default();
    let [phrasecut, refcocog] = match name.to_lowercase().as_str() {
        "stock" => [0.562, 0.267],
        "conclip" | "con-clip" => [0.539, 0.123],
        "negationclip" => [0.561, 0.288],
        _ => return None,
    };
    Some(match dataset {
        Dataset::PhraseCut => phrasecut,
        Dataset::RefCocog => refcocog,
    })
}

pub(super) fn markdown(summary: &Summary) -> String {
    let settings = &summary.settings;
    let mut text = String::from("# Table 5: referring segmentation, text encoder swapped\n\n");
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "{} with each text encoder, in {}. Scores are at threshold {:.2} with {:.0} % bootstrap \
         intervals over pictures ({} resamples); in brackets the paired difference to `{}` and its \
         p value. Every score at all 49 thresholds is in the CSV file.\n",
        settings.model.name,
        settings.dtype,
        summary.threshold,
        settings.bootstrap.level * 100.,
        settings.bootstrap.resamples,
        first(settings),
    );
    text.push_str(match settings.scale {
        Scale::Mini => {
            "**Drawn scenes and small models.** The paper's column is of photos and CLIPSeg's \
             published weights: directions can be compared with it, heights cannot.\n\n"
        }
        Scale::Paper => "",
    });
    for dataset in &summary.datasets {
        dataset_section(&mut text, dataset, settings);
    }
    agreement(&mut text, summary);
    text
}

fn first(settings: &Settings) -> &str {
    settings.encoders.first().map_or("", |first| &first.name)
}

fn dataset_section(text: &mut String, dataset: &DatasetSummary, settings: &Settings) {
    let _ = writeln!(text, "## {}\n", dataset.dataset);
    let _ = write!(
        text,
        "Split {}: {} phrases of {} pictures.",
        dataset.split, dataset.phrases, dataset.pictures
    );
    if dataset.dataset == Dataset::RefCocog {
        let _ = write!(
            text,
            " Expressions with one of the words {}.",
            settings.words.join(", ")
        );
    }
    if !dataset.left_out.is_empty() {
        let count = dataset.left_out.len();
        let _ = write!(text, " CLIPSeg's list leaves out {count} invalid pictures.");
    }
    match dataset.faults.as_slice() {
        [] => text.push_str(" No picture was missing or broken.\n\n"),
        faults => {
            let count = faults.len();
            let _ = writeln!(text, " **{count} pictures could not be scored:**\n");
            for fault in faults.iter().take(MOST_NAMED) {
                let _ = writeln!(text, "- {}: {}", fault.picture, fault.fault);
            }
            if count > MOST_NAMED {
                let _ = writeln!(text, "- … and {} more", count - MOST_NAMED);
            }
            text.push('\n');
        }
    }
    for protocol in &dataset.protocols {
        protocol_table(text, dataset.dataset, protocol);
    }
}

fn protocol_table(text: &mut String, dataset: Dataset, protocol: &ProtocolSummary) {
    let _ = writeln!(
        text,
        "Protocol `{}`: {}\n",
        protocol_key(protocol.protocol),
        match protocol.protocol {
            SegmentationProtocol::ClipSeg =>
                "squashed to the model's resolution, 1 added to every denominator, average \
                 precision by Simpson's rule.",
            SegmentationProtocol::PhraseCut => "at the picture's full size.",
        }
    );
    let _ = write!(
        text,
        "| encoder | paper's mIoU | mIoU | IoU FG, cumulative | AP | best mIoU (at) | best IoU FG \
         (at) |"
    );
    for bound in ACCURACY_IOUS {
        let _ = write!(text, " IoU > {bound} |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|");
    text.push_str(&"---|".repeat(ACCURACY_IOUS.len()));
    text.push('\n');
    for encoder in &protocol.encoders {
        table_line(text, dataset, encoder);
    }
    text.push('\n');
}

fn table_line(text: &mut String, dataset: Dataset, encoder: &EncoderSummary) {
    let paper = of_paper(dataset, &encoder.encoder);
    let paper = paper.map_or("–".to_owned(), |score| format!("{score:.3}"));
    let name = encoder.encoder.replace('|', "\\|");
    let _ = write!(text, "| {name} | {paper} |");
    let Some(at) = encoder.intervals.thresholds.first() else {
        return;
    };
    let against = encoder.against_first.as_ref();
    let cells = [
        (at.mean_iou, against.map(|d| d.mean_iou)),
        (at.foreground_iou, against.map(|d| d.foreground_iou)),
        (
            encoder.intervals.average_precision,
            against.map(|d| d.average_precision),
        ),
    ];
    for (score, difference) in cells {
        let _ = write!(text, " {}{} |", shown(score), shown_difference(difference));
    }
    for best in [encoder.best_mean_iou, encoder.best_foreground_iou] {
        let _ = write!(text, " {:.3} ({:.2}) |", best.score, best.threshold);
    }
    for accuracy in at.accuracy {
        let _ = write!(text, " {:.3} |", accuracy.estimate);
    }
    text.push('\n');
}

fn shown(interval: Interval) -> String {
    format!(
        "**{:.3}** {:.3}–{:.3}",
        interval.estimate, interval.low, interval.high
    )
}

fn shown_difference(difference: Option<PairedDifference>) -> String {
    difference.map_or(String::new(), |found| {
        let Interval {
            estimate,
            low,
            high,
            ..
        } = found.difference;
        format!(
            " ({estimate:+.3}, {low:+.3} to {high:+.3}, p {:.3})",
            found.p_value
        )
    })
}

/// How a difference compares with the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Agrees,
    SameDirection,
    NotSeen,
    OtherDirection,
    Contradicts,
}

impl Verdict {
    /// `paper` and `ours` are differences of the same encoder to the same other.
    fn of(paper: f64, ours: Interval) -> Self {
        let sure = ours.low > 0. || ours.high < 0.;
        if paper.abs() <= NO_DIFFERENCE {
            return match sure && ours.estimate.abs() > NO_DIFFERENCE {
                true => Self::Contradicts,
                false => Self::Agrees,
            };
        }
        match (ours.estimate * paper > 0., sure) {
            (true, true) => Self::Agrees,
            (true, false) => Self::SameDirection,
            (false, true) => Self::Contradicts,
            (false, false) if ours.estimate == 0. => Self::NotSeen,
            (false, false) => Self::OtherDirection,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::SameDirection => {
                "points the same way, but the interval holds 0: too few phrases to tell"
            }
            Self::NotSeen => "not seen: no difference here",
            Self::OtherDirection => {
                "points the other way, but the interval holds 0: neither confirmed nor refuted"
            }
            Self::Contradicts => "**does not agree**",
        }
    }
}

/// What agrees with the paper's table and what does not, computed.
fn agreement(text: &mut String, summary: &Summary) {
    let base = first(&summary.settings);
    let mut lines = Vec::new();
    let (mut agreed, mut contradicted) = (0, 0);
    for dataset in &summary.datasets {
        for protocol in &dataset.protocols {
            for encoder in &protocol.encoders {
                let paper = |name: &str| of_paper(dataset.dataset, name);
                let (Some(paper), Some(paper_base), Some(found)) = (
                    paper(&encoder.encoder),
                    paper(base),
                    encoder.against_first.as_ref(),
                ) else {
                    continue;
                };
                let paper = paper - paper_base;
                let measures = [
                    ("mIoU", found.mean_iou.difference),
                    ("IoU FG", found.foreground_iou.difference),
                ];
                for (measure, ours) in measures {
                    let verdict = Verdict::of(paper, ours);
                    agreed += usize::from(verdict == Verdict::Agrees);
                    contradicted += usize::from(verdict == Verdict::Contradicts);
                    lines.push(format!(
                        "| {} | {} | {measure}, `{}` | {paper:+.3} | {:+.3} ({:+.3} to {:+.3}) | {} |",
                        dataset.dataset,
                        encoder.encoder,
                        protocol_key(protocol.protocol),
                        ours.estimate,
                        ours.low,
                        ours.high,
                        verdict.words()
                    ));
                }
            }
        }
    }
    text.push_str("## What agrees with the paper, and what does not\n\n");
    if lines.is_empty() {
        text.push_str(
            "The paper has no number for these encoders against the first one, so nothing can be \
             compared.\n",
        );
        return;
    }
    let _ = writeln!(
        text,
        "Compared are differences to `{base}`. Which mIoU the paper means is not known, so both of \
         the candidates are compared in both protocols: {agreed} of {} comparisons agree, \
         {contradicted} do not, and the others are open. A difference of the paper up to \
         {NO_DIFFERENCE} counts as none; it agrees as long as none that is larger is certain here.\n",
        lines.len()
    );
    text.push_str("| dataset | encoder | measure | paper | here | |\n|---|---|---|---|---|---|\n");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn interval(low: f64, estimate: f64, high: f64) -> Interval {
        Interval {
            estimate,
            low,
            high,
            level: 0.95,
        }
    }

    #[test]
    fn a_verdict_needs_an_interval_that_excludes_zero() {
        let up = interval(0.01, 0.02, 0.03);
        let maybe_up = interval(-0.01, 0.02, 0.05);
        let down = interval(-0.03, -0.02, -0.01);
        let maybe_down = interval(-0.05, -0.02, 0.01);
        assert_eq!(Verdict::of(0.021, up), Verdict::Agrees);
        assert_eq!(Verdict::of(0.021, maybe_up), Verdict::SameDirection);
        assert_eq!(Verdict::of(0.021, maybe_down), Verdict::OtherDirection);
        assert_eq!(Verdict::of(0.021, down), Verdict::Contradicts);
        assert_eq!(Verdict::of(-0.144, down), Verdict::Agrees);
        assert_eq!(Verdict::of(0.021, interval(0., 0., 0.)), Verdict::NotSeen);
        // "As good as stock" is refuted by what is certain alone.
        assert_eq!(Verdict::of(-0.001, maybe_down), Verdict::Agrees);
        assert_eq!(Verdict::of(-0.001, down), Verdict::Contradicts);
        assert_eq!(Verdict::of(-0.001, up), Verdict::Contradicts);
        let tiny = interval(-0.003, -0.002, -0.001);
        assert_eq!(Verdict::of(-0.001, tiny), Verdict::Agrees);
    }

    #[test]
    fn the_papers_numbers_are_found_by_the_encoders_names() {
        let of = |name| of_paper(Dataset::RefCocog, name);
        assert_eq!(of("stock"), Some(0.267));
        assert_eq!(of("conclip"), Some(0.123));
        assert_eq!(of("negationclip:ViT-B/16"), Some(0.288));
        assert_eq!(of("negationclip-p1"), None);
        assert_eq!(of_paper(Dataset::PhraseCut, "NegationCLIP"), Some(0.561));
    }
}
