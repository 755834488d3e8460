//! `negkit captions`.

mod stats;

use std::process::ExitCode;

use clap::Subcommand;

/// Captions that say what is not in the picture.
#[derive(Subcommand)]
pub enum CaptionsCommand {
    Stats(Box<stats::StatsArgs>),
}

/// Runs the command.
pub fn run(command: &CaptionsCommand) -> anyhow::Result<ExitCode> {
    match command {
        CaptionsCommand::Stats(args) => stats::run(args),
    }
}
