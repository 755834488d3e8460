//! `negkit eval`.

mod benchmarks;
mod measure;
mod table2;
mod table3;
mod table4;
mod table5;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use indicatif::HumanDuration;
use negkit_eval::{Outlook, RunFolder, Shard, Worked, merge};

use crate::args::ShardFolders;

/// Make the paper's tables, with any text encoders.
#[derive(Subcommand)]
pub enum EvalCommand {
    Table2(Box<table2::Table2Args>),
    Table3(Box<table3::Table3Args>),
    Table4(Box<table4::Table4Args>),
    Table5(Box<table5::Table5Args>),
    Valse(Box<benchmarks::ValseArgs>),
    Negrefcocog(Box<benchmarks::NegRefCocogArgs>),
    Negbench(Box<benchmarks::NegBenchArgs>),
    Ccneg(Box<benchmarks::CcNegArgs>),
    Coco(Box<benchmarks::CocoArgs>),
    Imagenet(Box<benchmarks::ImageNetArgs>),
    Celeba(Box<benchmarks::CelebAArgs>),
    /// Put the shards of a run together, and write its table.
    ///
    /// The result has the same bytes as that of a run without shards.
    Merge(ShardFolders),
}

/// Whose prompts, pictures and models a table is made of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scale {
    Mini,
    Paper,
}

impl Scale {
    /// What is taken at the paper's scale where nothing is named.
    fn paper(self, name: &'static str) -> Option<&'static str> {
        (self == Self::Paper).then_some(name)
    }
}

/// Runs the command.
pub fn run(command: &EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Table2(args) => table2::run(args),
        EvalCommand::Table3(args) => table3::run(args),
        EvalCommand::Table4(args) => table4::run(args),
        EvalCommand::Table5(args) => table5::run(args),
        EvalCommand::Valse(args) => benchmarks::valse(args),
        EvalCommand::Negrefcocog(args) => benchmarks::negrefcocog(args),
        EvalCommand::Negbench(args) => benchmarks::negbench(args),
        EvalCommand::Ccneg(args) => benchmarks::ccneg(args),
        EvalCommand::Coco(args) => benchmarks::coco(args),
        EvalCommand::Imagenet(args) => benchmarks::imagenet(args),
        EvalCommand::Celeba(args) => benchmarks::celeba(args),
        EvalCommand::Merge(args) => run_merge(args),
    }
}

fn run_merge(args: &ShardFolders) -> anyhow::Result<()> {
    let run = merge(&args.out, &args.runs)?;
    let found = match run.plan().table() {
        negkit_eval::table4::TABLE => negkit_eval::table4::finals(&run)?,
        negkit_eval::table5::TABLE => negkit_eval::table5::finals(&run)?,
        other if negkit_eval::measuring::Table::of_key(other).is_some() => {
            negkit_eval::measuring::finals(&run)?
        }
        other => bail!(
            "{} is a run of '{other}', which this negkit does not know",
            args.out.display()
        ),
    };
    run.write_finals(&found)?;
    report(&run, &found.table)
}

/// Says what was done, where other shards have work left.
fn report_left(worked: Worked) -> anyhow::Result<()> {
    writeln!(
        io::stdout(),
        "{} items done, {} left for other shards; the last one in this folder writes the table, and \
         `negkit eval merge` that of several folders",
        worked.done,
        worked.left
    )?;
    Ok(())
}

/// Says how much of a shard is left, and how long that takes by the rate that was measured: on the
/// items that are done, or else on two, which `measure` does and forgets.
fn report_outlook(
    shard: Shard,
    item: &str,
    outlook: &Outlook,
    measure: impl FnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<()> {
    let left = outlook.items - outlook.done;
    let (each, on) = match outlook.each {
        Some(each) => (each, "on what is done"),
        None => (measure()?, "on two items"),
    };
    writeln!(
        io::stdout(),
        "shard {shard}: {} items ({item}), {} done, {left} left\n\
         about {} left, at {:.2} s an item, measured {on}",
        outlook.items,
        outlook.done,
        HumanDuration(each.mul_f64(left as f64)),
        each.as_secs_f64()
    )?;
    Ok(())
}

/// Prints the table and where it is.
fn report(run: &RunFolder, table: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{table}\n{}", run.path().join("table.md").display())?;
    Ok(())
}
