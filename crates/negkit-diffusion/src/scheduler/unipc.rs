//! UniPC, a predictor-corrector (Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for
//! Fast Sampling of Diffusion Models", arXiv 2302.04867; diffusers
//! `schedulers/scheduling_unipc_multistep.py`).
//!
//! Each model call serves twice: it corrects the sample that it was made on, then predicts the next.

use candle_core::Tensor;

use super::config::FinalSigma;
use super::dpm_solver::{KarrasRules, LambdaPoints, remember, solver_order};
use super::step_math::{Progress, StepInputs, StepMath};
use super::{PredictionType, Scheduler, SchedulerConfig, SchedulerError};
use crate::noise::NoiseSource;

/// The function B(h) of the paper (`solver_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// B(h) = h.
    Bh1,
    /// B(h) = exp(h) - 1.
    Bh2,
}

/// `UniPCMultistepScheduler` of diffusers, predicting the clean sample (`predict_x0`).
#[derive(Debug, Clone)]
pub struct UniPcScheduler {
    points: LambdaPoints,
    prediction: PredictionType,
    order: usize,
    variant: Variant,
    lower_order_final: bool,
    /// Steps after which the sample is not corrected.
    disable_corrector: Vec<usize>,
    progress: Progress,
    /// Predictions of the clean sample of the latest steps, the newest last.
    predictions: Vec<Tensor>,
    /// The corrected sample that the last step started from, and the order of that step.
    last: Option<(Tensor, usize)>,
}

impl UniPcScheduler {
    /// A run of `steps` steps, with Karras σ if `use_karras_sigmas` is set.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`] (among others for `thresholding`, `predict_x0 = false`,
    /// a `solver_p` and a `solver_order` over 3), [`SchedulerError::StepCount`].
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.refuse_set(&[
            "thresholding",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_flow_sigmas",
            "use_dynamic_shifting",
        ])?;
        config.refuse_present("solver_p")?;
        config.refuse_present("shift_terminal")?;
        if !config.flag("predict_x0", true)? {
            return Err(config.unsupported("predict_x0", "true"));
        }
        // DPM-Solver and DEIS have other solvers; diffusers takes their names for its default.
        let variant = config.choice(
            "solver_type",
            Variant::Bh2,
            &[
                ("bh1", Variant::Bh1),
                ("bh2", Variant::Bh2),
                ("midpoint", Variant::Bh2),
                ("heun", Variant::Bh2),
                ("logrho", Variant::Bh2),
            ],
        )?;
        let order = solver_order(config)?;
        let lower_order_final = config.flag("lower_order_final", true)?;
        if !lower_order_final && order > 1 && config.final_sigma()? == FinalSigma::Zero {
            return Err(config.unsupported(
                "lower_order_final",
                "true, as the last step to final_sigmas_type = zero has only a first order",
            ));
        }
        let train_steps = config.num_train_timesteps()?;
        let karras = KarrasRules {
            round_timesteps: true,
            end_at_own_minimum: true,
        };
        let points = LambdaPoints::new(config, steps, train_steps, karras)?;
        Ok(Self {
            progress: Progress::new(points.steps.timesteps.len()),
            points,
            prediction: config.prediction_type()?,
            order,
            variant,
            lower_order_final,
            disable_corrector: config.counts("disable_corrector")?,
            predictions: Vec::new(),
            last: None,
        })
    }

    /// What an update from the point before step `from` to that before step `from + 1` needs, with
    /// the differences from the newest of `self.predictions` to the earlier ones.
    fn update(&self, math: StepMath, from: usize, order: usize) -> Result<Update, SchedulerError> {
        let (source, target) = (self.points.at(from), self.points.at(from + 1));
        let h = target.lambda - source.lambda;
        let newest = self.predictions.len() - 1;
        let m0 = &self.predictions[newest];
        let mut ratios = Vec::with_capacity(order);
        let mut differences = Vec::with_capacity(order - 1);
        for back in 1..order {
            let ratio = (self.points.at(from - back).lambda - source.lambda) / h;
            let difference = (&self.predictions[newest - back] - m0)?;
            differences.push(math.divide("r", &difference, ratio)?);
            ratios.push(ratio);
        }
        ratios.push(1.0);
        let growth = (-h).exp_m1();
        Ok(Update {
            prediction: m0.clone(),
            sample_factor: target.sigma / source.sigma,
            prediction_factor: target.alpha * growth,
            residual_factor: target.alpha
                * match self.variant {
                    Variant::Bh1 => -h,
                    Variant::Bh2 => growth,
                },
            system: System::new(self.variant, -h, ratios),
            differences,
        })
    }

    /// UniP-p: the sample at the end of step `step`. (Section 3.2; `multistep_uni_p_bh_update`.)
    fn predict(
        &self,
        math: StepMath,
        sample: &Tensor,
        step: usize,
        order: usize,
    ) -> Result<Tensor, SchedulerError> {
        let update = self.update(math, step, order)?;
        let start = update.start(math, sample)?;
        let weights = match order {
            1 => return Ok(start),
            // Exact for order 2 in the limit of small steps; the paper and diffusers fix it.
            2 => vec![0.5],
            _ => update.system.solve(order - 1),
        };
        let residual = weighted_sum(math, &weights, &update.differences)?;
        update.finish(math, start, residual)
    }

    /// UniC-p: the sample that step `step` starts from, corrected by the model's output for it.
    /// (Section 3.1; `multistep_uni_c_bh_update`.)
    fn correct(
        &self,
        math: StepMath,
        step: usize,
        clean: &Tensor,
        last_sample: &Tensor,
        order: usize,
    ) -> Result<Tensor, SchedulerError> {
        let update = self.update(math, step - 1, order)?;
        let start = update.start(math, last_sample)?;
        let mut weights = match order {
            1 => vec![0.5],
            _ => update.system.solve(order),
        };
        let newest_weight = weights.pop().unwrap_or(f32::NAN);
        let newest = math.multiply(
            "corrector weight",
            newest_weight,
            &(clean - &update.prediction)?,
        )?;
        let residual = match weighted_sum(math, &weights, &update.differences)? {
            Some(earlier) => (earlier + newest)?,
            None => newest,
        };
        update.finish(math, start, Some(residual))
    }

    fn order_of(&self, step: usize) -> usize {
        let remaining = self.points.steps.timesteps.len() - step;
        let order = if self.lower_order_final {
            self.order.min(remaining)
        } else {
            self.order
        };
        order.min(self.predictions.len())
    }
}

