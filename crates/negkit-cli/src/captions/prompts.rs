//! `negkit captions prompts`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use negkit_caption_writers::Prompts;

/// Write the prompts into a folder, to be changed and named with --prompts.
///
/// They are our own words for the steps that the paper describes. No file is overwritten.
#[derive(Args)]
pub struct PromptsArgs {
    /// The folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs the command.
pub fn run(args: &PromptsArgs) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for path in Prompts::write_built_in(&args.folder)? {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
