//! `table.md`: the paper's table, to be read.

use std::fmt::Write as _;

use negkit_metrics::{ACCURACY_IOUS, Interval, PairedDifference, SegmentationProtocol};

use super::data::Dataset;
use super::finals::{
    DatasetSummary, EncoderSummary, ProtocolSummary, Summary, paper_mean_iou, protocol_key,
};
use super::{Scale, Settings};
use crate::agreement::{self, Frame, difference};

/// Faults that the table names; `summary.json` has all.
const MOST_NAMED: usize = 10;

pub(super) fn markdown(summary: &Summary) -> String {
    let settings = &summary.settings;
    let mut text = String::from("# Table 5: referring segmentation, text encoder swapped\n\n");
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "{} with each text encoder, {} on {}. Scores are at threshold {:.2} with {:.0} % bootstrap \
         intervals over pictures ({} resamples); in brackets the paired difference to `{}` and its \
         p value. Every score at all 49 thresholds is in the CSV file.\n",
        settings.model.name,
        settings.compute.dtype,
        settings.compute.device,
        summary.threshold,
        settings.bootstrap.level * 100.,
        settings.bootstrap.resamples,
        first(settings),
    );
    if settings.scale == Scale::Mini {
        text.push_str(agreement::MINI_NOTE);
    }
    for dataset in &summary.datasets {
        dataset_section(&mut text, dataset, settings);
    }
    let frame = Frame {
        baseline: first(settings),
        claim: "mark negated expressions better and ordinary phrases as well",
        note: " Which IoU the paper means is not known, so each of its numbers is compared with both \
               candidates in both protocols.",
    };
    text.push_str(&agreement::section(&frame, &summary.agreement));
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
            let what = if count == 1 { "picture" } else { "pictures" };
            let _ = writeln!(text, " **{count} {what} could not be scored:**\n");
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
    let paper = paper_mean_iou(dataset, &encoder.encoder);
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
        "**{:.3}** [{:.3}, {:.3}]",
        interval.estimate, interval.low, interval.high
    )
}

fn shown_difference(found: Option<PairedDifference>) -> String {
    found.map_or(String::new(), |found| {
        format!(
            " ({}, p {:.3})",
            difference(&found.difference),
            found.p_value
        )
    })
}
