#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use negkit_data::WordList;
use negkit_image::{Mask, Rle};
use negkit_shared_data::shared;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::table5::{Table5Data, WorldCounts, write_world};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn file(folder: &TempDir, name: &str, text: impl AsRef<str>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text.as_ref()).unwrap();
    path
}

fn alone(path: &Path) -> Files<'_> {
    Files {
        first: path,
        second: None,
    }
}

fn bootstrap() -> Bootstrap {
    Bootstrap {
        resamples: 200,
        ..Bootstrap::default()
    }
}

fn estimates(scored: &Scored) -> Vec<(&str, f64)> {
    let rows = scored.rows.iter();
    rows.map(|row| (row.name.as_str(), row.first.estimate))
        .collect()
}

#[test]
fn the_sample_of_tifa_has_the_reference_tools_scores() {
    let Some(questions) = shared("tifa/sample_question_answers.json") else {
        return;
    };
    let result = questions.with_file_name("sample_evaluation_result.json");
    let reference: serde_json::Value = serde_json::from_slice(&fs::read(&result).unwrap()).unwrap();
    let scored = tifa(&questions, &alone(&result), None, &bootstrap()).unwrap();
    let found = estimates(&scored);
    assert_eq!(found[0], ("TIFA", 0.8125));
    let types = reference["accuracy_by_type"].as_object().unwrap();
    assert_eq!(found.len(), 1 + types.len());
    for (name, accuracy) in &found[1..] {
        assert!(
            (accuracy - types[*name].as_f64().unwrap()).abs() < 1e-12,
            "{name}"
        );
    }
    assert_eq!(
        scored.notes[0],
        "sample standard deviation over prompts: 0.2651650429449553"
    );
    assert_eq!(scored.counts["prompts"], 2);
    // The same file against itself.
    let files = Files {
        first: &result,
        second: Some(&result),
    };
    let same = tifa(&questions, &files, None, &bootstrap()).unwrap();
    for row in &same.rows {
        let difference = row.difference.unwrap();
        assert_eq!(
            (difference.difference.estimate, difference.p_value),
            (0., 1.)
        );
    }
}

const NEG: &str = r#"[
    {"Prompt": "a man with no hat", "Question1": "A man?", "Question2": "A hat?"},
    {"Prompt": "no cat", "Question1": "A room?", "Question2": "A cat?"}]"#;

/// The answers to both questions on pictures of a prompt.
fn answered(prompt: &str, pictures: &[(&str, &str, &str)], questions: [&str; 2]) -> String {
    let lines = pictures.iter().flat_map(|(picture, affirmed, negated)| {
        let pairs = [(questions[0], affirmed), (questions[1], negated)];
        pairs.map(|(question, answer)| {
            let line = json!({
                "picture": format!("{prompt}{picture}"), "question": question, "answer": answer,
            });
            format!("{line}\n")
        })
    });
    lines.collect()
}

#[test]
fn neg_score_compares_picture_by_picture() {
    let folder = folder();
    let prompts = file(&folder, "prompts.json", NEG);
    let hat = ["A man?", "A hat?"];
    let cat = ["A room?", "A cat?"];
    let first = answered("0", &[("/a", "yes", "no"), ("/b", "yes", "yes")], hat)
        + &answered("1", &[("", "no", "no")], cat);
    let second = answered("0", &[("/a", "yes", "no"), ("/b", "Yes.", "no")], hat)
        + &answered("1", &[("", "yes", "no")], cat);
    let (first, second) = (
        file(&folder, "a.jsonl", &first),
        file(&folder, "b.jsonl", &second),
    );
    let files = Files {
        first: &first,
        second: Some(&second),
    };
    let scored = neg_prompts(&prompts, &files, &bootstrap()).unwrap();
    // (1/2 + 0) / 2, (1 + 0) / 2, (1/2 + 1) / 2.
    let expected = [("Neg Score", 0.25), ("affirmed", 0.5), ("negated", 0.75)];
    assert_eq!(estimates(&scored), expected);
    let row = &scored.rows[0];
    assert_eq!(row.second.unwrap().estimate, 1.);
    assert_eq!(row.difference.unwrap().difference.estimate, 0.75);
    let mcnemar = row.mcnemar.unwrap();
    assert_eq!((mcnemar.only_a, mcnemar.only_b), (0, 2));
    assert_eq!(
        (scored.counts["prompts"], scored.counts["pictures"]),
        (2, 3)
    );

    // Other pictures are no pairs, an unknown prompt and a question without an answer no score.
    let told = |text: String| {
        let other = file(&folder, "c.jsonl", text);
        let files = Files {
            first: &first,
            second: Some(&other),
        };
        let error = neg_prompts(&prompts, &files, &bootstrap());
        error.unwrap_err().to_string()
    };
    let error = told(answered("0", &[("/a", "yes", "no")], hat));
    assert!(error.contains("missing for the second encoder"), "{error}");
    let error = told(answered("7", &[("", "yes", "no")], hat));
    assert!(error.contains("no prompt has this id"), "{error}");
    let error = told(answered("1", &[("", "yes", "no")], hat));
    assert!(error.contains("no answer to \"A room?\""), "{error}");
}

