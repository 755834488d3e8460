//! From nothing to a NegationCLIP: scenes, captions that say what is absent, a fine-tuned text
//! encoder, and what it does to pictures and masks.
//!
//! ```text
//! cargo run --release --example make_negationclip
//! ```
//!
//! The paper's way ("Know 'No' Better", arXiv 2501.10913) in minutes on two cores: drawn scenes where
//! it has COCO, the world's grammar and exact truth where it has Llama and LLaVA, and the small models
//! of `weights/mini` where it has CLIP, Stable Diffusion and CLIPSeg. Each step says what it does and
//! what came out, and can be killed and started again. `docs/negationclip.md` is the same for photos
//! and published models. At the end `picture.png` shows stock CLIP beside the new encoder, and
//! `table.md` has the scores.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use mimalloc::MiMalloc;
use negkit::diffusion::{OpenPipeline, PipelineOptions, SamplingSettings};
use negkit::image::{OverlayStyle, Panel, Sheet, overlay_mask, overlay_probabilities, write_png};
use negkit::mini::{self, MiniModels};
use negkit::txt2img::{self, NamedEncoder};
use negkit::{CachingAllocator, ClipSize, Compute, Hub, HubConfig, Models, segment};
use negkit_data::WordList as Negations;
use negkit_eval::table4::{MINI, Noise, Table4, Table4Models, Table4Options, mini_prompts, some};
use negkit_eval::table5::{
    ClipSegMarker, Scale, Settings, Table5, Table5Data, WorldCounts, write_world,
};
use negkit_eval::{ComputeUsed, ModelUsed, RunFolder, Shard, table4, table5};
use negkit_finetune::{FineTuneSettings, Job, Precision, ScheduleKind, Split, fine_tune};
use negkit_metrics::{Bootstrap, IouCurve};
use negkit_mini::recipe;
use negkit_stats::{Input, Survey, WordList, find};
use negkit_train::start_over_to_train;
use negkit_world::datasets::{Counts, write_all};
use negkit_world::language::{referring_expressions, referring_scene};
use negkit_world::render;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: CachingAllocator<MiMalloc> = CachingAllocator::new(MiMalloc);

#[derive(Parser)]
struct Args {
    /// The folder for everything that is made.
    #[arg(long, default_value = "out/negationclip")]
    out: PathBuf,
    /// Scenes to draw and to make captions of.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(500..))]
    scenes: u64,
    /// Steps of fine-tuning.
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Prompts of Neg Score and of TIFA that are painted.
    #[arg(long, default_value_t = 30)]
    prompts: usize,
    /// Scenes of PhraseCut and of RefCOCOg in which phrases are marked.
    #[arg(long, default_value_t = 60)]
    marked: usize,
    /// Decides the scenes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What the new encoder is called.
const NEW: &str = "yours";
/// What is painted onto the picture at the end.
const PROMPTS: [&str; 2] = ["a room with no chairs", "a man without a hat in a park"];
/// Pictures of each with either encoder.
const PICTURES: usize = 4;
/// Several people, of whom one is told apart by what is missing; as in the example refseg.
const SCENE: u64 = 115;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    start_over_to_train();
    let models = Models::new(Hub::new(HubConfig::from_env())?, recipe::compute());
    let chosen = models.choose(None, mini::STABLE_DIFFUSION)?;
    let small = chosen.mini().context("the small models are not there")?;

    println!("1. Draw {} scenes and caption them", args.scenes);
    let world = args.out.join("world");
    draw(&args, &world)?;

    println!("\n2. Count negations, before and after P1 and P2");
    let made =
        ["p1", "p2"].map(|name| world.join(format!("negation/captions_{name}_train2014.json")));
    count(
        &world.join("annotations/captions_train2014.json"),
        "caption",
    )?;
    for file in &made {
        count(file, "updated_caption")?;
    }

    println!("\n3. Fine-tune the small CLIP's text encoder on them");
    let encoder = train(&args, small, &world, made.to_vec())?;

    println!("\n4. Swap it into the small Stable Diffusion: Neg Score and TIFA");
    let painted = paint(&args, &models, &encoder)?;

