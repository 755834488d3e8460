//! `negkit captions merge`.

use std::path::PathBuf;

use clap::Args;
use negkit_caption_run::CaptionRun;

use super::make::report;
use crate::args::ShardFolders;

/// Put the shards of a run together, and write its captions.
///
/// The result has the same bytes as that of a run without shards.
#[derive(Args)]
pub struct MergeArgs {
    #[command(flatten)]
    shards: ShardFolders,
    /// The captions file that the run was made from.
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
}

/// Runs the command.
pub fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let ShardFolders { out, runs } = &args.shards;
    let summary = CaptionRun::merge(out, runs, &args.captions)?;
    report(out, &summary, None)
}
