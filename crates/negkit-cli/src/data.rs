//! `negkit data`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use negkit_data::Look;
use negkit_data::check::{CheckReport, DatasetReport, State, check};

use crate::args::print_json;

/// Look over the datasets that encoders are compared on.
#[derive(Subcommand)]
pub enum DataCommand {
    Check(CheckArgs),
}

/// Say which datasets a folder holds, whether they are whole, and where to get the others.
///
/// Datasets are recognised by the names of their files, in the folder and below it: PhraseCut,
/// RefCOCO/+/g, COCO, TIFA, the Neg Score prompts, GenEval, NegRefCOCOg and VALSE. Every record is
/// read, and counts are compared with the published ones. The exit code is 1 when something is
/// wrong; what is merely missing leaves it 0.
#[derive(Args)]
pub struct CheckArgs {
    /// The folder.
    folder: PathBuf,
    /// Decode every picture, compare its size, and draw every mask. Slow.
    #[arg(long)]
    deep: bool,
    /// List all pictures that are missing or broken, not only the first few.
    #[arg(long)]
    all: bool,
    /// Print the result as JSON, with every picture that is missing or broken.
    #[arg(long)]
    json: bool,
}

/// Pictures and problems that are named without `--all`.
const SHOWN: usize = 5;

/// Runs the command.
pub fn run(command: &DataCommand) -> anyhow::Result<ExitCode> {
    let DataCommand::Check(args) = command;
    let look = if args.deep {
        Look::Decode
    } else {
        Look::Exists
    };
    let report = check(&args.folder, look)?;
    if args.json {
        print_json(&report)?;
    } else {
        let shown = if args.all { usize::MAX } else { SHOWN };
        print(&mut io::stdout().lock(), &report, shown)?;
    }
    Ok(if report.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(out: &mut impl Write, report: &CheckReport, shown: usize) -> io::Result<()> {
    for found in &report.datasets {
        print_dataset(out, found, shown)?;
    }
    let of_state = |state| {
        report
            .datasets
            .iter()
            .filter(|found| found.state == state)
            .count()
    };
    writeln!(
        out,
        "{}: {} whole, {} incomplete, {} wrong, {} not there{}",
        report.folder.display(),
        of_state(State::Whole),
        of_state(State::Incomplete),
        of_state(State::Wrong),
        of_state(State::Absent),
        if report.deep {
            ""
        } else {
            " (pictures were looked for, not decoded: --deep)"
        }
    )
}

fn print_dataset(out: &mut impl Write, found: &DatasetReport, shown: usize) -> io::Result<()> {
    let state = match found.state {
        State::Whole => "whole",
        State::Incomplete => "incomplete",
        State::Wrong => "WRONG",
        State::Absent => "not there",
    };
    writeln!(out, "{}: {state}", found.name)?;
    if let Some(folder) = &found.folder {
        writeln!(out, "  in {}", folder.display())?;
    }
    for count in &found.counts {
        let published = match count.published {
            Some(published) if published == count.found => ", as published".to_owned(),
            Some(published) => format!(", published {published}"),
            None => String::new(),
        };
        writeln!(out, "  {}: {}{published}", count.what, count.found)?;
    }
    let pictures = &found.pictures;
    if pictures.needed > 0 {
        writeln!(
            out,
            "  pictures: {} of {}",
            pictures.good(),
            pictures.needed
        )?;
    }
    let faults = pictures.faults.iter();
    let faults = faults.map(|(path, fault)| format!("{}: {fault}", path.display()));
    list(out, "wrong", found.problems.iter().cloned(), shown)?;
    list(out, "missing", found.missing.iter().cloned(), shown)?;
    list(out, "picture", faults, shown)?;
    list(out, "note", found.notes.iter().cloned(), shown)?;
    if found.state != State::Whole {
        writeln!(out, "  get it: {}", found.source)?;
    }
    Ok(())
}

fn list(
    out: &mut impl Write,
    what: &str,
    items: impl ExactSizeIterator<Item = String>,
    shown: usize,
) -> io::Result<()> {
    let count = items.len();
    for item in items.take(shown) {
        writeln!(out, "  {what}: {item}")?;
    }
    if count > shown {
        writeln!(out, "  {what}: … and {} more (--all)", count - shown)?;
    }
    Ok(())
}
