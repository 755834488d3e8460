//! `negkit data check`: what is there, what is missing, what is wrong.

use std::fs;

use crate::bench::Bench;

const PROMPTS: &str = "sets/negscore/prompts_with_questions.json";

#[test]
fn a_folder_is_looked_over() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("sets/negscore")).unwrap();
    let check = |flags: &str| bench.run_line(&format!("data check sets {flags}"), &[]);

    let nothing = check("").good().stdout;
    assert!(nothing.contains("PhraseCut: not there\n  get it: download_dataset.py of https://"));
    assert!(
        nothing.contains("sets: 0 whole, 0 incomplete, 0 wrong, 8 not there"),
        "{nothing}"
    );

    let prompt =
        r#"{"Prompt": "a man without a hat", "Question1": "A man?", "Question2": "A hat?"}"#;
    fs::write(
        bench.path(PROMPTS),
        format!("[{}]", vec![prompt; 107].join(",")),
    )
    .unwrap();
    let whole = check("").good().stdout;
    assert!(whole.contains("Neg Score prompts: whole\n"), "{whole}");
    assert!(whole.contains("prompts: 107, as published"), "{whole}");

    // Another count, and a record that is none, end with 1: a script must notice.
    fs::write(bench.path(PROMPTS), format!("[{prompt}]")).unwrap();
    let short = check("");
    assert_eq!(short.code, Some(1));
    assert!(
        short
            .stdout
            .contains("wrong: prompts: expected 107 as published, found 1")
    );
    fs::write(
        bench.path(PROMPTS),
        format!("[{prompt}, {{\"Prompt\": 3}}]"),
    )
    .unwrap();
    let wrong = check("--json");
    assert_eq!(wrong.code, Some(1));
    let found = &wrong.json()["datasets"][4];
    assert_eq!(found["state"], "wrong");
    let problem = found["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("negscore/prompts_with_questions.json: [1], field `Prompt`"),
        "{problem}"
    );
    bench
        .run_line("data check nowhere", &[])
        .refused(&["cannot read nowhere"]);
}

#[test]
fn lost_pictures_are_counted_and_named() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("sets/train2014")).unwrap();
    let item = |id: usize| {
        format!(
            r#"{{"image": "{id}.png", "phrase": "no hat", "ref_bbox": [0,0,2,2], "bbox_list": [[0,0,2,2],[1,1,2,2]]}}"#
        )
    };
    let items: Vec<String> = (0..440).map(|id| item(id % 9)).collect();
    fs::write(
        bench.path("sets/NegRefCOCOg.json"),
        format!("[{}]", items.join(",")),
    )
    .unwrap();
    image::RgbImage::new(4, 4)
        .save(bench.path("sets/train2014/0.png"))
        .unwrap();
    fs::write(bench.path("sets/train2014/1.png"), "no picture").unwrap();
    let shown = bench.run_line("data check sets", &[]).good().stdout;
    assert!(shown.contains("NegRefCOCOg: incomplete"), "{shown}");
    assert!(shown.contains("pictures: 2 of 9"), "{shown}");
    assert!(shown.contains("2.png: missing"), "{shown}");
    assert!(shown.contains("picture: … and 2 more (--all)"), "{shown}");
    let deep = bench
        .run_line("data check sets --deep --all", &[])
        .good()
        .stdout;
    assert!(deep.contains("pictures: 1 of 9"), "{deep}");
    assert!(deep.contains("1.png: broken: "), "{deep}");
    assert!(deep.contains("8.png: missing"), "{deep}");
}
