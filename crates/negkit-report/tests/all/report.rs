//! What a page and a sheet hold, against the records they are made of.

use std::fs;
use std::path::{Path, PathBuf};

use negkit_report::{Page, Report, ReportError, ReportSettings};

use crate::made::{self, ENCODERS, EVIL, PHRASES, PICTURES, PICTURES5, PROMPTS};

const ALL: usize = usize::MAX;

fn page(runs: &[&Path], settings: ReportSettings) -> Page {
    let runs: Vec<PathBuf> = runs.iter().map(|run| run.to_path_buf()).collect();
    let report = Report::open(&runs, settings).unwrap();
    report.page(&mut |_, _| {}).unwrap()
}

fn error(run: &Path) -> String {
    let opened = Report::open(&[run.to_owned()], ReportSettings::default());
    let made = opened.and_then(|report| report.page(&mut |_, _| {}));
    made.unwrap_err().to_string()
}

fn count(html: &str, text: &str) -> usize {
    html.matches(text).count()
}

#[test]
fn several_runs_are_one_file_that_fetches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    made::table4_run(&at("four"), ALL);
    made::table5_run(&at("five"), &at("pictures"), ALL);
    made::other_run(&at("two"));
    let runs = [at("four"), at("five"), at("two")];
    let runs: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    let made = page(&runs, ReportSettings::default());
    assert_eq!(made.notices, Vec::<String>::new());
    let html = &made.html;
    assert_eq!(count(html, "<section class=\"run\""), 3);
    let cards = PROMPTS.len() + 4 + PICTURES5 * PHRASES.len();
    assert_eq!(count(html, "<article class=\"card"), cards);
    // Everything that is shown is in the file: nothing has an address but what is inlined.
    for (start, _) in html
        .match_indices("src=\"")
        .chain(html.match_indices("url("))
    {
        let rest = html[start..].split_once(['"', '(']).unwrap().1;
        assert!(rest.starts_with("data:image/"), "{}", &rest[..40]);
    }
    assert_eq!(count(html, "://"), 0);
    // Each picture once: those of prompts, and one rule for each that phrases share.
    let painted = PROMPTS.len() * PICTURES * ENCODERS.len() + 4 * ENCODERS.len();
    assert_eq!(count(html, "src=\"data:image/webp"), painted);
    assert_eq!(
        count(html, "background-image:url(data:image/webp"),
        PICTURES5
    );
    let masks = PICTURES5 * PHRASES.len() * (1 + ENCODERS.len());
    assert_eq!(count(html, "src=\"data:image/png"), masks);
    // The same runs, the same bytes.
    assert_eq!(page(&runs, ReportSettings::default()), made);
    // A run of another table is shown by its own files.
    assert!(html.contains("<td>0.250</td>") && html.contains("recall.stock"));
}

#[test]
fn prompts_are_text_whatever_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    made::table4_run(folder.path(), ALL);
    let html = page(&[folder.path()], ReportSettings::default()).html;
    assert!(EVIL.contains("<script>"));
    assert_eq!(count(&html, "<script"), 1);
    assert_eq!(count(&html, "<img src=x"), 0);
    // In the card, in its alternative texts, and where it is a telling case.
    assert!(count(&html, "document.title=") > 1);
}

#[test]
fn scores_are_those_of_the_summary_and_of_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let run = made::table4_run(folder.path(), ALL);
    let html = page(&[folder.path()], ReportSettings::default()).html;
    let summary = fs::read_to_string(run.path().join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    for (index, encoder) in ENCODERS.iter().enumerate() {
        let both = |prompt: usize| {
            let right = (0..PICTURES).filter(|p| made::right(prompt, index, *p) == [true, true]);
            right.count() as f64 / PICTURES as f64
        };
        let all: Vec<f64> = (0..PROMPTS.len()).map(both).collect();
        let score = all.iter().sum::<f64>() / all.len() as f64;
        let found = &summary["encoders"][index]["neg_score"]["estimate"];
        assert!((found.as_f64().unwrap() - score).abs() < 1e-12);
        let shown = format!("<span class=\"score\">{score:.3}</span>");
        assert!(html.contains(&shown), "{encoder}: {shown}");
        // By word and by kind, as the summary has it, and as the records have it.
        for (label, wanted) in [("no", 2), ("without", 3), ("worn", 2), ("attribute", 1)] {
            let own: Vec<f64> = PROMPTS
                .iter()
                .zip(&all)
                .filter(|((text, kind), _)| *kind == label || text.contains(&format!(" {label} ")))
                .map(|(_, score)| *score)
                .collect();
            assert!(own.len() >= wanted, "{label}: {own:?}");
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let row = format!("<td>{label}</td><td>{encoder}</td><td>{mean:.3}</td>");
            assert!(html.contains(&row), "{row}");
        }
    }
}

