//! What `check` says of folders with real data, and of broken ones.

use std::fs;

use negkit_data::Look;
use negkit_data::check::{CheckReport, DatasetReport, State, check};
use negkit_shared_data::shared;

fn named<'r>(report: &'r CheckReport, name: &str) -> &'r DatasetReport {
    report
        .datasets
        .iter()
        .find(|found| found.name == name)
        .unwrap()
}

#[test]
fn an_empty_folder_says_where_to_get_everything() {
    let folder = tempfile::tempdir().unwrap();
    let report = check(folder.path(), Look::Exists).unwrap();
    assert!(report.is_right());
    assert_eq!(report.datasets.len(), 8);
    for found in &report.datasets {
        assert_eq!(found.state, State::Absent, "{}", found.name);
        assert!(found.source.contains("://"), "{}", found.source);
    }
    assert!(check(&folder.path().join("none"), Look::Exists).is_err());
}

#[test]
fn the_published_files_are_recognised_and_counted() {
    let Some(folder) = shared("") else {
        return;
    };
    if !folder.join("valse").is_dir() {
        let _ = shared("valse");
        return;
    }
    let report = check(&folder, Look::Decode).unwrap();
    for (name, published) in [("Neg Score prompts", 107), ("GenEval", 553)] {
        let found = named(&report, name);
        assert_eq!(found.state, State::Whole, "{found:?}");
        assert_eq!(found.counts[0].found, published);
        assert_eq!(found.counts[0].published, Some(published));
    }
    // Without its questions, and without its pictures.
    let tifa = named(&report, "TIFA v1.0");
    assert_eq!(tifa.state, State::Incomplete);
    assert_eq!(tifa.counts[0].found, 4081);
    assert_eq!(tifa.missing, ["tifa_v1.0_question_answers.json"]);
    let valse = named(&report, "VALSE existence");
    assert_eq!(
        (valse.state, valse.counts[0].found),
        (State::Incomplete, 534)
    );
    assert_eq!(valse.notes.len(), 1);
    let negref = named(&report, "NegRefCOCOg");
    assert_eq!(
        (negref.state, negref.counts[0].found),
        (State::Incomplete, 440)
    );
    assert!(
        negref.missing[0].starts_with("a folder train2014 with "),
        "{negref:?}"
    );
    // 50 of COCO's 5,000 pictures under the name of the whole: told, and the 50 are all there.
    let coco = named(&report, "COCO");
    assert_eq!(coco.state, State::Wrong);
    assert_eq!((coco.pictures.needed, coco.pictures.good()), (50, 50));
    let expected = "captions_val2017.json: pictures: expected 5000 as published, found 50";
    assert_eq!(coco.problems[0], expected);
    assert!(
        coco.problems
            .iter()
            .all(|problem| problem.contains("as published"))
    );
    assert_eq!(named(&report, "PhraseCut").state, State::Absent);
    assert!(!report.is_right());
}

#[test]
fn a_damaged_file_is_wrong_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(
        deep.join("prompts_with_questions.json"),
        "[{\"Prompt\": \"a\"",
    )
    .unwrap();
    fs::write(deep.join("refs(umd).p"), b"\x80\x02]q\x00(").unwrap();
    fs::write(deep.join("NegRefCOCOg.json"), "[]").unwrap();
    let report = check(folder.path(), Look::Exists).unwrap();
    let prompts = named(&report, "Neg Score prompts");
    assert_eq!(prompts.state, State::Wrong);
    assert!(
        prompts.problems[0].contains("b/prompts_with_questions.json"),
        "{prompts:?}"
    );
    assert!(prompts.problems[0].contains("damage at [0]"), "{prompts:?}");
    let refs = named(&report, "b (umd)");
    assert_eq!(
        (refs.state, &refs.missing[..]),
        (State::Incomplete, &["instances.json".to_owned()][..])
    );
    fs::write(deep.join("instances.json"), "{}").unwrap();
    let report = check(folder.path(), Look::Exists).unwrap();
    assert!(named(&report, "b (umd)").problems[0].contains("refs(umd).p"));
    let negref = named(&report, "NegRefCOCOg");
    assert_eq!(
        negref.problems,
        ["items: expected 440 as published, found 0"]
    );
}
