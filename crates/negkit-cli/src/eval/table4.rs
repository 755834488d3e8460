//! `negkit eval table4`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use negkit::diffusion::scheduler::SchedulerKind;
use negkit::diffusion::{OpenPipeline, PipelineOptions, SamplingSettings};
use negkit::mini;
use negkit::txt2img::{NamedEncoder, own_side};
use negkit::{ClipSize, Models, is_own_encoder};
use negkit_eval::RunFolder;
use negkit_eval::table4::{
    MINI, Noise, Prompt, Table4, Table4Models, Table4Options, finals, mini_prompts, paper_prompts,
    some,
};

use super::{Scale, report, report_left, report_outlook};
use crate::args::{ComputeArgs, HubArgs, IntervalArgs, PartArgs, SavingsArgs, models};
use crate::progress;

/// Pictures of every prompt with a negation, where nothing is said.
const PICTURES: usize = 5;
/// Stable Diffusion at the paper's scale, where none is named.
const PAPER_MODEL: &str = "sd-1.4";
/// The answerer at the paper's scale; which one the paper has is not known.
const PAPER_ANSWERER: &str = "blip-vqa-base";
/// The sentence encoder at the paper's scale: TIFA's.
const PAPER_SENTENCES: &str = "all-mpnet-base-v2";

/// Pictures with each text encoder, scored by Neg Score and TIFA.
///
/// Every encoder gets the same prompts and the same starting noise. The run is a folder: killed at any
/// moment, the same command goes on where it was. When all is done it writes summary.json, summary.csv
/// and table.md, which lays the paper's numbers beside. All pictures stay in the folder; no safety
/// checker blacks any out.
#[derive(Args)]
pub struct Table4Args {
    /// The folder of the run.
    #[arg(long, short, default_value = "out/table4", value_name = "FOLDER")]
    out: PathBuf,
    /// mini: the small world's prompts and the small models. paper: the published prompts in --data
    /// and the published models.
    #[arg(long, default_value = "mini")]
    scale: Scale,
    /// At the paper's scale, the folder with TIFA v1.0 and prompts_with_questions.json.
    /// `negkit data check` says what of it is there.
    #[arg(long, value_name = "FOLDER", required_if_eq("scale", "paper"))]
    data: Option<PathBuf>,
    /// Stable Diffusion 1.x: a diffusers folder, a single file, a hub id or a known name. If not
    /// given, the small model, or at the paper's scale sd-1.4.
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// A text encoder; repeat it. The others are compared with `stock`, the model's own, or without it
    /// with the first.
    #[arg(
        long = "text-encoder",
        short = 'e',
        default_values = ["stock", "conclip", "negationclip"],
        value_name = "ENCODER"
    )]
    text_encoders: Vec<String>,
    /// What answers the questions: `mini`, a known name, a hub id or a folder. If not given, mini, or
    /// at the paper's scale blip-vqa-base.
    #[arg(long, value_name = "ANSWERER")]
    answerer: Option<String>,
    /// What turns a free answer into one of TIFA's choices: a known name, a hub id or a folder. If not
    /// given, all-mpnet-base-v2 at the paper's scale; at scale mini none, for mini-vqa answers in the
    /// words of the choices.
    #[arg(long, value_name = "MODEL")]
    sentence_encoder: Option<String>,
    /// Pictures of every prompt with a negation. If not given 5, or as many as --seeds.
    #[arg(long, short = 'n')]
    images_per_prompt: Option<usize>,
    /// Pictures of every prompt of TIFA.
    #[arg(long, default_value_t = 1)]
    tifa_images_per_prompt: usize,
    /// Seed of the first noise; every prompt has a thousand of its own.
    #[arg(long, default_value_t = 0, value_parser = seed())]
    seed: u64,
    /// Seeds, separated by commas, that every prompt is painted from: one picture each. Prompts then
    /// share their noise, as in other tools, where otherwise each has its own.
    #[arg(long, value_delimiter = ',', value_parser = seed(), conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// Inference steps; 50 if not given, 20 for the small model.
    #[arg(long)]
    steps: Option<usize>,
    /// Weight of the prompt; 1 or less turns guidance off. If not given 7.5, or what is best for the
    /// small model.
    #[arg(long)]
    guidance_scale: Option<f64>,
    /// pndm, ddim, euler, euler-a, dpm++2m, dpm++2m-karras or unipc; the model's own if not given.
    #[arg(long)]
    scheduler: Option<SchedulerKind>,
    /// Pictures of a prompt that are painted at a time.
    #[arg(long, default_value_t = 5)]
    batch_size: usize,
    /// At most so many prompts of each score, from everywhere in the list.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    intervals: IntervalArgs,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    savings: SavingsArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command.
