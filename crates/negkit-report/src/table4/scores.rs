//! The scores of Table 4: the table, differences, and Neg Score by word and kind.

use std::collections::BTreeMap;

use negkit_eval::table4::{self, Task};
use negkit_metrics::{Bootstrap, QuestionScore, TifaReport, bootstrap_interval};
use serde::Deserialize;

use super::{Prompt, Table4Run, score};
use crate::Result;
use crate::chart::{Bar, BarGroup, Chart, ForestRow, bars, forest};
use crate::report::Context;
use crate::score::{Difference, Interval};
use crate::view::{Part, ScoreCell, ScoreRow, ScoreTable};

/// What is read of `summary.json`.
#[derive(Deserialize)]
struct Summary {
    baseline: String,
    encoders: Vec<EncoderSummary>,
}

#[derive(Deserialize)]
struct EncoderSummary {
    text_encoder: String,
    neg_score: Interval,
    affirmed: Interval,
    negated: Interval,
    tifa: Interval,
    against_baseline: Option<Against>,
    paper: Option<Paper>,
}

#[derive(Deserialize)]
struct Against {
    neg_score: Difference,
    affirmed: Difference,
    negated: Difference,
    tifa: Difference,
    mcnemar: McNemar,
}

#[derive(Deserialize)]
struct McNemar {
    only_a: u64,
    only_b: u64,
}

#[derive(Deserialize)]
struct Paper {
    tifa: f64,
    neg_score: f64,
}

/// The names of the scores, in the order of [`EncoderSummary::scores`].
const SCORES: [&str; 4] = ["Neg Score", "affirmed", "negated", "TIFA"];

impl EncoderSummary {
    fn scores(&self) -> [&Interval; SCORES.len()] {
        [&self.neg_score, &self.affirmed, &self.negated, &self.tifa]
    }

    fn differences(&self) -> Option<[&Difference; SCORES.len()]> {
        let found = self.against_baseline.as_ref()?;
        Some([
            &found.neg_score,
            &found.affirmed,
            &found.negated,
            &found.tifa,
        ])
    }

    fn papers(&self) -> [Option<f64>; SCORES.len()] {
        let paper = self.paper.as_ref();
        let neg_score = paper.map(|paper| paper.neg_score);
        [neg_score, None, None, paper.map(|paper| paper.tifa)]
    }
}

impl Table4Run {
    /// The table and its differences.
    pub(super) fn score_parts(&self, context: &Context<'_>) -> Result<Vec<Part>> {
        let found = self
            .run
            .numbers::<Summary, _>(self.done, table4::finals_so_far)?;
        let summary = match found {
            Ok(summary) => summary,
            Err(reason) => {
                return Ok(vec![Part {
                    id: format!("{}-scores", context.id),
                    title: "Scores".to_owned(),
                    text: format!("There is no score yet: {reason}."),
                    ..Part::default()
                }]);
            }
        };
        let mut columns: Vec<String> = SCORES.map(str::to_owned).to_vec();
        let compared = summary
            .encoders
            .iter()
            .any(|e| e.against_baseline.is_some());
        if compared {
            columns.push("pictures won : lost".to_owned());
        }
        let rows = summary.encoders.iter().map(|encoder| {
            let differences = encoder.differences();
            let scores = encoder
                .scores()
                .into_iter()
                .zip(encoder.papers())
                .enumerate();
            let mut cells: Vec<ScoreCell> = scores
                .map(|(index, (score, paper))| {
                    ScoreCell::of(score, differences.map(|all| all[index]), paper)
                })
                .collect();
            if compared {
                let won = encoder.against_baseline.as_ref();
                let won = won.map(|a| format!("{} : {}", a.mcnemar.only_b, a.mcnemar.only_a));
                cells.push(ScoreCell::plain(won.unwrap_or_default()));
            }
            ScoreRow {
                encoder: Some(context.encoder(&encoder.text_encoder)),
                name: encoder.text_encoder.clone(),
                cells,
            }
        });
        let level = summary.encoders.first().map_or(0.95, |e| e.neg_score.level);
        let table = ScoreTable {
            caption: format!(
                "Scores with {:.0} % bootstrap intervals over prompts, the paper's numbers, and paired \
                 differences to {} on the same prompts and noise",
                level * 100.,
                summary.baseline
            ),
            columns,
            rows: rows.collect(),
        };
        let charts = compared.then(|| difference_chart(&summary, context));
        Ok(vec![Part {
            id: format!("{}-scores", context.id),
            title: "Scores".to_owned(),
            tables: vec![table],
            charts: charts.into_iter().collect(),
            ..Part::default()
        }])
    }

