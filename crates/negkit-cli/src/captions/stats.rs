//! `negkit captions stats`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use negkit_stats::{Format, Input, Report, Survey, WordList, find};

use crate::args::print_json;

/// How often captions hold a negation: the figures of the paper's Table 1, for any caption file.
///
/// Reads COCO captions (any JSON with a list of objects), JSON lines, CSV, TSV, Parquet and plain
/// text with a caption a line, each but Parquet also packed with gzip or zstd. Of folders, all files
/// with such names are read. Memory does not grow with the input, and the figures do not depend on
/// the number of threads. Records that cannot be read are counted and named; the exit code is 1 when
/// a file could not be read to its end.
///
/// A word is a run of letters and digits; apostrophes within join ("isn't" is one word).
#[derive(Args)]
pub struct StatsArgs {
    /// Files or folders; - is the standard input.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<Input>,
    /// Column or field of the captions; in tables its number is good, too. [default: caption or
    /// text]
    #[arg(long, short, value_name = "NAME")]
    column: Option<String>,
    /// Take all files for this format, whatever their names: text, csv, tsv, jsonl, json, parquet.
    #[arg(long)]
    format: Option<Format>,
    /// Tables have no header; --column is a number.
    #[arg(long, requires = "column")]
    no_header: bool,
    /// Key of the list in a JSON object.
    #[arg(long, value_name = "KEY", default_value = "annotations")]
    records: String,
    /// The words of negation: default, extended, or a file with an entry a line.
    #[arg(long, value_name = "LIST", default_value = "default")]
    words: String,
    /// Examples for each word. All different captions with that word are equally likely.
    #[arg(long, value_name = "N", default_value_t = 0)]
    examples: usize,
    /// Chooses the examples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads. [default: one a processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Faults that are printed besides the table.
const SHOWN: usize = 10;

/// Runs the command.
pub fn run(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let words = match args.words.as_str() {
        "default" => WordList::negations(),
        "extended" => WordList::extended(),
        file => WordList::open(&PathBuf::from(file))?,
    };
    let mut survey = Survey::new(words)
        .with_records(&args.records)
        .with_examples(args.examples, args.seed);
    if let Some(column) = &args.column {
        survey = survey.with_column(column);
    }
    if let Some(format) = args.format {
        survey = survey.with_format(format);
    }
    if args.no_header {
        survey = survey.without_header();
    }
    if let Some(threads) = args.threads {
        survey = survey.with_threads(threads);
    }
    let found = find(&args.inputs)?;
    let bar = bar(found.bytes, found.files.contains(&Input::Stdin));
    let report = survey.run(&found, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if args.json {
        print_json(&report)?;
    } else {
        write!(io::stdout(), "{report}")?;
    }
    name_faults(&report);
    Ok(match report.faults.files {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// A bar of bytes; where there is no telling how many come, a count of them.
fn bar(bytes: u64, endless: bool) -> ProgressBar {
    let (bar, template) = if endless {
        let template = "{spinner} {bytes} in {elapsed} ({bytes_per_sec})";
        (ProgressBar::no_length(), template)
    } else {
        let template =
            "[{bar:30}] {bytes} of {total_bytes} {elapsed} (left {eta}, {bytes_per_sec})";
        (ProgressBar::new(bytes), template)
    };
    // The template is a constant; without it the bar is only plainer.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Says on the standard error what could not be read.
fn name_faults(report: &Report) {
    let faults = &report.faults;
    if faults.is_empty() {
        return;
    }
    eprintln!(
        "could not be read: {} records, and {} files not to their end",
        faults.records, faults.files
    );
    for fault in faults.named.iter().take(SHOWN) {
        eprintln!("  {fault}");
    }
    let count = faults.records + faults.files;
    if count > SHOWN as u64 {
        eprintln!(
            "  … and {} more (--json names the first thousand)",
            count - SHOWN as u64
        );
    }
}
