//! TIFA and Neg Score of stored answers.

use std::collections::BTreeMap;
use std::path::Path;

use negkit_data::prompts::{TifaQuestion, read_neg_prompts, read_tifa_questions};
use negkit_metrics::{
    Bootstrap, ItemValue, MeanOver, NegAnswers, QuestionScore, TifaReport, neg_score,
};
use negkit_sbert::SentenceEncoder;

use super::{Answers, Files, Item, Scored, Sides, row};
use crate::Result;
use crate::choice::chosen;

/// TIFA of stored answers to the questions in `tifa_v1.0_question_answers.json`. The answers are of any
/// form that [`ReplayAnswerer`](negkit_vqa::replay::ReplayAnswerer) reads, TIFA's own results among
/// them. Without a sentence encoder an answer in other words than its choices is wrong.
///
/// # Errors
/// When a file cannot be read, a picture's key is of no prompt, a question has no answer, or there is
/// no score.
pub fn tifa(
    questions: &Path,
    answers: &Files<'_>,
    sentences: Option<&SentenceEncoder>,
    bootstrap: &Bootstrap,
) -> Result<Scored> {
    let mut by_prompt: BTreeMap<String, Vec<TifaQuestion>> = BTreeMap::new();
    read_tifa_questions(questions, |_, question| {
        by_prompt
            .entry(question.id.clone())
            .or_default()
            .push(question);
        Ok(())
    })?;
    let ids = by_prompt.keys().cloned().collect();
    let files = answers.read(|path| Answers::open(path, &ids))?;
    let judged = files.map(|answers| judge(&by_prompt, answers, sentences))?;
    let reports = judged.map(|judged| {
        let scores: Vec<QuestionScore> = judged.iter().map(|one| one.score.clone()).collect();
        Ok(TifaReport::new(&scores, bootstrap)?)
    })?;
    let average = reports.map(|report| Ok(report.average))?;
    let pictures = judged.pair().map(|(a, b)| (of_pictures(a), of_pictures(b)));
    let mut rows = vec![row(
        "TIFA",
        average,
        pictures,
        MeanOver::Clusters,
        bootstrap,
    )?];
    for name in reports.first.types.keys() {
        let types = Sides {
            first: reports.first.types[name].accuracy,
            second: reports
                .second
                .as_ref()
                .and_then(|report| Some(report.types.get(name)?.accuracy)),
        };
        let questions = judged
            .pair()
            .map(|(a, b)| (of_type(a, name), of_type(b, name)));
        rows.push(row(name, types, questions, MeanOver::Items, bootstrap)?);
    }
    let deviations = reports.map(|report| Ok(report.deviation))?;
    let deviation = |found: Option<f64>| found.map_or("none".to_owned(), |found| found.to_string());
    let mut notes = vec![format!(
        "sample standard deviation over prompts: {}",
        deviation(deviations.first)
    )];
    if let Some(second) = deviations.second {
        notes[0].push_str(&format!(", {}", deviation(second)));
    }
    if sentences.is_none() {
        notes
            .push("no sentence encoder: an answer in other words than its choices is wrong".into());
    }
    Ok(Scored {
        score: "TIFA",
        counts: files.first.counts(by_prompt.len()),
        rows,
        notes,
    })
}

/// A question about a picture, judged.
struct Judged {
    score: QuestionScore,
    picture: String,
    question: usize,
}

fn judge(
    prompts: &BTreeMap<String, Vec<TifaQuestion>>,
    answers: &Answers,
    sentences: Option<&SentenceEncoder>,
) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for (id, pictures) in &answers.pictures {
        for (number, (picture, key)) in (0..).zip(pictures) {
            for (place, question) in prompts[id].iter().enumerate() {
                let answer = answers.find(key, &question.question)?;
                let choice = match answer.refusal {
                    Some(_) => None,
                    None => chosen(&answer.text, &question.choices, sentences)?,
                };
                judged.push(Judged {
                    score: QuestionScore {
                        caption: id.clone(),
                        picture: number,
                        element_type: question.element_type.clone(),
                        right: choice.as_ref() == Some(&question.answer),
                    },
                    picture: picture.clone(),
                    question: place,
                });
            }
        }
    }
    Ok(judged)
}

