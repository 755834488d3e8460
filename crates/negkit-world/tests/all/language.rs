//! What is said of a scene is true of it. The judge here reads the words back by a small grammar
//! of its own and looks only at the scene's things.

use std::collections::{BTreeMap, HashSet};

use negkit_world::language::{
    Attribute, CaptionStyle, Negated, affirmative_prompts, answer_vocabulary, caption,
    caption_with, full_caption, is_test_prompt, negation_foil, negation_prompts, ordinary_foil,
    phrases, questions, referring_expressions, referring_scene, tifa_items,
};
use negkit_world::{Colour, Kind, Scene, Size, State, Thing};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A noun phrase read back from words: what a thing must be to be meant.
#[derive(Debug, Clone, Default)]
struct Read {
    noun: String,
    number: Option<usize>,
    colours: Vec<(Colour, bool)>,
    states: Vec<(State, bool)>,
    sizes: Vec<(Size, bool)>,
    worn: Vec<(Kind, Option<Colour>, bool)>,
}

fn covers(noun: &str, kind: Kind) -> bool {
    kind.name() == noun
        || kind.traits().plural == noun
        || match noun {
            "person" | "people" => matches!(kind, Kind::Man | Kind::Woman),
            "animal" | "animals" => matches!(
                kind,
                Kind::Dog | Kind::Cat | Kind::Bird | Kind::Horse | Kind::Cow | Kind::Sheep
            ),
            "vehicle" | "vehicles" => matches!(
                kind,
                Kind::Car | Kind::Bus | Kind::Truck | Kind::Bicycle | Kind::Boat
            ),
            _ => false,
        }
}

fn is_noun(word: &str) -> bool {
    Kind::ALL
        .iter()
        .any(|&kind| kind.name() == word || kind.traits().plural == word)
        || [
            "person", "people", "animal", "animals", "vehicle", "vehicles",
        ]
        .contains(&word)
}

fn is_wearable(word: &str) -> Option<Kind> {
    [Kind::Hat, Kind::Glasses, Kind::Umbrella, Kind::Bag]
        .into_iter()
        .find(|kind| kind.name() == word)
}

impl Read {
    fn fits(&self, thing: &Thing) -> bool {
        covers(&self.noun, thing.kind)
            && self
                .colours
                .iter()
                .all(|&(colour, yes)| (thing.colour == Some(colour)) == yes)
            && self
                .states
                .iter()
                .all(|&(state, yes)| (thing.state == Some(state)) == yes)
            && self
                .sizes
                .iter()
                .all(|&(size, yes)| (thing.size == size) == yes)
            && self.worn.iter().all(|&(kind, colour, yes)| {
                let has = thing
                    .worn
                    .iter()
                    .any(|worn| worn.kind == kind && (colour.is_none() || worn.colour == colour));
                has == yes
            })
    }
}

