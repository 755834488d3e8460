//! Euler's method with ancestral sampling (Crowson's k-diffusion, `sample_euler_ancestral`; diffusers
//! `schedulers/scheduling_euler_ancestral_discrete.py`): each step goes below the next σ and comes
//! back up with fresh noise.

use candle_core::Tensor;

use super::config::TimestepSpacing;
use super::euler::{SigmaLadder, euler_step, single_precision};
use super::schedule::{NoiseSchedule, SigmaSteps, Spacing, TrainingSigmas, with_last};
use super::step_math::{Progress, StepInputs, draw_noise};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// `EulerAncestralDiscreteScheduler` of diffusers.
#[derive(Debug, Clone)]
pub struct EulerAncestralScheduler {
    ladder: SigmaLadder,
    prediction: PredictionType,
    progress: Progress,
}

impl EulerAncestralScheduler {
    /// A run of `steps` steps.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `prediction_type = "sample"`),
    /// [`SchedulerError::StepCount`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        let prediction = config.prediction_type()?;
        if prediction == PredictionType::Sample {
            return Err(config.unsupported("prediction_type", "epsilon, v_prediction"));
        }
        let training = TrainingSigmas::new(&NoiseSchedule::with_finite_sigmas(config)?);
        let spacing = Spacing::from_config(config, TimestepSpacing::Linspace)?;
        let timesteps = single_precision(spacing.down_to_the_end(steps)?);
        let sigmas = with_last(training.interpolate(&timesteps), 0.0);
        Ok(Self {
            progress: Progress::new(timesteps.len()),
            ladder: SigmaLadder {
                steps: SigmaSteps { timesteps, sigmas },
                is_leading: spacing.is_leading(),
            },
            prediction,
        })
    }
}

impl Scheduler for EulerAncestralScheduler {
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
        noise: &mut dyn NoiseSource,
    ) -> Result<Tensor, SchedulerError> {
        let inputs = StepInputs::new(&self.progress, step, model_output, sample)?;
        let (from, to) = self.ladder.sigmas(step);
        let (up, down) = ancestral_sigmas(from, to);
        let next = euler_step(&inputs, self.prediction, from, down)?;
        // Drawn at the last step too, where nothing of it is used: PyTorch's stream goes on so.
        let noise = draw_noise(&inputs, noise)?;
        let next = (next + inputs.math.multiply("sigma up", up, &noise)?)?;
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

/// The noise to add (`sigma_up`) and the σ to go down to before that (`sigma_down`):
/// `up² + down² = to²`.
fn ancestral_sigmas(from: f32, to: f32) -> (f32, f32) {
    let (from, to) = (from * from, to * to);
    let up = (to * (from - to) / from).sqrt();
    let down = (to - up * up).sqrt();
    (up, down)
}
