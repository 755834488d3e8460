//! DPM-Solver++, multistep (Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
//! Probabilistic Models", arXiv 2211.01095; diffusers `schedulers/scheduling_dpmsolver_multistep.py`).
//!
//! Order 2 is "DPM++ 2M". The solver works in λ = log(α / σ), half the logarithm of the
//! signal-to-noise ratio, and on the model's prediction of the clean sample.

use candle_core::Tensor;

use super::config::{BetaSchedule, FinalSigma, TimestepSpacing};
use super::schedule::{
    NoiseSchedule, SigmaSteps, Spacing, TrainingSigmas, karras_sigmas, mix, with_last,
};
use super::step_math::{Progress, StepInputs};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// Runs of fewer steps end with lower orders when `lower_order_final` is set.
const FEW_STEPS: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SolverType {
    Midpoint,
    Heun,
}

/// `DPMSolverMultistepScheduler` of diffusers, algorithm `dpmsolver++`.
#[derive(Debug, Clone)]
pub struct DpmSolverScheduler {
    points: LambdaPoints,
    prediction: PredictionType,
    order: usize,
    solver_type: SolverType,
    lower_order_final: bool,
    first_order_at_end: bool,
    progress: Progress,
    /// Predictions of the clean sample of the latest steps, the newest last.
    predictions: Vec<Tensor>,
}

impl DpmSolverScheduler {
    /// A run of `steps` steps, with Karras σ if `use_karras_sigmas` is set.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `thresholding`, for any
    /// `algorithm_type` but `dpmsolver++` and for `solver_order` over 3),
    /// [`SchedulerError::StepCount`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.refuse_set(&[
            "thresholding",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_lu_lambdas",
            "use_flow_sigmas",
            "use_dynamic_shifting",
        ])?;
        config.refuse_present("variance_type")?;
        // DEIS and UniPC call their algorithms and solvers differently; diffusers takes these
        // names for its default.
        config.choice("algorithm_type", (), &[("dpmsolver++", ()), ("deis", ())])?;
        let solver_type = config.choice(
            "solver_type",
            SolverType::Midpoint,
            &[
                ("midpoint", SolverType::Midpoint),
                ("heun", SolverType::Heun),
                ("logrho", SolverType::Midpoint),
                ("bh1", SolverType::Midpoint),
                ("bh2", SolverType::Midpoint),
            ],
        )?;
        let karras = KarrasRules {
            round_timesteps: config.beta_schedule()? != BetaSchedule::SquaredCosCapV2,
            end_at_own_minimum: false,
        };
        let points = LambdaPoints::new(config, steps, clipped_timesteps(config)?, karras)?;
        Ok(Self {
            progress: Progress::new(points.steps.timesteps.len()),
            points,
            prediction: config.prediction_type()?,
            order: solver_order(config)?,
            solver_type,
            lower_order_final: config.flag("lower_order_final", true)?,
            first_order_at_end: config.flag("euler_at_final", false)?
                || config.final_sigma()? == FinalSigma::Zero,
            predictions: Vec::new(),
        })
    }

    /// The order of a step: as high as there are predictions for, lower at the end.
    fn order_of(&self, step: usize) -> usize {
        let remaining = self.points.steps.timesteps.len() - step;
        let few = self.lower_order_final && self.points.steps.timesteps.len() < FEW_STEPS;
        let at_end = match remaining {
            1 if self.first_order_at_end || few => 1,
            2 if few => 2,
            _ => self.order,
        };
        at_end.min(self.predictions.len())
    }

    /// Equations of Appendix A of the paper, and of its Algorithm 2 for order 2.
    fn solve(&self, inputs: &StepInputs, step: usize) -> Result<Tensor, SchedulerError> {
        let math = inputs.math;
        let target = self.points.at(step + 1);
        let source = self.points.at(step);
        let h = target.lambda - source.lambda;
        let decay = (-h).exp() - 1.0;
        let sample_factor = target.sigma / source.sigma;
        let start = math.multiply("sample factor", sample_factor, &inputs.sample)?;

        let order = self.order_of(step);
        let newest = self.predictions.len() - 1;
        let m0 = &self.predictions[newest];
        let first = (start - math.multiply("order 1", target.alpha * decay, m0)?)?;
        if order < 2 {
            return Ok(first);
        }
        let before = self.points.at(step - 1);
        let r0 = (source.lambda - before.lambda) / h;
        let difference = (m0 - &self.predictions[newest - 1])?;
        let slope = math.multiply("1/r0", 1.0 / r0, &difference)?;
        if order == 2 {
            return Ok(match self.solver_type {
                SolverType::Midpoint => {
                    let factor = 0.5 * (target.alpha * decay);
                    (first - math.multiply("order 2", factor, &slope)?)?
                }
                SolverType::Heun => {
                    let factor = target.alpha * (decay / h + 1.0);
                    (first + math.multiply("order 2", factor, &slope)?)?
                }
            });
        }
        let long_before = self.points.at(step - 2);
        let r1 = (before.lambda - long_before.lambda) / h;
        let difference = (&self.predictions[newest - 1] - &self.predictions[newest - 2])?;
        let earlier_slope = math.multiply("1/r1", 1.0 / r1, &difference)?;
        let bend = (&slope - earlier_slope)?;
        let slope = (slope + math.multiply("r0/(r0+r1)", r0 / (r0 + r1), &bend)?)?;
        let curvature = math.multiply("1/(r0+r1)", 1.0 / (r0 + r1), &bend)?;
        let second = target.alpha * (decay / h + 1.0);
        let third = target.alpha * ((decay + h) / (h * h) - 0.5);
        let result = (first + math.multiply("order 2", second, &slope)?)?;
        Ok((result - math.multiply("order 3", third, &curvature)?)?)
    }
}

