//! One picture, a few phrases, two text encoders: stock CLIP beside NegationCLIP.
//!
//! ```text
//! cargo run --release --example refseg
//! cargo run --release --example refseg -- --image street.jpg --phrase "the man without a hat"
//! ```
//!
//! With no flags it marks three phrases, one of them with a negation, in a scene that is drawn on
//! the spot, and says how well: of a drawn scene it is known which pixels are meant. The models are
//! the small ones in `weights/mini`, which know such scenes alone. For photos take CLIPSeg and
//! NegationCLIP as published, with `--model clipseg-rd64-refined`; `weights/README.md` says which
//! files go where on a machine without network.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use mimalloc::MiMalloc;
use negkit::clipseg::Segmentation;
use negkit::image::{
    Limits, Mask, Outline, OverlayStyle, Panel, Sheet, open_rgb, overlay_mask,
    overlay_probabilities, write_png,
};
use negkit::{
    CachingAllocator, ClipSize, Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models,
};
use negkit::{mini, segment};
use negkit_metrics::IouCurve;
use negkit_world::language::{self, Phrase, referring_expressions, referring_scene};
use negkit_world::render;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: CachingAllocator<MiMalloc> = CachingAllocator::new(MiMalloc);

#[derive(Parser)]
struct Args {
    /// The picture; if not given, a scene is drawn.
    #[arg(long, requires = "phrases")]
    image: Option<PathBuf>,
    /// What to mark; repeat it for several. Of a drawn scene three are known.
    #[arg(long = "phrase")]
    phrases: Vec<String>,
    /// Seed of the drawn scene.
    #[arg(long, default_value_t = SCENE, conflicts_with = "image")]
    scene: u64,
    /// CLIPSeg, such as clipseg-rd64-refined; the small model in weights/mini if not given.
    #[arg(long)]
    model: Option<String>,
    /// The text encoder to lay beside the model's own.
    #[arg(long, default_value = mini::NEGATIONCLIP)]
    text_encoder: String,
    /// Probability above which a pixel is marked; 0.5 if not given, or 0.35, the best for drawn
    /// scenes, with the small model.
    #[arg(long)]
    threshold: Option<f32>,
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    /// The picture file to write.
    #[arg(long, default_value = "out/refseg.png")]
    out: PathBuf,
}

/// Cyan, which nothing in the drawn world is.
const STYLE: OverlayStyle = OverlayStyle {
    color: [0, 225, 255],
    opacity: 0.65,
    outline: Some(Outline {
        color: [0, 70, 130],
        width: 3,
    }),
};
/// Side of the drawn scene, in pixels.
const SIDE: u32 = 384;
/// Two men and a woman on a farm: which man is meant can only be told by the hat that one has.
const SCENE: u64 = 115;

/// What is marked where.
struct Task {
    picture: image::RgbImage,
    phrases: Vec<String>,
    /// The pixels that each phrase means, where they are known.
    truths: Vec<Option<Mask>>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let task = match &args.image {
        Some(path) => Task {
            picture: open_rgb(path, &Limits::default())?,
            phrases: args.phrases.clone(),
            truths: vec![None; args.phrases.len()],
        },
        None => drawn(args.scene, &args.phrases)?,
    };
    let compute = Compute::open(args.device, args.dtype)?;
    let models = Models::new(Hub::new(HubConfig::from_env())?, compute);
    let chosen = models.choose(args.model.as_deref(), mini::CLIPSEG)?;
    let threshold = args.threshold.unwrap_or_else(|| chosen.mask_threshold());
    let mut encoders = vec![("stock CLIP".to_owned(), None)];
    if !negkit::is_own_encoder(&args.text_encoder) {
        let spec = chosen.encoder(&args.text_encoder)?;
        let encoder = models.text_encoder(&spec, ClipSize::VitB16)?;
        encoders.push((label(&args.text_encoder), Some(encoder)));
    }
    let mut model = models.clipseg(chosen.spec(), None)?;

