//! Pseudo numerical methods for diffusion models (Liu et al., arXiv 2202.09778; diffusers
//! `schedulers/scheduling_pndm.py`).
//!
//! Linear multistep (Adams-Bashforth) steps of order 4. The model outputs that they need at the start
//! come either from three Runge-Kutta steps of four model calls each, or, with `skip_prk_steps`, from
//! lower orders and one step that is taken twice ("PLMS", the default of Stable Diffusion 1.x).

use candle_core::Tensor;

use super::config::TimestepSpacing;
use super::schedule::{NoiseSchedule, Spacing};
use super::step_math::{Progress, StepInputs, StepMath};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// Steps that Runge-Kutta is taken over, plus one.
const ORDER: usize = 4;
/// Model calls of a Runge-Kutta step.
const CALLS: usize = 4;

/// `PNDMScheduler` of diffusers.
#[derive(Debug, Clone)]
pub struct PndmScheduler {
    schedule: NoiseSchedule,
    final_alpha_cumprod: f32,
    prediction: PredictionType,
    timesteps: Vec<f64>,
    /// How many of the timesteps are model calls of Runge-Kutta steps.
    runge_kutta_calls: usize,
    /// Distance of the steps in timesteps.
    stride: usize,
    progress: Progress,
    /// Model calls so far.
    calls: usize,
    /// Outputs of the latest steps, the newest last.
    outputs: Vec<Tensor>,
    /// Weighted sum of the outputs of the Runge-Kutta step so far.
    output_sum: Option<Tensor>,
    /// Sample that the present Runge-Kutta step, or the step taken twice, starts from.
    start: Option<Tensor>,
}

impl PndmScheduler {
    /// A run of `steps` steps.
    ///
    /// The timesteps are one more than the steps with `skip_prk_steps` (for 2 steps or more), and
    /// nine more without.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `prediction_type = "sample"`);
    /// [`SchedulerError::StepCount`], which without `skip_prk_steps` includes fewer than 4 steps;
    /// [`SchedulerError::TimestepOutOfRange`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        let schedule = NoiseSchedule::without_rescaling(config)?;
        let prediction = config.prediction_type()?;
        if prediction == PredictionType::Sample {
            return Err(config.unsupported("prediction_type", "epsilon, v_prediction"));
        }
        let spacing = Spacing::from_config(config, TimestepSpacing::Leading)?;
        let mut whole: Vec<usize> = spacing
            .down_to_the_end(steps)?
            .into_iter()
            .map(|timestep| timestep.round_ties_even() as usize)
            .collect();

        let train_steps = schedule.num_train_timesteps();
        let stride = train_steps / steps;
        let mut runge_kutta_calls = 0;
        if !config.flag("skip_prk_steps", false)? {
            if steps < ORDER {
                return Err(SchedulerError::StepCount {
                    steps,
                    minimum: ORDER,
                    maximum: train_steps,
                });
            }
            let calls = runge_kutta_timesteps(&whole[..ORDER], stride / 2);
            runge_kutta_calls = calls.len();
            whole.splice(..ORDER - 1, calls);
        } else if steps > 1 {
            whole.insert(1, whole[1]);
        }
        for timestep in &whole {
            schedule.alpha_cumprod(*timestep)?;
        }

