//! Every setting of a fine-tuning, with the paper's as defaults.

use std::path::{Path, PathBuf};

use negkit_nn::Products;
use negkit_train::tasks::contrastive::{Bidirectional, Objective};
use negkit_train::{Decay, Keep, Schedule, TrainSettings};
use serde::{Deserialize, Serialize};

use crate::FineTuneError;

/// What is learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The paper's: pictures and captions with negations, symmetric InfoNCE.
    #[default]
    Infonce,
    /// CLIP-bnl's: captions with their denials, which stay between the caption and any other; see
    /// [`Bidirectional`].
    Bnl,
    /// CoN-CLIP's: captions with their denials as further wrong texts, and pictures that the denials
    /// are true of as further wrong pictures, where there are any.
    Conclip,
}

impl Method {
    /// Whether every caption needs its denial.
    pub fn needs_denials(self) -> bool {
        self != Self::Infonce
    }
}

/// What is split into captions to train on and to validate by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Captions, as the paper's code does it: a picture may have captions on both sides.
    #[default]
    Captions,
    /// Pictures, with all their captions.
    Pictures,
}

/// The learning rate's course after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// It stays.
    #[default]
    Constant,
    /// It falls along half a cosine.
    Cosine,
    /// It falls in a straight line.
    Linear,
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// Weights, sums and everything else in f32, factors of products rounded to bf16, on processors
    /// with instructions for it (Intel AMX, AVX-512 BF16). Elsewhere it is f32.
    Bf16,
}

/// Every setting of a fine-tuning. The defaults are the paper's: what its published code says, and
/// where that says nothing, PyTorch's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuneSettings {
    /// What is learned from.
    pub method: Method,
    /// Which field of an annotation is the caption: `updated_caption` or `caption`.
    pub caption_field: String,
    /// Share of the captions of a batch in whose place the annotation's ordinary `caption` stands.
    pub ordinary_share: f64,
    /// Share of the captions that may be left out because a picture is missing or broken, or a field
    /// empty.
    pub largest_missing_share: f64,
    /// Decides the split and the batches.
    pub seed: u64,
    /// Share that is validated by.
    pub validation_share: f64,
    /// What is split.
    pub split: Split,
    /// Times that every caption is trained on.
    pub epochs: u64,
    /// Ends the training after so many steps, whatever the epochs.
    pub max_steps: Option<u64>,
    /// Pairs that are compared with each other.
    pub batch_size: usize,
    /// Pairs that are run through the text tower at a time, by each thread: it decides how much
    /// memory is needed, and not what comes out. 0 for whole batches.
    pub chunk: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which it rises linearly.
    pub warmup: u64,
    /// Its course after that.
    pub schedule: ScheduleKind,
    /// Share of it that is left at the end of a course that falls.
    pub schedule_floor: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Which parameters are decayed: `all`, as PyTorch does where nothing is said, or `matrices`.
    pub decay: Decay,
    /// AdamW's decay rate of the first moment.
    pub beta1: f64,
    /// AdamW's decay rate of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub eps: f64,
    /// Largest norm of all gradients together. The paper clips none.
    pub clip_norm: Option<f64>,
    /// Decay rate of a moving average of the weights.
    pub ema: Option<f64>,
    /// Largest inverse temperature. CLIP was trained with 100; the paper's code sets none.
    pub largest_scale: Option<f64>,
    /// Steps between validations; 0 for one after every epoch.
    pub validate_every: u64,
    /// Ends the training early after so many validations in a row that were not the best.
    pub patience: Option<u64>,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Which weights are written: `best` by validation loss, or `last`.
    pub keep: Keep,
    /// How products are computed.
    pub precision: Precision,
    /// Ordinary texts a step whose vectors are held where the published encoder has them; 0 for none, as
    /// in the paper. See [`negkit_train::tasks::contrastive::Anchors`].
    pub anchors: usize,
    /// Weight of their drift in the loss.
    pub anchor_weight: f64,
    /// A file of those texts, one a line. Without it they are ordinary captions of the annotations that
    /// are trained on.
    pub anchor_texts: Option<PathBuf>,
    /// The loss of the method `bnl`.
    pub bidirectional: Bidirectional,
}

impl Default for FineTuneSettings {
    fn default() -> Self {
        Self {
            method: Method::Infonce,
            caption_field: "updated_caption".to_owned(),
            ordinary_share: 0.,
            largest_missing_share: 0.01,
            seed: 42,
            validation_share: 0.2,
            split: Split::Captions,
            epochs: 15,
            max_steps: None,
            batch_size: 512,
            chunk: 32,
            learning_rate: 1e-6,
            warmup: 0,
            schedule: ScheduleKind::Constant,
            schedule_floor: 0.,
            weight_decay: 0.01,
            decay: Decay::All,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: None,
            ema: None,
            largest_scale: None,
            validate_every: 0,
            patience: None,
            checkpoint_every: 100,
            keep: Keep::Best,
            precision: Precision::F32,
            anchors: 0,
            anchor_weight: 30.,
            anchor_texts: None,
            bidirectional: Bidirectional::default(),
        }
    }
}