/// `solver_order`, 1 to 3.
pub(super) fn solver_order(config: &SchedulerConfig) -> Result<usize, SchedulerError> {
    let order = config.count("solver_order", 2)?;
    if (1..=3).contains(&order) {
        return Ok(order);
    }
    Err(config.unsupported("solver_order", "1, 2, 3"))
}

/// How many of the training steps have a λ of at least `lambda_min_clipped`, which keeps cosine
/// schedules off their end.
fn clipped_timesteps(config: &SchedulerConfig) -> Result<usize, SchedulerError> {
    let field = "lambda_min_clipped";
    let schedule = NoiseSchedule::with_finite_sigmas(config)?;
    let bound = config.number(field)?.unwrap_or(f64::NEG_INFINITY);
    let lambda = |alpha: &f32| f64::from(log_ratio(alpha.sqrt(), (1.0 - alpha).sqrt()));
    let alphas = schedule.alphas_cumprod().iter();
    let kept = alphas.filter(|alpha| lambda(alpha) >= bound).count();
    if kept < 2 {
        return Err(config.unsupported(field, "less than the λ of nearly all training steps"));
    }
    Ok(kept)
}

/// λ = log(alpha / sigma), in the roundings of `torch.log(alpha) - torch.log(sigma)`.
fn log_ratio(alpha: f32, sigma: f32) -> f32 {
    let log = |x: f32| f64::from(x).ln() as f32;
    log(alpha) - log(sigma)
}

/// A point of a run in the variables of the exponential integrators.
#[derive(Debug, Clone, Copy)]
pub(super) struct LambdaPoint {
    /// Weight of the signal.
    pub(super) alpha: f32,
    /// Weight of the noise: `alpha² + sigma² = 1`.
    pub(super) sigma: f32,
    /// `log(alpha / sigma)`.
    pub(super) lambda: f32,
}

