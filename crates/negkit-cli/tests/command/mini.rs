//! `negkit mini`, without a training: what is there is checked, what is not is named.

use std::fs;

use crate::bench::{Bench, weights};

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn an_export_says_which_training_comes_first() {
    let bench = Bench::new();
    let export = || bench.run_line("mini export --out run --weights mini", &[]);
    export().refused(&[
        "run: stage clip is not through",
        "negkit mini train --out run",
    ]);
    assert!(!bench.path("mini").exists());
    // Nor is a folder replaced that is somebody's own.
    fs::create_dir(bench.path("mini")).unwrap();
    fs::write(bench.path("mini/thesis.tex"), "").unwrap();
    export().refused(&["thesis.tex", "Move them away"]);
    assert!(bench.path("mini/thesis.tex").is_file());
}

#[test]
fn files_are_checked_against_their_list() {
    let bench = Bench::new();
    let verify = || bench.run_line("mini verify --weights mini", &[]);
    verify().refused(&["SHA256SUMS"]);
    fs::create_dir_all(bench.path("mini/vqa")).unwrap();
    fs::write(
        bench.path("mini/SHA256SUMS"),
        format!("{EMPTY}  vqa/config.json\n"),
    )
    .unwrap();
    verify().refused(&["vqa/config.json is listed", "git checkout"]);
    fs::write(bench.path("mini/vqa/config.json"), "").unwrap();
    assert_eq!(verify().good().stdout, "mini: 1 file(s) as listed\n");
    fs::write(bench.path("mini/vqa/config.json"), "{").unwrap();
    verify().refused(&["vqa/config.json", EMPTY, "(1 bytes)", "negkit mini export"]);
    fs::write(bench.path("mini/SHA256SUMS"), &EMPTY[..60]).unwrap();
    verify().refused(&["SHA256SUMS line 1"]);
}

#[test]
fn an_encoder_that_is_not_the_listed_one_is_not_used() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("mini/clip")).unwrap();
    for entry in fs::read_dir(weights("clip-hf")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(
            entry.path(),
            bench.path("mini/clip").join(entry.file_name()),
        )
        .unwrap();
    }
    let inspect = || bench.run_line("encoders inspect --offline mini/clip", &[]);
    inspect().good();
    fs::write(
        bench.path("mini/SHA256SUMS"),
        format!("{EMPTY}  clip/model.safetensors\n"),
    )
    .unwrap();
    inspect().refused(&["clip/model.safetensors is not the file", "git checkout"]);
}
