//! mini-vqa against the truth, and against mini-detector.

use std::collections::BTreeMap;

use image::RgbImage;
use negkit_vqa::detector::MiniDetector;
use negkit_vqa::mini::MiniVqa;
use negkit_world::language::{self, AffirmativePrompt, Noun, QuestionKind};
use negkit_world::{Kind, Place, Scene, Zone};
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use super::agreement::Agreement;
use super::painter::paint;
use super::score::{Score, as_number};
use super::sd::requests;
use super::tree::STOCK;
use super::{Bench, Section, ask, digest, digest_of_scenes, pictures_of};
use crate::MiniError;
use crate::gallery::draw;

/// What mini-vqa answers.
#[derive(Debug, Clone, Serialize)]
pub struct VqaQuality {
    /// Exact answers to questions about test scenes; scenes are what is drawn for the interval.
    pub accuracy: Score,
    /// The same, by what is asked for.
    pub by_kind: BTreeMap<QuestionKind, Score>,
    /// Questions that are answered with yes or no.
    pub yes_no: YesNo,
    /// Questions with other answers.
    pub open: Option<Score>,
    /// Pictures that only went through mini-sd's autoencoder and back: what its UNet can reach at
    /// most. None where there is no mini-sd.
    pub through_autoencoder: Option<OfOtherPictures>,
    /// Scenes as mini-sd paints them ([`Scene::posed`]).
    /// None where that was not measured.
    pub posed: Option<OfOtherPictures>,
    /// With mini-detector, on painted pictures. None where there is no mini-detector.
    pub agreement: Option<Checked>,
    /// With mini-detector, on drawn scenes.
    pub agreement_on_scenes: Option<Checked>,
}

/// Accuracy on questions that are answered with yes or no.
#[derive(Debug, Clone, Serialize)]
pub struct YesNo {
    /// Of all of them.
    pub accuracy: Option<Score>,
    /// Where yes is right.
    pub where_yes: Option<Score>,
    /// Where no is right.
    pub where_no: Option<Score>,
    /// Mean of these two: what says yes to everything has a half.
    pub balanced: Option<f64>,
}

/// As [`VqaQuality::accuracy`], of other pictures than those of the test scenes.
#[derive(Debug, Clone, Serialize)]
pub struct OfOtherPictures {
    /// Exact answers.
    pub accuracy: Score,
    /// The same, by what is asked for.
    pub by_kind: BTreeMap<QuestionKind, Score>,
    /// Questions whether something is there, where it is.
    pub where_there: Option<Score>,
}

/// Two judges on the same pictures.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Questions answered alike; pictures are what is drawn for the interval.
    pub rate: Score,
    /// Cohen's kappa; none where both always say the same.
    pub kappa: Option<f64>,
    /// How often mini-vqa said yes.
    pub vqa_says_yes: f64,
    /// How often mini-detector found it.
    pub detector_says_yes: f64,
    /// How often both did.
    pub counts: Agreement,
    /// Pictures.
    pub pictures: usize,
    /// Kinds on which they disagree most, with disagreements and questions.
    #[serde(serialize_with = "write_worst")]
    pub worst: Vec<(Kind, usize, usize)>,
}

