//! Progress on the standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps with rate and time left.
pub fn bar(length: usize, what: &str) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}, {per_sec}) {msg}";
    let bar = ProgressBar::new(length as u64).with_prefix(what.to_owned());
    // The template is a constant; without it the bar is only plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A spinner for work of unknown length.
pub fn spinner(what: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.into());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
