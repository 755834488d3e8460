//! `negkit score`: files of answers, results and masks.

use std::fs;

use serde_json::json;

use crate::bench::Bench;

const PROMPTS: &str = r#"[{"Prompt": "a man with no hat", "Question1": "A man?", "Question2": "A hat?"},
    {"Prompt": "a room without a cat", "Question1": "A room?", "Question2": "A cat?"}]"#;

/// A table of answers: of each of two prompts the affirmed and the negated one.
fn answers(texts: [[&str; 2]; 2]) -> String {
    let [[man, hat], [room, cat]] = texts;
    format!(
        "picture,question,answer\n0,A man?,{man}\n0,A hat?,{hat}\n1,A room?,{room}\n1,A cat?,{cat}\n"
    )
}

#[test]
fn answers_are_scored_and_compared() {
    let bench = Bench::new();
    let write = |name: &str, text: &str| fs::write(bench.path(name), text).unwrap();
    write("prompts.json", PROMPTS);
    write("a.csv", &answers([["yes", "yes"], ["yes", "no"]]));
    write("b.csv", &answers([["yes", "no"], ["yes", "no"]]));
    let line = "score neg a.csv --against b.csv --prompts prompts.json --resamples 100";
    let told = bench.run_line(line, &[]).good().stdout;
    for part in [
        "Neg Score: 2 pictures, 2 prompts",
        "0.500 [0.000, 1.000]  against 1.000 [1.000, 1.000]  +0.500 [",
        "McNemar 1 to 0",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let found = bench.run_line(&format!("{line} --json"), &[]).good().json();
    assert_eq!(found["rows"][0]["first"]["estimate"], 0.5);
    assert_eq!(
        found["rows"][0]["difference"]["difference"]["estimate"],
        0.5
    );

    write("short.csv", "picture,question,answer\n0,A man?,yes\n");
    bench
        .run_line("score neg short.csv --prompts prompts.json", &[])
        .refused(&["short.csv", "A hat?"]);
    bench
        .run_line("score neg none.csv --prompts prompts.json", &[])
        .refused(&["none.csv"]);

    let question = json!([{"id": "p", "caption": "a cat", "question": "a cat?",
        "choices": ["yes", "no"], "answer": "yes", "element_type": "animal/human",
        "element": "cat"}]);
    write("questions.json", &question.to_string());
    write(
        "tifa.csv",
        "picture,question,answer\np/0,a cat?,yes\np/1,a cat?,a kitten\n",
    );
    let line = "score tifa tifa.csv --questions questions.json --resamples 100";
    let told = bench.run_line(line, &[]).good().stdout;
    assert!(told.contains("animal/human  0.500"), "{told}");
    assert!(told.contains("no sentence encoder"), "{told}");

    write(
        "dsg.csv",
        "t2i_model,item_id,question_id,dependency_id,answer\none,i,1,0,no\none,i,2,1,yes\n\
         two,i,1,0,yes\ntwo,i,2,1,yes\n",
    );
    let line = "score dsg dsg.csv --painter one --against-painter two --resamples 100";
    let told = bench.run_line(line, &[]).good().stdout;
    assert!(
        told.contains("0.000 [0.000, 0.000]  against 1.000"),
        "{told}"
    );
    bench
        .run_line("score dsg dsg.csv", &[])
        .refused(&["one, two", "choose one"]);

    let result = json!({"tag": "counting", "prompt": "two cats", "correct": true});
    write("geneval.jsonl", &result.to_string());
    let told = bench
        .run_line("score geneval geneval.jsonl --resamples 100", &[])
        .good()
        .stdout;
    assert!(told.contains("GenEval") && told.contains("1.000"), "{told}");
}

#[test]
fn masks_are_scored_with_a_published_dataset() {
    let bench = Bench::new();
    let line = "world generate --train 2 --val 4 --tifa 1 --side 32 --out data";
    bench.run_line(line, &[]).good();
    let tasks = fs::read(bench.path("data/phrasecut/refer_test.json")).unwrap();
    let tasks: serde_json::Value = serde_json::from_slice(&tasks).unwrap();
    // Everything is marked: no pixel outside, all 1,024 inside.
    let lines = tasks.as_array().unwrap().iter().map(|task| {
        let mask = json!({"size": [32, 32], "counts": [0, 1024]});
        format!("{}\n", json!({"id": task["task_id"], "segmentation": mask}))
    });
    fs::write(bench.path("masks.jsonl"), lines.collect::<String>()).unwrap();
    let line = "score segmentation masks.jsonl --data data --resamples 100 --dataset";
    let told = bench
        .run_line(&format!("{line} phrasecut"), &[])
        .good()
        .stdout;
    for part in ["mIoU", "IoU FG, cumulative", "IoU > 0.9", "2 pictures"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    bench
        .run_line(&format!("{line} phrasecut --split nowhere"), &[])
        .refused(&["train, val, test or miniv"]);
    bench
        .run_line(
            "score segmentation masks.jsonl --data none --dataset phrasecut",
            &[],
        )
        .refused(&["refer_test.json", "https://"]);
}
