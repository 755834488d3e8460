//! The numbers of Table 4, from records alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use negkit_metrics::{
    Bootstrap, Interval, ItemValue, McNemar, MeanOver, NegAnswers, PairedDifference, PairedScores,
    QuestionScore, TifaReport, neg_score, picture_scores,
};
use serde::Serialize;

use super::{MINI, Noise, TABLE, Table4Record, Table4Settings, Task};
use crate::agreement::{self, Comparison, Frame, difference};
use crate::csv_field::csv_field;
use crate::paper::PaperRow;
use crate::{Finals, Result, RunError, RunFolder};

#[derive(Serialize)]
struct Summary {
    table: &'static str,
    settings: Table4Settings,
    /// The encoder that the others are compared with.
    baseline: String,
    encoders: Vec<EncoderSummary>,
    /// The differences to the baseline beside the paper's.
    agreement: Vec<Comparison>,
}

#[derive(Serialize)]
struct EncoderSummary {
    text_encoder: String,
    neg_score: Interval,
    affirmed: Interval,
    negated: Interval,
    neg_score_by_kind: BTreeMap<String, Part>,
    neg_score_by_word: BTreeMap<String, Part>,
    tifa: Interval,
    tifa_deviation: Option<f64>,
    tifa_by_type: BTreeMap<String, Part>,
    /// Prompts whose end did not fit the encoder.
    truncated_prompts: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_baseline: Option<Against>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<Paper>,
}

/// A score of some of the prompts, or of some of the questions.
#[derive(Serialize)]
struct Part {
    #[serde(flatten)]
    score: Interval,
    /// Prompts, or for TIFA questions, that it is of.
    items: usize,
}

/// The paper's numbers.
#[derive(Serialize)]
struct Paper {
    tifa: f64,
    neg_score: f64,
}

impl Paper {
    fn of(encoder: &str) -> Option<Self> {
        let (tifa, neg_score) = PaperRow::of(encoder)?.pictures();
        Some(Self { tifa, neg_score })
    }
}

/// Differences to the baseline on the same prompts and noise.
#[derive(Serialize)]
struct Against {
    neg_score: PairedDifference,
    affirmed: PairedDifference,
    negated: PairedDifference,
    tifa: PairedDifference,
    /// Over pictures, which are not independent of each other where a prompt has several.
    mcnemar: McNemar,
}

/// One encoder's records, by task.
struct Own<'a> {
    neg: Vec<&'a Table4Record>,
    tifa: Vec<QuestionScore>,
    truncated: usize,
}

/// The final files of a run whose items are all done.
///
/// # Errors
/// When it is not a run of this table, an item has no record, or there is no score.
pub fn finals(run: &RunFolder) -> Result<Finals> {
    check_table(run)?;
    from_records(run.plan().settings()?, &run.records()?)
}

