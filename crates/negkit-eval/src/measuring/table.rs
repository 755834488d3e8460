//! `table.md`: to be read.

use std::fmt::Write as _;

use super::finals::{BenchmarkSummary, EncoderSummary, MeasureSummary, Summary};
use super::{MeasuringSettings, Scale, Table};
use crate::agreement::{self, Frame, difference};
use crate::{table2, table3};

/// Pictures that the table names; `summary.json` has all.
const MOST_NAMED: usize = 10;

pub(super) fn markdown(summary: &Summary, which: Table) -> String {
    let settings = &summary.settings;
    let title = match (which, summary.benchmarks.as_slice()) {
        (Table::Two, _) => table2::TITLE.to_owned(),
        (Table::Three, _) => table3::TITLE.to_owned(),
        (Table::Benchmark, all) => {
            let titles: Vec<&str> = all.iter().map(|one| one.title.as_str()).collect();
            titles.join(", ")
        }
    };
    let mut text = format!("# {title}\n\n");
    let base = base(settings);
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "Pictures are seen by the vision tower of {}, in {} on {}. Scores are shares of items; in \
         brackets {:.0} % bootstrap intervals over items, of which those of one picture are drawn \
         together ({} resamples). {}\n",
        settings.clip,
        settings.dtype,
        settings.device,
        settings.bootstrap.level * 100.,
        settings.bootstrap.resamples,
        trainings(settings),
    );
    if settings.scale == Scale::Mini {
        text.push_str(agreement::MINI_NOTE);
    }
    main_table(&mut text, summary);
    below_chance(&mut text, summary);
    differences(&mut text, summary, base);
    let details = summary.benchmarks.iter().any(|one| one.measures.len() > 1);
    let problems = summary
        .benchmarks
        .iter()
        .any(|one| !one.problems.is_empty());
    if details || problems {
        text.push_str("## Every measure\n\n");
    }
    for benchmark in &summary.benchmarks {
        section(&mut text, benchmark, settings);
    }
    let frame = Frame {
        baseline: base,
        claim: "prefer what is true, with and without a negation, more often than CLIP does",
        note: note(settings),
    };
    text.push_str(&agreement::section(&frame, &summary.agreement));
    text
}

fn base(settings: &MeasuringSettings) -> &str {
    settings.encoders.first().map_or("", |first| &first.name)
}

fn several(settings: &MeasuringSettings) -> bool {
    settings
        .encoders
        .iter()
        .any(|encoder| encoder.seeds.len() > 1)
}

fn trainings(settings: &MeasuringSettings) -> String {
    if !several(settings) {
        return "Every encoder was trained once, so that how much a second training would change \
                is not known."
            .to_owned();
    }
    let counts: Vec<String> = settings
        .encoders
        .iter()
        .map(|encoder| format!("{} {}", encoder.name, encoder.seeds.len()))
        .collect();
    format!(
        "Trainings with different seeds: {}. A score of several is their mean, and behind ± stands \
         their sample standard deviation.",
        counts.join(", ")
    )
}

fn note(settings: &MeasuringSettings) -> &'static str {
    match several(settings) {
        true => {
            " With several trainings the mean over them is compared; how many of them differ to which \
             side stands above."
        }
        false => "",
    }
}

fn main_of(benchmark: &BenchmarkSummary) -> Option<&MeasureSummary> {
    let own = |one: &&MeasureSummary| one.measure == benchmark.main;
    benchmark.measures.iter().find(own)
}

/// The paper's table: an encoder a line.
fn main_table(text: &mut String, summary: &Summary) {
    let with_paper = |benchmark: &BenchmarkSummary| {
        main_of(benchmark).is_some_and(|main| main.encoders.iter().any(|one| one.paper.is_some()))
    };
    text.push_str("| encoder |");
    let mut rule = String::from("|---|");
    for benchmark in &summary.benchmarks {
        let _ = write!(text, " {}, {} |", benchmark.title, benchmark.main);
        rule.push_str("---|");
        if with_paper(benchmark) {
            text.push_str(" paper |");
            rule.push_str("---|");
        }
    }
    let _ = writeln!(text, "\n{rule}");
    for (place, encoder) in summary.settings.encoders.iter().enumerate() {
        let _ = write!(text, "| {} |", cell(&encoder.name));
        for benchmark in &summary.benchmarks {
            let one = main_of(benchmark).and_then(|main| main.encoders.get(place));
            let _ = write!(text, " {} |", one.map_or_else(String::new, score));
            if with_paper(benchmark) {
                let paper = one.and_then(|one| one.paper);
                let _ = write!(
                    text,
                    " {} |",
                    paper.map_or("–".to_owned(), |p| format!("{p:.3}"))
                );
            }
        }
        text.push('\n');
    }
    text.push('\n');
}

