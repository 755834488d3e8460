//! How many bytes a second are counted: of each format, and beside a regular expression.
//!
//! The captions are drawn from words of COCO's, 52 bytes and 10 words a caption, of which 0.7 % hold a
//! negation, as in LAION-400M. Files lie in the page cache. `words/scanner` and `words/regex` count the
//! same captions in memory on one thread, the second with the expression that one would write down, for
//! words and for negations; it does not know "w/o", curly apostrophes or joined words. `plain-400MB.txt` is
//! the plain file several times over, for what opening files and starting threads take not to count.
//!
//! `cargo bench -p negkit-stats` prints them; docs/caption-stats.md says what was measured.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use negkit_stats::{Input, Scanner, Survey, WordList, find};
use regex::Regex;

/// Captions of a file.
const CAPTIONS: usize = 1_000_000;
const THREADS: usize = 2;

const WORDS: [&str; 40] = [
    "a",
    "a",
    "a",
    "a",
    "on",
    "of",
    "the",
    "in",
    "with",
    "and",
    "is",
    "man",
    "to",
    "sitting",
    "an",
    "two",
    "standing",
    "at",
    "people",
    "are",
    "next",
    "white",
    "woman",
    "street",
    "table",
    "holding",
    "large",
    "person",
    "down",
    "top",
    "group",
    "field",
    "tennis",
    "front",
    "black",
    "riding",
    "dog",
    "bathroom",
    "baseball",
    "skateboard",
];

/// Captions with a generator of one's own, so that they are the same everywhere.
fn captions() -> Vec<String> {
    let mut state = 1u64;
    let mut draw = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let caption = |_| {
        let mut words = vec!["A"];
        words.extend((0..8 + draw(4)).map(|_| WORDS[draw(WORDS.len())]));
        if draw(1000) < 7 {
            let at = draw(words.len());
            words[at] = ["no", "not", "without", "isn't"][draw(4)];
        }
        words.join(" ") + "."
    };
    (0..CAPTIONS).map(caption).collect()
}

fn scanners(criterion: &mut Criterion, captions: &[String]) {
    let bytes: usize = captions.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group("words");
    group.throughput(Throughput::Bytes(bytes as u64));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    let list = WordList::negations();
    let ours = || {
        let mut scanner = Scanner::new(&list);
        let (mut words, mut negated) = (0, 0);
        for caption in captions {
            words += scanner.scan(caption.as_bytes()).unwrap();
            negated += usize::from(!scanner.hits().is_empty());
        }
        (words, negated)
    };
    let word = Regex::new(r"\w+(?:'\w+)*").unwrap();
    let entries = list
        .entries()
        .iter()
        .filter(|entry| !entry.starts_with('*'));
    let entries: Vec<&str> = entries.map(String::as_str).collect();
    let pattern = format!(r"(?i)\b(?:\w+n't|{})\b", entries.join("|"));
    let negation = Regex::new(&pattern).unwrap();
    let naive = || {
        let (mut words, mut negated) = (0, 0);
        for caption in captions {
            words += word.find_iter(caption).count() as u64;
            negated += usize::from(negation.is_match(caption));
        }
        (words, negated)
    };
    assert_eq!(ours(), naive());
    group.bench_function("scanner", |bench| bench.iter(|| black_box(ours())));
    group.bench_function("regex", |bench| bench.iter(|| black_box(naive())));
    group.finish();
}

fn files(criterion: &mut Criterion, captions: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let text = captions.join("\n");
    let mut csv = String::from("url,caption\n");
    let mut lines = String::new();
    for (caption, i) in captions.iter().zip(0..) {
        writeln!(csv, "http://example.org/{i},\"{caption}\"").unwrap();
        writeln!(
            lines,
            r#"{{"url": "http://example.org/{i}", "caption": "{caption}"}}"#
        )
        .unwrap();
    }
    let large = format!("{text}\n").repeat(400_000_000usize.div_ceil(text.len()));
    let curly = text.replace("tennis", "l’été");
    let gzip = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let zstd = ruzstd::encoding::compress_to_vec(
        text.as_bytes(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let unpacked = text.len();
    let mut group = criterion.benchmark_group("files");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (name, bytes, counted) in [
        ("plain.txt", text.as_bytes(), unpacked),
        ("plain-400MB.txt", large.as_bytes(), large.len()),
        ("accents.txt", curly.as_bytes(), curly.len()),
        ("plain.txt.gz", &gzip, unpacked),
        ("plain.txt.zst", &zstd, unpacked),
        ("table.csv", csv.as_bytes(), csv.len()),
        ("lines.jsonl", lines.as_bytes(), lines.len()),
        (
            "list.json",
            format!("[{}]", lines.trim_end().replace('\n', ",")).as_bytes(),
            lines.len(),
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let found = find(&[Input::from(path)]).unwrap();
        let survey = Survey::new(WordList::negations()).with_threads(THREADS);
        group.throughput(Throughput::Bytes(counted as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(survey.run(&found, &|_| {}).unwrap()));
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let captions = captions();
    scanners(criterion, &captions);
    files(criterion, &captions);
}

// Without plots: the font they want is in no feature that is built here.
criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = all
}
criterion_main!(benches);
