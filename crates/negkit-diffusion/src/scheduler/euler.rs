//! Euler's method on the probability flow ODE (Karras et al., arXiv 2206.00364, Algorithm 2 without
//! churn; diffusers `schedulers/scheduling_euler_discrete.py`).
//!
//! The samples carry noise of standard deviation σ on an unscaled signal, so they start near 15 and
//! are scaled down for the model.

use candle_core::Tensor;

use super::config::TimestepSpacing;
use super::schedule::{
    NoiseSchedule, SigmaSteps, Spacing, TrainingSigmas, karras_sigmas, mix, with_last,
};
use super::step_math::{Progress, StepInputs, StepMath, restore_dtype, widened};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// `EulerDiscreteScheduler` of diffusers.
#[derive(Debug, Clone)]
pub struct EulerScheduler {
    ladder: SigmaLadder,
    prediction: PredictionType,
    progress: Progress,
}

impl EulerScheduler {
    /// A run of `steps` steps.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `use_exponential_sigmas`,
    /// `use_beta_sigmas` and `timestep_type = "continuous"`), [`SchedulerError::StepCount`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.refuse_set(&["use_exponential_sigmas", "use_beta_sigmas"])?;
        config.choice("timestep_type", (), &[("discrete", ())])?;
        let training = TrainingSigmas::new(&NoiseSchedule::with_finite_sigmas(config)?);
        let spacing = Spacing::from_config(config, TimestepSpacing::Linspace)?;
        let mut timesteps = single_precision(spacing.down_to_the_end(steps)?);
        let log_linear = config.choice(
            "interpolation_type",
            false,
            &[("linear", false), ("log_linear", true)],
        )?;
        let mut sigmas = if log_linear {
            training.log_linear(steps + 1)
        } else {
            training.interpolate(&timesteps)
        };
        if config.flag("use_karras_sigmas", false)? {
            let end = |index: usize| sigmas.get(index).copied().unwrap_or(f64::NAN);
            let low = config.sigma_bound("sigma_min")?;
            let high = config.sigma_bound("sigma_max")?;
            let low = low.unwrap_or(end(sigmas.len() - 1));
            sigmas = karras_sigmas(low, high.unwrap_or(end(0)), steps);
            let timestep_of = |sigma: &f64| training.timestep_of(*sigma);
            timesteps = single_precision(sigmas.iter().map(timestep_of).collect());
        }
        let sigmas = with_last(sigmas, training.last(config.final_sigma()?));
        Ok(Self {
            progress: Progress::new(timesteps.len()),
            ladder: SigmaLadder {
                steps: SigmaSteps { timesteps, sigmas },
                is_leading: spacing.is_leading(),
            },
            prediction: config.prediction_type()?,
        })
    }
}

impl Scheduler for EulerScheduler {
    fn timesteps(&self) -> &[f64] {
        &self.ladder.steps.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.ladder.init_noise_sigma()
    }

    fn scale_model_input(&self, sample: &Tensor, step: usize) -> Result<Tensor, SchedulerError> {
        self.progress.check_index(step)?;
        self.ladder.scale_model_input(sample, step)
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        step: usize,
        sample: &Tensor,
        _noise: &mut dyn NoiseSource,
    ) -> Result<Tensor, SchedulerError> {
        let inputs = StepInputs::new(&self.progress, step, model_output, sample)?;
        let (from, to) = self.ladder.sigmas(step);
        let next = euler_step(&inputs, self.prediction, from, to)?;
        self.progress.advance(step);
        inputs.finish(&next)
    }

    fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        step: usize,
    ) -> Result<Tensor, SchedulerError> {
        self.progress.check_index(step)?;
        self.ladder.add_noise(original, noise, step)
    }
}

/// `sample + dx/dσ (to - from)` with `dx/dσ = (sample - denoised) / from`.
pub(super) fn euler_step(
    inputs: &StepInputs,
    prediction: PredictionType,
    from: f32,
    to: f32,
) -> Result<Tensor, SchedulerError> {
    let StepInputs {
        sample,
        model_output,
        math,
        ..
    } = inputs;
    let denoised = match prediction {
        PredictionType::Epsilon => (sample - math.multiply("sigma", from, model_output)?)?,
        PredictionType::Sample => model_output.clone(),
        PredictionType::VPrediction => {
            let variance = from * from + 1.0;
            let output = math.multiply("output weight", -from / variance.sqrt(), model_output)?;
            (output + math.divide("variance", sample, variance)?)?
        }
    };
    let derivative = math.divide("sigma", &(sample - denoised)?, from)?;
    Ok((sample + math.multiply("sigma difference", to - from, &derivative)?)?)
}

/// The timesteps and σ of a run, and what both Euler samplers do with them.
#[derive(Debug, Clone)]
pub(super) struct SigmaLadder {
    pub(super) steps: SigmaSteps,
    pub(super) is_leading: bool,
}

impl SigmaLadder {
    /// σ before and after a step.
    pub(super) fn sigmas(&self, step: usize) -> (f32, f32) {
        let sigma = |index: usize| self.steps.sigmas.get(index).copied().unwrap_or(f32::NAN);
        (sigma(step), sigma(step + 1))
    }

    pub(super) fn init_noise_sigma(&self) -> f64 {
        let greatest = self.steps.sigmas.iter().copied().fold(0.0, f32::max);
        f64::from(if self.is_leading {
            (greatest * greatest + 1.0).sqrt()
        } else {
            greatest
        })
    }

    /// `sample / sqrt(σ² + 1)`.
    pub(super) fn scale_model_input(
        &self,
        sample: &Tensor,
        step: usize,
    ) -> Result<Tensor, SchedulerError> {
        let (sigma, _) = self.sigmas(step);
        let divisor = (sigma * sigma + 1.0).sqrt();
        let scaled = StepMath::new(step).divide("input divisor", &widened(sample)?, divisor)?;
        restore_dtype(&scaled, sample.dtype())
    }

    /// `original + σ noise`.
    pub(super) fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        step: usize,
    ) -> Result<Tensor, SchedulerError> {
        let (sigma, _) = self.sigmas(step);
        mix(original, &[1.0], noise, &[sigma])
    }
}

/// The timesteps rounded to `f32`, which is how the Euler samplers hand them to the model.
pub(super) fn single_precision(timesteps: Vec<f64>) -> Vec<f64> {
    let rounded = timesteps.into_iter().map(|timestep| timestep as f32);
    rounded.map(f64::from).collect()
}
