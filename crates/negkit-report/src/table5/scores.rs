//! The scores of Table 5: a table for each dataset and protocol, and scores against the threshold.

use negkit_eval::table5::{self, Dataset, paper_mean_iou};
use negkit_metrics::{ACCURACY_IOUS, SegmentationProtocol};
use serde::Deserialize;

use super::Table5Run;
use crate::Result;
use crate::chart::{Chart, Curve, ForestRow, curves, forest};
use crate::report::Context;
use crate::score::{Difference, Interval};
use crate::view::{Part, ScoreCell, ScoreRow, ScoreTable};

/// A measure, and where it stands.
type Named<From, To> = (&'static str, fn(&From) -> To);

/// Faults that are named before they are only counted.
const MOST_FAULTS: usize = 5;

/// What is read of `summary.json`.
#[derive(Deserialize)]
struct Summary {
    threshold: f64,
    datasets: Vec<DatasetSummary>,
}

#[derive(Deserialize)]
struct DatasetSummary {
    dataset: Dataset,
    split: String,
    pictures: usize,
    phrases: usize,
    left_out: Vec<u64>,
    faults: Vec<Fault>,
    protocols: Vec<ProtocolSummary>,
}

#[derive(Deserialize)]
struct Fault {
    picture: u64,
    fault: String,
}

#[derive(Deserialize)]
struct ProtocolSummary {
    protocol: SegmentationProtocol,
    encoders: Vec<EncoderSummary>,
}

#[derive(Deserialize)]
struct EncoderSummary {
    encoder: String,
    scores: Scores,
    intervals: Intervals,
    best_mean_iou: Best,
    best_foreground_iou: Best,
    against_first: Option<Against>,
}

#[derive(Deserialize)]
struct Scores {
    thresholds: Vec<AtThreshold>,
}

#[derive(Deserialize)]
struct AtThreshold {
    threshold: f64,
    mean_iou: f64,
    foreground_iou: f64,
}

#[derive(Deserialize)]
struct Intervals {
    average_precision: Interval,
    thresholds: Vec<IntervalsAtThreshold>,
}

#[derive(Deserialize)]
struct IntervalsAtThreshold {
    mean_iou: Interval,
    foreground_iou: Interval,
    accuracy: Vec<Interval>,
}

#[derive(Deserialize)]
struct Best {
    threshold: f64,
    score: f64,
}

#[derive(Deserialize)]
struct Against {
    average_precision: Difference,
    mean_iou: Difference,
    foreground_iou: Difference,
}

impl Best {
    fn cell(&self) -> ScoreCell {
        ScoreCell {
            value: format!("{:.3}", self.score),
            under: Some(format!("at {:.2}", self.threshold)),
            ..ScoreCell::default()
        }
    }
}

fn protocol_name(protocol: SegmentationProtocol) -> &'static str {
    match protocol {
        SegmentationProtocol::ClipSeg => "CLIPSeg's protocol",
        SegmentationProtocol::PhraseCut => "PhraseCut's protocol",
    }
}

fn protocol_words(protocol: SegmentationProtocol) -> &'static str {
    match protocol {
        SegmentationProtocol::ClipSeg => {
            "CLIPSeg's protocol: squashed to the model's resolution, 1 added to every denominator"
        }
        SegmentationProtocol::PhraseCut => "PhraseCut's protocol: at the picture's full size",
    }
}

impl Table5Run {
    /// A part for every dataset that has scores.
    pub(super) fn score_parts(
        &self,
        context: &Context<'_>,
        notices: &mut Vec<String>,
    ) -> Result<Vec<Part>> {
        let found = self
            .run
            .numbers::<Summary, _>(self.done, table5::finals_so_far)?;
        let summary = match found {
            Ok(summary) => summary,
            Err(reason) => {
                notices.push(format!("There is no score yet: {reason}."));
                return Ok(Vec::new());
            }
        };
        for dataset in &summary.datasets {
            notices.extend(fault_notice(dataset));
        }
        let parts = summary.datasets.iter();
        Ok(parts
            .map(|dataset| self.part(dataset, summary.threshold, context))
            .collect())
    }

    fn part(&self, dataset: &DatasetSummary, threshold: f64, context: &Context<'_>) -> Part {
        let mut text = format!(
            "Split {}: {} phrases of {} pictures.",
            dataset.split, dataset.phrases, dataset.pictures
        );
        if dataset.dataset == Dataset::RefCocog {
            let words = self.settings.words.join(", ");
            text.push_str(&format!(" Expressions with one of the words {words}."));
        }
        if !dataset.left_out.is_empty() {
            let count = dataset.left_out.len();
            text.push_str(&format!(
                " CLIPSeg's list leaves out {count} invalid pictures."
            ));
        }
        let mut tables = Vec::new();
        let mut charts = Vec::new();
        for protocol in &dataset.protocols {
            tables.push(self.table(dataset.dataset, protocol, context));
            charts.extend(self.charts(protocol, threshold, context));
        }
        Part {
            id: format!("{}-{}", context.id, dataset.dataset.key()),
            title: dataset.dataset.to_string(),
            text,
            tables,
            charts,
            group: None,
        }
    }

