//! `negkit captions detector`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use negkit_data::coco::Instances;
use negkit_detect_onnx::{
    ClassWords, Count, DetectError, Detector, DetectorVerifier, Measured, Thresholds, measure,
};

use crate::args::print_json;
use crate::progress;

/// Which detector, and what its scores mean.
#[derive(Args)]
#[command(next_help_heading = "Detector")]
pub struct DetectorSettings {
    /// The detector's classes, a line each. If not given, coco.names beside the model.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Scores under this one mean that an object is not there.
    #[arg(long, default_value_t = Thresholds::default().no_below, value_name = "SCORE")]
    pub no_below: f32,
    /// Scores from this one on mean that it is there; in between it cannot be told.
    #[arg(long, default_value_t = Thresholds::default().yes_from, value_name = "SCORE")]
    pub yes_from: f32,
}

impl DetectorSettings {
    /// The verifier of that model.
    pub fn open(&self, model: &Path) -> anyhow::Result<DetectorVerifier> {
        let detector = match &self.names {
            Some(names) => Detector::open(model, names)?,
            None => Detector::open_with_names_beside(model).map_err(|error| match error {
                DetectError::Read { .. } | DetectError::Names { .. } => anyhow::Error::from(error)
                    .context("without --names, the classes are taken from beside the model"),
                other => other.into(),
            })?,
        };
        let words = ClassWords::coco(detector.classes())?;
        let thresholds = Thresholds {
            no_below: self.no_below,
            yes_from: self.yes_from,
        };
        DetectorVerifier::new(detector, words, thresholds)
            .context("--no-below and --yes-from do not fit")
    }
}

/// Measure an ONNX detector as verifier on annotated photos.
///
/// Every class is asked of every photo, and the verdicts are compared with the annotations; so are
/// the boxes, at an intersection over union of 0.5. Look at this before you rely on a detector.
#[derive(Args)]
pub struct DetectorArgs {
    /// The ONNX model, of FastestDet's form.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// COCO's instances_*.json.
    #[arg(long, value_name = "FILE")]
    instances: PathBuf,
    /// The folder of the photos.
    #[arg(long, value_name = "FOLDER")]
    images: PathBuf,
    /// Print the result as JSON, with the boxes of each class.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DetectorSettings,
}

/// Runs the command.
pub fn run(args: &DetectorArgs) -> anyhow::Result<()> {
    let verifier = args.settings.open(&args.model)?;
    let annotated = Instances::open(&args.instances)?;
    let bar = progress::bar(annotated.pictures.len(), "photos");
    let found = measure(&verifier, &annotated, &args.images, &|| bar.inc(1));
    bar.finish_and_clear();
    let found = found.context("the detector could not be measured")?;
    if args.json {
        return print_json(&found);
    }
    print(&found)
}

fn print(found: &Measured) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{} photos, {} classes", found.photos, found.classes)?;
    writeln!(out, "{:<14}{:>9}{:>8}", "", "precision", "recall")?;
    for (what, count) in [("yes", found.yes), ("no", found.no), ("boxes", found.boxes)] {
        let Count {
            right,
            wrong,
            missed,
        } = count;
        let shown = |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{s:.3}"));
        writeln!(
            out,
            "{what:<14}{:>9}{:>8}  ({right} right, {wrong} wrong, {missed} missed)",
            shown(count.precision()),
            shown(count.recall())
        )?;
    }
    writeln!(
        out,
        "cannot tell   {} of {}, {} of them there",
        found.unsure,
        found.photos * found.classes,
        found.unsure_there
    )?;
    if !found.unknown.is_empty() {
        writeln!(
            out,
            "not asked, for they are no classes of the detector: {}",
            found.unknown.join(", ")
        )?;
    }
    Ok(())
}
