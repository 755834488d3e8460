//! Progress on the standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps with rate and time left.
pub(crate) fn bar(length: u64, what: &'static str) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}, {per_sec}) {msg}";
    let bar = ProgressBar::new(length).with_prefix(what);
    // The template is a constant; without it the bar is only plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