    fn table(
        &self,
        dataset: Dataset,
        protocol: &ProtocolSummary,
        context: &Context<'_>,
    ) -> ScoreTable {
        let columns = [
            "mIoU",
            "IoU FG, cumulative",
            "average precision",
            "best mIoU",
            "best IoU FG",
        ];
        let mut columns: Vec<String> = columns.map(str::to_owned).to_vec();
        columns.extend(ACCURACY_IOUS.map(|bound| format!("IoU > {bound}")));
        let rows = protocol.encoders.iter().map(|encoder| {
            let against = encoder.against_first.as_ref();
            let mut cells = Vec::new();
            if let Some(at) = encoder.intervals.thresholds.first() {
                let paper = paper_mean_iou(dataset, &encoder.encoder);
                cells.push(ScoreCell::of(
                    &at.mean_iou,
                    against.map(|a| &a.mean_iou),
                    paper,
                ));
                let against = against.map(|a| &a.foreground_iou);
                cells.push(ScoreCell::of(&at.foreground_iou, against, None));
            }
            let precision = &encoder.intervals.average_precision;
            cells.push(ScoreCell::of(
                precision,
                against.map(|a| &a.average_precision),
                None,
            ));
            cells.push(encoder.best_mean_iou.cell());
            cells.push(encoder.best_foreground_iou.cell());
            if let Some(at) = encoder.intervals.thresholds.first() {
                cells.extend(
                    at.accuracy
                        .iter()
                        .map(|share| ScoreCell::of(share, None, None)),
                );
            }
            ScoreRow {
                encoder: Some(context.encoder(&encoder.encoder)),
                name: encoder.encoder.clone(),
                cells,
            }
        });
        let bootstrap = &self.settings.bootstrap;
        ScoreTable {
            caption: format!(
                "{}. Scores with {:.0} % bootstrap intervals over pictures, the paper's mIoU, and \
                 paired differences to {}",
                protocol_words(protocol.protocol),
                bootstrap.level * 100.,
                self.encoders[0]
            ),
            columns,
            rows: rows.collect(),
        }
    }

    fn charts(
        &self,
        protocol: &ProtocolSummary,
        threshold: f64,
        context: &Context<'_>,
    ) -> Vec<Chart> {
        let name = protocol_name(protocol.protocol);
        let thresholds: Vec<f64> = protocol
            .encoders
            .first()
            .map(|encoder| {
                encoder
                    .scores
                    .thresholds
                    .iter()
                    .map(|at| at.threshold)
                    .collect()
            })
            .unwrap_or_default();
        let measures: [Named<AtThreshold, f64>; 2] = [
            ("mIoU", |at| at.mean_iou),
            ("IoU FG", |at| at.foreground_iou),
        ];
        let mut charts = Vec::new();
        for (measure, score) in measures {
            let lines: Vec<Curve> = protocol
                .encoders
                .iter()
                .map(|encoder| Curve {
                    encoder: context.chart_encoder(&encoder.encoder),
                    scores: encoder.scores.thresholds.iter().map(score).collect(),
                })
                .collect();
            let title = format!("{measure} against the threshold, {name}");
            charts.push(curves(&title, &thresholds, &lines, threshold));
        }
        charts.extend(self.difference_chart(protocol, context));
        charts
    }

    fn difference_chart(&self, protocol: &ProtocolSummary, context: &Context<'_>) -> Option<Chart> {
        let measures: [Named<Against, Difference>; 3] = [
            ("mIoU", |against| against.mean_iou),
            ("IoU FG", |against| against.foreground_iou),
            ("precision", |against| against.average_precision),
        ];
        let rows = measures.map(|(label, difference)| ForestRow {
            label: label.to_owned(),
            differences: protocol
                .encoders
                .iter()
                .filter_map(|encoder| {
                    let found = difference(encoder.against_first.as_ref()?);
                    Some((context.chart_encoder(&encoder.encoder), found))
                })
                .collect(),
        });
        let compared = rows.iter().any(|row| !row.differences.is_empty());
        let first = &self.encoders[0];
        let title = format!(
            "Differences to {first}, {}",
            protocol_name(protocol.protocol)
        );
        compared.then(|| forest(&title, first, &rows))
    }
}

/// The pictures that could not be scored.
fn fault_notice(dataset: &DatasetSummary) -> Option<String> {
    if dataset.faults.is_empty() {
        return None;
    }
    let named = dataset.faults.iter().take(MOST_FAULTS);
    let named: Vec<String> = named
        .map(|fault| format!("{}: {}", fault.picture, fault.fault))
        .collect();
    let more = match dataset.faults.len().saturating_sub(MOST_FAULTS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Some(format!(
        "{} pictures of {} could not be scored: {}{more}.",
        dataset.faults.len(),
        dataset.dataset,
        named.join("; ")
    ))
}