/// As an object: "hat": "3 of 20".
fn write_worst<S: Serializer>(
    worst: &[(Kind, usize, usize)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let entries = worst.iter();
    serializer.collect_map(
        entries.map(|(kind, unlike, asked)| (kind.name(), format!("{unlike} of {asked}"))),
    )
}

/// mini-detector against the truth, with mini-vqa on the same questions.
#[derive(Debug, Clone, Serialize)]
pub struct DetectorQuality {
    /// Whether a kind is there: right answers, of as many kinds that are there as that are not.
    pub accuracy: Score,
    /// Of the kinds that are there.
    pub where_there: Option<Score>,
    /// Of the kinds that are not.
    pub where_not: Option<Score>,
    /// mini-vqa on the same questions.
    pub vqa_on_the_same: Score,
}

/// An answer with what would have been right.
#[derive(Debug, Serialize, Deserialize)]
struct Judged {
    kind: QuestionKind,
    right: String,
    said: String,
}

/// Whether a kind is in a picture.
#[derive(Debug, Serialize, Deserialize)]
struct Sighting {
    kind: Kind,
    /// In the scene, or in the prompt.
    named: bool,
    vqa: bool,
    detector: bool,
}

/// Kinds to ask for: those that are named, and as many others, mostly likely at the place (or, if
/// somebody is there, worn), so that both answers occur.
fn kinds_to_check(named: &[Kind], place: Option<Place>, rng: &mut ChaCha8Rng) -> Vec<(Kind, bool)> {
    let mut own: Vec<Kind> = Vec::new();
    for &kind in named {
        if !own.contains(&kind) {
            own.push(kind);
        }
    }
    let people = own.iter().any(|kind| kind.is_person());
    let is_worn = |kind: Kind| kind.traits().zone == Zone::Person;
    let likely = |kind: Kind| {
        let at_place = place.is_none_or(|place| place.likely().iter().any(|&(k, _)| k == kind));
        (at_place && !is_worn(kind)) || (people && is_worn(kind))
    };
    let others = Kind::ALL.iter().copied().filter(|kind| !own.contains(kind));
    let (mut near, mut far): (Vec<Kind>, Vec<Kind>) = others.partition(|&kind| likely(kind));
    near.shuffle(rng);
    far.shuffle(rng);
    // Of four, one that would be odd there.
    let odd = own.len() / 4;
    let mut chosen: Vec<Kind> = far.choose_multiple(rng, odd).copied().collect();
    chosen.extend(near.into_iter().take(own.len() - chosen.len()));
    let more = own.len() - chosen.len();
    let rest: Vec<Kind> = far
        .into_iter()
        .filter(|kind| !chosen.contains(kind))
        .collect();
    chosen.extend(rest.into_iter().take(more));
    let named = own.into_iter().map(|kind| (kind, true));
    named
        .chain(chosen.into_iter().map(|kind| (kind, false)))
        .collect()
}

fn kinds_of_scene(scene: &Scene) -> Vec<Kind> {
    let own = |thing: &negkit_world::Thing| {
        let worn = thing.worn.iter().map(|worn| worn.kind);
        [thing.kind].into_iter().chain(worn).collect::<Vec<_>>()
    };
    scene.things.iter().flat_map(own).collect()
}

pub(super) fn kinds_of_prompt(prompt: &AffirmativePrompt) -> Vec<Kind> {
    let own = |thing: &language::NamedThing| {
        let worn = thing.worn.iter().map(|worn| worn.kind);
        [thing.kind].into_iter().chain(worn).collect::<Vec<_>>()
    };
    prompt.things.iter().flat_map(own).collect()
}

/// Asks both judges for kinds in pictures.
fn sightings(
    vqa: &MiniVqa,
    detector: &MiniDetector,
    pictures: &[RgbImage],
    kinds: &[Vec<(Kind, bool)>],
) -> Result<Vec<Vec<Sighting>>, MiniError> {
    let questions: Vec<Vec<String>> = kinds
        .iter()
        .map(|of_one| {
            let question =
                |&(kind, _): &_| language::existence_question(Noun::Kind(kind), None, false);
            of_one.iter().map(question).collect()
        })
        .collect();
    let answers = ask(vqa, pictures, &questions, "answered")?;
    let pictures: Vec<&RgbImage> = pictures.iter().collect();
    let detections = detector.detect_batch(&pictures).map_err(MiniError::other)?;
    let pairs = kinds.iter().zip(&answers).zip(&detections);
    Ok(pairs
        .map(|((kinds, answers), found)| {
            let judged = kinds.iter().zip(answers);
            judged
                .map(|(&(kind, named), answer)| Sighting {
                    kind,
                    named,
                    vqa: answer == "yes",
                    detector: found.iter().any(|found| found.kind == kind.name()),
                })
                .collect()
        })
        .collect())
}

/// Measures mini-vqa, and mini-detector where it is.
pub(super) fn measure(
    bench: &Bench,
) -> Result<Option<(VqaQuality, Option<DetectorQuality>)>, MiniError> {
    let scenes = bench.scenes(bench.counts.question_scenes);
    let questions = questions_about(&scenes);
    let settings = json!({
        "scenes": scenes.len(),
        "asked": digest_of_scenes(&scenes, &questions)?,
    });
    let judged = bench.part(
        Section::Vqa,
        "vqa-scenes",
        &["vqa"],
        settings.clone(),
        || judge(bench, &pictures_of(&scenes), &questions),
    )?;
    let Some(judged) = judged else {
        return Ok(None);
    };
    let mut quality = accuracy(bench, &judged)?;
    let name = "vqa-through-autoencoder";
    let through = bench.part(Section::Vqa, name, &["vqa", "sd"], settings, || {
        let made = bench.tree.vae()?.there_and_back(&pictures_of(&scenes))?;
        judge(bench, &made, &questions)
    })?;
    let through = through.map(|judged| of_other_pictures(bench, &judged));
    quality.through_autoencoder = through.transpose()?;
    quality.posed = posed(bench)?;
    let on_scenes = sightings_on_scenes(bench, &scenes)?;
    let on_painted = sightings_on_painted(bench)?;
    quality.agreement = checked(bench, on_painted.as_deref())?;
    quality.agreement_on_scenes = checked(bench, on_scenes.as_deref())?;
    let detector = on_scenes.map(|found| detector_quality(bench, &found));
    Ok(Some((quality, detector.transpose()?.flatten())))
}

/// Those that every scene gives, in an order of its own.
fn questions_about(scenes: &[Scene]) -> Vec<Vec<language::Question>> {
    let of_one =
        |scene: &Scene| language::questions(scene, &mut draw("quality-questions", scene.seed));
    scenes.iter().map(of_one).collect()
}

/// mini-vqa on posed scenes.
fn posed(bench: &Bench) -> Result<Option<OfOtherPictures>, MiniError> {
    let seeds = bench.held_out.seeds().take(bench.counts.question_scenes);
    let scenes: Vec<Scene> = seeds.map(Scene::posed).collect();
    let questions = questions_about(&scenes);
    let settings = json!({
        "scenes": scenes.len(),
        "asked": digest_of_scenes(&scenes, &questions)?,
    });
    let judged = bench.part(Section::Vqa, "vqa-posed", &["vqa"], settings, || {
        judge(bench, &pictures_of(&scenes), &questions)
    })?;
    let found = judged.map(|judged| of_other_pictures(bench, &judged));
    found.transpose()
}

fn of_other_pictures(bench: &Bench, judged: &[Vec<Judged>]) -> Result<OfOtherPictures, MiniError> {
    let there = |judged: &Judged| judged.kind == QuestionKind::Existence && judged.right == "yes";
    Ok(OfOtherPictures {
        accuracy: of_all(bench, judged)?,
        by_kind: right_by_kind(bench, judged)?,
        where_there: share_right(bench, judged, &there)?,
    })
}

/// Both judges on test scenes.
fn sightings_on_scenes(
    bench: &Bench,
    scenes: &[Scene],
) -> Result<Option<Vec<Vec<Sighting>>>, MiniError> {
    let kinds: Vec<Vec<(Kind, bool)>> = scenes
        .iter()
        .map(|scene| {
            let mut rng = draw("quality-kinds", scene.seed);
            kinds_to_check(&kinds_of_scene(scene), Some(scene.place), &mut rng)
        })
        .collect();
    let settings = json!({
        "scenes": scenes.len(),
        "asked": digest_of_scenes(scenes, &kinds)?,
    });
    let models = ["vqa", "detector"];
    bench.part(Section::Vqa, "detector-scenes", &models, settings, || {
        let (vqa, detector) = (bench.tree.vqa()?, bench.tree.detector()?);
        sightings(&vqa, &detector, &pictures_of(scenes), &kinds)
    })
}

/// Both judges on what mini-sd paints of prompts without a negation.
fn sightings_on_painted(bench: &Bench) -> Result<Option<Vec<Vec<Sighting>>>, MiniError> {
    let prompts =
        language::affirmative_prompts(bench.prompts_seed(), bench.counts.checked_pictures);
    let kinds: Vec<Vec<(Kind, bool)>> = (0..)
        .zip(&prompts)
        .map(|(i, prompt)| {
            let mut rng = draw("quality-painted", i);
            kinds_to_check(&kinds_of_prompt(prompt), prompt.place, &mut rng)
        })
        .collect();
    let settings = json!({
        "pictures": prompts.len(),
        "asked": digest(&(&prompts, &kinds))?,
        "painting": bench.painting,
    });
    let models = ["vqa", "detector", "sd"];
    bench.part(Section::Vqa, "vqa-painted", &models, settings, || {
        let model = bench.tree.sd(STOCK)?;
        let pictures = paint(
            &model,
            &requests(bench.prompts_seed(), &prompts),
            &bench.painting,
        )?;
        let (vqa, detector) = (bench.tree.vqa()?, bench.tree.detector()?);
        sightings(&vqa, &detector, &pictures, &kinds)
    })
}

/// mini-vqa's answers to the questions about every picture.
fn judge(
    bench: &Bench,
    pictures: &[RgbImage],
    questions: &[Vec<language::Question>],
) -> Result<Vec<Vec<Judged>>, MiniError> {
    let texts: Vec<Vec<String>> = questions
        .iter()
        .map(|of_one| of_one.iter().map(|q| q.text.clone()).collect())
        .collect();
    let answers = ask(&bench.tree.vqa()?, pictures, &texts, "answered")?;
    let pairs = questions.iter().zip(answers);
    Ok(pairs
        .map(|(questions, answers)| {
            let judged = questions.iter().zip(answers);
            judged
                .map(|(question, said)| Judged {
                    kind: question.kind,
                    right: question.answer.clone(),
                    said,
                })
                .collect()
        })
        .collect())
}

/// The share of right answers to the questions that `of` picks; none where it picks none.
fn share_right(
    bench: &Bench,
    judged: &[Vec<Judged>],
    of: &dyn Fn(&Judged) -> bool,
) -> Result<Option<Score>, MiniError> {
    let clusters: Vec<Vec<f64>> = judged
        .iter()
        .map(|scene| {
            let own = scene.iter().filter(|judged| of(judged));
            own.map(|judged| as_number(judged.said == judged.right))
                .collect()
        })
        .collect();
    bench.resampling.clustered(&clusters)
}

/// The share of right answers to all questions.
fn of_all(bench: &Bench, judged: &[Vec<Judged>]) -> Result<Score, MiniError> {
    let all = share_right(bench, judged, &|_| true)?;
    all.ok_or_else(|| MiniError::other("no scene gave a question"))
}

fn right_by_kind(
    bench: &Bench,
    judged: &[Vec<Judged>],
) -> Result<BTreeMap<QuestionKind, Score>, MiniError> {
    let mut by_kind = BTreeMap::new();
    for kind in judged.iter().flatten().map(|judged| judged.kind) {
        if let std::collections::btree_map::Entry::Vacant(entry) = by_kind.entry(kind)
            && let Some(score) = share_right(bench, judged, &|judged| judged.kind == kind)?
        {
            entry.insert(score);
        }
    }
    Ok(by_kind)
}

fn accuracy(bench: &Bench, judged: &[Vec<Judged>]) -> Result<VqaQuality, MiniError> {
    let score = |of: &dyn Fn(&Judged) -> bool| share_right(bench, judged, of);
    let closed = |judged: &Judged| ["yes", "no"].contains(&judged.right.as_str());
    let where_yes = score(&|judged| judged.right == "yes")?;
    let where_no = score(&|judged| judged.right == "no")?;
    Ok(VqaQuality {
        accuracy: of_all(bench, judged)?,
        by_kind: right_by_kind(bench, judged)?,
        yes_no: YesNo {
            accuracy: score(&closed)?,
            balanced: where_yes
                .zip(where_no)
                .map(|(yes, no)| (yes.mean + no.mean) / 2.),
            where_yes,
            where_no,
        },
        open: score(&|judged| !closed(judged))?,
        through_autoencoder: None,
        posed: None,
        agreement: None,
        agreement_on_scenes: None,
    })
}

fn checked(bench: &Bench, found: Option<&[Vec<Sighting>]>) -> Result<Option<Checked>, MiniError> {
    let Some(found) = found else { return Ok(None) };
    let alike = |seen: &Sighting| seen.vqa == seen.detector;
    let clusters: Vec<Vec<f64>> = found
        .iter()
        .map(|seen| seen.iter().map(|seen| as_number(alike(seen))).collect())
        .collect();
    let Some(rate) = bench.resampling.clustered(&clusters)? else {
        return Ok(None);
    };
    let all = found.iter().flatten();
    let counts = Agreement::of(all.clone().map(|seen| (seen.vqa, seen.detector)));
    let mut worst: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    for seen in all {
        let entry = worst.entry(seen.kind).or_default();
        entry.0 += usize::from(!alike(seen));
        entry.1 += 1;
    }
    let mut worst: Vec<(Kind, usize, usize)> = worst
        .into_iter()
        .filter(|(_, (unlike, _))| *unlike > 0)
        .map(|(kind, (unlike, asked))| (kind, unlike, asked))
        .collect();
    worst.sort_by_key(|&(_, unlike, _)| std::cmp::Reverse(unlike));
    worst.truncate(6);
    let [vqa_says_yes, detector_says_yes] = counts.yes_rates();
    Ok(Some(Checked {
        rate,
        kappa: counts.kappa(),
        vqa_says_yes,
        detector_says_yes,
        counts,
        pictures: found.len(),
        worst,
    }))
}

fn detector_quality(
    bench: &Bench,
    found: &[Vec<Sighting>],
) -> Result<Option<DetectorQuality>, MiniError> {
    let score = |of: &dyn Fn(&Sighting) -> bool, said: fn(&Sighting) -> bool| {
        let clusters: Vec<Vec<f64>> = found
            .iter()
            .map(|seen| {
                let own = seen.iter().filter(|seen| of(seen));
                own.map(|seen| as_number(said(seen) == seen.named))
                    .collect()
            })
            .collect();
        bench.resampling.clustered(&clusters)
    };
    let by_detector = |seen: &Sighting| seen.detector;
    let accuracy = score(&|_| true, by_detector)?;
    let vqa = score(&|_| true, |seen| seen.vqa)?;
    let where_there = score(&|seen| seen.named, by_detector)?;
    let where_not = score(&|seen| !seen.named, by_detector)?;
    Ok(accuracy.zip(vqa).map(|(accuracy, vqa)| DetectorQuality {
        accuracy,
        where_there,
        where_not,
        vqa_on_the_same: vqa,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_kinds_are_asked_for_that_are_not_named() {
        let prompts = language::affirmative_prompts(3, 200);
        let (mut likely, mut others) = (0, 0);
        for (i, prompt) in (0..).zip(&prompts) {
            let named = kinds_of_prompt(prompt);
            let kinds = kinds_to_check(&named, prompt.place, &mut draw("test", i));
            let (yes, no): (Vec<_>, Vec<_>) = kinds.iter().partition(|(_, named)| *named);
            assert_eq!(yes.len(), no.len(), "{}", prompt.prompt);
            assert!(yes.iter().all(|(kind, _)| named.contains(kind)));
            assert!(no.iter().all(|(kind, _)| !named.contains(kind)));
            let mut distinct: Vec<Kind> = kinds.iter().map(|(kind, _)| *kind).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), kinds.len());
            if let Some(place) = prompt.place {
                for (kind, _) in no {
                    let here = place.likely().iter().any(|(other, _)| *other == kind);
                    likely += usize::from(here || kind.traits().zone == Zone::Person);
                    others += usize::from(!here);
                }
            }
        }
        assert!(likely > 150, "{likely} likely, {others} others");
    }

    #[test]
    fn worn_things_of_scenes_are_asked_for() {
        let scene = (0..)
            .map(Scene::sample)
            .find(|scene| scene.things.iter().any(|thing| thing.wears(Kind::Hat)));
        let kinds = scene
            .map(|scene| kinds_of_scene(&scene))
            .unwrap_or_default();
        assert!(kinds.contains(&Kind::Hat), "{kinds:?}");
    }
}
