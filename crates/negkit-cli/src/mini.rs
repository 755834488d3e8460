//! `negkit mini`: the small models, made and measured.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use negkit::diffusion::scheduler::SchedulerKind;
use negkit_mini::export::{self, ExportOptions};
use negkit_mini::negation::{self, Variant};
use negkit_mini::quality::sheet::{self, SheetOptions};
use negkit_mini::quality::{self, HeldOut, Painting, QualityOptions, Section};
use negkit_mini::recipe;
use negkit_mini::restore::restore;
use negkit_mini::train::World;
use negkit_mini::{Workshop, ask, detect, paint, segment, train};
use negkit_train::start_over_to_train;

/// Train the small models of `weights/mini` and measure what they can do.
#[derive(Subcommand)]
pub enum MiniCommand {
    Train(TrainArgs),
    Encoders(EncodersArgs),
    Export(ExportArgs),
    Restore(RestoreArgs),
    Verify(VerifyArgs),
    Quality(QualityArgs),
    Paint(PaintArgs),
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

/// Fine-tune the encoders of Table 3 from stock mini-clip, each with several training seeds: folder
/// `OUT/NAME/SEED/export` for each, in transformers' layout. What is done is not done again, and the
/// command can be killed and started at any moment.
#[derive(Args)]
pub struct EncodersArgs {
    /// Folder for pictures, captions, and the encoders.
    #[arg(long, default_value = "out/mini-encoders")]
    out: PathBuf,
    /// Stock mini-clip.
    #[arg(long, default_value = "weights/mini/clip")]
    clip: PathBuf,
    /// Training seeds. Those of `weights/mini` were trained with 0.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u32>,
    /// Only these encoders. All when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Encoder>,
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

/// Put exported models back into the folder that they were made in, to train one of them anew or
/// further without those that it builds on: remove its stage's folder then, and run `negkit mini
/// train`.
#[derive(Args)]
pub struct RestoreArgs {
    /// Folder of the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
    /// Folder that `negkit mini train` works in.
    #[arg(long, default_value = "out/mini")]
    out: PathBuf,
}

/// Check every file of the small models against the list of hashes.
#[derive(Args)]
pub struct VerifyArgs {
    /// Folder of the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
}

/// Measure what the exported models can do on test scenes: `quality.json` with all numbers and
/// `quality.md` with the bars. What was measured before with the same weights and settings is not
/// measured again, so that the command can be killed and started at any moment.
#[derive(Args)]
pub struct QualityArgs {
    /// Folder of the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
    /// Folder for the results.
    #[arg(long, default_value = "eval/results/mini")]
    out: PathBuf,
    /// Measure only these; of the others, what was measured before is reported.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// Text encoders to swap in beside the stock one, by their folders.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "stock,conclip,negationclip"
    )]
    encoders: Vec<String>,
    /// Measure on validation scenes, to choose settings by; take another --out.
    #[arg(long, requires = "out")]
    validation: bool,
    /// Measure a handful of items, to see that everything runs.
    #[arg(long)]
    fast: bool,
    #[command(flatten)]
    painting: PaintingArgs,
}

/// Paint prompts with mini-sd and lay the pictures out on a sheet, a row a prompt and a column a
/// seed; none is chosen.
#[derive(Args)]
pub struct PaintArgs {
    /// Folder of the models.
    #[arg(long, default_value = "weights/mini")]
    weights: PathBuf,
    /// A text file with a prompt a line, or `default`.
    #[arg(long, default_value = "default")]
    prompts: PathBuf,
    /// Pictures of each prompt.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    each: u16,
    /// Seed of the first picture's noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The text encoder: `stock`, or the folder of another.
    #[arg(long, default_value = quality::STOCK)]
    encoder: String,
    /// The sheet.
    #[arg(long, default_value = "out/mini.png")]
    out: PathBuf,
    #[command(flatten)]
    painting: PaintingArgs,
}

#[derive(Args)]
struct PaintingArgs {
    /// Scheduler of mini-sd, as for `negkit txt2img`; its own if not given.
    #[arg(long)]
    scheduler: Option<SchedulerKind>,
    /// Inference steps of mini-sd.
    #[arg(long, default_value_t = recipe::SAMPLING_STEPS)]
    steps: usize,
    /// Guidance scale of mini-sd.
    #[arg(long, default_value_t = recipe::GUIDANCE)]
    guidance: f64,
    /// Pictures painted at a time. They do not depend on it.
    #[arg(long, default_value_t = recipe::PAINTED_AT_A_TIME)]
    batch: usize,
}

