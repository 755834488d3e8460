//! One prompt, two text encoders, the same noise: stock CLIP beside NegationCLIP.
//!
//! ```text
//! cargo run --release --example txt2img -- "a room with no chairs"
//! ```
//!
//! With no flags it takes the small models in `weights/mini`, which paint drawn scenes of 64 pixels
//! within seconds, and lets the small model that answers questions say what it sees in each picture.
//! With `--model sd-1.4` it is Stable Diffusion and NegationCLIP as published: from the folder
//! `weights/`, from the Hugging Face cache, or from the hub; `weights/README.md` says which files go
//! where on a machine without network. Model and encoder are names, hub ids, folders or files.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use mimalloc::MiMalloc;
use negkit::diffusion::{OpenPipeline, PipelineOptions, Residency, SamplingSettings};
use negkit::image::{Panel, Sheet, write_png};
use negkit::mini::{self, MiniModels};
use negkit::txt2img::{self, EncoderPictures};
use negkit::{
    CachingAllocator, ClipSize, Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models,
};
use negkit_vqa::mini::MiniVqa;
use negkit_vqa::{Answer, QuestionAnswerer};
use negkit_world::language::{Question, prompt_questions};

#[global_allocator]
static ALLOCATOR: CachingAllocator<MiMalloc> = CachingAllocator::new(MiMalloc);

#[derive(Parser)]
struct Args {
    /// What is to be seen.
    #[arg(default_value = "a room with no chairs")]
    prompt: String,
    /// Stable Diffusion 1.x, such as sd-1.4; the small model in weights/mini if not given.
    #[arg(long)]
    model: Option<String>,
    /// The text encoder to lay beside the model's own.
    #[arg(long, default_value = mini::NEGATIONCLIP)]
    text_encoder: String,
    /// Pictures of each encoder.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    count: u64,
    #[arg(long, default_value_t = mini::STEPS)]
    steps: usize,
    /// Weight of the prompt; 7.5 if not given, 2.2 for the small model.
    #[arg(long)]
    guidance_scale: Option<f64>,
    /// Side of a picture in pixels; what the model was trained for if not given.
    #[arg(long)]
    size: Option<usize>,
    /// Seed of the first picture; the next has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    /// The picture file to write.
    #[arg(long, default_value = "out/txt2img.png")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let compute = Compute::open(args.device, args.dtype)?;
    let models = Models::new(Hub::new(HubConfig::from_env())?, compute.clone());
    let chosen = models.choose(args.model.as_deref(), mini::STABLE_DIFFUSION)?;
    let witness = chosen
        .mini()
        .map(|mini| Witness::open(mini, &args.prompt, &compute))
        .transpose()?;
    let options = PipelineOptions {
        residency: Residency::OneAtATime,
        ..PipelineOptions::new(compute)
    };
    let mut encoders = vec![("stock CLIP".to_owned(), None)];
    if !negkit::is_own_encoder(&args.text_encoder) {
        let spec = chosen.encoder(&args.text_encoder)?;
        let encoder = models.text_encoder_with(&spec, ClipSize::VitL14, options.residency)?;
        encoders.push((label(&args.text_encoder), Some(encoder)));
    }
    let mut model = models.stable_diffusion(chosen.spec(), &OpenPipeline::default(), &options)?;