/// Where DPM-Solver and UniPC differ in Karras schedules.
#[derive(Debug, Clone, Copy)]
pub(super) struct KarrasRules {
    /// Timesteps are rounded to the nearest whole one; otherwise their fraction is dropped.
    pub(super) round_timesteps: bool,
    /// A final σ that is not zero is the least of the Karras schedule, not of the training steps.
    pub(super) end_at_own_minimum: bool,
}

/// The timesteps and points of a run of DPM-Solver or UniPC.
#[derive(Debug, Clone)]
pub(super) struct LambdaPoints {
    pub(super) steps: SigmaSteps,
}

impl LambdaPoints {
    /// `train_steps` is how many of the training steps are used.
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        train_steps: usize,
        karras: KarrasRules,
    ) -> Result<Self, SchedulerError> {
        let training = TrainingSigmas::new(&NoiseSchedule::with_finite_sigmas(config)?);
        let spacing = Spacing::from_config(config, TimestepSpacing::Linspace)?;
        let mut timesteps = spacing.before_the_end(steps, train_steps)?;
        let mut last = training.last(config.final_sigma()?);
        let sigmas = if config.flag("use_karras_sigmas", false)? {
            let low = config.sigma_bound("sigma_min")?.unwrap_or(training.min());
            let high = config.sigma_bound("sigma_max")?.unwrap_or(training.max());
            let sigmas = karras_sigmas(low, high, steps);
            let whole = |sigma: &f64| match training.timestep_of(*sigma) {
                timestep if karras.round_timesteps => timestep.round_ties_even(),
                timestep => timestep.trunc(),
            };
            timesteps = sigmas.iter().map(whole).collect();
            if karras.end_at_own_minimum && last > 0.0 {
                last = sigmas.last().copied().unwrap_or(last);
            }
            sigmas
        } else {
            training.interpolate(&timesteps)
        };
        let sigmas = with_last(sigmas, last);
        Ok(Self {
            steps: SigmaSteps { timesteps, sigmas },
        })
    }

    /// The point before step `index`, or after the last one.
    pub(super) fn at(&self, index: usize) -> LambdaPoint {
        let sigma = self.steps.sigmas.get(index).copied().unwrap_or(f32::NAN);
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        LambdaPoint {
            alpha,
            sigma,
            lambda: log_ratio(alpha, sigma),
        }
    }

    /// The clean sample that the model's output implies at a step (`convert_model_output`).
    pub(super) fn clean_sample(
        &self,
        inputs: &StepInputs,
        prediction: PredictionType,
        step: usize,
    ) -> Result<Tensor, SchedulerError> {
        let StepInputs {
            sample,
            model_output,
            math,
            ..
        } = inputs;
        let point = self.at(step);
        Ok(match prediction {
            PredictionType::Epsilon => {
                let signal = (sample - math.multiply("sigma", point.sigma, model_output)?)?;
                math.divide("alpha", &signal, point.alpha)?
            }
            PredictionType::Sample => model_output.clone(),
            PredictionType::VPrediction => {
                let signal = math.multiply("alpha", point.alpha, sample)?;
                (signal - math.multiply("sigma", point.sigma, model_output)?)?
            }
        })
    }

    /// `alpha original + sigma noise`.
    pub(super) fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        step: usize,
    ) -> Result<Tensor, SchedulerError> {
        let point = self.at(step);
        mix(original, &[point.alpha], noise, &[point.sigma])
    }
}

/// Appends the newest element and drops all but the `count` newest.
pub(super) fn remember(history: &mut Vec<Tensor>, newest: Tensor, count: usize) {
    history.push(newest);
    let surplus = history.len().saturating_sub(count);
    history.drain(..surplus);
}

impl Scheduler for DpmSolverScheduler {
    fn timesteps(&self) -> &[f64] {
        &self.points.steps.timesteps
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
        let clean = self.points.clean_sample(&inputs, self.prediction, step)?;
        remember(&mut self.predictions, clean, self.order);
        let next = self.solve(&inputs, step)?;
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
        self.points.add_noise(original, noise, step)
    }
}
