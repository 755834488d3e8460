//! `negkit estimate`: what making a NegationCLIP takes.

use crate::bench::Bench;

#[test]
fn an_estimate_follows_its_flags() {
    let bench = Bench::new();
    let value = |flags: &str, what: &str| {
        let found = bench
            .run_line(&format!("estimate --json {flags}"), &[])
            .good()
            .json();
        let parts = found["parts"].as_array().unwrap().clone();
        let lines = parts
            .iter()
            .flat_map(|part| part[1].as_array().unwrap().clone());
        let line = lines.into_iter().find(|line| line["what"] == what);
        line.unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!(value("", "steps"), 5370.);
    assert_eq!(value("--p1 10000 --p2 0 --epochs 2", "steps"), 2. * 16.);
    assert_eq!(value("--step-seconds 2", "all steps"), 2. * 5370.);
    assert_eq!(
        value("--clip ViT-L/14", "parameters trained"),
        123_060_480. - 1536. + 589_824. + 1.
    );
    let half = value("--half 156 --single 9.75 --bandwidth 1.0195", "P1: writing");
    assert!((half / value("", "P1: writing") - 2.).abs() < 1e-9);

    let table = bench.run_line("estimate", &[]).good().stdout;
    assert!(
        table.contains("| steps | 5370 | 15 epochs x ceil(183200 captions / 512) |"),
        "{table}"
    );
    bench
        .run_line("estimate --reached 0", &[])
        .refused(&["--reached: expected a number above 0"]);
    bench
        .run_line("estimate --clip none.json", &[])
        .refused(&["cannot read none.json"]);
    bench
        .run_line("estimate --concurrency 0", &[])
        .refused(&["--concurrency"]);
}
