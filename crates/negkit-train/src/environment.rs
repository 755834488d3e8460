//! The environment of a process that trains.

use std::env;

/// Variables with what they are in training, where nobody set them.
///
/// `CANDLE_NUM_THREADS`: every part of a batch has a thread of its own (see
/// [`TrainSettings::parts`]); candle's own threads for elementwise work then only wait for each other
/// at barriers, on the very same cores. mini-sd's autoencoder trains 1.5 times as fast without them on
/// two cores.
///
/// `MIMALLOC_PURGE_DELAY`: memory that a step frees is wanted again by the next one. Not giving it
/// back to the system in between saves that training another 8 % of its time.
///
/// [`TrainSettings::parts`]: crate::TrainSettings::parts
const VARIABLES: [(&str, &str); 2] = [("CANDLE_NUM_THREADS", "1"), ("MIMALLOC_PURGE_DELAY", "-1")];

/// Starts this very program over, with the same arguments, in the environment in which it trains
/// fastest: `CANDLE_NUM_THREADS` and `MIMALLOC_PURGE_DELAY` are read when a process starts and cannot
/// be set later. To be called before anything is done, for nothing that was done is kept.
///
/// Returns where there is nothing to change, because the variables are set (by this function or by
/// hand), and where it cannot be done: not on Unix, or the program's file is gone. Training is then
/// slower and otherwise the same.
pub fn start_over_to_train() {
    let missing: Vec<(&str, &str)> = VARIABLES
        .into_iter()
        .filter(|(name, _)| env::var_os(name).is_none())
        .collect();
    if !missing.is_empty() {
        replace_process(&missing);
    }
}

#[cfg(unix)]
fn replace_process(variables: &[(&str, &str)]) {
    use std::os::unix::process::CommandExt;

    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only when it failed, and then everything is as before.
    let _ = command
        .args(arguments)
        .envs(variables.iter().copied())
        .exec();
}

#[cfg(not(unix))]
fn replace_process(_: &[(&str, &str)]) {}