#[test]
fn phrases_have_their_iou_and_the_best_and_the_worst_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    made::table5_run(&at("run"), &at("pictures"), ALL);
    let html = page(&[&at("run")], ReportSettings::default()).html;
    let mut differences: Vec<f64> = Vec::new();
    for picture in 0..PICTURES5 {
        for phrase in 0..PHRASES.len() {
            let card = format!(
                "id=\"run1-refcocog-{}\"",
                picture * PHRASES.len() + phrase + 1
            );
            let (_, card) = html.split_once(&card).unwrap();
            let card = card.split_once("</article>").unwrap().0;
            for (encoder, name) in ENCODERS.iter().enumerate() {
                let iou = made::iou(picture, phrase, encoder);
                let shown = format!("{name} <strong>{iou:.3}</strong>");
                assert!(card.contains(&shown), "{shown} in {card}");
            }
            differences.push(made::iou(picture, phrase, 1) - made::iou(picture, phrase, 0));
        }
    }
    differences.sort_by(f64::total_cmp);
    for (title, value) in [
        (
            "negationclip better than stock",
            differences[differences.len() - 1],
        ),
        ("negationclip worse than stock", differences[0]),
    ] {
        let (_, list) = html.split_once(&format!("<h5>{title}</h5>")).unwrap();
        let first = list.split_once("class=\"value\">").unwrap().1;
        let shown = format!("{value:+.3}").replace('-', "−");
        assert!(
            first.starts_with(&shown),
            "{title}: {shown}, found {}",
            &first[..10]
        );
    }
    // Curves over the 49 thresholds, in both protocols: mean and cumulative IoU.
    assert_eq!(
        count(&html, "<polyline class=\"curve\""),
        2 * 2 * ENCODERS.len()
    );
    let (_, points) = html
        .split_once("<polyline class=\"curve\" points=\"")
        .unwrap();
    assert_eq!(count(points.split_once('"').unwrap().0, ","), 49);
}

#[test]
fn what_is_left_out_is_said_and_the_telling_cases_stay() {
    let folder = tempfile::tempdir().unwrap();
    made::table4_run(folder.path(), ALL);
    let settings = ReportSettings {
        prompts: 3,
        cases: 1,
        ..ReportSettings::default()
    };
    let made = page(&[folder.path()], settings);
    let neg = |made: &Page| count(&made.html, "<article class=\"card\" id=\"run1-neg-");
    let shown = neg(&made);
    assert!((3..=4).contains(&shown), "{shown}");
    let notice = format!("{shown} of 8 prompts are shown");
    assert!(
        made.notices.iter().any(|n| n.contains(&notice)),
        "{:?}",
        made.notices
    );
    assert!(made.html.contains(&notice));
    // Every link to a card leads somewhere.
    for (start, _) in made.html.match_indices("<a href=\"#") {
        let id = made.html[start..]
            .split('"')
            .nth(1)
            .unwrap()
            .trim_start_matches('#');
        assert!(made.html.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[test]
fn an_unfinished_run_shows_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Three prompts with both encoders, one with the first alone: no score yet, TIFA was not begun.
    made::table4_run(&at("early"), 7);
    let early = page(&[&at("early")], ReportSettings::default());
    assert!(
        early.notices[0].contains("7 of 24 items"),
        "{:?}",
        early.notices
    );
    assert_eq!(count(&early.html, "<article class=\"card"), 4);
    assert!(early.html.contains("There is no score yet"));
    assert!(early.html.contains("not done yet"));
    // With one prompt of TIFA there is, of what is done with both.
    let late = made::table4_run(&at("late"), PROMPTS.len() * 2 + 3);
    let made = page(&[&at("late")], ReportSettings::default());
    assert!(!late.path().join("summary.json").exists());
    assert!(
        made.notices[0].contains("of the 9 prompts"),
        "{:?}",
        made.notices
    );
    assert!(made.html.contains("<table class=\"scores\">"));
    made::table5_run(&at("five"), &at("pictures"), 2);
    let made = page(&[&at("five")], ReportSettings::default());
    assert!(
        made.notices[0].contains("2 of 3 pictures"),
        "{:?}",
        made.notices
    );
    assert_eq!(
        count(&made.html, "<article class=\"card"),
        2 * PHRASES.len()
    );
}

#[test]
fn pictures_that_are_gone_are_counted_and_looked_for_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    made::table5_run(&at("run"), &at("pictures"), ALL);
    fs::rename(at("pictures"), at("moved")).unwrap();
    let made = page(&[&at("run")], ReportSettings::default());
    assert_eq!(made.notices.len(), 1);
    assert!(
        made.notices[0].contains("3 pictures cannot be shown"),
        "{:?}",
        made.notices
    );
    assert!(made.notices[0].contains("--pictures"), "{:?}", made.notices);
    let settings = ReportSettings {
        pictures: vec![at("moved")],
        ..ReportSettings::default()
    };
    assert_eq!(
        page(&[&at("run")], settings.clone()).notices,
        Vec::<String>::new()
    );
    let runs = [at("run")];
    let gone = Report::open(&runs, ReportSettings::default()).unwrap();
    assert!(matches!(gone.sheet(8), Err(ReportError::NoPictures)));
    let sheet = Report::open(&runs, settings).unwrap().sheet(8).unwrap();
    assert!(sheet.width() > 600, "{}", sheet.width());
    // A picture of the run itself.
    let run = made::table4_run(&at("four"), ALL);
    fs::write(run.path().join("pictures/0002-stock-seed1.png"), b"nothing").unwrap();
    let made = page(&[&at("four")], ReportSettings::default());
    assert!(
        made.notices[0].contains("One picture cannot be shown"),
        "{:?}",
        made.notices
    );
}

#[test]
fn a_sheet_has_every_encoder_and_grows_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    made::table4_run(folder.path(), ALL);
    let report = Report::open(&[folder.path().to_owned()], ReportSettings::default()).unwrap();
    let (few, many) = (report.sheet(2).unwrap(), report.sheet(12).unwrap());
    assert_eq!(few.width(), many.width());
    assert!(few.height() < many.height());
    // The frame of a right picture is there, and that of a wrong one.
    for colour in [[0, 158, 115], [230, 159, 0]] {
        assert!(many.pixels().any(|pixel| pixel.0 == colour), "{colour:?}");
    }
}

