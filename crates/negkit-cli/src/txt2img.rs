//! `negkit txt2img`.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use negkit::diffusion::scheduler::SchedulerKind;
use negkit::diffusion::vae::VaeTiling;
use negkit::diffusion::{OpenPipeline, PipelineOptions, Residency, SamplingSettings, to_rgb};
use negkit::image::write_png;
use negkit::txt2img::{self, NamedEncoder, RunProgress, SaveOptions};
use negkit::{AttentionBudget, CachedTextEncoder, ClipSize, TextEncoder, is_own_encoder, mini};

use crate::args::{ComputeArgs, HubArgs, SavingsArgs, models, print_json};
use crate::progress;

/// Make pictures of prompts, with one text encoder or with several side by side.
///
/// Every encoder gets the same starting noise: that of torch.Generator("cpu") with the same seed.
/// Pictures are PNG files with their parameters inside; with more than one there is a sheet.png of
/// all of them side by side.
#[derive(Args)]
pub struct Txt2ImgArgs {
    /// The prompts.
    #[arg(required_unless_present = "prompts_file", value_name = "PROMPT")]
    prompts: Vec<String>,
    /// Read prompts from a file, one a line, after those on the command line.
    #[arg(long, value_name = "FILE")]
    prompts_file: Option<PathBuf>,
    /// Stable Diffusion 1.x: a diffusers folder, a single file, a hub id or a known name. If not
    /// given, the small model in weights/mini.
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// A text encoder; repeat it to compare. `stock` is the model's own. Beside the small model,
    /// `negationclip` and `conclip` are those in weights/mini.
    #[arg(
        long = "text-encoder",
        short = 'e',
        default_value = "stock",
        value_name = "ENCODER"
    )]
    text_encoders: Vec<String>,
    /// What the pictures shall keep away from.
    #[arg(long, default_value = "", value_name = "PROMPT")]
    negative_prompt: String,
    /// Inference steps; 50 if not given, 20 for the small model.
    #[arg(long)]
    steps: Option<usize>,
    /// Weight of the prompt against the negative prompt; 1 or less turns guidance off. 7.5 if not
    /// given, 2.2 for the small model.
    #[arg(long)]
    guidance_scale: Option<f64>,
    /// Width in pixels, a multiple of 8; what the model was trained for if not given.
    #[arg(long)]
    width: Option<usize>,
    /// Height in pixels, a multiple of 8; what the model was trained for if not given.
    #[arg(long)]
    height: Option<usize>,
    /// Seed of the first picture of every prompt; the next has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures of every prompt.
    #[arg(long, short = 'n', default_value_t = 1)]
    images_per_prompt: usize,
    /// Pictures made at a time: more memory, not other pictures.
    #[arg(long, default_value_t = 1)]
    batch_size: usize,
    /// pndm, ddim, euler, euler-a, dpm++2m, dpm++2m-karras or unipc; the model's own if not given.
    #[arg(long)]
    scheduler: Option<SchedulerKind>,
    /// DDIM's eta, from 0 (deterministic) to 1.
    #[arg(long, default_value_t = 0.)]
    eta: f64,
    /// Start from the latents in this .npy file, [pictures, channels, height/8, width/8].
    #[arg(long, value_name = "FILE")]
    latents: Option<PathBuf>,
    /// Write the final latents to this .npy file; only with one text encoder.
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    /// The folder to write to.
    #[arg(long, short, default_value = "out/txt2img", value_name = "FOLDER")]
    out: PathBuf,
    /// Write a JSON file with all parameters and hashes beside every picture.
    #[arg(long)]
    save_json: bool,
    /// Decode and write a preview of every picture after every so many steps; 0 writes none.
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    preview_every: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Take the model's files of this variant, such as fp16.
    #[arg(long)]
    variant: Option<String>,
    /// For a single file: a folder with the configurations of a diffusers pipeline.
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// Decode large pictures in tiles: less memory, slightly other pictures.
    #[arg(long)]
    vae_tiling: bool,
    /// Memory that attention scores may take at a time, in MiB: less is slower, the pictures are
    /// the same.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    attention_memory: usize,
    /// Keep the encodings of prompts in this folder, and take them from there in later runs.
    #[arg(long, value_name = "FOLDER")]
    text_cache: Option<PathBuf>,
    #[command(flatten)]
    savings: SavingsArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the command.
