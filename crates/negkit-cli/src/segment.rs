//! `negkit segment`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use negkit::image::{Limits, open_rgb};
use negkit::segment::{self, SaveOptions};
use negkit::txt2img::NamedEncoder;
use negkit::{ClipSize, is_own_encoder, mini};

use crate::args::{ComputeArgs, HubArgs, models, print_json};
use crate::progress;

/// Mark what phrases describe in a picture, with one text encoder or with several side by side.
///
/// The picture is encoded once for all phrases and encoders. Written are, for every phrase, the
/// picture with the probabilities over it and the mask as PNG, all masks as COCO RLE in
/// segmentations.json, and a sheet.png with everything side by side.
#[derive(Args)]
pub struct SegmentArgs {
    /// The picture: PNG, JPEG, WebP, GIF, BMP, TIFF and others; EXIF orientation is applied.
    #[arg(value_name = "PICTURE")]
    picture: PathBuf,
    /// What to mark, such as "the man without a hat"; repeat it for several.
    #[arg(
        long = "phrase",
        short,
        required_unless_present = "examples",
        value_name = "PHRASE"
    )]
    phrases: Vec<String>,
    /// Mark what looks like this picture, instead of phrases; repeat it for several.
    #[arg(long = "example", conflicts_with = "phrases", value_name = "PICTURE")]
    examples: Vec<PathBuf>,
    /// CLIPSeg: a folder, the authors' .pth file, a hub id or a known name. If not given, the small
    /// model in weights/mini.
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// For a .pth file with the decoder alone: the CLIP (ViT-B/16) that belongs to it.
    #[arg(long, value_name = "MODEL")]
    clip: Option<String>,
    /// A text encoder; repeat it to compare. `stock` is the model's own. Beside the small model,
    /// `negationclip` and `conclip` are those in weights/mini.
    #[arg(
        long = "text-encoder",
        short = 'e',
        default_value = "stock",
        value_name = "ENCODER"
    )]
    text_encoders: Vec<String>,
    /// Probability above which a pixel belongs to the mask. If not given, 0.5, or with the small
    /// model 0.35, which is best for drawn scenes.
    #[arg(long, short, value_parser = parse_probability)]
    threshold: Option<f32>,
    /// The folder to write to.
    #[arg(long, short, default_value = "out/segment", value_name = "FOLDER")]
    out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_probability(text: &str) -> Result<f32, String> {
    let probability = text.parse().ok().filter(|p| (0. ..=1.).contains(p));
    probability.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Runs the command.
pub fn run(args: &SegmentArgs) -> anyhow::Result<()> {
    let limits = Limits::default();
    let picture = open_rgb(&args.picture, &limits)?;
    let examples: Vec<_> = args
        .examples
        .iter()
        .map(|path| open_rgb(path, &limits))
        .collect::<Result<_, _>>()?;
    let models = models(&args.compute, &args.hub)?;
    let chosen = models.choose(args.model.as_deref(), mini::CLIPSEG)?;
    let spinner = progress::spinner(format!("loading {}", chosen.name()));
    let mut model = models.clipseg(chosen.spec(), args.clip.as_deref())?;

    let (labels, runs) = if examples.is_empty() {
        let mut encoders: Vec<NamedEncoder> = Vec::new();
        for spec in &args.text_encoders {
            spinner.set_message(format!("loading {spec}"));
            let encoder = match is_own_encoder(spec) {
                true => None,
                false => Some(models.text_encoder(&chosen.encoder(spec)?, ClipSize::VitB16)?),
            };
            encoders.push((spec.clone(), encoder));
        }
        spinner.set_message("segmenting");
        let phrases: Vec<&str> = args.phrases.iter().map(String::as_str).collect();
        let runs = segment::run(&mut model, &encoders, &picture, &phrases)?;
        (args.phrases.clone(), runs)
    } else {
        spinner.set_message("segmenting");
        let examples: Vec<_> = examples.iter().collect();
        let names = args.examples.iter().map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            format!("like {}", name.to_string_lossy())
        });
        let run = segment::run_examples(&model, &picture, &examples)?;
        (names.collect(), vec![run])
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let save = SaveOptions {
        folder: args.out.clone(),
        threshold: args.threshold.unwrap_or_else(|| chosen.mask_threshold()),
    };
    let saved = segment::save(&picture, &labels, &runs, &save)?;
    spinner.finish_and_clear();
    if args.json {
        return print_json(&saved);
    }
    let mut out = io::stdout().lock();
    for record in &saved.segmentations {
        writeln!(
            out,
            "{}  {} [{}]: {} pixels, highest probability {:.3}",
            record.overlay.display(),
            record.phrase,
            record.text_encoder,
            record.area,
            record.max_probability
        )?;
    }
    writeln!(out, "{}  side by side", saved.sheet.display())?;
    Ok(())
}
