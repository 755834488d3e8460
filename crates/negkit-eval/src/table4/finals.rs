//! The numbers of Table 4, from records alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use negkit_metrics::{
    Bootstrap, Interval, ItemValue, McNemar, MeanOver, NegAnswers, PairedDifference, PairedScores,
    QuestionScore, TifaReport, neg_score, picture_scores,
};
use serde::Serialize;

use super::{TABLE, Table4Record, Table4Settings, Task};
use crate::{Finals, Result, RunError, RunFolder};

/// Table 4 of the paper: a row's name in it, TIFA and Neg Score.
type PaperRow = (&'static str, f64, f64);
const PAPER_STOCK: PaperRow = ("SD-1.4", 0.786, 0.295);
const PAPER_CONCLIP: PaperRow = ("SD-1.4 + CoN-CLIP", 0.783, 0.243);
const PAPER_NEGATIONCLIP: PaperRow = ("SD-1.4 + NegationCLIP", 0.790, 0.449);

#[derive(Serialize)]
struct Summary {
    table: &'static str,
    settings: Table4Settings,
    /// The encoder that the others are compared with.
    baseline: String,
    encoders: Vec<EncoderSummary>,
}

#[derive(Serialize)]
struct EncoderSummary {
    text_encoder: String,
    neg_score: Interval,
    affirmed: Interval,
    negated: Interval,
    neg_score_by_kind: BTreeMap<String, f64>,
    neg_score_by_word: BTreeMap<String, f64>,
    tifa: Interval,
    tifa_deviation: Option<f64>,
    tifa_by_type: BTreeMap<String, f64>,
    /// Prompts whose end did not fit the encoder.
    truncated_prompts: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_baseline: Option<Against>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<Paper>,
}

#[derive(Serialize)]
struct Paper {
    row: &'static str,
    tifa: f64,
    neg_score: f64,
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
    if run.plan().table() != TABLE {
        return Err(RunError::Table {
            path: run.path().to_owned(),
            expected: TABLE.to_owned(),
            found: run.plan().table().to_owned(),
        }
        .into());
    }
    from_records(run.plan().settings()?, &run.records()?)
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
    for (index, name) in names.iter().enumerate() {
        let against = (index != baseline).then(|| against(&all[baseline], &all[index]));
        encoders.push(encoder_summary(name, &all[index], against.transpose()?)?);
    }
    let summary = Summary {
        table: TABLE,
        baseline: names[baseline].clone(),
        settings,
        encoders,
    };
    let json = serde_json::to_value(&summary).map_err(|error| RunError::Settings {
        reason: error.to_string(),
    })?;
    Ok(Finals {
        csv: csv(&summary),
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

fn encoder_summary(name: &str, own: &Own<'_>, against: Option<Against>) -> Result<EncoderSummary> {
    let bootstrap = Bootstrap::default();
    let by_prompt: Vec<Vec<NegAnswers>> = own.neg.iter().map(|record| answers(record)).collect();
    let score = neg_score(&by_prompt)?;
    let intervals = score.intervals(&bootstrap)?;
    let tifa = TifaReport::new(&own.tifa, &bootstrap)?;
    let scored = || own.neg.iter().zip(&score.prompts);
    let by_kind = scored().filter_map(|(record, score)| Some((record.kind.clone()?, score.score)));
    let by_word = scored().map(|(record, score)| (negation_word(&record.prompt), score.score));
    let types = tifa.types.iter();
    Ok(EncoderSummary {
        text_encoder: name.to_owned(),
        neg_score: intervals.score,
        affirmed: intervals.affirmed,
        negated: intervals.negated,
        neg_score_by_kind: means(by_kind),
        neg_score_by_word: means(by_word),
        tifa: tifa.average,
        tifa_deviation: tifa.deviation,
        tifa_by_type: types
            .map(|(name, score)| (name.clone(), score.accuracy.estimate))
            .collect(),
        truncated_prompts: own.truncated,
        against_baseline: against,
        paper: paper_row(name).map(|(row, tifa, neg_score)| Paper {
            row,
            tifa,
            neg_score,
        }),
    })
}

fn against(baseline: &Own<'_>, own: &Own<'_>) -> Result<Against> {
    let bootstrap = Bootstrap::default();
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
        neg_score: both.bootstrap(over, &bootstrap)?,
        affirmed: pairs(|answers| answers.affirmed)?.bootstrap(over, &bootstrap)?,
        negated: pairs(|answers| answers.negated)?.bootstrap(over, &bootstrap)?,
        tifa: tifa.bootstrap(over, &bootstrap)?,
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

fn means(values: impl Iterator<Item = (String, f64)>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (label, value) in values {
        let sum = sums.entry(label).or_default();
        sum.0 += value;
        sum.1 += 1;
    }
    let means = sums.into_iter();
    means
        .map(|(label, (sum, count))| (label, sum / count as f64))
        .collect()
}

/// The first word of a prompt that denies; "other" without one of the usual.
fn negation_word(prompt: &str) -> String {
    const WORDS: [&str; 5] = ["no", "without", "not", "never", "none"];
    let lower = prompt.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    let found = words.find_map(|word| match word {
        word if word.ends_with("n't") || word.ends_with("n’t") => Some("not"),
        word => WORDS.into_iter().find(|one| *one == word),
    });
    found.unwrap_or("other").to_owned()
}

/// The paper's row of an encoder: of the encoder itself, not of its ablations.
fn paper_row(name: &str) -> Option<PaperRow> {
    if negkit::is_own_encoder(name) {
        return Some(PAPER_STOCK);
    }
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let letters: String = file.chars().filter(|c| c.is_alphanumeric()).collect();
    let letters = letters.to_lowercase();
    let ablation = ["p1", "p2"].iter().any(|end| letters.ends_with(end));
    match &*letters {
        letters if letters.contains("conclip") => Some(PAPER_CONCLIP),
        letters if letters.contains("negationclip") && !ablation => Some(PAPER_NEGATIONCLIP),
        _ => None,
    }
}

fn csv(summary: &Summary) -> String {
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
            let name = quoted(&encoder.text_encoder);
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

/// A field of CSV.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn table(summary: &Summary) -> String {
    let settings = &summary.settings;
    let mut text = String::from("# Table 4: pictures, text encoder swapped\n\n");
    let _ = writeln!(
        text,
        "Scale {}: {} prompts with a negation, {} pictures of each; {} prompts of TIFA, {} of each. \
         {} steps of {}, guidance {}, seed {}, {} x {} pixels; answers by {}. The safety checker is \
         off. In brackets 95 % bootstrap intervals over prompts.\n",
        settings.scale,
        settings.neg_prompts,
        settings.images_per_prompt,
        settings.tifa_prompts,
        settings.tifa_images_per_prompt,
        settings.steps,
        settings.scheduler,
        settings.guidance_scale,
        settings.seed,
        settings.width,
        settings.height,
        settings.answerer.name
    );
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

/// Whether differences agree with the paper's, said by rule.
fn differences(text: &mut String, summary: &Summary) {
    let baseline = &summary.baseline;
    let baseline_paper = summary.encoders.iter().find_map(|encoder| {
        let own = encoder.text_encoder == *baseline;
        encoder.paper.as_ref().filter(|_| own)
    });
    let mut sentences = Vec::new();
    let mut rows = String::new();
    for encoder in &summary.encoders {
        let Some(against) = &encoder.against_baseline else {
            continue;
        };
        let name = &encoder.text_encoder;
        let _ = writeln!(
            rows,
            "| {} | {} | {} | {} | {} | {} to {}, p {:.2e} |",
            name.replace('|', "\\|"),
            difference_shown(&against.tifa),
            difference_shown(&against.neg_score),
            difference_shown(&against.affirmed),
            difference_shown(&against.negated),
            against.mcnemar.only_b,
            against.mcnemar.only_a,
            against.mcnemar.p_value
        );
        let papers = encoder.paper.as_ref().zip(baseline_paper);
        for (score, found, paper) in [
            (
                "Neg Score",
                &against.neg_score,
                papers.map(|(own, base)| own.neg_score - base.neg_score),
            ),
            (
                "TIFA",
                &against.tifa,
                papers.map(|(own, base)| own.tifa - base.tifa),
            ),
        ] {
            sentences.push(verdict(name, score, found, paper));
        }
    }
    if sentences.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\n## Against {baseline}, on the same prompts and noise\n\n\
         | text encoder | TIFA | Neg Score | affirmed | negated | pictures won to lost (McNemar) |\n\
         |---|---|---|---|---|---|\n{rows}\n\
         McNemar's test takes pictures for independent; with several of a prompt its p value is too \
         small, and the intervals, which draw prompts, are to be trusted.\n\n\
         ## What agrees with the paper\n\n\
         A difference is shown where its interval excludes 0. The paper gives no intervals.\n\n{}\n",
        sentences.join("\n")
    );
}

fn difference_shown(found: &PairedDifference) -> String {
    let Interval {
        estimate,
        low,
        high,
        ..
    } = found.difference;
    format!("{estimate:+.3} [{low:+.3}, {high:+.3}]")
}

fn verdict(name: &str, score: &str, found: &PairedDifference, paper: Option<f64>) -> String {
    let Interval {
        estimate,
        low,
        high,
        ..
    } = found.difference;
    let is_shown = low > 0. || high < 0.;
    let here = format!("here {}", difference_shown(found));
    let Some(paper) = paper else {
        let what = match is_shown {
            true => "a difference is shown",
            false => "no difference is shown",
        };
        return format!("- **{name}, {score}**: {here}; {what}. The paper has no such row.");
    };
    let same = estimate * paper > 0.;
    let what = match (same, is_shown) {
        (true, true) => "**agrees in direction**, and the interval excludes 0",
        (true, false) => "the same direction, but the interval holds 0: **not shown**",
        (false, true) => "**disagrees**: the interval excludes 0 on the other side",
        (false, false) => "not the same direction, and the interval holds 0: **not shown**",
    };
    format!("- **{name}, {score}**: the paper {paper:+.3}, {here}; {what}.")
}
