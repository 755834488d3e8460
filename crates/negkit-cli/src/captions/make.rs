//! `negkit captions p1`, `p2` and `rand-p1`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use negkit_caption_run::{CaptionRun, Cost, Job, Many, Settings, Shard, Summary, Task, Vqa};
use negkit_caption_writers::{Kind, Lexicon};
use negkit_captions::{QualityGate, RandomObjects};

#[cfg(feature = "onnx")]
use super::detector::DetectorSettings;
use super::staff::{ChatArgs, Named, Opening};

/// What all pipelines have in common.
#[derive(Args)]
pub struct MakeArgs {
    /// COCO's captions_*.json.
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// The folder of the run: records while it runs, captions.json in the end. A run that was killed
    /// goes on where it was.
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    /// Who writes: `chat:MODEL@URL` (an OpenAI-compatible endpoint; its key is taken from
    /// NEGKIT_CHAT_API_KEY), `rules` (patterns and counts, no model), or `world` (for data of `negkit
    /// world generate`).
    #[arg(long, value_name = "SPEC")]
    writer: String,
    /// Captions at a time; requests at a time too.
    #[arg(long, default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// Work on every N-th caption only, from the I-th on: `1/4` to `4/4` on four machines.
    #[arg(long, default_value = "1/1", value_name = "I/N")]
    shard: Shard,
    /// Only so many captions, from the first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Decides draws of objects, and what rules write.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Try dead letters again: captions whose service failed, or whose picture was missing.
    #[arg(long)]
    retry_failed: bool,
    /// End the run when more captions in a row than this become dead letters.
    #[arg(long, default_value_t = 20, value_name = "N")]
    most_failures: usize,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Price of a million tokens that are sent.
    #[arg(long, value_name = "PRICE", requires = "price_out")]
    price_in: Option<f64>,
    /// Price of a million tokens that are had.
    #[arg(long, value_name = "PRICE", requires = "price_in")]
    price_out: Option<f64>,
    #[command(flatten)]
    chat: ChatArgs,
}

/// Who looks whether objects are there.
#[derive(Args)]
pub struct LookArgs {
    /// The folder of the pictures.
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// Who looks: `chat:MODEL@URL` (a model that sees), `onnx:FILE` (a detector of FastestDet's form,
    /// which knows 80 classes; needs the feature onnx), or `world` (the exact truth, for data of
    /// `negkit world generate`).
    #[arg(long, value_name = "SPEC")]
    verifier: String,
    /// The scenes.json of a drawn dataset. If not given, the one beside the captions' folder.
    #[arg(long, value_name = "FILE")]
    scenes: Option<PathBuf>,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    detector: DetectorSettings,
}

/// P1: a likely object that is not there, worked into each caption.
///
/// The writer names an object that the caption does not mention; the verifier looks for it, and the
/// caption is dropped unless it says no; the writer works the absence in, and a gate checks what it
/// wrote.
#[derive(Args)]
pub struct P1Args {
    #[command(flatten)]
    make: MakeArgs,
    #[command(flatten)]
    look: LookArgs,
}

/// Rand-P1: as P1, with objects drawn at random from a list.
#[derive(Args)]
pub struct RandP1Args {
    #[command(flatten)]
    make: MakeArgs,
    #[command(flatten)]
    look: LookArgs,
    /// The objects, a line each, in the singular. If not given, the things of the drawn world with
    /// `--writer world`, and some 150 common ones otherwise.
    #[arg(long, value_name = "FILE")]
    objects: Option<PathBuf>,
}

/// P2: questions whose answer is "no", worked into captions of the same pictures.
#[derive(Args)]
pub struct P2Args {
    #[command(flatten)]
    make: MakeArgs,
    /// VQAv2's v2_OpenEnded_mscoco_*_questions.json.
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// VQAv2's v2_mscoco_*_annotations.json.
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
}

/// Runs P1.
pub fn p1(args: &P1Args) -> anyhow::Result<()> {
    make(&args.make, Some(&args.look), Task::P1)
}

/// Runs P2.
pub fn p2(args: &P2Args) -> anyhow::Result<()> {
    let vqa = Vqa {
        questions: args.questions.clone(),
        annotations: args.annotations.clone(),
    };
    make(&args.make, None, Task::P2(vqa))
}

/// Runs Rand-P1.
pub fn rand_p1(args: &RandP1Args) -> anyhow::Result<()> {
    let vocabulary: Vec<String> = match &args.objects {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let lines = text.lines().map(|line| line.trim().to_owned());
            lines.filter(|line| !line.is_empty()).collect()
        }
        None if args.make.writer == "world" => negkit_world::Kind::ALL
            .iter()
            .map(ToString::to_string)
            .collect(),
        None => {
            let lexicon = Lexicon::built_in()?;
            let things = lexicon
                .entries()
                .iter()
                .filter(|entry| entry.kind != Kind::Place);
            things.map(|entry| entry.singular.clone()).collect()
        }
    };
    if vocabulary.is_empty() {
        bail!("the list of objects is empty: expected an object a line");
    }
    let objects = RandomObjects {
        vocabulary,
        seed: args.make.seed,
    };
    make(&args.make, Some(&args.look), Task::RandP1(objects))
}

