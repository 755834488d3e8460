//! What mini-sd paints of prompts without a negation, as mini-vqa sees it.

use std::collections::BTreeMap;

use negkit_diffusion::PictureRequest;
use negkit_world::Kind;
use negkit_world::language::{self, AffirmativePrompt, Attribute, Noun};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::painter::{paint, request};
use super::score::{Score, as_number};
use super::tree::STOCK;
use super::{Bench, Section, ask, digest};
use crate::MiniError;

/// Whether pictures show what was asked for. Prompts are what is drawn for the intervals.
#[derive(Debug, Clone, Serialize)]
pub struct SdQuality {
    /// Named objects that are there, worn and held ones included.
    pub objects: Score,
    /// Of these, what stands for itself.
    pub things: Option<Score>,
    /// Of these, what somebody wears or holds; the wearer has to be there, too.
    pub worn: Option<Score>,
    /// Colours that are right, of all objects whose colour is named; an object that is not there
    /// has no right colour.
    pub colours: Option<Score>,
    /// The same, of the objects that are there.
    pub colours_where_there: Option<Score>,
    /// States that are right; as for colours.
    pub states: Option<Score>,
    /// Numbers that are right, where two of a kind are asked for.
    pub counts: Option<Score>,
    /// Places that are right, by the question "What place is this?".
    pub places: Option<Score>,
    /// Pictures on which everything is right.
    pub all_right: Score,
    /// [`SdQuality::objects`] kind by kind, the least often painted first.
    pub kinds: Vec<KindPainted>,
}

/// How often one kind is there where it is named.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KindPainted {
    /// What is named.
    pub kind: Kind,
    /// Pictures that show it.
    pub painted: usize,
    /// Pictures that should.
    pub named: usize,
}

/// What a question checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Aspect {
    Thing,
    Worn,
    Colour,
    State,
    Count,
    Place,
}

/// A question about a picture of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Check {
    aspect: Aspect,
    /// What it asks about; nothing where it asks about the place.
    kind: Option<Kind>,
    question: String,
    /// The right answer.
    answer: String,
    /// The check that has to be right for this one to be: a thing that is not there has no colour.
    needs: Option<usize>,
}

/// All that a prompt says, as questions.
fn checks(prompt: &AffirmativePrompt) -> Vec<Check> {
    let mut all: Vec<Check> = Vec::new();
    let mut add = |(aspect, kind), question: String, answer: String, needs| -> usize {
        all.push(Check {
            aspect,
            kind,
            question,
            answer,
            needs,
        });
        all.len() - 1
    };
    let yes = || "yes".to_owned();
    if let Some(place) = prompt.place {
        add(
            (Aspect::Place, None),
            "What place is this?".to_owned(),
            place.to_string(),
            None,
        );
    }
    for thing in &prompt.things {
        let noun = Noun::Kind(thing.kind);
        let own = Some(thing.kind);
        let several = thing.count > 1;
        let question = language::existence_question(noun, None, several);
        let there = Some(add((Aspect::Thing, own), question, yes(), None));
        if several {
            let question = format!("How many {} are there?", noun.plural());
            add(
                (Aspect::Count, own),
                question,
                thing.count.to_string(),
                there,
            );
        }
        if let Some(colour) = thing.colour {
            let question = language::colour_question(noun);
            add((Aspect::Colour, own), question, colour.to_string(), there);
        }
        if let Some(state) = thing.state {
            let question = language::attribute_question(noun, Attribute::State(state));
            add((Aspect::State, own), question, yes(), there);
        }
        for worn in &thing.worn {
            let question = language::attribute_question(noun, Attribute::Wears(worn.kind, None));
            let kind = Some(worn.kind);
            let there = Some(add((Aspect::Worn, kind), question, yes(), there));
            if let Some(colour) = worn.colour {
                let question = language::worn_colour_question(noun, worn.kind);
                add((Aspect::Colour, kind), question, colour.to_string(), there);
            }
        }
    }
    all
}

/// Which checks are right, given the answers.
fn right(checks: &[Check], answers: &[String]) -> Vec<bool> {
    let mut right: Vec<bool> = Vec::with_capacity(checks.len());
    for (check, answer) in checks.iter().zip(answers) {
        // What a check needs stands before it.
        let needed = check.needs.is_none_or(|needs| right[needs]);
        right.push(needed && *answer == check.answer);
    }
    right
}

/// The prompts with their noise, from the seed `first` on.
pub(super) fn requests(first: u64, prompts: &[AffirmativePrompt]) -> Vec<PictureRequest> {
    let numbered = (first..).zip(prompts);
    numbered
        .map(|(seed, prompt)| request(&prompt.prompt, seed))
        .collect()
}

/// Measures mini-sd.
pub(super) fn measure(bench: &Bench) -> Result<Option<SdQuality>, MiniError> {
    let prompts = language::affirmative_prompts(bench.prompts_seed(), bench.counts.prompts);
    let all: Vec<Vec<Check>> = prompts.iter().map(checks).collect();
    let settings = json!({
        "prompts": prompts.len(),
        "asked": digest(&(&prompts, &all))?,
        "painting": bench.painting,
    });
    let answers = bench.part(Section::Sd, "sd", &["sd", "vqa"], settings, || {
        let model = bench.tree.sd(STOCK)?;
        let pictures = paint(
            &model,
            &requests(bench.prompts_seed(), &prompts),
            &bench.painting,
        )?;
        let questions: Vec<Vec<String>> = all
            .iter()
            .map(|checks| checks.iter().map(|check| check.question.clone()).collect())
            .collect();
        ask(&bench.tree.vqa()?, &pictures, &questions, "answered")
    })?;
    match answers {
        Some(answers) => summary(bench, &all, &answers).map(Some),
        None => Ok(None),
    }
}