/// The same of a run that is under way: of those prompts that are done with every encoder.
///
/// # Errors
/// When it is not a run of this table, or no prompt of a score is done with every encoder yet.
pub fn finals_so_far(run: &RunFolder) -> Result<Finals> {
    check_table(run)?;
    let settings: Table4Settings = run.plan().settings()?;
    let mut records: Vec<Table4Record> = Vec::new();
    records.extend(run.records_so_far()?.into_iter().map(|(_, record)| record));
    let mut done: HashMap<(Task, String), usize> = HashMap::new();
    for record in &records {
        *done.entry((record.task, record.id.clone())).or_default() += 1;
    }
    records.retain(|record| {
        done.get(&(record.task, record.id.clone())) == Some(&settings.text_encoders.len())
    });
    from_records(settings, &records)
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

fn from_records(settings: Table4Settings, records: &[Table4Record]) -> Result<Finals> {
    let names: Vec<String> = settings
        .text_encoders
        .iter()
        .map(|encoder| encoder.name.clone())
        .collect();
    let baseline = names.iter().position(|name| negkit::is_own_encoder(name));
    let baseline = baseline.unwrap_or(0);
    let all: Vec<Own<'_>> = names.iter().map(|name| own(records, name)).collect();
    let mut encoders = Vec::with_capacity(names.len());
    let bootstrap = settings.bootstrap;
    for (index, name) in names.iter().enumerate() {
        let against = (index != baseline).then(|| against(&all[baseline], &all[index], &bootstrap));
        let against = against.transpose()?;
        encoders.push(encoder_summary(name, &all[index], against, &bootstrap)?);
    }
    let summary = Summary {
        table: TABLE,
        baseline: names[baseline].clone(),
        settings,
        agreement: agreement(&encoders, &names[baseline]),
        encoders,
    };
    let json = serde_json::to_value(&summary).map_err(|error| RunError::Settings {
        reason: error.to_string(),
    })?;
    Ok(Finals {
        csv: summary_csv(&summary),
        table: table(&summary),
        summary: json,
    })
}

fn own<'a>(records: &'a [Table4Record], encoder: &str) -> Own<'a> {
    let own = || {
        records
            .iter()
            .filter(|record| record.text_encoder == encoder)
    };
    let of = |task| own().filter(move |record| record.task == task);
    let tifa = of(Task::Tifa).flat_map(|record| {
        record.pictures.iter().flat_map(|picture| {
            picture.answers.iter().map(|answer| QuestionScore {
                caption: record.id.clone(),
                picture: picture.seed,
                element_type: answer.element_type.clone(),
                right: answer.right,
            })
        })
    });
    Own {
        neg: of(Task::NegScore).collect(),
        tifa: tifa.collect(),
        truncated: own().filter(|record| record.truncated.is_some()).count(),
    }
}

/// The two answers on every picture.
fn answers(record: &Table4Record) -> Vec<NegAnswers> {
    let right = |answers: &[super::AnswerRecord], expected: &str| {
        let mut own = answers.iter().filter(|answer| answer.expected == expected);
        own.next().is_some_and(|answer| answer.right)
    };
    let pictures = record.pictures.iter();
    pictures
        .map(|picture| NegAnswers {
            affirmed: right(&picture.answers, "yes"),
            negated: right(&picture.answers, "no"),
        })
        .collect()
}

fn encoder_summary(
    name: &str,
    own: &Own<'_>,
    against: Option<Against>,
    bootstrap: &Bootstrap,
) -> Result<EncoderSummary> {
    let by_prompt: Vec<Vec<NegAnswers>> = own.neg.iter().map(|record| answers(record)).collect();
    let score = neg_score(&by_prompt)?;
    let intervals = score.intervals(bootstrap)?;
    let tifa = TifaReport::new(&own.tifa, bootstrap)?;
    let scored = || own.neg.iter().zip(&score.prompts);
    let by_kind = scored().filter_map(|(record, score)| Some((record.kind.clone()?, score.score)));
    let by_word = scored().map(|(record, score)| (negation_word(&record.prompt), score.score));
    let types = tifa.types.iter();
    Ok(EncoderSummary {
        text_encoder: name.to_owned(),
        neg_score: intervals.score,
        affirmed: intervals.affirmed,
        negated: intervals.negated,
        neg_score_by_kind: parts(by_kind, bootstrap)?,
        neg_score_by_word: parts(by_word, bootstrap)?,
        tifa: tifa.average,
        tifa_deviation: tifa.deviation,
        tifa_by_type: types
            .map(|(name, found)| {
                let part = Part {
                    score: found.accuracy,
                    items: found.questions,
                };
                (name.clone(), part)
            })
            .collect(),
        truncated_prompts: own.truncated,
        against_baseline: against,
        paper: Paper::of(name),
    })
}

fn against(baseline: &Own<'_>, own: &Own<'_>, bootstrap: &Bootstrap) -> Result<Against> {
    let pairs = |part: fn(NegAnswers) -> bool| {
        let values = |own: &Own<'_>| -> Vec<ItemValue<String, u64>> {
            own.neg
                .iter()
                .flat_map(|record| values(record, part))
                .collect()
        };
        PairedScores::new(values(baseline), values(own))
    };
    let both = pairs(NegAnswers::both)?;
    let tifa = PairedScores::new(picture_scores(&baseline.tifa), picture_scores(&own.tifa))?;
    let over = MeanOver::Clusters;
    Ok(Against {
        neg_score: both.bootstrap(over, bootstrap)?,
        affirmed: pairs(|answers| answers.affirmed)?.bootstrap(over, bootstrap)?,
        negated: pairs(|answers| answers.negated)?.bootstrap(over, bootstrap)?,
        tifa: tifa.bootstrap(over, bootstrap)?,
        mcnemar: both.mcnemar()?,
    })
}

