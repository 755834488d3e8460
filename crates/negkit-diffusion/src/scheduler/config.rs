//! Reading `scheduler_config.json`.

use std::path::Path;

use serde_json::{Map, Value};

use super::{SchedulerError, SchedulerKind};

/// More training steps than any published model has, few enough to make the tables at once.
const MAX_TRAIN_TIMESTEPS: usize = 100_000;

/// The scheduler configuration that is published with Stable Diffusion 1.4 and 1.5
/// (`scheduler/scheduler_config.json` of both, less the version).
const STABLE_DIFFUSION_1: &str = r#"{
  "_class_name": "PNDMScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "trained_betas": null
}"#;

/// What the model's output means (`prediction_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise ε in `x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε`.
    Epsilon,
    /// The denoised sample `x_0`.
    Sample,
    /// The velocity `v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0` (Salimans and Ho, 2022, arXiv 2202.00512).
    VPrediction,
}

/// How the inference steps are spread over the training steps (`timestep_spacing`; Table 2 of Lin et
/// al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimestepSpacing {
    Linspace,
    Leading,
    Trailing,
}

/// The form of β over the training steps (`beta_schedule`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BetaSchedule {
    Linear,
    ScaledLinear,
    SquaredCosCapV2,
}

/// The last entry of the list of σ (`final_sigmas_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalSigma {
    Zero,
    SigmaMin,
}