impl PaintingArgs {
    fn painting(&self) -> Painting {
        Painting {
            scheduler: self.scheduler,
            steps: self.steps,
            guidance: self.guidance,
            at_a_time: self.batch,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Retrieval and foils, with every text encoder.
    Clip,
    /// mini-vqa on scenes, and its agreement with mini-detector.
    Vqa,
    /// What mini-sd paints of prompts without a negation.
    Sd,
    /// What mini-clipseg marks.
    Clipseg,
    /// mini-sd and mini-clipseg with other text encoders.
    Swap,
}

impl From<Measurement> for Section {
    fn from(measurement: Measurement) -> Self {
        match measurement {
            Measurement::Clip => Self::Clip,
            Measurement::Vqa => Self::Vqa,
            Measurement::Sd => Self::Sd,
            Measurement::Clipseg => Self::Clipseg,
            Measurement::Swap => Self::Swap,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoder {
    /// Absent objects drawn at random.
    RandP1,
    /// Likely objects that are absent.
    P1,
    /// Questions answered "no".
    P2,
    /// P1 and P2 together.
    Negationclip,
    /// CoN-CLIP's way.
    Conclip,
    /// CLIP-bnl's way.
    ClipBnl,
}

impl From<Encoder> for Variant {
    fn from(encoder: Encoder) -> Self {
        match encoder {
            Encoder::RandP1 => Self::RandP1,
            Encoder::P1 => Self::P1,
            Encoder::P2 => Self::P2,
            Encoder::Negationclip => Self::NegationClip,
            Encoder::Conclip => Self::ConClip,
            Encoder::ClipBnl => Self::ClipBnl,
        }
    }
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
        MiniCommand::Train(args) => {
            start_over_to_train();
            run_training(args)
        }
        MiniCommand::Encoders(args) => {
            start_over_to_train();
            run_encoders(args)
        }
        MiniCommand::Export(args) => run_export(args),
        MiniCommand::Restore(args) => run_restore(args),
        MiniCommand::Verify(args) => {
            let files = export::verify(&args.weights)?;
            println!("{}: {files} file(s) as listed", args.weights.display());
            Ok(())
        }
        MiniCommand::Quality(args) => run_quality(args),
        MiniCommand::Paint(args) => run_paint(args),
    }
}

fn run_quality(args: &QualityArgs) -> anyhow::Result<()> {
    let only: Vec<Section> = args.only.iter().map(|&one| one.into()).collect();
    let options = QualityOptions {
        sections: match only.is_empty() {
            true => Section::ALL.to_vec(),
            false => only,
        },
        encoders: args.encoders.clone(),
        held_out: match args.validation {
            true => HeldOut::Validation,
            false => HeldOut::Test,
        },
        fast: args.fast,
        painting: args.painting.painting(),
    };
    let quality = quality::measure(&args.weights, &args.out, &options)?;
    for bar in &quality.bars {
        let verdict = match bar.verdict.is_met() {
            true => "pass",
            false => "FAIL",
        };
        let (model, what) = (bar.model, bar.what);
        println!(
            "{verdict}  {:.3}  {}  {model}: {what}",
            bar.score.mean, bar.bar
        );
    }
    println!("{}", args.out.join(quality::PAGE_FILE).display());
    Ok(())
}

fn run_paint(args: &PaintArgs) -> anyhow::Result<()> {
    let mut options = SheetOptions {
        each: args.each.into(),
        seed: args.seed,
        encoder: args.encoder.clone(),
        painting: args.painting.painting(),
        ..SheetOptions::default()
    };
    if args.prompts.as_os_str() != "default" {
        let text = std::fs::read_to_string(&args.prompts)
            .with_context(|| format!("cannot read the prompts in {}", args.prompts.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        options.prompts = lines.map(str::to_owned).collect();
    }
    sheet::write_sheet(&args.weights, &options, &args.out)?;
    println!("{}", args.out.display());
    Ok(())
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

fn run_restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let restored = restore(&Workshop::open(&args.out)?, &args.weights)?;
    let folder = args.out.display();
    println!("{folder}: restored {}", restored.whole.join(", "));
    if !restored.recorded.is_empty() {
        println!("made again when needed: {}", restored.recorded.join(", "));
    }
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
                for variant in Variant::SHIPPED {
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

fn run_encoders(args: &EncodersArgs) -> anyhow::Result<()> {
    let shop = Workshop::open(&args.out)?;
    negation::take_clip(&shop, &args.clip)?;
    let world = World::open(&shop)?;
    negation::captions(&shop, &world)?;
    // Seed by seed: whenever it is stopped, all encoders have about as many.
    for &seed in &args.seeds {
        for variant in Variant::ALL {
            let wanted = |one: &Encoder| Variant::from(*one) == variant;
            if args.only.is_empty() || args.only.iter().any(wanted) {
                negation::seeded_encoder(&shop, &world, variant, seed)?;
            }
        }
    }
    Ok(())
}
