//! Samplers: from noise to a sample, one model call at a time.
//!
//! A [`SchedulerConfig`] is the `scheduler_config.json` that a model is published with. Together with
//! a [`SchedulerKind`] and a number of steps it [builds](SchedulerConfig::build) a [`Scheduler`],
//! which is one run: its [`timesteps`](Scheduler::timesteps) are the model calls, and after each of
//! them [`step`](Scheduler::step) turns the sample into a less noisy one.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use negkit_diffusion::noise::{NoiseSource, TorchGenerator};
//! use negkit_diffusion::scheduler::{SamplingOptions, SchedulerConfig};
//!
//! # fn unet(sample: &Tensor, _timestep: f64) -> candle_core::Result<Tensor> { sample * 0.1 }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = SchedulerConfig::stable_diffusion_1()?;
//! let mut scheduler = config.build(config.kind()?, &SamplingOptions::steps(20))?;
//! let mut noise = TorchGenerator::per_picture(&[0, 1]);
//!
//! let start = noise.randn(&[2, 4, 64, 64], DType::F32, &Device::Cpu)?;
//! let mut latents = (start * scheduler.init_noise_sigma())?;
//! for (step, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
//!     let input = scheduler.scale_model_input(&latents, step)?;
//!     let output = unet(&input, timestep)?;
//!     latents = scheduler.step(&output, step, &latents, &mut noise)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The reference is diffusers 0.42, file by file: each module here names the paper of its formulas
//! and the file that it follows. Coefficients are computed on the host in the types and in the order
//! that diffusers uses, so that f32 trajectories agree to rounding. Samples are computed in f32 (f64
//! stays f64) whatever their dtype, and come back in it. Steps are addressed by their index and not
//! by their timestep, which need not be unique: PNDM has one twice.
//!
//! A coefficient that is not finite is an error instead of a black picture.

mod config;
mod ddim;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod pndm;
mod schedule;
mod step_math;
mod unipc;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use candle_core::{DType, Tensor};

use crate::noise::{NoiseError, NoiseSource};

pub use config::{PredictionType, SchedulerConfig};
pub use ddim::DdimScheduler;
pub use dpm_solver::DpmSolverScheduler;
pub use euler::EulerScheduler;
pub use euler_ancestral::EulerAncestralScheduler;
pub use pndm::PndmScheduler;
pub use schedule::NoiseSchedule;
pub use unipc::UniPcScheduler;

/// One sampling run.
///
/// The steps are taken in order, from any first one on (image-to-image starts late); a scheduler
/// keeps what its method remembers of earlier steps, so another run needs another scheduler.
pub trait Scheduler: Send {
    /// The timesteps as the model receives them, one per model call, in order.
    ///
    /// They can be more than the steps asked for (PNDM) and fractional (Euler).
    fn timesteps(&self) -> &[f64];

    /// The factor for standard normal noise that makes it the sample of the first step.
    fn init_noise_sigma(&self) -> f64;

    /// What the model receives for `sample` at step `step`; same shape and dtype.
    ///
    /// # Errors
    /// [`SchedulerError::StepIndex`], [`SchedulerError::DType`].
    fn scale_model_input(&self, sample: &Tensor, step: usize) -> Result<Tensor, SchedulerError>;

    /// The sample after step `step`, from the sample before it and the model's output for it.
    ///
    /// `model_output` and `sample` are `[batch, channels, height, width]` of the same shape, and so is
    /// the result, which has the dtype of `sample`. `noise` is drawn from by the stochastic samplers only (Euler ancestral,
    /// DDIM with η > 0), once a step, with the shape of the sample.
    ///
    /// # Errors
    /// [`SchedulerError::StepIndex`] when `step` does not follow the last one,
    /// [`SchedulerError::Shape`], [`SchedulerError::DType`], [`SchedulerError::NotFinite`],
    /// [`SchedulerError::Noise`] or [`SchedulerError::Tensor`].
    fn step(
        &mut self,
        model_output: &Tensor,
        step: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<Tensor, SchedulerError>;

    /// The clean sample `original` with as much of `noise` as step `step` starts from.
    ///
    /// For image-to-image, which begins in the middle. Both are `[batch, channels, height, width]` of
    /// the same shape, and so is the result, which has the dtype of `original`. Training has timesteps
    /// and no steps: use [`NoiseSchedule::add_noise`].
    ///
    /// # Errors
    /// [`SchedulerError::StepIndex`], [`SchedulerError::Shape`] or [`SchedulerError::DType`].
    fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        step: usize,
    ) -> Result<Tensor, SchedulerError>;
}

