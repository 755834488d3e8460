//! `negkit captions stats`: the figures of Table 1 for any caption file.

use std::fs::{self, File};
use std::path::Path;

use serde_json::json;

use crate::bench::Bench;

const CAPTIONS: &str =
    "id,text\n1,a room with no chairs\n2,\"a man, NOT a woman, without a hat\"\n3,a bus\n4,\n";

#[test]
fn shares_words_and_examples_are_told() {
    let bench = Bench::new();
    fs::write(bench.path("captions.csv"), CAPTIONS).unwrap();
    let table = bench
        .run_line("captions stats captions.csv --examples 2", &[])
        .good()
        .stdout;
    for part in [
        "captions               3  (1 empty, not counted)",
        "words                 15  (5.0 a caption)",
        "captions                    2   66.6667 %  [",
        "words                       3   20.0000 %  [",
        "without                  1              1   33.3333 %  [",
        "    a room with no chairs  (captions.csv, line 2)",
        "0.70 % of captions, 0.08 % of words",
    ] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    assert!(!table.contains("nobody"), "{table}");

    let found = bench
        .run_line("captions stats captions.csv --json", &[])
        .good()
        .json();
    assert_eq!(found["negated_captions"]["count"], 2);
    assert_eq!(found["entries"][0]["entry"], "no");
    assert_eq!(
        found["faults"],
        json!({ "records": 0, "files": 0, "named": [] })
    );

    fs::write(bench.path("words.txt"), "# colours\nbus\n").unwrap();
    let other = bench.run_line("captions stats captions.csv --words words.txt --json", &[]);
    assert_eq!(other.good().json()["negation_words"]["count"], 1);
}

#[test]
fn captions_come_from_the_standard_input() {
    let bench = Bench::new();
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/captions");
    for file in ["plain.txt.zst", "coco.json"] {
        let mut command = bench.command(["captions", "stats", "-", "--json"]);
        let output = command
            .stdin(File::open(fixtures.join(file)).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success());
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["captions"], 396, "{file}");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_ends_with_1() {
    let bench = Bench::new();
    fs::write(
        bench.path("a.jsonl"),
        "{\"caption\": \"no\"}\n{\"caption\"\n",
    )
    .unwrap();
    let one = bench.run_line("captions stats a.jsonl", &[]).good();
    assert!(
        one.stderr
            .contains("could not be read: 1 records, and 0 files not to their end")
    );
    assert!(
        one.stderr.contains("a.jsonl, line 2: column"),
        "{}",
        one.stderr
    );

    fs::write(
        bench.path("b.json"),
        "{\"annotations\": [{\"caption\": \"no\"},",
    )
    .unwrap();
    let torn = bench.run_line("captions stats b.json --json", &[]);
    assert_eq!(torn.code, Some(1));
    assert_eq!(torn.json()["captions"], 1);
    assert!(
        torn.stderr.contains("the rest of the file was not read"),
        "{}",
        torn.stderr
    );

    fs::write(bench.path("words.txt"), "no\nfree  of\n").unwrap();
    bench
        .run_line("captions stats a.jsonl --words words.txt", &[])
        .refused(&["words.txt: line 2", "no, w/o, free of"]);
    bench
        .run_line("captions stats none.txt", &[])
        .refused(&["cannot read none.txt"]);
    bench
        .run_line("captions stats a.jsonl --format xml", &[])
        .refused(&["expected text, csv, tsv, jsonl, json or parquet"]);
}
