//! AdamW with clipping and a moving average of the weights.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Storage, Tensor, Var,
};
use rayon::prelude::*;
use safetensors::SafeTensors;

use crate::atomic::Stored;
use crate::{Decay, TrainError, TrainSettings};

/// Values that one thread updates at a time.
const CHUNK: usize = 1 << 14;
/// What PyTorch's `clip_grad_norm_` adds to the norm.
const CLIP_EPS: f64 = 1e-6;

/// AdamW's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which parameters it is for.
    pub decay: Decay,
    /// Decay rate of the moving average of the weights, where one is kept.
    pub ema: Option<f64>,
}

impl AdamWSettings {
    pub(crate) fn of(settings: &TrainSettings) -> Self {
        Self {
            betas: settings.betas,
            eps: settings.eps,
            weight_decay: settings.weight_decay,
            decay: settings.decay,
            ema: settings.ema,
        }
    }
}

/// AdamW ("Decoupled Weight Decay Regularization", Loshchilov & Hutter, 2019) as PyTorch's
/// `torch.optim.AdamW` computes it.
///
/// On a CPU one pass over the values updates parameter, moments and average on all cores; on other
/// devices candle's operations do.
pub struct AdamW {
    settings: AdamWSettings,
    slots: Vec<Slot>,
}

struct Slot {
    name: String,
    var: Var,
    /// Updates so far. A parameter without a gradient is left out of a step, as in PyTorch.
    updates: u64,
    state: SlotState,
}

/// Moments and average: plain vectors where one pass over the values can reach them, tensors
/// elsewhere.
enum SlotState {
    Host {
        first: Vec<f32>,
        second: Vec<f32>,
        average: Option<Vec<f32>>,
    },
    Device {
        first: Tensor,
        second: Tensor,
        average: Option<Tensor>,
    },
}

/// What stands before a parameter's name in a checkpoint.
const WEIGHT: &str = "weight/";
const FIRST: &str = "first_moment/";
const SECOND: &str = "second_moment/";
const AVERAGE: &str = "average/";

/// The constants of one update of one parameter.
#[derive(Debug, Clone, Copy)]
struct Update {
    betas: (f64, f64),
    eps: f64,
    /// `1 - rate * weight_decay`
    keep: f64,
    /// `rate / (1 - beta1^t)`
    rate: f64,
    /// `sqrt(1 - beta2^t)`
    root: f64,
    /// Factor of the gradient that clips it.
    scale: f64,
    /// Decay rate of the average at this update.
    ema: f64,
}

