//! From records to the final files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use negkit_metrics::{
    ACCURACY_IOUS, Clusters, Interval, PixelCounts, SegmentationComparison, SegmentationIntervals,
    SegmentationProtocol, SegmentationScores, SegmentationSide, Thresholds, compare_segmentation,
};
use serde::Serialize;

use super::data::Dataset;
use super::{PictureRecord, Result, Settings, TABLE, Table5Error, table};
use crate::agreement::Comparison;
use crate::csv_field::csv_field;
use crate::paper::PaperRow;
use crate::{Finals, RunError, RunFolder};

/// Both protocols, in the order of the table.
const PROTOCOLS: [SegmentationProtocol; 2] = [
    SegmentationProtocol::ClipSeg,
    SegmentationProtocol::PhraseCut,
];

/// All numbers of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) table: &'static str,
    pub(super) settings: Settings,
    /// The threshold of everything that is not said to be at another.
    pub(super) threshold: f32,
    pub(super) datasets: Vec<DatasetSummary>,
    /// The differences to the first encoder beside the paper's.
    pub(super) agreement: Vec<Comparison>,
}

/// A dataset with all encoders.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DatasetSummary {
    pub(super) dataset: Dataset,
    pub(super) split: String,
    /// Pictures that were scored.
    pub(super) pictures: usize,
    pub(super) phrases: usize,
    /// Pictures that the protocol leaves out.
    pub(super) left_out: Vec<u64>,
    /// Pictures that are missing, broken or of another size.
    pub(super) faults: Vec<Fault>,
    pub(super) protocols: Vec<ProtocolSummary>,
}

/// A picture that could not be scored.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    pub(super) picture: u64,
    pub(super) fault: String,
}

/// A dataset in one protocol.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ProtocolSummary {
    pub(super) protocol: SegmentationProtocol,
    pub(super) encoders: Vec<EncoderSummary>,
}

/// An encoder on a dataset in one protocol.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EncoderSummary {
    pub(super) encoder: String,
    /// At every threshold.
    pub(super) scores: SegmentationScores,
    /// At the reported threshold.
    pub(super) intervals: SegmentationIntervals,
    /// The threshold that is best on these very phrases, which flatters.
    pub(super) best_mean_iou: BestScore,
    /// The same of the cumulative foreground IoU.
    pub(super) best_foreground_iou: BestScore,
    /// Minus the first encoder; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against_first: Option<SegmentationComparison>,
}

/// A score at the threshold that is best for it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct BestScore {
    pub(super) threshold: f32,
    pub(super) score: f64,
}

/// The phrases of a dataset, as the scorers take them.
#[derive(Default)]
struct Counted {
    pictures: usize,
    /// The picture of every phrase.
    labels: Vec<u64>,
    /// By protocol and encoder, every phrase.
    counts: [Vec<Vec<PixelCounts>>; PROTOCOLS.len()],
    faults: Vec<Fault>,
}

impl Counted {
    fn new(encoders: usize) -> Self {
        Self {
            counts: std::array::from_fn(|_| vec![Vec::new(); encoders]),
            ..Self::default()
        }
    }

    fn add(&mut self, id: u64, record: PictureRecord, settings: &Settings) -> Option<()> {
        if let Some(fault) = record.fault {
            self.faults.push(Fault { picture: id, fault });
            return Some(());
        }
        self.pictures += 1;
        for phrase in record.phrases {
            self.labels.push(id);
            if phrase.encoders.len() != settings.encoders.len() {
                return None;
            }
            let pairs = phrase.encoders.into_iter().zip(&settings.encoders);
            for (index, (found, encoder)) in pairs.enumerate() {
                if found.encoder != encoder.name {
                    return None;
                }
                let [clipseg, phrasecut] = &mut self.counts;
                clipseg[index].push(found.clipseg);
                phrasecut[index].push(found.phrasecut);
            }
        }
        Some(())
    }
}

/// The final files of a run of Table 5, from its settings and records alone.
///
/// # Errors
/// When an item has no record, or a dataset has no picture that could be opened.
pub fn finals(run: &RunFolder) -> Result<Finals> {
    check_table(run)?;
    let records: Vec<PictureRecord> = run.records()?;
    let items = run.plan().items().iter().cloned();
    from_records(run, items.zip(records))
}

/// The same of a run that is under way: of those pictures that are done.
///
/// # Errors
/// As [`finals`], but for items without a record; when no picture of a dataset is done yet, the
/// dataset is left out.
pub fn finals_so_far(run: &RunFolder) -> Result<Finals> {
    check_table(run)?;
    from_records(run, run.records_so_far()?)
}

