//! `negkit estimate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use negkit_estimate::{Estimate, Inputs, Models};

use crate::args::print_json;

/// Compute what making a NegationCLIP takes: requests, time, memory and disk, with the formulas.
///
/// Nothing is run or fetched. Without flags it is the paper's run on COCO train2014 and VQAv2;
/// docs/negationclip.md goes through it.
#[derive(Args)]
pub struct EstimateArgs {
    /// The CLIP: ViT-B/32, ViT-B/16, ViT-L/14, or the config.json of another.
    #[arg(long, default_value = "ViT-B/32", value_name = "SIZE")]
    clip: String,
    /// The config.json of the language model that writes. [default: Llama-3-8B-Instruct's]
    #[arg(long, value_name = "FILE")]
    writer: Option<PathBuf>,
    /// The config.json of the LLaVA-NeXT that looks. [default: LLaVA-1.6-Mistral-7B's]
    #[arg(long, value_name = "FILE")]
    verifier: Option<PathBuf>,
    /// Captions that P1 starts from.
    #[arg(long, default_value_t = Inputs::default().captions, value_name = "N")]
    captions: u64,
    /// Captions that P1 keeps.
    #[arg(long, default_value_t = Inputs::default().p1, value_name = "N")]
    p1: u64,
    /// Captions that P2 makes.
    #[arg(long, default_value_t = Inputs::default().p2, value_name = "N")]
    p2: u64,
    /// Pictures of the captions file.
    #[arg(long, default_value_t = Inputs::default().pictures, value_name = "N")]
    pictures: u64,
    /// Requests that a server works on at a time.
    #[arg(long, default_value_t = Inputs::default().concurrency, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    concurrency: u64,
    /// The GPU's operations a second in 16 bits, in 10^12.
    #[arg(long, default_value_t = Inputs::default().gpu.tera_half, value_name = "N")]
    half: f64,
    /// The GPU's operations a second in f32, in 10^12.
    #[arg(long, default_value_t = Inputs::default().gpu.tera_single, value_name = "N")]
    single: f64,
    /// Bytes of its memory that the GPU moves a second, in 10^12.
    #[arg(long, default_value_t = Inputs::default().gpu.tera_bytes, value_name = "N")]
    bandwidth: f64,
    /// Share of these three that is reached.
    #[arg(long, default_value_t = Inputs::default().gpu.reached, value_name = "SHARE")]
    reached: f64,
    /// Pairs of a step.
    #[arg(long, default_value_t = Inputs::default().batch, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Pairs that are run at a time; 0 for whole batches.
    #[arg(long, default_value_t = Inputs::default().chunk, value_name = "N")]
    chunk: u64,
    /// Times that every caption is trained on.
    #[arg(long, default_value_t = Inputs::default().epochs, value_name = "N")]
    epochs: u64,
    /// Seconds of a step as measured, in place of the GPU's computed ones.
    #[arg(long, value_name = "SECONDS")]
    step_seconds: Option<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &EstimateArgs) -> anyhow::Result<()> {
    let numbers = [
        ("--half", args.half),
        ("--single", args.single),
        ("--bandwidth", args.bandwidth),
        ("--reached", args.reached),
        ("--step-seconds", args.step_seconds.unwrap_or(1.)),
    ];
    for (flag, number) in numbers {
        if !number.is_finite() || number <= 0. {
            bail!("{flag}: expected a number above 0, found {number}");
        }
    }
    let mut models = Models::of_paper(&args.clip)?;
    if let Some(config) = &args.writer {
        models = models.with_writer(config)?;
    }
    if let Some(config) = &args.verifier {
        models = models.with_verifier(config)?;
    }
    let mut inputs = Inputs {
        captions: args.captions,
        p1: args.p1,
        p2: args.p2,
        concurrency: args.concurrency,
        batch: args.batch,
        chunk: args.chunk,
        epochs: args.epochs,
        step_seconds: args.step_seconds,
        ..Inputs::default()
    };
    // Pictures are taken to be as large as COCO's.
    inputs.picture_bytes = inputs.picture_bytes / inputs.pictures * args.pictures;
    inputs.pictures = args.pictures;
    inputs.gpu.tera_half = args.half;
    inputs.gpu.tera_single = args.single;
    inputs.gpu.tera_bytes = args.bandwidth;
    inputs.gpu.reached = args.reached;
    let estimate = Estimate::new(&inputs, &models);
    if args.json {
        return print_json(&estimate);
    }
    write!(io::stdout(), "{estimate}")?;
    Ok(())
}
