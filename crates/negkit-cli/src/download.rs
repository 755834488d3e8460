//! `negkit download`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use negkit::hub::{ClipSize, Location, ModelKind, Want};

use crate::args::{HubArgs, print_json};

/// Fetch models into the Hugging Face cache, or fetch what is new of them.
///
/// Files are checked against the sizes and hashes that the hub announces; a download that broke off
/// goes on where it stopped.
#[derive(Args)]
pub struct DownloadArgs {
    /// Known names or hub ids.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// What the files are for, where that is not plain from the name.
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    kind: Option<Kind>,
    /// Fetch the half-precision files where there are any.
    #[arg(long)]
    fp16: bool,
    /// The size to take where the name is of a family; `name:SIZE` says the same.
    #[arg(long, default_value = "ViT-L/14")]
    size: String,
    /// Print the local paths as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A text encoder alone.
    TextEncoder,
    /// Stable Diffusion.
    Diffusion,
    /// CLIPSeg.
    Clipseg,
    /// Both towers of a CLIP.
    Clip,
    /// Answers to questions about pictures.
    QuestionAnswering,
    /// Sentence embeddings.
    SentenceEncoder,
}

impl From<Kind> for ModelKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::TextEncoder => Self::TextEncoder,
            Kind::Diffusion => Self::Diffusion,
            Kind::Clipseg => Self::ClipSeg,
            Kind::Clip => Self::Clip,
            Kind::QuestionAnswering => Self::QuestionAnswering,
            Kind::SentenceEncoder => Self::SentenceEncoder,
        }
    }
}

/// Runs the command.
pub fn run(args: &DownloadArgs) -> anyhow::Result<()> {
    let hub = args.hub.hub()?;
    let Some(size) = ClipSize::parse(&args.size) else {
        anyhow::bail!(
            "unknown size '{}': expected for example ViT-L/14",
            args.size
        );
    };
    let mut paths = Vec::new();
    for spec in &args.models {
        let location = Location::parse(spec)?;
        let kind = match (args.kind, &location) {
            (Some(kind), _) => kind.into(),
            (None, Location::Known { name, .. }) => {
                let known = hub.table().models.iter().find(|model| model.name == *name);
                let kinds = known.map(|model| model.kinds()).unwrap_or_default();
                // The largest of what a model is for.
                let largest = [
                    ModelKind::Diffusion,
                    ModelKind::ClipSeg,
                    ModelKind::Clip,
                    ModelKind::TextEncoder,
                    ModelKind::QuestionAnswering,
                    ModelKind::SentenceEncoder,
                ];
                let wanted = largest.into_iter().find(|kind| kinds.contains(kind));
                wanted.unwrap_or(ModelKind::TextEncoder)
            }
            (None, _) => anyhow::bail!(
                "say what the files of {spec} are for: --for text-encoder, diffusion, clipseg, \
                 clip, question-answering or sentence-encoder"
            ),
        };
        let mut want = Want::new(kind).size(size);
        if args.fp16 {
            want = want.fp16();
        }
        let found = hub.fetch(&location, &want)?;
        if !args.json {
            writeln!(io::stdout(), "{spec}  {}", found.path.display())?;
        }
        paths.push(found.path);
    }
    if args.json {
        print_json(&paths)?;
    }
    Ok(())
}
