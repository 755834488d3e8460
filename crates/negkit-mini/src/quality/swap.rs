//! mini-sd and mini-clipseg with other text encoders in the stock one's place.

use std::collections::BTreeMap;

use negkit_metrics::{NegAnswers, mcnemar_exact, neg_score, tifa_score};
use negkit_world::Scene;
use negkit_world::language::{self, NegationKind, NegationPrompt, TifaItem};
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clip::McNemarResult;
use super::clipseg::{Asked, PhraseIous, chosen_threshold, digest_of_asked, mark, ordinary};
use super::painter::{paint, request};
use super::score::{Difference, Score, as_number};
use super::tree::{STOCK, Tree};
use super::{Bench, Section, ask, digest};
use crate::MiniError;
use crate::gallery::draw;

/// First noise of the prompts with a negation; every prompt has a thousand of its own.
const NEGATION_NOISE: u64 = 10_000_000;
/// Noises between the first ones of two prompts.
const NOISES_EACH: u64 = 1000;
/// First noise of TIFA's prompts.
const TIFA_NOISE: u64 = 20_000_000;

/// What becomes of pictures and masks with each text encoder.
#[derive(Debug, Clone, Serialize)]
pub struct SwapQuality {
    /// The encoders, stock first.
    pub encoders: Vec<EncoderSwap>,
    /// Prompts with a negation that were painted.
    pub negation_prompts: usize,
    /// Pictures of each.
    pub pictures_each: usize,
    /// Threshold of the masks, from validation scenes with the stock encoder; none without
    /// mini-clipseg.
    pub threshold: Option<f32>,
    /// Every prompt with a negation.
    pub prompts: Vec<PromptRow>,
}

/// What becomes of pictures and masks with one text encoder.
#[derive(Debug, Clone, Serialize)]
pub struct EncoderSwap {
    /// The encoder.
    #[serde(skip)]
    pub encoder: String,
    /// Neg Score: what is affirmed is there, and what is denied is not.
    pub neg_score: Outcome,
    /// Pictures in which what is affirmed is there.
    pub affirmed: Outcome,
    /// Pictures in which what is denied is not there.
    pub negated: Outcome,
    /// Neg Score by what the negation is about.
    pub neg_score_by_kind: BTreeMap<String, f64>,
    /// Pictures on which this encoder or the stock one alone scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcnemar: Option<McNemarResult>,
    /// TIFA score.
    pub tifa: Outcome,
    /// Right answers by TIFA's categories.
    pub tifa_by_type: BTreeMap<String, f64>,
    /// Mean IoU of phrases; none without mini-clipseg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miou: Option<SwapIou>,
}

/// Mean IoU of the phrases of each sort.
#[derive(Debug, Clone, Serialize)]
pub struct SwapIou {
    /// Phrases such as mini-clipseg was trained on.
    pub ordinary: Option<IouOutcome>,
    /// Expressions without a negation that refer to one of several.
    pub referring: Option<IouOutcome>,
    /// Expressions with a negation.
    pub negated: Option<IouOutcome>,
}

/// A score, and how far it is from the stock encoder's on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// The score.
    #[serde(flatten)]
    pub score: Score,
    /// Minus the stock encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_stock: Option<Difference>,
}

/// An outcome of masks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IouOutcome {
    /// At the threshold from validation scenes.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// At the threshold that is best for this encoder on these phrases.
    pub at_best: f64,
    /// That threshold.
    pub best_threshold: f32,
}

/// A prompt with a negation, and what was painted of it.
#[derive(Debug, Clone, Serialize)]
pub struct PromptRow {
    /// The prompt.
    pub prompt: String,
    /// What its negation is about.
    pub kind: NegationKind,
    /// Neg Score, share affirmed and share negated, by encoder.
    pub scores: BTreeMap<String, [f64; 3]>,
}

/// Answers on one picture of a prompt with a negation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Answered {
    affirmed: bool,
    negated: bool,
}

impl From<Answered> for NegAnswers {
    fn from(answered: Answered) -> Self {
        Self {
            affirmed: answered.affirmed,
            negated: answered.negated,
        }
    }
}

/// IoUs of all sorts of phrases.
#[derive(Debug, Serialize, Deserialize)]
struct Marked {
    ordinary: Option<PhraseIous>,
    referring: Option<PhraseIous>,
    negated: Option<PhraseIous>,
}

/// All that was found with one encoder.
struct Found {
    name: &'static str,
    /// By prompt and picture.
    neg: Vec<Vec<NegAnswers>>,
    /// By prompt and question.
    tifa: Vec<Vec<f64>>,
    marked: Option<Marked>,
}

/// The prompts that are painted: all, or some from everywhere in the list.
fn some_prompts(most: usize) -> Vec<NegationPrompt> {
    let all = language::negation_prompts();
    let count = all.len().min(most.max(1));
    (0..count)
        .map(|i| all[i * all.len() / count].clone())
        .collect()
}

