//! Files that are damaged, broken off or something else than they say: counted and named, never a panic.

use std::path::Path;

use crate::recount::{counts, fixtures};
use negkit_stats::{Input, Report, Survey, WordList, find};

fn read(path: &Path, survey: &Survey) -> Report {
    let found = find(&[Input::from(path)]).unwrap();
    survey.run(&found, &|_| {}).unwrap()
}

/// A report of a file with this content, and all of its faults as they are printed.
fn of(name: &str, content: impl AsRef<[u8]>) -> (Report, Vec<String>) {
    with(name, content, &Survey::new(WordList::negations()))
}

fn with(name: &str, content: impl AsRef<[u8]>, survey: &Survey) -> (Report, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let report = read(&path, survey);
    let named = report.faults.named.iter();
    let faults = named.map(|fault| {
        let text = fault.to_string();
        text.strip_prefix(&format!("{}, ", path.display()))
            .unwrap()
            .to_owned()
    });
    let faults = faults.collect();
    (report, faults)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

#[test]
fn bad_records_are_named_and_the_others_counted() {
    let (report, faults) = of("a.txt", b"no hat\nbad \xff byte\n\na hat without");
    assert_eq!(
        faults,
        ["line 2: expected UTF-8, found another byte at byte 4 of the caption"]
    );
    assert_eq!(
        (report.captions, report.empty, report.faults.records),
        (2, 1, 1)
    );

    let (report, faults) = of(
        "a.csv",
        "id,caption\n1,no hat\n2\n3,\"a,\nb\"\n4,a,b\n5,\"not\" \"x\"\n",
    );
    assert_eq!(
        faults,
        [
            "line 3: expected 2 fields, found 1",
            "line 6: expected 2 fields, found 3"
        ]
    );
    assert_eq!((report.captions, report.negation_words.count), (3, 2));

    let lines = "{\"caption\": \"no hat\"}\n{\"caption\": \"torn\n{\"id\": 1, \"x\": {}}\n{\"caption\": 5}\n\
                 {\"caption\": null}\n[\"a\", \"b\"]\n{\"caption\": \"a\", \"caption\": \"b\"}\n{\"caption\": \"a\"} x";
    let (report, faults) = of("a.jsonl", lines);
    let starts = [
        "line 2: column",
        "line 3: ",
        "line 4: column",
        "line 7: ",
        "line 8: column",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
    assert!(
        faults[1].contains("expected the field `caption` or `text`, found: id, x"),
        "{}",
        faults[1]
    );
    assert!(
        faults[2].contains("invalid type: integer `5`, expected a caption"),
        "{}",
        faults[2]
    );
    assert!(
        faults[3].contains("`caption` stands twice"),
        "{}",
        faults[3]
    );
    assert_eq!((report.captions, report.missing), (3, 1));

    let list = r#"{"info": {"a": [1, "]"]}, "annotations": [{"caption": "no"}, {"id": 2}, 7, {"caption": "\ud800"}, "x"]}"#;
    let (report, faults) = of("a.json", list);
    assert_eq!(report.captions, 2);
    let places: Vec<&str> = faults
        .iter()
        .map(|fault| fault.split(':').next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["annotations[1]", "annotations[2]", "annotations[3]"]
    );
    assert_eq!(report.faults.files, 0);
}

#[test]
fn files_that_are_broken_off_are_counted_as_far_as_they_go() {
    let whole = counts().default.counts.captions;
    for (name, what) in [
        ("coco.json", "broken off after"),
        ("list.json", "broken off after"),
        ("coco.json.gz", "the compressed file is broken off"),
        ("plain.txt.gz", "the compressed file is broken off"),
        ("lines.jsonl.zst", "the compressed file is broken off"),
        ("snappy.parquet", "no whole Parquet file"),
    ] {
        let bytes = fixture(name);
        let (report, faults) = of(name, &bytes[..bytes.len() * 2 / 3]);
        assert!(report.captions < whole, "{name}");
        assert_eq!(
            (report.faults.files, faults.len()),
            (1, 1),
            "{name}: {faults:?}"
        );
        assert!(
            faults[0].contains(what) && faults[0].ends_with("was not read"),
            "{name}: {}",
            faults[0]
        );
    }
    // What came before the end is counted.
    let json = fixture("list.json");
    let (report, faults) = of("list.json", &json[..json.len() * 2 / 3]);
    assert!(report.captions > whole / 2 && report.captions < whole * 5 / 6);
    assert!(faults[0].starts_with("byte "), "{}", faults[0]);

    let (report, faults) = of("a.csv", "caption,id\nno hat,1\nnot,2\n\"a hat,3\nx,4\n");
    assert_eq!(report.captions, 2);
    assert!(
        faults[0].starts_with("line 4: a quote that is opened here and not closed"),
        "{}",
        faults[0]
    );
}

#[test]
fn what_is_no_list_of_captions_is_said() {
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "a.json",
            b"{\"images\": [], \"info\": 3}",
            "expected a list under the key `annotations`, found the keys: images, info",
        ),
        (
            "a.json",
            b"{\"annotations\": {}}",
            "expected a list after the key `annotations`, found '{'",
        ),
        (
            "a.json",
            b"[{\"caption\": \"a\"} {\"caption\": \"b\"}]",
            "expected ',' or ']' after an element",
        ),
        ("a.json", b"[,]", "expected an element of the list"),
        (
            "a.json",
            b"{\"annotations\" [1]}",
            "expected ':' after a key",
        ),
        ("a.json", b"caption", "expected an object or a list"),
        ("a.json", b"", "the file is empty"),
        ("a.csv", b"", "the file is empty"),
        (
            "a.csv",
            b"url,titel\n1,2\n",
            "expected a column `caption` or `text`, found: url, titel; name it with --column",
        ),
        ("a.parquet", b"PAR1", "no whole Parquet file"),
        ("a.txt", b"\xff\xfen\0o\0", "expected UTF-8, found UTF-16"),
        ("a.gz", b"\x1f\x8bnonsense", "cannot be read on"),
    ];
    for (name, content, what) in cases {
        let (report, faults) = of(name, content);
        assert_eq!(
            (report.captions.min(1), faults.len()),
            (u64::from(what.contains("',' or ']'")), 1),
            "{what}: {faults:?}"
        );
        assert!(faults[0].contains(what), "{}", faults[0]);
    }
    let survey = Survey::new(WordList::negations()).with_column("url");
    let (_, faults) = with("snappy.parquet", fixture("snappy.parquet"), &survey);
    assert_eq!(faults, Vec::<String>::new());
    let survey = Survey::new(WordList::negations()).with_column("image");
    let (_, faults) = with("lists.parquet", fixture("lists.parquet"), &survey);
    assert!(
        faults[0].contains("expected strings (BYTE_ARRAY), found INT64"),
        "{}",
        faults[0]
    );
}

