//! `negkit parity`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use negkit::diffusion::to_rgb;
use negkit::image::{Panel, Sheet, write_png};
use negkit_parity::{Case, CaseReport, Outputs, compare_outputs, find_cases, run_model};

use crate::args::{ComputeArgs, print_json};
use crate::progress;

/// Compare with reference implementations, tensor by tensor.
///
/// The folder holds cases made by eval/parity/models.py: the inputs of a model and the outputs that
/// PyTorch, transformers, diffusers or open_clip computed for them. The exit code is 1 when any
/// output is further from its reference than its case allows. Bounds are for f32, which is what auto
/// is here.
#[derive(Args)]
pub struct ParityArgs {
    /// A folder with cases, at any depth.
    folder: PathBuf,
    /// Run only the cases whose name contains this; repeat it for several.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write the pictures of text-to-image cases to this folder: the reference, ours, and their
    /// difference a hundred times enlarged.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &ParityArgs) -> anyhow::Result<ExitCode> {
    let compute = args.compute.open_exact()?;
    let mut cases = Vec::new();
    for folder in find_cases(&args.folder)? {
        let case = Case::open(&folder)?;
        if args.only.is_empty() || args.only.iter().any(|text| case.name.contains(text)) {
            cases.push(case);
        }
    }
    let bar = progress::bar(cases.len(), "cases");
    let mut reports: Vec<CaseReport> = Vec::new();
    let mut not_run = Vec::new();
    for case in &cases {
        bar.set_message(case.name.clone());
        let start = Instant::now();
        let result = run_model(case, &compute).and_then(|outputs| {
            let report = compare_outputs(case, &outputs, start.elapsed().as_secs_f64())?;
            Ok((report, outputs))
        });
        match result {
            Ok((report, outputs)) => {
                if let Some(folder) = &args.pictures {
                    write_pictures(case, &outputs, folder)?;
                }
                if !args.json {
                    bar.suspend(|| print_report(&report))?;
                }
                reports.push(report);
            }
            Err(error) => {
                bar.suspend(|| eprintln!("{}: {error}", case.name));
                not_run.push(serde_json::json!({
                    "name": case.name,
                    "error": format!("{error:#}"),
                }));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failed = reports.iter().filter(|report| !report.passed()).count() + not_run.len();
    if args.json {
        print_json(&serde_json::json!({ "cases": reports, "not_run": not_run }))?;
    } else {
        writeln!(
            io::stdout(),
            "{} of {} cases within their bounds",
            cases.len() - failed,
            cases.len()
        )?;
    }
    Ok(if failed == 0 && !cases.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_report(report: &CaseReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} ({}, {:.1} s)",
        report.name, report.reference, report.seconds
    )?;
    for c in &report.comparisons {
        let value = match c.measure {
            "mean_absolute" => c.difference.mean_absolute,
            _ => c.difference.relative_l2,
        };
        writeln!(
            out,
            "  {} {:36} {} {value:.2e} of {:.0e}, largest absolute {:.2e}, {:?}",
            if c.passed { "ok  " } else { "FAIL" },
            c.output,
            c.measure,
            c.tolerance,
            c.difference.max_absolute,
            c.shape
        )?;
    }
    Ok(())
}

/// Nothing for a case without a picture.
fn write_pictures(case: &Case, outputs: &Outputs, folder: &Path) -> anyhow::Result<()> {
    const ENLARGED: f64 = 100.;
    let Some(ours) = outputs
        .get("image")
        .filter(|image| image.dim(3).is_ok_and(|c| c == 3))
    else {
        return Ok(());
    };
    let reference = case.expected("image")?;
    let difference = ((ours - &reference)? * ENLARGED)?
        .affine(1., 0.5)?
        .clamp(0f32, 1f32)?;
    let mut sheet = Sheet::new();
    for i in 0..ours.dim(0)? {
        let panel = |all: &negkit::Tensor, caption: &str| -> anyhow::Result<Panel> {
            Ok(Panel {
                image: to_rgb(&all.get(i)?.permute((2, 0, 1))?)?,
                caption: caption.to_owned(),
            })
        };
        sheet = sheet.row(vec![
            panel(&reference, &case.reference)?,
            panel(ours, "negkit")?,
            panel(&difference, "difference, times 100")?,
        ]);
    }
    std::fs::create_dir_all(folder)?;
    write_png(
        folder.join(format!("{}.png", case.name)),
        &sheet.render()?,
        &[],
    )?;
    Ok(())
}
