//! Strict loading of a model's parameters.
//!
//! A model asks [`Params`] for every tensor that it needs, by name and shape. A tensor that is
//! missing or has another shape does not stop the construction: it is written down, and
//! [`Params::finish`] reports all that was wrong at once, together with the tensors that the file
//! holds and nobody asked for. A user with a wrong checkpoint so sees the whole picture in one
//! message instead of one name a run.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::attention::AttentionBudget;
use crate::device::Compute;
use negkit_kernels::Products;

/// Values as a file has them, row-major.
#[derive(Debug, Clone, Copy)]
pub enum StoredValues<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

/// Named tensors that a model can be built from: a checkpoint file, or anything like it.
pub trait TensorSource: Send + Sync {
    /// All names on offer, in a stable order.
    fn names(&self) -> Vec<String>;

    /// Shape of `name`; `None` when there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Reads `name`, converted to `dtype`, on `device`.
    ///
    /// # Errors
    /// When the tensor cannot be read or converted.
    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;

    /// The values of `name`, where they lie in memory as they are stored: what a layer packs is then not
    /// copied first. `None` where they are not to be had so, and [`TensorSource::load`] is the way.
    fn stored(&self, _name: &str) -> Option<StoredValues<'_>> {
        None
    }

    /// Told when what [`TensorSource::stored`] gave of `name` is no longer looked at.
    fn release(&self, _name: &str) {}

    /// Where the tensors come from, for error messages: a path, or several.
    fn origin(&self) -> String;

    /// Whether values change after they were handed out, as those of a model in training do: layers
    /// then keep the tensors themselves and no packed copy of them.
    fn changes(&self) -> bool {
        false
    }
}

/// Parameters that are made when a model asks for them: what a trainer starts from.
///
/// Such a source knows no names of its own, so nothing of it can be missing or left over.
pub trait TensorFactory: Send + Sync {
    /// The parameter of this full name, which a model asks for in this shape. It may be a tracked
    /// variable's tensor; asked for twice, the same name gives the same variable.
    ///
    /// # Errors
    /// When the parameter cannot be made: no memory, or the name was given another shape before.
    fn make(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor>;

    /// What makes the parameters, for error messages.
    fn origin(&self) -> String;

    /// As [`TensorSource::changes`].
    fn changes(&self) -> bool {
        false
    }
}

#[derive(Clone)]
enum Source {
    Tensors(Arc<dyn TensorSource>),
    Made(Arc<dyn TensorFactory>),
    Random { seed: u64 },
}

#[derive(Default)]
struct Audit {
    read: BTreeSet<String>,
    problems: Vec<ParamProblem>,
}

struct Shared {
    source: Source,
    dtype: DType,
    device: Device,
    attention: AttentionBudget,
    products: Products,
    audit: Mutex<Audit>,
}

/// A position in the tree of a model's parameter names, such as `text_model.encoder.layers.3`.
///
/// Cheap to clone. All positions of one tree share one list of problems.
#[derive(Clone)]
pub struct Params {
    shared: Arc<Shared>,
    prefix: String,
}

/// One thing wrong with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamProblem {
    /// The model needs the tensor and the checkpoint lacks it.
    Missing {
        /// Full name of the tensor.
        name: String,
        /// Shape that the model needs.
        expected: Vec<usize>,
    },
    /// The checkpoint's tensor has another shape than the model needs.
    Misshapen {
        /// Full name of the tensor.
        name: String,
        /// Shape that the model needs.
        expected: Vec<usize>,
        /// Shape in the checkpoint.
        found: Vec<usize>,
    },
    /// The checkpoint holds a tensor that the model has no place for.
    Extra {
        /// Full name of the tensor.
        name: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
    },
    /// The tensor is there, but reading it failed.
    Unreadable {
        /// Full name of the tensor.
        name: String,
        /// What went wrong.
        cause: String,
    },
}

impl fmt::Display for ParamProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected } => {
                write!(f, "missing     {name}: expected {expected:?}")
            }
            Self::Misshapen {
                name,
                expected,
                found,
            } => write!(
                f,
                "misshapen   {name}: expected {expected:?}, found {found:?}"
            ),
            Self::Extra { name, found } => {
                write!(
                    f,
                    "extra       {name}: found {found:?}, the model has no such tensor"
                )
            }
            Self::Unreadable { name, cause } => write!(f, "unreadable  {name}: {cause}"),
        }
    }
}