    println!(
        "\n5. Swap it into the small CLIPSeg: phrases, and expressions that say what is absent"
    );
    let marked = mark(&args, &models, &encoder)?;

    println!("\n6. Lay both encoders side by side");
    let table = table(&painted, &marked)?;
    std::fs::write(args.out.join("table.md"), &table)?;
    print!("{table}");
    let picture = args.out.join("picture.png");
    write_png(&picture, &sheet(&models, &encoder)?.render()?, &[])?;
    println!(
        "\n{}\n{}",
        picture.display(),
        args.out.join("table.md").display()
    );
    Ok(())
}

/// A bar with what is being done.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template("   [{bar:30}] {pos}/{len} (left {eta}) {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Scenes, their captions, and captions with negations, in COCO's form. Writer and verifier are the
/// world's: `negkit captions p1|p2` is the same with models.
fn draw(args: &Args, world: &Path) -> anyhow::Result<()> {
    let counts = Counts {
        train: args.scenes,
        val: 100,
        tifa: 1,
    };
    let bar = bar(0);
    let written = write_all(world, args.seed, counts, recipe::SIDE, &mut |at| {
        bar.set_length(at.total);
        bar.set_position(at.done);
        bar.set_message(at.what.to_owned());
    });
    bar.finish_and_clear();
    let dataset = written?;
    println!("   {} files in {}", dataset.files.len(), world.display());
    Ok(())
}

/// How often the captions of a file hold a negation, with an example.
fn count(file: &Path, field: &str) -> anyhow::Result<()> {
    let survey = Survey::new(WordList::negations()).with_column(field);
    let report = survey.run(&find(&[Input::from(file)])?, &|_| {})?;
    let example = report
        .entries
        .iter()
        .flat_map(|entry| &entry.examples)
        .next();
    println!(
        "   {:>6} captions, {:.1} % with a negation  {}",
        report.captions,
        100. * report.negated_captions.share,
        file.display()
    );
    if let Some(example) = example {
        println!("          such as \"{}\"", example.example.text);
    }
    Ok(())
}

/// The new encoder's folder. The learning rate is higher than the paper's, and half of the captions
/// are ordinary ones: the model is small, the steps are few, and it would forget the others.
fn train(
    args: &Args,
    small: &MiniModels,
    world: &Path,
    captions: Vec<PathBuf>,
) -> anyhow::Result<PathBuf> {
    let (recipe, tuning) = recipe::fine_tuning();
    let settings = FineTuneSettings {
        ordinary_share: tuning.ordinary_share,
        batch_size: tuning.batch_size,
        chunk: 32,
        learning_rate: recipe.learning_rate,
        warmup: recipe.warmup.min(args.steps / 4),
        schedule: ScheduleKind::Cosine,
        schedule_floor: 0.02,
        clip_norm: recipe.clip_norm,
        validation_share: 0.1,
        split: Split::Pictures,
        epochs: u64::from(u16::MAX),
        max_steps: Some(args.steps),
        validate_every: 50,
        checkpoint_every: 50,
        precision: Precision::Bf16,
        ..FineTuneSettings::default()
    };
    let out = args.out.join("encoder");
    let outcome = fine_tune(&Job {
        clip: small.model("clip")?,
        captions,
        images: world.join("train2014"),
        features: out.join("features"),
        out,
        verify_features: false,
        name: "negationclip".to_owned(),
        device: Compute::cpu().device,
        settings,
    })?;
    println!(
        "   {} captions of {} pictures, {} steps in {:.0} s; validation loss {:.3} after step {}",
        outcome.train,
        outcome.pictures,
        outcome.steps,
        outcome.seconds,
        outcome.best_loss.unwrap_or(f64::NAN),
        outcome.best_step.unwrap_or(0)
    );
    println!("   {}", outcome.transformers.display());
    Ok(outcome.transformers)
}

/// Stock and new encoder, for the model named.
fn encoders(models: &Models, encoder: &Path, size: ClipSize) -> anyhow::Result<Vec<NamedEncoder>> {
    let path = encoder
        .to_str()
        .context("the folder's name is no Unicode")?;
    Ok(vec![
        ("stock".to_owned(), None),
        (NEW.to_owned(), Some(models.text_encoder(path, size)?)),
    ])
}