    /// Neg Score by negation word, and by what the negation is about.
    pub(super) fn word_and_kind_charts(&self, context: &Context<'_>) -> Result<Vec<Chart>> {
        let by_word = self.neg_score_by("word", context, |prompt| prompt.word.as_ref())?;
        let by_kind = self.neg_score_by("kind", context, |prompt| prompt.kind.as_ref())?;
        Ok([by_word, by_kind].into_iter().flatten().collect())
    }

    fn neg_score_by(
        &self,
        what: &str,
        context: &Context<'_>,
        label: fn(&Prompt) -> Option<&String>,
    ) -> Result<Option<Chart>> {
        // By label, every encoder's scores.
        let mut values: BTreeMap<&String, Vec<Vec<f64>>> = BTreeMap::new();
        for prompt in self.of(Task::NegScore) {
            let Some(label) = label(prompt).filter(|_| prompt.is_complete()) else {
                continue;
            };
            let own = values.entry(label);
            let own = own.or_insert_with(|| vec![Vec::new(); self.encoders.len()]);
            for (own, record) in own.iter_mut().zip(prompt.records.iter().flatten()) {
                own.push(score(record));
            }
        }
        if values.is_empty() {
            return Ok(None);
        }
        let groups = values.into_iter().map(|(label, of_encoders)| {
            let bars = of_encoders.iter().map(|values| Ok(Some(bar(values)?)));
            Ok(BarGroup {
                label: label.clone(),
                size: prompts(of_encoders[0].len()),
                bars: bars.collect::<Result<_>>()?,
            })
        });
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let title = match what {
            "word" => "Neg Score by negation word",
            _ => "Neg Score by what the negation is about",
        };
        Ok(Some(bars(title, &self.chart_encoders(context), &groups)))
    }

    /// TIFA by the type of its questions.
    pub(super) fn type_charts(&self, context: &Context<'_>) -> Result<Vec<Chart>> {
        let complete = || {
            let prompts = self.of(Task::Tifa).into_iter();
            prompts.filter(|prompt| prompt.is_complete())
        };
        if complete().next().is_none() {
            return Ok(Vec::new());
        }
        let mut groups: BTreeMap<String, BarGroup> = BTreeMap::new();
        for encoder in 0..self.encoders.len() {
            let records = complete().filter_map(|prompt| prompt.records[encoder].as_ref());
            let questions: Vec<QuestionScore> = records
                .flat_map(|record| {
                    record.pictures.iter().flat_map(|picture| {
                        picture.answers.iter().map(|answer| QuestionScore {
                            caption: record.id.clone(),
                            picture: picture.seed,
                            element_type: answer.element_type.clone(),
                            right: answer.right,
                        })
                    })
                })
                .collect();
            for (label, found) in TifaReport::new(&questions, &Bootstrap::default())?.types {
                let group = groups.entry(label.clone()).or_insert_with(|| BarGroup {
                    label,
                    size: match found.questions {
                        1 => "1 question".to_owned(),
                        questions => format!("{questions} questions"),
                    },
                    bars: Vec::new(),
                });
                group.bars.resize_with(encoder, || None);
                group.bars.push(Some(Bar {
                    score: found.accuracy.into(),
                }));
            }
        }
        let groups: Vec<BarGroup> = groups.into_values().collect();
        let title = "TIFA: right answers by what is asked about";
        Ok(vec![bars(title, &self.chart_encoders(context), &groups)])
    }

    fn chart_encoders(&self, context: &Context<'_>) -> Vec<crate::chart::ChartEncoder> {
        let names = self.encoders.iter();
        names.map(|name| context.chart_encoder(name)).collect()
    }
}

fn bar(values: &[f64]) -> Result<Bar> {
    let Bootstrap {
        resamples,
        seed,
        level,
    } = Bootstrap::default();
    Ok(Bar {
        score: bootstrap_interval(values, resamples, seed, level)?.into(),
    })
}

fn prompts(count: usize) -> String {
    match count {
        1 => "1 prompt".to_owned(),
        count => format!("{count} prompts"),
    }
}

fn difference_chart(summary: &Summary, context: &Context<'_>) -> Chart {
    let rows: Vec<ForestRow> = SCORES
        .iter()
        .enumerate()
        .map(|(index, label)| ForestRow {
            label: (*label).to_owned(),
            differences: summary
                .encoders
                .iter()
                .filter_map(|encoder| {
                    let difference = *encoder.differences()?[index];
                    Some((context.chart_encoder(&encoder.text_encoder), difference))
                })
                .collect(),
        })
        .collect();
    let title = format!("Differences to {}", summary.baseline);
    forest(&title, &summary.baseline, &rows)
}
