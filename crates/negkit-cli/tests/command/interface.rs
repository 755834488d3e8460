//! Help, completions, and output that nobody reads to its end.

use std::process::{Command, Stdio};

use crate::bench::Bench;

#[test]
fn every_command_has_help() {
    let bench = Bench::new();
    let commands = [
        "",
        "txt2img",
        "segment",
        "encoders",
        "encoders list",
        "encoders inspect",
        "encoders compare",
        "download",
        "parity",
        "data",
        "data check",
        "world",
        "world generate",
        "world show",
        "mini",
        "mini train",
        "mini encoders",
        "mini export",
        "mini verify",
        "mini quality",
        "mini paint",
        "train",
        "train negation",
        "train cost",
        "completions",
    ];
    for command in commands {
        let short = bench.run_line(&format!("{command} -h"), &[]).good().stdout;
        let long = bench
            .run_line(&format!("{command} --help"), &[])
            .good()
            .stdout;
        for help in [&short, &long] {
            assert!(help.contains("Usage: negkit"), "{command}: {help}");
            assert!(help.lines().count() >= 5, "{command}: {help}");
        }
        assert!(long.len() >= short.len(), "{command}");
        // Every flag says what it is for.
        let lines: Vec<&str> = long.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.trim_start().starts_with("--") || line.trim_start().starts_with("-n, --") {
                let described = line.contains("  ") && line.trim().contains("   ");
                let next = lines.get(i + 1).is_some_and(|next| !next.trim().is_empty());
                assert!(described || next, "{command}: nothing about {line}");
            }
        }
    }
    let version = bench.run(["--version"]).good().stdout;
    assert_eq!(
        version.trim(),
        format!("negkit {}", env!("CARGO_PKG_VERSION"))
    );
    bench.run_line("draw", &[]).refused(&["draw"]);
    assert_eq!(bench.run_line("", &[]).code, Some(2));
}

#[test]
fn completions_are_scripts_of_their_shell() {
    let bench = Bench::new();
    for (shell, part) in [
        ("bash", "complete -F _negkit"),
        ("zsh", "#compdef negkit"),
        ("fish", "complete -c negkit"),
    ] {
        let script = bench.run(["completions", shell]).good().stdout;
        assert!(script.contains(part), "{shell}");
        for word in ["txt2img", "segment", "guidance-scale"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // Where the shell itself is here, it must understand the script.
        let file = bench.path(shell);
        std::fs::write(&file, script).unwrap();
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).status() {
            assert!(checked.success(), "{shell} does not understand its script");
        }
    }
    bench.run(["completions", "sh"]).refused(&["sh", "bash"]);
}

#[test]
fn output_that_is_not_read_to_its_end_is_no_error() {
    let bench = Bench::new();
    for line in [
        "completions bash",
        "encoders list --offline",
        "encoders list --json --offline",
        "txt2img --help",
    ] {
        let mut child = bench
            .command(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // As `| true` does.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{line}: {} {stderr}",
            output.status
        );
        assert_eq!(stderr, "", "{line}");
    }
}
