//! `negkit world`: drawn scenes, shown and written as datasets.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use negkit::image::write_png;
use negkit_world::datasets::{
    BenchmarkPlan, Counts, FileRecord, PictureFormat, write_all, write_benchmarks,
};
use negkit_world::language::{caption, full_caption};
use negkit_world::{Place, Scene, contact_sheet};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::progress;

/// Draw scenes of the small world, of which everything is known.
#[derive(Subcommand)]
pub enum WorldCommand {
    Generate(GenerateArgs),
    Benchmarks(BenchmarksArgs),
    Show(ShowArgs),
}

/// Write pictures with captions, masks, references, questions and prompts, in the formats of COCO,
/// RefCOCOg, PhraseCut, VQAv2, TIFA, Neg Score and NegRefCOCOg.
///
/// The same settings give the same bytes. What is there already is not written again, so that the
/// command can be killed and started at any moment; what is damaged is mended.
#[derive(Args)]
pub struct GenerateArgs {
    /// The folder to write to; it holds one dataset.
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    /// Pictures for training.
    #[arg(long, default_value_t = 1000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=MOST_PICTURES))]
    train: u64,
    /// Pictures held out.
    #[arg(long, default_value_t = 200, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=MOST_PICTURES))]
    val: u64,
    /// TIFA prompts.
    #[arg(long, default_value_t = 100, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tifa: u32,
    /// Width and height of the pictures, in pixels.
    #[arg(long, default_value_t = 256, value_name = "PX",
          value_parser = clap::value_parser!(u32).range(SIDES))]
    side: u32,
    /// Decides every scene and every word.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Write what encoders are measured on, of drawn scenes: the counterparts of VALSE, NegRefCOCOg,
/// NegBench, CC-Neg, COCO retrieval, ImageNet and CelebA, in the published forms.
///
/// `negkit eval table2` and its likes draw their own; this is for other programs, sizes and seeds. The
/// same settings give the same bytes, and what is there already is not written again.
#[derive(Args)]
pub struct BenchmarksArgs {
    /// The folder to write to.
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    /// Scenes with captions, for retrieval and for captions against foils.
    #[arg(long, default_value_t = 1000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=MOST_PICTURES))]
    scenes: u64,
    /// Scenes to refer in.
    #[arg(long, default_value_t = 3000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=MOST_PICTURES))]
    references: u64,
    /// Pictures of each class.
    #[arg(long, default_value_t = 20, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    per_class: u64,
    /// Pictures of people.
    #[arg(long, default_value_t = 600, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=999_999))]
    people: u64,
    /// Width and height of the pictures, in pixels.
    #[arg(long, default_value_t = 64, value_name = "PX",
          value_parser = clap::value_parser!(u32).range(SIDES))]
    side: u32,
    /// Decides every scene and every word.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Draw scenes side by side, and print what can be said of them.
#[derive(Args)]
pub struct ShowArgs {
    /// Seed of the first scene; the next has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of scenes.
    #[arg(long, short = 'n', default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Scenes in a row.
    #[arg(long, default_value_t = 4, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    columns: u32,
    /// Width and height of a scene, in pixels. Small ones are shown enlarged.
    #[arg(long, default_value_t = 256, value_name = "PX",
          value_parser = clap::value_parser!(u32).range(SIDES))]
    side: u32,
    /// Only scenes that play there.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(
        Place::ALL.iter().map(|place| place.name())))]
    place: Option<String>,
    /// The PNG file to write.
    #[arg(long, short, default_value = "out/world.png", value_name = "FILE")]
    out: PathBuf,
}

/// Sides at which a scene can be recognised and a picture still be stored.
const SIDES: std::ops::RangeInclusive<i64> = 16..=4096;
/// COCO's file names have room for twelve digits; this is far below, and above any use.
const MOST_PICTURES: u64 = 100_000_000;

/// Runs the command.
pub fn run(command: &WorldCommand) -> anyhow::Result<()> {
    match command {
        WorldCommand::Generate(args) => generate(args),
        WorldCommand::Benchmarks(args) => benchmarks(args),
        WorldCommand::Show(args) => show(args),
    }
}

fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let counts = Counts {
        train: args.train,
        val: args.val,
        tifa: args.tifa as usize,
    };
    let bar = progress::bar(0, "dataset");
    let dataset = write_all(&args.out, args.seed, counts, args.side, &mut |at| {
        bar.set_length(at.total);
        bar.set_position(at.done);
        bar.set_message(at.what.to_owned());
    });
    bar.finish_and_clear();
    report(&args.out, &dataset?.files, "dataset.json")
}

fn benchmarks(args: &BenchmarksArgs) -> anyhow::Result<()> {
    let plan = BenchmarkPlan {
        seed: args.seed,
        scenes: args.scenes,
        references: args.references,
        per_class: args.per_class,
        people: args.people,
        side: args.side,
        format: PictureFormat::Png,
    };
    let bar = progress::bar(0, "benchmarks");
    let written = write_benchmarks(&args.out, &plan, &mut |at| {
        bar.set_length(at.total);
        bar.set_position(at.done);
        bar.set_message(at.what.to_owned());
    });
    bar.finish_and_clear();
    report(&args.out, &written?.files, "benchmarks.json")
}

/// What was written: a line for each folder.
fn report(
    folder: &Path,
    written: &BTreeMap<String, FileRecord>,
    index: &str,
) -> anyhow::Result<()> {
    let mut parts: Vec<(&str, usize, u64)> = Vec::new();
    for (path, file) in written {
        let part = path.split_once('/').map_or("", |(part, _)| part);
        match parts.iter_mut().find(|(name, _, _)| *name == part) {
            Some((_, files, bytes)) => {
                *files += 1;
                *bytes += file.bytes;
            }
            None => parts.push((part, 1, file.bytes)),
        }
    }
    let mut out = io::stdout().lock();
    for (part, files, bytes) in &parts {
        let place = folder.join(part);
        let what = if *files == 1 { "file" } else { "files" };
        let megabytes = *bytes as f64 / 1e6;
        writeln!(
            out,
            "{}  {files} {what}, {megabytes:.1} MB",
            place.display()
        )?;
    }
    let list = folder.join(index);
    writeln!(out, "{}  hashes of all files", list.display())?;
    Ok(())
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let place = args.place.as_deref().and_then(Place::from_name);
    let wanted = |scene: &Scene| place.is_none_or(|place| scene.place == place);
    let scenes: Vec<Scene> = (args.seed..=u64::MAX)
        .map(Scene::sample)
        .filter(wanted)
        .take(args.count as usize)
        .collect();
    let sheet = contact_sheet(&scenes, args.side, args.columns as usize)
        .context("these scenes do not fit on a sheet; ask for fewer, or for smaller ones")?;
    if let Some(folder) = args.out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_png(&args.out, &sheet, &[])?;
    let mut out = io::stdout().lock();
    for scene in &scenes {
        let said = caption(scene, &mut ChaCha8Rng::seed_from_u64(scene.seed));
        writeln!(out, "{:>6}  {}", scene.seed, said.text)?;
        writeln!(out, "        {}", full_caption(scene))?;
    }
    writeln!(out, "{}", args.out.display())?;
    Ok(())
}
