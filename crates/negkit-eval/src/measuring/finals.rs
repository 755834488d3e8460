//! From records to the final files.

use std::fmt::Write as _;

use negkit_benchmarks::{Average, BenchmarkInfo};
use negkit_metrics::{Clusters, Interval, PairedDifference, mean, sample_deviation};
use serde::Serialize;

use super::records::{MeasureRecord, MeasuredRecord};
use super::run::places;
use super::{MeasuringSettings, Table, table};
use crate::agreement::Comparison;
use crate::csv_field::csv_field;
use crate::{EvalError, Finals, Result, RunError, RunFolder, table2, table3};

/// All numbers of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) table: &'static str,
    pub(super) settings: MeasuringSettings,
    pub(super) benchmarks: Vec<BenchmarkSummary>,
    /// Differences to the first encoder beside the paper's.
    pub(super) agreement: Vec<Comparison>,
}

/// A benchmark with all encoders.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BenchmarkSummary {
    pub(super) key: String,
    pub(super) title: String,
    /// The measure that stands for it.
    pub(super) main: String,
    /// Pictures that are missing or broken, and why.
    pub(super) problems: Vec<(String, String)>,
    pub(super) measures: Vec<MeasureSummary>,
}

/// A measure with all encoders.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MeasureSummary {
    pub(super) measure: String,
    /// Items that were scored.
    pub(super) items: usize,
    /// What they are drawn with for the intervals, such as pictures.
    pub(super) clusters: usize,
    /// What guessing gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chance: Option<f64>,
    pub(super) encoders: Vec<EncoderSummary>,
}

/// An encoder on a measure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EncoderSummary {
    pub(super) encoder: String,
    /// The mean over trainings, with the interval over items.
    pub(super) score: Interval,
    /// Every training.
    pub(super) seeds: Vec<f64>,
    /// Sample standard deviation over trainings; none for a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deviation: Option<f64>,
    /// Minus the first encoder, on the same items; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against_first: Option<Against>,
    /// The paper's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paper: Option<f64>,
}

/// A difference to the first encoder.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Against {
    #[serde(flatten)]
    pub(super) found: PairedDifference,
    /// Trainings that are better than the first encoder (its mean, where it has several).
    pub(super) better: usize,
    /// Trainings that are worse.
    pub(super) worse: usize,
}

/// The final files of a run of Table 2, Table 3 or one benchmark, from its settings and records alone.
///
/// # Errors
/// When an item has no record, records do not fit each other, or nothing could be scored.
pub fn finals(run: &RunFolder) -> Result<Finals> {
    let Some(which) = Table::of_key(run.plan().table()) else {
        return Err(RunError::Table {
            path: run.path().to_owned(),
            expected: "table2, table3 or a benchmark".to_owned(),
            found: run.plan().table().to_owned(),
        }
        .into());
    };
    let settings: MeasuringSettings = run.plan().settings()?;
    let records: Vec<MeasuredRecord> = run.records()?;
    let mut benchmarks = Vec::with_capacity(settings.benchmarks.len());
    for (place, info) in settings.benchmarks.iter().enumerate() {
        let mut by_encoder: Vec<Vec<&MeasuredRecord>> = vec![Vec::new(); settings.encoders.len()];
        for ((benchmark, encoder, _), record) in places(&settings).into_iter().zip(&records) {
            if benchmark == place {
                by_encoder[encoder].push(record);
            }
        }
        benchmarks.push(summarise(info, &by_encoder, &settings, which)?);
    }
    let agreement = agreement(&benchmarks, &settings);
    let summary = Summary {
        table: which.key(),
        settings,
        benchmarks,
        agreement,
    };
    let value = serde_json::to_value(&summary).map_err(|error| RunError::Settings {
        reason: error.to_string(),
    })?;
    Ok(Finals {
        csv: csv(&summary),
        table: table::markdown(&summary, which),
        summary: value,
    })
}

/// The paper's number of an encoder on a benchmark.
fn of_paper(
    which: Table,
    settings: &MeasuringSettings,
    encoder: &str,
    benchmark: &str,
) -> Option<f64> {
    // At the small scale the rows of ViT-B/32 stand beside: the paper has all encoders of that size.
    let size = settings.clip_size.as_deref().unwrap_or("ViT-B/32");
    match which {
        Table::Two | Table::Benchmark => table2::of_paper(encoder, benchmark, size),
        Table::Three => table3::of_paper(encoder, benchmark, size),
    }
}

