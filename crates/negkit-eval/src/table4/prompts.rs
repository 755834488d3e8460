//! The prompts of Table 4 and what is asked of their pictures.

use std::path::{Path, PathBuf};

use negkit_data::DataError;
use negkit_data::prompts::{read_neg_prompts, read_tifa};
use negkit_digest::sha256;
use negkit_world::language::{self, NegationKind};
use serde::{Deserialize, Serialize};

use super::{NOISES_EACH, TIFA_NOISE};
use crate::{Result, RunError};

/// Seed of the small world's TIFA prompts, from the range of seeds that the small models are tested
/// with and were never trained with.
const MINI_TIFA_SEED: u64 = 2_000_001;
/// Their number.
const MINI_TIFA_PROMPTS: usize = 200;

/// What a prompt counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Neg Score: a prompt with a negation and its two questions.
    NegScore,
    /// TIFA: a prompt and questions with choices.
    Tifa,
}

/// A question about a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptQuestion {
    /// The question.
    pub question: String,
    /// What it is about: `affirmed` or `negated`, or TIFA's type.
    pub element_type: String,
    /// The answers to choose from; none for Neg Score.
    pub choices: Vec<String>,
    /// The right answer.
    pub expected: String,
}

/// A prompt and what is asked of its pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// What it counts for.
    pub task: Task,
    /// Its place in the full list of its task, which decides its noise.
    pub number: usize,
    /// Its id: that of the dataset, or its place.
    pub id: String,
    /// The prompt.
    pub text: String,
    /// What its negation is about, where that is known.
    pub kind: Option<String>,
    /// The questions.
    pub questions: Vec<PromptQuestion>,
}

impl Prompt {
    /// Names it among all prompts; part of a file name.
    pub(super) fn key(&self) -> String {
        match self.task {
            Task::NegScore => format!("neg/{:04}", self.number),
            Task::Tifa => format!("tifa/{:04}", self.number),
        }
    }

    /// The first noise of its own.
    pub(super) fn noise(&self) -> u64 {
        let first = match self.task {
            Task::NegScore => 0,
            Task::Tifa => TIFA_NOISE,
        };
        first + self.number as u64 * NOISES_EACH
    }
}

/// The prompts of the small world: 107 with a negation, and 200 of TIFA.
pub fn mini_prompts() -> Vec<Prompt> {
    let negations = language::negation_prompts().into_iter().enumerate();
    let negations = negations.map(|(number, prompt)| {
        let kind = match prompt.kind {
            NegationKind::Object => "object",
            NegationKind::Attribute => "attribute",
            NegationKind::Action => "action",
            NegationKind::Worn => "worn",
        };
        negation(
            number,
            prompt.prompt,
            [prompt.question1, prompt.question2],
            Some(kind),
        )
    });
    let tifa = language::tifa_items(MINI_TIFA_SEED, MINI_TIFA_PROMPTS);
    let tifa = tifa.into_iter().enumerate().map(|(number, item)| Prompt {
        task: Task::Tifa,
        number,
        id: item.id,
        text: item.caption,
        kind: None,
        questions: item
            .questions
            .into_iter()
            .map(|question| PromptQuestion {
                question: question.question,
                element_type: question.element_type,
                choices: question.choices,
                expected: question.answer,
            })
            .collect(),
    });
    // What nothing is asked about cannot be scored.
    let tifa = tifa.filter(|prompt| !prompt.questions.is_empty());
    negations.chain(tifa).collect()
}

/// The published prompts in a folder, or up to three folders below it:
/// `prompts_with_questions.json`, `tifa_v1.0_text_inputs.json` and
/// `tifa_v1.0_question_answers.json`. Prompts of TIFA that have no questions are left out, as TIFA
/// does.
///
/// # Errors
/// When a file is missing or not what it should be.
pub fn paper_prompts(folder: &Path) -> Result<Vec<Prompt>> {
    let neg = find(
        folder,
        "prompts_with_questions.json",
        "the Neg Score prompts; get it from https://github.com/sepehrkr/SpaceVLM",
    )?;
    const TIFA: &str = "TIFA v1.0; get it from https://github.com/Yushi-Hu/tifa, tifa_v1.0/";
    let inputs = find(folder, "tifa_v1.0_text_inputs.json", TIFA)?;
    let questions = find(folder, "tifa_v1.0_question_answers.json", TIFA)?;
    let negations = read_neg_prompts(&neg)?.into_iter().enumerate();
    let negations = negations.map(|(number, prompt)| {
        negation(
            number,
            prompt.prompt,
            [prompt.question1, prompt.question2],
            None,
        )
    });
    let tifa = read_tifa(&inputs, &questions)?.into_iter().enumerate();
    let tifa = tifa
        .filter(|(_, item)| !item.questions.is_empty())
        .map(|(number, item)| Prompt {
            task: Task::Tifa,
            number,
            id: item.prompt.id,
            text: item.prompt.caption,
            kind: None,
            questions: item
                .questions
                .into_iter()
                .map(|question| PromptQuestion {
                    question: question.question,
                    element_type: question.element_type,
                    choices: question.choices,
                    expected: question.answer,
                })
                .collect(),
        });
    Ok(negations.chain(tifa).collect())
}

/// At most `limit` prompts of each task, from everywhere in its list.
pub fn some(prompts: Vec<Prompt>, limit: usize) -> Vec<Prompt> {
    let mut chosen = Vec::new();
    for task in [Task::NegScore, Task::Tifa] {
        let own: Vec<&Prompt> = prompts.iter().filter(|one| one.task == task).collect();
        let count = own.len().min(limit.max(1));
        chosen.extend((0..count).map(|i| own[i * own.len() / count].clone()));
    }
    chosen
}

