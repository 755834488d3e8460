//! How a training runs.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// The learning rate's course after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along half a cosine (Loshchilov & Hutter, 2017) to `floor` times itself at the last
    /// step.
    Cosine {
        /// Share of the learning rate that is left at the end.
        floor: f64,
    },
    /// It falls in a straight line to `floor` times itself at the last step.
    Linear {
        /// Share of the learning rate that is left at the end.
        floor: f64,
    },
}

/// Which parameters AdamW decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Those of two and more dimensions; norms, biases and scalars are left alone.
    #[default]
    Matrices,
    /// All, as PyTorch does where parameters are not told apart.
    All,
}

impl Decay {
    /// Left out of records, so that folders from before there was a choice are still understood.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which weights the store holds after a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those of the last step.
    Last,
    /// Those of the validation with the lowest first score.
    Best,
}

/// How a training runs. Two trainings of the same settings, task and store end with the same
/// weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Number of updates.
    pub steps: u64,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Number of steps over which the learning rate rises linearly to its value.
    pub warmup: u64,
    /// Its course after that.
    pub schedule: Schedule,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Which parameters it is for.
    #[serde(default, skip_serializing_if = "Decay::is_default")]
    pub decay: Decay,
    /// AdamW's decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub eps: f64,
    /// Largest norm of all gradients together; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Parts that a batch is computed in, each by one thread; see [`Task::split`]. What lies between
    /// the layers of a part fits a core's cache, that of a whole batch seldom does. 1 for whole
    /// batches by all threads.
    ///
    /// [`Task::split`]: crate::Task::split
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub parts: usize,
    /// Whether the parts of a joint loss are run twice, first for their embeddings and then, one after
    /// the other, for the gradients: a quarter to a third more work, and of all that lies between the
    /// layers only that of one part a thread is in memory at a time. The result is the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recompute: bool,
    /// Decay rate of a moving average of the weights; with one, the average is what is validated
    /// and kept. At update `t` the rate is `min(ema, (1 + t) / (10 + t))`, so that the first weights
    /// are soon forgotten.
    pub ema: Option<f64>,
    /// Number of steps between checkpoints; 0 for one at the end alone.
    pub checkpoint_every: u64,
    /// Number of steps between validations; 0 for one at the end alone.
    pub validate_every: u64,
    /// Ends the training early after so many validations in a row that are no better than the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Which weights the store holds afterwards.
    pub keep: Keep,
}

fn whole() -> usize {
    1
}

/// Left out, so that folders from before there were parts are still understood.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_whole(parts: &usize) -> bool {
    *parts == 1
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Default for TrainSettings {
    /// PyTorch's defaults of AdamW, 1,000 steps, clipping at 1.
    fn default() -> Self {
        Self {
            steps: 1000,
            learning_rate: 1e-3,
            warmup: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.01,
            decay: Decay::Matrices,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip_norm: Some(1.),
            parts: 1,
            recompute: false,
            ema: None,
            checkpoint_every: 200,
            validate_every: 200,
            patience: None,
            keep: Keep::Last,
        }
    }
}

impl TrainSettings {
    /// The learning rate of step `step`, which counts from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let length = self.steps.saturating_sub(self.warmup + 1).max(1);
        let part = ((step - self.warmup) as f64 / length as f64).min(1.);
        let (floor, height) = match self.schedule {
            Schedule::Constant => return self.learning_rate,
            Schedule::Cosine { floor } => (floor, 0.5 * (1. + (std::f64::consts::PI * part).cos())),
            Schedule::Linear { floor } => (floor, 1. - part),
        };
        self.learning_rate * (floor + (1. - floor) * height)
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let rate = |x: f64| (0. ..1.).contains(&x);
        let positive = |x: f64| x > 0. && x.is_finite();
        let floor = match self.schedule {
            Schedule::Constant => 1.,
            Schedule::Cosine { floor } | Schedule::Linear { floor } => floor,
        };
        let patience = self.patience.unwrap_or(1);
        let checks = [
            ("steps", self.steps as f64, self.steps > 0, "at least 1"),
            (
                "learning_rate",
                self.learning_rate,
                positive(self.learning_rate),
                "a positive number",
            ),
            (
                "schedule.floor",
                floor,
                (0. ..=1.).contains(&floor),
                "a number from 0 to 1",
            ),
            (
                "weight_decay",
                self.weight_decay,
                self.weight_decay >= 0. && self.weight_decay.is_finite(),
                "0 or a positive number",
            ),
            (
                "betas.0",
                self.betas.0,
                rate(self.betas.0),
                "from 0 to below 1",
            ),
            (
                "betas.1",
                self.betas.1,
                rate(self.betas.1),
                "from 0 to below 1",
            ),
            ("eps", self.eps, positive(self.eps), "a positive number"),
            ("parts", self.parts as f64, self.parts > 0, "at least 1"),
            (
                "clip_norm",
                self.clip_norm.unwrap_or(1.),
                positive(self.clip_norm.unwrap_or(1.)),
                "a positive number",
            ),
            (
                "patience",
                patience as f64,
                patience > 0 && (self.patience.is_none() || self.validate_every > 0),
                "at least 1, with validations in between (validate_every)",
            ),
            (
                "ema",
                self.ema.unwrap_or_default(),
                rate(self.ema.unwrap_or_default()),
                "from 0 to below 1",
            ),
        ];
        match checks.into_iter().find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((setting, found, _, expected)) => Err(TrainError::Setting {
                setting,
                found: found.to_string(),
                expected,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = TrainSettings {
            steps: 110,
            warmup: 10,
            learning_rate: 2.,
            schedule: Schedule::Cosine { floor: 0.1 },
            ..TrainSettings::default()
        };
        let near = |step, expected: f64| {
            let rate = settings.rate(step);
            assert!((rate - expected).abs() < 1e-12, "{step}: {rate}");
        };
        near(0, 0.2);
        near(9, 2.);
        near(10, 2.);
        near(109, 0.2);
        assert!((1.11..1.12).contains(&settings.rate(59)));
        let straight = TrainSettings {
            schedule: Schedule::Linear { floor: 0.1 },
            ..settings
        };
        for (step, expected) in [(9, 2.), (10, 2.), (43, 1.4), (109, 0.2)] {
            assert!((straight.rate(step) - expected).abs() < 1e-12, "{step}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let wrong = TrainSettings {
            betas: (0.9, 1.),
            ..TrainSettings::default()
        };
        let message = wrong.check().unwrap_err().to_string();
        assert!(message.contains("betas.1 is 1"), "{message}");
        TrainSettings::default().check().unwrap();
    }
}
