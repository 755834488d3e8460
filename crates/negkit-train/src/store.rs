//! Named parameters of a model in training.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use negkit_digest::hexadecimal;
use negkit_nn::{Params, Products, TensorFactory, TensorSource};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::atomic::{self, Stored};
use crate::init::{Init, default_init};

/// Buffers that are no parameters, though published files hold them.
const BUFFERS: [&str; 2] = ["position_ids", "num_batches_tracked"];

type Frozen = Box<dyn Fn(&str) -> bool + Send + Sync>;
type Override = Box<dyn Fn(&str, &[usize]) -> Option<Init> + Send + Sync>;

/// Named f32 parameters of a model in training.
///
/// Models are built from [`ParamStore::params`]. Asked twice for one name, the store gives the same
/// parameter, so that two models may share parts. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct ParamStore {
    inner: Arc<Inner>,
    products: Products,
}

struct Inner {
    origin: Origin,
    device: Device,
    state: Mutex<State>,
}

enum Origin {
    Random { seed: u64, special: Override },
    Checkpoint { origin: String },
}

#[derive(Default)]
struct State {
    frozen: Vec<Frozen>,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    var: Var,
    /// Whether a model has asked for it. What nobody asked for is kept, and never trained.
    asked: bool,
}

impl State {
    fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|frozen| frozen(name))
    }

    fn insert(&mut self, name: &str, values: Tensor) -> candle_core::Result<()> {
        let var = Var::from_tensor(&values)?;
        self.entries
            .insert(name.to_owned(), Entry { var, asked: false });
        Ok(())
    }
}

impl ParamStore {
    /// Parameters that are made when a model asks for them, by [`default_init`]: a function of
    /// seed, name and shape, whatever the order.
    pub fn random(seed: u64, device: &Device) -> Self {
        Self::random_with(seed, device, |_, _| None)
    }

    /// As [`ParamStore::random`], but a name and shape for which `special` gives an [`Init`] get
    /// that one.
    pub fn random_with(
        seed: u64,
        device: &Device,
        special: impl Fn(&str, &[usize]) -> Option<Init> + Send + Sync + 'static,
    ) -> Self {
        let special: Override = Box::new(special);
        Self::new(Origin::Random { seed, special }, device, BTreeMap::new())
    }

