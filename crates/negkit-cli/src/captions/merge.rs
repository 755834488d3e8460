//! `negkit captions merge`.

use std::path::PathBuf;

use clap::Args;
use negkit_caption_run::CaptionRun;

use super::make::report;

/// Put the shards of a run together, and write its captions.
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
    /// The captions file that the run was made from.
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
}

/// Runs the command.
pub fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let summary = CaptionRun::merge(&args.out, &args.runs, &args.captions)?;
    report(&args.out, &summary, None)
}
