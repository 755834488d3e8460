//! How far a run is, on the standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal to draw a bar on.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A bar with rate and time left on a terminal; a line now and then in a file.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    items: usize,
    before: usize,
    done: usize,
    begun: Instant,
    line: Option<Instant>,
}

impl Progress {
    /// `before` of `items` are done already.
    pub(crate) fn new(what: &str, items: usize, before: usize) -> Self {
        let bar = ProgressBar::new(items as u64).with_position(before as u64);
        let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed} (left {eta}, {per_sec}) {msg}";
        // The template is a constant; without it the bar is only plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        bar.reset_eta();
        Self {
            bar,
            what: what.to_owned(),
            items,
            before,
            done: 0,
            begun: Instant::now(),
            line: (!std::io::stderr().is_terminal()).then(Instant::now),
        }
    }

    /// One more is done; `message` is what there is to say of it.
    pub(crate) fn done(&mut self, message: &str) {
        self.done += 1;
        let at = self.before + self.done;
        self.bar.set_message(message.to_owned());
        self.bar.set_position(at as u64);
        if let Some(last) = self.line
            && (last.elapsed() > LINE_EVERY || at == self.items)
        {
            self.line = Some(Instant::now());
            let each = self.begun.elapsed().div_f64(self.done as f64);
            let left = each.mul_f64((self.items - at) as f64);
            eprintln!(
                "{} {at}/{}: {:.2} s each, {} left; {message}",
                self.what,
                self.items,
                each.as_secs_f64(),
                HumanDuration(left)
            );
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
