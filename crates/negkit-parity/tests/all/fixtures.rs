//! Every small case in the repository, against the reference implementations' outputs.

use std::path::{Path, PathBuf};

use negkit_nn::Compute;
use negkit_parity::{Case, find_cases, run_case};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models")
}

#[test]
fn every_fixture_equals_its_reference() {
    let cases = find_cases(&fixtures()).unwrap();
    assert!(cases.len() >= 45, "only {} cases found", cases.len());
    let mut failures = Vec::new();
    for folder in &cases {
        let case = Case::open(folder).unwrap();
        match run_case(&case, &Compute::cpu()) {
            Err(error) => failures.push(format!("{}: {error}", case.name)),
            Ok(report) => {
                assert!(
                    !report.comparisons.is_empty(),
                    "{} compares nothing",
                    case.name
                );
                for c in &report.comparisons {
                    println!(
                        "{:32} {:40} {:.1e} of {:.0e}",
                        case.name, c.output, c.difference.relative_l2, c.tolerance
                    );
                    if !c.passed {
                        failures.push(format!("{} {}: {:?}", case.name, c.output, c.difference));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
