//! What the schedulers share: the noise schedule of the training steps, and the timesteps and σ of
//! the inference steps.
//!
//! diffusers keeps the training schedule in `float32` tensors and makes the inference schedule with
//! NumPy in `float64`. Both are followed type by type: at σ near 15, where the first steps of the
//! Euler samplers are, one rounding less is a visible difference.

use candle_core::Tensor;

use super::SchedulerError;
use super::config::{BetaSchedule, FinalSigma, SchedulerConfig, TimestepSpacing};
use super::step_math::{checked_pair, restore_dtype};

/// The noise levels of the training steps: `ᾱ_t`, the cumulative product of `1 - β`.
///
/// For training and for image-to-image, where noise is added to a clean sample at given timesteps and
/// no inference steps exist. (Ho et al., "Denoising Diffusion Probabilistic Models", arXiv
/// 2006.11239, equation 4; diffusers `schedulers/scheduling_ddpm.py`.)
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
    rescaled_to_zero_snr: bool,
}

impl NoiseSchedule {
    /// The schedule of a configuration, from `trained_betas` or `beta_schedule`, `beta_start`,
    /// `beta_end` and `num_train_timesteps`, with `rescale_betas_zero_snr` applied where it is set.
    ///
    /// # Errors
    /// [`SchedulerError::UnsupportedValue`].
    pub fn from_config(config: &SchedulerConfig) -> Result<Self, SchedulerError> {
        let schedule = Self::without_rescaling(config)?;
        if !config.flag("rescale_betas_zero_snr", false)? {
            return Ok(schedule);
        }
        Ok(Self {
            alphas_cumprod: rescale_to_zero_terminal_snr(&schedule.alphas_cumprod),
            rescaled_to_zero_snr: true,
        })
    }

    /// The schedule for classes that do not know `rescale_betas_zero_snr`.
    pub(super) fn without_rescaling(config: &SchedulerConfig) -> Result<Self, SchedulerError> {
        let alphas = betas(config)?.into_iter().map(|beta| 1.0 - beta);
        Ok(Self {
            alphas_cumprod: cumulative_product(alphas),
            rescaled_to_zero_snr: false,
        })
    }

    /// The schedule with a last `ᾱ` of 2^-24 instead of 0 where it was rescaled, so that the last σ
    /// is finite.
    pub(super) fn with_finite_sigmas(config: &SchedulerConfig) -> Result<Self, SchedulerError> {
        let mut schedule = Self::from_config(config)?;
        if schedule.rescaled_to_zero_snr
            && let Some(last) = schedule.alphas_cumprod.last_mut()
        {
            *last = 2f32.powi(-24);
        }
        Ok(schedule)
    }

    /// `ᾱ_t` for every training step, from the least noisy on.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// Number of training steps.
    pub fn num_train_timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// `sqrt(ᾱ_t) original + sqrt(1 - ᾱ_t) noise`, with one timestep per element of the batch.
    ///
    /// `original` and `noise` are `[batch, ...]` of the same shape; the result has it too, and the dtype
    /// of `original`.
    /// (DDPM, equation 4; diffusers `DDPMScheduler.add_noise`.)
    ///
    /// # Errors
    /// [`SchedulerError::Shape`], [`SchedulerError::DType`], [`SchedulerError::TimestepCount`] or
    /// [`SchedulerError::TimestepOutOfRange`].
    pub fn add_noise(
        &self,
        original: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
    ) -> Result<Tensor, SchedulerError> {
        let (signal, deviation) = self.mixing_weights(original, timesteps)?;
        mix(original, &signal, noise, &deviation)
    }

    /// [`add_noise`](Self::add_noise) with one timestep for the whole batch.
    pub(super) fn add_noise_at(
        &self,
        original: &Tensor,
        noise: &Tensor,
        timestep: usize,
    ) -> Result<Tensor, SchedulerError> {
        let batch = original.dims().first().copied().unwrap_or(0);
        self.add_noise(original, noise, &vec![timestep; batch])
    }

    /// The velocity `sqrt(ᾱ_t) noise - sqrt(1 - ᾱ_t) original`: the training target of
    /// [`VPrediction`](super::PredictionType::VPrediction) models.
    ///
    /// Shapes as for [`add_noise`](Self::add_noise). (diffusers `DDPMScheduler.get_velocity`.)
    ///
    /// # Errors
    /// As [`add_noise`](Self::add_noise).
    pub fn velocity(
        &self,
        original: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
    ) -> Result<Tensor, SchedulerError> {
        let (signal, deviation) = self.mixing_weights(original, timesteps)?;
        let deviation: Vec<f32> = deviation.iter().map(|weight| -weight).collect();
        mix(original, &deviation, noise, &signal)
    }

