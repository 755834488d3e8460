//! Which attention a GPU computes: the kernel whose scores stay on the chip, or slices by cuBLAS.
//!
//! The kernel is tested on a CPU that does what its instructions are said to do, and has not run on a GPU
//! yet. So a device is asked before it is trusted: both ways compute a small case, and where they differ
//! slices stay.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::DeviceId;
use candle_core::{CudaDevice, DType, Device, Result, Tensor};
use negkit_kernels::{AttentionMask, attend_on_gpu, gpu_attends, suits_gpu};
use thiserror::Error;

use crate::AttentionBudget;
use crate::attention::{attention, merge_heads, split_heads};

/// The environment variable that chooses.
pub const VARIABLE: &str = "NEGKIT_CUDA_ATTENTION";

/// How a GPU attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The kernel, where it was found to agree with slices.
    Checked,
    /// The kernel, unasked.
    Fused,
    /// Slices.
    Slices,
}

/// `NEGKIT_CUDA_ATTENTION` says something unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{VARIABLE}: unknown attention '{0}': expected auto, fused or slices")]
pub struct UnknownAttention(String);

impl FromStr for Choice {
    type Err = UnknownAttention;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownAttention> {
        match text {
            "auto" => Ok(Self::Checked),
            "fused" => Ok(Self::Fused),
            "slices" => Ok(Self::Slices),
            _ => Err(UnknownAttention(text.into())),
        }
    }
}

impl Choice {
    /// What the variable says, which is read once: every attention asks.
    pub(crate) fn chosen() -> std::result::Result<Self, UnknownAttention> {
        static CHOSEN: OnceLock<std::result::Result<Choice, UnknownAttention>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| match std::env::var(VARIABLE) {
                Ok(text) => text.parse(),
                Err(_) => Ok(Self::Checked),
            })
            .clone()
    }
}

/// Largest relative difference (L2) that rounding explains: in bf16, whose numbers have 8 bits, rounding
/// the numerators and the result alone comes to 2e-3 here (computed in f64).
const LARGEST_DIFFERENCE: f64 = 2e-2;

/// Attention of heads that lie side by side, by the kernel; nothing where it is not to be used or does
/// not take these tensors. Shapes as [`attend_on_gpu`] wants them.
pub(crate) fn attend(
    tensors: [&Tensor; 3],
    heads: usize,
    mask: AttentionMask,
    scale: f64,
) -> Result<Option<Tensor>> {
    let Device::Cuda(device) = tensors[0].device() else {
        return Ok(None);
    };
    if !suits_gpu(tensors, heads) {
        return Ok(None);
    }
    slices_because(device)
        .is_none()
        .then(|| attend_on_gpu(tensors, heads, mask, scale))
        .transpose()
}

/// Why the device attends in slices, even where the kernel would take the tensors; nothing where it does
/// not. Found out once for a device.
pub(crate) fn slices_because(device: &CudaDevice) -> Option<String> {
    // `Compute::open` has reported a value that is unknown.
    match Choice::chosen().unwrap_or(Choice::Slices) {
        Choice::Slices => Some(format!("{VARIABLE} says so")),
        Choice::Fused => None,
        Choice::Checked => found(device),
    }
}

fn found(device: &CudaDevice) -> Option<String> {
    static FOUND: Mutex<Option<HashMap<DeviceId, Option<String>>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = found.get_or_insert_default().entry(device.id());
    found
        .or_insert_with(|| match trial(device) {
            Ok(reason) => reason,
            Err(cause) => Some(format!("the fused kernel does not start: {cause}")),
        })
        .clone()
}

/// Why the kernel cannot be used on the device, if so.
fn trial(device: &CudaDevice) -> Result<Option<String>> {
    if !gpu_attends(device)? {
        return Ok(Some("the fused kernel needs compute capability 8.0".into()));
    }
    let difference = largest_difference(device)?;
    // Not a number is no small difference.
    let agrees = difference <= LARGEST_DIFFERENCE;
    Ok((!agrees).then(|| {
        format!(
            "the fused kernel's result differs by {difference:.1e} where {LARGEST_DIFFERENCE:.0e} is \
             rounding; please report it"
        )
    }))
}

/// The largest difference of both ways, for heads of one part and of several, in both types.
fn largest_difference(device: &CudaDevice) -> Result<f64> {
    let mut largest = 0.0;
    for (heads, size, mask) in [
        (2, 40, AttentionMask::Causal),
        (1, 264, AttentionMask::None),
    ] {
        for dtype in [DType::F16, DType::BF16] {
            // Values without an order; scores then reach some tens, as far as a model's do.
            let of = |rows: usize, step: f64, reach: f64| -> Result<Tensor> {
                let count = 2 * rows * heads * size;
                let values = (0..count).map(|i| (i * i % 10_007) as f64 * step);
                let values = values.map(|angle| (reach * angle.sin()) as f32);
                let device = Device::Cuda(device.clone());
                let shape = (2, rows, heads * size);
                Tensor::from_vec(values.collect(), shape, &device)?.to_dtype(dtype)
            };
            // No multiples of the kernel's tiles.
            let [q, k, v] = [of(70, 0.37, 6.0)?, of(99, 0.73, 2.0)?, of(99, 1.31, 2.0)?];
            let difference = difference([&q, &k, &v], heads, mask)?;
            if difference.is_nan() {
                return Ok(difference);
            }
            largest = difference.max(largest);
        }
    }
    Ok(largest)
}

/// The relative difference (L2) of the kernel's result and that of slices in f32.
fn difference([q, k, v]: [&Tensor; 3], heads: usize, mask: AttentionMask) -> Result<f64> {
    let scale = ((q.dim(2)? / heads) as f64).powf(-0.5);
    let fused = attend_on_gpu([q, k, v], heads, mask, scale)?.to_dtype(DType::F32)?;
    let [q, k, v] = [q, k, v].map(|tensor| split_heads(&tensor.to_dtype(DType::F32)?, heads));
    let slices = attention(&q?, &k?, &v?, mask, scale, AttentionBudget::UNLIMITED)?;
    let slices = merge_heads(&slices)?;
    let square = |x: Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    Ok(f64::from(square((&fused - &slices)?)? / square(slices)?).sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_variable_takes_three_words() {
        assert_eq!("auto".parse(), Ok(Choice::Checked));
        assert_eq!("fused".parse(), Ok(Choice::Fused));
        assert_eq!("slices".parse(), Ok(Choice::Slices));
        let unknown = "flash".parse::<Choice>().unwrap_err().to_string();
        assert!(
            unknown.contains("'flash'") && unknown.contains("slices"),
            "{unknown}"
        );
    }

    #[test]
    fn the_kernel_agrees_with_slices_on_a_gpu() {
        match Device::new_cuda(0) {
            Ok(Device::Cuda(device)) => assert_eq!(trial(&device).unwrap(), None),
            Ok(_) => unreachable!("a CUDA device was asked for"),
            Err(cause) => eprintln!("not tested, for there is no GPU: {cause}"),
        }
    }
}
