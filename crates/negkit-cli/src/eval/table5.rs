//! `negkit eval table5`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use negkit::mini::{self, ModelChoice};
use negkit::txt2img::NamedEncoder;
use negkit::{ClipSize, Models, is_own_encoder};
use negkit_data::WordList;
use negkit_data::phrasecut::Split;
use negkit_data::refcoco::Splitter;
use negkit_eval::table5::{
    self, ClipSegMarker, Dataset, DatasetSource, PAPER_THRESHOLD, Settings, Table5, Table5Data,
    WorldCounts, finals, write_world,
};
use negkit_eval::{ComputeUsed, ModelUsed, PaperFolder, RunFolder};
use negkit_mini::recipe::SEGMENTATION_SIDE;

use super::{Scale, report, report_left, report_outlook};
use crate::args::{ComputeArgs, DatasetArg, HubArgs, IntervalArgs, PartArgs, models, parse_split};
use crate::progress;

/// CLIPSeg at the paper's scale, where none is named.
const PAPER_MODEL: &str = "clipseg-rd64-refined";

/// Referring segmentation with each text encoder: PhraseCut, and the negated part of RefCOCOg.
///
/// A picture is encoded once for all its phrases and all encoders. The run is a folder: killed at any
/// moment, the same command goes on where it was. When all pictures are done it writes summary.json,
/// summary.csv (every score at 49 thresholds) and table.md, which lays the paper's numbers beside. At
/// scale mini the scenes are drawn for --dry-run, too.
#[derive(Args)]
pub struct Table5Args {
    /// The folder of the run.
    #[arg(long, short, default_value = "out/table5", value_name = "FOLDER")]
    out: PathBuf,
    /// mini: drawn scenes (written into .world of the run's folder) and the small models. paper: the
    /// published datasets in --data and CLIPSeg's published weights.
    #[arg(long, default_value = "mini")]
    scale: Scale,
    /// At the paper's scale, the folder with phrasecut (or VGPhraseCut_v0), refcocog and train2014.
    /// `negkit data check` says what of it is there.
    #[arg(long, value_name = "FOLDER", required_if_eq("scale", "paper"))]
    data: Option<PathBuf>,
    /// CLIPSeg: a folder, a file, a hub id or a known name. If not given, the small model, or at the
    /// paper's scale clipseg-rd64-refined.
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// For a .pth file with the decoder alone: the CLIP (ViT-B/16) that belongs to it.
    #[arg(long, value_name = "MODEL")]
    clip: Option<String>,
    /// A text encoder; repeat it. The others are compared with the first. `stock` is the model's own.
    #[arg(
        long = "text-encoder",
        short = 'e',
        default_values = ["stock", "conclip", "negationclip"],
        value_name = "ENCODER"
    )]
    text_encoders: Vec<String>,
    /// Only this dataset.
    #[arg(long)]
    only: Option<DatasetArg>,
    /// The words, separated by commas, of which an expression of RefCOCOg must have one.
    #[arg(long, value_delimiter = ',', default_values = ["no", "not", "without"])]
    words: Vec<String>,
    /// At the paper's scale, the split of PhraseCut.
    #[arg(long, default_value = "test", value_parser = parse_split)]
    phrasecut_split: Split,
    /// At the paper's scale, who divided RefCOCOg into splits: umd or google.
    #[arg(long, default_value = "umd", value_parser = parse_splitter)]
    refcocog_splitter: Splitter,
    /// At the paper's scale, the split of RefCOCOg. If not given, all: which one the paper has is not
    /// known, and no part of CLIPSeg was trained on any.
    #[arg(long, value_name = "SPLIT")]
    refcocog_split: Option<String>,
    /// Probability above which a pixel is marked, where scores are reported; 49 thresholds are always
    /// counted, and the nearest of them is taken. If not given, 0.3 as in CLIPSeg's paper, or what the
    /// small model's card tells.
    #[arg(long, short, value_parser = parse_threshold)]
    threshold: Option<f32>,
    /// At most so many pictures of each dataset.
    #[arg(long, value_name = "N")]
    pictures: Option<usize>,
    #[command(flatten)]
    intervals: IntervalArgs,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

