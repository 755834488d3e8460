//! Progress on the standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and time left.
pub(crate) fn bar(length: usize, what: &str) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}, {per_sec})";
    let bar = ProgressBar::new(length as u64).with_prefix(what.to_owned());
    // The template is a constant; without it the bar is only plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
