//! `negkit train`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use negkit::clip::ClipVisionConfig;
use negkit::hub::{ClipSize, ModelKind, Want};
use negkit::text::tower::ClipTextConfig;
use negkit::{Compute, DeviceChoice, DtypeChoice, Models};
use negkit_finetune::{
    Cost, CostOptions, FineTuneSettings, Job, Method, Outcome, Precision, ScheduleKind, Split,
    fine_tune, measure_cost,
};
use negkit_train::{Decay, Keep, start_over_to_train};

use crate::args::{HubArgs, print_json};

/// Fine-tune encoders.
#[derive(Subcommand)]
pub enum TrainCommand {
    Negation(Box<NegationArgs>),
    Cost(Box<CostArgs>),
}

/// Fine-tune a CLIP's text encoder on captions that say what is absent, as the paper does it.
///
/// Vision tower and final layer norm stay as they are. What the vision tower makes of each picture is
/// computed once and kept. The command can be killed and started again at any moment: it goes on to
/// the same weights. Out come OUT/transformers, OUT/NAME.safetensors and OUT/NAME.pth.
#[derive(Args)]
pub struct NegationArgs {
    /// The CLIP: a known name, a hub id, a folder or a file, in the naming of transformers, OpenAI or
    /// open_clip.
    #[arg(long)]
    clip: String,
    /// The size to take where the name is of a family: ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14@336px.
    #[arg(long, default_value = "ViT-B/32", value_parser = parse_size)]
    size: ClipSize,
    /// COCO caption files, with `updated_caption` where nothing else is said.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    captions: Vec<PathBuf>,
    /// Folder of their pictures.
    #[arg(long, value_name = "FOLDER")]
    images: PathBuf,
    /// Folder for everything that is made.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Name of the files in OpenAI's naming, without extension.
    #[arg(long, default_value = "negationclip")]
    name: String,
    /// Folder for picture features, which other runs on the same pictures can use too. OUT/features
    /// when left out.
    #[arg(long, value_name = "FOLDER")]
    features: Option<PathBuf>,
    /// Hash every picture, even where its size and time have not changed since it was encoded.
    #[arg(long)]
    verify_features: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Write the settings to this file, and do nothing else.
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
    /// auto, cpu, cuda or cuda:N. Auto takes the first CUDA device, else the CPU.
    #[arg(long, default_value = "auto", help_heading = "Computing")]
    device: DeviceChoice,
    #[command(flatten)]
    hub: HubArgs,
}

/// Measure what a step of fine-tuning costs, with random weights: seconds, memory, and how many times
/// faster an epoch is for not running the vision tower again.
#[derive(Args)]
pub struct CostArgs {
    /// ViT-B/32, ViT-B/16, ViT-L/14 or ViT-L/14@336px.
    #[arg(long, default_value = "ViT-B/32", value_parser = parse_size)]
    size: ClipSize,
    /// Tokens of every text. CLIP's context, 77, is the worst case: batches end behind their longest text.
    #[arg(long, default_value_t = 77)]
    tokens: usize,
    /// Steps to measure, of which the fastest counts.
    #[arg(long, default_value_t = 1)]
    steps: u64,
    /// Pictures to run through the vision tower; 0 for none.
    #[arg(long, default_value_t = 16)]
    pictures: usize,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print what was measured as JSON.
    #[arg(long)]
    json: bool,
    /// auto, cpu, cuda or cuda:N. Auto takes the first CUDA device, else the CPU.
    #[arg(long, default_value = "auto", help_heading = "Computing")]
    device: DeviceChoice,
}

