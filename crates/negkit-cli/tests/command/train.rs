//! `negkit train`, on the small CLIP and drawn pictures.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::Bench;

fn mini_clip() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/mini/clip");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Drawn pictures with captions that say what is absent, in `data`.
fn world() -> Bench {
    let bench = Bench::new();
    let line = "world generate --train 16 --val 1 --tifa 1 --side 48 --seed 3 --out data";
    bench.run_line(line, &[]).good();
    bench
}

const LINE: &str = "train negation --captions data/negation/captions_p1_train2014.json \
    --images data/train2014 --features features --batch-size 12 --chunk 5 --max-steps 40 \
    --epochs 100 --validate-every 10 --checkpoint-every 4 --learning-rate 1e-4";

fn arguments<'a>(out: &'a str, clip: &'a Path) -> [&'a OsStr; 4] {
    [
        OsStr::new("--out"),
        out.as_ref(),
        OsStr::new("--clip"),
        clip.as_ref(),
    ]
}

#[test]
fn a_training_that_is_killed_comes_to_the_same_weights() {
    let (bench, clip) = (world(), mini_clip());
    let told = bench
        .run_line(LINE, &arguments("whole", &clip))
        .good()
        .stdout;
    for part in [
        "40 steps",
        "best validation loss",
        "times faster",
        "whole/negationclip.pth",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let curves = image::open(bench.path("whole/training/curves.png")).unwrap();
    assert!(curves.width() > 500);

    let words: Vec<&OsStr> = LINE.split_whitespace().map(OsStr::new).collect();
    let rest = arguments("broken", &clip);
    let mut child = bench.command(words.iter().chain(&rest)).spawn().unwrap();
    let log = bench.path("broken/training/log.csv");
    while child.try_wait().unwrap().is_none() {
        // Between two checkpoints, most likely.
        if fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 11) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.run_line(LINE, &rest).good();
    let read = |out: &str| fs::read(bench.path(out).join("negationclip.pth")).unwrap();
    assert_eq!(read("broken"), read("whole"));

    // What came out is an encoder like any other, with the sizes of the one that went in.
    let inspect = "encoders inspect --offline --json whole/negationclip.safetensors";
    assert_eq!(
        bench.run_line(inspect, &[]).good().json()["naming"],
        "OpenAI CLIP"
    );
    let compare = "encoders compare --offline --json whole/transformers";
    bench.run_line(compare, &[clip.as_os_str()]).good();
    bench
        .run_line(&format!("{LINE} --seed 7"), &rest)
        .refused(&[
            "broken/training holds a training with other settings",
            "recipe.seed",
        ]);
}

#[test]
fn settings_go_through_a_file_and_flags_win() {
    let bench = Bench::new();
    let clip = mini_clip();
    let line = "train negation --captions x.json --images x --write-config recipe.toml --seed 5 \
        --method bnl --bnl-to-picture 0.5 0.2 0.4 --patience 3";
    bench.run_line(line, &arguments("out", &clip)).good();
    let written = fs::read_to_string(bench.path("recipe.toml")).unwrap();
    for part in [
        "seed = 5",
        "method = \"bnl\"",
        "patience = 3",
        "upper = 0.4",
        "epochs = 15",
    ] {
        assert!(written.contains(part), "{part} is not in {written}");
    }
    let line = "train negation --captions x.json --images x --config recipe.toml --seed 6 \
        --write-config again.toml";
    bench.run_line(line, &arguments("out", &clip)).good();
    let again = fs::read_to_string(bench.path("again.toml")).unwrap();
    assert_eq!(again, written.replace("seed = 5", "seed = 6"));

    fs::write(bench.path("wrong.toml"), "epoch = 3").unwrap();
    for (line, parts) in [
        ("--config wrong.toml", &["wrong.toml", "epoch"][..]),
        ("--batch-size 1", &["batch_size is 1", "at least 2"]),
        ("--ordinary-share 2", &["ordinary_share is 2"]),
        ("--method none", &["none", "conclip"]),
        ("", &["x.json"]),
    ] {
        let line = format!("train negation --captions x.json --images x {line}");
        bench
            .run_line(&line, &arguments("out", &clip))
            .refused(parts);
    }
}