/// A published `scheduler_config.json`.
///
/// Which fields matter, and what a missing one defaults to, depends on the scheduler that is built
/// from the file, as in diffusers: `X.from_config(pipe.scheduler.config)` hands the fields of one
/// class to another, which picks its own. So the fields are kept as they stand and judged only when
/// [`build`](Self::build) asks for a kind: a value that this kind cannot honour is then refused, with
/// its name, and fields that the kind does not have are ignored.
///
/// ```
/// use negkit_diffusion::scheduler::{SamplingOptions, SchedulerConfig, SchedulerKind};
///
/// # fn main() -> Result<(), negkit_diffusion::scheduler::SchedulerError> {
/// let config = SchedulerConfig::stable_diffusion_1()?;
/// assert_eq!(config.kind()?, SchedulerKind::Pndm);
/// let euler = config.build(SchedulerKind::Euler, &SamplingOptions::steps(20))?;
/// assert_eq!(euler.timesteps().len(), 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    fields: Map<String, Value>,
}

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`.
    ///
    /// `Infinity`, `-Infinity` and `NaN` are accepted although they are no JSON: Python writes them,
    /// and diffusers' own DPM-Solver files have `"lambda_min_clipped": -Infinity`.
    ///
    /// # Errors
    /// [`SchedulerError::Parse`] when the text is not a JSON object.
    pub fn from_json(text: &str) -> Result<Self, SchedulerError> {
        let fields: Map<String, Value> = serde_json::from_str(&quote_python_constants(text))?;
        Ok(Self { fields }.without_recorded_defaults())
    }

    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`SchedulerError::Read`] when the file cannot be read, and those of
    /// [`from_json`](Self::from_json).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SchedulerError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| SchedulerError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        Self::from_json(&text)
    }

    /// The configuration published with Stable Diffusion 1.4 and 1.5: for single-file checkpoints,
    /// which carry none.
    ///
    /// # Errors
    /// None in practice; the signature is that of [`from_json`](Self::from_json).
    pub fn stable_diffusion_1() -> Result<Self, SchedulerError> {
        Self::from_json(STABLE_DIFFUSION_1)
    }

    /// The configuration with one field set, as a keyword argument of diffusers' `from_config`.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// The configuration as diffusers' `StableDiffusionPipeline` patches it on loading: files from
    /// before diffusers 0.3 lack `steps_offset = 1` or say `clip_sample = true`, which is wrong for
    /// latents (`pipelines/stable_diffusion/pipeline_stable_diffusion.py`, `__init__`).
    #[must_use]
    pub fn for_stable_diffusion(self) -> Self {
        self.with("steps_offset", 1).with("clip_sample", false)
    }

    /// `_class_name`: the diffusers class that the file was written for.
    pub fn class_name(&self) -> Option<&str> {
        self.fields.get("_class_name").and_then(Value::as_str)
    }

    /// The kind of scheduler that the file itself asks for.
    ///
    /// A `DPMSolverMultistepScheduler` is [`SchedulerKind::DpmSolver2M`], or
    /// [`SchedulerKind::DpmSolver2MKarras`] when its `use_karras_sigmas` is set.
    ///
    /// # Errors
    /// [`SchedulerError::UnknownClass`] when the class is missing or none of ours; the file can still
    /// be built as any [`SchedulerKind`].
    pub fn kind(&self) -> Result<SchedulerKind, SchedulerError> {
        let class_name = self.class_name();
        let kind = class_name.and_then(SchedulerKind::from_class_name);
        match kind {
            Some(SchedulerKind::DpmSolver2M) if self.flag("use_karras_sigmas", false)? => {
                Ok(SchedulerKind::DpmSolver2MKarras)
            }
            Some(kind) => Ok(kind),
            None => Err(SchedulerError::UnknownClass {
                class_name: class_name.unwrap_or("(none)").to_owned(),
            }),
        }
    }

    /// The text of the `scheduler_config.json` that [`from_json`](Self::from_json) reads back.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", Value::Object(self.fields.clone()))
    }

    /// What the model was trained to predict; `epsilon` when the file does not say.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`].
    pub fn prediction_type(&self) -> Result<PredictionType, SchedulerError> {
        self.choice(
            "prediction_type",
            PredictionType::Epsilon,
            &[
                ("epsilon", PredictionType::Epsilon),
                ("sample", PredictionType::Sample),
                ("v_prediction", PredictionType::VPrediction),
            ],
        )
    }

    /// Files saved by an intermediate diffusers name the fields that hold defaults of the class they
    /// were saved from; another class must use its own (`ConfigMixin.extract_init_dict`).
    fn without_recorded_defaults(mut self) -> Self {
        if let Some(Value::Array(names)) = self.fields.remove("_use_default_values") {
            for name in names.iter().filter_map(Value::as_str) {
                self.fields.remove(name);
            }
        }
        self
    }

    /// The value of a field that is there and not null.
    fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn unsupported(
        &self,
        field: &'static str,
        expected: impl Into<String>,
    ) -> SchedulerError {
        let value = self.fields.get(field).unwrap_or(&Value::Null);
        SchedulerError::UnsupportedValue {
            field,
            value: shortened(value),
            expected: expected.into(),
        }
    }

    pub(super) fn flag(&self, field: &'static str, default: bool) -> Result<bool, SchedulerError> {
        match self.value(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.unsupported(field, "true or false")),
        }
    }

    pub(super) fn number(&self, field: &'static str) -> Result<Option<f64>, SchedulerError> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => number(value)
                .map(Some)
                .ok_or_else(|| self.unsupported(field, "a number")),
        }
    }

    pub(super) fn count(
        &self,
        field: &'static str,
        default: usize,
    ) -> Result<usize, SchedulerError> {
        match self.value(field) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| self.unsupported(field, "a whole number, 0 or more")),
        }
    }

    /// A list of whole numbers; empty when the field is missing.
    pub(super) fn counts(&self, field: &'static str) -> Result<Vec<usize>, SchedulerError> {
        let refuse = || self.unsupported(field, "a list of whole numbers, 0 or more");
        match self.value(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_u64().and_then(|count| usize::try_from(count).ok()))
                .collect::<Option<_>>()
                .ok_or_else(refuse),
            Some(_) => Err(refuse()),
        }
    }

    /// The value that belongs to the name in the field.
    pub(super) fn choice<T: Copy>(
        &self,
        field: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, SchedulerError> {
        let Some(value) = self.value(field) else {
            return Ok(default);
        };
        let chosen = choices.iter().find(|(name, _)| value == name);
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.unsupported(field, names.join(", "))
        })
    }

    /// Refuses those of `fields` that are set to true: features that are not implemented.
    pub(super) fn refuse_set(&self, fields: &[&'static str]) -> Result<(), SchedulerError> {
        for field in fields {
            if self.flag(field, false)? {
                return Err(self.unsupported(field, "false"));
            }
        }
        Ok(())
    }

    /// Refuses a field that is there at all.
    pub(super) fn refuse_present(&self, field: &'static str) -> Result<(), SchedulerError> {
        match self.value(field) {
            None => Ok(()),
            Some(_) => Err(self.unsupported(field, "null")),
        }
    }

    pub(super) fn num_train_timesteps(&self) -> Result<usize, SchedulerError> {
        let field = "num_train_timesteps";
        let count = self.count(field, 1000)?;
        if (2..=MAX_TRAIN_TIMESTEPS).contains(&count) {
            return Ok(count);
        }
        Err(self.unsupported(field, format!("2 to {MAX_TRAIN_TIMESTEPS}")))
    }

    pub(super) fn steps_offset(&self) -> Result<usize, SchedulerError> {
        let field = "steps_offset";
        let offset = self.count(field, 0)?;
        if offset < self.num_train_timesteps()? {
            return Ok(offset);
        }
        Err(self.unsupported(field, "less than num_train_timesteps"))
    }

    pub(super) fn timestep_spacing(
        &self,
        default: TimestepSpacing,
    ) -> Result<TimestepSpacing, SchedulerError> {
        self.choice(
            "timestep_spacing",
            default,
            &[
                ("linspace", TimestepSpacing::Linspace),
                ("leading", TimestepSpacing::Leading),
                ("trailing", TimestepSpacing::Trailing),
            ],
        )
    }

    pub(super) fn beta_schedule(&self) -> Result<BetaSchedule, SchedulerError> {
        self.choice(
            "beta_schedule",
            BetaSchedule::Linear,
            &[
                ("linear", BetaSchedule::Linear),
                ("scaled_linear", BetaSchedule::ScaledLinear),
                ("squaredcos_cap_v2", BetaSchedule::SquaredCosCapV2),
            ],
        )
    }

    /// A β between 0 and 1, both excluded.
    pub(super) fn beta(&self, field: &'static str, default: f64) -> Result<f64, SchedulerError> {
        let beta = self.number(field)?.unwrap_or(default);
        if beta > 0.0 && beta < 1.0 {
            return Ok(beta);
        }
        Err(self.unsupported(field, "a number between 0 and 1, both excluded"))
    }

    /// `trained_betas`: one β per training step, instead of a formula.
    pub(super) fn trained_betas(&self) -> Result<Option<Vec<f64>>, SchedulerError> {
        let field = "trained_betas";
        let expected = self.num_train_timesteps()?;
        let refuse = || {
            let what = "one number per training step, each between 0 and 1, both excluded";
            self.unsupported(field, format!("{what} (num_train_timesteps is {expected})"))
        };
        let betas: Vec<f64> = match self.value(field) {
            None => return Ok(None),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| number(value).filter(|beta| *beta > 0.0 && *beta < 1.0))
                .collect::<Option<_>>()
                .ok_or_else(refuse)?,
            Some(_) => return Err(refuse()),
        };
        if betas.len() != expected {
            return Err(refuse());
        }
        Ok(Some(betas))
    }

    pub(super) fn final_sigma(&self) -> Result<FinalSigma, SchedulerError> {
        self.choice(
            "final_sigmas_type",
            FinalSigma::Zero,
            &[
                ("zero", FinalSigma::Zero),
                ("sigma_min", FinalSigma::SigmaMin),
            ],
        )
    }

    /// A bound of the Karras schedule, positive where it is given.
    pub(super) fn sigma_bound(&self, field: &'static str) -> Result<Option<f64>, SchedulerError> {
        match self.number(field)? {
            Some(sigma) if !(sigma > 0.0 && sigma.is_finite()) => {
                Err(self.unsupported(field, "a positive number or null"))
            }
            sigma => Ok(sigma),
        }
    }
}

/// A number, or one of the constants that [`quote_python_constants`] turned into a string.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        value => value.as_f64(),
    }
}

/// The value as JSON, without the body of a long list.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Puts quotes around the constants that Python's `json` writes bare.
fn quote_python_constants(text: &str) -> String {
    const CONSTANTS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut in_string = false;
    while let Some(first) = rest.chars().next() {
        let constant = CONSTANTS
            .iter()
            .find(|constant| !in_string && rest.starts_with(**constant));
        let length = match constant {
            Some(constant) => constant.len(),
            // An escaped character, quotes among them, does not end the string.
            None if in_string && first == '\\' => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            None => first.len_utf8(),
        };
        let (token, following) = rest.split_at(length);
        if constant.is_some() {
            quoted.push('"');
            quoted.push_str(token);
            quoted.push('"');
        } else {
            in_string ^= first == '"';
            quoted.push_str(token);
        }
        rest = following;
    }
    quoted
}