/// The parts of one predictor or corrector update.
struct Update {
    /// The newest prediction of the clean sample.
    prediction: Tensor,
    sample_factor: f32,
    prediction_factor: f32,
    residual_factor: f32,
    system: System,
    /// `(m_i - m_0) / r_i` for the earlier predictions, the newest first.
    differences: Vec<Tensor>,
}

impl Update {
    /// The first-order update.
    fn start(&self, math: StepMath, sample: &Tensor) -> Result<Tensor, SchedulerError> {
        let sample = math.multiply("sample factor", self.sample_factor, sample)?;
        let factor = self.prediction_factor;
        Ok((sample - math.multiply("prediction factor", factor, &self.prediction)?)?)
    }

    /// The update with what higher orders add to it.
    fn finish(
        &self,
        math: StepMath,
        start: Tensor,
        residual: Option<Tensor>,
    ) -> Result<Tensor, SchedulerError> {
        match residual {
            None => Ok(start),
            Some(residual) => {
                let factor = self.residual_factor;
                Ok((start - math.multiply("residual factor", factor, &residual)?)?)
            }
        }
    }
}

/// The linear system `R ρ = b` for the weights of the differences (Theorem 3.1).
struct System {
    ratios: Vec<f32>,
    right: Vec<f32>,
}

impl System {
    fn new(variant: Variant, h: f32, ratios: Vec<f32>) -> Self {
        let growth = h.exp_m1();
        let b_of_h = match variant {
            Variant::Bh1 => h,
            Variant::Bh2 => growth,
        };
        let mut phi = growth / h - 1.0;
        let mut factorial = 1.0;
        let mut right = Vec::with_capacity(ratios.len());
        for row in 1..=ratios.len() {
            right.push(phi * factorial / b_of_h);
            factorial *= (row + 1) as f32;
            phi = phi / h - 1.0 / factorial;
        }
        Self { ratios, right }
    }

    /// The solution of the leading `size` rows and columns: row `k` of `R` holds the `k`-th powers of
    /// the ratios. Gaussian elimination with partial pivoting in `f64`.
    fn solve(&self, size: usize) -> Vec<f32> {
        let mut rows: Vec<Vec<f64>> = (0..size)
            .map(|power| {
                let powers = self.ratios[..size].iter();
                let powers = powers.map(|ratio| f64::from(ratio.powi(power as i32)));
                powers.chain([f64::from(self.right[power])]).collect()
            })
            .collect();
        for column in 0..size {
            let magnitude = |row: &usize| rows[*row][column].abs();
            let best = (column..size).max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)));
            rows.swap(column, best.unwrap_or(column));
            let pivot = rows[column].clone();
            for row in &mut rows[column + 1..] {
                let factor = row[column] / pivot[column];
                for (value, pivot) in row.iter_mut().zip(&pivot) {
                    *value -= factor * pivot;
                }
            }
        }
        let mut solution = vec![0f64; size];
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size)
                .map(|column| rows[row][column] * solution[column])
                .sum();
            solution[row] = (rows[row][size] - known) / rows[row][row];
        }
        solution.into_iter().map(|weight| weight as f32).collect()
    }
}

fn weighted_sum(
    math: StepMath,
    weights: &[f32],
    tensors: &[Tensor],
) -> Result<Option<Tensor>, SchedulerError> {
    let mut sum: Option<Tensor> = None;
    for (weight, tensor) in weights.iter().zip(tensors) {
        let term = math.multiply("weight", *weight, tensor)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    Ok(sum)
}

impl Scheduler for UniPcScheduler {
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
        let math = inputs.math;
        let clean = self.points.clean_sample(&inputs, self.prediction, step)?;
        let corrected = match &self.last {
            Some((last_sample, order)) if !self.disable_corrector.contains(&(step - 1)) => {
                self.correct(math, step, &clean, last_sample, *order)?
            }
            _ => inputs.sample.clone(),
        };
        remember(&mut self.predictions, clean, self.order);
        let order = self.order_of(step);
        let next = self.predict(math, &corrected, step, order)?;
        self.last = Some((corrected, order));
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