fn negation(
    number: usize,
    text: String,
    [affirmed, negated]: [String; 2],
    kind: Option<&str>,
) -> Prompt {
    let question = |question, element_type: &str, expected: &str| PromptQuestion {
        question,
        element_type: element_type.to_owned(),
        choices: Vec::new(),
        expected: expected.to_owned(),
    };
    Prompt {
        task: Task::NegScore,
        number,
        id: number.to_string(),
        text,
        kind: kind.map(str::to_owned),
        questions: vec![
            question(affirmed, "affirmed", "yes"),
            question(negated, "negated", "no"),
        ],
    }
}

/// SHA-256 of all that is painted and asked.
pub(super) fn digest(prompts: &[Prompt]) -> Result<String> {
    let text = serde_json::to_vec(prompts).map_err(|error| RunError::Settings {
        reason: error.to_string(),
    })?;
    Ok(sha256(text))
}

/// A file of that name, in the folder or below it.
fn find(folder: &Path, name: &str, what: &str) -> Result<PathBuf> {
    const DEPTH: usize = 3;
    let mut level = vec![folder.to_owned()];
    for _ in 0..=DEPTH {
        let mut next = Vec::new();
        for folder in &level {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(path);
            }
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            next.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
        }
        next.sort();
        level = next;
    }
    let missing = DataError::Missing {
        path: folder.join(name),
        hint: format!("it holds {what}"),
    };
    Err(missing.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use negkit_shared_data::shared;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_prompt_has_noise_and_a_key_of_its_own() {
        let all = mini_prompts();
        let negations = all.iter().filter(|prompt| prompt.task == Task::NegScore);
        assert_eq!(negations.count(), 107);
        let keys: HashSet<String> = all.iter().map(Prompt::key).collect();
        let noises: HashSet<u64> = all.iter().map(Prompt::noise).collect();
        assert_eq!((keys.len(), noises.len()), (all.len(), all.len()));
        assert!(all.iter().all(|prompt| !prompt.questions.is_empty()));
    }

    #[test]
    fn some_are_from_everywhere_and_keep_their_noise() {
        let all = mini_prompts();
        let few = some(all.clone(), 3);
        assert_eq!(few.len(), 6);
        assert!(few.iter().all(|prompt| all.contains(prompt)));
        assert!(few[2].number > 50, "{}", few[2].number);
        assert_eq!(some(all.clone(), usize::MAX), all);
        assert_ne!(digest(&few).unwrap(), digest(&all).unwrap());
    }

    #[test]
    fn published_files_are_found_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = paper_prompts(folder.path()).unwrap_err().to_string();
        assert!(error.contains("prompts_with_questions.json"), "{error}");
        let neg = r#"[{"Prompt":"a man with no hat","Question1":"Is this a man?","Question2":"Is the man wearing a hat?"}]"#;
        let below = folder.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("prompts_with_questions.json"), neg).unwrap();
        let inputs = r#"[{"id":"coco_1","caption":"a cat"},{"id":"coco_2","caption":"a dog"}]"#;
        std::fs::write(folder.path().join("tifa_v1.0_text_inputs.json"), inputs).unwrap();
        let questions = r#"[{"id":"coco_2","caption":"a dog","question":"is there a dog?",
            "choices":["yes","no"],"answer":"yes","element_type":"animal/human","element":"dog"}]"#;
        std::fs::write(
            folder.path().join("tifa_v1.0_question_answers.json"),
            questions,
        )
        .unwrap();
        let prompts = paper_prompts(folder.path()).unwrap();
        let keys: Vec<String> = prompts.iter().map(Prompt::key).collect();
        assert_eq!(keys, ["neg/0000", "tifa/0001"]);
        assert_eq!(prompts[0].questions[1].expected, "no");
    }

    #[test]
    fn the_published_prompts_are_painted_and_asked_as_they_are() {
        let (Some(shared), Some(_)) = (shared(""), shared("negscore").and(shared("tifa"))) else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        // Of TIFA's questions only a sample is there, on two of its prompts.
        for (from, name) in [
            (
                "negscore/prompts_with_questions.json",
                "prompts_with_questions.json",
            ),
            (
                "tifa/tifa_v1.0_text_inputs.json",
                "tifa_v1.0_text_inputs.json",
            ),
            (
                "tifa/sample_question_answers.json",
                "tifa_v1.0_question_answers.json",
            ),
        ] {
            let bytes = std::fs::read(shared.join(from)).unwrap();
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let prompts = paper_prompts(folder.path()).unwrap();
        let of = |task| prompts.iter().filter(move |prompt| prompt.task == task);
        assert_eq!(of(Task::NegScore).count(), 107);
        for prompt in of(Task::NegScore) {
            let expected: Vec<&str> = prompt.questions.iter().map(|q| &*q.expected).collect();
            assert_eq!(expected, ["yes", "no"], "{}", prompt.text);
        }
        let first = of(Task::NegScore).next().unwrap();
        assert_eq!(first.questions[1].question, "Is the man wearing a hat?");
        // A prompt keeps its place in the list of all, and with it its noise.
        let asked: Vec<(&str, usize)> = of(Task::Tifa)
            .map(|prompt| (&*prompt.id, prompt.questions.len()))
            .collect();
        assert_eq!(asked.iter().map(|(_, count)| count).sum::<usize>(), 19);
        assert!(
            asked.iter().any(|(id, _)| *id == "coco_301091"),
            "{asked:?}"
        );
        let coco = of(Task::Tifa).find(|prompt| prompt.id == "coco_301091");
        let coco = coco.unwrap();
        assert_eq!(coco.questions[0].choices, ["yes", "no"]);
        assert_eq!(coco.noise(), TIFA_NOISE + coco.number as u64 * NOISES_EACH);
    }
}
