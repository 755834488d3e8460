//! One picture, a few phrases, two text encoders: stock CLIP beside another.
//!
//! ```text
//! cargo run --release --example refseg -- --image street.jpg --phrase "the man without a hat"
//! ```
//!
//! With no other flags it takes CLIPSeg and NegationCLIP by name; `weights/README.md` says which
//! files go where on a machine without network.

use std::path::PathBuf;

use clap::Parser;
use negkit::image::{Limits, open_rgb};
use negkit::segment::{self, SaveOptions};
use negkit::{ClipSize, Compute, DeviceChoice, DtypeChoice, Hub, HubConfig, Models};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// The picture.
    #[arg(long)]
    image: PathBuf,
    /// What to mark; repeat it for several.
    #[arg(long = "phrase", required = true)]
    phrases: Vec<String>,
    /// CLIPSeg.
    #[arg(long, default_value = "clipseg-rd64-refined")]
    model: String,
    /// The text encoder to lay beside the model's own.
    #[arg(long, default_value = "negationclip")]
    text_encoder: String,
    /// Probability above which a pixel is marked.
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, default_value = "auto")]
    dtype: DtypeChoice,
    #[arg(long, default_value = "out/refseg")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let picture = open_rgb(&args.image, &Limits::default())?;
    let compute = Compute::open(args.device, args.dtype)?;
    let models = Models::new(Hub::new(HubConfig::from_env())?, compute);
    let mut encoders = vec![("stock".to_owned(), None)];
    if !negkit::is_own_encoder(&args.text_encoder) {
        let encoder = models.text_encoder(&args.text_encoder, ClipSize::VitB16)?;
        encoders.push((args.text_encoder, Some(encoder)));
    }
    let mut model = models.clipseg(&args.model, None)?;

    let phrases: Vec<&str> = args.phrases.iter().map(String::as_str).collect();
    let runs = segment::run(&mut model, &encoders, &picture, &phrases)?;
    let save = SaveOptions {
        folder: args.out,
        threshold: args.threshold,
    };
    let saved = segment::save(&picture, &phrases, &runs, &save)?;
    for record in &saved.segmentations {
        println!(
            "{} [{}]: {} pixels",
            record.phrase, record.text_encoder, record.area
        );
    }
    println!("{}", saved.sheet.display());
    Ok(())
}
