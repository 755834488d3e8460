//! `negkit world`.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, picture};

#[test]
fn scenes_are_shown_with_what_can_be_said_of_them() {
    let bench = Bench::new();
    let show = |arguments: &str| {
        bench
            .run_line(&format!("world show {arguments}"), &[])
            .good()
            .stdout
    };
    let told = show("--seed 5 --count 6 --columns 3 --side 64 --out a/b/sheet.png");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2 * 6 + 1, "{told}");
    for (number, line) in lines.iter().step_by(2).take(6).enumerate() {
        let seed = line.split_whitespace().next();
        assert_eq!(seed, Some(&*(5 + number).to_string()), "{told}");
    }
    assert_eq!(lines.last(), Some(&"a/b/sheet.png"));
    let wide = picture(&bench.path("a/b/sheet.png"));
    assert!(wide.width() > 3 * 256 && wide.height() > 2 * 256);

    assert_eq!(
        show("--seed 5 --count 6 --columns 3 --side 64 --out a/b/sheet.png"),
        told
    );
    assert_eq!(picture(&bench.path("a/b/sheet.png")), wide);
    show("--seed 5 --count 6 --columns 6 --side 64 --out tall.png");
    assert!(picture(&bench.path("tall.png")).width() > wide.width());

    // The same seeds mean the same scenes, whatever else is shown.
    let beaches = show("--count 3 --side 64 --place beach");
    let full: Vec<&str> = beaches.lines().skip(1).step_by(2).take(3).collect();
    assert_eq!(full.len(), 3);
    assert!(full.iter().all(|line| line.contains("beach")), "{beaches}");
    assert!(bench.path("out/world.png").is_file());
    let seed = beaches.split_whitespace().next().unwrap();
    let alone = show(&format!("--seed {seed} --count 1"));
    assert!(beaches.starts_with(&alone[..alone.rfind("out").unwrap()]));
    // There is no scene after the last seed.
    let last = show(&format!("--seed {} --count 3 --side 64", u64::MAX));
    assert_eq!(last.lines().count(), 3);
}

#[test]
fn a_dataset_is_written_once_and_mended() {
    let bench = Bench::new();
    let line = "world generate --train 12 --val 4 --tifa 3 --side 48 --seed 9 --out data";
    let told = bench.run_line(line, &[]).good().stdout;
    for part in [
        "data/train2014  12 files",
        "data/annotations",
        "data/tifa",
        "dataset.json",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let list = fs::read(bench.path("data/dataset.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["plan"]["counts"]["train"], 12);
    let name = "data/val2014/COCO_val2014_000000000013.jpg";
    assert_eq!(picture(&bench.path(name)).dimensions(), (48, 48));

    let whole = fs::read(bench.path(name)).unwrap();
    fs::write(bench.path(name), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(bench.run_line(line, &[]).good().stdout, told);
    assert_eq!(fs::read(bench.path(name)).unwrap(), whole);

    // A folder that holds another dataset is left alone.
    bench
        .run_line(&line.replace("--seed 9", "--seed 10"), &[])
        .refused(&[
            "data holds a dataset of another plan",
            "choose another folder",
        ]);
    assert_eq!(fs::read(bench.path(name)).unwrap(), whole);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = Bench::new();
    for (line, parts) in [
        ("world show --place moon", &["moon", "harbor"][..]),
        ("world show --count 0", &["0", "1..=1000"]),
        ("world show --columns 0", &["0", "1..=1000"]),
        ("world show --side 4", &["4", "16..=4096"]),
        (
            "world show --count 1000 --columns 2 --side 512",
            &["fewer", "pixels"],
        ),
        ("world show --seed -1", &["-1"]),
        ("world generate", &["--out"]),
        ("world generate --out x --train 0", &["0", "train"]),
        ("world generate --out x --side 100000", &["16..=4096"]),
    ] {
        bench.run_line(line, &[]).refused(parts);
    }
    assert!(fs::read_dir(bench.path("")).unwrap().next().is_none());
    fs::write(bench.path("file"), "").unwrap();
    let line = "world show --count 1 --side 32 --out file/sheet.png";
    bench
        .run_line(line, &[])
        .refused(&["cannot make the folder file"]);
    bench
        .run_line("world generate --train 1 --val 1 --out file/data", &[])
        .refused(&["file/data"]);
}