/// Paints the prompts with a negation and asks both questions of every picture.
fn negations(
    bench: &Bench,
    encoder: &str,
    prompts: &[NegationPrompt],
) -> Result<Vec<Vec<Answered>>, MiniError> {
    let each = bench.counts.pictures_each;
    let (mut requests, mut questions) = (Vec::new(), Vec::new());
    for (prompt, first) in prompts
        .iter()
        .zip((NEGATION_NOISE..).step_by(NOISES_EACH as usize))
    {
        for noise in (first..).take(each) {
            requests.push(request(&prompt.prompt, noise));
            questions.push(vec![prompt.question1.clone(), prompt.question2.clone()]);
        }
    }
    let pictures = paint(&bench.tree.sd(encoder)?, &requests, &bench.painting)?;
    let answers = ask(&bench.tree.vqa()?, &pictures, &questions, "answered")?;
    let answered: Vec<Answered> = answers
        .iter()
        .map(|answers| {
            let found = match answers.as_slice() {
                [affirmed, negated] => NegAnswers::from_answers(affirmed, negated),
                _ => NegAnswers::from_answers("", ""),
            };
            Answered {
                affirmed: found.affirmed,
                negated: found.negated,
            }
        })
        .collect();
    Ok(answered.chunks(each).map(<[Answered]>::to_vec).collect())
}

/// Paints TIFA's prompts and asks all their questions: 1 for a right answer, else 0.
fn tifa(bench: &Bench, encoder: &str, items: &[TifaItem]) -> Result<Vec<Vec<f64>>, MiniError> {
    let requests: Vec<_> = items
        .iter()
        .zip(TIFA_NOISE..)
        .map(|(item, noise)| request(&item.caption, noise))
        .collect();
    let questions: Vec<Vec<String>> = items
        .iter()
        .map(|item| item.questions.iter().map(|q| q.question.clone()).collect())
        .collect();
    let pictures = paint(&bench.tree.sd(encoder)?, &requests, &bench.painting)?;
    let answers = ask(&bench.tree.vqa()?, &pictures, &questions, "answered")?;
    let pairs = items.iter().zip(&answers);
    Ok(pairs
        .map(|(item, answers)| {
            let judged = item.questions.iter().zip(answers);
            judged
                .map(|(question, answer)| as_number(question.answer == *answer))
                .collect()
        })
        .collect())
}

/// Referring expressions, at most one of a scene: such without a negation, or such with one.
fn referring(seeds: impl Iterator<Item = u64>, negated: bool) -> Vec<Asked> {
    let asked = seeds.filter_map(|seed| {
        let scene: Scene = language::referring_scene(seed);
        let mut rng = draw("quality-referring", seed);
        let phrases = language::referring_expressions(&scene, &mut rng);
        let fitting: Vec<_> = phrases.iter().filter(|p| p.negated == negated).collect();
        let chosen = (*fitting.choose(&mut rng)?).clone();
        Some((scene, vec![chosen]))
    });
    asked.collect()
}

/// All that is asked of every encoder.
struct Questions {
    negations: Vec<NegationPrompt>,
    tifa: Vec<TifaItem>,
    /// None without mini-clipseg: then pictures alone are compared.
    masks: Option<MaskQuestions>,
}

struct MaskQuestions {
    threshold: f32,
    ordinary: Vec<Asked>,
    referring: Vec<Asked>,
    negated: Vec<Asked>,
}

impl Questions {
    fn of(bench: &Bench) -> Result<Self, MiniError> {
        let threshold = match bench.tree.has("clipseg") {
            true => chosen_threshold(bench, Section::Swap)?,
            false => None,
        };
        let seeds = || bench.held_out.seeds().take(bench.counts.referring_scenes);
        let scenes = || bench.scenes(bench.counts.phrase_scenes).into_iter();
        Ok(Self {
            negations: some_prompts(bench.counts.negation_prompts),
            tifa: language::tifa_items(bench.prompts_seed() + 1, bench.counts.tifa_prompts),
            masks: threshold.map(|threshold| MaskQuestions {
                threshold,
                // One each, so that phrases are independent of each other.
                ordinary: scenes().map(|scene| ordinary(scene, 1)).collect(),
                referring: referring(seeds(), false),
                negated: referring(seeds(), true),
            }),
        })
    }
}

fn marked(bench: &Bench, encoder: &str, masks: &MaskQuestions) -> Result<Marked, MiniError> {
    let model = bench.tree.clipseg(encoder)?;
    let iou = |asked: &[Asked]| match asked.iter().all(|(_, phrases)| phrases.is_empty()) {
        true => Ok(None),
        false => mark(&model, asked, masks.threshold).map(Some),
    };
    Ok(Marked {
        ordinary: iou(&masks.ordinary)?,
        referring: iou(&masks.referring)?,
        negated: iou(&masks.negated)?,
    })
}

