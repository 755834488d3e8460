//! Every format, packed or not, against a recount in Python (eval/parity/caption_stats.py).

use negkit_shared_data::shared;
use negkit_stats::{Format, Input, Report, Survey, WordList, find};

use crate::recount::{Counts, counts, fixtures};

fn read(survey: Survey, files: &[&str]) -> Report {
    let files: Vec<Input> = files
        .iter()
        .map(|name| Input::from(fixtures().join(name)))
        .collect();
    survey.run(&find(&files).unwrap(), &|_| {}).unwrap()
}

fn assert_counts(report: &Report, expected: &Counts, what: &str) {
    assert!(report.faults.is_empty(), "{what}: {:?}", report.faults);
    assert_eq!(&Counts::of(report), expected, "{what}");
}

#[test]
fn every_format_gives_the_recount() {
    let expected = counts();
    for (name, may_be_null) in [
        ("coco.json", true),
        ("coco.json.gz", true),
        ("list.json", true),
        ("lines.jsonl", true),
        ("lines.jsonl.zst", true),
        ("snappy.parquet", true),
        ("zstd.parquet", true),
        ("lists.parquet", true),
        ("table.csv", false),
        ("table.tsv", false),
        ("plain.txt", false),
        ("plain.txt.gz", false),
        ("plain.txt.zst", false),
    ] {
        let report = read(Survey::new(WordList::negations()), &[name]);
        let expected = match may_be_null {
            true => &expected.default,
            false => &expected.default_without_null,
        };
        assert_counts(&report, &expected.counts, name);
    }
    let report = read(Survey::new(WordList::extended()), &["coco.json"]);
    assert_counts(&report, &expected.extended.counts, "extended");
}

#[test]
fn real_captions_give_the_recount() {
    for file in counts().shared {
        let Some(path) = shared(&file.file) else {
            return;
        };
        for (list, expected) in [
            (WordList::negations(), &file.default),
            (WordList::extended(), &file.extended),
        ] {
            let survey = Survey::new(list).with_column(&file.column);
            let found = find(&[Input::from(path.as_path())]).unwrap();
            let report = survey.run(&found, &|_| {}).unwrap();
            assert_counts(
                &report,
                &expected.counts,
                &format!("{} {}", file.file, file.column),
            );
        }
    }
}

/// The interval of the share of words against a bootstrap over captions. With 440 captions or more
/// the two differ by less than a tenth of the interval; by the normal distribution of single words it
/// would be half as wide again for NegRefCOCOg, whose every caption holds one negation.
#[test]
fn the_interval_of_words_is_that_of_a_bootstrap() {
    let expected = counts();
    let made_up = read(Survey::new(WordList::negations()), &["coco.json"]);
    let mut pairs = vec![(made_up, expected.default.interval)];
    for file in &expected.shared {
        let Some(path) = shared(&file.file) else {
            continue;
        };
        let survey = Survey::new(WordList::negations()).with_column(&file.column);
        let found = find(&[Input::from(path)]).unwrap();
        let report = survey.run(&found, &|_| {}).unwrap();
        // Two negations are too few for a bootstrap.
        if report.negation_words.count > 100 {
            pairs.push((report, file.default.interval));
        }
    }
    for (report, bootstrap) in pairs {
        let ours = report.negation_words.interval;
        let width = bootstrap[1] - bootstrap[0];
        for end in 0..2 {
            let difference = (ours[end] - bootstrap[end]).abs();
            assert!(difference < 0.1 * width, "{ours:?} and {bootstrap:?}");
        }
    }
}

#[test]
fn threads_and_order_change_nothing() {
    let files = [
        "coco.json",
        "plain.txt.gz",
        "table.csv",
        "snappy.parquet",
        "lines.jsonl",
    ];
    let survey = |threads| {
        Survey::new(WordList::extended())
            .with_examples(3, 5)
            .with_threads(threads)
    };
    let one = read(survey(1), &files);
    assert!(one.entries.iter().any(|entry| entry.examples.len() == 3));
    for threads in [2, 3, 8] {
        assert_eq!(read(survey(threads), &files), one, "{threads} threads");
    }
    let mut turned = files;
    turned.reverse();
    let texts = |report: &Report| -> Vec<Vec<String>> {
        let entries = report.entries.iter();
        entries
            .map(|entry| {
                entry
                    .examples
                    .iter()
                    .map(|one| one.example.text.clone())
                    .collect()
            })
            .collect()
    };
    let turned = read(survey(2), &turned);
    assert_eq!(turned.words, one.words);
    assert_eq!(texts(&turned), texts(&one));
}