    let phrases: Vec<&str> = task.phrases.iter().map(String::as_str).collect();
    let runs = segment::run(&mut model, &encoders, &task.picture, &phrases)?;
    let mut sheet = Sheet::new();
    for (i, (phrase, truth)) in task.phrases.iter().zip(&task.truths).enumerate() {
        println!("{phrase}");
        let mut panels = Vec::new();
        if let Some(truth) = truth {
            panels.push(Panel {
                image: overlay_mask(&task.picture, truth, &STYLE)?,
                caption: "what is meant".to_owned(),
            });
        }
        for run in &runs {
            let found = &run.segmentations[i];
            let result = judge(found, truth.as_ref(), threshold)?;
            println!("  {:14} {result}", run.encoder);
            panels.push(Panel {
                image: mark(&task, found, threshold)?,
                caption: format!("{}: {result}", run.encoder),
            });
        }
        sheet = sheet.row_with_heading(phrase, panels);
    }
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_png(&args.out, &sheet.render()?, &[])?;
    println!("{}", args.out.display());
    Ok(())
}

/// What to call an encoder on the picture.
fn label(spec: &str) -> String {
    match spec {
        mini::NEGATIONCLIP => "NegationCLIP".to_owned(),
        other => other.to_owned(),
    }
}

/// A scene of several people and things, with the phrases asked for, or with three of its own.
fn drawn(seed: u64, phrases: &[String]) -> anyhow::Result<Task> {
    let scene = referring_scene(seed);
    println!("scene {seed}: {}", language::full_caption(&scene));
    let rendering = render(&scene, SIDE);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut known = referring_expressions(&scene, &mut rng);
    let texts = if phrases.is_empty() {
        three_phrases(&known).with_context(|| {
            format!("in scene {seed} nothing is told apart by what it lacks: take another --scene")
        })?
    } else {
        known.extend(language::phrases(&scene, &mut rng));
        phrases.to_vec()
    };
    let truth = |text: &String| {
        let phrase = known.iter().find(|phrase| phrase.text == *text)?;
        let [thing] = phrase.things[..] else {
            return None;
        };
        Some(rendering.things.get(thing)?.visible.clone())
    };
    Ok(Task {
        truths: texts.iter().map(truth).collect(),
        phrases: texts,
        picture: rendering.picture,
    })
}

/// Expressions that mean a thing each, no two the same, the last of them by what it lacks.
fn three_phrases(known: &[Phrase]) -> Option<Vec<String>> {
    let negated = known.iter().find(|phrase| phrase.negated)?;
    let mut chosen: Vec<&Phrase> = Vec::new();
    for phrase in known.iter().filter(|phrase| !phrase.negated) {
        let is_new = |other: &&Phrase| other.things != phrase.things;
        if chosen.len() < 2 && chosen.iter().chain([&negated]).all(is_new) {
            chosen.push(phrase);
        }
    }
    chosen.push(negated);
    Some(chosen.iter().map(|phrase| phrase.text.clone()).collect())
}

/// How well a phrase was marked, or, where that is not known, how sure the model is.
fn judge(found: &Segmentation, truth: Option<&Mask>, threshold: f32) -> anyhow::Result<String> {
    let probabilities = found.probabilities_at_picture_size()?;
    let Some(truth) = truth else {
        let pixels = found.mask(threshold)?.area();
        let most = probabilities.iter().copied().fold(0., f32::max);
        return Ok(format!("{pixels} pixels, at most {most:.2}"));
    };
    let mut curve = IouCurve::new(&[threshold])?;
    curve.add(&probabilities, truth.pixels())?;
    Ok(format!("IoU {:.2}", curve.best()?.mean_iou))
}

/// The picture with what was found over it.
fn mark(task: &Task, found: &Segmentation, threshold: f32) -> anyhow::Result<image::RgbImage> {
    let (width, height) = found.picture_size();
    Ok(overlay_probabilities(
        &task.picture,
        &found.probabilities_at_picture_size()?,
        (height as usize, width as usize),
        threshold,
        &STYLE,
    )?)
}