impl AdamW {
    /// An optimiser of `parameters` (f32), before its first step.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(
        parameters: Vec<(String, Var)>,
        settings: AdamWSettings,
    ) -> Result<Self, TrainError> {
        let slots = parameters.into_iter().map(|(name, var)| {
            let state = SlotState::new(&var, settings.ema.is_some())?;
            Ok(Slot {
                name,
                var,
                updates: 0,
                state,
            })
        });
        Ok(Self {
            settings,
            slots: slots.collect::<Result<_, TrainError>>()?,
        })
    }

    /// The Euclidean norm of all gradients together. Parameters without a gradient count as zero.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradient_norm(&self, gradients: &GradStore) -> Result<f64, TrainError> {
        let mut sum = 0.;
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(&slot.var) {
                sum += sum_of_squares(gradient)?;
            }
        }
        Ok(sum.sqrt())
    }

    /// The first parameter whose gradient is not finite, with the sum of its squares.
    pub(crate) fn broken_gradient(
        &self,
        gradients: &GradStore,
    ) -> Result<Option<(String, f64)>, TrainError> {
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(&slot.var) {
                let sum = sum_of_squares(gradient)?;
                if !sum.is_finite() {
                    return Ok(Some((slot.name.clone(), sum)));
                }
            }
        }
        Ok(None)
    }

    /// That every parameter has a gradient: one that has none would stay at its first values
    /// without anybody noticing.
    pub(crate) fn check_reached(&self, gradients: &GradStore) -> Result<(), TrainError> {
        let lost = |slot: &&Slot| gradients.get(&slot.var).is_none();
        let names: Vec<&str> = self
            .slots
            .iter()
            .filter(lost)
            .map(|slot| slot.name.as_str())
            .collect();
        match names.first() {
            None => Ok(()),
            Some(first) => Err(TrainError::Task(format!(
                "computes its loss without {} of {} parameters, such as {first}: they would never \
                 be trained; freeze them if that is meant",
                names.len(),
                self.slots.len()
            ))),
        }
    }

    /// One update with learning rate `rate`. Every gradient is multiplied by `scale` first, see
    /// [`AdamW::clip_scale`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(
        &mut self,
        gradients: &GradStore,
        rate: f64,
        scale: f64,
    ) -> Result<(), TrainError> {
        let AdamWSettings {
            betas,
            eps,
            weight_decay,
            decay,
            ema,
        } = self.settings;
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.var) else {
                continue;
            };
            slot.updates += 1;
            let t = slot.updates as f64;
            let decay = match decay {
                Decay::Matrices if slot.var.rank() < 2 => 0.,
                Decay::Matrices | Decay::All => weight_decay,
            };
            let update = Update {
                betas,
                eps,
                keep: 1. - rate * decay,
                rate: rate / (1. - betas.0.powf(t)),
                root: (1. - betas.1.powf(t)).sqrt(),
                scale,
                ema: ema.unwrap_or_default().min((1. + t) / (10. + t)),
            };
            slot.state.update(&slot.var, gradient, update)?;
        }
        Ok(())
    }

    /// The factor that brings gradients of norm `norm` down to `largest`, as PyTorch's
    /// `clip_grad_norm_` has it.
    pub fn clip_scale(norm: f64, largest: Option<f64>) -> f64 {
        largest.map_or(1., |largest| (largest / (norm + CLIP_EPS)).min(1.))
    }

    /// Exchanges the parameters with their moving averages, where those are kept. The second call
    /// undoes the first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn swap_average(&mut self) -> Result<(), TrainError> {
        for slot in &mut self.slots {
            match &mut slot.state {
                SlotState::Host {
                    average: Some(average),
                    ..
                } => slot.var.inplace_op1(&Swap(Mutex::new(average)))?,
                SlotState::Device {
                    average: Some(average),
                    ..
                } => {
                    let weights = slot.var.as_detached_tensor().copy()?;
                    slot.var.set(average)?;
                    *average = weights;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The whole state, for a checkpoint.
    pub(crate) fn state(&self) -> Result<Vec<(String, Stored)>, TrainError> {
        let mut all = Vec::new();
        for slot in &self.slots {
            let dims = slot.var.dims();
            let mut push = |part: &str, values: &[f32]| {
                all.push((format!("{part}{}", slot.name), Stored::f32(dims, values)));
            };
            push(WEIGHT, &values(&slot.var)?);
            match &slot.state {
                SlotState::Host {
                    first,
                    second,
                    average,
                } => {
                    push(FIRST, first);
                    push(SECOND, second);
                    if let Some(average) = average {
                        push(AVERAGE, average);
                    }
                }
                SlotState::Device {
                    first,
                    second,
                    average,
                } => {
                    push(FIRST, &values(first)?);
                    push(SECOND, &values(second)?);
                    if let Some(average) = average {
                        push(AVERAGE, &values(average)?);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Number of updates by parameter.
    pub(crate) fn updates(&self) -> BTreeMap<String, u64> {
        let counts = self.slots.iter();
        counts
            .map(|slot| (slot.name.clone(), slot.updates))
            .collect()
    }

    /// Takes over a state that [`AdamW::state`] gave. The error says what is wrong with the file.
    pub(crate) fn restore(
        &mut self,
        stored: &SafeTensors<'_>,
        updates: &BTreeMap<String, u64>,
    ) -> Result<Result<(), String>, TrainError> {
        for slot in &mut self.slots {
            let read = |part: &str| read_f32(stored, &format!("{part}{}", slot.name), &slot.var);
            let parts = || Some((read(WEIGHT)?, read(FIRST)?, read(SECOND)?));
            let (Some((weight, first, second)), Some(count)) = (parts(), updates.get(&slot.name))
            else {
                return Ok(Err(format!(
                    "it lacks the state of the parameter {} of shape {:?}",
                    slot.name,
                    slot.var.dims()
                )));
            };
            let average = self.settings.ema.and_then(|_| read(AVERAGE));
            if average.is_none() && self.settings.ema.is_some() {
                return Ok(Err(format!("it lacks the average of {}", slot.name)));
            }
            set(&slot.var, &weight)?;
            slot.updates = *count;
            slot.state.set(&slot.var, first, second, average)?;
        }
        Ok(Ok(()))
    }

    /// The parameters' values under their names, for the best weights.
    pub(crate) fn weights(&self) -> Result<Vec<(String, Stored)>, TrainError> {
        let slots = self.slots.iter();
        slots
            .map(|slot| {
                let stored = Stored::f32(slot.var.dims(), &values(&slot.var)?);
                Ok((slot.name.clone(), stored))
            })
            .collect()
    }

    /// Sets the parameters to what [`AdamW::weights`] gave. The error says what is wrong.
    pub(crate) fn set_weights(
        &self,
        stored: &SafeTensors<'_>,
    ) -> Result<Result<(), String>, TrainError> {
        for slot in &self.slots {
            match read_f32(stored, &slot.name, &slot.var) {
                Some(weight) => set(&slot.var, &weight)?,
                None => return Ok(Err(format!("it lacks the parameter {}", slot.name))),
            }
        }
        Ok(Ok(()))
    }
}

impl SlotState {
    fn new(var: &Var, with_average: bool) -> Result<Self, TrainError> {
        if let Device::Cpu = var.device() {
            let zeros = vec![0.; var.elem_count()];
            let average = with_average.then(|| values(var)).transpose()?;
            return Ok(Self::Host {
                first: zeros.clone(),
                second: zeros,
                average,
            });
        }
        let average = with_average.then(|| var.as_detached_tensor().copy());
        Ok(Self::Device {
            first: var.zeros_like()?,
            second: var.zeros_like()?,
            average: average.transpose()?,
        })
    }

    fn set(
        &mut self,
        var: &Var,
        first_values: Vec<f32>,
        second_values: Vec<f32>,
        average_values: Option<Vec<f32>>,
    ) -> Result<(), TrainError> {
        match self {
            Self::Host {
                first,
                second,
                average,
            } => {
                *first = first_values;
                *second = second_values;
                *average = average_values;
            }
            Self::Device {
                first,
                second,
                average,
            } => {
                let tensor = |values| Tensor::from_vec(values, var.shape(), var.device());
                *first = tensor(first_values)?;
                *second = tensor(second_values)?;
                *average = average_values.map(tensor).transpose()?;
            }
        }
        Ok(())
    }

    fn update(&mut self, var: &Var, gradient: &Tensor, update: Update) -> Result<(), TrainError> {
        let gradient = gradient.contiguous()?;
        match self {
            Self::Host {
                first,
                second,
                average,
            } => {
                let state = Mutex::new(HostState {
                    first,
                    second,
                    average: average.as_deref_mut(),
                });
                Ok(var.inplace_op2(&gradient, &FusedUpdate { state, update })?)
            }
            Self::Device {
                first,
                second,
                average,
            } => {
                let Update {
                    betas, keep, scale, ..
                } = update;
                let weight = var.as_detached_tensor();
                let gradient = (gradient.detach() * scale)?;
                *first = (&*first + ((&gradient - &*first)? * (1. - betas.0))?)?;
                *second = ((&*second * betas.1)? + (gradient.sqr()? * (1. - betas.1))?)?;
                let denominator = ((second.sqrt()? / update.root)? + update.eps)?;
                let moved = ((&*first / denominator)? * update.rate)?;
                var.set(&((weight * keep)? - moved)?)?;
                if let Some(average) = average {
                    let away = (&*average - var.as_detached_tensor())?;
                    *average = (&*average - (away * (1. - update.ema))?)?;
                }
                Ok(())
            }
        }
    }
}

struct HostState<'a> {
    first: &'a mut [f32],
    second: &'a mut [f32],
    average: Option<&'a mut [f32]>,
}

/// One pass over a parameter in memory.
struct FusedUpdate<'a> {
    /// candle gives its operations no mutable reference to themselves.
    state: Mutex<HostState<'a>>,
    update: Update,
}

impl InplaceOp2 for FusedUpdate<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let weight = slice_mut(weight, weight_layout)?;
        let gradient = slice(gradient, gradient_layout)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let HostState {
            first,
            second,
            average,
        } = &mut *state;
        let chunks = weight
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK));
        match average {
            None => chunks.for_each(|(((w, g), m), v)| self.update.apply(w, g, m, v)),
            Some(average) => {
                chunks
                    .zip(average.par_chunks_mut(CHUNK))
                    .for_each(|((((w, g), m), v), average)| {
                        self.update.apply(w, g, m, v);
                        let towards = (1. - self.update.ema) as f32;
                        for (average, w) in average.iter_mut().zip(w) {
                            *average -= (*average - *w) * towards;
                        }
                    })
            }
        }
        Ok(())
    }
}

impl Update {
    fn apply(&self, weight: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let (towards1, beta2) = ((1. - self.betas.0) as f32, self.betas.1 as f32);
        let towards2 = (1. - self.betas.1) as f32;
        let (eps, keep, rate) = (self.eps as f32, self.keep as f32, self.rate as f32);
        let (root, scale) = (self.root as f32, self.scale as f32);
        let moments = first.iter_mut().zip(second);
        for ((w, g), (m, v)) in weight.iter_mut().zip(gradient).zip(moments) {
            let g = g * scale;
            *m += (g - *m) * towards1;
            *v = *v * beta2 + g * g * towards2;
            *w = *w * keep - rate * (*m / (v.sqrt() / root + eps));
        }
    }
}

/// Exchanges a parameter's values with others of its size.
struct Swap<'a>(Mutex<&'a mut Vec<f32>>);