/// Two painters; the second question of the second item rests on one that is answered no.
const DSG: &str = "\
dsg_prompt_split,qg_model,t2i_model,item_id,question,question_id,dependency_id,answer
tifa160,dsg,one,t_0,Is there a tree?,1,0,yes
tifa160,dsg,one,t_0,Are there lights?,2,0,yes
tifa160,dsg,one,t_0,Are the lights on the tree?,3,\"1,2\",no
tifa160,dsg,one,t_1,Is there a hat?,1,0,no
tifa160,dsg,one,t_1,Is the hat red?,2,1,yes
tifa160,dsg,two,t_0,Is there a tree?,1,0,yes
tifa160,dsg,two,t_0,Are there lights?,2,0,yes
tifa160,dsg,two,t_0,Are the lights on the tree?,3,\"1,2\",yes
tifa160,dsg,two,t_1,Is there a hat?,1,0,yes
tifa160,dsg,two,t_1,Is the hat red?,2,1,yes
";

#[test]
fn the_released_answers_of_dsg_are_scored_with_their_dependencies() {
    let folder = folder();
    let path = file(&folder, "mplug_dsg.csv", DSG);
    let scored = dsg(&alone(&path), [Some("one"), Some("two")], &bootstrap()).unwrap();
    let found = estimates(&scored);
    // (2/3 + 0) / 2, and without dependencies (2/3 + 1/2) / 2.
    assert!((found[0].1 - 1. / 3.).abs() < 1e-12, "{found:?}");
    assert!((found[2].1 - 7. / 12.).abs() < 1e-12, "{found:?}");
    assert_eq!(scored.rows[0].second.unwrap().estimate, 1.);
    let difference = scored.rows[0].difference.unwrap().difference;
    assert!((difference.estimate - 2. / 3.).abs() < 1e-12);
    assert_eq!(
        (scored.counts["prompts"], scored.counts["questions"]),
        (2, 5)
    );

    let told = |text: &str, painter| {
        let path = file(&folder, "other.csv", text);
        let error = dsg(&alone(&path), [painter, None], &bootstrap());
        error.unwrap_err().to_string()
    };
    let error = told(DSG, None);
    assert!(
        error.contains("pictures of one, two: choose one"),
        "{error}"
    );
    let error = told(DSG, Some("three"));
    assert!(
        error.contains("no pictures of 'three', only of one, two"),
        "{error}"
    );
    let error = told(&DSG.replace("\"1,2\"", "1;2"), Some("one"));
    assert!(
        error.contains("line 4") && error.contains("\"1;2\""),
        "{error}"
    );
    let error = told(&DSG.replace("1,0,no", "1,2,no"), Some("one"));
    assert!(error.contains("t_1") && error.contains("circle"), "{error}");
    let error = told(&DSG.replace("question_id", "number"), Some("one"));
    assert!(error.contains("question_id"), "{error}");
}