/// Reads all noun phrases of a text. A thing that is worn or held belongs to the person before it.
fn read(text: &str) -> Vec<Read> {
    let text = text.replace(',', " ,");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut all: Vec<Read> = Vec::new();
    let mut pending = Read::default();
    let mut negative = false;
    let mut after_person = false;
    let mut dressed = false;
    for (i, &word) in words.iter().enumerate() {
        let next = words.get(i + 1).copied().unwrap_or("");
        if word == "not" || word == "no" || word == "without" {
            negative = true;
        } else if let Some(number) = ["one", "two", "three", "four", "five"]
            .iter()
            .position(|w| *w == word)
        {
            pending.number = Some(number + 1);
        } else if let Some(colour) = Colour::from_name(word) {
            if dressed && after_person {
                all.last_mut().unwrap().colours.push((colour, !negative));
                negative = false;
            } else if after_person && !is_noun(next) && State::from_name(next).is_none() {
                // "that is not red"
                all.last_mut().unwrap().colours.push((colour, !negative));
                negative = false;
            } else {
                // Before a worn thing the negation is the thing's, not the colour's.
                let keep = is_wearable(next).is_some() && after_person;
                pending.colours.push((colour, keep || !negative));
                negative &= keep;
            }
            dressed = false;
        } else if word == "small" || word == "large" {
            let size = if word == "small" {
                Size::Small
            } else {
                Size::Large
            };
            if negative && after_person {
                all.last_mut().unwrap().sizes.push((size, false));
                negative = false;
            } else {
                pending.sizes.push((size, true));
            }
        } else if let Some(state) = State::from_name(word) {
            let before_noun = words[i + 1..]
                .iter()
                .take_while(|w| Colour::from_name(w).is_some() || is_noun(w))
                .any(|w| is_noun(w));
            if before_noun {
                pending.states.push((state, true));
            } else if let Some(last) = all.last_mut() {
                last.states.push((state, !negative));
                negative = false;
            }
        } else if is_noun(word) {
            let person = all.iter_mut().rev().find(|read| {
                ["man", "woman", "person", "men", "women", "people"].contains(&&*read.noun)
            });
            match (is_wearable(word), person) {
                (Some(kind), Some(person)) => {
                    let colour = pending.colours.first().map(|&(colour, _)| colour);
                    person.worn.push((kind, colour, !negative));
                }
                _ => {
                    pending.noun = word.to_owned();
                    all.push(std::mem::take(&mut pending));
                    after_person = true;
                }
            }
            pending = Read::default();
            negative = false;
        }
        if word == "in" {
            dressed = Colour::from_name(next).is_some();
        }
    }
    all
}

fn scenes(count: u64) -> impl Iterator<Item = (Scene, ChaCha8Rng)> {
    (0..count).map(|seed| {
        (
            Scene::sample(seed),
            ChaCha8Rng::seed_from_u64(seed ^ 0x5eed),
        )
    })
}

#[test]
fn ordinary_captions_are_true() {
    let style = CaptionStyle {
        negation_share: 0.,
        ..CaptionStyle::default()
    };
    for (scene, mut rng) in scenes(3000) {
        for _ in 0..3 {
            let caption = caption_with(&scene, &style, &mut rng);
            for place in negkit_world::Place::ALL {
                let named = caption.text.split(' ').any(|word| word == place.name());
                assert!(!named || *place == scene.place, "{}", caption.text);
            }
            for word in ["no", "not", "without"] {
                assert!(
                    !caption.text.split(' ').any(|w| w == word),
                    "{}",
                    caption.text
                );
            }
            for read in read(&caption.text) {
                let count = scene.things.iter().filter(|thing| read.fits(thing)).count();
                assert!(count > 0, "{} of {scene:#?}: {read:?}", caption.text);
                assert!(
                    read.number.is_none_or(|number| number == count),
                    "{}: {count}",
                    caption.text
                );
            }
            for kind in Kind::ALL {
                let said = caption
                    .text
                    .replace(',', "")
                    .split(' ')
                    .any(|word| word == kind.name() || word == kind.traits().plural);
                assert_eq!(
                    said,
                    caption.named.contains(kind),
                    "{kind} in {}",
                    caption.text
                );
                assert!(!said || scene.contains(*kind));
            }
            if let Some((before, after)) = caption
                .text
                .split_once(" to the left of ")
                .or_else(|| caption.text.split_once(" on the left of "))
            {
                let at = |text: &str| {
                    let read = read(text).remove(0);
                    let thing = scene.things.iter().find(|thing| read.fits(thing)).unwrap();
                    thing.frame[0] + thing.frame[2] / 2.
                };
                assert!(at(before) < at(after), "{}", caption.text);
            }
        }
    }
}