/// Measures the stock encoder and those of `encoders`.
pub(super) fn measure(
    bench: &Bench,
    encoders: &[&'static str],
) -> Result<Option<SwapQuality>, MiniError> {
    let questions = Questions::of(bench)?;
    let mut found: Vec<Found> = Vec::new();
    for name in [STOCK].into_iter().chain(encoders.iter().copied()) {
        found.extend(measure_encoder(bench, name, &questions)?);
    }
    let Some(stock) = found.first().filter(|found| found.name == STOCK) else {
        return Ok(None);
    };
    let summaries = found
        .iter()
        .map(|one| summary(bench, one, stock, &questions))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(SwapQuality {
        encoders: summaries,
        negation_prompts: questions.negations.len(),
        pictures_each: bench.counts.pictures_each,
        threshold: questions.masks.as_ref().map(|masks| masks.threshold),
        prompts: rows(&questions.negations, &found)?,
    }))
}

fn measure_encoder(
    bench: &Bench,
    name: &'static str,
    questions: &Questions,
) -> Result<Option<Found>, MiniError> {
    let with = |models: &[&'static str]| -> Vec<&'static str> {
        let own = (name != STOCK).then(|| Tree::encoder_folder(name));
        models.iter().copied().chain(own).collect()
    };
    let settings = json!({
        "prompts": questions.negations.len(),
        "asked": digest(&questions.negations)?,
        "pictures": bench.counts.pictures_each,
        "painting": bench.painting,
    });
    let part = |kind: &str| format!("swap-{kind}-{name}");
    let painted = with(&["sd", "vqa"]);
    let neg = bench.part(Section::Swap, &part("neg"), &painted, settings, || {
        negations(bench, name, &questions.negations)
    })?;
    let settings = json!({
        "prompts": questions.tifa.len(),
        "asked": digest(&questions.tifa)?,
        "painting": bench.painting,
    });
    let tifa = bench.part(Section::Swap, &part("tifa"), &painted, settings, || {
        tifa(bench, name, &questions.tifa)
    })?;
    let marked = match &questions.masks {
        None => None,
        Some(masks) => {
            let asked = [&masks.ordinary, &masks.referring, &masks.negated];
            let asked = asked.into_iter().map(|asked| digest_of_asked(asked));
            let settings = json!({
                "scenes": bench.counts.phrase_scenes,
                "referring": bench.counts.referring_scenes,
                "asked": asked.collect::<Result<Vec<_>, _>>()?,
                "threshold": masks.threshold,
            });
            let models = with(&["clipseg"]);
            bench.part(Section::Swap, &part("masks"), &models, settings, || {
                marked(bench, name, masks)
            })?
        }
    };
    let (Some(neg), Some(tifa)) = (neg, tifa) else {
        return Ok(None);
    };
    let answers = |of_prompt: Vec<Answered>| of_prompt.into_iter().map(Into::into).collect();
    Ok(Some(Found {
        name,
        neg: neg.into_iter().map(answers).collect(),
        tifa,
        marked,
    }))
}

fn summary(
    bench: &Bench,
    found: &Found,
    stock: &Found,
    questions: &Questions,
) -> Result<EncoderSwap, MiniError> {
    let own = neg_score(&found.neg).map_err(MiniError::other)?;
    let theirs = neg_score(&stock.neg).map_err(MiniError::other)?;
    let outcome = |values: &[f64], stock_values: &[f64]| -> Result<Outcome, MiniError> {
        let found = outcome(bench, values, stock_values, found.name)?;
        found.ok_or_else(|| MiniError::other("no prompt was painted"))
    };
    let part = |part: fn(&negkit_metrics::PromptScore) -> f64| {
        let values = |score: &negkit_metrics::NegScore| -> Vec<f64> {
            score.prompts.iter().map(part).collect()
        };
        outcome(&values(&own), &values(&theirs))
    };
    let own_tifa = tifa_score(&found.tifa).map_err(MiniError::other)?;
    let stock_tifa = tifa_score(&stock.tifa).map_err(MiniError::other)?;
    let mcnemar = match found.name {
        STOCK => None,
        _ => {
            let both = |found: &Found| -> Vec<bool> {
                found.neg.iter().flatten().map(|a| a.both()).collect()
            };
            let test = mcnemar_exact(&both(stock), &both(found)).map_err(MiniError::other)?;
            Some(test.into())
        }
    };
    let kinds = questions.negations.iter().zip(&own.prompts);
    let kinds = kinds.map(|(prompt, score)| (kind_name(prompt.kind).to_owned(), score.score));
    let types = questions.tifa.iter().flat_map(|item| &item.questions);
    let types = types.map(|question| question.element_type.clone());
    Ok(EncoderSwap {
        encoder: found.name.to_owned(),
        neg_score: part(|prompt| prompt.score)?,
        affirmed: part(|prompt| prompt.affirmed)?,
        negated: part(|prompt| prompt.negated)?,
        neg_score_by_kind: means(kinds),
        mcnemar,
        tifa: outcome(&own_tifa.captions, &stock_tifa.captions)?,
        tifa_by_type: means(types.zip(found.tifa.iter().flatten().copied())),
        miou: match (&found.marked, &stock.marked) {
            (Some(own), Some(theirs)) => Some(iou_summary(bench, found.name, own, theirs)?),
            _ => None,
        },
    })
}

fn outcome(
    bench: &Bench,
    values: &[f64],
    stock_values: &[f64],
    name: &str,
) -> Result<Option<Outcome>, MiniError> {
    let Some(score) = bench.resampling.mean(values)? else {
        return Ok(None);
    };
    let against_stock = match name {
        STOCK => None,
        _ => bench.resampling.difference(stock_values, values)?,
    };
    Ok(Some(Outcome {
        score,
        against_stock,
    }))
}

fn iou_summary(
    bench: &Bench,
    name: &str,
    own: &Marked,
    stock: &Marked,
) -> Result<SwapIou, MiniError> {
    let one = |own: &Option<PhraseIous>, stock: &Option<PhraseIous>| {
        let (Some(own), Some(stock)) = (own, stock) else {
            return Ok(None);
        };
        // At most one phrase a scene: these lists are of the phrases.
        let phrases = |ious: &PhraseIous| ious.at_chosen.concat();
        let outcome = outcome(bench, &phrases(own), &phrases(stock), name)?;
        Ok::<_, MiniError>(outcome.map(|outcome| IouOutcome {
            outcome,
            at_best: own.best_mean,
            best_threshold: own.best_threshold,
        }))
    };
    Ok(SwapIou {
        ordinary: one(&own.ordinary, &stock.ordinary)?,
        referring: one(&own.referring, &stock.referring)?,
        negated: one(&own.negated, &stock.negated)?,
    })
}

/// Mean of the values of every label.
fn means(values: impl Iterator<Item = (String, f64)>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (label, value) in values {
        let sum = sums.entry(label).or_default();
        sum.0 += value;
        sum.1 += 1;
    }
    sums.into_iter()
        .map(|(label, (sum, count))| (label, sum / count as f64))
        .collect()
}

fn kind_name(kind: NegationKind) -> &'static str {
    match kind {
        NegationKind::Object => "object",
        NegationKind::Attribute => "attribute",
        NegationKind::Action => "action",
        NegationKind::Worn => "worn",
    }
}