fn parse_threshold(text: &str) -> Result<f32, String> {
    let threshold = text.parse().ok().filter(|p| (0. ..=1.).contains(p));
    threshold.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn parse_splitter(text: &str) -> Result<Splitter, String> {
    let known = [Splitter::Umd, Splitter::Google];
    let splitter = known.into_iter().find(|splitter| splitter.name() == text);
    splitter.ok_or_else(|| "expected umd or google".to_owned())
}

/// Runs the command.
pub fn run(args: &Table5Args) -> anyhow::Result<()> {
    let spinner = progress::spinner("reading the datasets");
    let words = WordList::new(&args.words);
    let data = Table5Data::open(&sources(args)?, &words, args.pictures)?;
    spinner.set_message("loading the models");
    let models = models(&args.compute, &args.hub)?;
    let named = args.model.as_deref().or(args.scale.paper(PAPER_MODEL));
    let chosen = models.choose(named, mini::CLIPSEG)?;
    let model = models.clipseg(chosen.spec(), args.clip.as_deref())?;
    let encoders = encoders(args, &models, &chosen)?;
    spinner.set_message("hashing the weights");
    let ids = encoders
        .iter()
        .map(|(name, encoder)| {
            let weights = &encoder.as_ref().unwrap_or(model.text()).info().weights;
            ModelUsed::new(name, weights)
        })
        .collect::<Result<_, _>>()?;
    let threshold = args.threshold.unwrap_or(match chosen.mini() {
        Some(_) => chosen.mask_threshold(),
        None => PAPER_THRESHOLD,
    });
    let settings = Settings {
        scale: match args.scale {
            Scale::Mini => table5::Scale::Mini,
            Scale::Paper => table5::Scale::Paper,
        },
        compute: ComputeUsed::from(models.compute()),
        threshold: hundredths(threshold),
        words: words.words().to_vec(),
        model: ModelUsed::new(chosen.name(), model.weights())?,
        bootstrap: args.intervals.bootstrap(),
        encoders: ids,
        datasets: data.files.clone(),
    };
    let table = Table5::new(settings, data)?;
    spinner.finish_and_clear();
    let mut marker = ClipSegMarker::new(model, encoders);
    if args.part.dry_run {
        return dry_run(args, &table, &mut marker);
    }
    let run = RunFolder::open(&args.out, table.plan()?)?;
    let worked = table.run(&run, args.part.shard, &mut marker)?;
    if worked.left > 0 {
        return report_left(worked);
    }
    let found = finals(&run)?;
    run.write_finals(&found)?;
    report(&run, &found.table)
}

/// As `run.toml` shows it: 0.3, not the nearest f32.
fn hundredths(threshold: f32) -> f64 {
    (f64::from(threshold) * 100.).round() / 100.
}

fn encoders(
    args: &Table5Args,
    models: &Models,
    chosen: &ModelChoice,
) -> anyhow::Result<Vec<NamedEncoder>> {
    let open = |spec: &String| {
        let encoder = match is_own_encoder(spec) {
            true => None,
            false => Some(models.text_encoder(&chosen.encoder(spec)?, ClipSize::VitB16)?),
        };
        Ok((spec.clone(), encoder))
    };
    args.text_encoders.iter().map(open).collect()
}

fn sources(args: &Table5Args) -> anyhow::Result<Vec<DatasetSource>> {
    let wanted = |dataset| args.only.is_none_or(|only| only.dataset() == dataset);
    match (args.scale, &args.data) {
        (Scale::Mini, None) => {
            let world = drawn(&args.out)?;
            let all = write_world(&world, SEGMENTATION_SIDE, WorldCounts::default())?;
            Ok(all.into_iter().filter(|s| wanted(s.dataset())).collect())
        }
        (Scale::Mini, Some(_)) => {
            anyhow::bail!(
                "--scale mini draws its own scenes: leave out --data, or take --scale paper"
            )
        }
        (Scale::Paper, data) => {
            let data = data.as_ref().context("--scale paper needs --data FOLDER")?;
            let folder = PaperFolder::new(data);
            let mut found = Vec::new();
            if wanted(Dataset::PhraseCut) {
                found.push(folder.phrasecut(args.phrasecut_split)?);
            }
            if wanted(Dataset::RefCocog) {
                let split = args.refcocog_split.clone();
                found.push(folder.refcocog(args.refcocog_splitter, split)?);
            }
            Ok(found)
        }
    }
}

/// The folder of the drawn scenes, within that of the run.
fn drawn(out: &Path) -> anyhow::Result<PathBuf> {
    let folder = out.join(".world");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn dry_run(args: &Table5Args, table: &Table5, marker: &mut ClipSegMarker) -> anyhow::Result<()> {
    let outlook = RunFolder::outlook(&args.out, &table.plan()?, args.part.shard)?;
    let calls = table.calls(|position| args.part.shard.holds(position));
    let encoders = args.text_encoders.len();
    writeln!(
        io::stdout(),
        "{} pictures are encoded once each, {} phrases once with each of {encoders} encoders, and {} \
         masks decoded",
        calls.pictures,
        calls.phrases,
        calls.masks
    )?;
    report_outlook(args.part.shard, "a picture", &outlook, || {
        Ok(table.measure(marker)?)
    })
}