    /// `sqrt(ᾱ_t)` and `sqrt(1 - ᾱ_t)` for each element of the batch.
    fn mixing_weights(
        &self,
        sample: &Tensor,
        timesteps: &[usize],
    ) -> Result<(Vec<f32>, Vec<f32>), SchedulerError> {
        let batch = sample.dims().first().copied().unwrap_or(0);
        if batch != timesteps.len() {
            return Err(SchedulerError::TimestepCount {
                timesteps: timesteps.len(),
                batch,
            });
        }
        let alphas = timesteps
            .iter()
            .map(|timestep| self.alpha_cumprod(*timestep))
            .collect::<Result<Vec<f32>, _>>()?;
        Ok(alphas
            .into_iter()
            .map(|alpha| (alpha.sqrt(), (1.0 - alpha).sqrt()))
            .unzip())
    }

    pub(super) fn alpha_cumprod(&self, timestep: usize) -> Result<f32, SchedulerError> {
        let alpha = self.alphas_cumprod.get(timestep);
        alpha.copied().ok_or(SchedulerError::TimestepOutOfRange {
            timestep,
            num_train_timesteps: self.num_train_timesteps(),
        })
    }

    /// `σ_t = sqrt((1 - ᾱ_t) / ᾱ_t)`, from the least noisy training step on.
    fn sigmas(&self) -> Vec<f32> {
        let sigma = |alpha: &f32| ((1.0 - alpha) / alpha).sqrt();
        self.alphas_cumprod.iter().map(sigma).collect()
    }
}

/// `first_weights[i] first[i] + second_weights[i] second[i]` for each element of the batch.
pub(super) fn mix(
    first: &Tensor,
    first_weights: &[f32],
    second: &Tensor,
    second_weights: &[f32],
) -> Result<Tensor, SchedulerError> {
    let dtype = first.dtype();
    let (first, second) = checked_pair(first, second)?;
    let weighted = |sample: &Tensor, weights: &[f32]| -> candle_core::Result<Tensor> {
        let mut shape = vec![1; sample.rank()];
        if let Some(batch) = shape.first_mut() {
            *batch = weights.len();
        }
        let weights = Tensor::new(weights, sample.device())?.reshape(shape)?;
        sample.broadcast_mul(&weights.to_dtype(sample.dtype())?)
    };
    let mixed = (weighted(&first, first_weights)? + weighted(&second, second_weights)?)?;
    restore_dtype(&mixed, dtype)
}

/// β for every training step, in the roundings of diffusers' constructors.
fn betas(config: &SchedulerConfig) -> Result<Vec<f32>, SchedulerError> {
    let count = config.num_train_timesteps()?;
    if let Some(betas) = config.trained_betas()? {
        return Ok(betas.into_iter().map(|beta| beta as f32).collect());
    }
    let schedule = config.beta_schedule()?;
    if schedule == BetaSchedule::SquaredCosCapV2 {
        return Ok(squared_cosine_betas(count));
    }
    let start = config.beta("beta_start", 0.0001)?;
    let end = config.beta("beta_end", 0.02)?;
    Ok(match schedule {
        // Latent diffusion's own: linear in sqrt(β).
        BetaSchedule::ScaledLinear => torch_linspace(start.sqrt(), end.sqrt(), count)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaSchedule::Linear | BetaSchedule::SquaredCosCapV2 => torch_linspace(start, end, count),
    })
}

/// `torch.linspace(start, end, count, dtype=torch.float32)`: from both ends towards the middle.
fn torch_linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|index| {
            if index < count / 2 {
                step.mul_add(index as f32, start)
            } else {
                (-step).mul_add((count - index - 1) as f32, end)
            }
        })
        .collect()
}

/// The cosine schedule (Nichol and Dhariwal, arXiv 2102.09672, equation 17; diffusers'
/// `betas_for_alpha_bar`), with β capped at 0.999.
fn squared_cosine_betas(count: usize) -> Vec<f32> {
    let alpha_bar = |step: usize| {
        let time = step as f64 / count as f64;
        let angle = (time + 0.008) / 1.008 * std::f64::consts::PI / 2.0;
        angle.cos().powi(2)
    };
    (0..count)
        .map(|step| (1.0 - alpha_bar(step + 1) / alpha_bar(step)).min(0.999) as f32)
        .collect()
}

