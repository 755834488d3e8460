//! One prompt, two text encoders, the same noise: stock CLIP beside another.
//!
//! ```text
//! cargo run --release --example txt2img -- "a room with no chairs"
//! ```
//!
//! With no flags it takes Stable Diffusion 1.4 and NegationCLIP by name: from the folder `weights/`,
//! from the Hugging Face cache, or from the hub. `weights/README.md` says which files go where on a
//! machine without network. Any other model or encoder is a name, a hub id, a folder or a file.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Parser;
use indicatif::ProgressBar;
use negkit::diffusion::{OpenPipeline, PipelineOptions, SamplingSettings};
use negkit::txt2img::{self, SaveOptions};
use negkit::{ClipSize, Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// What is to be seen.
    prompt: String,
    /// Stable Diffusion 1.x.
    #[arg(long, default_value = "sd-1.4")]
    model: String,
    /// The text encoder to lay beside the model's own.
    #[arg(long, default_value = "negationclip")]
    text_encoder: String,
    #[arg(long, default_value_t = 30)]
    steps: usize,
    /// Side of the picture in pixels.
    #[arg(long, default_value_t = 512)]
    size: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    #[arg(long, default_value = "out/txt2img")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let compute = Compute::open(args.device, args.dtype)?;
    let models = Models::new(Hub::new(HubConfig::from_env())?, compute.clone());
    let other = (!negkit::is_own_encoder(&args.text_encoder))
        .then(|| models.text_encoder(&args.text_encoder, ClipSize::VitL14))
        .transpose()?;
    let options = PipelineOptions::new(compute);
    let mut model = models.stable_diffusion(&args.model, &OpenPipeline::default(), &options)?;

    let mut encoders = vec![("stock".to_owned(), None)];
    encoders.extend(other.map(|encoder| (args.text_encoder.clone(), Some(encoder))));
    let requests = txt2img::requests(&[args.prompt], "", args.seed, 1);
    let settings = SamplingSettings {
        steps: args.steps,
        width: args.size,
        height: args.size,
        ..SamplingSettings::default()
    };
    let bar = ProgressBar::new(0);
    let runs = txt2img::run(&mut model, &encoders, &requests, &settings, None, |at| {
        bar.set_length((at.step.steps * encoders.len()) as u64);
        bar.inc(1);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    let save = SaveOptions {
        folder: args.out,
        model: args.model,
        json: false,
    };
    let saved = txt2img::save(&model, &runs, &settings, &save)?;
    for record in &saved.pictures {
        println!("{}", record.file.display());
    }
    if let Some(sheet) = &saved.sheet {
        println!("{}", sheet.display());
    }
    Ok(())
}
