//! The caption pipelines over scenes: every negation that comes out is true, and nothing is lost
//! without a reason.

use std::collections::BTreeMap;

use negkit_captions::{
    CaptionError, CaptionWriter, ImageRef, ObjectVerifier, Outcome, QualityGate, RandomObjects,
    Reason, Source, SourceCaption, Verdict, VqaPair, holds_negation, p1, p1_caption, p2, rand_p1,
};
use negkit_world::language::{CaptionStyle, caption_with, is_test_prompt, questions};
use negkit_world::writers::{WorldVerifier, WorldWriter, hard_negative};
use negkit_world::{Kind, Scene};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn sources(count: u64) -> Vec<SourceCaption> {
    let style = CaptionStyle {
        negation_share: 0.,
        ..CaptionStyle::default()
    };
    (0..count)
        .map(|id| {
            let mut rng = ChaCha8Rng::seed_from_u64(id);
            SourceCaption {
                id,
                image: ImageRef::new(id),
                text: caption_with(&Scene::sample(id), &style, &mut rng).text,
            }
        })
        .collect()
}

#[test]
fn p1_states_absences_that_are_true() {
    let (writer, verifier, gate) = (
        WorldWriter::new(1),
        WorldVerifier::by_seed(),
        QualityGate::default(),
    );
    let captions = sources(4000);
    let outcomes: Vec<Outcome> = p1(captions.clone(), &writer, &verifier, &gate).collect();
    assert_eq!(outcomes.len(), 4000);
    let (mut made, mut there) = (0, 0);
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    let mut early = 0;
    for (outcome, source) in outcomes.iter().zip(&captions) {
        match outcome {
            Ok(record) => {
                made += 1;
                assert_eq!(
                    (record.image_id, record.caption_id),
                    (source.image.id, source.id)
                );
                let object = record.object.as_deref().unwrap();
                let kind = Kind::from_name(object).unwrap();
                assert!(!Scene::sample(record.image_id).contains(kind));
                assert!(holds_negation(&record.updated_caption));
                assert!(
                    !is_test_prompt(&record.updated_caption),
                    "{}",
                    record.updated_caption
                );
                assert!(
                    !record.updated_caption.contains(" a a ")
                        && !record.updated_caption.contains("  ")
                );
                for word in ["no", "not", "without"] {
                    let position = record.updated_caption.split(' ').position(|w| w == word);
                    if let Some(position) = position {
                        *words.entry(word).or_default() += 1;
                        let length = record.updated_caption.split(' ').count();
                        early += usize::from(position * 2 < length);
                    }
                }
            }
            Err(rejected) => {
                assert!(
                    matches!(rejected.reason, Reason::ObjectThere { .. }),
                    "{rejected}"
                );
                there += 1;
            }
        }
    }
    assert!(made > 2500 && there > 100, "{made} {there}");
    assert!(
        words["no"] > 500 && words["without"] > 500 && words["not"] > 20,
        "{words:?}"
    );
    assert!(
        early * 4 > made && early * 4 < 3 * made,
        "{early} of {made} in the first half"
    );
}

#[test]
fn p2_states_what_the_answers_say() {
    let (writer, gate) = (WorldWriter::new(2), QualityGate::default());
    let mut pairs = Vec::new();
    for source in sources(1500) {
        let mut rng = ChaCha8Rng::seed_from_u64(source.id ^ 77);
        for question in questions(&Scene::sample(source.id), &mut rng) {
            if question.grounded {
                let pair = VqaPair {
                    question_id: pairs.len() as u64,
                    image: source.image.clone(),
                    question: question.text,
                    answer: question.answer,
                };
                pairs.push((source.clone(), pair));
            }
        }
    }
    let total = pairs.len();
    let outcomes: Vec<Outcome> = p2(pairs, &writer, &gate).collect();
    assert_eq!(outcomes.len(), total);
    let mut made = 0;
    for outcome in outcomes {
        match outcome {
            Ok(record) => {
                made += 1;
                assert_eq!(record.source, Source::P2);
                let text = &record.updated_caption;
                assert!(holds_negation(text) && !is_test_prompt(text), "{text}");
                let question = record.question.unwrap();
                let asked = question.trim_end_matches('?').rsplit(' ').next().unwrap();
                let object = question.starts_with("Is th") && !question.starts_with("Is the ")
                    || question.starts_with("Are");
                assert!(object || text.contains(asked), "{question} {text}");
            }
            Err(rejected) => assert!(
                matches!(
                    rejected.reason,
                    Reason::AnswerNotNo { .. }
                        | Reason::Failed(CaptionError::NothingToWrite { .. })
                ),
                "{rejected}"
            ),
        }
    }
    assert!(made > 3000, "{made} of {total}");
}