impl FineTuneSettings {
    /// Reads a file of settings; what it does not say has the default.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or has a setting that does not exist.
    pub fn read(path: &Path) -> Result<Self, FineTuneError> {
        let text = std::fs::read_to_string(path).map_err(FineTuneError::io(path, "read"))?;
        toml::from_str(&text).map_err(|error| FineTuneError::SettingsFile {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// The settings as a file that [`FineTuneSettings::read`] takes.
    ///
    /// # Errors
    /// When they cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, FineTuneError> {
        toml::to_string(self).map_err(|error| FineTuneError::Setting {
            setting: "of the file",
            found: error.to_string(),
            expected: "values that TOML has",
        })
    }

    pub(crate) fn objective(&self) -> Objective {
        match self.method {
            Method::Bnl => Objective::Bidirectional(self.bidirectional),
            Method::Infonce | Method::Conclip => Objective::InfoNce,
        }
    }

    pub(crate) fn products(&self) -> Products {
        match self.precision {
            Precision::F32 => Products::Exact,
            Precision::Bf16 => Products::Bf16,
        }
    }

    /// Batches of an epoch over `captions` captions: the last one may be smaller.
    pub(crate) fn batches(&self, captions: usize) -> u64 {
        captions.div_ceil(self.batch_size.max(1)) as u64
    }

    /// Parts that a batch is run in.
    pub(crate) fn parts(&self) -> usize {
        match self.chunk {
            0 => 1,
            chunk => self.batch_size.div_ceil(chunk),
        }
    }

    /// What the loop is told, for `captions` captions to train on.
    pub(crate) fn training(&self, captions: usize) -> TrainSettings {
        let batches = self.batches(captions);
        let steps = self.epochs * batches;
        let floor = self.schedule_floor;
        TrainSettings {
            steps: steps.min(self.max_steps.unwrap_or(steps)),
            learning_rate: self.learning_rate,
            warmup: self.warmup,
            schedule: match self.schedule {
                ScheduleKind::Constant => Schedule::Constant,
                ScheduleKind::Cosine => Schedule::Cosine { floor },
                ScheduleKind::Linear => Schedule::Linear { floor },
            },
            weight_decay: self.weight_decay,
            decay: self.decay,
            betas: (self.beta1, self.beta2),
            eps: self.eps,
            clip_norm: self.clip_norm,
            parts: self.parts(),
            recompute: self.parts() > 1,
            ema: self.ema,
            checkpoint_every: self.checkpoint_every,
            validate_every: match self.validate_every {
                0 => batches,
                every => every,
            },
            patience: self.patience,
            keep: self.keep,
        }
    }

    /// What [`TrainSettings`] does not check itself.
    pub(crate) fn check(&self) -> Result<(), FineTuneError> {
        let share = |x: f64| (0. ..=1.).contains(&x);
        let fields = ["updated_caption", "caption"];
        let scale = self.largest_scale.unwrap_or(1.);
        let ordinary = self.ordinary_share;
        let checks = [
            (
                "caption_field",
                self.caption_field.clone(),
                fields.contains(&self.caption_field.as_str()),
                "updated_caption or caption",
            ),
            (
                "ordinary_share",
                ordinary.to_string(),
                share(ordinary) && (ordinary == 0. || !self.method.needs_denials()),
                "from 0 to 1, and 0 for methods whose captions all have denials",
            ),
            (
                "largest_missing_share",
                self.largest_missing_share.to_string(),
                share(self.largest_missing_share),
                "from 0 to 1",
            ),
            (
                "validation_share",
                self.validation_share.to_string(),
                self.validation_share > 0. && self.validation_share < 1.,
                "more than 0 and less than 1",
            ),
            (
                "epochs",
                self.epochs.to_string(),
                self.epochs > 0,
                "at least 1",
            ),
            (
                "batch_size",
                self.batch_size.to_string(),
                self.batch_size > 1,
                "at least 2: pairs are compared with each other",
            ),
            (
                "largest_scale",
                scale.to_string(),
                scale > 0. && scale.is_finite(),
                "a positive number",
            ),
            (
                "anchors",
                self.anchors.to_string(),
                self.anchors == 0 || self.anchors >= self.parts(),
                "0, or at least as many as a batch has chunks: batch_size / chunk, rounded up",
            ),
            (
                "anchor_weight",
                self.anchor_weight.to_string(),
                self.anchor_weight > 0. && self.anchor_weight.is_finite(),
                "a positive number; to hold no texts, set anchors to 0",
            ),
        ];
        match checks.into_iter().find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((setting, found, _, expected)) => Err(FineTuneError::Setting {
                setting,
                found,
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
    fn the_defaults_are_the_papers_and_survive_a_file() {
        let settings = FineTuneSettings::default();
        settings.check().unwrap();
        let text = settings.to_toml().unwrap();
        assert!(
            text.contains("learning_rate = 0.000001") || text.contains("1e-6"),
            "{text}"
        );
        assert_eq!(toml::from_str::<FineTuneSettings>(&text).unwrap(), settings);
        // 147 K captions of P1, less a fifth.
        let training = settings.training(117_600);
        assert_eq!((training.validate_every, training.steps), (230, 15 * 230));
        assert_eq!((training.parts, training.recompute), (16, true));
        assert_eq!(training.betas, (0.9, 0.999));
    }

    #[test]
    fn what_is_written_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for (text, expected) in [
            ("learning_rat = 1e-6", "learning_rat"),
            ("method = \"infonc\"", "infonc"),
            ("epochs = [", "recipe.toml"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = FineTuneSettings::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::write(&path, "epochs = 2\n[bidirectional]\nmargin = 0.3\n").unwrap();
        // A table has to be whole or left out.
        assert!(FineTuneSettings::read(&path).is_err());
        let mixed = FineTuneSettings {
            method: Method::Conclip,
            ordinary_share: 0.5,
            ..FineTuneSettings::default()
        };
        let error = mixed.check().unwrap_err().to_string();
        assert!(error.contains("ordinary_share is 0.5"), "{error}");
        // 512 pairs, 32 at a time.
        let few = |anchors| FineTuneSettings {
            anchors,
            ..FineTuneSettings::default()
        };
        few(16).check().unwrap();
        let error = few(15).check().unwrap_err().to_string();
        assert!(error.contains("anchors is 15"), "{error}");
    }
}
