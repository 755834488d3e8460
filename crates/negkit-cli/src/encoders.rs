//! `negkit encoders`.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use negkit::encoders::{self, CheckpointSummary, EncoderComparison};
use negkit::hub::{ClipSize, Location, ModelKind, Want};
use serde::Serialize;

use crate::args::{ComputeArgs, HubArgs, models, print_json};
use crate::progress;

/// The subcommands of `negkit encoders`.
#[derive(Subcommand)]
pub enum EncodersCommand {
    List(ListArgs),
    Inspect(InspectArgs),
    Compare(CompareArgs),
}

/// List the models that are known by name, and whether they are on this machine.
#[derive(Args)]
pub struct ListArgs {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Say what a checkpoint is: its format, naming, sizes, tensors and hash, and what it fits.
#[derive(Args)]
pub struct InspectArgs {
    /// A file, a folder, a hub id or a known name.
    model: String,
    /// The size to take where the name is of a family: ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14@336px.
    #[arg(long, default_value = "ViT-L/14", value_parser = parse_size)]
    size: ClipSize,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// Print the result as JSON, with every tensor.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Compare two text encoders on prompts: how alike they see each, and how far apart each of them
/// holds every two prompts.
#[derive(Args)]
pub struct CompareArgs {
    /// The first encoder.
    a: String,
    /// The second encoder.
    b: String,
    /// A prompt; repeat it for several.
    #[arg(long = "prompt", short, value_name = "PROMPT", default_values = [
        "a photo of a room with chairs",
        "a photo of a room with no chairs",
    ])]
    prompts: Vec<String>,
    /// The size to take where a name is of a family: ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14@336px.
    #[arg(long, default_value = "ViT-L/14", value_parser = parse_size)]
    size: ClipSize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_size(text: &str) -> Result<ClipSize, String> {
    ClipSize::parse(text).ok_or_else(|| {
        let sizes: Vec<String> = ClipSize::ALL.iter().map(ToString::to_string).collect();
        format!("expected one of {}", sizes.join(", "))
    })
}

/// Runs the command.
pub fn run(command: &EncodersCommand) -> anyhow::Result<()> {
    match command {
        EncodersCommand::List(args) => list(args),
        EncodersCommand::Inspect(args) => inspect(args),
        EncodersCommand::Compare(args) => compare(args),
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    size: Option<String>,
    id: Option<String>,
    what: String,
    licence: String,
    local: Option<std::path::PathBuf>,
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let hub = args.hub.hub()?;
    let mut rows = Vec::new();
    for model in &hub.table().models {
        let mut local = None;
        for kind in model.kinds() {
            let mut want = Want::new(kind);
            want.size = model.size;
            let location = Location::Known {
                name: model.name.clone(),
                size: model.size,
                revision: None,
            };
            local = local.or(hub.find_local(&location, &want)?.map(|found| found.path));
        }
        rows.push(Listed {
            name: model.name.clone(),
            size: model.size.map(|size| size.to_string()),
            id: model.id.clone(),
            what: model.what.clone(),
            licence: model.licence.name.clone(),
            local,
        });
    }
    if args.json {
        return print_json(&rows);
    }
    let mut out = io::stdout().lock();
    for row in &rows {
        let size = row
            .size
            .as_deref()
            .map(|size| format!(":{size}"))
            .unwrap_or_default();
        let name = format!("{}{size}", row.name);
        writeln!(out, "{name:28} {}", row.what)?;
        writeln!(
            out,
            "{:28} {}",
            "",
            row.id
                .as_deref()
                .unwrap_or("not on the hub; see weights/README.md")
        )?;
        match &row.local {
            Some(path) => writeln!(out, "{:28} here: {}", "", path.display())?,
            None => writeln!(out, "{:28} not on this machine", "")?,
        }
    }
    Ok(())
}

fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let hub = args.hub.hub()?;
    let want = Want::new(ModelKind::TextEncoder).size(args.size);
    let found = hub.resolve(&Location::parse(&args.model)?, &want)?;
    let spinner = progress::spinner("reading and hashing");
    let summary = encoders::inspect(&found.path)?;
    spinner.finish_and_clear();
    if args.json {
        return print_json(&summary);
    }
    Ok(print_summary(&summary, args.tensors)?)
}

fn print_summary(summary: &CheckpointSummary, tensors: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mib = summary.file_bytes as f64 / f64::from(1 << 20);
    writeln!(out, "file      {}", summary.origin)?;
    writeln!(out, "format    {}, {mib:.1} MiB", summary.format)?;
    writeln!(out, "naming    {}", summary.naming)?;
    writeln!(
        out,
        "sha256    {}",
        summary.sha256.as_deref().unwrap_or("none")
    )?;
    writeln!(
        out,
        "tensors   {}, {} elements",
        summary.tensors.len(),
        summary.elements
    )?;
    match &summary.text_tower {
        Some(tower) => {
            let projection = tower
                .projection_dim
                .map_or("none".to_owned(), |n| n.to_string());
            writeln!(
                out,
                "text      {} layers, hidden size {}, {} heads, projection {projection}, context \
                 {}, vocabulary {}, {}",
                tower.layers,
                tower.hidden_size,
                tower.heads,
                tower.context_length,
                tower.vocab_size,
                tower.activation
            )?;
            let fits = if tower.fits.is_empty() {
                "no published engine of this toolkit".to_owned()
            } else {
                tower.fits.join("; ")
            };
            writeln!(out, "fits      {fits}")?;
        }
        None => writeln!(
            out,
            "text      {}",
            summary.text_tower_error.as_deref().unwrap_or("none")
        )?,
    }
    if tensors {
        for tensor in &summary.tensors {
            writeln!(
                out,
                "  {:5} {:?} {}",
                tensor.dtype, tensor.shape, tensor.name
            )?;
        }
    }
    Ok(())
}

fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let models = models(&args.compute, &args.hub)?;
    let spinner = progress::spinner("loading and encoding");
    let a = models.text_encoder(&args.a, args.size)?;
    let b = models.text_encoder(&args.b, args.size)?;
    let prompts: Vec<&str> = args.prompts.iter().map(String::as_str).collect();
    let comparison = encoders::compare(&*a, &*b, &prompts)?;
    spinner.finish_and_clear();
    if args.json {
        return print_json(&comparison);
    }
    Ok(print_comparison(&comparison)?)
}

fn print_comparison(comparison: &EncoderComparison) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "cosine of {} and {}, prompt by prompt",
        comparison.a, comparison.b
    )?;
    writeln!(out, "{:>9} {:>9} {:>9}", "pooled", "projected", "hidden")?;
    for row in &comparison.prompts {
        let projected = row
            .projected
            .map_or("-".to_owned(), |value| format!("{value:.4}"));
        writeln!(
            out,
            "{:>9.4} {projected:>9} {:>9.4}  {}",
            row.pooled, row.hidden_states, row.prompt
        )?;
    }
    if !comparison.pairs.is_empty() {
        writeln!(
            out,
            "\ncosine of two prompts within each encoder (1: told apart by nothing)"
        )?;
        writeln!(out, "{:>9} {:>9}", "first", "second")?;
        for pair in &comparison.pairs {
            writeln!(
                out,
                "{:>9.4} {:>9.4}  {} | {}",
                pair.a, pair.b, pair.first, pair.second
            )?;
        }
    }
    Ok(())
}