/// The schedulers to choose from, under the names of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// `pndm`: [`PndmScheduler`], the default of Stable Diffusion 1.x ("PLMS" where the
    /// configuration skips the Runge-Kutta steps, as the published ones do).
    Pndm,
    /// `ddim`: [`DdimScheduler`].
    Ddim,
    /// `euler`: [`EulerScheduler`].
    Euler,
    /// `euler-a`: [`EulerAncestralScheduler`].
    EulerAncestral,
    /// `dpm++2m`: [`DpmSolverScheduler`] without Karras σ, whatever the configuration says.
    DpmSolver2M,
    /// `dpm++2m-karras`: [`DpmSolverScheduler`] with Karras σ, whatever the configuration says.
    DpmSolver2MKarras,
    /// `unipc`: [`UniPcScheduler`].
    UniPc,
}

impl SchedulerKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Pndm,
        Self::Ddim,
        Self::Euler,
        Self::EulerAncestral,
        Self::DpmSolver2M,
        Self::DpmSolver2MKarras,
        Self::UniPc,
    ];

    /// The name that [`FromStr`] reads and [`Display`](fmt::Display) writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pndm => "pndm",
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-a",
            Self::DpmSolver2M => "dpm++2m",
            Self::DpmSolver2MKarras => "dpm++2m-karras",
            Self::UniPc => "unipc",
        }
    }

    /// The class in diffusers that this kind stands for.
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Pndm => "PNDMScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::DpmSolver2M | Self::DpmSolver2MKarras => "DPMSolverMultistepScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
        }
    }

    fn from_class_name(class_name: &str) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter();
        kinds.find(|kind| kind.class_name() == class_name)
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = SchedulerError;

    fn from_str(name: &str) -> Result<Self, SchedulerError> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or_else(|| SchedulerError::UnknownKind {
                name: name.to_owned(),
            })
    }
}

/// What a run is asked for beside its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Number of inference steps.
    pub steps: usize,
    /// DDIM's η: 0 is deterministic, 1 as noisy as DDPM. Only `ddim` takes anything but 0.
    pub eta: f64,
}

impl SamplingOptions {
    /// This many steps, η = 0.
    pub const fn steps(steps: usize) -> Self {
        Self { steps, eta: 0.0 }
    }

    /// The same with another η.
    #[must_use]
    pub const fn with_eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }
}