/// A record of more than 64 MiB, as one gets from a quote that is not closed or from a file of
/// another kind, is not kept in memory.
#[test]
fn endless_records_are_given_up() {
    for (name, begin) in [
        ("a.txt", "no end "),
        ("b.csv", "caption\n\"no end "),
        ("c.json", "[\"no end "),
    ] {
        let mut content = begin.as_bytes().to_vec();
        content.resize(70 << 20, b'x');
        let (report, faults) = of(name, content);
        assert_eq!(report.captions, 0);
        assert!(
            faults[0].contains("a record of more than 64 MiB"),
            "{}",
            faults[0]
        );
    }
}

/// Every file with bytes changed at many places: it may be read or not, but there is no panic, and
/// nothing is lost without a word.
#[test]
fn damage_anywhere_is_no_panic() {
    let whole = counts().default.counts;
    let survey = Survey::new(WordList::negations()).with_threads(1);
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "coco.json",
        "lines.jsonl",
        "table.csv",
        "plain.txt.gz",
        "lines.jsonl.zst",
        "snappy.parquet",
        "zstd.parquet",
        "lists.parquet",
    ] {
        let bytes = fixture(name);
        let path = folder.path().join(name);
        for round in 0..60usize {
            let mut damaged = bytes.clone();
            let at = round * 7919 % damaged.len();
            damaged[at] ^= [0x01, 0x80, 0xff, 0x22][round % 4];
            std::fs::write(&path, &damaged).unwrap();
            let report = read(&path, &survey);
            let seen = report.captions + report.empty + report.missing;
            let all = whole.captions + whole.empty + whole.missing;
            // A lost line end joins two records into one that looks whole.
            assert!(
                seen + 1 >= all || !report.faults.is_empty(),
                "{name}, byte {at}: {seen} of {all}"
            );
        }
    }
}
