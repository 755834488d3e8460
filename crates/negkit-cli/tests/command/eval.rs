//! `negkit eval`: runs that are killed, divided, put together, and given what is wrong.
//!
//! The models are tiny and most of their weights are random, the scenes are drawn; what is tested is
//! that a run is what it says it is. Everything goes the way of the published files: `--scale paper`
//! on a folder in the published layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::bench::{Bench, Ran, edit_safetensors, weights, write_tokenizer};

/// Kills of each table; of both together fifty.
const KILLS: usize = 25;

/// A folder with the published datasets and with all that a run needs.
struct Desk {
    bench: Bench,
}

/// One of the two tables, in the smallest setting that has several items.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Four,
    Five,
}

impl Table {
    fn line(self) -> &'static str {
        match self {
            Self::Four => {
                "eval table4 --scale paper --data data --model models/sd -e stock -e \
                 models/conclip --answerer models/vqa --sentence-encoder models/sbert --steps 1 \
                 --limit 3 -n 2 --batch-size 2 --resamples 50 --offline --device cpu \
                 --dtype f32"
            }
            Self::Five => {
                "eval table5 --scale paper --data data --model models/clipseg -e stock -e \
                 models/conclip --resamples 50 --offline --device cpu \
                 --dtype f32"
            }
        }
    }
}

impl Desk {
    fn new() -> Self {
        let bench = Bench::new();
        let line = "world generate --train 40 --val 8 --tifa 5 --side 48 --seed 3 --out data";
        bench.run_line(line, &[]).good();
        bench.copy(&weights("sd"), "models/sd");
        for name in ["clipseg", "conclip"] {
            bench.copy(&weights("clipseg-rd64"), &format!("models/{name}"));
            write_tokenizer(&bench.path(&format!("models/{name}")));
        }
        // Other weights, other hash.
        let path = bench.path("models/conclip/model.safetensors");
        edit_safetensors(&path, |tensors| {
            let tensor = tensors
                .get_mut("clip.text_model.final_layer_norm.bias")
                .unwrap();
            tensor.bytes.fill(0);
        });
        bench.copy(&weights("sentence-mpnet"), "models/sbert");
        let vqa = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/mini/vqa");
        bench.copy(&vqa, "models/vqa");
        Self { bench }
    }

    fn run(&self, table: Table, more: &str) -> Ran {
        self.bench
            .run_line(&format!("{} {more}", table.line()), &[])
    }

    /// A finished run without a break, and how long it took.
    fn whole(&self, table: Table, out: &str) -> (PathBuf, Duration) {
        let begun = Instant::now();
        let ran = self.run(table, &format!("--out {out}")).good();
        let took = begun.elapsed();
        let shown = fs::read_to_string(self.bench.path(out).join("table.md")).unwrap();
        assert!(ran.stdout.starts_with(&shown), "{}", ran.stdout);
        (self.bench.path(out), took)
    }

    /// The command, begun.
    fn begin(&self, table: Table, more: &str) -> Child {
        let line = format!("{} {more}", table.line());
        let mut command = self.bench.command(line.split_whitespace());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn summary(&self, run: &str) -> Value {
        json(&self.bench.path(run).join("summary.json"))
    }
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Every file below a folder with its bytes, but for times, locks, and the list of where pictures lie,
/// which is of other folders in another folder and decides nothing.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !["times", "sources"].iter().any(|own| name.starts_with(own))
                && !name.ends_with("lock")
            {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[track_caller]
fn assert_same(run: &Path, expected: &Path) {
    let (run, expected) = (files(run), files(expected));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&run), names(&expected));
    for (name, bytes) in &expected {
        assert!(&run[name] == bytes, "{name} has other bytes");
    }
}

/// The items of the lines of a file.
fn items(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["item"].as_str().unwrap().to_owned()
    };
    text.lines().map(line).collect()
}