/// Everything that is wrong with a checkpoint for a given model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamsError {
    /// The model that was being built.
    pub model: String,
    /// Where the tensors came from.
    pub origin: String,
    /// All problems: unreadable, missing and misshapen ones in the model's order, then extra ones.
    pub problems: Vec<ParamProblem>,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not hold the weights of {}: {} tensor(s) do not fit. Check that the file and \
             its config.json belong together.",
            self.origin,
            self.model,
            self.problems.len()
        )?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParamsError {}

/// Tensors of a checkpoint that [`Params::finish`] shall not call extra.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignored<'a> {
    /// Names that start with one of these belong to another model in the same file.
    pub prefixes: &'a [&'a str],
    /// Names whose last dot-separated part is one of these are buffers, not weights.
    pub buffers: &'a [&'a str],
}

impl Ignored<'_> {
    fn covers(&self, name: &str) -> bool {
        let last = name.rsplit('.').next().unwrap_or(name);
        self.prefixes.iter().any(|p| name.starts_with(p)) || self.buffers.contains(&last)
    }
}

impl Params {
    /// Parameters from `source`, converted to `dtype`, on `device`.
    pub fn new(source: Arc<dyn TensorSource>, dtype: DType, device: &Device) -> Self {
        Self::from_source(Source::Tensors(source), dtype, device)
    }

    /// Parameters from `source` for models that compute as `compute` says.
    pub fn compute(source: Arc<dyn TensorSource>, compute: &Compute) -> Self {
        Self::new(source, compute.dtype, &compute.device).with_products(compute.products)
    }

    /// Random parameters of whatever shape the model asks for, the same for the same seed.
    ///
    /// Weights are scaled by `1 / sqrt(fan_in)` and norms stay near one, so that activations keep
    /// a sane size: for measuring time and memory of an architecture without its weights.
    pub fn random(seed: u64, dtype: DType, device: &Device) -> Self {
        Self::from_source(Source::Random { seed }, dtype, device)
    }

    /// Parameters that `factory` makes in whatever shape the model asks for.
    pub fn from_factory(factory: Arc<dyn TensorFactory>, dtype: DType, device: &Device) -> Self {
        Self::from_source(Source::Made(factory), dtype, device)
    }