fn summary(
    bench: &Bench,
    all: &[Vec<Check>],
    answers: &[Vec<String>],
) -> Result<SdQuality, MiniError> {
    let judged: Vec<Vec<bool>> = all
        .iter()
        .zip(answers)
        .map(|(checks, answers)| right(checks, answers))
        .collect();
    let score = |of: &dyn Fn(&Check, &[bool]) -> bool| -> Result<Option<Score>, MiniError> {
        let clusters: Vec<Vec<f64>> = all
            .iter()
            .zip(&judged)
            .map(|(checks, right)| {
                let own = checks.iter().zip(right);
                own.filter(|(check, _)| of(check, right))
                    .map(|(_, right)| as_number(*right))
                    .collect()
            })
            .collect();
        bench.resampling.clustered(&clusters)
    };
    let of = |aspect: Aspect| score(&move |check, _| check.aspect == aspect);
    let all_right: Vec<f64> = judged
        .iter()
        .map(|right| as_number(right.iter().all(|right| *right)))
        .collect();
    let nothing = || MiniError::other("no prompt names an object");
    Ok(SdQuality {
        objects: score(&|check, _| matches!(check.aspect, Aspect::Thing | Aspect::Worn))?
            .ok_or_else(nothing)?,
        things: of(Aspect::Thing)?,
        worn: of(Aspect::Worn)?,
        colours: of(Aspect::Colour)?,
        colours_where_there: score(&|check, right| {
            check.aspect == Aspect::Colour && check.needs.is_none_or(|needs| right[needs])
        })?,
        states: of(Aspect::State)?,
        counts: of(Aspect::Count)?,
        places: of(Aspect::Place)?,
        all_right: bench.resampling.mean(&all_right)?.ok_or_else(nothing)?,
        kinds: by_kind(all, &judged),
    })
}

fn by_kind(all: &[Vec<Check>], judged: &[Vec<bool>]) -> Vec<KindPainted> {
    let mut counts: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    let checks = all.iter().flatten().zip(judged.iter().flatten());
    for (check, right) in checks {
        if let (Aspect::Thing | Aspect::Worn, Some(kind)) = (check.aspect, check.kind) {
            let (painted, named) = counts.entry(kind).or_default();
            *painted += usize::from(*right);
            *named += 1;
        }
    }
    let mut kinds: Vec<KindPainted> = counts
        .into_iter()
        .map(|(kind, (painted, named))| KindPainted {
            kind,
            painted,
            named,
        })
        .collect();
    let share = |found: &KindPainted| found.painted as f64 / found.named as f64;
    kinds.sort_by(|a, b| share(a).total_cmp(&share(b)));
    kinds
}

#[cfg(test)]
mod tests {
    use negkit_world::language::NamedThing;
    use negkit_world::{Colour, Place, Worn};

    use super::*;

    fn man_with_a_red_hat() -> AffirmativePrompt {
        AffirmativePrompt {
            prompt: "a man in white with a red hat in a park".to_owned(),
            place: Some(Place::Park),
            things: vec![NamedThing {
                kind: Kind::Man,
                count: 1,
                colour: Some(Colour::White),
                state: None,
                worn: vec![Worn {
                    kind: Kind::Hat,
                    colour: Some(Colour::Red),
                }],
            }],
        }
    }

    #[test]
    fn everything_that_a_prompt_says_is_asked_for() {
        let checks = checks(&man_with_a_red_hat());
        let told: Vec<(&str, &str)> = checks
            .iter()
            .map(|check| (check.question.as_str(), check.answer.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("What place is this?", "park"),
                ("Is there a man?", "yes"),
                ("What color is the man dressed in?", "white"),
                ("Is the man wearing a hat?", "yes"),
                ("What color is the man's hat?", "red"),
            ]
        );
    }

    #[test]
    fn kinds_are_counted_where_they_are_named() {
        let checks = vec![checks(&man_with_a_red_hat()); 2];
        let judged = [[true; 5], [true, true, false, false, false]];
        let found = by_kind(&checks, &judged.map(Vec::from));
        let told: Vec<_> = found
            .iter()
            .map(|found| (found.kind, found.painted, found.named))
            .collect();
        assert_eq!(told, [(Kind::Hat, 1, 2), (Kind::Man, 2, 2)]);
    }

    #[test]
    fn what_is_not_there_has_no_right_colour() {
        let checks = checks(&man_with_a_red_hat());
        let judge = |answers: [&str; 5]| right(&checks, &answers.map(str::to_owned));
        assert_eq!(judge(["park", "yes", "white", "yes", "red"]), [true; 5]);
        assert_eq!(
            judge(["park", "no", "white", "yes", "red"]),
            [true, false, false, false, false]
        );
        assert_eq!(
            judge(["beach", "yes", "blue", "no", "red"]),
            [false, true, false, false, false]
        );
    }

    #[test]
    fn questions_have_answers_that_mini_vqa_can_give() {
        let answers = language::answer_vocabulary();
        for prompt in language::affirmative_prompts(crate::recipe::TEST.start, 500) {
            for check in checks(&prompt) {
                assert!(answers.contains(&check.answer.as_str()), "{check:?}");
                assert!(check.needs.is_none_or(|needs| needs < 10));
            }
        }
    }
}
