//! `negkit captions`.

#[cfg(feature = "onnx")]
mod detector;
mod make;
mod merge;
mod prompts;
mod staff;
mod stats;

use std::process::ExitCode;

use clap::Subcommand;

/// Captions that say what is not in the picture.
#[derive(Subcommand)]
pub enum CaptionsCommand {
    P1(Box<make::P1Args>),
    P2(Box<make::P2Args>),
    RandP1(Box<make::RandP1Args>),
    Merge(merge::MergeArgs),
    Prompts(prompts::PromptsArgs),
    #[cfg(feature = "onnx")]
    Detector(detector::DetectorArgs),
    Stats(Box<stats::StatsArgs>),
}

/// Runs the command.
pub fn run(command: &CaptionsCommand) -> anyhow::Result<ExitCode> {
    match command {
        CaptionsCommand::P1(args) => make::p1(args)?,
        CaptionsCommand::P2(args) => make::p2(args)?,
        CaptionsCommand::RandP1(args) => make::rand_p1(args)?,
        CaptionsCommand::Merge(args) => merge::run(args)?,
        CaptionsCommand::Prompts(args) => prompts::run(args)?,
        #[cfg(feature = "onnx")]
        CaptionsCommand::Detector(args) => detector::run(args)?,
        CaptionsCommand::Stats(args) => return stats::run(args),
    }
    Ok(ExitCode::SUCCESS)
}