    let side = args.size.unwrap_or_else(|| txt2img::own_side(&model));
    let usual = SamplingSettings::default();
    let (guidance_scale, batch_size) = match chosen.mini() {
        Some(_) => (mini::GUIDANCE_SCALE, args.count as usize),
        None => (usual.guidance_scale, 1),
    };
    let settings = SamplingSettings {
        steps: args.steps,
        guidance_scale: args.guidance_scale.unwrap_or(guidance_scale),
        width: side,
        height: side,
        batch_size,
        ..usual
    };
    let prompts = [args.prompt.clone()];
    let requests = txt2img::requests(&prompts, "", args.seed, args.count as usize);
    let batches = requests.len().div_ceil(batch_size) * encoders.len();
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")?;
    let bar = ProgressBar::new(0)
        .with_style(style)
        .with_message("loading");
    bar.enable_steady_tick(Duration::from_millis(100));
    let runs = txt2img::run(&mut model, &encoders, &requests, &settings, None, |at| {
        let steps = (at.step.steps * batches) as u64;
        bar.set_length(steps);
        bar.inc(1);
        bar.set_message(if bar.position() == steps {
            "decoding"
        } else {
            "steps"
        });
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();

    let mut sheet = Sheet::new().title(&args.prompt);
    println!("{} (seeds from {})", args.prompt, args.seed);
    for run in &runs {
        let seen = match &witness {
            Some(witness) => witness.look(run)?,
            None => Seen::default(),
        };
        let heading = match &seen.verdict {
            Some(verdict) => format!("{}: {verdict}", run.encoder),
            None => run.encoder.clone(),
        };
        println!("\n{heading}");
        seen.answers.iter().for_each(|line| println!("  {line}"));
        let pictures = run.pictures.iter().enumerate();
        let panels = pictures.map(|(i, made)| Panel {
            image: made.picture.clone(),
            caption: match seen.captions.get(i) {
                Some(caption) => caption.clone(),
                None => format!("seed {}", made.request.seed),
            },
        });
        sheet = sheet.row_with_heading(heading, panels.collect());
    }
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_png(&args.out, &sheet.render()?, &[("prompt", &args.prompt)])?;
    println!("\n{}", args.out.display());
    Ok(())
}

/// What to call an encoder on the picture.
fn label(spec: &str) -> String {
    match spec {
        mini::NEGATIONCLIP => "NegationCLIP".to_owned(),
        other => other.to_owned(),
    }
}

/// An answer, with how sure the model is of it.
fn said(answer: &Answer) -> String {
    match answer.confidence {
        Some(confidence) => format!("{} {confidence:.2}", answer.text),
        None => answer.text.clone(),
    }
}

/// Looks at pictures and says what is in them.
struct Witness {
    vqa: MiniVqa,
    /// What the prompt affirms and denies.
    questions: Vec<Question>,
}

/// What was seen in the pictures of one encoder.
#[derive(Default)]
struct Seen {
    /// In how many pictures everything is as the prompt says, where it says something that can be
    /// asked for.
    verdict: Option<String>,
    /// A line for each question, with the answer and its probability for every picture.
    answers: Vec<String>,
    /// A text for each picture.
    captions: Vec<String>,
}

impl Witness {
    /// Has an answer for every picture, whatever the prompt.
    const PLACE: &str = "What place is this?";

    fn open(mini: &MiniModels, prompt: &str, compute: &Compute) -> anyhow::Result<Self> {
        Ok(Self {
            vqa: MiniVqa::load(mini.model(mini::VQA)?, compute)?,
            questions: prompt_questions(prompt),
        })
    }

    fn look(&self, run: &EncoderPictures) -> anyhow::Result<Seen> {
        let asked = self.questions.iter().map(|question| question.text.as_str());
        let texts: Vec<&str> = asked.chain([Self::PLACE]).collect();
        let pictures: Vec<_> = run
            .pictures
            .iter()
            .map(|made| (&made.picture, &texts[..]))
            .collect();
        let answers = self.vqa.answer_batch(&pictures)?;

        let widest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut seen = Seen::default();
        for (i, text) in texts.iter().enumerate() {
            let all: Vec<String> = answers.iter().map(|own| said(&own[i])).collect();
            let wanted = self.questions.get(i);
            let wanted = wanted.map_or(String::new(), |q| format!("   asked for: {}", q.answer));
            let line = format!("{text:widest$}  {}{wanted}", all.join("  "));
            seen.answers.push(line);
        }
        // Under a picture there is room for what matters.
        let told = self.questions.len().max(1);
        let captions = answers.iter().map(|own| {
            let pairs = texts.iter().zip(own).take(told);
            let lines: Vec<String> = pairs
                .map(|(text, answer)| format!("{text} {}", answer.text))
                .collect();
            lines.join("\n")
        });
        seen.captions = captions.collect();
        if !self.questions.is_empty() {
            let right = answers.iter().filter(|own| {
                let mut pairs = self.questions.iter().zip(own.iter());
                pairs.all(|(question, answer)| question.answer == answer.text)
            });
            let (right, count) = (right.count(), answers.len());
            seen.verdict = Some(format!("{right} of {count} pictures are as asked for"));
        }
        Ok(seen)
    }
}
