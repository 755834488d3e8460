//! Denoising diffusion implicit models (Song et al., arXiv 2010.02502; diffusers
//! `schedulers/scheduling_ddim.py`).

use candle_core::Tensor;

use super::config::TimestepSpacing;
use super::schedule::{NoiseSchedule, Spacing};
use super::step_math::{Progress, StepInputs, draw_noise};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// `DDIMScheduler` of diffusers.
#[derive(Debug, Clone)]
pub struct DdimScheduler {
    schedule: NoiseSchedule,
    final_alpha_cumprod: f32,
    prediction: PredictionType,
    clip_range: Option<f32>,
    eta: f32,
    timesteps: Vec<usize>,
    model_timesteps: Vec<f64>,
    stride: usize,
    progress: Progress,
}

impl DdimScheduler {
    /// A run of `steps` steps with η = `eta`: 0 is deterministic, 1 as noisy as DDPM.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `thresholding`),
    /// [`SchedulerError::StepCount`], [`SchedulerError::TimestepOutOfRange`].
    pub fn new(config: &SchedulerConfig, steps: usize, eta: f64) -> Result<Self, SchedulerError> {
        config.refuse_set(&["thresholding"])?;
        let schedule = NoiseSchedule::from_config(config)?;
        let spacing = Spacing::from_config(config, TimestepSpacing::Leading)?;
        let timesteps: Vec<usize> = spacing
            .down_to_the_end(steps)?
            .into_iter()
            .map(|timestep| timestep.round_ties_even() as usize)
            .collect();
        for timestep in &timesteps {
            schedule.alpha_cumprod(*timestep)?;
        }
        let clip_range = config.number("clip_sample_range")?.unwrap_or(1.0) as f32;
        if clip_range.is_nan() || clip_range <= 0.0 {
            return Err(config.unsupported("clip_sample_range", "a positive number"));
        }
        Ok(Self {
            final_alpha_cumprod: if config.flag("set_alpha_to_one", true)? {
                1.0
            } else {
                schedule.alpha_cumprod(0)?
            },
            prediction: config.prediction_type()?,
            clip_range: config.flag("clip_sample", true)?.then_some(clip_range),
            eta: eta as f32,
            stride: schedule.num_train_timesteps() / steps,
            progress: Progress::new(timesteps.len()),
            model_timesteps: timesteps.iter().map(|timestep| *timestep as f64).collect(),
            timesteps,
            schedule,
        })
    }

    fn timestep(&self, step: usize) -> usize {
        self.timesteps.get(step).copied().unwrap_or(0)
    }

    /// The model's output as the clean sample and the noise that it implies (equation 9 for
    /// `epsilon`; Salimans and Ho, arXiv 2202.00512, for `v_prediction`).
    fn split(&self, inputs: &StepInputs, alpha: f32) -> Result<(Tensor, Tensor), SchedulerError> {
        let StepInputs {
            sample,
            model_output,
            math,
            ..
        } = inputs;
        let (signal, deviation) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let scaled = |factor: f32, tensor: &Tensor| math.multiply("mixing weight", factor, tensor);
        Ok(match self.prediction {
            PredictionType::Epsilon => {
                let clean = (sample - scaled(deviation, model_output)?)?;
                let clean = math.divide("sqrt(alpha)", &clean, signal)?;
                (clean, model_output.clone())
            }
            PredictionType::Sample => {
                let noise = (sample - scaled(signal, model_output)?)?;
                let noise = math.divide("sqrt(beta)", &noise, deviation)?;
                (model_output.clone(), noise)
            }
            PredictionType::VPrediction => (
                (scaled(signal, sample)? - scaled(deviation, model_output)?)?,
                (scaled(signal, model_output)? + scaled(deviation, sample)?)?,
            ),
        })
    }
}

impl Scheduler for DdimScheduler {
    fn timesteps(&self) -> &[f64] {
        &self.model_timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn scale_model_input(&self, sample: &Tensor, step: usize) -> Result<Tensor, SchedulerError> {
        self.progress.unscaled(sample, step)
    }

    /// Equation 12, with the variance of equation 16.
    fn step(
        &mut self,
        model_output: &Tensor,
        step: usize,
        sample: &Tensor,
        noise: &mut dyn NoiseSource,
    ) -> Result<Tensor, SchedulerError> {
        let inputs = StepInputs::new(&self.progress, step, model_output, sample)?;
        let math = inputs.math;
        let timestep = self.timestep(step);
        let alpha = self.schedule.alpha_cumprod(timestep)?;
        let alpha_next = match timestep.checked_sub(self.stride) {
            Some(timestep) => self.schedule.alpha_cumprod(timestep)?,
            None => self.final_alpha_cumprod,
        };

        let (mut clean, epsilon) = self.split(&inputs, alpha)?;
        if let Some(range) = self.clip_range {
            clean = clean.clamp(-f64::from(range), f64::from(range))?;
        }
        let variance = (1.0 - alpha_next) / (1.0 - alpha) * (1.0 - alpha / alpha_next);
        let deviation = math.finite("sigma", self.eta * variance.sqrt())?;
        let direction = (1.0 - alpha_next - deviation * deviation).sqrt();
        let direction = math.multiply("direction weight", direction, &epsilon)?;
        let signal = alpha_next.sqrt();
        let mut next = (math.multiply("sqrt(next alpha)", signal, &clean)? + direction)?;
        if self.eta > 0.0 {
            let noise = draw_noise(&inputs, noise)?;
            next = (next + math.multiply("sigma", deviation, &noise)?)?;
        }
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
        self.schedule
            .add_noise_at(original, noise, self.timestep(step))
    }
}