#[test]
fn negations_in_captions_are_rare_and_mostly_misaligned() {
    let (mut total, mut negative, mut misaligned) = (0u32, 0u32, 0u32);
    for (scene, mut rng) in scenes(20_000) {
        for _ in 0..5 {
            let caption = caption(&scene, &mut rng);
            total += 1;
            let words = caption.text.replace(',', "");
            let said = words
                .split(' ')
                .any(|w| ["no", "not", "without"].contains(&w));
            assert_eq!(said, caption.negation.is_some(), "{}", caption.text);
            assert!(!is_test_prompt(&caption.text));
            let Some(negation) = caption.negation else {
                continue;
            };
            negative += 1;
            assert_eq!(
                negation.negated.is_true(&scene),
                negation.aligned,
                "{}",
                caption.text
            );
            misaligned += u32::from(negation.negated.is_shown(&scene));
        }
    }
    let share = 100. * f64::from(negative) / f64::from(total);
    assert!((share - 0.7).abs() < 0.2, "{share} %");
    let share = f64::from(misaligned) / f64::from(negative);
    assert!(share > 0.8 && share < 0.97, "{share}");
}

#[test]
fn full_captions_tell_everything() {
    for (scene, _) in scenes(500) {
        let text = full_caption(&scene);
        let mut said = 0;
        for read in read(&text) {
            let count = scene.things.iter().filter(|thing| read.fits(thing)).count();
            assert!(count >= read.number.unwrap_or(1), "{text}: {read:?}");
            said += read.number.unwrap_or(1);
            let thing = scene.things.iter().find(|thing| read.fits(thing)).unwrap();
            assert_eq!(read.worn.len(), thing.worn.len(), "{text}");
        }
        assert_eq!(said, scene.things.len(), "{text}");
    }
}

#[test]
fn foils_differ_in_one_object() {
    let mut kinds: BTreeMap<Kind, (u32, u32)> = BTreeMap::new();
    let (mut negative_right, mut total) = (0u32, 0u32);
    for (scene, mut rng) in scenes(4000) {
        if let Some((right, wrong)) = ordinary_foil(&scene, &mut rng) {
            assert!(
                read(&right)
                    .iter()
                    .all(|r| scene.things.iter().any(|t| r.fits(t)))
            );
            let objects = read(&wrong);
            assert_eq!(objects.len(), 1, "{wrong}");
            assert!(!scene.things.iter().any(|t| objects[0].fits(t)), "{wrong}");
        }
        if let Some((right, wrong)) = negation_foil(&scene, &mut rng) {
            let negative = |text: &str| text.split(' ').any(|w| w == "no" || w == "without");
            assert_ne!(negative(&right), negative(&wrong), "{right} / {wrong}");
            let noun = read(&right).remove(0).noun;
            let kind = *Kind::ALL.iter().find(|kind| covers(&noun, **kind)).unwrap();
            assert_eq!(negative(&right), !scene.contains(kind), "{right}");
            total += 1;
            negative_right += u32::from(negative(&right));
            let entry = kinds.entry(kind).or_default();
            if negative(&right) {
                entry.0 += 1
            } else {
                entry.1 += 1
            }
        }
    }
    let share = f64::from(negative_right) / f64::from(total);
    assert!((share - 0.5).abs() < 0.03, "{share}");
    // The kind must not tell the answer: the best guess from the kind alone.
    let guess: u32 = kinds.values().map(|&(a, b)| a.max(b)).sum();
    let guess = f64::from(guess) / f64::from(total);
    assert!(guess < 0.6, "{guess} from the kind alone: {kinds:?}");
}

