//! Which device and which number type to compute with.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use thiserror::Error;

use negkit_kernels::Products;

/// Why a device or a type cannot be had.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The text names no device.
    #[error("unknown device '{0}': expected auto, cpu, cuda or cuda:N (N = 0, 1, …)")]
    UnknownDevice(String),
    /// The text names no number type.
    #[error("unknown dtype '{0}': expected auto, f32, f16 or bf16")]
    UnknownDtype(String),
    /// CUDA was asked for in a build without it.
    #[error(
        "device '{0}' was asked for, but this build has no CUDA support: build with \
         `--features cuda`, or choose --device cpu"
    )]
    BuiltWithoutCuda(DeviceChoice),
    /// CUDA was asked for and does not start.
    #[error("device '{choice}' does not start: {cause}. Choose another with --device")]
    Unavailable {
        /// The device asked for.
        choice: DeviceChoice,
        /// What the driver said.
        cause: candle_core::Error,
    },
    /// `NEGKIT_ISA` asks for instructions that the CPU lacks.
    #[error(transparent)]
    Isa(#[from] negkit_kernels::IsaError),
    /// `NEGKIT_CUDA_ATTENTION` says something unknown.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Attention(#[from] crate::cuda::UnknownAttention),
}

/// The device asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// Neither a driver that is missing nor one that does not start makes this panic. candle links
    /// the driver's library when it is built, it does not look for it when it runs: with no
    /// `libcuda.so.1` at all, neither a driver's nor a stub, the system's loader refuses the
    /// program before any of its code, this function included (see `docs/cuda.md`). Once the
    /// program runs, every failure to open a device is an error that candle returns, so there
    /// is no panic to catch here.
    ///
    /// # Errors
    /// When CUDA is asked for and cannot be had. `Auto` falls back to the CPU.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Auto if candle_core::utils::cuda_is_available() => {
                Ok(Device::new_cuda(0).unwrap_or(Device::Cpu))
            }
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !candle_core::utils::cuda_is_available() => {
                Err(DeviceError::BuiltWithoutCuda(self))
            }
            Self::Cuda(n) => Device::new_cuda(n).map_err(|cause| DeviceError::Unavailable {
                choice: self,
                cause,
            }),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::UnknownDevice(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// The number type asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// f16 on CUDA; on a CPU bf16 where it multiplies that faster than f32 (AMX, AVX-512 BF16), f32
    /// elsewhere.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit floats with the exponent of f32.
    Bf16,
}

impl DtypeChoice {
    /// The type to use on `device`.
    pub fn on(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cuda() => DType::F16,
            Self::Auto if negkit_kernels::Isa::current().multiplies_bf16() => DType::BF16,
            Self::Auto | Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(DeviceError::UnknownDtype(text.to_owned())),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// The device and the number type that a model computes with.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Where tensors live.
    pub device: Device,
    /// Type of weights and activations.
    pub dtype: DType,
    /// How products of f32 are computed on a CPU.
    pub products: Products,
}

impl Compute {
    /// Opens `device` and settles the type for it.
    ///
    /// # Errors
    /// When the device cannot be had.
    pub fn open(device: DeviceChoice, dtype: DtypeChoice) -> Result<Self, DeviceError> {
        let device = device.open()?;
        negkit_kernels::Isa::chosen()?;
        #[cfg(feature = "cuda")]
        crate::cuda::Choice::chosen()?;
        let dtype = dtype.on(&device);
        Ok(Self {
            device,
            dtype,
            products: Products::Exact,
        })
    }

    /// Why a GPU computes attention of 16-bit floats in slices, where one does: whoever waits for it
    /// may want to know. Nothing on a CPU.
    pub fn attends_in_slices(&self) -> Option<String> {
        match &self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) if self.dtype != DType::F32 => crate::cuda::slices_because(device),
            _ => None,
        }
    }

    /// f32 on the CPU: the reference.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            products: Products::Exact,
        }
    }

    /// The same with products computed so.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_parse_and_print() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for text in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn cuda_in_a_cpu_build_is_a_clear_error() {
        let error = DeviceChoice::Cuda(1).open().unwrap_err().to_string();
        assert!(
            error.contains("cuda:1") && error.contains("--features cuda"),
            "{error}"
        );
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
    }

    #[test]
    #[cfg(feature = "cuda")]
    fn a_cuda_device_that_does_not_start_is_an_error_and_auto_takes_the_cpu() {
        // No machine has this many: the error is the same with a driver and with the stub.
        let absent = DeviceChoice::Cuda(4095);
        let error = absent.open().unwrap_err();
        assert!(
            matches!(&error, DeviceError::Unavailable { choice, .. } if *choice == absent),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains("cuda:4095") && text.contains("--device"),
            "{text}"
        );
        let first_starts = DeviceChoice::Cuda(0).open().is_ok();
        assert_eq!(DeviceChoice::Auto.open().unwrap().is_cuda(), first_starts);
    }
}