/// `torch.cumprod` of `float32` on the CPU: accumulated in `f64`, stored in `f32`.
fn cumulative_product(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    factors
        .scan(1f64, |product, factor| {
            *product *= f64::from(factor);
            Some(*product as f32)
        })
        .collect()
}

/// Shifts and scales `sqrt(ᾱ)` so that the last one is 0 and the first one stays (Lin et al., arXiv
/// 2305.08891, Algorithm 1; diffusers' `rescale_zero_terminal_snr`).
///
/// Goes on to β and back as diffusers does, for its roundings.
fn rescale_to_zero_terminal_snr(alphas_cumprod: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas_cumprod.iter().map(|alpha| alpha.sqrt()).collect();
    let (Some(first), Some(last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    let rescaled: Vec<f32> = roots
        .iter()
        .map(|root| ((root - last) * scale).powi(2))
        .collect();
    let previous = std::iter::once(&1f32).chain(&rescaled);
    let alphas = rescaled.iter().zip(previous).map(|(alpha_bar, previous)| {
        let beta = 1.0 - alpha_bar / previous;
        1.0 - beta
    });
    cumulative_product(alphas)
}

/// `numpy.linspace(start, end, count)`.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let intervals = count.saturating_sub(1);
    let step = (end - start) / intervals.max(1) as f64;
    (0..count)
        .map(|index| {
            if index > 0 && index == intervals {
                end
            } else {
                index as f64 * step + start
            }
        })
        .collect()
}

/// `numpy.arange(train_steps, 0, -train_steps / steps).round() - 1`, at most `steps` of them.
///
/// For some numbers of steps, 61 among them, rounding makes NumPy append one more element, which
/// diffusers takes for timestep -1. It is left out here.
fn trailing(last_timestep: usize, train_steps: usize, steps: usize) -> Vec<f64> {
    let start = last_timestep as f64;
    let interval = train_steps as f64 / steps as f64;
    let count = ((start / interval).ceil() as usize).min(steps);
    // NumPy takes the difference of the first two elements for the increment.
    let increment = (start - interval) - start;
    (0..count)
        .map(|index| (start + index as f64 * increment).round_ties_even() - 1.0)
        .collect()
}

/// How inference steps are taken from the training steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spacing {
    spacing: TimestepSpacing,
    steps_offset: usize,
    train_steps: usize,
}

impl Spacing {
    pub(super) fn from_config(
        config: &SchedulerConfig,
        default: TimestepSpacing,
    ) -> Result<Self, SchedulerError> {
        Ok(Self {
            spacing: config.timestep_spacing(default)?,
            steps_offset: config.steps_offset()?,
            train_steps: config.num_train_timesteps()?,
        })
    }

    pub(super) fn is_leading(&self) -> bool {
        self.spacing == TimestepSpacing::Leading
    }

    /// `steps` timesteps, the noisiest first, down to and including the least noisy one.
    ///
    /// Only those of `linspace` can be fractional. (`set_timesteps` of PNDM, DDIM and Euler.)
    pub(super) fn down_to_the_end(&self, steps: usize) -> Result<Vec<f64>, SchedulerError> {
        self.check(steps, self.train_steps)?;
        let last = self.train_steps - 1;
        Ok(match self.spacing {
            TimestepSpacing::Linspace => descending(linspace(0.0, last as f64, steps)),
            TimestepSpacing::Leading => self.leading(self.train_steps / steps, 0..steps),
            TimestepSpacing::Trailing => trailing(self.train_steps, self.train_steps, steps),
        })
    }

    /// `steps` whole timesteps of `steps + 1` that span the first `last_timestep` training steps,
    /// the noisiest first; the least noisy one is left to the final σ. (`set_timesteps` of
    /// DPM-Solver and UniPC.)
    pub(super) fn before_the_end(
        &self,
        steps: usize,
        last_timestep: usize,
    ) -> Result<Vec<f64>, SchedulerError> {
        match self.spacing {
            TimestepSpacing::Linspace => {
                self.check(steps, self.train_steps)?;
                let end = last_timestep as f64 - 1.0;
                let mut timesteps = descending(linspace(0.0, end, steps + 1));
                timesteps.truncate(steps);
                Ok(timesteps.into_iter().map(f64::round_ties_even).collect())
            }
            TimestepSpacing::Leading => {
                self.check(steps, last_timestep - 1)?;
                Ok(self.leading(last_timestep / (steps + 1), 1..steps + 1))
            }
            TimestepSpacing::Trailing => {
                self.check(steps, self.train_steps)?;
                Ok(trailing(last_timestep, self.train_steps, steps))
            }
        }
    }