/// The recipe. What is neither given here nor in --config is the paper's.
#[derive(Args)]
#[command(next_help_heading = "Recipe")]
struct RecipeArgs {
    /// A file of settings (TOML); --write-config makes one. Flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is learned from [default: infonce].
    #[arg(long, value_enum)]
    method: Option<MethodArg>,
    /// Which field of an annotation is the caption: updated_caption or caption [default:
    /// updated_caption].
    #[arg(long)]
    caption_field: Option<String>,
    /// Share of the captions in whose place the annotation's ordinary caption stands [default: 0].
    #[arg(long)]
    ordinary_share: Option<f64>,
    /// Share of the captions that may be left out, for a picture is missing or broken [default: 0.01].
    #[arg(long)]
    largest_missing_share: Option<f64>,
    /// Decides the split and the batches [default: 42].
    #[arg(long)]
    seed: Option<u64>,
    /// Share that is validated by [default: 0.2].
    #[arg(long)]
    validation_share: Option<f64>,
    /// What is split into both [default: captions].
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
    /// Times that every caption is trained on [default: 15].
    #[arg(long)]
    epochs: Option<u64>,
    /// Ends the training after so many steps, whatever the epochs.
    #[arg(long)]
    max_steps: Option<u64>,
    /// Pairs that are compared with each other [default: 512].
    #[arg(long)]
    batch_size: Option<usize>,
    /// Pairs that are run at a time, by each thread; it decides how much memory is needed, and not what
    /// comes out: the loss is that over the whole batch. 0 for whole batches [default: 32].
    #[arg(long)]
    chunk: Option<usize>,
    /// Learning rate after the warm-up [default: 1e-6].
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Steps over which it rises linearly [default: 0].
    #[arg(long)]
    warmup: Option<u64>,
    /// Its course after that [default: constant].
    #[arg(long, value_enum)]
    schedule: Option<ScheduleArg>,
    /// Share of it that is left at the end of a course that falls [default: 0].
    #[arg(long)]
    schedule_floor: Option<f64>,
    /// AdamW's decoupled weight decay [default: 0.01].
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Which parameters are decayed [default: all].
    #[arg(long, value_enum)]
    decay: Option<DecayArg>,
    /// AdamW's decay rate of the first moment [default: 0.9].
    #[arg(long)]
    beta1: Option<f64>,
    /// AdamW's decay rate of the second moment [default: 0.999].
    #[arg(long)]
    beta2: Option<f64>,
    /// AdamW's epsilon [default: 1e-8].
    #[arg(long)]
    eps: Option<f64>,
    /// Largest norm of all gradients together [default: none].
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Decay rate of a moving average of the weights [default: none].
    #[arg(long)]
    ema: Option<f64>,
    /// Largest inverse temperature [default: none].
    #[arg(long)]
    largest_scale: Option<f64>,
    /// Steps between validations [default: an epoch].
    #[arg(long)]
    validate_every: Option<u64>,
    /// Ends the training after so many validations in a row that were not the best [default: none].
    #[arg(long)]
    patience: Option<u64>,
    /// Steps between checkpoints [default: 100].
    #[arg(long)]
    checkpoint_every: Option<u64>,
    /// Which weights are written [default: best].
    #[arg(long, value_enum)]
    keep: Option<KeepArg>,
    /// How products are computed [default: f32].
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// Ordinary texts a step whose vectors are held where the published encoder has them, which the paper
    /// does not do; 0 for none [default: 0].
    #[arg(long)]
    anchors: Option<usize>,
    /// Weight of their drift in the loss [default: 30].
    #[arg(long)]
    anchor_weight: Option<f64>,
    /// A file of those texts, one a line [default: the ordinary captions].
    #[arg(long, value_name = "FILE")]
    anchor_texts: Option<PathBuf>,
    /// Method bnl: by how much a text's own picture shall be nearer than any other [default: 0.2].
    #[arg(long)]
    bnl_margin: Option<f64>,
    /// Method bnl, a denied caption against the picture: weight, least and largest distance [default:
    /// 0.001 0.1 0.6].
    #[arg(long, num_args = 3, value_names = ["WEIGHT", "LOWER", "UPPER"])]
    bnl_to_picture: Option<Vec<f64>>,
    /// Method bnl, a denied caption against the caption: weight, least and largest distance [default:
    /// 0.001 0.1 0.3].
    #[arg(long, num_args = 3, value_names = ["WEIGHT", "LOWER", "UPPER"])]
    bnl_to_caption: Option<Vec<f64>>,
}