impl SchedulerConfig {
    /// A run of `kind` with the fields of this configuration.
    ///
    /// The kind need not be the one of the file: the result is that of diffusers'
    /// `X.from_config(pipe.scheduler.config)`, where fields that the file lacks take the defaults of
    /// class `X` (so Euler made from the Stable Diffusion 1.4 file spaces its steps by `linspace`,
    /// and PNDM by `leading`).
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`], [`SchedulerError::StepCount`],
    /// [`SchedulerError::TimestepOutOfRange`] or [`SchedulerError::Eta`].
    pub fn build(
        &self,
        kind: SchedulerKind,
        options: &SamplingOptions,
    ) -> Result<Box<dyn Scheduler>, SchedulerError> {
        let eta = options.eta;
        let eta_is_known = kind == SchedulerKind::Ddim && (0.0..=1.0).contains(&eta);
        if eta != 0.0 && !eta_is_known {
            return Err(SchedulerError::Eta { kind, eta });
        }
        let steps = options.steps;
        Ok(match kind {
            SchedulerKind::Pndm => Box::new(PndmScheduler::new(self, steps)?),
            SchedulerKind::Ddim => Box::new(DdimScheduler::new(self, steps, eta)?),
            SchedulerKind::Euler => Box::new(EulerScheduler::new(self, steps)?),
            SchedulerKind::EulerAncestral => Box::new(EulerAncestralScheduler::new(self, steps)?),
            SchedulerKind::DpmSolver2M => {
                let config = self.clone().with("use_karras_sigmas", false);
                Box::new(DpmSolverScheduler::new(&config, steps)?)
            }
            SchedulerKind::DpmSolver2MKarras => {
                let config = self.clone().with("use_karras_sigmas", true);
                Box::new(DpmSolverScheduler::new(&config, steps)?)
            }
            SchedulerKind::UniPc => Box::new(UniPcScheduler::new(self, steps)?),
        })
    }
}

/// Why a scheduler could not be configured or could not take a step.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// A configuration file could not be read.
    #[error("cannot read the scheduler configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration is not a JSON object.
    #[error("the scheduler configuration is not a JSON object as in scheduler_config.json: {0}")]
    Parse(#[from] serde_json::Error),
    /// A configuration is for a class that is not implemented.
    #[error(
        "the scheduler configuration is for the class {class_name}, which is not implemented; name \
         the scheduler to use with it: one of {names}",
        names = SchedulerKind::names()
    )]
    UnknownClass {
        /// Value of `_class_name`.
        class_name: String,
    },
    /// A name that no scheduler has.
    #[error("there is no scheduler named {name:?}; choose one of {names}", names = SchedulerKind::names())]
    UnknownKind {
        /// The name.
        name: String,
    },
    /// A field has a value that this scheduler does not support.
    #[error(
        "the scheduler configuration has {field} = {value}, but this scheduler supports: {expected}; \
         change the field or choose another scheduler"
    )]
    UnsupportedValue {
        /// Name of the field in `scheduler_config.json`.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What is supported.
        expected: String,
    },
    /// A number of inference steps that cannot be spread over the training steps.
    #[error("cannot sample in {steps} steps; this configuration allows {minimum} to {maximum}")]
    StepCount {
        /// The number asked for.
        steps: usize,
        /// The least possible number.
        minimum: usize,
        /// The greatest possible number.
        maximum: usize,
    },
    /// η for a scheduler that has none, or one that is not between 0 and 1.
    #[error(
        "eta = {eta} does not fit {kind}: only ddim takes an eta other than 0, and at most 1 (as noisy as DDPM)"
    )]
    Eta {
        /// The scheduler.
        kind: SchedulerKind,
        /// The value.
        eta: f64,
    },
    /// A timestep that the model was not trained on.
    #[error(
        "timestep {timestep} is outside of the {num_train_timesteps} training steps; use fewer \
         steps, a smaller steps_offset or another timestep_spacing"
    )]
    TimestepOutOfRange {
        /// The timestep.
        timestep: usize,
        /// Number of training steps.
        num_train_timesteps: usize,
    },
    /// Not one timestep per element of the batch.
    #[error("{timesteps} timesteps were given for a batch of {batch}; give one for each element")]
    TimestepCount {
        /// How many timesteps there are.
        timesteps: usize,
        /// Size of the batch.
        batch: usize,
    },
    /// A step that does not exist or is not the next one.
    #[error(
        "step {step} cannot be taken now: {expected}; take the steps in order, and build a new \
         scheduler for a new run"
    )]
    StepIndex {
        /// The index given.
        step: usize,
        /// What would have been right.
        expected: String,
    },
    /// Two tensors that must be alike differ in shape.
    #[error("the two tensors must have the same shape, but have {first:?} and {second:?}")]
    Shape {
        /// Shape of the first one (the sample, or the clean sample).
        first: Vec<usize>,
        /// Shape of the second one (the model's output, or the noise).
        second: Vec<usize>,
    },
    /// A tensor of whole numbers.
    #[error("samples must be f32, f64, f16 or bf16, but one is {dtype:?}; convert it first")]
    DType {
        /// Its dtype.
        dtype: DType,
    },
    /// A coefficient of a step is infinite or no number.
    #[error(
        "step {step} is not defined for this configuration: its coefficient {coefficient} is \
         {value}; use fewer steps, another timestep_spacing or other final_sigmas_type and \
         rescale_betas_zero_snr"
    )]
    NotFinite {
        /// Index of the step.
        step: usize,
        /// What the coefficient is.
        coefficient: &'static str,
        /// Its value.
        value: f32,
    },
    /// Noise could not be drawn.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// A tensor operation failed.
    #[error("a tensor operation of the scheduler failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