/// Of every picture whether `part` of its answers is right.
fn values(record: &Table4Record, part: fn(NegAnswers) -> bool) -> Vec<ItemValue<String, u64>> {
    let pictures = record.pictures.iter().zip(answers(record));
    pictures
        .map(|(picture, answers)| ItemValue {
            cluster: record.id.clone(),
            item: picture.seed,
            value: f64::from(u8::from(part(answers))),
        })
        .collect()
}

/// The mean of every label's values.
fn parts(
    values: impl Iterator<Item = (String, f64)>,
    bootstrap: &Bootstrap,
) -> Result<BTreeMap<String, Part>> {
    let mut by_label: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (label, value) in values {
        by_label.entry(label).or_default().push(value);
    }
    let parts = by_label.into_iter();
    parts
        .map(|(label, values)| {
            let part = Part {
                score: bootstrap.mean(&values)?,
                items: values.len(),
            };
            Ok((label, part))
        })
        .collect()
}

/// The first word of a prompt that denies; "other" without one of the usual.
pub fn negation_word(prompt: &str) -> String {
    const WORDS: [&str; 5] = ["no", "without", "not", "never", "none"];
    let lower = prompt.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    let found = words.find_map(|word| match word {
        word if word.ends_with("n't") || word.ends_with("n’t") => Some("not"),
        word => WORDS.into_iter().find(|one| *one == word),
    });
    found.unwrap_or("other").to_owned()
}

/// Every difference to the baseline that the paper has too.
fn agreement(encoders: &[EncoderSummary], baseline: &str) -> Vec<Comparison> {
    let Some(base) = Paper::of(baseline) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for encoder in encoders {
        let (Some(found), Some(paper)) = (&encoder.against_baseline, &encoder.paper) else {
            continue;
        };
        let name = &encoder.text_encoder;
        let is_claim = PaperRow::of(name) == Some(PaperRow::NegationClip)
            && PaperRow::of(baseline) == Some(PaperRow::Stock);
        for (measure, paper, found) in [
            (
                "Neg Score",
                paper.neg_score - base.neg_score,
                &found.neg_score,
            ),
            ("TIFA", paper.tifa - base.tifa, &found.tifa),
        ] {
            let one = Comparison::new(name.clone(), measure.into(), paper, found.difference);
            all.push(Comparison { is_claim, ..one });
        }
    }
    all
}

fn summary_csv(summary: &Summary) -> String {
    let mut text = String::from("text_encoder,score,estimate,low,high,difference,difference_low,");
    text.push_str("difference_high,p_value,paper\n");
    for encoder in &summary.encoders {
        let against = encoder.against_baseline.as_ref();
        let paper = encoder.paper.as_ref();
        let rows = [
            (
                "tifa",
                &encoder.tifa,
                against.map(|one| &one.tifa),
                paper.map(|paper| paper.tifa),
            ),
            (
                "neg_score",
                &encoder.neg_score,
                against.map(|one| &one.neg_score),
                paper.map(|paper| paper.neg_score),
            ),
            (
                "affirmed",
                &encoder.affirmed,
                against.map(|one| &one.affirmed),
                None,
            ),
            (
                "negated",
                &encoder.negated,
                against.map(|one| &one.negated),
                None,
            ),
        ];
        for (score, value, difference, paper) in rows {
            let name = csv_field(&encoder.text_encoder);
            let (estimate, low, high) = (value.estimate, value.low, value.high);
            let _ = write!(text, "{name},{score},{estimate},{low},{high},");
            match difference {
                Some(PairedDifference {
                    difference: d,
                    p_value,
                }) => {
                    let _ = write!(text, "{},{},{},{p_value},", d.estimate, d.low, d.high);
                }
                None => text.push_str(",,,,"),
            }
            let _ = writeln!(text, "{}", paper.map(|v| v.to_string()).unwrap_or_default());
        }
    }
    text
}