fn check_table(run: &RunFolder) -> Result<()> {
    match run.plan().table() {
        TABLE => Ok(()),
        found => Err(RunError::Table {
            path: run.path().to_owned(),
            expected: TABLE.to_owned(),
            found: found.to_owned(),
        }
        .into()),
    }
}

fn from_records(
    run: &RunFolder,
    records: impl IntoIterator<Item = (String, PictureRecord)>,
) -> Result<Finals> {
    let summary = summarise(run.plan().settings()?, records)?;
    let value = serde_json::to_value(&summary).map_err(|error| RunError::Settings {
        reason: error.to_string(),
    })?;
    Ok(Finals {
        csv: summary_csv(&summary),
        table: table::markdown(&summary),
        summary: value,
    })
}

fn summarise(
    settings: Settings,
    records: impl IntoIterator<Item = (String, PictureRecord)>,
) -> Result<Summary> {
    let mut by_dataset: BTreeMap<Dataset, Counted> = BTreeMap::new();
    for (item, record) in records {
        let wrong = |reason: &str| Table5Error::Record {
            item: item.clone(),
            reason: reason.to_owned(),
        };
        let (dataset, id) = Dataset::of_item(&item)
            .ok_or_else(|| wrong("expected a dataset and the id of a picture, as refcocog/7"))?;
        let counted = by_dataset.entry(dataset);
        counted
            .or_insert_with(|| Counted::new(settings.encoders.len()))
            .add(id, record, &settings)
            .ok_or_else(|| wrong("expected every phrase with the encoders of the settings"))?;
    }
    let thresholds = Thresholds::clipseg();
    let index = settings.threshold_index(&thresholds);
    let datasets = by_dataset
        .into_iter()
        .map(|(dataset, counted)| summarise_dataset(dataset, counted, &settings, &thresholds))
        .collect::<Result<Vec<_>>>()?;
    Ok(Summary {
        table: TABLE,
        threshold: thresholds.values()[index],
        agreement: agreement(&datasets, &settings),
        settings,
        datasets,
    })
}

/// The mean IoU that the paper's table has of an encoder of this name, where it has one.
pub fn paper_mean_iou(dataset: Dataset, encoder: &str) -> Option<f64> {
    let (phrasecut, refcocog) = PaperRow::of(encoder)?.masks();
    Some(match dataset {
        Dataset::PhraseCut => phrasecut,
        Dataset::RefCocog => refcocog,
    })
}

/// Every difference to the first encoder that the paper has too. Which IoU the paper means is not
/// known: each of its numbers is compared with both candidates in both protocols.
fn agreement(datasets: &[DatasetSummary], settings: &Settings) -> Vec<Comparison> {
    let first = settings.encoders.first();
    let first = first.map_or("", |first| first.name.as_str());
    let mut all = Vec::new();
    for (dataset, encoder) in datasets
        .iter()
        .flat_map(|dataset| settings.encoders.iter().map(move |one| (dataset, one)))
    {
        let of_paper = |name: &str| paper_mean_iou(dataset.dataset, name);
        let (Some(base), Some(paper)) = (of_paper(first), of_paper(&encoder.name)) else {
            continue;
        };
        let is_claim = PaperRow::of(&encoder.name) == Some(PaperRow::NegationClip)
            && PaperRow::of(first) == Some(PaperRow::Stock);
        for protocol in &dataset.protocols {
            let own = protocol
                .encoders
                .iter()
                .find(|own| own.encoder == encoder.name);
            let Some(found) = own.and_then(|own| own.against_first.as_ref()) else {
                continue;
            };
            let key = protocol_key(protocol.protocol);
            for (measure, found) in [
                ("mIoU", found.mean_iou.difference),
                ("IoU FG", found.foreground_iou.difference),
            ] {
                let subject = format!("{} on {}", encoder.name, dataset.dataset);
                let one =
                    Comparison::new(subject, format!("{measure}, `{key}`"), paper - base, found);
                all.push(Comparison { is_claim, ..one });
            }
        }
    }
    all
}