    /// All tensors of a checkpoint, in f32. Those that no model asks for stay as they are, and are
    /// written with the others.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn from_tensors(
        source: Arc<dyn TensorSource>,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let is_parameter = |name: &String| !BUFFERS.contains(&last_part(name));
        let mut entries = BTreeMap::new();
        for name in source.names().into_iter().filter(is_parameter) {
            let var = Var::from_tensor(&source.load(&name, DType::F32, device)?)?;
            entries.insert(name, Entry { var, asked: false });
        }
        let origin = Origin::Checkpoint {
            origin: source.origin(),
        };
        Ok(Self::new(origin, device, entries))
    }

    fn new(origin: Origin, device: &Device, entries: BTreeMap<String, Entry>) -> Self {
        Self {
            products: Products::Bf16,
            inner: Arc::new(Inner {
                origin,
                device: device.clone(),
                state: Mutex::new(State {
                    entries,
                    ..State::default()
                }),
            }),
        }
    }

    /// The same store, for models in training that compute their products so. Without this it is
    /// [`Products::Bf16`].
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }

    /// The device that the parameters are on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Parameters to build a model in training from: trainable ones arrive as tracked variables,
    /// frozen ones detached.
    ///
    /// A store from a checkpoint reports missing and misshapen tensors at [`Params::finish`].
    pub fn params(&self) -> Params {
        self.build(true).with_products(self.products)
    }

    /// The same parameters, all detached: a model built from these sees every update and computes
    /// no gradients, which is faster. For validation, and for parts that only serve. Products are
    /// exact, as in inference, unless [`Params::with_products`] says otherwise.
    pub fn detached_params(&self) -> Params {
        self.build(false)
    }

    fn build(&self, tracked: bool) -> Params {
        let reader = Arc::new(Reader {
            store: self.clone(),
            tracked,
        });
        match self.inner.origin {
            Origin::Random { .. } => Params::from_factory(reader, DType::F32, self.device()),
            Origin::Checkpoint { .. } => Params::new(reader, DType::F32, self.device()),
        }
    }

    /// Keeps the parameters for whose full names `frozen` says so as they are, now and later. To be
    /// called before [`ParamStore::params`]: a model that was built earlier goes on to compute
    /// their gradients, though they are not used. Several calls add up.
    pub fn freeze(&self, frozen: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.state().frozen.push(Box::new(frozen));
    }

    /// One parameter, for models that need a free one: `logit_scale`. Tracked unless frozen.
    ///
    /// # Errors
    /// When the name has another shape already, a store from a checkpoint lacks it, or the device
    /// fails.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor, TrainError> {
        Ok(self.read(name, &shape.into(), true)?)
    }

    /// As [`ParamStore::get`], for a parameter that a checkpoint need not have: where the store lacks
    /// it, it begins as `init` says.
    ///
    /// # Errors
    /// When the name has another shape already, or the device fails.
    pub fn get_or_init(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Result<Tensor, TrainError> {
        let shape = shape.into();
        let seed = match &self.inner.origin {
            Origin::Random { seed, .. } => *seed,
            Origin::Checkpoint { .. } => 0,
        };
        let mut state = self.state();
        if !state.entries.contains_key(name) {
            state.insert(name, init.draw(seed, name, &shape, self.device())?)?;
        }
        drop(state);
        Ok(self.read(name, &shape, true)?)
    }

    /// The trainable parameters, sorted by name: all that a model asked for and that are not frozen.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let state = self.state();
        let trainable = state.entries.iter();
        trainable
            .filter(|(name, entry)| entry.asked && !state.is_frozen(name))
            .map(|(name, entry)| (name.clone(), entry.var.clone()))
            .collect()
    }

    /// All parameters, sorted by name, detached. They are views: later steps change their values.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainError> {
        let state = self.state();
        let all = state.entries.iter();
        Ok(all
            .map(|(name, entry)| (name.clone(), entry.var.as_detached_tensor()))
            .collect())
    }

    /// Number of values of all parameters and of the trainable ones.
    pub fn sizes(&self) -> (usize, usize) {
        let state = self.state();
        let count = |entry: &Entry| entry.var.elem_count();
        let all = state.entries.values().map(count).sum();
        let trainable = state.entries.iter();
        let trainable = trainable.filter(|(name, entry)| entry.asked && !state.is_frozen(name));
        (all, trainable.map(|(_, entry)| count(entry)).sum())
    }

    /// Writes all parameters as `dtype` to a safetensors file, which is replaced in one step.
    ///
    /// # Errors
    /// When `dtype` is no float of 16, 32 or 64 bits, or the file cannot be written.
    pub fn save(&self, path: &Path, dtype: DType) -> Result<(), TrainError> {
        self.save_those(path, dtype, |_| true)
    }

    /// As [`ParamStore::save`], of the parameters for whose names `wanted` says so.
    ///
    /// # Errors
    /// As [`ParamStore::save`].
    pub(crate) fn save_those(
        &self,
        path: &Path,
        dtype: DType,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), TrainError> {
        let mut tensors = self.tensors()?;
        tensors.retain(|(name, _)| wanted(name));
        save_tensors(path, &tensors, dtype)
    }

    /// SHA-256 over names, shapes and values of all parameters, as hexadecimal digits.
    pub(crate) fn digest(&self) -> Result<String, TrainError> {
        let mut hasher = Sha256::new();
        for (name, tensor) in self.tensors()? {
            hasher.update(format!("{name} {:?}\n", tensor.dims()));
            let stored = stored(&tensor, DType::F32)?;
            hasher.update(&stored.bytes);
        }
        Ok(hexadecimal(hasher.finalize()))
    }

    /// Where the first values come from, for messages and records.
    pub(crate) fn origin(&self) -> String {
        match &self.inner.origin {
            Origin::Random { seed, .. } => format!("random, seed {seed}"),
            Origin::Checkpoint { origin } => origin.clone(),
        }
    }

    fn read(&self, name: &str, shape: &Shape, tracked: bool) -> candle_core::Result<Tensor> {
        let mut state = self.state();
        if !state.entries.contains_key(name) {
            let Origin::Random { seed, special } = &self.inner.origin else {
                candle_core::bail!("{}: there is no tensor {name:?}", self.origin())
            };
            let dims = shape.dims();
            let init = special(name, dims).unwrap_or_else(|| default_init(name, dims));
            state.insert(name, init.draw(*seed, name, shape, self.device())?)?;
        }
        let tracked = tracked && !state.is_frozen(name);
        let Some(entry) = state.entries.get_mut(name) else {
            candle_core::bail!("{}: there is no tensor {name:?}", self.origin())
        };
        if entry.var.dims() != shape.dims() {
            candle_core::bail!(
                "parameter {name:?} has the shape {:?} and was asked for as {:?}",
                entry.var.dims(),
                shape.dims()
            )
        }
        entry.asked = true;
        Ok(match tracked {
            true => entry.var.as_tensor().clone(),
            false => entry.var.as_detached_tensor(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Entries are only ever added whole: a panic elsewhere leaves them usable.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ParamStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, trainable) = self.sizes();
        f.debug_struct("ParamStore")
            .field("origin", &self.origin())
            .field("values", &all)
            .field("trainable", &trainable)
            .finish_non_exhaustive()
    }
}

/// A store as models read it.
struct Reader {
    store: ParamStore,
    tracked: bool,
}

impl Reader {
    fn read(&self, name: &str, shape: &Shape, dtype: DType) -> candle_core::Result<Tensor> {
        if dtype != DType::F32 {
            // A converted copy would not see the updates.
            candle_core::bail!(
                "parameters in training are f32, {name:?} was asked for as {dtype:?}"
            )
        }
        self.store.read(name, shape, self.tracked)
    }
}

impl TensorFactory for Reader {
    fn make(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        _device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.read(name, shape, dtype)
    }

    fn origin(&self) -> String {
        self.store.origin()
    }

    fn changes(&self) -> bool {
        true
    }
}

impl TensorSource for Reader {
    fn names(&self) -> Vec<String> {
        self.store.state().entries.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let state = self.store.state();
        Some(state.entries.get(name)?.var.dims().to_vec())
    }

    fn load(&self, name: &str, dtype: DType, _device: &Device) -> candle_core::Result<Tensor> {
        let shape = TensorSource::shape(self, name).unwrap_or_default();
        self.read(name, &shape.into(), dtype)
    }

    fn origin(&self) -> String {
        self.store.origin()
    }

    fn changes(&self) -> bool {
        true
    }
}

/// Writes named tensors as `dtype` to a safetensors file, which is replaced in one step.
pub(crate) fn save_tensors(
    path: &Path,
    tensors: &[(String, Tensor)],
    dtype: DType,
) -> Result<(), TrainError> {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), stored(tensor, dtype)?)))
        .collect::<Result<Vec<_>, TrainError>>()?;
    // transformers refuses files that do not say so.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    atomic::write_safetensors(path, &tensors, metadata)
}

fn stored(tensor: &Tensor, dtype: DType) -> Result<Stored, TrainError> {
    let flat = tensor
        .to_device(&Device::Cpu)?
        .to_dtype(dtype)?
        .flatten_all()?;
    let (dtype, bytes) = match dtype {
        DType::F32 => (
            Dtype::F32,
            le_bytes(&flat.to_vec1::<f32>()?, |v| v.to_le_bytes()),
        ),
        DType::F64 => (
            Dtype::F64,
            le_bytes(&flat.to_vec1::<f64>()?, |v| v.to_le_bytes()),
        ),
        DType::F16 => (
            Dtype::F16,
            le_bytes(&flat.to_vec1::<half::f16>()?, |v| v.to_le_bytes()),
        ),
        DType::BF16 => (
            Dtype::BF16,
            le_bytes(&flat.to_vec1::<half::bf16>()?, |v| v.to_le_bytes()),
        ),
        other => {
            return Err(TrainError::Setting {
                setting: "dtype of a weight file",
                found: format!("{other:?}"),
                expected: "F16, BF16, F32 or F64",
            });
        }
    };
    Ok(Stored {
        dtype,
        shape: tensor.dims().to_vec(),
        bytes,
    })
}

fn le_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