/// Table 4 on a part of its prompts: every number of both encoders.
fn paint(args: &Args, models: &Models, encoder: &Path) -> anyhow::Result<Value> {
    let chosen = models.choose(None, mini::STABLE_DIFFUSION)?;
    let painting = PipelineOptions::new(models.compute().clone());
    let painter = models.stable_diffusion(chosen.spec(), &OpenPipeline::default(), &painting)?;
    let side = txt2img::own_side(&painter);
    let parts = Table4Models {
        name: chosen.name().to_owned(),
        painter,
        encoders: encoders(models, encoder, ClipSize::VitL14)?,
        answerer: models.answerer("mini")?,
        sentences: None,
        compute: models.compute().clone(),
    };
    let options = Table4Options {
        scale: MINI.to_owned(),
        images_per_prompt: PICTURES,
        tifa_images_per_prompt: 1,
        noise: Noise::Seed(args.seed),
        sampling: sampling(side),
        bootstrap: Bootstrap::default(),
    };
    let mut table = Table4::new(parts, some(mini_prompts(), args.prompts), options)?;
    let run = RunFolder::open(args.out.join("table4"), table.plan().clone())?;
    table.run(&run, Shard::WHOLE)?;
    let found = table4::finals(&run)?;
    println!("   {}", run.path().join("table.md").display());
    Ok(found.summary)
}

fn sampling(side: usize) -> SamplingSettings {
    SamplingSettings {
        steps: mini::STEPS,
        guidance_scale: mini::GUIDANCE_SCALE,
        width: side,
        height: side,
        batch_size: PICTURES,
        ..SamplingSettings::default()
    }
}

/// Table 5 on a part of its scenes: every number of both encoders.
fn mark(args: &Args, models: &Models, encoder: &Path) -> anyhow::Result<Value> {
    let out = args.out.join("table5");
    let scenes = args.out.join("table5-scenes");
    std::fs::create_dir_all(&scenes)?;
    let words = Negations::default();
    let sources = write_world(&scenes, recipe::SEGMENTATION_SIDE, WorldCounts::default())?;
    let data = Table5Data::open(&sources, &words, Some(args.marked))?;
    let chosen = models.choose(None, mini::CLIPSEG)?;
    let model = models.clipseg(chosen.spec(), None)?;
    let encoders = encoders(models, encoder, ClipSize::VitB16)?;
    let mut ids = Vec::new();
    for (name, encoder) in &encoders {
        let own = encoder.as_ref().unwrap_or(model.text());
        ids.push(ModelUsed::new(name.as_str(), &own.info().weights)?);
    }
    let settings = Settings {
        scale: Scale::Mini,
        compute: ComputeUsed::from(models.compute()),
        threshold: (f64::from(chosen.mask_threshold()) * 100.).round() / 100.,
        words: words.words().to_vec(),
        model: ModelUsed::new(chosen.name(), model.weights())?,
        bootstrap: Bootstrap::default(),
        encoders: ids,
        datasets: data.files.clone(),
    };
    let table = Table5::new(settings, data)?;
    let run = RunFolder::open(&out, table.plan()?)?;
    table.run(&run, Shard::WHOLE, &mut ClipSegMarker::new(model, encoders))?;
    let found = table5::finals(&run)?;
    run.write_finals(&found)?;
    println!("   {}", run.path().join("table.md").display());
    Ok(found.summary)
}

