//! `negkit eval table3`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use negkit_eval::PaperFolder;
use negkit_eval::measuring::{Scale, Table};
use negkit_eval::table3::{mini, paper};

use super::measure::MeasureArgs;
use super::table2::ScaleArg;

/// Captions of which pipeline NegationCLIP learns most from: VALSE existence and NegRefCOCOg with
/// Rand-P1, P1, P2 and both.
///
/// As table2. At the paper's scale the ablations are files of one's own, for none is published:
/// -e p1=mine.pth.
#[derive(Args)]
pub struct Table3Args {
    /// mini: drawn scenes and the small models. paper: the published files in --data.
    #[arg(long, default_value = "mini")]
    scale: ScaleArg,
    /// At the paper's scale, the folder with valse, negrefcocog and train2014.
    #[arg(long, value_name = "FOLDER", required_if_eq("scale", "paper"))]
    data: Option<PathBuf>,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// The encoders of the table, as they lie beside the small models.
const MINI: [&str; 5] = [
    "stock",
    "rand-p1=negationclip-rand-p1",
    "p1=negationclip-p1",
    "p2=negationclip-p2",
    "p1+p2=negationclip",
];

/// Runs the command.
pub fn run(args: &Table3Args) -> anyhow::Result<()> {
    let (scale, benchmarks, encoders) = match args.scale {
        ScaleArg::Mini => (Scale::Mini, mini(args.measure.drawn()?)?, &MINI[..]),
        ScaleArg::Paper => {
            let data = args
                .data
                .as_ref()
                .context("--scale paper needs --data FOLDER")?;
            let folder = PaperFolder::new(data);
            (
                Scale::Paper,
                paper(&folder)?,
                &["stock", "p1+p2=negationclip"][..],
            )
        }
    };
    args.measure
        .measure((Table::Three, "table3"), scale, benchmarks, encoders)
}
