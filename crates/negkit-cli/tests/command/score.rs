//! `negkit score`: every scorer on files that are small enough to be reckoned by hand.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::Bench;

/// Writes a JSON line for each value.
fn lines(bench: &Bench, name: &str, values: &[Value]) -> PathBuf {
    let text: String = values.iter().map(|value| format!("{value}\n")).collect();
    let path = bench.path(name);
    fs::write(&path, text).unwrap();
    path
}

/// `{"picture": …, "question": …, "answer": …}` of each.
fn answers(bench: &Bench, name: &str, all: &[(&str, &str, &str)]) -> PathBuf {
    let line = |(picture, question, answer): &(&str, &str, &str)| json!({"picture": picture, "question": question, "answer": answer});
    lines(bench, name, &all.iter().map(line).collect::<Vec<_>>())
}

fn score(bench: &Bench, line: &str) -> Value {
    let line = format!("score {line} --resamples 200 --json");
    bench.run_line(&line, &[]).good().json()
}

/// The row of that name.
#[track_caller]
fn row<'a>(scored: &'a Value, name: &str) -> &'a Value {
    let rows = scored["rows"].as_array().unwrap();
    let found = rows.iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no row {name} in {scored}"))
}

#[track_caller]
fn close(found: &Value, expected: f64) {
    let number = found
        .as_f64()
        .unwrap_or_else(|| panic!("{found} is no number"));
    assert!(
        (number - expected).abs() < 1e-12,
        "{number}, expected {expected}"
    );
}

/// The row's score in the first file, in the second, and what the second has more on the same items.
#[track_caller]
fn compared(scored: &Value, name: &str, first: f64, second: f64) {
    let row = row(scored, name);
    close(&row["first"]["estimate"], first);
    close(&row["second"]["estimate"], second);
    close(&row["difference"]["difference"]["estimate"], second - first);
    let difference = &row["difference"]["difference"];
    let bound = |end: &str| difference[end].as_f64().unwrap();
    assert!(bound("low") <= second - first + 1e-12 && bound("high") >= second - first - 1e-12);
    let p = row["difference"]["p_value"].as_f64().unwrap();
    assert!((0. ..=1.).contains(&p), "{row}");
}

/// Only the first file's score.
#[track_caller]
fn alone(scored: &Value, name: &str, expected: f64) {
    let row = row(scored, name);
    close(&row["first"]["estimate"], expected);
    assert!(
        row["second"].is_null() && row["difference"].is_null(),
        "{row}"
    );
}

/// What is wrong in every file of answers, and with which words it is told.
fn refuses_bad_answers(bench: &Bench, command: &str, picture: &str, question: &str) {
    let told = |file: &str, parts: &[&str]| {
        let line = format!("score {command} {file}");
        bench.run_line(&line, &[]).refused(parts);
    };
    told("nowhere.jsonl", &["nowhere.jsonl", "No such file"]);
    let good = json!({"picture": picture, "question": question, "answer": "yes"});
    fs::write(bench.path("torn.jsonl"), format!("{good}\n{{\"picture\": ")).unwrap();
    told("torn.jsonl", &["torn.jsonl", "line 2"]);
    let without = json!({"picture": picture, "question": question.len()});
    lines(bench, "typed.jsonl", &[good, without]);
    told("typed.jsonl", &["typed.jsonl", "line 2", "question"]);
    answers(bench, "stranger.jsonl", &[("nobody", question, "yes")]);
    told(
        "stranger.jsonl",
        &["stranger.jsonl", "nobody", "no prompt has this id"],
    );
    answers(bench, "other.jsonl", &[(picture, "Is it raining?", "yes")]);
    told("other.jsonl", &["other.jsonl", picture, question]);
}

