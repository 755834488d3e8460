//! Scores from questions about pictures, and encoders compared by them.

use std::cell::Cell;
use std::convert::Infallible;

use negkit_metrics::{
    Bootstrap, ChoiceMatcher, ChooseError, Clusters, DependentAnswer, DetectedObject, DsgReport,
    EmbeddingMatcher, GenevalClauses, GenevalFault, GenevalPicture, GenevalReport, GenevalSettings,
    ItemValue, MeanOver, MetricsError, NegAnswers, PairedScores, QuestionScore, Relation,
    TifaReport, choose, dsg_score, geneval, neg_score, picture_scores,
};
use negkit_shared_data::shared;
use proptest::prelude::*;
use serde_json::{Value, json};

const EXACT: f64 = 1e-12;

fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= EXACT,
        "{found}, expected {expected}"
    );
}

/// The text of a file that may not be there.
fn shared_text(file: &str) -> Option<String> {
    Some(std::fs::read_to_string(shared(file)?).unwrap())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Numbers lie near numbers, everything else near its own first letter.
fn toy_embedding(texts: &[&str]) -> Result<Vec<Vec<f32>>, Infallible> {
    let embed = |text: &&str| match text.parse::<f32>() {
        // An angle for each number, and a length that cosine must not see.
        Ok(number) => vec![(number / 10.).cos() * 3., (number / 10.).sin() * 3., 0.],
        Err(_) => vec![0., 0., 1. + text.len() as f32],
    };
    Ok(texts.iter().map(embed).collect())
}

#[test]
fn a_free_answer_becomes_the_nearest_choice() {
    let asked = Cell::new(0);
    let matcher = EmbeddingMatcher::new(|texts: &[&str]| {
        asked.set(asked.get() + 1);
        toy_embedding(texts)
    });
    let numbers = strings(&["1", "2", "3", "4"]);
    assert_eq!(choose("3", &numbers, &matcher).unwrap(), "3");
    assert_eq!(
        asked.get(),
        0,
        "an answer among the choices needs no embedding"
    );
    assert_eq!(choose("0", &numbers, &matcher).unwrap(), "1");
    assert_eq!(choose("9", &numbers, &matcher).unwrap(), "4");
    // As in the reference tool, letter for letter: "Yes" is not "yes".
    assert_eq!(
        choose("Yes", &strings(&["yes", "no"]), &matcher).unwrap(),
        "yes"
    );
    assert_eq!(asked.get(), 3);

    assert!(matches!(
        choose("3", &[], &matcher),
        Err(ChooseError::NoChoices)
    ));
    assert!(matcher.nearest("3", &[]).is_err());
    let broken = |vectors: Vec<Vec<f32>>| {
        let matcher = EmbeddingMatcher::new(move |_: &[&str]| Ok::<_, Infallible>(vectors.clone()));
        choose("9", &strings(&["1", "2"]), &matcher).map(str::to_owned)
    };
    assert!(broken(vec![vec![1.], vec![1.]]).is_err(), "too few vectors");
    assert!(
        broken(vec![vec![1.], vec![1.], vec![1., 2.]]).is_err(),
        "of two sizes"
    );
    assert!(
        broken(vec![vec![1.], vec![f32::NAN], vec![1.]]).is_err(),
        "not numbers"
    );
    assert_eq!(
        broken(vec![vec![1.], vec![0.], vec![1.]]).unwrap(),
        "2",
        "a zero vector is far"
    );
}

/// Says what TIFA's sample says SBERT said.
struct Recorded(Vec<(String, String)>);

impl ChoiceMatcher for Recorded {
    type Error = String;

    fn nearest(&self, answer: &str, choices: &[String]) -> Result<usize, String> {
        let found = self.0.iter().find(|(free, _)| free == answer);
        let (_, choice) = found.ok_or_else(|| format!("{answer} was never asked"))?;
        let index = choices.iter().position(|other| other == choice);
        index.ok_or_else(|| format!("{choice} is no choice"))
    }
}

#[test]
fn tifa_from_free_answers_is_the_reference_tools() {
    let Some(text) = shared_text("tifa/sample_evaluation_result.json") else {
        return;
    };
    let sample: Value = serde_json::from_str(&text).unwrap();
    let of = |question: &Value, field: &str| question[field].as_str().unwrap().to_owned();
    let questions: Vec<&Value> = sample["question_details"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|caption| caption.as_object().unwrap().values())
        .collect();
    assert_eq!(questions.len(), 19);
    let free = questions
        .iter()
        .map(|q| (of(q, "free_form_vqa"), of(q, "multiple_choice_vqa")));
    let matcher = Recorded(free.filter(|(free, choice)| free != choice).collect());
    assert_eq!(
        matcher.0.len(),
        1,
        "the sample has one answer that is no choice: 0 cats"
    );
    let scores: Vec<QuestionScore> = questions
        .iter()
        .map(|question| {
            let choices: Vec<String> = serde_json::from_value(question["choices"].clone()).unwrap();
            let chosen = choose(&of(question, "free_form_vqa"), &choices, &matcher).unwrap();
            let right = chosen == of(question, "answer");
            assert_eq!(u64::from(right), question["scores"].as_u64().unwrap());
            QuestionScore {
                caption: of(question, "id"),
                picture: 0,
                element_type: of(question, "element_type"),
                right,
            }
        })
        .collect();
    let report = TifaReport::new(&scores, &Bootstrap::default()).unwrap();
    assert_eq!(report.average.estimate, 0.8125);
    assert_eq!(report.deviation, Some(0.265_165_042_944_955_3));
    let expected = sample["accuracy_by_type"].as_object().unwrap();
    assert_eq!(report.types.len(), expected.len());
    for (name, accuracy) in expected {
        assert_close(
            report.types[name].accuracy.estimate,
            accuracy.as_f64().unwrap(),
        );
    }
    assert_eq!(report.types["counting"].accuracy.estimate, 1. / 3.);
    assert_eq!(report.types["animal/human"].accuracy.estimate, 0.75);
    assert_eq!(report.types["counting"].questions, 3);
    assert_eq!(report.captions["drawbench_52"], 0.625);
    // Two captions: a resample has one of them or both.
    assert_eq!((report.average.low, report.average.high), (0.625, 1.));
}

#[test]
fn tifa_of_several_pictures_is_a_mean_of_means() {
    let question = |caption: &str, picture, element_type: &str, right| QuestionScore {
        caption: caption.to_owned(),
        picture,
        element_type: element_type.to_owned(),
        right,
    };
    let questions = [
        question("a", 2, "object", true),
        question("b", 1, "color", false),
        question("a", 1, "object", true),
        question("a", 1, "color", false),
        question("a", 2, "color", false),
    ];
    let pictures = picture_scores(&questions);
    let expected = [item("a", 1, 0.5), item("a", 2, 0.5), item("b", 1, 0.)];
    assert_eq!(pictures, expected);
    let report = TifaReport::new(&questions, &Bootstrap::default()).unwrap();
    assert_close(report.average.estimate, 0.25);
    assert_close(report.captions["a"], 0.5);
    assert_close(report.types["object"].accuracy.estimate, 1.);
    assert_close(report.types["color"].accuracy.high, 0.);
    assert!(TifaReport::new(&[], &Bootstrap::default()).is_err());
    let none = Bootstrap {
        resamples: 0,
        ..Bootstrap::default()
    };
    assert!(TifaReport::new(&questions, &none).is_err());
}

#[test]
fn neg_score_has_intervals_over_prompts() {
    let answers = |affirmed, negated| NegAnswers { affirmed, negated };
    let prompts = [
        vec![answers(true, true); 4],
        vec![answers(true, false); 4],
        vec![answers(false, true); 4],
    ];
    let score = neg_score(&prompts).unwrap();
    let intervals = score.intervals(&Bootstrap::default()).unwrap();
    assert_close(intervals.score.estimate, 1. / 3.);
    assert_close(intervals.affirmed.estimate, 2. / 3.);
    assert_close(intervals.negated.estimate, 2. / 3.);
    // Twelve pictures, but three prompts: the interval is that of three.
    assert_eq!((intervals.score.low, intervals.score.high), (0., 1.));
}

fn answer(id: u32, parents: &[u32], right: bool) -> DependentAnswer {
    DependentAnswer {
        id,
        parents: parents.to_vec(),
        right,
    }
}

#[test]
fn a_question_counts_only_where_its_parents_hold() {
    // 1: is there a man? 2: is there a hat? 3: does he wear it? 4: is what he wears red?
    let answers = [
        answer(4, &[3], true),
        answer(1, &[0], true),
        answer(2, &[], false),
        answer(3, &[1, 2], true),
    ];
    let score = dsg_score(&answers).unwrap();
    assert_eq!(score.valid, [false, true, true, false]);
    assert_close(score.score, 0.25);
    // 3 was answered yes, so 4 holds for who looks at its parent alone.
    assert_close(score.direct, 0.5);
    assert_close(score.independent, 0.75);
    assert_close(score.asked, 0.5);

    let whole = dsg_score(&[answer(1, &[0], true)]).unwrap();
    let report = DsgReport::new(
        &[vec![score, whole.clone()], vec![whole]],
        &Bootstrap::default(),
    );
    let report = report.unwrap();
    assert_close(report.score.estimate, (0.625 + 1.) / 2.);
    assert_close(report.independent.estimate, (0.875 + 1.) / 2.);
    assert_eq!((report.score.low, report.score.high), (0.625, 1.));

    let refused = |answers: &[DependentAnswer]| dsg_score(answers).unwrap_err().to_string();
    assert!(refused(&[answer(1, &[], true), answer(1, &[], true)]).contains("twice"));
    assert!(refused(&[answer(1, &[5], true)]).contains("question 5 is the parent"));
    assert!(refused(&[answer(0, &[], true)]).contains("no id"));
    assert!(refused(&[]).contains("no values"));
    let circle = [
        answer(1, &[], true),
        answer(2, &[3], true),
        answer(3, &[2], true),
    ];
    assert!(refused(&circle).contains("circle"));
    assert!(refused(&[answer(1, &[1], true)]).contains("circle"));
    assert!(DsgReport::new(&[vec![]], &Bootstrap::default()).is_err());
}

fn object(class: &str, confidence: f32, bounds: [f32; 4], color: Option<&str>) -> DetectedObject {
    DetectedObject {
        class: class.to_owned(),
        confidence,
        bounds,
        color: color.map(str::to_owned),
    }
}

fn clauses(value: Value) -> GenevalClauses {
    serde_json::from_value(value).unwrap()
}

#[test]
fn geneval_includes_and_excludes() {
    let clauses_of = clauses(json!({
        "include": [{"class": "bench", "count": 2}],
        "exclude": [{"class": "bench", "count": 3}],
    }));
    let benches =
        |count: usize, confidence| vec![object("bench", confidence, [0., 0., 9., 9.], None); count];
    let faults = |count, confidence, settings: GenevalSettings| {
        geneval(&clauses_of, &benches(count, confidence), &settings).unwrap()
    };
    let published = GenevalSettings::PUBLISHED;
    assert_eq!(faults(2, 0.8, published), []);
    let missing = [GenevalFault::Missing {
        clause: 0,
        found: 1,
    }];
    assert_eq!(faults(1, 0.8, published), missing);
    assert_eq!(
        faults(3, 0.8, published),
        [GenevalFault::Excluded {
            clause: 0,
            found: 3
        }]
    );
    // Prompts that count take only what is sure, and what is not above the bound is not there.
    let none = [GenevalFault::Missing {
        clause: 0,
        found: 0,
    }];
    assert_eq!(faults(2, 0.8, GenevalSettings::COUNTING), none);
    assert_eq!(faults(2, 0.3, published), none);
    // The same box twice is one object where overlap is bounded.
    let apart = GenevalSettings {
        overlap: 0.5,
        ..published
    };
    assert_eq!(faults(2, 0.8, apart), missing);
    let two = GenevalSettings {
        objects_per_class: 2,
        ..published
    };
    assert_eq!(faults(9, 0.8, two), []);

    let nothing = GenevalClauses::default();
    assert!(geneval(&nothing, &[], &published).is_err());
    let broken = [object("bench", f32::NAN, [0., 0., 1., 1.], None)];
    let error = geneval(&clauses_of, &broken, &published).unwrap_err();
    assert!(matches!(error, MetricsError::NotFinite { index: 0, .. }));
}

#[test]
fn geneval_colours_and_places_the_surest_objects() {
    let settings = GenevalSettings::PUBLISHED;
    let red_cup_above_table = clauses(json!({"include": [
        {"class": "table", "count": 1},
        {"class": "cup", "count": 1, "color": "red", "position": ["above", 0]},
    ]}));
    let table = object("table", 0.9, [0., 60., 100., 100.], None);
    let cup = |confidence, top: f32, color: Option<&str>| {
        object("cup", confidence, [40., top, 50., top + 10.], color)
    };
    let faults = |objects: &[DetectedObject]| geneval(&red_cup_above_table, objects, &settings);
    let above = cup(0.5, 0., Some("red"));
    assert_eq!(faults(&[above.clone(), table.clone()]).unwrap(), []);
    // Only the surest cup counts.
    let found = faults(&[above.clone(), table.clone(), cup(0.6, 0., Some("blue"))]).unwrap();
    assert_eq!(
        found,
        [GenevalFault::Color {
            clause: 1,
            found: 0
        }]
    );
    let found = faults(&[table.clone(), cup(0.6, 120., Some("red"))]).unwrap();
    let below = GenevalFault::Position {
        clause: 1,
        found: vec![Relation::Below],
    };
    assert_eq!(found, [below]);
    // Within a tenth of both sizes, an object lies nowhere to another.
    let found = faults(&[table.clone(), cup(0.6, 72., Some("red"))]).unwrap();
    assert_eq!(
        found,
        [GenevalFault::Position {
            clause: 1,
            found: vec![]
        }]
    );
    let found = faults(&[above]).unwrap();
    let missing = GenevalFault::Missing {
        clause: 0,
        found: 0,
    };
    assert_eq!(found, [missing, GenevalFault::NoTarget { clause: 1 }]);
    assert!(
        faults(&[table, cup(0.6, 0., None)]).is_err(),
        "a colour is needed"
    );

    let forward = clauses(json!({"include": [
        {"class": "cup", "count": 1, "position": ["left of", 0]},
    ]}));
    assert!(geneval(&forward, &[], &settings).is_err());
}

#[test]
fn geneval_reads_the_published_prompts() {
    let Some(text) = shared_text("geneval/evaluation_metadata.jsonl") else {
        return;
    };
    let prompts: Vec<GenevalClauses> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(prompts.len(), 553);
    let published = GenevalSettings::PUBLISHED;
    for clauses in &prompts {
        // An empty picture lacks what is asked for first, and nothing that is excluded is there.
        let faults = geneval(clauses, &[], &published).unwrap();
        assert_eq!(
            faults[0],
            GenevalFault::Missing {
                clause: 0,
                found: 0
            }
        );
        assert!(
            !faults
                .iter()
                .any(|f| matches!(f, GenevalFault::Excluded { .. }))
        );
    }
}

#[test]
fn geneval_is_a_mean_over_tasks() {
    let picture = |tag: &str, prompt: &str, right| GenevalPicture {
        tag: tag.to_owned(),
        prompt: prompt.to_owned(),
        right,
    };
    let mut pictures = vec![
        picture("counting", "two cups", true),
        picture("counting", "two cups", false),
    ];
    for prompt in ["a cup", "a hat", "a bench"] {
        pictures.push(picture("single_object", prompt, true));
        pictures.push(picture("single_object", prompt, prompt != "a hat"));
    }
    let report = GenevalReport::new(&pictures, &Bootstrap::default()).unwrap();
    assert_close(report.overall.estimate, (0.5 + 5. / 6.) / 2.);
    assert_close(report.pictures.estimate, 6. / 8.);
    assert_close(report.prompts.estimate, 1.);
    assert_close(report.tasks["counting"].estimate, 0.5);
    // One prompt that counts: all of the spread is the other task's, whose prompts score 1, 0.5, 1;
    // one resample in 27 draws the hat alone.
    assert_close(report.overall.low, (0.5 + 0.5) / 2.);
    assert_close(report.overall.high, (0.5 + 1.) / 2.);
    assert!(GenevalReport::new(&[], &Bootstrap::default()).is_err());
}

fn item(prompt: &str, seed: u64, value: f64) -> ItemValue<&str, u64> {
    ItemValue {
        cluster: prompt,
        item: seed,
        value,
    }
}

#[test]
fn encoders_are_paired_by_prompt_and_seed() {
    let a = [
        item("hat", 1, 0.),
        item("hat", 2, 1.),
        item("man", 1, 0.),
        item("hat", 3, 0.),
    ];
    let mut b = [
        item("man", 1, 1.),
        item("hat", 3, 0.),
        item("hat", 2, 1.),
        item("hat", 1, 1.),
    ];
    let paired = PairedScores::new(a, b).unwrap();
    assert_eq!((paired.items(), paired.clusters()), (4, 2));
    let bootstrap = Bootstrap::default();
    let difference = |over| paired.bootstrap(over, &bootstrap).unwrap().difference;
    // hat: 1/3 -> 2/3, man: 0 -> 1.
    assert_close(difference(MeanOver::Clusters).estimate, (1. / 3. + 1.) / 2.);
    assert_close(difference(MeanOver::Items).estimate, 0.5);
    assert_close(difference(MeanOver::Items).low, 1. / 3.);
    assert_close(difference(MeanOver::Items).high, 1.);
    let test = paired.mcnemar().unwrap();
    assert_eq!((test.only_a, test.only_b, test.p_value), (0, 2, 0.5));

    let refused = |a: &[ItemValue<&'static str, u64>], b: &[ItemValue<&'static str, u64>]| {
        PairedScores::new(a.iter().copied(), b.iter().copied())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&a, &b[1..]).contains(r#"item 1 of "man" is missing for the second"#));
    assert!(refused(&a[1..], &b).contains("missing for the first"));
    b[1] = b[0];
    assert!(refused(&a, &b).contains("there twice"));
    assert!(refused(&[], &[]).contains("no values"));
    assert!(refused(&[item("hat", 1, f64::NAN)], &[item("hat", 1, 0.)]).contains("finite"));
    let graded = PairedScores::new([item("hat", 1, 0.5)], [item("hat", 1, 1.)]).unwrap();
    assert!(graded.mcnemar().is_err());
}

#[test]
fn a_bootstrap_draws_whole_clusters() {
    let bootstrap = Bootstrap::default();
    let labels = [3, 1, 3, 1, 2];
    let clusters = Clusters::by_label(labels);
    assert_eq!((clusters.len(), clusters.items()), (3, 5));
    let statistics = |items: &[usize]| {
        let count = |label: i32| items.iter().filter(|item| labels[**item] == label).count();
        assert_eq!((count(1) % 2, count(3) % 2), (0, 0), "both items or none");
        vec![items.len() as f64, count(2) as f64]
    };
    let found = bootstrap.intervals(&clusters, statistics).unwrap();
    assert_eq!((found[0].estimate, found[1].estimate), (5., 1.));
    assert_eq!(found, bootstrap.intervals(&clusters, statistics).unwrap());
    assert!(
        bootstrap
            .intervals(&Clusters::singletons(0), |_| vec![])
            .is_err()
    );
    let varying = |items: &[usize]| vec![0.; items.len()];
    assert!(bootstrap.intervals(&clusters, varying).is_err());
    assert!(bootstrap.intervals(&clusters, |_| vec![f64::NAN]).is_err());
    assert!(bootstrap.stratified(&[], |_, _| 0.).is_err());
}

proptest! {
    #[test]
    fn dependencies_only_take_away(
        rows in prop::collection::vec((any::<bool>(), prop::collection::vec(0usize..12, 0..4)), 1..12),
    ) {
        // Parents among the questions before: no circle.
        let answers: Vec<DependentAnswer> = rows
            .iter()
            .enumerate()
            .map(|(index, (right, parents))| {
                let parents = parents.iter().filter(|p| **p <= index).map(|p| *p as u32);
                answer(index as u32 + 1, &parents.collect::<Vec<_>>(), *right)
            })
            .collect();
        let score = dsg_score(&answers).unwrap();
        prop_assert!(score.score <= score.direct && score.direct <= score.independent);
        prop_assert!(score.score <= score.asked && score.asked <= 1.);
        let mut reversed = answers.clone();
        reversed.reverse();
        prop_assert_eq!(dsg_score(&reversed).unwrap().score, score.score);
    }

    #[test]
    fn an_interval_holds_its_estimates_neighbourhood(
        values in prop::collection::vec(0f64..=1., 1..40), seed in any::<u64>(),
    ) {
        let bootstrap = Bootstrap { resamples: 200, seed, level: 0.95 };
        let interval = bootstrap.mean(&values).unwrap();
        let (least, most) = values.iter().fold((1f64, 0f64), |(l, m), v| (l.min(*v), m.max(*v)));
        prop_assert!(least - EXACT <= interval.low && interval.low <= interval.high);
        prop_assert!(interval.high <= most + EXACT);
        let items = |values: &[f64]| values.iter().enumerate()
            .map(|(seed, value)| ItemValue { cluster: seed, item: 0, value: *value })
            .collect::<Vec<_>>();
        let paired = PairedScores::new(items(&values), items(&values)).unwrap();
        let same = paired.bootstrap(MeanOver::Clusters, &bootstrap).unwrap();
        prop_assert_eq!((same.difference.low, same.difference.high, same.p_value), (0., 0., 1.));
    }
}
