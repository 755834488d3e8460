//! `negkit eval`.

mod table4;
mod table5;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use negkit_eval::{RunFolder, merge};

/// Make the paper's tables, with any text encoders.
#[derive(Subcommand)]
pub enum EvalCommand {
    Table4(Box<table4::Table4Args>),
    Table5(Box<table5::Table5Args>),
    Merge(MergeArgs),
}

/// Put the shards of a run together, and write its table.
///
/// The result has the same bytes as that of a run without shards.
#[derive(Args)]
pub struct MergeArgs {
    /// The folder to write to.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The folders of the shards; one that several shards worked in is given once.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(command: &EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Table4(args) => table4::run(args),
        EvalCommand::Table5(args) => table5::run(args),
        EvalCommand::Merge(args) => run_merge(args),
    }
}

fn run_merge(args: &MergeArgs) -> anyhow::Result<()> {
    let run = merge(&args.out, &args.runs)?;
    let found = match run.plan().table() {
        negkit_eval::table4::TABLE => negkit_eval::table4::finals(&run)?,
        negkit_eval::table5::TABLE => negkit_eval::table5::finals(&run)?,
        other => bail!(
            "{} is a run of '{other}', which this negkit does not know",
            args.out.display()
        ),
    };
    run.write_finals(&found)?;
    report(&run, &found.table)
}

/// Prints the table and where it is.
fn report(run: &RunFolder, table: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{table}\n{}", run.path().join("table.md").display())?;
    Ok(())
}