#[test]
fn geneval_takes_its_own_results_and_what_a_detector_found() {
    let folder = folder();
    let result = |file: &str, tag: &str, prompt: &str, correct: bool| {
        let line = json!({
            "filename": file, "tag": tag, "prompt": prompt, "correct": correct, "reason": "",
            "metadata": "{}", "details": "{}",
        });
        format!("{line}\n")
    };
    let first = result("0/1.png", "single_object", "a cat", true)
        + &result("0/0.png", "single_object", "a cat", false)
        + &result("1/0.png", "counting", "two cats", false);
    let second = first.replace("false", "true");
    let (first, second) = (
        file(&folder, "a.jsonl", &first),
        file(&folder, "b.jsonl", &second),
    );
    let files = Files {
        first: &first,
        second: Some(&second),
    };
    let scored = geneval_results(&files, &bootstrap()).unwrap();
    let expected = [
        ("GenEval", 0.25),
        ("prompts with a right picture", 0.5),
        ("pictures", 1. / 3.),
        ("counting", 0.),
        ("single_object", 0.5),
    ];
    assert_eq!(estimates(&scored), expected);
    let pictures = &scored.rows[2];
    assert_eq!(pictures.mcnemar.unwrap().only_b, 2);
    assert!((pictures.difference.unwrap().difference.estimate - 2. / 3.).abs() < 1e-12);

    // The published prompts, and the objects that were found in their pictures.
    let seen = |count: usize, confidence: f32| {
        let cat = json!({"class": "cat", "confidence": confidence, "bounds": [0, 0, 9, 9]});
        let line = json!({
            "tag": "counting", "include": [{"class": "cat", "count": 2}],
            "exclude": [{"class": "cat", "count": 3}], "prompt": "a photo of two cats",
            "objects": vec![cat; count],
        });
        format!("{line}\n")
    };
    // What is counted must be sure.
    let found = seen(2, 0.95) + &seen(2, 0.5) + &seen(3, 0.95) + &seen(1, 0.95);
    let path = file(&folder, "objects.jsonl", found);
    let scored = geneval_results(&alone(&path), &bootstrap()).unwrap();
    assert_eq!(estimates(&scored)[0], ("GenEval", 0.25));

    let neither = file(
        &folder,
        "none.jsonl",
        seen(1, 0.5).replace("objects", "things"),
    );
    let error = geneval_results(&alone(&neither), &bootstrap()).unwrap_err();
    assert!(
        error.to_string().contains("line 1: expected either"),
        "{error}"
    );
    let broken = file(&folder, "broken.jsonl", "{\"tag\"");
    let error = geneval_results(&alone(&broken), &bootstrap()).unwrap_err();
    assert!(
        error.to_string().contains("broken.jsonl, line 1"),
        "{error}"
    );
}

#[test]
fn masks_are_scored_at_the_pictures_size() {
    const SIDE: u32 = 40;
    let folder = folder();
    let counts = WorldCounts {
        phrasecut: 3,
        refcocog: 4,
    };
    let world = folder.path().join("world");
    let sources = write_world(&world, SIDE, counts).unwrap();
    let words = WordList::default();
    let data = Table5Data::open(&sources[..1], &words, None).unwrap();
    let line = |id: &str, mask: &Mask| {
        let line = json!({"id": id, "segmentation": {
            "size": [mask.height(), mask.width()], "counts": Rle::from_mask(mask).to_compressed(),
        }});
        format!("{line}\n")
    };
    let everything = Mask::new(SIDE, SIDE, vec![true; (SIDE * SIDE) as usize]).unwrap();
    let (mut right, mut all, mut shares) = (String::new(), String::new(), Vec::new());
    for phrase in data.pictures.iter().flat_map(|picture| &picture.phrases) {
        let truth = phrase.truth.mask(SIDE, SIDE).unwrap();
        shares.push(truth.area() as f64 / f64::from(SIDE * SIDE));
        right.push_str(&line(&phrase.id, &truth));
        all.push_str(&line(&phrase.id, &everything));
    }
    let (all, right) = (
        file(&folder, "all.jsonl", &all),
        file(&folder, "right.jsonl", &right),
    );
    let files = Files {
        first: &all,
        second: Some(&right),
    };
    let scored = segmentation(&sources[0], &words, &files, &bootstrap()).unwrap();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let row = &scored.rows[0];
    assert_eq!(row.name, "mIoU");
    assert!((row.first.estimate - mean).abs() < 1e-12);
    assert_eq!(row.second.unwrap().estimate, 1.);
    assert!((row.difference.unwrap().difference.estimate - (1. - mean)).abs() < 1e-12);
    assert_eq!(scored.counts["phrases"], shares.len());

    let text = fs::read_to_string(&right).unwrap();
    let told = |text: String| {
        let path = file(&folder, "wrong.jsonl", text);
        let error = segmentation(&sources[0], &words, &alone(&path), &bootstrap());
        error.unwrap_err().to_string()
    };
    let (head, rest) = text.split_once('\n').unwrap();
    let error = told(rest.to_owned());
    assert!(error.contains("holds no mask of this phrase"), "{error}");
    let error = told(format!("{head}\n{head}\n{rest}"));
    assert!(error.contains("line 2: expected one mask"), "{error}");
    let error = told(format!("{text}{}", line("nobody", &everything)));
    assert!(error.contains("found nobody"), "{error}");
    let narrow = Mask::new(SIDE - 1, SIDE, vec![true; ((SIDE - 1) * SIDE) as usize]).unwrap();
    let error = told(line(&data.pictures[0].phrases[0].id, &narrow) + rest);
    assert!(
        error.contains("line 1: segmentation.size: expected [40, 40]"),
        "{error}"
    );
    let error = told(text.replacen("\"size\":[40,40]", "\"size\":[40,41]", 1));
    assert!(
        error.contains("line 1") && error.contains("41x40"),
        "{error}"
    );
}