#[test]
fn examples_are_captions_with_the_word_and_depend_on_the_seed() {
    let with = |seed| {
        read(
            Survey::new(WordList::negations()).with_examples(4, seed),
            &["list.json"],
        )
    };
    let (one, two) = (with(1), with(2));
    assert_ne!(one.entries, two.entries);
    for entry in &one.entries {
        for example in &entry.examples {
            let text = example
                .example
                .text
                .to_lowercase()
                .replace(['’', 'ʼ', '‘'], "'");
            assert!(text.contains(entry.entry.trim_start_matches('*')), "{text}");
            assert!(example.file.ends_with("list.json"));
            assert!(example.example.place.to_string().starts_with('['));
        }
        let found = entry.captions.count as usize;
        assert!(entry.examples.len() <= 4 && (found == 0) == entry.examples.is_empty());
    }
}

/// Chunks are a megabyte: with many of them, records lie across their borders, quoted ones with line
/// ends in them as well.
#[test]
fn long_files_are_cut_between_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("id,caption,note\r\n");
    let mut json = String::from("{\"annotations\": [");
    let mut lines = String::new();
    let records: u64 = 60_000;
    for i in 0..records {
        let filling = "x".repeat((i * 7 % 90) as usize);
        let negation = if i % 10 == 0 { "no" } else { "a" };
        csv += &format!(
            "{i},\"{filling} {negation} \"\"hat\"\"\r\n, on\",\"5\"\" \n, {filling}\"\r\n"
        );
        let record =
            format!(r#"{{"id": {i}, "caption": "{filling} {negation} \"hat\" on", "}}": ["]"]}}"#);
        json += if i == 0 { "" } else { ", " };
        json += &record;
        lines += &record;
        lines += "\n";
    }
    json += "]}";
    assert!(csv.len() > 4 << 20 && json.len() > 4 << 20);
    for (name, text) in [("a.csv", csv), ("b.json", json), ("c.jsonl", lines)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        for threads in [1, 4] {
            let survey = Survey::new(WordList::negations()).with_threads(threads);
            let found = find(&[Input::from(path.as_path())]).unwrap();
            let read = std::sync::atomic::AtomicU64::new(0);
            let count = |bytes| {
                read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
            };
            let report = survey.run(&found, &count).unwrap();
            assert!(
                report.faults.is_empty(),
                "{name}: {:?}",
                report.faults.named.first()
            );
            assert_eq!(
                (report.captions, report.negated_captions.count),
                (records, records / 10)
            );
            // Every ninetieth filling is empty.
            let fillings = (0..records).filter(|i| i * 7 % 90 != 0).count() as u64;
            assert_eq!(report.words, 3 * records + fillings, "{name}");
            assert_eq!(read.into_inner(), found.bytes, "{name}");
        }
    }
}

#[test]
fn folders_are_searched_and_names_decide() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("b");
    std::fs::create_dir(&inner).unwrap();
    for (from, to) in [
        ("plain.txt", "a.txt"),
        ("plain.txt.gz", "b/c.TXT.GZ"),
        ("coco.json", "b/d.json"),
    ] {
        std::fs::copy(fixtures().join(from), folder.path().join(to)).unwrap();
    }
    std::fs::write(inner.join("0001.jpg"), b"no captions").unwrap();
    let found = find(&[Input::from(folder.path())]).unwrap();
    assert_eq!((found.files.len(), found.passed_over), (3, 1));
    let report = Survey::new(WordList::negations())
        .run(&found, &|_| {})
        .unwrap();
    assert_eq!(report.captions, 3 * counts().default.counts.captions);
    assert_eq!((report.files, report.passed_over), (3, 1));
    let empty = tempfile::tempdir().unwrap();
    let error = find(&[Input::from(empty.path())]).unwrap_err().to_string();
    assert!(
        error.contains("no file of captions") && error.contains(".parquet"),
        "{error}"
    );
    assert!(find(&[Input::from(empty.path().join("none.txt"))]).is_err());
}

#[test]
fn the_kind_of_a_file_is_seen_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let expected = counts();
    for (name, may_be_null) in [
        ("coco.json", true),
        ("list.json", true),
        ("lines.jsonl", true),
        ("lines.jsonl.zst", true),
        ("snappy.parquet", true),
        ("plain.txt.gz", false),
    ] {
        let path = folder
            .path()
            .join(format!("file-{}", name.replace('.', "-")));
        std::fs::copy(fixtures().join(name), &path).unwrap();
        let found = find(&[Input::from(path)]).unwrap();
        let report = Survey::new(WordList::negations())
            .run(&found, &|_| {})
            .unwrap();
        let expected = match may_be_null {
            true => &expected.default,
            false => &expected.default_without_null,
        };
        assert_counts(&report, &expected.counts, name);
    }
    // A table without a header, whose column is a number.
    let survey = Survey::new(WordList::negations())
        .with_format(Format::Tsv)
        .with_column("2")
        .without_header();
    let report = read(survey, &["table.tsv"]);
    assert_eq!(report.captions, expected.default.counts.captions + 1);
}