/// Encoders that do worse than guessing: better than another, but of no use.
fn below_chance(text: &mut String, summary: &Summary) {
    for benchmark in &summary.benchmarks {
        let Some((main, chance)) = main_of(benchmark).and_then(|one| Some((one, one.chance?)))
        else {
            continue;
        };
        let below = main.encoders.iter().filter(|one| one.score.high < chance);
        let below: Vec<&str> = below.map(|one| one.encoder.as_str()).collect();
        if !below.is_empty() {
            let _ = writeln!(
                text,
                "**Below chance** on {}: {}. Guessing gives {chance:.3}; these prefer what is wrong.\n",
                benchmark.title,
                below.join(", ")
            );
        }
    }
}

fn score(one: &EncoderSummary) -> String {
    let interval = one.score;
    let spread = one
        .deviation
        .map_or_else(String::new, |d| format!(" ± {d:.3}"));
    format!(
        "**{:.3}**{spread} [{:.3}, {:.3}]",
        interval.estimate, interval.low, interval.high
    )
}

fn differences(text: &mut String, summary: &Summary, base: &str) {
    if summary.settings.encoders.len() < 2 {
        return;
    }
    let with_seeds = several(&summary.settings);
    let _ = writeln!(text, "## Against {base}, on the same items\n");
    text.push_str("| encoder | benchmark | difference | p |");
    text.push_str(match with_seeds {
        true => " trainings above, below |\n|---|---|---|---|---|\n",
        false => "\n|---|---|---|---|\n",
    });
    for place in 1..summary.settings.encoders.len() {
        for benchmark in &summary.benchmarks {
            let one = main_of(benchmark).and_then(|main| main.encoders.get(place));
            let Some((one, against)) = one.and_then(|one| Some((one, one.against_first.as_ref()?)))
            else {
                continue;
            };
            let _ = write!(
                text,
                "| {} | {} | {} | {:.3} |",
                cell(&one.encoder),
                benchmark.title,
                difference(&against.found.difference),
                against.found.p_value
            );
            if with_seeds {
                let of = one.seeds.len();
                let _ = write!(text, " {}, {} of {of} |", against.better, against.worse);
            }
            text.push('\n');
        }
    }
    text.push('\n');
}

/// All measures of a benchmark, an encoder a column.
fn section(text: &mut String, benchmark: &BenchmarkSummary, settings: &MeasuringSettings) {
    let info = settings
        .benchmarks
        .iter()
        .find(|info| info.key == benchmark.key);
    let _ = write!(text, "**{}**", benchmark.title);
    if let Some(info) = info {
        let _ = write!(text, ": {}.", info.what);
    }
    match benchmark.problems.as_slice() {
        [] => text.push_str(" No picture was missing or broken.\n\n"),
        problems => {
            let _ = writeln!(
                text,
                " **{} pictures could not be scored:**\n",
                problems.len()
            );
            for (picture, problem) in problems.iter().take(MOST_NAMED) {
                let _ = writeln!(text, "- {picture}: {problem}");
            }
            if problems.len() > MOST_NAMED {
                let _ = writeln!(text, "- … and {} more", problems.len() - MOST_NAMED);
            }
            text.push('\n');
        }
    }
    text.push_str("| measure | items | by chance |");
    for encoder in &settings.encoders {
        let _ = write!(text, " {} |", cell(&encoder.name));
    }
    let _ = writeln!(
        text,
        "\n|---|---|---|{}",
        "---|".repeat(settings.encoders.len())
    );
    for measure in &benchmark.measures {
        let chance = measure
            .chance
            .map_or("–".to_owned(), |chance| format!("{chance:.3}"));
        let _ = write!(
            text,
            "| {} | {} | {chance} |",
            cell(&measure.measure),
            measure.items
        );
        for one in &measure.encoders {
            let spread = one
                .deviation
                .map_or_else(String::new, |d| format!(" ± {d:.3}"));
            let _ = write!(text, " {:.3}{spread} |", one.score.estimate);
        }
        text.push('\n');
    }
    text.push('\n');
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
