//! `negkit data`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use negkit::image::write_atomic;
use negkit_data::check::{CheckReport, DatasetReport, State, check};
use negkit_data::negrefcocog::{BoxFilter, Margin, make_neg_refcocog};
use negkit_data::{Look, WordList};

use crate::args::print_json;
use crate::progress::spinner;

/// Look over the datasets that encoders are compared on, and make some.
#[derive(Subcommand)]
pub enum DataCommand {
    Check(CheckArgs),
    Negrefcocog(NegRefCocogArgs),
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

/// Make a NegRefCOCOg of any referring expressions in RefCOCO's form.
///
/// Expressions with a negation are taken, and the box that each means is laid beside that of another
/// instance of its category in the same picture, the largest that fits; both grow. What is written has
/// the form of NegRefCOCOg.json, the right box first. How its authors chose sizes is not published: the
/// defaults are what its 440 items show.
#[derive(Args)]
pub struct NegRefCocogArgs {
    /// References: `refs(umd).p`, or JSON with the same records.
    #[arg(long, value_name = "FILE")]
    references: PathBuf,
    /// COCO's instances of the same pictures.
    #[arg(long, value_name = "FILE")]
    instances: PathBuf,
    /// The file to write.
    #[arg(
        long,
        short,
        default_value = "out/NegRefCOCOg.json",
        value_name = "FILE"
    )]
    out: PathBuf,
    /// Only references of this split.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// The words, separated by commas, of which an expression must have one.
    #[arg(long, value_delimiter = ',', default_values = ["no", "not", "without"])]
    words: Vec<String>,
    /// How many pixels a box grows to every side, as far as the picture goes.
    #[arg(
        long,
        default_value_t = 100.,
        value_name = "PX",
        conflicts_with = "margin_share"
    )]
    margin: f64,
    /// Instead of pixels: what share of its width and height a box grows to every side.
    #[arg(long, value_name = "SHARE")]
    margin_share: Option<f64>,
    /// The least share of the picture that each box takes before it grows.
    #[arg(long, default_value_t = BoxFilter::photos().least_share, value_name = "SHARE")]
    least_share: f64,
    /// The most that one box is larger than the other before they grow.
    #[arg(long, default_value_t = BoxFilter::photos().most_ratio, value_name = "RATIO")]
    most_ratio: f64,
    /// The most that both overlap when they have grown (intersection over union).
    #[arg(long, default_value_t = BoxFilter::photos().most_iou, value_name = "IOU")]
    most_iou: f64,
    /// Print what became of the expressions as JSON.
    #[arg(long)]
    json: bool,
}

/// Pictures and problems that are named without `--all`.
const SHOWN: usize = 5;

/// Runs the command.
pub fn run(command: &DataCommand) -> anyhow::Result<ExitCode> {
    let args = match command {
        DataCommand::Check(args) => args,
        DataCommand::Negrefcocog(args) => return negrefcocog(args),
    };
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

fn negrefcocog(args: &NegRefCocogArgs) -> anyhow::Result<ExitCode> {
    let filter = BoxFilter {
        least_share: args.least_share,
        most_ratio: args.most_ratio,
        margin: match args.margin_share {
            Some(share) => Margin::Share(share),
            None => Margin::Pixels(args.margin),
        },
        most_iou: args.most_iou,
    };
    let spinner = spinner(format!("reading {}", args.references.display()));
    let made = make_neg_refcocog(
        &args.references,
        &args.instances,
        args.split.as_deref(),
        &WordList::new(&args.words),
        &filter,
    );
    spinner.finish_and_clear();
    let (items, tally) = made?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let bytes = serde_json::to_vec_pretty(&items).context("cannot write the items as JSON")?;
    write_atomic(&args.out, &bytes)?;
    if args.json {
        print_json(&tally)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        io::stdout(),
        "{} expressions, {} with one of the words {}\n  {} without another instance of the category in \
         the picture\n  {} whose other instances are of another size or overlap too much\n{} items in {}",
        tally.expressions,
        tally.negated,
        args.words.join(", "),
        tally.alone,
        tally.unlike,
        tally.items,
        args.out.display()
    )?;
    Ok(ExitCode::SUCCESS)
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