impl InplaceOp1 for Swap<'_> {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let mut other = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = slice_mut(storage, layout)?;
        if values.len() != other.len() {
            candle_core::bail!("swap: {} values for {}", other.len(), values.len())
        }
        values.swap_with_slice(&mut other);
        Ok(())
    }
}

fn slice_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("a parameter in training is contiguous f32"),
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("a gradient in training is contiguous f32"),
    }
}

/// The same on any number of threads: sums of chunks are added in order.
fn sum_of_squares(gradient: &Tensor) -> Result<f64, TrainError> {
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    if let Storage::Cpu(storage) = &*storage {
        let sum = |chunk: &[f32]| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        let chunks = slice(storage, layout)?.par_chunks(CHUNK).map(sum);
        return Ok(chunks.collect::<Vec<f64>>().into_iter().sum());
    }
    drop(storage);
    let sum = gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?;
    Ok(sum.to_scalar::<f64>()?)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn set(var: &Var, values: &[f32]) -> Result<(), TrainError> {
    Ok(var.set(&Tensor::from_slice(values, var.shape(), var.device())?)?)
}

/// The stored f32 tensor `name` where it is there in the shape of `var`.
fn read_f32(stored: &SafeTensors<'_>, name: &str, var: &Var) -> Option<Vec<f32>> {
    let view = stored.tensor(name).ok()?;
    let fits = view.dtype() == safetensors::Dtype::F32 && view.shape() == var.dims();
    let (values, _) = view.data().as_chunks::<4>();
    fits.then(|| {
        values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use negkit_checkpoint::Checkpoint;
    use negkit_nn::TensorSource;

    use super::*;

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn twenty_steps_are_those_of_pytorch() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../eval/parity/fixtures/training"
        );
        let fixture = Checkpoint::open(Path::new(folder).join("adamw.safetensors")).unwrap();
        let read = |name: String| fixture.load(&name, DType::F32, &Device::Cpu).unwrap();
        let names = ["weight", "bias", "scale"];
        let parameters: Vec<(String, Var)> = names
            .iter()
            .map(|name| {
                let var = Var::from_tensor(&read(format!("start.{name}"))).unwrap();
                ((*name).to_owned(), var)
            })
            .collect();
        let settings = AdamWSettings {
            betas: (0.9, 0.98),
            eps: 1e-6,
            weight_decay: 0.1,
            decay: Decay::Matrices,
            ema: Some(0.99),
        };
        let mut optimizer = AdamW::new(parameters.clone(), settings).unwrap();
        let norms: Vec<f32> = read("norm".to_owned()).to_vec1().unwrap();
        for (step, expected_norm) in norms.into_iter().enumerate() {
            // The gradient of sum(g w) by w is g.
            let products = parameters.iter().map(|(name, var)| {
                let gradient = read(format!("gradient.{name}")).get(step).unwrap();
                (var.as_tensor() * gradient).unwrap().sum_all().unwrap()
            });
            let loss = products.reduce(|a, b| (a + b).unwrap()).unwrap();
            let gradients = loss.backward().unwrap();
            let norm = optimizer.gradient_norm(&gradients).unwrap();
            let off = (norm / f64::from(expected_norm) - 1.).abs();
            assert!(off < 1e-6, "norm at step {step}: {off}");
            let rate = 0.01 * ((step + 1) as f64 / 5.).min(1.);
            let scale = AdamW::clip_scale(norm, Some(1.5));
            optimizer.update(&gradients, rate, scale).unwrap();
            for (name, var) in &parameters {
                let expected = read(format!("after.{name}")).get(step).unwrap();
                let off = largest_difference(var, &expected);
                assert!(off < 1e-6, "{name} at step {step}: {off}");
            }
        }
        let last: Vec<Tensor> = parameters.iter().map(|(_, v)| v.copy().unwrap()).collect();
        optimizer.swap_average().unwrap();
        for (name, var) in &parameters {
            let off = largest_difference(var, &read(format!("average.{name}")));
            assert!(off < 1e-6, "average of {name}: {off}");
        }
        optimizer.swap_average().unwrap();
        for ((name, var), last) in parameters.iter().zip(&last) {
            assert_eq!(largest_difference(var, last), 0., "{name}");
        }
    }

    #[test]
    fn a_large_parameter_is_updated_in_every_chunk() {
        let count = 3 * CHUNK + 5;
        let var = Var::ones(count, DType::F32, &Device::Cpu).unwrap();
        let settings = AdamWSettings {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.,
            decay: Decay::All,
            ema: None,
        };
        let mut optimizer = AdamW::new(vec![("w".to_owned(), var.clone())], settings).unwrap();
        let loss = var.as_tensor().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let norm = optimizer.gradient_norm(&gradients).unwrap();
        assert!((norm - (count as f64).sqrt()).abs() < 1e-9);
        optimizer.update(&gradients, 0.25, 1.).unwrap();
        // The first step of Adam has the length of the rate, whatever the gradient.
        for value in var.to_vec1::<f32>().unwrap() {
            assert!((value - 0.75).abs() < 1e-6, "{value}");
        }
    }
}
