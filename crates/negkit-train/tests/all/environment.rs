//! A program that starts over is the same program with the same arguments, in another environment.
#![cfg(unix)]

use std::env;
use std::process::Command;

use negkit_train::start_over_to_train;

const MARK: &str = "NEGKIT_TEST_STARTS_OVER";
const NAME: &str = "environment::a_program_starts_over_with_its_arguments_and_what_training_wants";

/// What the program says that starts over: this very test, with a mark.
fn started(variables: &[(&str, &str)]) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env_remove("CANDLE_NUM_THREADS")
        .env_remove("MIMALLOC_PURGE_DELAY")
        .env(MARK, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_program_starts_over_with_its_arguments_and_what_training_wants() {
    if env::var_os(MARK).is_some() {
        println!("once");
        start_over_to_train();
        let value = |name| env::var(name).unwrap();
        let (threads, delay) = (value("CANDLE_NUM_THREADS"), value("MIMALLOC_PURGE_DELAY"));
        println!("threads {threads}, delay {delay}");
        return;
    }
    let neither = started(&[]);
    assert!(neither.contains("threads 1, delay -1"), "{neither}");
    assert_eq!(neither.matches("once").count(), 2, "{neither}");
    // What somebody set by hand stays, and with nothing to set there is nothing to start over for.
    let one = started(&[("CANDLE_NUM_THREADS", "3")]);
    assert!(one.contains("threads 3, delay -1"), "{one}");
    let both = started(&[("CANDLE_NUM_THREADS", "3"), ("MIMALLOC_PURGE_DELAY", "10")]);
    assert!(both.contains("threads 3, delay 10"), "{both}");
    assert_eq!(both.matches("once").count(), 1, "{both}");
}
