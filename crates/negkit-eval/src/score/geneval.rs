//! GenEval of its results, or of what a detector found.

use std::collections::BTreeMap;
use std::path::Path;

use negkit_metrics::{
    Bootstrap, DetectedObject, GenevalClauses, GenevalPicture, GenevalReport, GenevalSettings,
    Interval, ItemValue, MeanOver, geneval,
};
use serde::Deserialize;

use super::{Files, Item, Scored, Sides, bad_line, json_lines, row};
use crate::Result;

/// The tag of prompts with numbers, which GenEval judges by what its detector is surest of.
const COUNTING: &str = "counting";

/// A picture as `evaluate_images.py` writes it, or a line of `evaluation_metadata.jsonl` with the
/// objects that were found.
#[derive(Deserialize)]
struct Line {
    tag: String,
    prompt: String,
    #[serde(default)]
    filename: Option<String>,
    #[serde(default)]
    correct: Option<bool>,
    #[serde(default)]
    objects: Option<Vec<DetectedObject>>,
    #[serde(flatten)]
    clauses: GenevalClauses,
}

/// A picture with its place among those of its prompt.
struct Judged {
    picture: GenevalPicture,
    item: String,
}

/// GenEval of a file of JSON lines, a picture each: either the results that GenEval's own
/// `evaluate_images.py` writes (`tag`, `prompt`, `filename`, `correct`), or lines of
/// `evaluation_metadata.jsonl` (`tag`, `prompt`, `include`, `exclude`) with the `objects` that a
/// detector found (`class`, `confidence`, `bounds`, and `color` where it is asked for).
///
/// Two files are compared picture by picture: the n-th of a prompt with the n-th, in the order of the
/// names of their files, or else of the lines.
///
/// # Errors
/// When a file cannot be read, a line is neither of the two, or there is no score.
pub fn geneval_results(results: &Files<'_>, bootstrap: &Bootstrap) -> Result<Scored> {
    let judged = results.read(read)?;
    let reports = judged.map(|judged| {
        let pictures: Vec<GenevalPicture> = judged.iter().map(|one| one.picture.clone()).collect();
        Ok(GenevalReport::new(&pictures, bootstrap)?)
    })?;
    let mut rows = Vec::new();
    let intervals = |part: fn(&GenevalReport) -> Interval| reports.map(|report| Ok(part(report)));
    // Means over tasks and best pictures of prompts are no means over items.
    let overall = intervals(|report| report.overall)?;
    rows.push(row("GenEval", overall, None, MeanOver::Items, bootstrap)?);
    let prompts = intervals(|report| report.prompts)?;
    rows.push(row(
        "prompts with a right picture",
        prompts,
        None,
        MeanOver::Items,
        bootstrap,
    )?);
    let pair = judged.pair().map(|(a, b)| (items(a, None), items(b, None)));
    let pictures = intervals(|report| report.pictures)?;
    rows.push(row("pictures", pictures, pair, MeanOver::Items, bootstrap)?);
    for (task, first) in &reports.first.tasks {
        let second = reports.second.as_ref();
        let intervals = Sides {
            first: *first,
            second: second.and_then(|report| report.tasks.get(task).copied()),
        };
        let pair = judged.pair();
        let pair = pair.map(|(a, b)| (items(a, Some(task)), items(b, Some(task))));
        rows.push(row(task, intervals, pair, MeanOver::Items, bootstrap)?);
    }
    Ok(Scored {
        score: "GenEval",
        counts: BTreeMap::from([
            ("pictures", judged.first.len()),
            ("tasks", reports.first.tasks.len()),
        ]),
        rows,
        notes: Vec::new(),
    })
}

fn read(path: &Path) -> Result<Vec<Judged>> {
    let mut lines: Vec<(usize, Line)> = json_lines(path)?;
    lines.sort_by(|(_, a), (_, b)| a.filename.cmp(&b.filename));
    let mut pictures: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut judged = Vec::with_capacity(lines.len());
    for (number, line) in lines {
        let right = match (&line.objects, line.correct) {
            (Some(objects), None) => {
                let settings = match line.tag.as_str() {
                    COUNTING => GenevalSettings::COUNTING,
                    _ => GenevalSettings::PUBLISHED,
                };
                let faults = geneval(&line.clauses, objects, &settings);
                let faults = faults.map_err(|error| bad_line(path, number, error.to_string()))?;
                faults.is_empty()
            }
            (None, Some(correct)) => correct,
            _ => {
                let reason = "expected either `correct`, as GenEval writes it, or `objects`";
                return Err(bad_line(path, number, reason).into());
            }
        };
        let place = pictures
            .entry((line.tag.clone(), line.prompt.clone()))
            .or_default();
        *place += 1;
        judged.push(Judged {
            item: place.to_string(),
            picture: GenevalPicture {
                tag: line.tag,
                prompt: line.prompt,
                right,
            },
        });
    }
    Ok(judged)
}

/// The pictures of a task, or of all.
fn items(judged: &[Judged], task: Option<&str>) -> Vec<Item> {
    let own = judged
        .iter()
        .filter(|one| task.is_none_or(|task| task == one.picture.tag));
    own.map(|one| ItemValue {
        cluster: format!("{}: {}", one.picture.tag, one.picture.prompt),
        item: one.item.clone(),
        value: f64::from(u8::from(one.picture.right)),
    })
    .collect()
}
