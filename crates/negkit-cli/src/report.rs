//! `negkit report`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use negkit::image::{write_atomic, write_png};
use negkit_report::{Report, ReportSettings};

use crate::progress;

/// Runs of `negkit eval` as one page to look at, and as a contact sheet.
///
/// The page is one file that needs no network: scores with intervals and differences, charts, every
/// prompt with the pictures of all encoders, questions and answers, every phrase with what was marked
/// and what is meant, the best and the worst. It can be filtered, and a filtered view has an address
/// of its own. Runs that are not finished show what is there.
#[derive(Args)]
pub struct ReportArgs {
    /// The folders of the runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write. If not given, report.html in the folder of the first run.
    #[arg(long, short, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Also write a contact sheet: prompts and phrases in rows, with every encoder's pictures.
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// About so many rows on the contact sheet, the best and the worst among them.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    sheet_rows: u16,
    /// Show so many prompts of each score with their pictures, from everywhere in the list. The best
    /// and the worst are always shown, and scores are always of all.
    #[arg(long, default_value_t = ReportSettings::default().prompts, value_name = "N")]
    prompts: usize,
    /// The same of phrases, of each dataset.
    #[arg(long, default_value_t = ReportSettings::default().phrases, value_name = "N")]
    phrases: usize,
    /// Name so many of the best and of the worst in each list.
    #[arg(long, default_value_t = ReportSettings::default().cases, value_name = "N")]
    cases: usize,
    /// Bring pictures to at most so many pixels a side.
    #[arg(long, default_value_t = ReportSettings::default().picture_side, value_name = "PIXELS",
          value_parser = clap::value_parser!(u32).range(16..=4096))]
    picture_side: u32,
    /// A folder to look in for a dataset's pictures that are no longer where a run found them; repeat
    /// it.
    #[arg(long, value_name = "FOLDER")]
    pictures: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let settings = ReportSettings {
        prompts: args.prompts,
        phrases: args.phrases,
        cases: args.cases,
        picture_side: args.picture_side,
        pictures: args.pictures.clone(),
    };
    let spinner = progress::spinner("reading the runs");
    let report = Report::open(&args.runs, settings)?;
    spinner.finish_and_clear();
    let bar = progress::bar(0, "report");
    let page = report.page(&mut |done, cards| {
        bar.set_length(cards as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let first = args.runs.first().context("no run was named")?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| first.join("report.html"));
    write_atomic(&out, page.html.as_bytes())?;
    let mut stdout = io::stdout().lock();
    for notice in &page.notices {
        writeln!(stdout, "{notice}")?;
    }
    let megabytes = page.html.len() as f64 / 1e6;
    writeln!(stdout, "{} ({megabytes:.1} MB)", out.display())?;
    if let Some(path) = &args.sheet {
        let spinner = progress::spinner("laying out the sheet");
        let sheet = report.sheet(usize::from(args.sheet_rows))?;
        write_png(path, &sheet, &[])?;
        spinner.finish_and_clear();
        let (width, height) = sheet.dimensions();
        writeln!(stdout, "{} ({width} x {height} pixels)", path.display())?;
    }
    Ok(())
}
