//! The command `negkit`: thin over the library, which does the work.

mod args;
mod ask;
mod bench;
mod captions;
mod data;
mod download;
mod encoders;
mod estimate;
mod eval;
mod mini;
mod parity;
mod progress;
mod report;
mod score;
mod segment;
mod train;
mod txt2img;
mod world;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use mimalloc::MiMalloc;
use negkit::CachingAllocator;

// Activations are allocated and freed all the time; an allocator that caches saves their page faults.
#[global_allocator]
static ALLOCATOR: CachingAllocator<MiMalloc> = CachingAllocator::new(MiMalloc);

/// Stable Diffusion and CLIPSeg with the text encoder of your choice, to see what a negation-aware
/// CLIP does to them.
///
/// A model is a known name (see `negkit encoders list`), a hub id (`owner/name`, `owner/name:file`,
/// `owner/name@revision`), a folder or a file. Files are looked for in the folder `weights/`
/// (NEGKIT_WEIGHTS) and in the Hugging Face cache (HF_HOME), and fetched from the hub otherwise;
/// HF_HUB_OFFLINE=1 forbids that.
#[derive(Parser)]
#[command(name = "negkit", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Txt2img(Box<txt2img::Txt2ImgArgs>),
    Segment(segment::SegmentArgs),
    Ask(ask::AskArgs),
    /// List, inspect and compare text encoders.
    #[command(subcommand)]
    Encoders(encoders::EncodersCommand),
    #[command(subcommand)]
    Captions(captions::CaptionsCommand),
    Estimate(estimate::EstimateArgs),
    #[command(subcommand)]
    World(world::WorldCommand),
    #[command(subcommand)]
    Data(data::DataCommand),
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    Report(report::ReportArgs),
    #[command(subcommand)]
    Score(score::ScoreCommand),
    #[command(subcommand)]
    Mini(mini::MiniCommand),
    #[command(subcommand)]
    Train(train::TrainCommand),
    Download(download::DownloadArgs),
    Parity(parity::ParityArgs),
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell, to be sourced or put where the shell looks for it.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        // Whoever reads the output (`head`, a pager) has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, but for those that a message before them has told already.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(|cause: &io::Error| cause.kind() == ErrorKind::BrokenPipe)
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Txt2img(args) => txt2img::run(&args)?,
        Command::Segment(args) => segment::run(&args)?,
        Command::Ask(args) => ask::run(&args)?,
        Command::Encoders(command) => encoders::run(&command)?,
        Command::Captions(command) => return captions::run(&command),
        Command::Estimate(args) => estimate::run(&args)?,
        Command::World(command) => world::run(&command)?,
        Command::Data(command) => return data::run(&command),
        Command::Eval(command) => eval::run(&command)?,
        Command::Score(command) => score::run(&command)?,
        Command::Report(args) => report::run(&args)?,
        Command::Mini(command) => mini::run(&command)?,
        Command::Train(command) => train::run(&command)?,
        Command::Download(args) => download::run(&args)?,
        Command::Parity(args) => return parity::run(&args),
        Command::Bench(args) => bench::run(&args)?,
        Command::Completions { shell } => {
            // In one piece: the generator panics when writing fails.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "negkit", &mut script);
            io::stdout().write_all(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
