//! DSG of its released answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use negkit_metrics::{
    Bootstrap, DependentAnswer, DsgReport, DsgScore, Interval, ItemValue, MeanOver, dsg_score,
    yes_or_no,
};
use serde::Deserialize;

use super::{Files, Item, Scored, bad_line, row, unreadable};
use crate::{EvalError, Result, RunError};

/// A line of `vqa_answers_release/*.csv` of j-min/DSG.
#[derive(Deserialize)]
struct Line {
    /// What painted the picture; a file may hold several.
    #[serde(default)]
    t2i_model: String,
    item_id: String,
    question_id: u32,
    /// Ids of the questions it rests on, separated by commas; 0 for none.
    dependency_id: String,
    answer: String,
}

/// DSG of answers in the form that DSG released its own in: a table with the columns `item_id`,
/// `question_id`, `dependency_id` and `answer`, and with `t2i_model` where several models painted. Of
/// each file the pictures of one of these count: `painters`, in the order of the files.
///
/// # Errors
/// When a file cannot be read, holds several painters and none is chosen, dependencies are in a circle
/// or on questions that are not there, or there is no score.
pub fn dsg(
    answers: &Files<'_>,
    painters: [Option<&str>; 2],
    bootstrap: &Bootstrap,
) -> Result<Scored> {
    let read = |path: &Path, painter| read(path, painter);
    let first = read(answers.first, painters[0])?;
    let second = match (answers.second, painters[1]) {
        (Some(path), painter) => Some(read(path, painter)?),
        // Two painters of one file.
        (None, Some(painter)) => Some(read(answers.first, Some(painter))?),
        (None, None) => None,
    };
    let sides = super::Sides { first, second };
    let reports = sides.map(|items| {
        let prompts: Vec<[DsgScore; 1]> = items.values().map(|one| [one.clone()]).collect();
        Ok(DsgReport::new(&prompts, bootstrap)?)
    })?;
    type Part = (
        &'static str,
        fn(&DsgReport) -> Interval,
        fn(&DsgScore) -> f64,
    );
    let parts: [Part; 4] = [
        ("DSG", |all| all.score, |one| one.score),
        ("direct parents only", |all| all.direct, |one| one.direct),
        (
            "without dependencies",
            |all| all.independent,
            |one| one.independent,
        ),
        ("of what can be asked", |all| all.asked, |one| one.asked),
    ];
    let mut rows = Vec::with_capacity(parts.len());
    for (name, interval, value) in parts {
        let items = |found: &BTreeMap<String, DsgScore>| -> Vec<Item> {
            let all = found.iter().map(|(item, score)| ItemValue {
                cluster: item.clone(),
                item: String::new(),
                value: value(score),
            });
            all.collect()
        };
        let pair = sides.pair().map(|(a, b)| (items(a), items(b)));
        let intervals = reports.map(|report| Ok(interval(report)))?;
        rows.push(row(name, intervals, pair, MeanOver::Clusters, bootstrap)?);
    }
    let questions = sides.first.values().map(|one| one.valid.len()).sum();
    Ok(Scored {
        score: "DSG",
        counts: BTreeMap::from([("prompts", sides.first.len()), ("questions", questions)]),
        rows,
        notes: Vec::new(),
    })
}

/// Every item's score.
fn read(path: &Path, painter: Option<&str>) -> Result<BTreeMap<String, DsgScore>> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| bad_row(path, 0, &error))?;
    let mut items: BTreeMap<String, Vec<DependentAnswer>> = BTreeMap::new();
    let mut painters = BTreeSet::new();
    for (index, line) in reader.deserialize().enumerate() {
        let line: Line = line.map_err(|error| bad_row(path, index, &error))?;
        painters.insert(line.t2i_model.clone());
        if painter.is_some_and(|painter| painter != line.t2i_model) {
            continue;
        }
        let parents = line.dependency_id.split(',').map(|id| id.trim().parse());
        let parents: std::result::Result<Vec<u32>, _> = parents.collect();
        let parents = parents.map_err(|_| {
            let found = &line.dependency_id;
            let reason = format!("dependency_id: expected ids such as \"1,4\", found {found:?}");
            bad_line(path, index + 2, reason)
        })?;
        items
            .entry(line.item_id)
            .or_default()
            .push(DependentAnswer {
                id: line.question_id,
                parents,
                right: yes_or_no(&line.answer) == Some(true),
            });
    }
    let wrong = |reason: String| {
        let item = path.display().to_string();
        EvalError::from(RunError::Record { item, reason })
    };
    let listed = painters.iter().cloned().collect::<Vec<_>>().join(", ");
    match painter {
        None if painters.len() > 1 => {
            return Err(wrong(format!(
                "it holds pictures of {listed}: choose one of them"
            )));
        }
        Some(painter) if items.is_empty() => {
            return Err(wrong(format!(
                "it holds no pictures of '{painter}', only of {listed}"
            )));
        }
        _ => {}
    }
    let scores = items.into_iter().map(|(item, answers)| {
        let score = dsg_score(&answers).map_err(|error| RunError::Record {
            item: item.clone(),
            reason: error.to_string(),
        })?;
        Ok((item, score))
    });
    scores.collect()
}

fn bad_row(path: &Path, index: usize, error: &csv::Error) -> RunError {
    if let csv::ErrorKind::Io(source) = error.kind() {
        return unreadable(path, std::io::Error::new(source.kind(), source.to_string()));
    }
    let line = error
        .position()
        .map_or(index as u64 + 2, csv::Position::line);
    bad_line(path, line as usize, error.to_string())
}