/// An argument's words for the values of a setting.
macro_rules! choices {
    ($argument:ident for $setting:ident { $($(#[$doc:meta])* $value:ident),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        enum $argument { $($(#[$doc])* $value),+ }

        impl From<$argument> for $setting {
            fn from(argument: $argument) -> Self {
                match argument { $($argument::$value => Self::$value),+ }
            }
        }
    };
}

choices!(MethodArg for Method {
    /// Pictures and captions, symmetric InfoNCE: the paper's.
    Infonce,
    /// CLIP-bnl's: captions with their denials (`negated_caption`) as soft negatives.
    Bnl,
    /// CoN-CLIP's: captions with their denials and, where there are any, pictures that these are true
    /// of (`distractor`).
    Conclip,
});
choices!(SplitArg for Split {
    /// Captions, as the paper's code does it.
    Captions,
    /// Pictures with all their captions.
    Pictures,
});
choices!(ScheduleArg for ScheduleKind {
    /// It stays.
    Constant,
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
});
choices!(DecayArg for Decay {
    /// Those of two and more dimensions.
    Matrices,
    /// All of them.
    All,
});
choices!(KeepArg for Keep {
    /// Those of the last step.
    Last,
    /// Those of the lowest validation loss.
    Best,
});
choices!(PrecisionArg for Precision {
    /// In f32.
    F32,
    /// Factors rounded to bf16, sums in f32, where the processor has instructions for it.
    Bf16,
});

fn parse_size(text: &str) -> Result<ClipSize, String> {
    ClipSize::parse(text).ok_or_else(|| {
        let sizes: Vec<String> = ClipSize::ALL.iter().map(ToString::to_string).collect();
        format!("expected one of {}", sizes.join(", "))
    })
}

/// Overwrites a setting where its flag was given.
fn take<A: Into<S>, S>(setting: &mut S, argument: Option<A>) {
    if let Some(argument) = argument {
        *setting = argument.into();
    }
}

impl RecipeArgs {
    fn settings(&self) -> anyhow::Result<FineTuneSettings> {
        let mut s = match &self.config {
            Some(path) => FineTuneSettings::read(path)?,
            None => FineTuneSettings::default(),
        };
        take(&mut s.method, self.method);
        take(&mut s.caption_field, self.caption_field.clone());
        take(&mut s.ordinary_share, self.ordinary_share);
        take(&mut s.largest_missing_share, self.largest_missing_share);
        take(&mut s.seed, self.seed);
        take(&mut s.validation_share, self.validation_share);
        take(&mut s.split, self.split);
        take(&mut s.epochs, self.epochs);
        take(&mut s.batch_size, self.batch_size);
        take(&mut s.chunk, self.chunk);
        take(&mut s.learning_rate, self.learning_rate);
        take(&mut s.warmup, self.warmup);
        take(&mut s.schedule, self.schedule);
        take(&mut s.schedule_floor, self.schedule_floor);
        take(&mut s.weight_decay, self.weight_decay);
        take(&mut s.decay, self.decay);
        take(&mut s.beta1, self.beta1);
        take(&mut s.beta2, self.beta2);
        take(&mut s.eps, self.eps);
        take(&mut s.validate_every, self.validate_every);
        take(&mut s.checkpoint_every, self.checkpoint_every);
        take(&mut s.keep, self.keep);
        take(&mut s.precision, self.precision);
        take(&mut s.anchors, self.anchors);
        take(&mut s.anchor_weight, self.anchor_weight);
        take(&mut s.bidirectional.margin, self.bnl_margin);
        let anchor_texts = self.anchor_texts.clone();
        s.anchor_texts = anchor_texts.or(s.anchor_texts);
        s.max_steps = self.max_steps.or(s.max_steps);
        s.clip_norm = self.clip_norm.or(s.clip_norm);
        s.ema = self.ema.or(s.ema);
        s.largest_scale = self.largest_scale.or(s.largest_scale);
        s.patience = self.patience.or(s.patience);
        let constraints = [
            (&mut s.bidirectional.to_picture, &self.bnl_to_picture),
            (&mut s.bidirectional.to_caption, &self.bnl_to_caption),
        ];
        for (constraint, given) in constraints {
            if let Some([weight, lower, upper]) = given.as_deref() {
                (constraint.weight, constraint.lower, constraint.upper) = (*weight, *lower, *upper);
            }
        }
        Ok(s)
    }
}

/// Runs the command.
pub fn run(command: &TrainCommand) -> anyhow::Result<()> {
    // The costs, too: they are those of a training.
    start_over_to_train();
    match command {
        TrainCommand::Negation(args) => run_negation(args),
        TrainCommand::Cost(args) => run_cost(args),
    }
}

fn run_negation(args: &NegationArgs) -> anyhow::Result<()> {
    let settings = args.recipe.settings()?;
    if let Some(path) = &args.write_config {
        let text = settings.to_toml()?;
        return std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()));
    }
    let compute = Compute::open(args.device, DtypeChoice::F32)?;
    let models = Models::new(args.hub.hub()?, compute.clone());
    let want = Want::new(ModelKind::Clip).size(args.size);
    let features = args.features.clone();
    let job = Job {
        clip: models.resolve(&args.clip, &want)?.path,
        captions: args.captions.clone(),
        images: args.images.clone(),
        out: args.out.clone(),
        features: features.unwrap_or_else(|| args.out.join("features")),
        verify_features: args.verify_features,
        name: args.name.clone(),
        device: compute.device,
        settings,
    };
    let outcome = fine_tune(&job)?;
    match args.json {
        true => print_json(&outcome),
        false => report(&outcome, &job.out),
    }
}

fn report(outcome: &Outcome, folder: &Path) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let Outcome {
        train,
        held_out,
        left_out,
        pictures,
        steps,
        batches,
        seconds,
        ..
    } = outcome;
    writeln!(
        out,
        "{train} captions trained on, {held_out} validated by, {left_out} left out; {pictures} \
         pictures"
    )?;
    writeln!(
        out,
        "{steps} steps ({:.2} epochs of {batches}) in {seconds:.0} s",
        *steps as f64 / *batches as f64
    )?;
    if let (Some(loss), Some(step)) = (outcome.best_loss, outcome.best_step) {
        writeln!(out, "best validation loss {loss:.4}, after step {step}")?;
    }
    let (encoded, taken) = outcome.pictures_encoded;
    if let Some(times) = outcome.speedup() {
        writeln!(
            out,
            "{encoded} pictures encoded in {taken:.0} s; an epoch is {times:.1} times faster for not \
             encoding them again"
        )?;
    }
    for path in [
        &outcome.transformers,
        &outcome.openai_safetensors,
        &outcome.openai_archive,
    ] {
        writeln!(out, "{}", path.display())?;
    }
    writeln!(out, "{}", folder.join("training/curves.png").display())?;
    Ok(())
}

