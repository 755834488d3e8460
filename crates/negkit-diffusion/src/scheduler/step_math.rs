//! The arithmetic of one step: tensors in a wide dtype, coefficients that must be finite.

use candle_core::{DType, Tensor};

use super::SchedulerError;
use crate::noise::NoiseSource;

/// Which step may come next.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    count: usize,
    next: Option<usize>,
}

impl Progress {
    pub(super) fn new(count: usize) -> Self {
        Self { count, next: None }
    }

    /// Refuses an index that no step has.
    pub(super) fn check_index(&self, step: usize) -> Result<(), SchedulerError> {
        if step < self.count {
            return Ok(());
        }
        Err(SchedulerError::StepIndex {
            step,
            expected: format!("there are {} steps, counted from 0", self.count),
        })
    }

    /// The model's input where it is the sample itself.
    pub(super) fn unscaled(&self, sample: &Tensor, step: usize) -> Result<Tensor, SchedulerError> {
        self.check_index(step)?;
        widened(sample)?;
        Ok(sample.clone())
    }

    /// Refuses a step that does not follow the last one; the first one is free.
    fn check_order(&self, step: usize) -> Result<(), SchedulerError> {
        self.check_index(step)?;
        match self.next {
            Some(next) if next != step => Err(SchedulerError::StepIndex {
                step,
                expected: format!("{next} comes next"),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn advance(&mut self, step: usize) {
        self.next = Some(step + 1);
    }
}

/// What a step works on, in f32 or f64.
pub(super) struct StepInputs {
    pub(super) sample: Tensor,
    pub(super) model_output: Tensor,
    pub(super) math: StepMath,
    dtype: DType,
}

impl StepInputs {
    pub(super) fn new(
        progress: &Progress,
        step: usize,
        model_output: &Tensor,
        sample: &Tensor,
    ) -> Result<Self, SchedulerError> {
        progress.check_order(step)?;
        let dtype = sample.dtype();
        let (sample, model_output) = checked_pair(sample, model_output)?;
        Ok(Self {
            sample,
            model_output,
            math: StepMath { step },
            dtype,
        })
    }

    /// The result in the dtype that the sample came in.
    pub(super) fn finish(&self, result: &Tensor) -> Result<Tensor, SchedulerError> {
        restore_dtype(result, self.dtype)
    }
}

/// Products with coefficients, each of which is checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepMath {
    step: usize,
}

impl StepMath {
    pub(super) fn new(step: usize) -> Self {
        Self { step }
    }

    pub(super) fn finite(
        self,
        coefficient: &'static str,
        value: f32,
    ) -> Result<f32, SchedulerError> {
        if value.is_finite() {
            return Ok(value);
        }
        Err(SchedulerError::NotFinite {
            step: self.step,
            coefficient,
            value,
        })
    }

    /// `factor * tensor`.
    pub(super) fn multiply(
        self,
        coefficient: &'static str,
        factor: f32,
        tensor: &Tensor,
    ) -> Result<Tensor, SchedulerError> {
        let factor = f64::from(self.finite(coefficient, factor)?);
        Ok((tensor * factor)?)
    }

    /// `tensor / divisor`: a true division, which candle's own `tensor / f64` is not (it multiplies
    /// by the reciprocal, and differs from PyTorch in the last bit).
    pub(super) fn divide(
        self,
        coefficient: &'static str,
        tensor: &Tensor,
        divisor: f32,
    ) -> Result<Tensor, SchedulerError> {
        self.finite(coefficient, 1.0 / divisor)?;
        self.finite(coefficient, divisor)?;
        let divisor = Tensor::new(divisor, tensor.device())?.to_dtype(tensor.dtype())?;
        Ok(tensor.broadcast_div(&divisor)?)
    }
}

/// Two tensors of the same shape, in the dtype to compute in.
pub(super) fn checked_pair(
    first: &Tensor,
    second: &Tensor,
) -> Result<(Tensor, Tensor), SchedulerError> {
    if first.dims() != second.dims() {
        return Err(SchedulerError::Shape {
            first: first.dims().to_vec(),
            second: second.dims().to_vec(),
        });
    }
    let (first, second) = (widened(first)?, widened(second)?);
    if first.dtype() == second.dtype() {
        return Ok((first, second));
    }
    Ok((first.to_dtype(DType::F64)?, second.to_dtype(DType::F64)?))
}

/// The tensor in f32, or as it is when it is f64.
pub(super) fn widened(tensor: &Tensor) -> Result<Tensor, SchedulerError> {
    match tensor.dtype() {
        DType::F64 | DType::F32 => Ok(tensor.clone()),
        DType::F16 | DType::BF16 => Ok(tensor.to_dtype(DType::F32)?),
        dtype => Err(SchedulerError::DType { dtype }),
    }
}

/// Fresh noise like the sample, in the dtype to compute in. It is drawn in the dtype that the sample
/// has outside, as in diffusers.
pub(super) fn draw_noise(
    inputs: &StepInputs,
    noise: &mut dyn NoiseSource,
) -> Result<Tensor, SchedulerError> {
    let sample = &inputs.sample;
    let noise = noise.randn(sample.dims(), inputs.dtype, sample.device())?;
    Ok(noise.to_dtype(sample.dtype())?)
}

pub(super) fn restore_dtype(tensor: &Tensor, dtype: DType) -> Result<Tensor, SchedulerError> {
    Ok(tensor.to_dtype(dtype)?)
}