        Ok(Self {
            final_alpha_cumprod: if config.flag("set_alpha_to_one", false)? {
                1.0
            } else {
                schedule.alpha_cumprod(0)?
            },
            schedule,
            prediction,
            progress: Progress::new(whole.len()),
            timesteps: whole.into_iter().map(|timestep| timestep as f64).collect(),
            runge_kutta_calls,
            stride,
            calls: 0,
            outputs: Vec::new(),
            output_sum: None,
            start: None,
        })
    }

    /// The timestep of a step.
    fn timestep(&self, step: usize) -> i64 {
        self.timesteps
            .get(step)
            .map_or(0, |timestep| *timestep as i64)
    }

    fn alpha_cumprod(&self, timestep: i64) -> Result<f32, SchedulerError> {
        match usize::try_from(timestep) {
            Ok(timestep) => self.schedule.alpha_cumprod(timestep),
            Err(_) => Ok(self.final_alpha_cumprod),
        }
    }

    /// Collects one of the four model outputs of a Runge-Kutta step, and goes from the start of the
    /// step to the place of the next model call. (Equation 13; `step_prk`.)
    fn runge_kutta(&mut self, step: usize, inputs: &StepInputs) -> Result<Tensor, SchedulerError> {
        let math = inputs.math;
        let call = self.calls % CALLS;
        let weight = if call == 0 || call == CALLS - 1 {
            1.0 / 6.0
        } else {
            1.0 / 3.0
        };
        let weighted = math.multiply("weight", weight, &inputs.model_output)?;
        let sum = match self.output_sum.take() {
            Some(sum) => (sum + weighted)?,
            None => weighted,
        };
        let output = if call == CALLS - 1 {
            sum
        } else {
            self.output_sum = Some(sum);
            inputs.model_output.clone()
        };
        if call == 0 {
            self.outputs.push(inputs.model_output.clone());
            self.start = Some(inputs.sample.clone());
        }
        let start = self.start.as_ref().unwrap_or(&inputs.sample).clone();
        let half_stride = if self.calls.is_multiple_of(2) {
            (self.stride / 2) as i64
        } else {
            0
        };
        let from = self.timestep(self.calls / CALLS * CALLS);
        let to = self.timestep(step) - half_stride;
        self.move_sample(math, &start, &output, from, to)
    }

    /// A linear multistep step of as high an order as there are outputs for, up to 4. (Equation 12;
    /// `step_plms`.)
    fn multistep(&mut self, step: usize, inputs: &StepInputs) -> Result<Tensor, SchedulerError> {
        let math = inputs.math;
        let stride = self.stride as i64;
        let (mut from, mut to) = (self.timestep(step), self.timestep(step) - stride);
        let repeated = self.calls == 1;
        if repeated {
            (from, to) = (from + stride, from);
        } else {
            let kept = self.outputs.len().saturating_sub(ORDER - 1);
            self.outputs.drain(..kept);
            self.outputs.push(inputs.model_output.clone());
        }

        let mut sample = inputs.sample.clone();
        let output = match self.outputs.as_slice() {
            [first] if repeated => {
                if let Some(start) = self.start.take() {
                    sample = start;
                }
                math.divide("2", &(&inputs.model_output + first)?, 2.0)?
            }
            [e0, e1] => math.divide("2", &((e1 * 3.0)? - e0)?, 2.0)?,
            [e0, e1, e2] => {
                let sum = (((e2 * 23.0)? - (e1 * 16.0)?)? + (e0 * 5.0)?)?;
                math.divide("12", &sum, 12.0)?
            }
            [e0, e1, e2, e3] => {
                let sum = (((e3 * 55.0)? - (e2 * 59.0)?)? + (e1 * 37.0)?)?;
                math.multiply("1/24", 1.0 / 24.0, &(sum - (e0 * 9.0)?)?)?
            }
            _ => inputs.model_output.clone(),
        };
        if self.calls == 0 {
            self.start = Some(inputs.sample.clone());
        }
        self.move_sample(math, &sample, &output, from, to)
    }

    /// Moves a sample from one timestep to another along the noise that the model predicts.
    /// (Equation 9; `_get_prev_sample`.)
    fn move_sample(
        &self,
        math: StepMath,
        sample: &Tensor,
        output: &Tensor,
        from: i64,
        to: i64,
    ) -> Result<Tensor, SchedulerError> {
        let alpha_from = self.alpha_cumprod(from)?;
        let alpha_to = self.alpha_cumprod(to)?;
        let beta_from = 1.0 - alpha_from;
        let beta_to = 1.0 - alpha_to;
        let epsilon = match self.prediction {
            PredictionType::VPrediction => {
                let output = math.multiply("sqrt(alpha)", alpha_from.sqrt(), output)?;
                (output + math.multiply("sqrt(beta)", beta_from.sqrt(), sample)?)?
            }
            PredictionType::Epsilon | PredictionType::Sample => output.clone(),
        };
        let sample_factor = (alpha_to / alpha_from).sqrt();
        let divisor = alpha_from * beta_to.sqrt() + (alpha_from * beta_from * alpha_to).sqrt();
        let direction = math.multiply("alpha difference", alpha_to - alpha_from, &epsilon)?;
        let direction = math.divide("output divisor", &direction, divisor)?;
        Ok((math.multiply("sample factor", sample_factor, sample)? - direction)?)
    }
}

/// The model calls of three Runge-Kutta steps between four timesteps: each at its start, twice in the
/// middle, and at its end, which is the next one's start.
fn runge_kutta_timesteps(steps: &[usize], half_stride: usize) -> Vec<usize> {
    let calls = steps.windows(2).flat_map(|pair| {
        let middle = pair[1] + half_stride;
        [pair[0], middle, middle, pair[1]]
    });
    calls.collect()
}

impl Scheduler for PndmScheduler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn scale_model_input(&self, sample: &Tensor, step: usize) -> Result<Tensor, SchedulerError> {
        self.progress.unscaled(sample, step)
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        step: usize,
        sample: &Tensor,
        _noise: &mut dyn NoiseSource,
    ) -> Result<Tensor, SchedulerError> {
        let inputs = StepInputs::new(&self.progress, step, model_output, sample)?;
        let next = if self.calls < self.runge_kutta_calls {
            self.runge_kutta(step, &inputs)?
        } else {
            self.multistep(step, &inputs)?
        };
        self.calls += 1;
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
        let timestep = self
            .timesteps
            .get(step)
            .map_or(0, |timestep| *timestep as usize);
        self.schedule.add_noise_at(original, noise, timestep)
    }
}
