//! What a training says while it runs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal to draw a bar on.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A bar on a terminal; a line now and then in a file.
pub(crate) struct Progress {
    bar: ProgressBar,
    steps: u64,
    first: u64,
    begun: Instant,
    line: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(steps: u64, done: u64) -> Self {
        let bar = ProgressBar::new(steps).with_position(done);
        let style = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} steps, {per_sec}, {eta} left  {msg}",
        );
        // The template is a constant; should indicatif ever refuse it, its own one will do.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset_eta();
        Self {
            bar,
            steps,
            first: done,
            begun: Instant::now(),
            line: (!std::io::stderr().is_terminal()).then(Instant::now),
        }
    }

    pub(crate) fn step(&mut self, step: u64, loss: f64, rate: f64) {
        self.bar
            .set_message(format!("loss {loss:.4}, rate {rate:.2e}"));
        self.bar.set_position(step);
        if let Some(last) = self.line
            && (last.elapsed() > LINE_EVERY || step == self.steps)
        {
            self.line = Some(Instant::now());
            let speed = (step - self.first) as f64 / self.begun.elapsed().as_secs_f64();
            let left = (self.steps - step) as f64 / speed;
            eprintln!(
                "step {step}/{}: loss {loss:.4}, rate {rate:.2e}, {speed:.2} steps/s, {left:.0} s left",
                self.steps
            );
        }
    }

    pub(crate) fn validated(&self, step: u64, scores: &[(&str, f64)]) {
        let scores: Vec<_> = scores.iter().map(|(n, s)| format!("{n} {s:.4}")).collect();
        let line = format!("step {step}: validation {}", scores.join(", "));
        match self.line {
            Some(_) => eprintln!("{line}"),
            None => self.bar.println(line),
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish();
    }
}
