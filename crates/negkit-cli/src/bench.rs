//! `negkit bench`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use negkit::nn::Isa;
use negkit_parity::speed::{Network, Timing, Work, time};
use serde::Serialize;

use crate::args::{ComputeArgs, print_json};
use crate::progress;

/// Time one evaluation of a network: unet, vae-decode, clip-text, clip-vision or clipseg.
///
/// The weights are those of a folder as diffusers and transformers publish it, or random ones of the
/// published sizes. What is compared with other engines is in eval/bench.
#[derive(Args)]
pub struct BenchArgs {
    /// The network.
    network: Network,
    /// Its folder or file (for the UNet the folder unet of a pipeline, for the VAE the folder vae).
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// Elements of the batch; for clipseg the phrases for its one picture.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Side of the picture in pixels, or number of tokens. The size that the network was made for
    /// without.
    #[arg(long)]
    size: Option<usize>,
    /// How often to evaluate it, after once that is not counted.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Serialize)]
struct Report {
    engine: String,
    network: Network,
    weights: Option<PathBuf>,
    batch: usize,
    size: usize,
    dtype: String,
    instructions: String,
    threads: usize,
    #[serde(flatten)]
    timing: Timing,
    minimum: f64,
    median: f64,
    /// Of the fastest evaluation.
    gflop_per_second: f64,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let compute = args.compute.open()?;
    let size = args.size.unwrap_or(args.network.published_size());
    let work = Work {
        network: args.network,
        weights: args.weights.as_deref(),
        batch: args.batch.max(1),
        size,
    };
    let repeat = args.repeat.max(1);
    let bar = progress::bar(repeat + 1, "evaluations");
    let timing = time(&work, repeat, &compute, || bar.inc(1))?;
    bar.finish_and_clear();
    let mut sorted = timing.seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let minimum = *sorted.first().context("nothing was timed")?;
    let report = Report {
        engine: format!("negkit {}", env!("CARGO_PKG_VERSION")),
        network: args.network,
        weights: args.weights.clone(),
        batch: work.batch,
        size,
        dtype: compute.dtype.as_str().to_owned(),
        instructions: Isa::chosen()?.to_string(),
        threads: negkit::nn::threads(),
        gflop_per_second: timing.operations as f64 / minimum / 1e9,
        minimum,
        median: sorted[sorted.len() / 2],
        timing,
    };
    if args.json {
        return print_json(&report);
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "{} batch {} size {} in {} ({}, {} threads): fastest {:.3} s, median {:.3} s, {:.0} GFLOP/s \
         of {:.3} TFLOP; loaded in {:.2} s",
        args.network.name(),
        report.batch,
        size,
        report.dtype,
        report.instructions,
        report.threads,
        report.minimum,
        report.median,
        report.gflop_per_second,
        report.timing.operations as f64 / 1e12,
        report.timing.load_seconds,
    )?;
    if let Some(peak) = report.timing.peak_memory_gib {
        writeln!(out, "highest memory {peak:.2} GiB")?;
    }
    Ok(())
}