#[test]
fn random_objects_are_drawn_from_all_and_verified() {
    let (writer, verifier, gate) = (
        WorldWriter::new(3),
        WorldVerifier::by_seed(),
        QualityGate::default(),
    );
    let objects = RandomObjects {
        vocabulary: Kind::ALL.iter().map(|kind| kind.to_string()).collect(),
        seed: 5,
    };
    let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in rand_p1(sources(3000), &objects, &writer, &verifier, &gate).flatten() {
        assert_eq!(outcome.source, Source::RandP1);
        let object = outcome.object.unwrap();
        assert!(!Scene::sample(outcome.image_id).contains(Kind::from_name(&object).unwrap()));
        *drawn.entry(object).or_default() += 1;
    }
    assert_eq!(drawn.len(), Kind::ALL.len());
}

/// Answers with whatever it is told to.
struct Careless(&'static str);

impl CaptionWriter for Careless {
    fn name_absent_object(&self, _: &SourceCaption) -> Result<String, CaptionError> {
        Ok("umbrella".to_owned())
    }
    fn write_absence(&self, _: &SourceCaption, _: &str) -> Result<String, CaptionError> {
        Ok(self.0.to_owned())
    }
    fn write_denial(&self, _: &SourceCaption, _: &str) -> Result<String, CaptionError> {
        Ok(self.0.to_owned())
    }
}

struct Says(Result<Verdict, CaptionError>);

impl ObjectVerifier for Says {
    fn is_there(&self, _: &ImageRef, _: &str) -> Result<Verdict, CaptionError> {
        self.0.clone()
    }
}

#[test]
fn bad_answers_are_rejected_with_their_reason() {
    let source = SourceCaption {
        id: 7,
        image: ImageRef::new(3),
        text: "a man on a beach".to_owned(),
    };
    let gate = QualityGate::default();
    let run = |answer: &'static str, verdict| {
        p1_caption(&source, &Careless(answer), &Says(verdict), &gate)
    };
    assert!(run("a man on a beach without an umbrella", Ok(Verdict::No)).is_ok());
    for answer in [
        "",
        "Sure! Here is the caption: \"a man\"",
        "a man on a beach",
        "no man is there",
        "没有雨伞",
    ] {
        let rejected = run(answer, Ok(Verdict::No)).unwrap_err();
        assert!(
            matches!(rejected.reason, Reason::Gate(_)),
            "{answer}: {rejected}"
        );
        assert_eq!(rejected.written.as_deref(), Some(answer));
    }
    let good = "a man on a beach without an umbrella";
    let reason = |verdict| run(good, verdict).unwrap_err().reason;
    assert!(matches!(
        reason(Ok(Verdict::Yes)),
        Reason::ObjectThere { .. }
    ));
    assert!(matches!(reason(Ok(Verdict::Unsure)), Reason::Unsure { .. }));
    let down = CaptionError::Unavailable {
        service: "the verifier".to_owned(),
        reason: "connection refused".to_owned(),
    };
    assert_eq!(reason(Err(down.clone())), Reason::Failed(down));
    let named = SourceCaption {
        text: "two umbrellas".to_owned(),
        ..source.clone()
    };
    let rejected = p1_caption(&named, &Careless(good), &Says(Ok(Verdict::No)), &gate);
    assert!(matches!(
        rejected.unwrap_err().reason,
        Reason::ObjectNamed { .. }
    ));
}

#[test]
fn hard_negatives_deny_what_is_there_and_fit_the_distractor() {
    let pool: Vec<(u64, Scene)> = (10_000..10_400).map(|id| (id, Scene::sample(id))).collect();
    let mut made = 0;
    for id in 0..500 {
        let scene = Scene::sample(id);
        let mut rng = ChaCha8Rng::seed_from_u64(id);
        let Some(pair) = hard_negative(id, &scene, &pool, &mut rng) else {
            continue;
        };
        made += 1;
        let kind = Kind::from_name(&pair.object).unwrap();
        assert!(scene.contains(kind));
        assert!(holds_negation(&pair.negated_caption) && !holds_negation(&pair.caption));
        let other = Scene::sample(pair.distractor.unwrap());
        assert!(!other.contains(kind));
    }
    assert!(made > 400);
}

#[test]
#[ignore = "prints examples to read"]
fn examples() {
    let (writer, verifier, gate) = (
        WorldWriter::new(1),
        WorldVerifier::by_seed(),
        QualityGate::default(),
    );
    for outcome in p1(sources(60), &writer, &verifier, &gate) {
        match outcome {
            Ok(record) => println!("{} => {}", record.caption, record.updated_caption),
            Err(rejected) => println!("{rejected}"),
        }
    }
    for source in sources(25) {
        let mut rng = ChaCha8Rng::seed_from_u64(source.id ^ 77);
        for question in questions(&Scene::sample(source.id), &mut rng) {
            if question.grounded && question.answer == "no" {
                match writer.write_denial(&source, &question.text) {
                    Ok(text) => println!("{} | {} => {text}", source.text, question.text),
                    Err(error) => println!("{error}"),
                }
            }
        }
    }
}