pub fn run(args: &Table4Args) -> anyhow::Result<()> {
    let prompts = prompts(args)?;
    let models = models(&args.compute, &args.hub)?;
    let (models, sampling) = open(args, &models)?;
    let (noise, images) = match args.seeds.as_slice() {
        [] => (Noise::Seed(args.seed), PICTURES),
        seeds => (Noise::Seeds(seeds.to_vec()), seeds.len()),
    };
    let scale = match args.scale {
        Scale::Mini => MINI,
        Scale::Paper => "paper",
    };
    let options = Table4Options {
        scale: scale.to_owned(),
        images_per_prompt: args.images_per_prompt.unwrap_or(images),
        tifa_images_per_prompt: args.tifa_images_per_prompt,
        noise,
        sampling,
        bootstrap: args.intervals.bootstrap(),
    };
    let mut table = Table4::new(models, prompts, options)?;
    if args.part.dry_run {
        return dry_run(args, &mut table);
    }
    let run = RunFolder::open(&args.out, table.plan().clone())?;
    let worked = table.run(&run, args.part.shard)?;
    if worked.left > 0 {
        return report_left(worked);
    }
    report(&run, &finals(&run)?.table)
}

/// TOML has no larger numbers.
fn seed() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

fn prompts(args: &Table4Args) -> anyhow::Result<Vec<Prompt>> {
    let all = match (args.scale, &args.data) {
        (Scale::Mini, None) => mini_prompts(),
        (Scale::Mini, Some(_)) => {
            bail!("--scale mini has prompts of its own: leave out --data, or take --scale paper")
        }
        (Scale::Paper, Some(data)) => paper_prompts(data)?,
        (Scale::Paper, None) => bail!("--scale paper needs --data FOLDER"),
    };
    Ok(match args.limit {
        Some(limit) => some(all, limit),
        None => all,
    })
}

fn open(args: &Table4Args, models: &Models) -> anyhow::Result<(Table4Models, SamplingSettings)> {
    let named = args.model.as_deref().or(args.scale.paper(PAPER_MODEL));
    let chosen = models.choose(named, mini::STABLE_DIFFUSION)?;
    let spinner = progress::spinner(format!("loading {}", chosen.name()));
    let painting = PipelineOptions::new(models.compute().clone());
    let painter = models.stable_diffusion(chosen.spec(), &OpenPipeline::default(), &painting)?;
    let mut encoders: Vec<NamedEncoder> = Vec::new();
    for spec in &args.text_encoders {
        spinner.set_message(format!("loading {spec}"));
        let encoder = match is_own_encoder(spec) {
            true => None,
            false => Some(models.text_encoder(&chosen.encoder(spec)?, ClipSize::VitL14)?),
        };
        encoders.push((spec.clone(), encoder));
    }
    let answerer = args.answerer.as_deref();
    let answerer = answerer.or(args.scale.paper(PAPER_ANSWERER));
    let answerer = answerer.unwrap_or("mini");
    spinner.set_message(format!("loading {answerer}"));
    let answerer = models.answerer(answerer)?;
    let sentences = args.sentence_encoder.as_deref();
    let sentences = sentences.or(args.scale.paper(PAPER_SENTENCES));
    let sentences = sentences
        .map(|spec| Ok::<_, negkit::Error>((spec.to_owned(), models.sentence_encoder(spec)?)))
        .transpose()?;
    spinner.finish_and_clear();
    let usual = SamplingSettings::default();
    let (steps, guidance_scale) = match chosen.mini() {
        Some(_) => (mini::STEPS, mini::GUIDANCE_SCALE),
        None => (usual.steps, usual.guidance_scale),
    };
    let side = own_side(&painter);
    let sampling = SamplingSettings {
        steps: args.steps.unwrap_or(steps),
        guidance_scale: args.guidance_scale.unwrap_or(guidance_scale),
        width: side,
        height: side,
        scheduler: args.scheduler,
        batch_size: args.batch_size,
        savings: args.savings.savings(),
        ..usual
    };
    let models = Table4Models {
        name: chosen.name().to_owned(),
        painter,
        encoders,
        answerer,
        sentences,
        compute: models.compute().clone(),
    };
    Ok((models, sampling))
}

fn dry_run(args: &Table4Args, table: &mut Table4) -> anyhow::Result<()> {
    let outlook = RunFolder::outlook(&args.out, table.plan(), args.part.shard)?;
    let calls = table.calls(|position| args.part.shard.holds(position));
    writeln!(
        io::stdout(),
        "{} pictures of {} steps, {} questions",
        calls.pictures,
        calls.steps / calls.pictures.max(1),
        calls.questions,
    )?;
    let item = "a prompt with an encoder";
    report_outlook(args.part.shard, item, &outlook, || Ok(table.measure()?))
}
