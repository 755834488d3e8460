//! The same random weights for a model of candle-transformers and for ours.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "the tests and the benchmark use different parts")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use negkit_nn::{Ignored, Params, TensorSource};

/// Named tensors, drawn at random when a peer's constructor asks for them.
///
/// The peer decides which names and shapes exist; ours must then read exactly these, which
/// [`Weights::load`] insists on.
#[derive(Clone)]
pub struct Weights {
    tensors: Arc<Mutex<BTreeMap<String, Tensor>>>,
    random: Params,
}

impl Weights {
    /// Builds a model of the peer and keeps the weights that it asked for.
    pub fn drawn_by<M>(seed: u64, build: impl FnOnce(VarBuilder) -> Result<M>) -> (Self, M) {
        let weights = Self {
            tensors: Arc::default(),
            random: Params::random(seed, DType::F32, &Device::Cpu),
        };
        let backend: Box<dyn SimpleBackend> = Box::new(weights.clone());
        let builder = VarBuilder::from_backend(backend, DType::F32, Device::Cpu);
        let model = build(builder).expect("the peer builds");
        (weights, model)
    }

    /// Builds a model of ours, which must use every tensor and no other.
    pub fn load<M>(&self, build: impl FnOnce(&Params) -> Result<M>) -> M {
        let source: Arc<dyn TensorSource> = Arc::new(self.clone());
        let params = Params::new(source, DType::F32, &Device::Cpu);
        let model = build(&params).expect("ours builds");
        params
            .finish("the model beside its peer", Ignored::default())
            .expect("both have the same tensors");
        model
    }

    /// The same weights, with those of the same names replaced.
    pub fn with(&self, replaced: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        let mut tensors = self.tensors.lock().unwrap().clone();
        for (name, tensor) in replaced {
            assert!(tensors.insert(name, tensor).is_some());
        }
        Self {
            tensors: Arc::new(Mutex::new(tensors)),
            random: self.random.clone(),
        }
    }

    /// The weights for another model of the peer.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let tensors = self.tensors.lock().unwrap().clone().into_iter().collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> Tensor {
        self.tensors.lock().unwrap()[name].clone()
    }
}

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, _: &Device) -> Result<Tensor> {
        let mut tensors = self.tensors.lock().unwrap();
        if let Some(tensor) = tensors.get(name) {
            assert_eq!(tensor.shape(), &shape, "{name} is asked for in two shapes");
            return Ok(tensor.clone());
        }
        let tensor = self.random.get(shape, name)?;
        tensors.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} is asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

impl TensorSource for Weights {
    fn names(&self) -> Vec<String> {
        self.tensors.lock().unwrap().keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let tensors = self.tensors.lock().unwrap();
        tensors.get(name).map(|tensor| tensor.dims().to_vec())
    }

    fn load(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Ok(self.get(name))
    }

    fn origin(&self) -> String {
        "the peer's weights".into()
    }
}

/// Standard normal values, the same for the same name.
pub fn normal(name: &str, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values = shape.elem_count();
    // Random parameters of `[n, 1]` have unit variance.
    Params::random(7, DType::F32, &Device::Cpu)
        .get((values, 1), name)
        .and_then(|tensor| tensor.reshape(shape))
        .unwrap()
}
