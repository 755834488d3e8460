//! `negkit eval table2`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use negkit_eval::PaperFolder;
use negkit_eval::measuring::{Scale, Table};
use negkit_eval::table2::{mini, paper};

use super::measure::MeasureArgs;

/// What encoders know of negation, and of all else: VALSE existence, NegRefCOCOg, ImageNet and COCO.
///
/// Pictures are encoded once for all encoders, and every vector is kept for later runs. When all is
/// measured, summary.json, summary.csv and table.md are written, with intervals over items, the spread
/// over trainings with different seeds, and the paper's numbers beside.
#[derive(Args)]
pub struct Table2Args {
    /// mini: drawn scenes and the small models. paper: the published files in --data.
    #[arg(long, default_value = "mini")]
    pub scale: ScaleArg,
    /// At the paper's scale, the folder with valse, negrefcocog, train2014, imagenet and coco; see
    /// docs/benchmarks.md for the places.
    #[arg(long, value_name = "FOLDER", required_if_eq("scale", "paper"))]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Whose pictures and models.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScaleArg {
    /// Drawn scenes and the small models.
    Mini,
    /// Published files.
    Paper,
}

/// Runs the command.
pub fn run(args: &Table2Args) -> anyhow::Result<()> {
    let (scale, benchmarks) = match args.scale {
        ScaleArg::Mini => (Scale::Mini, mini(args.measure.drawn()?)?),
        ScaleArg::Paper => {
            let data = args
                .data
                .as_ref()
                .context("--scale paper needs --data FOLDER")?;
            (Scale::Paper, paper(&PaperFolder::new(data))?)
        }
    };
    let encoders = ["stock", "conclip", "negationclip"];
    args.measure
        .measure((Table::Two, "table2"), scale, benchmarks, &encoders)
}
