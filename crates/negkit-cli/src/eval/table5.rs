//! `negkit eval table5`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::HumanDuration;
use negkit::mini::{self, ModelChoice};
use negkit::txt2img::NamedEncoder;
use negkit::{ClipSize, Models, is_own_encoder};
use negkit_data::WordList;
use negkit_data::phrasecut::Split;
use negkit_data::refcoco::Splitter;
use negkit_eval::table5::{
    ClipSegMarker, Dataset, DatasetSource, ModelId, PAPER_THRESHOLD, PaperFolder, Scale, Settings,
    Table5, Table5Data, WorldCounts, finals, write_world,
};
use negkit_eval::{RunFolder, Shard};
use negkit_metrics::Bootstrap;
use negkit_mini::recipe::SEGMENTATION_SIDE;

use crate::args::{ComputeArgs, HubArgs, models};
use crate::progress;

/// CLIPSeg at the paper's scale, where none is named.
const PAPER_MODEL: &str = "clipseg-rd64-refined";

/// Referring segmentation with each text encoder: PhraseCut, and the negated part of RefCOCOg.
///
/// A picture is encoded once for all its phrases and all encoders. The run is a folder: killed at any
/// moment, the same command goes on where it was. When all pictures are done it writes summary.json,
/// summary.csv (every score at 49 thresholds) and table.md, which lays the paper's numbers beside.
#[derive(Args)]
pub struct Table5Args {
    /// The folder of the run.
    #[arg(long, short, default_value = "out/table5", value_name = "FOLDER")]
    out: PathBuf,
    /// mini: drawn scenes (written into .world of the run's folder) and the small models. paper: the
    /// published datasets in --data and CLIPSeg's published weights.
    #[arg(long, default_value = "mini")]
    scale: ScaleArg,
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
    /// How often pictures are drawn for the intervals.
    #[arg(long, default_value_t = Bootstrap::default().resamples)]
    resamples: usize,
    /// Do the I-th of N parts only, such as 2/4; in the same folder, or to be merged later.
    #[arg(long, default_value = "1/1", value_name = "I/N")]
    shard: Shard,
    /// Say what would be done, and how long it takes if some of it was done before.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScaleArg {
    Mini,
    Paper,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DatasetArg {
    Phrasecut,
    Refcocog,
}

impl DatasetArg {
    fn dataset(self) -> Dataset {
        match self {
            Self::Phrasecut => Dataset::PhraseCut,
            Self::Refcocog => Dataset::RefCocog,
        }
    }
}

fn parse_threshold(text: &str) -> Result<f32, String> {
    let threshold = text.parse().ok().filter(|p| (0. ..=1.).contains(p));
    threshold.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn parse_split(text: &str) -> Result<Split, String> {
    let split = Split::ALL.into_iter().find(|split| split.name() == text);
    split.ok_or_else(|| "expected train, val, test or miniv".to_owned())
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
    let named = match (&args.model, args.scale) {
        (Some(model), _) => Some(model.as_str()),
        (None, ScaleArg::Paper) => Some(PAPER_MODEL),
        (None, ScaleArg::Mini) => None,
    };
    let chosen = models.choose(named, mini::CLIPSEG)?;
    let model = models.clipseg(chosen.spec(), args.clip.as_deref())?;
    let encoders = encoders(args, &models, &chosen)?;
    spinner.set_message("hashing the weights");
    let ids = encoders
        .iter()
        .map(|(name, encoder)| {
            let weights = &encoder.as_ref().unwrap_or(model.text()).info().weights;
            model_id(name, weights.sha256()?)
        })
        .collect::<anyhow::Result<_>>()?;
    let threshold = args.threshold.unwrap_or(match chosen.mini() {
        Some(_) => chosen.mask_threshold(),
        None => PAPER_THRESHOLD,
    });
    let settings = Settings {
        scale: match args.scale {
            ScaleArg::Mini => Scale::Mini,
            ScaleArg::Paper => Scale::Paper,
        },
        dtype: models.compute().dtype.as_str().to_owned(),
        threshold: hundredths(threshold),
        words: words.words().to_vec(),
        model: model_id(chosen.name(), model.weights().sha256()?)?,
        bootstrap: Bootstrap {
            resamples: args.resamples,
            ..Bootstrap::default()
        },
        encoders: ids,
        datasets: data.files.clone(),
    };
    let table = Table5::new(settings, data)?;
    spinner.finish_and_clear();
    if args.dry_run {
        return dry_run(args, &table);
    }
    let run = RunFolder::open(&args.out, table.plan()?)?;
    let worked = table.run(&run, args.shard, &mut ClipSegMarker::new(model, encoders))?;
    let mut out = io::stdout().lock();
    if worked.left > 0 {
        writeln!(
            out,
            "{} pictures done, {} left for other shards; the last one in this folder writes the \
             table, and `negkit eval merge` that of several folders",
            worked.done, worked.left
        )?;
        return Ok(());
    }
    let found = finals(&run)?;
    run.write_finals(&found)?;
    writeln!(out, "{}", found.table)?;
    writeln!(out, "{}", run.path().join("table.md").display())?;
    Ok(())
}

/// As `run.toml` shows it: 0.3, not the nearest f32.
fn hundredths(threshold: f32) -> f64 {
    (f64::from(threshold) * 100.).round() / 100.
}

fn model_id(name: &str, sha256: Option<&str>) -> anyhow::Result<ModelId> {
    Ok(ModelId {
        name: name.to_owned(),
        sha256: sha256.map(str::to_owned),
    })
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
        (ScaleArg::Mini, None) => {
            let world = drawn(&args.out)?;
            let all = write_world(&world, SEGMENTATION_SIDE, WorldCounts::default())?;
            Ok(all.into_iter().filter(|s| wanted(s.dataset())).collect())
        }
        (ScaleArg::Mini, Some(_)) => {
            anyhow::bail!(
                "--scale mini draws its own scenes: leave out --data, or take --scale paper"
            )
        }
        (ScaleArg::Paper, data) => {
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

fn dry_run(args: &Table5Args, table: &Table5) -> anyhow::Result<()> {
    let outlook = RunFolder::outlook(&args.out, &table.plan()?, args.shard)?;
    let (pictures, phrases) = table.sizes();
    let encoders = args.text_encoders.len();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{pictures} pictures are encoded once each, and {phrases} phrases decoded with each of \
         {encoders} encoders: {} masks",
        phrases * encoders
    )?;
    let left = outlook.items - outlook.done;
    writeln!(
        out,
        "shard {}: {} pictures, {} done, {left} left",
        args.shard, outlook.items, outlook.done
    )?;
    match outlook.each {
        Some(each) => writeln!(
            out,
            "about {} left, at {:.2} s a picture so far",
            HumanDuration(each.mul_f64(left as f64)),
            each.as_secs_f64()
        )?,
        None => writeln!(
            out,
            "how long that takes is not known before a first picture is done in this folder"
        )?,
    }
    Ok(())
}