#[test]
fn what_is_no_run_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(error(&at("nowhere")).contains("it does not exist"));
    fs::write(at("file"), "x").unwrap();
    assert!(error(&at("file")).contains("it is a file"));
    fs::create_dir(at("empty")).unwrap();
    assert!(error(&at("empty")).contains("it has no run.toml"));
    let none = Report::open(&[], ReportSettings::default());
    assert!(matches!(none, Err(ReportError::NoRuns)));
    made::table4_run(&at("run"), ALL);
    let twice = Report::open(&[at("run"), at("run")], ReportSettings::default());
    assert!(matches!(twice, Err(ReportError::Twice { .. })));
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = made::table4_run(folder.path(), ALL);
    let (records, summary) = (
        run.path().join("records.jsonl"),
        run.path().join("summary.json"),
    );
    let (good, numbers) = (
        fs::read_to_string(&records).unwrap(),
        fs::read_to_string(&summary).unwrap(),
    );
    let with = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        error(folder.path())
    };
    // A summary that ends early, one of another table, one without scores.
    let half = with(&summary, &numbers[..numbers.len() / 2]);
    assert!(
        half.contains("summary.json") && half.contains("EOF"),
        "{half}"
    );
    let other = with(&summary, &numbers.replacen("table4", "table9", 1));
    assert!(other.contains("table9"), "{other}");
    let none = with(&summary, "{\"table\": \"table4\"}");
    assert!(none.contains("baseline"), "{none}");
    fs::write(&summary, &numbers).unwrap();
    // A record that is no record, one of an encoder that the run does not have, one that names a
    // picture elsewhere (which is not opened, and said).
    let damaged = with(&records, &good.replacen("\"prompt\"", "\"prompts\"", 1));
    assert!(damaged.contains("records.jsonl, line 1"), "{damaged}");
    let stranger = good.replacen("\"text_encoder\":\"stock\"", "\"text_encoder\":\"x\"", 1);
    let stranger = with(&records, &stranger);
    assert!(
        stranger.contains("neg/0000/stock") && stranger.contains("'x'"),
        "{stranger}"
    );
    let outside = good.replacen("pictures/0000-stock-seed0.png", "../secret.png", 1);
    fs::write(&records, outside).unwrap();
    let made = page(&[folder.path()], ReportSettings::default());
    assert!(
        made.notices[0].contains("'../secret.png'"),
        "{:?}",
        made.notices
    );
    // A mask of another size than its picture.
    let at = |name: &str| folder.path().join(name);
    let run = made::table5_run(&at("five"), &at("pictures"), ALL);
    let records = run.path().join("records.jsonl");
    let good = fs::read_to_string(&records).unwrap();
    fs::write(&records, good.replacen("[40,30]", "[41,30]", 1)).unwrap();
    let error = error(&at("five"));
    assert!(
        error.contains("refcocog/0") && error.contains("phrase 0"),
        "{error}"
    );
}
