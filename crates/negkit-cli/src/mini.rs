//! `negkit mini`: the small models, made and measured.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use negkit_mini::export::{self, ExportOptions};
use negkit_mini::negation::{self, Variant};
use negkit_mini::train::World;
use negkit_mini::{Workshop, ask, detect, paint, segment, train};

/// Train the small models of `weights/mini` and measure what they can do.
#[derive(Subcommand)]
pub enum MiniCommand {
    Train(TrainArgs),
    Export(ExportArgs),
    Verify(VerifyArgs),
}

/// Train the small models, stage by stage. What is done is not done again, and what was broken off
/// goes on where it stopped, so that the command can be killed and started at any moment.
#[derive(Args)]
pub struct TrainArgs {
    /// Folder for pictures, checkpoints, logs and the trained models.
    #[arg(long, default_value = "out/mini")]
    out: PathBuf,
    /// Only these stages, which must find what they build on. All, in order, when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Stage>,
}

/// Put the trained models together: published layouts, a card for each, and a list of hashes. What
/// an earlier export left is replaced. Models whose training is not through are left out.
#[derive(Args)]
pub struct ExportArgs {
    /// Folder that `negkit mini train` worked in.
    #[arg(long, default_value = "out/mini")]
    out: PathBuf,
    /// Folder for the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
    /// What was measured, for the cards. Need not be there.
    #[arg(long, default_value = "eval/results/mini/quality.json")]
    quality: PathBuf,
    /// Leave out the pictures that mini-sd paints and mini-clipseg marks.
    #[arg(long)]
    no_pictures: bool,
}

/// Check every file of the small models against the list of hashes.
#[derive(Args)]
pub struct VerifyArgs {
    /// Folder of the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Stock mini-clip, with its vocabulary.
    Clip,
    /// Negation captions and the encoders that are fine-tuned on them.
    Negation,
    /// mini-sd's autoencoder.
    Vae,
    /// mini-sd's latents and UNet.
    Sd,
    /// mini-clipseg's decoder.
    Clipseg,
    /// mini-vqa.
    Vqa,
    /// mini-detector, which checks mini-vqa.
    Detector,
}

pub fn run(command: &MiniCommand) -> anyhow::Result<()> {
    match command {
        MiniCommand::Train(args) => run_training(args),
        MiniCommand::Export(args) => run_export(args),
        MiniCommand::Verify(args) => {
            let files = export::verify(&args.weights)?;
            println!("{}: {files} files, all as listed", args.weights.display());
            Ok(())
        }
    }
}

fn run_export(args: &ExportArgs) -> anyhow::Result<()> {
    let options = ExportOptions {
        quality: args.quality.clone(),
        pictures: !args.no_pictures,
    };
    let done = export::export(&Workshop::open(&args.out)?, &args.weights, &options)?;
    for model in &done.models {
        println!(
            "{:<22} {:>10} parameters  {:>6.2} MB",
            model.name,
            model.parameters,
            model.bytes as f64 / 1e6
        );
    }
    if !done.missing.is_empty() {
        eprintln!("not trained yet, left out: {}", done.missing.join(", "));
    }
    let megabytes = done.bytes as f64 / 1e6;
    println!("{}: {megabytes:.1} MB", args.weights.display());
    Ok(())
}

fn run_training(args: &TrainArgs) -> anyhow::Result<()> {
    let shop = Workshop::open(&args.out)?;
    let world = World::open(&shop)?;
    let wanted = |stage: &Stage| args.only.is_empty() || args.only.contains(stage);
    for stage in Stage::value_variants().iter().filter(|stage| wanted(stage)) {
        match stage {
            Stage::Clip => train::clip(&shop, &world)?,
            Stage::Negation => {
                negation::captions(&shop, &world)?;
                for variant in Variant::ALL {
                    negation::encoder(&shop, &world, variant)?;
                }
            }
            Stage::Vae => paint::vae(&shop, &world)?,
            Stage::Sd => paint::unet(&shop, &world)?,
            Stage::Clipseg => segment::clipseg(&shop, &world)?,
            Stage::Vqa => ask::vqa(&shop, &world)?,
            Stage::Detector => detect::detector(&shop, &world)?,
        }
    }
    Ok(())
}