fn table(summary: &Summary) -> String {
    let settings = &summary.settings;
    let mut text = String::from("# Table 4: pictures, text encoder swapped\n\n");
    let _ = writeln!(
        text,
        "Scale {}: {} prompts with a negation, {} pictures of each; {} prompts of TIFA, {} of each. \
         {} steps of {}, guidance {}, {}, {} x {} pixels, {} on {}; answers by {}{}. The safety \
         checker is off. In brackets {:.0} % bootstrap intervals over prompts ({} resamples).\n",
        settings.scale,
        settings.neg_prompts,
        settings.images_per_prompt,
        settings.tifa_prompts,
        settings.tifa_images_per_prompt,
        settings.steps,
        settings.scheduler,
        settings.guidance_scale,
        settings.noise,
        settings.width,
        settings.height,
        settings.compute.dtype,
        settings.compute.device,
        settings.answerer.name,
        settings
            .sentences
            .as_ref()
            .map_or(String::new(), |model| format!(
                ", choices by {}",
                model.name
            )),
        settings.bootstrap.level * 100.,
        settings.bootstrap.resamples,
    );
    if settings.scale == MINI {
        text.push_str(agreement::MINI_NOTE);
    }
    text.push_str(
        "| text encoder | TIFA | paper | Neg Score | paper | affirmed | negated |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for encoder in &summary.encoders {
        let paper = |of: fn(&Paper) -> f64| match &encoder.paper {
            Some(paper) => format!("{:.3}", of(paper)),
            None => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            encoder.text_encoder.replace('|', "\\|"),
            shown(&encoder.tifa),
            paper(|paper| paper.tifa),
            shown(&encoder.neg_score),
            paper(|paper| paper.neg_score),
            shown(&encoder.affirmed),
            shown(&encoder.negated)
        );
    }
    let _ = writeln!(
        text,
        "\nTIFA's sample standard deviation over captions: {}.",
        listed(summary.encoders.iter().map(|encoder| {
            let deviation = encoder.tifa_deviation;
            let deviation = deviation.map_or("none".to_owned(), |value| format!("{value:.3}"));
            format!("{} {deviation}", encoder.text_encoder)
        }))
    );
    differences(&mut text, summary);
    text
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn shown(value: &Interval) -> String {
    let Interval {
        estimate,
        low,
        high,
        ..
    } = value;
    format!("{estimate:.3} [{low:.3}, {high:.3}]")
}

/// The differences to the baseline, and how they read beside the paper's.
fn differences(text: &mut String, summary: &Summary) {
    let baseline = &summary.baseline;
    let mut rows = String::new();
    for encoder in &summary.encoders {
        let Some(against) = &encoder.against_baseline else {
            continue;
        };
        let _ = writeln!(
            rows,
            "| {} | {} | {} | {} | {} | {} to {}, p {:.2e} |",
            encoder.text_encoder.replace('|', "\\|"),
            difference(&against.tifa.difference),
            difference(&against.neg_score.difference),
            difference(&against.affirmed.difference),
            difference(&against.negated.difference),
            against.mcnemar.only_b,
            against.mcnemar.only_a,
            against.mcnemar.p_value
        );
    }
    if rows.is_empty() {
        return;
    }
    let frame = Frame {
        baseline,
        claim: "raise Neg Score and to leave TIFA as it is",
        note: "",
    };
    let _ = write!(
        text,
        "\n## Against {baseline}, on the same prompts and noise\n\n\
         | text encoder | TIFA | Neg Score | affirmed | negated | pictures won to lost (McNemar) |\n\
         |---|---|---|---|---|---|\n{rows}\n\
         McNemar's test takes pictures for independent; with several of a prompt its p value is too \
         small, and the intervals, which draw prompts, are to be trusted.\n\n{}",
        agreement::section(&frame, &summary.agreement)
    );
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Seeds(seeds) => {
                let seeds = listed(seeds.iter().map(u64::to_string));
                write!(f, "seeds {seeds} for every prompt alike")
            }
        }
    }
}