fn killed_at_random(table: Table, seed: u64) {
    let desk = Desk::new();
    let (whole, took) = desk.whole(table, "whole");
    let planned = fs::read_to_string(whole.join("items.txt")).unwrap();
    assert!(planned.lines().count() >= 8, "{planned}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut killed = 0;
    for round in 0.. {
        let out = format!("run-{round}");
        let run = desk.bench.path(&out);
        loop {
            let mut child = desk.begin(table, &format!("--out {out}"));
            if killed == KILLS {
                assert!(child.wait().unwrap().success());
                break;
            }
            sleep(took.mul_f64(rng.random_range(0.0..0.8)));
            if let Some(ended) = child.try_wait().unwrap() {
                assert!(ended.success());
                break;
            }
            // SIGKILL: nothing can be put in order any more.
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        assert_same(&run, &whole);
        // What was done is not done again: a time is noted when a record is on the disk.
        let timed = items(&run.join("times.jsonl"));
        let once: BTreeSet<&String> = timed.iter().collect();
        assert_eq!(once.len(), timed.len(), "{timed:?}");
        if killed == KILLS {
            break;
        }
    }
}

#[test]
fn table_4_killed_twenty_five_times_has_the_bytes_of_an_unbroken_run() {
    killed_at_random(Table::Four, 4);
}

#[test]
fn table_5_killed_twenty_five_times_has_the_bytes_of_an_unbroken_run() {
    killed_at_random(Table::Five, 5);
}

#[test]
fn merged_shards_have_the_bytes_of_an_undivided_run() {
    let desk = Desk::new();
    for (table, name) in [(Table::Four, "four"), (Table::Five, "five")] {
        let (whole, _) = desk.whole(table, &format!("{name}-whole"));
        let parts: Vec<String> = (1..=3).map(|part| format!("{name}-{part}")).collect();
        for (part, out) in parts.iter().enumerate() {
            let shard = format!("--shard {}/3 --out {out}", part + 1);
            let told = desk.run(table, &shard).good().stdout;
            assert!(told.contains("left for other shards"), "{told}");
            assert!(!desk.bench.path(out).join("table.md").exists());
        }
        // One is missing.
        let line = format!("eval merge {name}-merged {} {}", parts[0], parts[2]);
        desk.bench
            .run_line(&line, &[])
            .refused(&["items have no record", "name the other shards"]);
        let line = format!("eval merge {name}-merged {}", parts.join(" "));
        let merged = desk.bench.run_line(&line, &[]).good().stdout;
        assert!(merged.contains("What agrees with the paper"), "{merged}");
        assert_same(&desk.bench.path(&format!("{name}-merged")), &whole);

        // Two at a time in one folder, as an array job on a shared disk. Whichever ends last writes
        // the table, and a third start has nothing to do.
        let out = format!("--out {name}-shared");
        let mut both =
            ["1/2", "2/2"].map(|shard| desk.begin(table, &format!("--shard {shard} {out}")));
        for child in &mut both {
            assert!(child.wait().unwrap().success());
        }
        let shared = desk.bench.path(&format!("{name}-shared"));
        desk.run(table, &out).good();
        for file in ["summary.json", "summary.csv", "table.md"] {
            let bytes = |folder: &Path| fs::read(folder.join(file)).unwrap();
            assert_eq!(bytes(&shared), bytes(&whole), "{file}");
        }
        let line = format!("eval merge {name}-joined {name}-shared");
        desk.bench.run_line(&line, &[]).good();
        assert_same(&desk.bench.path(&format!("{name}-joined")), &whole);
    }
    // Of two tables there is no one result.
    desk.bench
        .run_line("eval merge both four-whole five-whole", &[])
        .refused(&["begun with other settings"]);
}

/// Starts the command so that no file may grow beyond so many blocks of 512 bytes; the signal that
/// comes with it is ignored, and what is left is an error of `write`, as on a full disk.
fn with_little_room(desk: &Desk, table: Table, blocks: u32, out: &str) -> Ran {
    let line = format!("{} --out {out}", table.line());
    let command = desk.bench.command(line.split_whitespace());
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!(
            "ulimit -f {blocks} && trap '' XFSZ && exec \"$0\" \"$@\""
        ))
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output = shell.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

#[test]
fn a_full_disk_ends_a_run_and_harms_nothing() {
    let desk = Desk::new();
    // The pictures of Table 4 are too large for the first; the second is full at a record
    // of Table 5, which makes no pictures.
    for (table, blocks, full) in [
        (Table::Four, 10, ".png"),
        (Table::Five, 100, "records.jsonl"),
    ] {
        let (whole, _) = desk.whole(table, &format!("whole{full}"));
        let out = format!("run{full}");
        let run = desk.bench.path(&out);
        with_little_room(&desk, table, blocks, &out).refused(&[
            "the disk is full",
            full,
            "start the same command again",
        ]);
        let left = files(&run);
        assert!(
            !left.keys().any(|name| name.ends_with(".partial")),
            "{left:?}"
        );
        assert!(!left.contains_key("table.md"));
        // Only whole lines, and the same as those of a run with room.
        let records = |folder: &Path| fs::read(folder.join("records.jsonl")).unwrap();
        assert!(records(&whole).starts_with(&records(&run)));
        assert!(records(&run).is_empty() || records(&run).ends_with(b"\n"));
        desk.run(table, &format!("--out {out}")).good();
        assert_same(&run, &whole);
    }
}

#[test]
fn changed_settings_in_an_old_folder_are_refused() {
    let desk = Desk::new();
    for (table, changes) in [
        (
            Table::Four,
            &[
                ("--steps 2", "settings.steps was 1, now 2"),
                ("--seed 1", "settings.seed was 0, now 1"),
                ("--seeds 1,2", "settings.seeds was not set, now [1, 2]"),
                ("-e models/clipseg", "settings.text_encoders[2] was not set"),
            ][..],
        ),
        (
            Table::Five,
            &[
                ("--threshold 0.5", "settings.threshold was 0.3, now 0.5"),
                ("--words no", "settings.words was"),
                ("--only phrasecut", "settings.datasets[1] was"),
            ][..],
        ),
    ] {
        let out = format!("--out run-{}", changes.len());
        desk.run(table, &format!("{out} --shard 1/9")).good();
        let path = desk.bench.path(&format!("run-{}", changes.len()));
        let before = files(&path);
        for (change, told) in changes {
            // A flag that is given twice is an error of its own; take the last word for it.
            let line = format!("{} {out}", table.line());
            let line = line.replace(
                " --steps 1",
                if change.starts_with("--steps") {
                    ""
                } else {
                    " --steps 1"
                },
            );
            desk.bench
                .run_line(&format!("{line} {change}"), &[])
                .refused(&["begun with other settings", told, "another folder"]);
        }
        // A model that was exchanged under its name is told by its hash.
        let weights = desk.bench.path("models/conclip/model.safetensors");
        let kept = fs::read(&weights).unwrap();
        edit_safetensors(&weights, |tensors| {
            let tensor = tensors
                .get_mut("clip.text_model.final_layer_norm.weight")
                .unwrap();
            tensor.bytes.fill(0);
        });
        desk.run(table, &out)
            .refused(&["begun with other settings", "[1].sha256 was"]);
        fs::write(&weights, kept).unwrap();
        assert_eq!(files(&path), before);
    }
    fs::create_dir_all(desk.bench.path("other")).unwrap();
    fs::write(desk.bench.path("other/notes.txt"), "mine").unwrap();
    desk.run(Table::Four, "--out other")
        .refused(&["other holds files but no run.toml"]);
}

#[test]
fn a_run_says_what_it_was_made_with() {
    let desk = Desk::new();
    let hash = |path: &str| {
        let line = "encoders inspect --json";
        let told = desk
            .bench
            .run_line(line, &[OsStr::new(&format!("models/{path}"))])
            .good()
            .json();
        told["sha256"].as_str().unwrap().to_owned()
    };
    desk.whole(Table::Four, "four");
    let four = desk.summary("four");
    let settings = &four["settings"];
    assert_eq!(settings["text_encoders"][0]["name"], "stock");
    assert_eq!(settings["text_encoders"][1]["name"], "models/conclip");
    assert_eq!(settings["text_encoders"][1]["sha256"], hash("conclip"));
    assert_ne!(
        settings["text_encoders"][0]["sha256"],
        settings["text_encoders"][1]["sha256"]
    );
    assert_eq!(settings["sentences"]["name"], "models/sbert");
    assert_eq!(settings["device"], "cpu");
    assert_eq!(settings["dtype"], "f32");
    assert_eq!(settings["neg_prompts"], 3);
    desk.whole(Table::Five, "five");
    let five = desk.summary("five");
    let settings = &five["settings"];
    assert_eq!(settings["encoders"][0]["sha256"], hash("clipseg"));
    assert_eq!(settings["encoders"][1]["sha256"], hash("conclip"));
    assert_eq!(settings["datasets"][0]["split"], "test");
    for (run, part) in [("four", "seed = 0"), ("five", "refer_test.json")] {
        let head = fs::read_to_string(desk.bench.path(run).join("run.toml")).unwrap();
        assert!(head.contains(part), "{head}");
        assert!(head.contains("negkit = \""), "{head}");
    }
    // All scores have intervals.
    for encoder in four["encoders"].as_array().unwrap() {
        for score in ["neg_score", "affirmed", "negated", "tifa"] {
            assert!(encoder[score]["low"].is_number(), "{score}: {encoder}");
        }
        for parts in ["neg_score_by_word", "tifa_by_type"] {
            let parts = encoder[parts].as_object().unwrap();
            assert!(!parts.is_empty());
            assert!(parts.values().all(|part| part["low"].is_number()));
        }
    }
}

#[test]
fn a_dry_run_counts_and_measures_and_makes_nothing() {
    let desk = Desk::new();
    for (table, parts) in [
        (
            // Three prompts of each score with two encoders; two pictures of one, one of the other.
            Table::Four,
            &["18 pictures of 1 steps", "12 items", "0 done, 12 left"][..],
        ),
        (
            Table::Five,
            &["pictures are encoded once each", "2 encoders", "0 done"][..],
        ),
    ] {
        let told = desk.run(table, "--out run --dry-run").good().stdout;
        for part in parts.iter().chain(&["measured on two items"]) {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert!(!desk.bench.path("run").exists());
        desk.run(table, "--out run --shard 1/2").good();
        let before = files(&desk.bench.path("run"));
        let told = desk.run(table, "--out run --shard 1/2 --dry-run").good();
        assert!(told.stdout.contains(", 0 left"), "{}", told.stdout);
        assert!(
            told.stdout.contains("measured on what is done"),
            "{}",
            told.stdout
        );
        assert_eq!(files(&desk.bench.path("run")), before);
        fs::remove_dir_all(desk.bench.path("run")).unwrap();
    }
}

#[test]
fn seeds_are_one_picture_each_for_every_prompt() {
    let desk = Desk::new();
    desk.run(Table::Four, "--out run").good();
    let line = Table::Four.line().replace(" -n 2", "");
    let seeds = |seeds: &str, more: &str| {
        desk.bench
            .run_line(&format!("{line} --seeds {seeds} {more}"), &[])
    };
    seeds("7,0,9", "--out seeds").good();
    let named: BTreeSet<String> = files(&desk.bench.path("seeds"))
        .into_keys()
        .filter_map(|name| Some(name.strip_prefix("pictures/neg/")?.to_owned()))
        .collect();
    assert_eq!(named.len(), 3 * 2 * 3, "{named:?}");
    for end in ["-stock-seed0.png", "-conclip-seed7.png", "-stock-seed9.png"] {
        let count = named.iter().filter(|name| name.ends_with(end)).count();
        assert_eq!(count, 3, "{end}: {named:?}");
    }
    // The first prompt has the noise of seed 0 in both runs.
    let picture = |run: &str| {
        let name = "pictures/neg/0000-stock-seed0.png";
        image::open(desk.bench.path(run).join(name))
            .unwrap()
            .into_rgb8()
    };
    let (own, shared) = (picture("run"), picture("seeds"));
    let largest = own.as_raw().iter().zip(shared.as_raw());
    // Batches of another size are summed in another order.
    assert!(largest.map(|(a, b)| a.abs_diff(*b)).max().unwrap() <= 1);
    assert_eq!(desk.summary("seeds")["settings"]["images_per_prompt"], 3);
    seeds("7,7", "--out x").refused(&["the seed 7 is given twice"]);
    seeds("7,8", "--out x -n 3").refused(&["expected 1 to 2, found 3"]);
    seeds("7,8", "--out x --seed 1").refused(&["--seed"]);
    seeds("-1", "--out x").refused(&["-1"]);
    assert!(!desk.bench.path("x").exists());
}

#[test]
fn pictures_that_are_lost_are_counted_and_named() {
    let desk = Desk::new();
    let (whole, _) = desk.whole(Table::Five, "whole");
    let ids = |dataset: &str| -> Vec<String> {
        let listed = fs::read_to_string(whole.join("items.txt")).unwrap();
        let ids = listed.lines().filter_map(|line| line.strip_prefix(dataset));
        ids.map(|id| id.trim_start_matches('/').to_owned())
            .collect()
    };
    let (phrasecut, refcocog) = (ids("phrasecut"), ids("refcocog"));
    assert!(phrasecut.len() >= 4 && refcocog.len() >= 2);
    let picture = |id: &str| desk.bench.path(&format!("data/phrasecut/images/{id}.jpg"));
    fs::remove_file(picture(&phrasecut[0])).unwrap();
    let bytes = fs::read(picture(&phrasecut[1])).unwrap();
    fs::write(picture(&phrasecut[1]), &bytes[..bytes.len() / 3]).unwrap();
    // Since it was annotated, somebody has cropped it.
    RgbImage::new(47, 48).save(picture(&phrasecut[2])).unwrap();
    let photo = format!("data/train2014/COCO_train2014_{:0>12}.jpg", refcocog[0]);
    fs::remove_file(desk.bench.path(&photo)).unwrap();

    let told = desk.run(Table::Five, "--out run").good().stdout;
    assert!(
        told.contains("**3 pictures could not be scored:**"),
        "{told}"
    );
    assert!(
        told.contains("**1 picture could not be scored:**"),
        "{told}"
    );
    assert!(
        told.contains(&format!("- {}: missing\n", phrasecut[0])),
        "{told}"
    );
    let summary = desk.summary("run");
    let of = |dataset: usize| &summary["datasets"][dataset];
    let before = desk.summary("whole");
    let pictures = |summary: &Value, dataset: usize| {
        summary["datasets"][dataset]["pictures"].as_u64().unwrap()
    };
    assert_eq!(pictures(&summary, 0) + 3, pictures(&before, 0));
    assert_eq!(pictures(&summary, 1) + 1, pictures(&before, 1));
    let faults = of(0)["faults"].as_array().unwrap();
    let fault = |index: usize| faults[index]["fault"].as_str().unwrap();
    assert_eq!(faults.len(), 3);
    assert!(fault(1).starts_with("broken: "), "{faults:?}");
    assert_eq!(fault(2), "expected 48x48 pixels, found 47x48");
    assert_eq!(of(1)["faults"][0]["picture"].to_string(), refcocog[0]);
}

#[test]
fn what_is_no_number_is_never_scored() {
    let desk = Desk::new();
    let spoil = |path: &str, tensor: &str| {
        edit_safetensors(&desk.bench.path(path), |tensors| {
            let stored = tensors
                .get_mut(tensor)
                .unwrap_or_else(|| panic!("{path} has no {tensor}"));
            // All bits set is NaN in every type of float.
            stored.bytes.fill(0xff);
        });
    };
    spoil("models/clipseg/model.safetensors", "decoder.film_mul.bias");
    desk.run(Table::Five, "--out five")
        .refused(&["item 'phrasecut/", "not finite"]);
    spoil(
        "models/sd/vae/diffusion_pytorch_model.safetensors",
        "decoder.conv_out.bias",
    );
    desk.run(Table::Four, "--out four")
        .refused(&["item 'neg/0000/stock'", "not finite"]);
    for run in ["four", "five"] {
        let records = desk.bench.path(run).join("records.jsonl");
        assert!(fs::read(records).unwrap().is_empty());
        assert!(!desk.bench.path(run).join("summary.json").exists());
    }
}

#[test]
fn what_is_missing_at_the_papers_scale_is_told_with_its_source() {
    let desk = Desk::new();
    let bench = &desk.bench;
    fs::create_dir(bench.path("empty")).unwrap();
    for (line, parts) in [
        (
            "eval table4 --scale paper --data empty --offline",
            &[
                "prompts_with_questions.json",
                "https://github.com/sepehrkr/SpaceVLM",
            ][..],
        ),
        (
            "eval table5 --scale paper --data empty --offline",
            &[
                "refer_test.json",
                "https://github.com/ChenyunWu/PhraseCutDataset",
            ],
        ),
        (
            "eval table5 --scale paper --data empty --only refcocog --offline",
            &["refs(umd).p", "https://github.com/lichengunc/refer"],
        ),
        (
            "eval table5 --scale paper --data data --phrasecut-split miniv --offline",
            &[
                "refer_miniv.json",
                "https://github.com/ChenyunWu/PhraseCutDataset",
            ],
        ),
        (
            "eval table5 --scale paper --data data --refcocog-splitter google --offline",
            &["refs(google).p"],
        ),
        (
            "eval table5 --scale paper --data data --refcocog-split nowhere --offline",
            &["RefCOCOg (Neg) gives no phrase"],
        ),
        // The models have known names at this scale.
        (
            "eval table4 --scale paper --data data --offline",
            &["sd-1.4"],
        ),
        (
            "eval table5 --scale paper --data data --offline",
            &["clipseg-rd64-refined"],
        ),
        ("eval table4 --scale paper", &["--data"]),
        ("eval table4 --data data --offline", &["--scale paper"]),
        ("eval table5 --data data --offline", &["--scale paper"]),
        ("eval table5 --shard 3/2", &["3/2"]),
    ] {
        bench.run_line(line, &[]).refused(parts);
    }
    fs::rename(bench.path("data/train2014"), bench.path("photos")).unwrap();
    bench
        .run_line("eval table5 --scale paper --data data --offline", &[])
        .refused(&[
            "train2014",
            "http://images.cocodataset.org/zips/train2014.zip",
        ]);
    // The places where they are usually unpacked.
    fs::create_dir(bench.path("data/coco")).unwrap();
    fs::rename(bench.path("photos"), bench.path("data/coco/train2014")).unwrap();
    fs::rename(
        bench.path("data/phrasecut"),
        bench.path("data/VGPhraseCut_v0"),
    )
    .unwrap();
    fs::create_dir_all(bench.path("data/refer/data")).unwrap();
    fs::rename(
        bench.path("data/refcocog"),
        bench.path("data/refer/data/refcocog"),
    )
    .unwrap();
    let told = desk.run(Table::Five, "--out run").good().stdout;
    assert!(told.contains("Split umd, all:"), "{told}");
    assert!(told.contains("Split test:"), "{told}");
}