fn rows(prompts: &[NegationPrompt], found: &[Found]) -> Result<Vec<PromptRow>, MiniError> {
    let mut rows: Vec<PromptRow> = prompts
        .iter()
        .map(|prompt| PromptRow {
            prompt: prompt.prompt.clone(),
            kind: prompt.kind,
            scores: BTreeMap::new(),
        })
        .collect();
    for one in found {
        let scores = neg_score(&one.neg).map_err(MiniError::other)?;
        for (row, score) in rows.iter_mut().zip(scores.prompts) {
            let parts = [score.score, score.affirmed, score.negated];
            row.scores.insert(one.name.to_owned(), parts);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_prompts_are_from_everywhere_in_the_list() {
        let all = language::negation_prompts();
        assert_eq!(some_prompts(usize::MAX), all);
        let some = some_prompts(4);
        assert_eq!(some.len(), 4);
        assert_eq!(some[0], all[0]);
        let kinds: std::collections::HashSet<_> = some.iter().map(|prompt| prompt.kind).collect();
        assert!(kinds.len() > 1, "{some:?}");
    }

    #[test]
    fn noises_of_prompts_do_not_meet() {
        let most = language::negation_prompts().len() as u64 * NOISES_EACH;
        assert!(NEGATION_NOISE + most < TIFA_NOISE);
        assert!(super::super::Counts::FULL.pictures_each as u64 <= NOISES_EACH);
    }

    #[test]
    fn referring_expressions_are_of_the_sort_that_is_asked_for() {
        for negated in [false, true] {
            let asked = referring(crate::recipe::TEST.take(60), negated);
            assert!(asked.len() > 20, "{} of 60 scenes", asked.len());
            for (scene, phrases) in &asked {
                assert_eq!(phrases.len(), 1);
                assert_eq!(phrases[0].negated, negated, "{}", phrases[0].text);
                assert_eq!(phrases[0].things.len(), 1);
                assert!(phrases[0].things[0] < scene.things.len());
            }
        }
    }
}