fn summarise(
    info: &BenchmarkInfo,
    by_encoder: &[Vec<&MeasuredRecord>],
    settings: &MeasuringSettings,
    which: Table,
) -> Result<BenchmarkSummary> {
    let misfit = |reason: String| {
        EvalError::from(RunError::Settings {
            reason: format!(
                "the records of {} do not fit each other: {reason}",
                info.key
            ),
        })
    };
    let first = by_encoder.iter().flatten().next();
    let Some(first) = first else {
        return Err(misfit("there is none".to_owned()));
    };
    let mut problems: Vec<(String, String)> = Vec::new();
    for record in by_encoder.iter().flatten() {
        for problem in &record.problems {
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
    }
    let mut measures = Vec::with_capacity(first.measures.len());
    for (place, shape) in first.measures.iter().enumerate() {
        let mut of_encoders = Vec::with_capacity(by_encoder.len());
        for records in by_encoder {
            let mut seeds = Vec::with_capacity(records.len());
            for record in records {
                let own = record.measures.get(place);
                let own = own.filter(|own| own.name == shape.name);
                let values = own.and_then(MeasureRecord::values);
                let fits = |values: &Vec<Option<f64>>| values.len() == shape.outcomes.len();
                let values = values.filter(fits);
                seeds.push(values.ok_or_else(|| misfit(format!("measure '{}'", shape.name)))?);
            }
            of_encoders.push(seeds);
        }
        let found = measure(shape, &of_encoders, settings)?;
        let Some(mut found) = found else {
            continue;
        };
        if shape.name == info.main {
            for one in &mut found.encoders {
                one.paper = of_paper(which, settings, &one.encoder, &info.key);
            }
        }
        measures.push(found);
    }
    if measures.is_empty() {
        let first = problems.first();
        let first = first.map_or_else(String::new, |(path, problem)| format!("{path}: {problem}"));
        return Err(RunError::Settings {
            reason: format!(
                "none of the pictures of {} could be opened, so nothing can be scored; the first: {first}",
                info.title
            ),
        }
        .into());
    }
    Ok(BenchmarkSummary {
        key: info.key.clone(),
        title: info.title.clone(),
        main: info.main.clone(),
        problems,
        measures,
    })
}

/// A measure of all encoders; nothing where no item was scored.
fn measure(
    shape: &MeasureRecord,
    of_encoders: &[Vec<Vec<Option<f64>>>],
    settings: &MeasuringSettings,
) -> Result<Option<MeasureSummary>> {
    let scored: Vec<usize> = (0..shape.outcomes.len())
        .filter(|item| {
            of_encoders
                .iter()
                .flatten()
                .all(|values| values[*item].is_some())
        })
        .collect();
    if scored.is_empty() {
        return Ok(None);
    }
    let groups: Vec<u32> = scored
        .iter()
        .map(|item| shape.groups.get(*item).copied().unwrap_or(0))
        .collect();
    let clusters = match shape.clusters.is_empty() {
        true => Clusters::singletons(scored.len()),
        false => Clusters::by_label(
            scored
                .iter()
                .map(|item| shape.clusters.get(*item).copied().unwrap_or(0)),
        ),
    };
    let average = |values: &[f64], items: &[usize]| match shape.average {
        Average::Items => items.iter().map(|item| values[*item]).sum::<f64>() / items.len() as f64,
        Average::Groups => by_group(values, &groups, items),
    };
    let whole: Vec<usize> = (0..scored.len()).collect();
    // By encoder: every item's mean over trainings, and every training's score.
    let mut means: Vec<Vec<f64>> = Vec::with_capacity(of_encoders.len());
    let mut seeds: Vec<Vec<f64>> = Vec::with_capacity(of_encoders.len());
    for trainings in of_encoders {
        let picked: Vec<Vec<f64>> = trainings
            .iter()
            .map(|values| scored.iter().filter_map(|item| values[*item]).collect())
            .collect();
        let count = picked.len().max(1) as f64;
        means.push(
            whole
                .iter()
                .map(|item| picked.iter().map(|values| values[*item]).sum::<f64>() / count)
                .collect(),
        );
        seeds.push(
            picked
                .iter()
                .map(|values| average(values, &whole))
                .collect(),
        );
    }
    let bootstrap = &settings.bootstrap;
    let scores = bootstrap.intervals(&clusters, |items| {
        means.iter().map(|values| average(values, items)).collect()
    })?;
    let differences = match means.len() {
        1 => Vec::new(),
        _ => bootstrap.differences(&clusters, |items| {
            let first = average(&means[0], items);
            means[1..]
                .iter()
                .map(|values| average(values, items) - first)
                .collect()
        })?,
    };
    let first = mean(&seeds[0])?;
    let mut encoders = Vec::with_capacity(means.len());
    for (place, score) in scores.into_iter().enumerate() {
        let own = &seeds[place];
        let against = place
            .checked_sub(1)
            .and_then(|before| differences.get(before));
        encoders.push(EncoderSummary {
            encoder: settings.encoders[place].name.clone(),
            score,
            deviation: sample_deviation(own)?,
            against_first: against.map(|found| Against {
                found: *found,
                better: own.iter().filter(|score| **score > first).count(),
                worse: own.iter().filter(|score| **score < first).count(),
            }),
            seeds: own.clone(),
            paper: None,
        });
    }
    Ok(Some(MeasureSummary {
        measure: shape.name.clone(),
        items: scored.len(),
        clusters: clusters.len(),
        chance: shape.reference.map(|reference| reference.chance),
        encoders,
    }))
}

/// The mean over groups of the mean within each, of these items. A resample may miss a group.
fn by_group(values: &[f64], groups: &[u32], items: &[usize]) -> f64 {
    let most = groups.iter().max().map_or(0, |most| *most as usize + 1);
    let mut sums = vec![(0f64, 0f64); most];
    for item in items {
        let sum = &mut sums[groups[*item] as usize];
        sum.0 += values[*item];
        sum.1 += 1.;
    }
    let there = sums.iter().filter(|(_, count)| *count > 0.);
    let count = there.clone().count() as f64;
    there.map(|(sum, count)| sum / count).sum::<f64>() / count
}

/// The main measures beside the paper's differences.
fn agreement(benchmarks: &[BenchmarkSummary], settings: &MeasuringSettings) -> Vec<Comparison> {
    let mut all = Vec::new();
    for benchmark in benchmarks {
        let main = benchmark
            .measures
            .iter()
            .find(|one| one.measure == benchmark.main);
        let Some((first, others)) = main.and_then(|main| main.encoders.split_first()) else {
            continue;
        };
        for other in others {
            let (Some(base), Some(paper), Some(against)) =
                (first.paper, other.paper, &other.against_first)
            else {
                continue;
            };
            let difference = against.found.difference;
            let mut one = Comparison::new(
                other.encoder.clone(),
                benchmark.title.clone(),
                paper - base,
                difference,
            );
            // The paper claims negation; that the others do not suffer stands in its table alone.
            let is_negation = ["valse", "negrefcocog"].contains(&benchmark.key.as_str());
            one.is_claim = is_negation && table2::is_negationclip(&other.encoder);
            all.push(one);
        }
    }
    // By encoder, as the paper's rows are.
    let place = |name: &str| settings.encoders.iter().position(|one| one.name == name);
    all.sort_by_key(|one| place(&one.subject));
    all
}

fn csv(summary: &Summary) -> String {
    let mut text = String::from(
        "benchmark,measure,encoder,trainings,items,clusters,chance,score,low,high,deviation,\
         lowest_training,highest_training,difference,difference_low,difference_high,p_value,\
         trainings_better,trainings_worse,paper\n",
    );
    let shown = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    for benchmark in &summary.benchmarks {
        for measure in &benchmark.measures {
            for one in &measure.encoders {
                let against = one.against_first.as_ref();
                let difference = against.map(|against| against.found.difference);
                let count = |of: fn(&Against) -> usize| {
                    against.map_or_else(String::new, |against| of(against).to_string())
                };
                // Writing into a string cannot fail.
                let _ = writeln!(
                    text,
                    "{},{},{},{},{},{},{},{:.6},{:.6},{:.6},{},{},{},{},{},{},{},{},{},{}",
                    benchmark.key,
                    csv_field(&measure.measure),
                    csv_field(&one.encoder),
                    one.seeds.len(),
                    measure.items,
                    measure.clusters,
                    shown(measure.chance),
                    one.score.estimate,
                    one.score.low,
                    one.score.high,
                    shown(one.deviation),
                    shown(one.seeds.iter().copied().reduce(f64::min)),
                    shown(one.seeds.iter().copied().reduce(f64::max)),
                    shown(difference.map(|d| d.estimate)),
                    shown(difference.map(|d| d.low)),
                    shown(difference.map(|d| d.high)),
                    shown(against.map(|against| against.found.p_value)),
                    count(|against| against.better),
                    count(|against| against.worse),
                    shown(one.paper),
                );
            }
        }
    }
    text
}