    fn leading(&self, ratio: usize, multiples: std::ops::Range<usize>) -> Vec<f64> {
        let timestep = |multiple: usize| (multiple * ratio + self.steps_offset) as f64;
        multiples.rev().map(timestep).collect()
    }

    fn check(&self, steps: usize, maximum: usize) -> Result<(), SchedulerError> {
        if (1..=maximum).contains(&steps) {
            return Ok(());
        }
        Err(SchedulerError::StepCount {
            steps,
            minimum: 1,
            maximum,
        })
    }
}

fn descending(mut timesteps: Vec<f64>) -> Vec<f64> {
    timesteps.reverse();
    timesteps
}

/// The timesteps of a run and the σ before and after each of them.
#[derive(Debug, Clone)]
pub(super) struct SigmaSteps {
    pub(super) timesteps: Vec<f64>,
    /// One more than `timesteps`: step `i` goes from `sigmas[i]` to `sigmas[i + 1]`.
    pub(super) sigmas: Vec<f32>,
}

/// The σ of the training steps and what is made of them.
pub(super) struct TrainingSigmas {
    sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl TrainingSigmas {
    pub(super) fn new(schedule: &NoiseSchedule) -> Self {
        let sigmas = schedule.sigmas();
        let log_sigmas = sigmas
            .iter()
            .map(|sigma| f64::from(*sigma).ln() as f32)
            .collect();
        Self { sigmas, log_sigmas }
    }

    pub(super) fn min(&self) -> f64 {
        self.sigmas.first().copied().map_or(f64::NAN, f64::from)
    }

    pub(super) fn max(&self) -> f64 {
        self.sigmas.last().copied().map_or(f64::NAN, f64::from)
    }

    /// σ at possibly fractional timesteps: `numpy.interp`, which holds the ends.
    pub(super) fn interpolate(&self, timesteps: &[f64]) -> Vec<f64> {
        let last = self.sigmas.len() - 1;
        let sigma = |index: usize| f64::from(self.sigmas[index]);
        timesteps
            .iter()
            .map(|timestep| {
                let index = timestep.max(0.0) as usize;
                if index >= last {
                    return sigma(last);
                }
                let slope = sigma(index + 1) - sigma(index);
                slope * (timestep.max(0.0) - index as f64) + sigma(index)
            })
            .collect()
    }

    /// `count` σ at equal distances of log σ, from the greatest to the least
    /// (`interpolation_type = "log_linear"`, computed in `float32`).
    pub(super) fn log_linear(&self, count: usize) -> Vec<f64> {
        let (Some(low), Some(high)) = (self.log_sigmas.first(), self.log_sigmas.last()) else {
            return Vec::new();
        };
        let logarithms = torch_linspace(f64::from(*high), f64::from(*low), count);
        logarithms
            .into_iter()
            .map(|logarithm| f64::from(f64::from(logarithm).exp() as f32))
            .collect()
    }

    /// The timestep, possibly fractional, whose σ is nearest in log σ (diffusers' `_sigma_to_t`).
    pub(super) fn timestep_of(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let below = |candidate: &f32| log_sigma >= f64::from(*candidate);
        let low_index = self.log_sigmas.iter().rposition(below).unwrap_or(0);
        let low_index = low_index.min(self.log_sigmas.len() - 2);
        let (low, high) = (self.log_sigmas[low_index], self.log_sigmas[low_index + 1]);
        let weight = ((f64::from(low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
        (1.0 - weight) * low_index as f64 + weight * (low_index + 1) as f64
    }

    /// The last σ of a run, after its last step.
    pub(super) fn last(&self, last: FinalSigma) -> f64 {
        match last {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => self.min(),
        }
    }
}

/// `count` σ from `sigma_max` to `sigma_min` (Karras et al., "Elucidating the Design Space of
/// Diffusion-Based Generative Models", arXiv 2206.00364, equation 5, with ρ = 7).
pub(super) fn karras_sigmas(sigma_min: f64, sigma_max: f64, count: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let low = sigma_min.powf(1.0 / RHO);
    let high = sigma_max.powf(1.0 / RHO);
    linspace(0.0, 1.0, count)
        .into_iter()
        .map(|ramp| (high + ramp * (low - high)).powf(RHO))
        .collect()
}

/// The σ of a run with the final one appended, in `f32` as the samplers use them.
pub(super) fn with_last(sigmas: Vec<f64>, last: f64) -> Vec<f32> {
    let all = sigmas.into_iter().chain([last]);
    all.map(|sigma| sigma as f32).collect()
}