/// Sizes of OpenAI's models, as their `config.json` have them.
fn sizes(size: ClipSize) -> (ClipTextConfig, ClipVisionConfig) {
    let (text, vision) = (ClipTextConfig::default(), ClipVisionConfig::default());
    let large_text = ClipTextConfig {
        hidden_size: 768,
        intermediate_size: 3072,
        num_attention_heads: 12,
        projection_dim: 768,
        ..text.clone()
    };
    let large = |image_size| ClipVisionConfig {
        hidden_size: 1024,
        intermediate_size: 4096,
        num_hidden_layers: 24,
        num_attention_heads: 16,
        patch_size: 14,
        projection_dim: 768,
        image_size,
        ..vision.clone()
    };
    match size {
        ClipSize::VitB32 => (text, vision),
        ClipSize::VitB16 => (
            text,
            ClipVisionConfig {
                patch_size: 16,
                ..vision
            },
        ),
        ClipSize::VitL14 => (large_text, large(224)),
        ClipSize::VitL14At336 => (large_text, large(336)),
    }
}

fn run_cost(args: &CostArgs) -> anyhow::Result<()> {
    let compute = Compute::open(args.device, DtypeChoice::F32)?;
    let (text, vision) = sizes(args.size);
    let cost = measure_cost(&CostOptions {
        text,
        vision,
        settings: args.recipe.settings()?,
        tokens: args.tokens,
        steps: args.steps,
        pictures: args.pictures,
        device: compute.device,
    })?;
    if args.json {
        return print_json(&cost);
    }
    let mut out = io::stdout().lock();
    let Cost {
        batch_size,
        chunk,
        tokens,
        trained,
        step_seconds,
        ..
    } = &cost;
    writeln!(
        out,
        "{}, {:.1} M parameters trained: a step of {batch_size} texts of {tokens} tokens, {chunk} at a \
         time, takes {step_seconds:.1} s",
        args.size,
        *trained as f64 / 1e6
    )?;
    if let (Some(seconds), Some(times)) = (cost.picture_seconds, cost.speedup()) {
        writeln!(
            out,
            "the vision tower would take {seconds:.1} s for its pictures: an epoch is {times:.2} times \
             faster with their features at hand (without reading pictures)"
        )?;
    }
    if let Some(bytes) = cost.peak_bytes {
        writeln!(out, "peak memory {:.2} GB", bytes as f64 / 1e9)?;
    }
    Ok(())
}
