//! What a run is made with, as `run.toml` names it.

use negkit::Compute;
use negkit::text::WeightsSource;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A model that decides the result, and the file that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// What the user calls it.
    pub name: String,
    /// SHA-256 of its weights, where they are from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl ModelUsed {
    /// A model of that name. The hash of its weights is taken, once.
    ///
    /// # Errors
    /// When the weight file cannot be read.
    pub fn new(name: impl Into<String>, weights: &WeightsSource) -> Result<Self> {
        let sha256 = weights.sha256().map_err(negkit::Error::from)?;
        Ok(Self {
            name: name.into(),
            sha256: sha256.map(str::to_owned),
        })
    }
}

/// Where models compute, and in which numbers: sums are rounded otherwise on another kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeUsed {
    /// `cpu` or `cuda`; which of several is all the same.
    pub device: String,
    /// Such as `f32`.
    pub dtype: String,
}

impl From<&Compute> for ComputeUsed {
    fn from(compute: &Compute) -> Self {
        let device = match compute.device.is_cuda() {
            true => "cuda",
            false => "cpu",
        };
        Self {
            device: device.to_owned(),
            dtype: compute.dtype.as_str().to_owned(),
        }
    }
}