#[test]
fn phrases_mean_all_that_fits_and_expressions_one() {
    let words: HashSet<&str> = ["no", "not", "without"].into();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut necessary = (0u32, 0u32);
    for (scene, mut rng) in scenes(3000) {
        for phrase in phrases(&scene, &mut rng) {
            assert!(!phrase.negated && !phrase.text.split(' ').any(|w| words.contains(w)));
            if let Some((thing, worn)) = phrase.worn {
                let worn = scene.things[thing].worn[worn];
                assert!(phrase.text.ends_with(worn.kind.name()), "{}", phrase.text);
                continue;
            }
            let read = read(&phrase.text);
            assert_eq!(read.len(), 1, "{}", phrase.text);
            let fitting: Vec<usize> = (0..scene.things.len())
                .filter(|&i| read[0].fits(&scene.things[i]))
                .collect();
            assert_eq!(phrase.things, fitting, "{} {read:?}", phrase.text);
        }
        for phrase in referring_expressions(&scene, &mut rng) {
            let text = &phrase.text;
            assert_eq!(phrase.things.len(), 1);
            let thing = &scene.things[phrase.things[0]];
            let held: Vec<&str> = text
                .split([' ', ','])
                .filter(|word| words.contains(word))
                .collect();
            assert_eq!(phrase.negated, !held.is_empty(), "{text}");
            for word in held {
                *counts.entry(*words.get(word).unwrap()).or_default() += 1;
            }
            let by_position = [
                " left",
                " right",
                "leftmost",
                "rightmost",
                "biggest",
                "largest",
            ];
            if by_position.iter().any(|word| text.contains(word)) || text.contains("one") {
                continue;
            }
            let read = read(text).remove(0);
            let fitting: Vec<&Thing> = scene.things.iter().filter(|t| read.fits(t)).collect();
            assert_eq!(fitting, [thing], "{text} {read:?}");
            if phrase.negated {
                necessary.1 += 1;
                let others = scene
                    .things
                    .iter()
                    .filter(|t| covers(&read.noun, t.kind))
                    .count();
                necessary.0 += u32::from(others > 1);
            }
        }
    }
    assert!(counts.values().all(|&count| count > 100), "{counts:?}");
    assert!(
        f64::from(necessary.0) > 0.5 * f64::from(necessary.1),
        "{necessary:?}"
    );
}

#[test]
fn negated_expressions_hold_the_words_of_refcocog() {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut negated, mut all, mut same_category) = (0, 0, 0);
    for seed in 0..3000 {
        let scene = referring_scene(seed);
        assert_eq!(scene, referring_scene(seed));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for phrase in referring_expressions(&scene, &mut rng) {
            all += 1;
            if !phrase.negated {
                continue;
            }
            negated += 1;
            let kind = scene.things[phrase.things[0]].kind;
            same_category += usize::from(scene.of_kind(kind).count() > 1);
            for word in ["no", "not", "without"] {
                let held = phrase.text.split([' ', ',']).any(|w| w == word);
                *counts.entry(word).or_default() += f64::from(u8::from(held));
            }
        }
    }
    // NegRefCOCOg's 440 expressions: no 143, not 200, without 98.
    let total: f64 = counts.values().sum();
    for (word, expected) in [("no", 143.), ("not", 200.), ("without", 98.)] {
        let (share, expected) = (counts[word] / total, expected / 441.);
        assert!((share - expected).abs() < 0.1, "{counts:?}");
    }
    assert!(negated * 10 > all, "{negated} of {all}");
    assert!(
        same_category * 10 > negated * 8,
        "{same_category} of {negated}"
    );
}