/// What both tables say of either encoder, in Markdown.
fn table(painted: &Value, marked: &Value) -> anyhow::Result<String> {
    let number = |value: &Value, path: &str| {
        let found = value.pointer(path).and_then(Value::as_f64);
        found.with_context(|| format!("a summary has no number at {path}"))
    };
    let told = |value: &Value, path: String| -> anyhow::Result<String> {
        let of = |end: &str| number(value, &format!("{path}/{end}"));
        let (estimate, low, high) = (of("estimate")?, of("low")?, of("high")?);
        Ok(format!("{estimate:.3} [{low:.3}, {high:.3}]"))
    };
    // Phrases of PhraseCut, then expressions with a negation of RefCOCOg; at the model's threshold.
    let iou = |dataset: usize, encoder: usize| {
        let of = format!("/datasets/{dataset}/protocols/0/encoders/{encoder}");
        told(marked, format!("{of}/intervals/thresholds/0/mean_iou"))
    };
    let mut text =
        "| text encoder | Neg Score | TIFA | mean IoU, phrases | mean IoU, negated expressions |\n\
                    |---|---|---|---|---|\n"
            .to_owned();
    for (i, name) in ["stock", NEW].into_iter().enumerate() {
        let neg_score = told(painted, format!("/encoders/{i}/neg_score"))?;
        let tifa = told(painted, format!("/encoders/{i}/tifa"))?;
        let (phrases, negated) = (iou(0, i)?, iou(1, i)?);
        text += &format!("| {name} | {neg_score} | {tifa} | {phrases} | {negated} |\n");
    }
    Ok(text)
}

/// Pictures painted from the same noise, and an expression marked, with either encoder.
fn sheet(models: &Models, encoder: &Path) -> anyhow::Result<Sheet> {
    let chosen = models.choose(None, mini::STABLE_DIFFUSION)?;
    let painting = PipelineOptions::new(models.compute().clone());
    let mut painter =
        models.stable_diffusion(chosen.spec(), &OpenPipeline::default(), &painting)?;
    let both = encoders(models, encoder, ClipSize::VitL14)?;
    let settings = sampling(txt2img::own_side(&painter));
    let mut sheet = Sheet::new().title("stock CLIP beside the new encoder");
    for prompt in PROMPTS {
        let requests = txt2img::requests(&[prompt.to_owned()], "", 0, PICTURES);
        let runs = txt2img::run(&mut painter, &both, &requests, &settings, None, |_| {
            ControlFlow::Continue(())
        })?;
        for run in runs {
            let pictures = run.pictures.into_iter();
            let panels = pictures.map(|made| Panel {
                caption: format!("seed {}", made.request.seed),
                image: made.picture,
            });
            sheet = sheet.row_with_heading(format!("{prompt}: {}", run.encoder), panels.collect());
        }
    }
    let (heading, panels) = marked_scene(models, encoder)?;
    Ok(sheet.row_with_heading(heading, panels))
}

/// A person who is told apart by what is missing: what is meant, and what either encoder marks.
fn marked_scene(models: &Models, encoder: &Path) -> anyhow::Result<(String, Vec<Panel>)> {
    const SIDE: u32 = 256;
    let scene = referring_scene(SCENE);
    let drawn = render(&scene, SIDE);
    let mut rng = ChaCha8Rng::seed_from_u64(SCENE);
    let known = referring_expressions(&scene, &mut rng);
    let phrase = known.iter().find(|phrase| phrase.negated);
    let phrase = phrase.context("the scene has nobody who is told apart by what is missing")?;
    let thing = phrase
        .things
        .first()
        .and_then(|thing| drawn.things.get(*thing));
    let truth = &thing
        .context("the expression means nothing in the scene")?
        .visible;
    let style = OverlayStyle::default();
    let mut panels = vec![Panel {
        image: overlay_mask(&drawn.picture, truth, &style)?,
        caption: "what is meant".to_owned(),
    }];
    let chosen = models.choose(None, mini::CLIPSEG)?;
    let mut model = models.clipseg(chosen.spec(), None)?;
    let both = encoders(models, encoder, ClipSize::VitB16)?;
    let threshold = chosen.mask_threshold();
    for run in segment::run(&mut model, &both, &drawn.picture, &[&phrase.text])? {
        let found = run.segmentations.first().context("nothing was marked")?;
        let probabilities = found.probabilities_at_picture_size()?;
        let mut curve = IouCurve::new(&[threshold])?;
        curve.add(&probabilities, truth.pixels())?;
        let size = (SIDE as usize, SIDE as usize);
        panels.push(Panel {
            image: overlay_probabilities(&drawn.picture, &probabilities, size, threshold, &style)?,
            caption: format!("{}: IoU {:.2}", run.encoder, curve.best()?.mean_iou),
        });
    }
    Ok((phrase.text.clone(), panels))
}