#[test]
fn tifa_of_stored_answers() {
    let bench = Bench::new();
    let question = |id: &str, caption: &str, question: &str, answer: &str, kind: &str| {
        json!({
            "id": id, "caption": caption, "question": question, "choices": ["yes", "no", "red"],
            "answer": answer, "element_type": kind, "element": "cat",
        })
    };
    let questions = json!([
        question("a", "a red cat", "is there a cat?", "yes", "animal/human"),
        question("a", "a red cat", "what color is the cat?", "red", "color"),
        question("b", "no dog", "is there a dog?", "no", "animal/human"),
    ]);
    fs::write(bench.path("questions.json"), questions.to_string()).unwrap();
    let file = |name, [cat, color, dog]: [&str; 3]| {
        answers(
            &bench,
            name,
            &[
                ("a", "is there a cat?", cat),
                ("a", "what color is the cat?", color),
                ("b", "is there a dog?", dog),
            ],
        )
    };
    file("first.jsonl", ["yes", "no", "yes"]);
    file("second.jsonl", ["yes", "red", "no"]);
    let tifa = "tifa --questions questions.json";

    // Prompt a has one of two right, b none of one: (1/2 + 0) / 2.
    let scored = score(&bench, &format!("{tifa} first.jsonl"));
    assert_eq!(scored["score"], "TIFA");
    alone(&scored, "TIFA", 0.25);
    alone(&scored, "animal/human", 0.5);
    alone(&scored, "color", 0.);
    assert_eq!(scored["counts"]["prompts"], 2);

    let against = "--against second.jsonl";
    let scored = score(&bench, &format!("{tifa} first.jsonl {against}"));
    compared(&scored, "TIFA", 0.25, 1.);
    compared(&scored, "animal/human", 0.5, 1.);
    compared(&scored, "color", 0., 1.);

    // The same for people.
    let line = format!("score {tifa} first.jsonl {against} --resamples 200");
    let said = bench.run_line(&line, &[]).good().stdout;
    for part in [
        "TIFA: 2 pictures, 2 prompts, 0 prompts without an answer",
        "  TIFA ",
        "  0.250 [",
        "  against 1.000 [",
        "  +0.750 [",
        "no sentence encoder",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }

    refuses_bad_answers(&bench, tifa, "b", "is there a dog?");
    let line = "score tifa --questions none.json first.jsonl";
    bench.run_line(line, &[]).refused(&["none.json"]);
    fs::write(bench.path("questions.json"), r#"[{"id": "a"}]"#).unwrap();
    let line = format!("score {tifa} first.jsonl");
    bench
        .run_line(&line, &[])
        .refused(&["questions.json", "[0]", "caption"]);
}

#[test]
fn neg_score_of_stored_answers() {
    let bench = Bench::new();
    let prompts = json!([
        {"Prompt": "a man with no hat", "Question1": "A man?", "Question2": "A hat?"},
        {"Prompt": "a room, no cat", "Question1": "A room?", "Question2": "A cat?"},
    ]);
    fs::write(bench.path("prompts.json"), prompts.to_string()).unwrap();
    // The first prompt has two pictures, the second one.
    let file = |name, [hat_0, hat_1, room, cat]: [&str; 4]| {
        answers(
            &bench,
            name,
            &[
                ("0/0", "A man?", "yes"),
                ("0/0", "A hat?", hat_0),
                ("0/1", "A man?", "yes"),
                ("0/1", "A hat?", hat_1),
                ("1", "A room?", room),
                ("1", "A cat?", cat),
            ],
        )
    };
    file("first.jsonl", ["no", "yes", "no", "no"]);
    file("second.jsonl", ["no", "no", "yes", "yes"]);
    let neg = "neg --prompts prompts.json";

    let scored = score(&bench, &format!("{neg} first.jsonl"));
    assert_eq!(scored["score"], "Neg Score");
    // (1/2 + 0) / 2, (1 + 0) / 2, (1/2 + 1) / 2.
    alone(&scored, "Neg Score", 0.25);
    alone(&scored, "affirmed", 0.5);
    alone(&scored, "negated", 0.75);
    assert_eq!(scored["counts"]["pictures"], 3);

    let scored = score(&bench, &format!("{neg} first.jsonl --against second.jsonl"));
    compared(&scored, "Neg Score", 0.25, 0.5);
    compared(&scored, "affirmed", 0.5, 1.);
    compared(&scored, "negated", 0.75, 0.5);
    // One picture became right and none wrong, which is no sign of anything.
    let mcnemar = &row(&scored, "Neg Score")["mcnemar"];
    assert_eq!(
        (&mcnemar["only_a"], &mcnemar["only_b"]),
        (&json!(0), &json!(1))
    );
    close(&mcnemar["p_value"], 1.);

    refuses_bad_answers(&bench, neg, "1", "A room?");
    // Other pictures are no pairs.
    let fewer = [
        ("0/0", "A man?", "yes"),
        ("0/0", "A hat?", "no"),
        ("1", "A room?", "yes"),
        ("1", "A cat?", "no"),
    ];
    answers(&bench, "fewer.jsonl", &fewer);
    let line = format!("score {neg} first.jsonl --against fewer.jsonl");
    bench
        .run_line(&line, &[])
        .refused(&["missing for the second"]);
}

const DSG: &str = "\
t2i_model,item_id,question,question_id,dependency_id,answer
one,t_0,Is there a tree?,1,0,yes
one,t_0,Is the tree lit?,2,1,no
one,t_1,Is there a hat?,1,0,no
one,t_1,Is the hat red?,2,1,yes
two,t_0,Is there a tree?,1,0,yes
two,t_0,Is the tree lit?,2,1,yes
two,t_1,Is there a hat?,1,0,yes
two,t_1,Is the hat red?,2,1,no
";

#[test]
fn dsg_of_released_answers() {
    let bench = Bench::new();
    fs::write(bench.path("both.csv"), DSG).unwrap();
    // A red hat that is not there does not count: (1/2 + 0) / 2.
    let scored = score(&bench, "dsg both.csv --painter one");
    alone(&scored, "DSG", 0.25);
    alone(&scored, "without dependencies", 0.5);
    assert_eq!(scored["counts"], json!({"prompts": 2, "questions": 4}));

    // (1 + 1/2) / 2, from the same file and from another.
    let one = score(&bench, "dsg both.csv --painter one --against-painter two");
    compared(&one, "DSG", 0.25, 0.75);
    compared(&one, "without dependencies", 0.5, 0.75);
    fs::write(bench.path("again.csv"), DSG).unwrap();
    let line = "dsg both.csv --painter one --against again.csv --against-painter two";
    assert_eq!(score(&bench, line), one);

    let told = |line: &str, parts: &[&str]| {
        bench
            .run_line(&format!("score dsg {line}"), &[])
            .refused(parts);
    };
    told("nowhere.csv", &["nowhere.csv", "No such file"]);
    told("both.csv", &["both.csv", "one, two"]);
    told("both.csv --painter three", &["both.csv", "'three'"]);
    let broken = |name: &str, from: &str, to: &str| {
        fs::write(bench.path(name), DSG.replacen(from, to, 1)).unwrap();
    };
    broken("parent.csv", "lit?,2,1,no", "lit?,2,x,no");
    told(
        "parent.csv --painter one",
        &["parent.csv", "line 3", "\"x\""],
    );
    broken("short.csv", "hat?,1,0,no", "hat?,1");
    told("short.csv --painter one", &["short.csv", "line 4"]);
    broken("unknown.csv", "red?,2,1,yes", "red?,2,7,yes");
    told("unknown.csv --painter one", &["t_1", "7"]);
}

/// A picture as GenEval's `evaluate_images.py` writes it.
fn result(file: &str, tag: &str, prompt: &str, correct: bool) -> Value {
    json!({"filename": file, "tag": tag, "prompt": prompt, "correct": correct})
}

#[test]
fn geneval_of_results_and_of_detections() {
    let bench = Bench::new();
    let file = |name, [a, b, c]: [bool; 3]| {
        let results = [
            result("0/0.png", "single_object", "a cat", a),
            result("0/1.png", "single_object", "a cat", b),
            result("1/0.png", "counting", "two cats", c),
        ];
        lines(&bench, name, &results)
    };
    file("first.jsonl", [true, false, false]);
    file("second.jsonl", [true, true, true]);
    let scored = score(&bench, "geneval first.jsonl");
    // The mean over tasks: (1/2 + 0) / 2.
    alone(&scored, "GenEval", 0.25);
    alone(&scored, "pictures", 1. / 3.);
    alone(&scored, "prompts with a right picture", 0.5);
    alone(&scored, "single_object", 0.5);
    alone(&scored, "counting", 0.);
    let scored = score(&bench, "geneval first.jsonl --against second.jsonl");
    compared(&scored, "pictures", 1. / 3., 1.);
    compared(&scored, "single_object", 0.5, 1.);
    let mcnemar = &row(&scored, "pictures")["mcnemar"];
    assert_eq!(
        (&mcnemar["only_a"], &mcnemar["only_b"]),
        (&json!(0), &json!(2))
    );
    close(&mcnemar["p_value"], 0.5);

    // Two cats, of which the second is too unsure to be counted.
    let seen = |confidence: f32| {
        let cat = |x: u32, confidence: f32| json!({"class": "cat", "confidence": confidence, "bounds": [x, 0, x + 9, 9]});
        json!({
            "tag": "counting", "prompt": "two cats", "include": [{"class": "cat", "count": 2}],
            "objects": [cat(0, 0.95), cat(20, confidence)],
        })
    };
    lines(&bench, "objects.jsonl", &[seen(0.95), seen(0.5)]);
    let scored = score(&bench, "geneval objects.jsonl");
    alone(&scored, "GenEval", 0.5);

    let told = |file: &str, parts: &[&str]| {
        let line = format!("score geneval {file}");
        bench.run_line(&line, &[]).refused(parts);
    };
    told("nowhere.jsonl", &["nowhere.jsonl", "No such file"]);
    let good = result("0/0.png", "counting", "two cats", true);
    fs::write(bench.path("torn.jsonl"), format!("{good}\n\n{{\"tag\"")).unwrap();
    told("torn.jsonl", &["torn.jsonl", "line 3"]);
    let neither = json!({"tag": "counting", "prompt": "two cats"});
    lines(&bench, "neither.jsonl", &[good, neither]);
    told("neither.jsonl", &["neither.jsonl", "line 2", "`correct`"]);
    let mut colour = seen(0.95);
    colour["include"][0]["color"] = json!("red");
    lines(&bench, "colour.jsonl", &[colour]);
    told("colour.jsonl", &["colour.jsonl", "line 1", "colour"]);
}

/// COCO's run lengths of a mask of 8 x 8 pixels, of which the first `columns` columns are marked down
/// to row `rows`.
fn mask(id: &str, columns: u32, rows: u32) -> Value {
    let mut counts = vec![0];
    let mut outside = 0;
    for _ in 0..columns {
        if outside > 0 {
            counts.push(outside);
        }
        counts.push(rows);
        outside = 8 - rows;
    }
    // Columns that are marked to the end have nothing between them.
    let counts = match (columns, rows) {
        (0, _) => vec![64],
        (_, 8) => vec![0, 8 * columns, 64 - 8 * columns],
        _ => {
            counts.push(outside + 8 * (8 - columns));
            counts
        }
    };
    json!({"id": id, "segmentation": {"size": [8, 8], "counts": counts}})
}

#[test]
fn masks_of_phrasecut() {
    let bench = Bench::new();
    let folder = bench.path("sets/phrasecut");
    fs::create_dir_all(&folder).unwrap();
    let info = |id: u64| json!({"image_id": id, "width": 8, "height": 8, "url": null, "coco_id": null, "split": "test"});
    // The corners are pixels of the mask themselves.
    let task = |id: u64, phrase: &str, last: u32| {
        json!({
            "task_id": format!("{id}__0"), "image_id": id, "ann_ids": [id], "phrase": phrase,
            "instance_boxes": [[0, 0, last + 1, last + 1]],
            "Polygons": [[[[0, 0], [last, 0], [last, last], [0, last]]]],
        })
    };
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string()).unwrap();
    write("image_data_split.json", json!([info(1), info(2)]));
    write(
        "refer_test.json",
        json!([task(1, "cup", 3), task(2, "wall", 7)]),
    );
    // Of the cup's 16 pixels all, of the wall's 64 half; then of the cup none, of the wall all.
    lines(
        &bench,
        "first.jsonl",
        &[mask("1__0", 4, 4), mask("2__0", 4, 8)],
    );
    lines(
        &bench,
        "second.jsonl",
        &[mask("1__0", 0, 0), mask("2__0", 8, 8)],
    );
    let segmentation = "segmentation --data sets --dataset phrasecut";

    let scored = score(&bench, &format!("{segmentation} first.jsonl"));
    alone(&scored, "mIoU", 0.75);
    alone(&scored, "IoU FG, cumulative", 48. / 80.);
    alone(&scored, "IoU > 0.5", 0.5);
    assert_eq!(scored["counts"], json!({"pictures": 2, "phrases": 2}));
    let line = format!("{segmentation} first.jsonl --against second.jsonl");
    let scored = score(&bench, &line);
    compared(&scored, "mIoU", 0.75, 0.5);
    compared(&scored, "IoU FG, cumulative", 48. / 80., 64. / 80.);

    let told = |file: &str, parts: &[&str]| {
        let line = format!("score {segmentation} {file}");
        bench.run_line(&line, &[]).refused(parts);
    };
    told("nowhere.jsonl", &["nowhere.jsonl", "No such file"]);
    let cup = mask("1__0", 4, 4);
    fs::write(bench.path("torn.jsonl"), format!("{cup}\n{{\"id\": \"2__")).unwrap();
    told("torn.jsonl", &["torn.jsonl", "line 2"]);
    lines(&bench, "fewer.jsonl", std::slice::from_ref(&cup));
    told("fewer.jsonl", &["fewer.jsonl", "2__0 of phrasecut/2"]);
    let both = [cup.clone(), mask("2__0", 8, 8)];
    let stranger = mask("9__0", 1, 1);
    lines(&bench, "stranger.jsonl", &[&both[..], &[stranger]].concat());
    told("stranger.jsonl", &["stranger.jsonl", "line 3", "9__0"]);
    let mut sum = both.clone();
    sum[1]["segmentation"]["counts"] = json!([0, 63]);
    lines(&bench, "sum.jsonl", &sum);
    told("sum.jsonl", &["sum.jsonl", "line 2", "64"]);
    let line = "score segmentation --data none --dataset phrasecut first.jsonl";
    bench
        .run_line(line, &[])
        .refused(&["none/phrasecut/refer_test.json", "is missing"]);
}