#[test]
fn answers_are_true_and_balanced() {
    let vocabulary: HashSet<&str> = answer_vocabulary().into_iter().collect();
    assert_eq!(vocabulary.len(), answer_vocabulary().len());
    let (mut yes, mut no) = (0u32, 0u32);
    for (scene, mut rng) in scenes(3000) {
        for question in questions(&scene, &mut rng) {
            let text = question.text.trim_end_matches('?').to_lowercase();
            let answer = question.answer.as_str();
            assert!(vocabulary.contains(answer), "{answer}");
            match answer {
                "yes" => yes += 1,
                "no" => no += 1,
                _ => {}
            }
            let things = &scene.things;
            let there = |noun: &str| {
                things
                    .iter()
                    .any(|t| covers(noun, t.kind) || t.worn.iter().any(|w| covers(noun, w.kind)))
            };
            let words: Vec<&str> = text.split(' ').collect();
            let expected: String = match words[..] {
                ["is", "this", _, noun] if negkit_world::Place::from_name(noun).is_some() => {
                    yes_no(scene.place.name() == noun)
                }
                ["is", "this", _, noun] | ["is", "there", _, noun, ..] => yes_no(there(noun)),
                [
                    "are",
                    "there",
                    number @ ("two" | "three" | "four" | "five"),
                    noun,
                ] => {
                    let number = ["two", "three", "four", "five"]
                        .iter()
                        .position(|w| *w == number)
                        .unwrap()
                        + 2;
                    yes_no(things.iter().filter(|t| covers(noun, t.kind)).count() == number)
                }
                ["are", "there", "any", noun] | ["are", "there", noun, ..] => yes_no(there(noun)),
                ["how", "many", noun, ..] => things
                    .iter()
                    .filter(|t| covers(noun, t.kind))
                    .count()
                    .to_string(),
                ["what", "place", ..] | ["where", ..] => scene.place.to_string(),
                ["what", "animal" | "vehicle", ..] => things
                    .iter()
                    .find(|t| covers(words[1], t.kind))
                    .unwrap()
                    .kind
                    .to_string(),
                ["is", "the", "person", "a", "man", "or", ..] => things
                    .iter()
                    .find(|t| covers("person", t.kind))
                    .unwrap()
                    .kind
                    .to_string(),
                ["what", "color", "is", "the", owner, worn] => {
                    let owner = owner.trim_end_matches("'s");
                    let worn = Kind::from_name(worn).unwrap();
                    let thing = things.iter().find(|t| covers(owner, t.kind)).unwrap();
                    let worn = thing.worn.iter().find(|w| w.kind == worn).unwrap();
                    worn.colour.unwrap().to_string()
                }
                ["what", "color", "is", "the", noun, ..] => {
                    let thing = things.iter().find(|t| covers(noun, t.kind)).unwrap();
                    thing.colour.unwrap().to_string()
                }
                ["what", "is", "the", noun, verb] => {
                    let thing = things.iter().find(|t| covers(noun, t.kind)).unwrap();
                    match verb {
                        "doing" => thing.state.unwrap().to_string(),
                        _ => {
                            let pair = match verb {
                                "wearing" => [Kind::Hat, Kind::Glasses],
                                _ => [Kind::Umbrella, Kind::Bag],
                            };
                            let worn = thing.worn.iter().find(|w| pair.contains(&w.kind));
                            worn.unwrap().kind.to_string()
                        }
                    }
                }
                ["is", "the", noun, "parked", "or", ..] => {
                    let thing = things.iter().find(|t| covers(noun, t.kind)).unwrap();
                    thing.state.unwrap().to_string()
                }
                ["is" | "does", "the", noun, ..] => {
                    let of_noun: Vec<&Thing> =
                        things.iter().filter(|t| covers(noun, t.kind)).collect();
                    let rest = words[3..].join(" ");
                    let claim = format!("{noun} {}", rest.replace("have", "with"));
                    let read = read(&claim).remove(0);
                    let answers: HashSet<bool> = of_noun.iter().map(|t| read.fits(t)).collect();
                    assert!(answers.len() <= 1, "{text}");
                    yes_no(answers.contains(&true))
                }
                _ => panic!("a question of no known form: {text}"),
            };
            assert_eq!(answer, expected, "{text} {scene:#?}");
        }
    }
    assert_eq!(yes, no);
    assert!(yes > 5000);
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

#[test]
fn negation_prompts_mirror_the_published_list() {
    let prompts = negation_prompts();
    assert_eq!(prompts.len(), 107);
    let distinct: HashSet<&str> = prompts.iter().map(|p| p.prompt.as_str()).collect();
    assert_eq!(distinct.len(), 107);
    let count = |test: &dyn Fn(&str) -> bool| prompts.iter().filter(|p| test(&p.prompt)).count();
    assert_eq!(count(&|p| p.contains(" with no ")), 45);
    assert_eq!(count(&|p| p.contains(" without ")), 29);
    assert_eq!(count(&|p| p.contains(" without any ")), 8);
    assert_eq!(count(&|p| p.contains("not ")), 33);
    let vocabulary = "the questions ask for yes and no";
    for prompt in &prompts {
        assert!(
            prompt.question1.ends_with('?') && prompt.question2.ends_with('?'),
            "{vocabulary}"
        );
        // What is denied is possible at all, and likely where the prompt plays.
        match prompt.negated {
            Negated::Object(noun) => {
                let likely = prompt.place.unwrap().likely();
                let worn = noun.covers(Kind::Umbrella);
                assert!(
                    worn || likely.iter().any(|&(kind, _)| noun.covers(kind)),
                    "{}",
                    prompt.prompt
                );
            }
            Negated::Attribute(noun, Attribute::State(state)) => {
                let kinds = Kind::ALL.iter().filter(|kind| noun.covers(**kind));
                assert!(
                    kinds
                        .into_iter()
                        .all(|kind| kind.traits().states.contains(&state))
                );
            }
            Negated::Attribute(..) => {}
        }
    }
    let record = serde_json::to_value(&prompts[0]).unwrap();
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Prompt", "Question1", "Question2"]);
}

#[test]
fn tifa_items_can_be_answered() {
    let vocabulary: HashSet<&str> = answer_vocabulary().into_iter().collect();
    let items = tifa_items(3, 300);
    let captions: HashSet<&str> = items.iter().map(|item| item.caption.as_str()).collect();
    assert_eq!(captions.len(), 300);
    for question in items.iter().flat_map(|item| &item.questions) {
        assert!(question.choices.contains(&question.answer), "{question:?}");
        let choices: HashSet<&String> = question.choices.iter().collect();
        assert_eq!(choices.len(), question.choices.len());
        assert!(
            question
                .choices
                .iter()
                .all(|choice| vocabulary.contains(choice.as_str()))
        );
    }
    assert!(items.iter().all(|item| !item.questions.is_empty()));
}

#[test]
fn the_same_seed_says_the_same() {
    assert_eq!(tifa_items(9, 40), tifa_items(9, 40));
    assert_ne!(tifa_items(9, 40), tifa_items(10, 40));
    assert_eq!(affirmative_prompts(9, 40)[..20], affirmative_prompts(9, 20));
    for (scene, rng) in scenes(50) {
        let all = |mut rng: ChaCha8Rng| {
            (
                caption(&scene, &mut rng),
                phrases(&scene, &mut rng),
                referring_expressions(&scene, &mut rng),
                questions(&scene, &mut rng),
                negation_foil(&scene, &mut rng),
            )
        };
        assert_eq!(all(rng.clone()), all(rng));
    }
}

#[test]
#[ignore = "prints examples to read"]
fn examples() {
    let style = CaptionStyle {
        negation_share: 0.3,
        ..CaptionStyle::default()
    };
    for (scene, mut rng) in scenes(12) {
        println!("== {}", full_caption(&scene));
        for _ in 0..4 {
            println!("caption: {}", caption_with(&scene, &style, &mut rng).text);
        }
        println!(
            "foils: {:?} {:?}",
            ordinary_foil(&scene, &mut rng),
            negation_foil(&scene, &mut rng)
        );
        for p in phrases(&scene, &mut rng) {
            print!("{} {:?} | ", p.text, p.things)
        }
        println!();
        for p in referring_expressions(&scene, &mut rng) {
            print!(
                "{}{} {:?} | ",
                if p.negated { "NEG " } else { "" },
                p.text,
                p.things
            )
        }
        println!();
        for q in questions(&scene, &mut rng) {
            print!("{} {} | ", q.text, q.answer)
        }
        println!();
    }
    for p in affirmative_prompts(1, 20) {
        println!("{}", p.prompt)
    }
    for q in &tifa_items(1, 3) {
        println!("{q:#?}")
    }
}