pub fn run(args: &Txt2ImgArgs) -> anyhow::Result<()> {
    let prompts = prompts(args)?;
    if args.save_latents.is_some() && args.text_encoders.len() > 1 {
        bail!(
            "--save-latents writes the latents of one text encoder, {} are given",
            args.text_encoders.len()
        );
    }
    let latents = args
        .latents
        .as_deref()
        .map(txt2img::read_latents)
        .transpose()?;
    let models = models(&args.compute, &args.hub)?;
    let open = OpenPipeline {
        variant: args.variant.clone(),
        config: args.config.clone(),
    };
    let options = PipelineOptions {
        attention: AttentionBudget {
            bytes: args.attention_memory.saturating_mul(1 << 20),
        },
        vae_tiling: if args.vae_tiling {
            VaeTiling::On
        } else {
            VaeTiling::Off
        },
        residency: Residency::OneAtATime,
        ..PipelineOptions::new(models.compute().clone())
    };
    let chosen = models.choose(args.model.as_deref(), mini::STABLE_DIFFUSION)?;
    let spinner = progress::spinner(format!("loading {}", chosen.name()));
    let mut model = models.stable_diffusion(chosen.spec(), &open, &options)?;
    let mut encoders: Vec<NamedEncoder> = Vec::new();
    for spec in &args.text_encoders {
        spinner.set_message(format!("loading {spec}"));
        let encoder = match is_own_encoder(spec) {
            true => None,
            false => {
                let spec = chosen.encoder(spec)?;
                let size = ClipSize::VitL14;
                Some(models.text_encoder_with(&spec, size, options.residency)?)
            }
        };
        let encoder = match &args.text_cache {
            Some(folder) => {
                let encoder = encoder.unwrap_or_else(|| model.text().clone());
                let cached = CachedTextEncoder::new(encoder, folder, models.compute())?;
                Some(Arc::new(cached) as Arc<dyn TextEncoder>)
            }
            None => encoder,
        };
        encoders.push((spec.clone(), encoder));
    }
    spinner.finish_and_clear();

    let requests = txt2img::requests(
        &prompts,
        &args.negative_prompt,
        args.seed,
        args.images_per_prompt,
    );
    let usual = SamplingSettings::default();
    let (steps, guidance_scale) = match chosen.mini() {
        Some(_) => (mini::STEPS, mini::GUIDANCE_SCALE),
        None => (usual.steps, usual.guidance_scale),
    };
    let side = txt2img::own_side(&model);
    let settings = SamplingSettings {
        steps: args.steps.unwrap_or(steps),
        guidance_scale: args.guidance_scale.unwrap_or(guidance_scale),
        width: args.width.unwrap_or(side),
        height: args.height.unwrap_or(side),
        scheduler: args.scheduler,
        eta: args.eta,
        batch_size: args.batch_size,
        savings: args.savings.savings(),
    };
    let mut preview_error = None;
    let bar = progress::bar(0, "steps");
    let batches = requests.len().div_ceil(args.batch_size.max(1)) * encoders.len();
    let runs = txt2img::run(
        &mut model,
        &encoders,
        &requests,
        &settings,
        latents.as_ref(),
        |at| {
            bar.set_length((at.step.steps * batches) as u64);
            bar.set_message(encoders[at.encoder].0.clone());
            bar.inc(1);
            if Some(bar.position()) == bar.length() {
                bar.set_message("decoding");
            }
            if args.preview_every > 0
                && at.step.step.is_multiple_of(args.preview_every)
                && let Err(error) = write_previews(at, &args.out)
            {
                preview_error = Some(error);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    );
    if let Some(error) = preview_error {
        return Err(error.context("cannot write a preview"));
    }
    let runs = runs?;
    bar.finish_and_clear();

    let save = SaveOptions {
        folder: args.out.clone(),
        model: chosen.name().to_owned(),
        json: args.save_json,
    };
    let saved = txt2img::save(&model, &runs, &settings, &save)?;
    if let (Some(path), Some(run)) = (&args.save_latents, runs.first()) {
        txt2img::write_latents(run, path)?;
    }
    if args.json {
        return print_json(&saved);
    }
    let mut out = io::stdout().lock();
    for record in &saved.pictures {
        writeln!(
            out,
            "{}  {} (seed {})",
            record.file.display(),
            record.prompt,
            record.seed
        )?;
        if let Some(removed) = &record.truncated {
            eprintln!("warning: the prompt is too long, this was cut off: {removed}");
        }
    }
    if let Some(sheet) = &saved.sheet {
        writeln!(out, "{}  side by side", sheet.display())?;
    }
    Ok(())
}

/// Writes every picture of the batch as it would be if this step were the last.
fn write_previews(at: &RunProgress<'_>, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let step = at.step;
    for i in 0..step.pictures {
        let picture = at.model.decode(&step.latents.narrow(0, i, 1)?)?;
        let name = format!(
            "preview-{:03}-encoder{}-step{:03}.png",
            step.first_picture + i,
            at.encoder,
            step.step
        );
        write_png(folder.join(name), &to_rgb(&picture.squeeze(0)?)?, &[])?;
    }
    Ok(())
}

fn prompts(args: &Txt2ImgArgs) -> anyhow::Result<Vec<String>> {
    let mut prompts = args.prompts.clone();
    if let Some(path) = &args.prompts_file {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the prompts in {}", path.display()))?;
        prompts.extend(
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .map(str::to_owned),
        );
        if prompts.is_empty() {
            bail!("{} holds no prompt: expected one a line", path.display());
        }
    }
    Ok(prompts)
}