fn make(args: &MakeArgs, look: Option<&LookArgs>, task: Task) -> anyhow::Result<()> {
    let images = look.and_then(|look| look.images.as_deref());
    let spinner = crate::progress::spinner(format!("reading {}", args.captions.display()));
    let job = Job::read(task, &args.captions, images, args.limit)?;
    let opening = Opening {
        task: &job.task,
        captions: &args.captions,
        images,
        writer: &args.writer,
        verifier: look.map(|look| look.verifier.as_str()),
        scenes: look.and_then(|look| look.scenes.as_deref()),
        chat: &args.chat,
        #[cfg(feature = "onnx")]
        detector: look.map(|look| &look.detector),
        seed: args.seed,
        concurrency: args.concurrency as usize,
    };
    let staff = opening.open()?;
    let gate = QualityGate::default();
    let (writer, verifier) = (
        staff.writer_settings.clone(),
        staff.verifier_settings.clone(),
    );
    let settings = Settings::new(&job, args.seed, writer, verifier, &gate)?;
    spinner.finish_and_clear();
    if args.dry_run {
        return dry_run(args, &job, &settings, staff.spent().is_some());
    }
    let run = CaptionRun::open(&args.out, &job, &settings, gate)?;
    let many = Many {
        shard: args.shard,
        workers: args.concurrency as usize,
        retry_failed: args.retry_failed,
        most_failures_in_row: args.most_failures,
    };
    let price = args.price_in.zip(args.price_out);
    let worked = run.work(&many, &staff, || spent(&staff, price));
    let note = spent(&staff, price);
    if !note.is_empty() {
        eprintln!("this start: {note}");
    }
    let worked = worked
        .context("the run has ended early; with --retry-failed it tries dead letters again")?;
    if worked.left > 0 {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{} captions settled now, {} dead letters; {} are left to other shards. When all are done, \
             `negkit captions merge` puts them together",
            worked.done, worked.failed, worked.left
        )?;
        return Ok(());
    }
    report(&args.out, &run.finish()?, price)
}

/// What chat models have cost since the start, in words.
fn spent(staff: &Named, price: Option<(f64, f64)>) -> String {
    let Some(spent) = staff.spent() else {
        return String::new();
    };
    let cost = Cost {
        requests: spent.requests,
        prompt_tokens: spent.prompt_tokens,
        completion_tokens: spent.completion_tokens,
    };
    format!(
        "{}, {} answers from the cache",
        costs(&cost, price),
        spent.cached
    )
}

fn costs(cost: &Cost, price: Option<(f64, f64)>) -> String {
    let mut text = format!(
        "{} requests, {} tokens sent, {} had",
        cost.requests, cost.prompt_tokens, cost.completion_tokens
    );
    if let Some((sent, had)) = price {
        text.push_str(&format!(", price {:.2}", cost.price(sent, had)));
    }
    text
}

fn dry_run(args: &MakeArgs, job: &Job, settings: &Settings, chat: bool) -> anyhow::Result<()> {
    let outlook = CaptionRun::outlook(&args.out, job, settings, args.shard)?;
    let open = outlook.items - outlook.done;
    let again = if args.retry_failed { 0 } else { outlook.failed };
    let to_do = open - again.min(open);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} captions, {} settled, {} dead letters; {to_do} would be worked on",
        outlook.items, outlook.done, outlook.failed
    )?;
    if chat {
        let steps = |settings: &std::collections::BTreeMap<String, String>| {
            settings
                .keys()
                .filter(|key| key.starts_with("prompt_"))
                .count()
        };
        let most = (steps(&settings.writer) + steps(&settings.verifier)) * to_do;
        writeln!(
            out,
            "at most {most} requests, fewer where captions are dropped or answers cached"
        )?;
    }
    if outlook.done > 0 && outlook.cost.requests > 0 {
        let price = args.price_in.zip(args.price_out);
        writeln!(out, "so far: {}", costs(&outlook.cost, price))?;
        let share = to_do as f64 / outlook.done as f64;
        let scaled = |count: u64| (count as f64 * share).round() as u64;
        let rest = Cost {
            requests: scaled(outlook.cost.requests),
            prompt_tokens: scaled(outlook.cost.prompt_tokens),
            completion_tokens: scaled(outlook.cost.completion_tokens),
        };
        writeln!(out, "the rest at that rate: {}", costs(&rest, price))?;
    }
    Ok(())
}

/// Prints what was made and where it is.
pub fn report(out: &Path, summary: &Summary, price: Option<(f64, f64)>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let Summary {
        captions,
        kept,
        rejected,
        failed,
        rejected_by_reason,
        cost,
        ..
    } = summary;
    writeln!(
        stdout,
        "{captions} captions: {kept} kept, {rejected} rejected, {failed} dead letters"
    )?;
    for (reason, count) in rejected_by_reason {
        writeln!(stdout, "  {count:>7}  {reason}")?;
    }
    if cost.requests > 0 {
        writeln!(stdout, "{}", costs(cost, price))?;
    }
    for (file, what) in [
        ("captions.json", "the captions with `updated_caption`"),
        ("provenance.jsonl", "where each comes from"),
        ("rejected.jsonl", "what was dropped, and why"),
        ("dead_letters.jsonl", "what failed"),
    ] {
        writeln!(stdout, "{}  {what}", out.join(file).display())?;
    }
    Ok(())
}
