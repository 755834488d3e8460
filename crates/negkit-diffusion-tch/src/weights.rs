//! Tensors between candle's memory and libtorch's, and weights into a model of diffusers-rs.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::Checkpoint;
use negkit_nn::TensorSource;
use tch::nn::{Path, VarStore};

use crate::TchEngineError;

/// f32 values, copied.
pub(crate) fn to_tch(tensor: &Tensor) -> Result<tch::Tensor, candle_core::Error> {
    let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let shape: Vec<i64> = tensor.dims().iter().map(|&size| size as i64).collect();
    tch::Tensor::f_from_slice(&values)
        .and_then(|flat| flat.f_reshape(shape))
        .map_err(candle_core::Error::wrap)
}

/// f32 values, copied.
pub(crate) fn from_tch(tensor: &tch::Tensor) -> Result<Tensor, candle_core::Error> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor
        .f_contiguous()
        .and_then(|whole| whole.f_reshape([-1]))
        .map_err(candle_core::Error::wrap)?;
    let values = Vec::<f32>::try_from(&flat).map_err(candle_core::Error::wrap)?;
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Builds a model and gives it the weights of `files`, in which its variables have the names that
/// `name` makes of their own. Every variable must be there, and every tensor be used.
pub(crate) fn load<M>(
    model: &'static str,
    files: &Arc<Checkpoint>,
    name: impl Fn(&str) -> String,
    build: impl FnOnce(Path<'_>) -> M,
) -> Result<M, TchEngineError> {
    let mut store = VarStore::new(tch::Device::Cpu);
    let built = build(store.root());
    let mut unused: BTreeSet<String> = files.names().into_iter().collect();
    for (own, mut variable) in store.variables() {
        let name = name(&own);
        if !unused.remove(&name) {
            return Err(TchEngineError::Missing {
                model,
                name,
                origin: files.origin().to_owned(),
            });
        }
        let weights = to_tch(&files.load(&name, DType::F32, &Device::Cpu)?)?;
        // A 1 x 1 convolution and a linear layer are the same numbers.
        let same = weights.numel() == variable.numel();
        if !same || weights.size().first() != variable.size().first() {
            return Err(TchEngineError::Shape {
                model,
                name,
                expected: variable.size(),
                found: weights.size(),
            });
        }
        let weights = weights.f_reshape(variable.size())?;
        tch::no_grad(|| variable.f_copy_(&weights))?;
    }
    if let Some(first) = unused.first() {
        return Err(TchEngineError::Unused {
            model,
            origin: files.origin().to_owned(),
            count: unused.len(),
            first: first.clone(),
        });
    }
    store.freeze();
    Ok(built)
}