fn summarise_dataset(
    dataset: Dataset,
    counted: Counted,
    settings: &Settings,
    thresholds: &Thresholds,
) -> Result<DatasetSummary> {
    if let (true, Some(first)) = (counted.labels.is_empty(), counted.faults.first()) {
        return Err(Table5Error::NoPictures {
            dataset,
            pictures: counted.faults.len(),
            first: format!("{}: {}", first.picture, first.fault),
        });
    }
    let clusters = Clusters::by_label(counted.labels.iter().copied());
    let protocols = PROTOCOLS.into_iter().zip(&counted.counts);
    let protocols = protocols
        .map(|(protocol, counts)| {
            let encoders = summarise_encoders(protocol, counts, settings, thresholds, &clusters)?;
            Ok(ProtocolSummary { protocol, encoders })
        })
        .collect::<Result<_>>()?;
    let files = settings.datasets.iter().find(|d| d.dataset == dataset);
    Ok(DatasetSummary {
        dataset,
        split: files.map(|files| files.split.clone()).unwrap_or_default(),
        pictures: counted.pictures,
        phrases: counted.labels.len(),
        left_out: files
            .map(|files| files.left_out.clone())
            .unwrap_or_default(),
        faults: counted.faults,
        protocols,
    })
}

fn summarise_encoders(
    protocol: SegmentationProtocol,
    counts: &[Vec<PixelCounts>],
    settings: &Settings,
    thresholds: &Thresholds,
    clusters: &Clusters,
) -> Result<Vec<EncoderSummary>> {
    let index = settings.threshold_index(thresholds);
    let bootstrap = &settings.bootstrap;
    let side = |phrases| SegmentationSide {
        phrases,
        threshold: index,
    };
    let mut encoders = Vec::with_capacity(counts.len());
    for (position, (phrases, encoder)) in counts.iter().zip(&settings.encoders).enumerate() {
        let scores = SegmentationScores::new(protocol, thresholds, phrases)?;
        let best = |score: fn(&negkit_metrics::ThresholdScores) -> f64| {
            let at = &scores.thresholds[scores.best_by(score)];
            BestScore {
                threshold: at.threshold,
                score: score(at),
            }
        };
        let against_first = match position {
            0 => None,
            _ => Some(compare_segmentation(
                protocol,
                thresholds,
                side(&counts[0]),
                side(phrases),
                clusters,
                bootstrap,
            )?),
        };
        encoders.push(EncoderSummary {
            encoder: encoder.name.clone(),
            best_mean_iou: best(|at| at.mean_iou),
            best_foreground_iou: best(|at| at.foreground_iou),
            intervals: SegmentationIntervals::new(
                protocol,
                thresholds,
                phrases,
                &[index],
                clusters,
                bootstrap,
            )?,
            scores,
            against_first,
        });
    }
    Ok(encoders)
}

/// A line for every dataset, protocol, encoder and threshold; intervals at the reported one.
fn summary_csv(summary: &Summary) -> String {
    let mut text = String::from("dataset,protocol,encoder,threshold");
    for score in ["mean_iou", "foreground_iou", "binary_iou"] {
        // Writing into a string cannot fail, here and below.
        let _ = write!(text, ",{score},{score}_low,{score}_high");
    }
    for bound in ACCURACY_IOUS {
        let _ = write!(text, ",accuracy_{bound}");
    }
    text.push_str(",average_precision,average_precision_low,average_precision_high\n");
    for dataset in &summary.datasets {
        for protocol in &dataset.protocols {
            for encoder in &protocol.encoders {
                let head = [
                    dataset.dataset.key().to_owned(),
                    protocol_key(protocol.protocol).to_owned(),
                    csv_field(&encoder.encoder),
                ];
                csv_lines(&mut text, &head.join(","), encoder);
            }
        }
    }
    text
}

fn csv_lines(text: &mut String, head: &str, encoder: &EncoderSummary) {
    let precision = encoder.intervals.average_precision;
    for at in &encoder.scores.thresholds {
        let reported = encoder.intervals.thresholds.iter();
        let reported = reported
            .filter(|reported| reported.threshold == at.threshold)
            .map(|r| [r.mean_iou, r.foreground_iou, r.binary_iou])
            .next();
        let _ = write!(text, "{head},{:.2}", at.threshold);
        let scores = [at.mean_iou, at.foreground_iou, at.binary_iou];
        for (index, score) in scores.into_iter().enumerate() {
            let _ = write!(text, ",{score:.6}{}", ends(reported.map(|r| r[index])));
        }
        for accuracy in at.accuracy {
            let _ = write!(text, ",{accuracy:.6}");
        }
        let _ = writeln!(text, ",{:.6}{}", precision.estimate, ends(Some(precision)));
    }
}

fn ends(interval: Option<Interval>) -> String {
    interval.map_or(",,".to_owned(), |interval| {
        format!(",{:.6},{:.6}", interval.low, interval.high)
    })
}

pub(super) fn protocol_key(protocol: SegmentationProtocol) -> &'static str {
    match protocol {
        SegmentationProtocol::ClipSeg => "clipseg",
        SegmentationProtocol::PhraseCut => "phrasecut",
    }
}