/// The share of right answers about every picture.
fn of_pictures(judged: &[Judged]) -> Vec<Item> {
    let mut pictures: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
    for one in judged {
        let key = (one.score.caption.as_str(), one.picture.as_str());
        let (right, all) = pictures.entry(key).or_default();
        *right += f64::from(u8::from(one.score.right));
        *all += 1.;
    }
    let items = pictures.into_iter();
    items
        .map(|((cluster, item), (right, all))| ItemValue {
            cluster: cluster.to_owned(),
            item: item.to_owned(),
            value: right / all,
        })
        .collect()
}

/// Every question of a type.
fn of_type(judged: &[Judged], element_type: &str) -> Vec<Item> {
    let own = judged
        .iter()
        .filter(|one| one.score.element_type == element_type);
    own.map(|one| ItemValue {
        cluster: one.score.caption.clone(),
        item: format!("{} {}", one.question, one.picture),
        value: f64::from(u8::from(one.score.right)),
    })
    .collect()
}

/// Neg Score of stored answers to the two questions on each prompt of `prompts_with_questions.json`. A
/// prompt's id is its place in the file, from 0.
///
/// # Errors
/// As [`tifa`].
pub fn neg_prompts(prompts: &Path, answers: &Files<'_>, bootstrap: &Bootstrap) -> Result<Scored> {
    let prompts = read_neg_prompts(prompts)?;
    let ids = (0..prompts.len()).map(|place| place.to_string()).collect();
    let files = answers.read(|path| Answers::open(path, &ids))?;
    let found = files.map(|answers| {
        let mut found: BTreeMap<String, BTreeMap<String, NegAnswers>> = BTreeMap::new();
        for (place, prompt) in prompts.iter().enumerate() {
            let id = place.to_string();
            for (picture, key) in answers.pictures.get(&id).into_iter().flatten() {
                let text = |question: &str| {
                    let answer = answers.find(key, question)?;
                    Ok::<_, crate::EvalError>(match answer.refusal {
                        Some(_) => "",
                        None => answer.text.as_str(),
                    })
                };
                let both =
                    NegAnswers::from_answers(text(&prompt.question1)?, text(&prompt.question2)?);
                let of_prompt = found.entry(id.clone()).or_default();
                of_prompt.insert(picture.clone(), both);
            }
        }
        Ok(found)
    })?;
    let scores = found.map(|found| {
        let by_prompt: Vec<Vec<NegAnswers>> = found
            .values()
            .map(|pictures| pictures.values().copied().collect())
            .collect();
        Ok(neg_score(&by_prompt)?.intervals(bootstrap)?)
    })?;
    type Part = fn(NegAnswers) -> bool;
    let parts: [(&str, Part); 3] = [
        ("Neg Score", NegAnswers::both),
        ("affirmed", |answers| answers.affirmed),
        ("negated", |answers| answers.negated),
    ];
    let mut rows = Vec::with_capacity(parts.len());
    for (index, (name, part)) in parts.into_iter().enumerate() {
        let interval = scores.map(|s| Ok([s.score, s.affirmed, s.negated][index]))?;
        let items = |found: &BTreeMap<String, BTreeMap<String, NegAnswers>>| -> Vec<Item> {
            let all = found.iter().flat_map(|(id, pictures)| {
                pictures.iter().map(move |(picture, answers)| ItemValue {
                    cluster: id.clone(),
                    item: picture.clone(),
                    value: f64::from(u8::from(part(*answers))),
                })
            });
            all.collect()
        };
        let pair = found.pair().map(|(a, b)| (items(a), items(b)));
        rows.push(row(name, interval, pair, MeanOver::Clusters, bootstrap)?);
    }
    Ok(Scored {
        score: "Neg Score",
        counts: files.first.counts(prompts.len()),
        rows,
        notes: Vec::new(),
    })
}