    fn from_source(source: Source, dtype: DType, device: &Device) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                dtype,
                device: device.clone(),
                attention: AttentionBudget::default(),
                products: Products::default(),
                audit: Mutex::new(Audit::default()),
            }),
            prefix: String::new(),
        }
    }

    /// The same parameters, with another bound on the memory of attention scores.
    ///
    /// To be called on a fresh tree, before any tensor is read.
    #[must_use]
    pub fn with_attention_budget(self, attention: AttentionBudget) -> Self {
        self.with_settings(attention, self.shared.products)
    }

    /// The same parameters, for layers that compute their products so.
    ///
    /// To be called on a fresh tree, before any tensor is read.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        self.with_settings(self.shared.attention, products)
    }

    fn with_settings(&self, attention: AttentionBudget, products: Products) -> Self {
        Self {
            shared: Arc::new(Shared {
                source: self.shared.source.clone(),
                dtype: self.shared.dtype,
                device: self.shared.device.clone(),
                attention,
                products,
                audit: Mutex::new(Audit::default()),
            }),
            prefix: self.prefix.clone(),
        }
    }

    /// The position one level further down: `pp("layers")`, `pp(3)`.
    #[must_use]
    pub fn pp(&self, part: impl fmt::Display) -> Self {
        Self {
            shared: self.shared.clone(),
            prefix: self.full_name(part),
        }
    }

    /// Type that tensors are given in.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }

    /// Device that tensors are given on.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// Bound on the memory of attention scores, for the layers built from here.
    pub fn attention_budget(&self) -> AttentionBudget {
        self.shared.attention
    }

    /// How the layers built from here compute their products.
    pub fn products(&self) -> Products {
        self.shared.products
    }

    /// Whether the values of the parameters change after they were read: see
    /// [`TensorSource::changes`].
    pub(crate) fn changes(&self) -> bool {
        match &self.shared.source {
            Source::Tensors(tensors) => tensors.changes(),
            Source::Made(factory) => factory.changes(),
            Source::Random { .. } => false,
        }
    }

    /// Whether the checkpoint has the tensor `name` below this position. Random and made
    /// parameters have every tensor.
    pub fn contains(&self, name: &str) -> bool {
        match &self.shared.source {
            Source::Tensors(tensors) => tensors.shape(&self.full_name(name)).is_some(),
            Source::Made(_) | Source::Random { .. } => true,
        }
    }

    /// The tensor `name` below this position, of shape `shape`.
    ///
    /// When it is missing, misshapen or unreadable, that is written down for [`Params::finish`] and
    /// zeros are given, so that the construction goes on and finds what else is wrong.
    ///
    /// # Errors
    /// Only when the zeros themselves cannot be made (out of device memory).
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        let shape = shape.into();
        let name = self.full_name(name);
        match self.try_get(&shape, &name) {
            Ok(tensor) => Ok(tensor),
            Err(problem) => {
                self.audit().problems.push(problem);
                Tensor::zeros(shape, self.shared.dtype, &self.shared.device)
            }
        }
    }

    /// What `work` makes of the values of the tensor `name` below this position, where they lie, if it is
    /// of shape `shape`, there to be had so and not empty; [`Params::get`] is the way for all others.
    pub(crate) fn with_stored<R>(
        &self,
        shape: &[usize],
        name: &str,
        work: impl FnOnce(StoredValues<'_>) -> R,
    ) -> Option<R> {
        let Source::Tensors(tensors) = &self.shared.source else {
            return None;
        };
        let name = self.full_name(name);
        if shape.contains(&0) || tensors.shape(&name)? != shape {
            return None;
        }
        let made = work(tensors.stored(&name)?);
        tensors.release(&name);
        self.audit().read.insert(name);
        Some(made)
    }

    fn try_get(&self, shape: &Shape, name: &str) -> std::result::Result<Tensor, ParamProblem> {
        let Shared {
            source,
            dtype,
            device,
            ..
        } = &*self.shared;
        let unreadable = |e: candle_core::Error| ParamProblem::Unreadable {
            name: name.to_owned(),
            cause: e.to_string(),
        };
        self.audit().read.insert(name.to_owned());
        match source {
            Source::Random { seed } => {
                random_parameter(*seed, name, shape, *dtype, device).map_err(unreadable)
            }
            Source::Made(factory) => {
                let made = factory
                    .make(name, shape, *dtype, device)
                    .map_err(unreadable)?;
                if made.dims() == shape.dims() {
                    Ok(made)
                } else {
                    Err(ParamProblem::Misshapen {
                        name: name.to_owned(),
                        expected: shape.dims().to_vec(),
                        found: made.dims().to_vec(),
                    })
                }
            }
            Source::Tensors(tensors) => match tensors.shape(name) {
                None => Err(ParamProblem::Missing {
                    name: name.to_owned(),
                    expected: shape.dims().to_vec(),
                }),
                Some(found) if found != shape.dims() => Err(ParamProblem::Misshapen {
                    name: name.to_owned(),
                    expected: shape.dims().to_vec(),
                    found,
                }),
                Some(_) => tensors.load(name, *dtype, device).map_err(unreadable),
            },
        }
    }

    /// Ends the construction of `model`: reports all tensors that were missing, misshapen or
    /// unreadable, and those of the whole checkpoint that nobody read and `ignored` does not cover.
    ///
    /// # Errors
    /// When there is any such tensor.
    pub fn finish(
        &self,
        model: &str,
        ignored: Ignored<'_>,
    ) -> std::result::Result<(), ParamsError> {
        let mut audit = self.audit();
        let mut problems = std::mem::take(&mut audit.problems);
        if let Source::Tensors(tensors) = &self.shared.source {
            for name in tensors.names() {
                if !audit.read.contains(&name) && !ignored.covers(&name) {
                    let found = tensors.shape(&name).unwrap_or_default();
                    problems.push(ParamProblem::Extra { name, found });
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(ParamsError {
            model: model.to_owned(),
            origin: match &self.shared.source {
                Source::Tensors(tensors) => tensors.origin(),
                Source::Made(factory) => factory.origin(),
                Source::Random { seed } => format!("random parameters of seed {seed}"),
            },
            problems,
        })
    }

    fn full_name(&self, part: impl fmt::Display) -> String {
        if self.prefix.is_empty() {
            part.to_string()
        } else {
            format!("{}.{part}", self.prefix)
        }
    }

    fn audit(&self) -> MutexGuard<'_, Audit> {
        // A panic in another thread leaves the list usable: it only ever grows.
        self.shared
            .audit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_parameter(
    seed: u64,
    name: &str,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    // FNV-1a: the value of a tensor depends on its name, not on the order of construction.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ hash);
    let dims = shape.dims();
    let fan_in: usize = dims.iter().skip(1).product();
    let is_norm = dims.len() < 2 && name.ends_with("weight");
    let (mean, deviation) = match (is_norm, dims.len() < 2) {
        (true, _) => (1., 0.1),
        (false, true) => (0., 0.05),
        (false, false) => (0., 1. / (fan_in.max(1) as f32).sqrt()),
    };
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| {
            let z: f32 = StandardNormal.sample(&mut rng);
            mean + deviation * z
        })
        .collect();
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)?
        .to_dtype(dtype)?
        .to_device(device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    struct Map(BTreeMap<String, Tensor>);

    impl TensorSource for Map {
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            self.0.get(name).map(|t| t.dims().to_vec())
        }
        fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
            self.0[name].to_dtype(dtype)?.to_device(device)
        }
        fn origin(&self) -> String {
            "a map".into()
        }
    }

    fn params(names: &[(&str, &[usize])]) -> Params {
        let map = names
            .iter()
            .map(|(n, s)| {
                let t = Tensor::ones(*s, DType::F32, &Device::Cpu).unwrap();
                ((*n).to_owned(), t)
            })
            .collect();
        Params::new(Arc::new(Map(map)), DType::F32, &Device::Cpu)
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let p = params(&[("a.w", &[2, 3]), ("a.x", &[1]), ("b.position_ids", &[4])]);
        p.pp("a").get((3, 2), "w").unwrap();
        p.pp("c").get(7, "w").unwrap();
        let ignored = Ignored {
            buffers: &["position_ids"],
            ..Ignored::default()
        };
        let error = p.finish("a model", ignored).unwrap_err();
        assert_eq!(
            error.problems,
            [
                ParamProblem::Misshapen {
                    name: "a.w".into(),
                    expected: vec![3, 2],
                    found: vec![2, 3]
                },
                ParamProblem::Missing {
                    name: "c.w".into(),
                    expected: vec![7]
                },
                ParamProblem::Extra {
                    name: "a.x".into(),
                    found: vec![1]
                },
            ]
        );
        let text = error.to_string();
        for part in ["a.w", "[3, 2]", "[2, 3]", "c.w", "a.x", "a map", "a model"] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }

    #[test]
    fn a_fitting_checkpoint_passes() {
        let p = params(&[("a.w", &[2, 3]), ("vision.w", &[1])]);
        assert_eq!(p.pp("a").get((2, 3), "w").unwrap().dims(), [2, 3]);
        let ignored = Ignored {
            prefixes: &["vision."],
            ..Ignored::default()
        };
        p.finish("a model", ignored).unwrap();
    }

    struct Ones;

    impl TensorFactory for Ones {
        fn make(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
            match name {
                "bad" => candle_core::bail!("out of ones"),
                "turned" => Tensor::ones(7, dtype, device),
                _ => candle_core::Var::ones(shape, dtype, device).map(|v| v.as_tensor().clone()),
            }
        }
        fn origin(&self) -> String {
            "a factory of ones".into()
        }
    }

    #[test]
    fn made_parameters_are_never_missing_and_failures_are_told() {
        let p = Params::from_factory(Arc::new(Ones), DType::F32, &Device::Cpu);
        assert!(p.contains("anything"));
        assert!(p.pp("a").get((2, 3), "w").unwrap().is_variable());
        p.finish("a model", Ignored::default()).unwrap();
        p.get(2, "bad").unwrap();
        p.get(2, "turned").unwrap();
        let error = p.finish("a model", Ignored::default()).unwrap_err();
        let text = error.to_string();
        for part in ["bad", "out of ones", "turned", "[7]", "a factory of ones"] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }

    #[test]
    fn random_parameters_depend_on_name_and_seed_alone() {
        let values = |seed, name: &str| {
            let p = Params::random(seed, DType::F32, &Device::Cpu);
            let t = p.get((4, 8), name).unwrap();
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(1, "a"), values(1, "a"));
        assert_ne!(values(1, "a"), values(2, "a"));
        assert_ne!(values(1, "a"), values(1, "b"));
    }
}
