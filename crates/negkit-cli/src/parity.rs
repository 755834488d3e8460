//! `negkit parity`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use negkit::Compute;
use negkit_parity::{Case, CaseReport, find_cases, run_case};

use crate::args::{ComputeArgs, print_json};
use crate::progress;

/// Compare with reference implementations, tensor by tensor.
///
/// The folder holds cases made by eval/parity/models.py: the inputs of a model and the outputs that
/// PyTorch, transformers, diffusers or open_clip computed for them. The exit code is 1 when any
/// output is further from its reference than its case allows.
#[derive(Args)]
pub struct ParityArgs {
    /// A folder with cases, at any depth.
    folder: PathBuf,
    /// Run only the cases whose name contains this; repeat it for several.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &ParityArgs) -> anyhow::Result<ExitCode> {
    let compute = Compute::open(args.compute.device, args.compute.dtype)?;
    let mut cases = Vec::new();
    for folder in find_cases(&args.folder)? {
        let case = Case::open(&folder)?;
        if args.only.is_empty() || args.only.iter().any(|text| case.name.contains(text)) {
            cases.push(case);
        }
    }
    let bar = progress::bar(cases.len(), "cases");
    let mut reports: Vec<CaseReport> = Vec::new();
    let mut broken = 0;
    for case in &cases {
        bar.set_message(case.name.clone());
        match run_case(case, &compute) {
            Ok(report) => {
                if !args.json {
                    bar.suspend(|| print_report(&report));
                }
                reports.push(report);
            }
            Err(error) => {
                broken += 1;
                bar.suspend(|| eprintln!("{}: {error}", case.name));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failed = reports.iter().filter(|report| !report.passed()).count() + broken;
    if args.json {
        print_json(&reports)?;
    } else {
        println!(
            "{} of {} cases within their bounds",
            cases.len() - failed,
            cases.len()
        );
    }
    Ok(if failed == 0 && !cases.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_report(report: &CaseReport) {
    println!(
        "{} ({}, {:.1} s)",
        report.name, report.reference, report.seconds
    );
    for c in &report.comparisons {
        let value = match c.measure {
            "mean_absolute" => c.difference.mean_absolute,
            _ => c.difference.relative_l2,
        };
        println!(
            "  {} {:36} {} {value:.2e} of {:.0e}, largest absolute {:.2e}, {:?}",
            if c.passed { "ok  " } else { "FAIL" },
            c.output,
            c.measure,
            c.tolerance,
            c.difference.max_absolute,
            c.shape
        );
    }
}
