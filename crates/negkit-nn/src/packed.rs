//! The weights of a layer: a tensor where they are trained, packed for the kernels where they are not.
//!
//! A layer packs its weights when it is loaded and keeps nothing else of them. A gradient that flows
//! *through* a layer that is not trained needs the tensor again: it is unpacked then, each time.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use half::bf16;
use negkit_kernels::{Convolution, Element, Isa, Order, Precision, Reach, Stored, Weights};

use crate::Params;
use crate::params::StoredValues;

/// A matrix ([`Weights`]) or the kernel of a convolution ([`Convolution`]).
#[derive(Debug)]
pub(crate) enum Kernel<F: Form> {
    /// As it was read: for training, for other devices and for other types.
    Tensor(Tensor),
    /// For the kernels of the CPU.
    Packed(Packed<F>),
}

/// Weights as the kernels take them.
#[derive(Debug)]
pub(crate) struct Packed<F: Form> {
    pub(crate) weights: Arc<F>,
    pub(crate) how: F::How,
    shape: Vec<usize>,
    dtype: DType,
}

// Derived, they would ask the same of the form.
impl<F: Form> Clone for Kernel<F> {
    fn clone(&self) -> Self {
        match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.clone()),
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }
}

impl<F: Form> Clone for Packed<F> {
    fn clone(&self) -> Self {
        Self {
            weights: self.weights.clone(),
            how: self.how,
            shape: self.shape.clone(),
            dtype: self.dtype,
        }
    }
}

/// What weights are packed into.
pub(crate) trait Form: Sized {
    /// What there is to choose.
    type How: Copy + std::fmt::Debug;

    /// `how`, or what there is for weights of this shape in its place.
    fn settle(how: Self::How, _shape: &[usize]) -> Self::How {
        how
    }

    /// Packs `values` of `shape`.
    fn pack<T: Stored>(
        values: &[T],
        shape: &[usize],
        how: Self::How,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self>;

    /// The values as they were packed, up to their rounding.
    fn unpack(&self, how: Self::How) -> Vec<f32>;
}

impl Form for Weights {
    type How = Order;

    fn settle(order: Order, shape: &[usize]) -> Order {
        if shape.first().is_some_and(|columns| order.fits(*columns)) {
            order
        } else {
            Order::Plain
        }
    }

    fn pack<T: Stored>(
        values: &[T],
        shape: &[usize],
        order: Order,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        let [columns, steps] = *shape else {
            bail!("a linear layer's weight has two dimensions, found {shape:?}")
        };
        Self::pack(values, [columns, steps], order, precision, isa)
    }

    fn unpack(&self, order: Order) -> Vec<f32> {
        self.unpack(1, order)
    }
}

impl Form for Convolution {
    type How = Reach;

    fn pack<T: Stored>(
        values: &[T],
        shape: &[usize],
        reach: Reach,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        let [columns, inputs, height, width] = *shape else {
            bail!("a convolution's weight has four dimensions, found {shape:?}")
        };
        let sizes = [columns, inputs, height * width];
        Self::pack(values, sizes, reach, precision, isa)
    }

    fn unpack(&self, _: Reach) -> Vec<f32> {
        self.unpack()
    }
}

impl<F: Form> Kernel<F> {
    /// Reads `weight` of `shape`, and packs it if the kernels can take it and its values are to stay.
    pub(crate) fn load(params: &Params, shape: &[usize], how: F::How) -> Result<Self> {
        const NAME: &str = "weight";
        let pack = Pack::<F>::new(shape, how, params);
        if let Some(pack) = &pack
            && let Some(packed) = params.with_stored(shape, NAME, |values| pack.stored(values))
        {
            return Ok(Self::Packed(packed?));
        }
        let weight = params.get(shape, NAME)?;
        match pack.filter(|_| !weight.track_op() && weight.elem_count() > 0) {
            Some(pack) => Ok(Self::Packed(with_values(&weight, pack)?)),
            None => Ok(Self::Tensor(weight)),
        }
    }

    /// The packed weights, if `tensors`, of which `x` is the one that they multiply, can be computed
    /// with by the kernels: no gradient is tracked.
    pub(crate) fn packed(&self, tensors: &[&Tensor]) -> Option<&Packed<F>> {
        match self {
            Self::Packed(packed) => {
                let takes = |tensor: &&Tensor| {
                    tensor.dtype() == packed.dtype
                        && tensor.device().is_cpu()
                        && !tensor.track_op()
                        && tensor.elem_count() > 0
                };
                tensors.iter().all(takes).then_some(packed)
            }
            Self::Tensor(_) => None,
        }
    }

    /// The weights as they were read.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Packed(packed) => {
                let values = packed.weights.unpack(packed.how);
                let weight = Tensor::from_vec(values, packed.shape.as_slice(), &Device::Cpu)?;
                weight.to_dtype(packed.dtype)
            }
        }
    }
}

/// Something that is done with the values of a tensor, of whatever type.
pub(crate) trait WithValues {
    type Output;
    fn call<T: Value>(self, values: &[T]) -> Result<Self::Output>;
}

/// A type of the kernels that tensors have.
pub(crate) trait Value: Element + candle_core::WithDType {
    fn of(storage: &CpuStorage) -> Option<&[Self]>;
}

impl Value for f32 {
    fn of(storage: &CpuStorage) -> Option<&[f32]> {
        match storage {
            CpuStorage::F32(values) => Some(values),
            _ => None,
        }
    }
}

impl Value for bf16 {
    fn of(storage: &CpuStorage) -> Option<&[bf16]> {
        match storage {
            CpuStorage::BF16(values) => Some(values),
            _ => None,
        }
    }
}

/// How weights are to be packed.
struct Pack<'a, F: Form> {
    shape: &'a [usize],
    how: F::How,
    dtype: DType,
    precision: Precision,
}

impl<'a, F: Form> Pack<'a, F> {
    /// `None` where the values change, or the kernels do not compute with tensors of `params`.
    fn new(shape: &'a [usize], how: F::How, params: &Params) -> Option<Self> {
        if params.changes() || !params.device().is_cpu() {
            return None;
        }
        let dtype = params.dtype();
        let precision = match dtype {
            DType::BF16 => Precision::Bf16,
            DType::F32 if params.products().rounded() => Precision::Bf16,
            DType::F32 => Precision::F32,
            _ => return None,
        };
        Some(Self {
            shape,
            how: F::settle(how, shape),
            dtype,
            precision,
        })
    }

    fn stored(&self, values: StoredValues<'_>) -> Result<Packed<F>> {
        match values {
            StoredValues::F32(values) => self.pack(values),
            StoredValues::F16(values) => self.pack(values),
            StoredValues::Bf16(values) => self.pack(values),
        }
    }

    fn pack<T: Stored>(&self, values: &[T]) -> Result<Packed<F>> {
        let Self {
            shape,
            how,
            dtype,
            precision,
        } = *self;
        let weights = F::pack(values, shape, how, precision, Isa::current())?;
        Ok(Packed {
            weights: Arc::new(weights),
            how,
            shape: shape.to_vec(),
            dtype,
        })
    }
}

impl<F: Form> WithValues for Pack<'_, F> {
    type Output = Packed<F>;
    fn call<T: Value>(self, values: &[T]) -> Result<Packed<F>> {
        self.pack(values)
    }
}

/// Calls `work` with the values of `x`, one row after another, of f32 or bf16 on the CPU.
pub(crate) fn with_values<W: WithValues>(x: &Tensor, work: W) -> Result<W::Output> {
    match x.dtype() {
        DType::F32 => borrow::<f32, _>(x, |values| work.call(values)),
        DType::BF16 => borrow::<bf16, _>(x, |values| work.call(values)),
        dtype => bail!("the CPU's kernels take f32 and bf16, found {dtype:?}"),
    }
}

/// The values of `x`, which is of type `T`, one row after another.
pub(crate) fn borrow<T: Value, R>(x: &Tensor, work: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("expected values in the CPU's memory")
    };
    match (T::of(storage), layout.contiguous_offsets()) {
        (Some(values), Some((start, end))) => work(&values[start..end]),
        _ => bail!("expected contiguous values of {:?}", T::DTYPE),
    }
}

/// `x`, a vector of `params`, as the kernels take it; `None` where it changes, is trained or elsewhere.
pub(crate) fn vector(x: &Tensor, params: &Params) -> Result<Option<Arc<[f32]>>> {
    let takes = !params.changes()
        && x.device().is_cpu()
        && matches!(x.dtype(), DType::F32 | DType::BF16)
        && !x.track_op();
    takes
        .then(|| Ok(x.to_dtype(DType::F32)?.to_vec1::<f32>()?.into()))
        .transpose()
}

/// A picture `[n, channels, height, width]` whose channels lie side by side, as
/// `[n, height, width, channels]`. Copies one that does not lie so.
pub(crate) fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// Whether the channels of a picture lie side by side, and not its columns.
pub(crate) fn is_channels_last(x: &Tensor) -> bool {
    x.rank() == 4 && !x.is_contiguous() && x.permute((0, 2, 3, 1)).is_ok_and(|x| x.is_contiguous())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use half::f16;
    use negkit_kernels::Products;

    use super::*;
    use crate::params::{Ignored, ParamProblem};
    use crate::{Conv2d, ConvOptions, Linear, TensorSource};

    /// A file of half precision that notes how it is read.
    struct File {
        tensors: BTreeMap<String, (Vec<usize>, Vec<f16>)>,
        /// Whether its values can be had where they lie.
        mapped: bool,
        trained: bool,
        noted: Mutex<Vec<String>>,
    }

    impl File {
        fn new(mapped: bool) -> Self {
            let tensor = |name: &str, shape: &[usize]| {
                let count: usize = shape.iter().product();
                let values = (0..count).map(|i| f16::from_f32((i as f32 * 0.7).sin() / 3.));
                (name.to_owned(), (shape.to_vec(), values.collect()))
            };
            Self {
                tensors: BTreeMap::from([
                    tensor("linear.weight", &[5, 12]),
                    tensor("linear.bias", &[5]),
                    tensor("conv.weight", &[7, 3, 3, 3]),
                    tensor("conv.bias", &[7]),
                ]),
                mapped,
                trained: false,
                noted: Mutex::default(),
            }
        }

        fn note(&self, what: &str, name: &str) {
            self.noted.lock().unwrap().push(format!("{what} {name}"));
        }
    }

    impl TensorSource for File {
        fn names(&self) -> Vec<String> {
            self.tensors.keys().cloned().collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            Some(self.tensors.get(name)?.0.clone())
        }
        fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
            self.note("load", name);
            let (shape, values) = &self.tensors[name];
            Tensor::from_slice(values, shape.as_slice(), device)?.to_dtype(dtype)
        }
        fn stored(&self, name: &str) -> Option<StoredValues<'_>> {
            self.note("look at", name);
            let (_, values) = self.tensors.get(name)?;
            self.mapped.then_some(StoredValues::F16(values))
        }
        fn release(&self, name: &str) {
            self.note("release", name);
        }
        fn origin(&self) -> String {
            "a file".into()
        }
        fn changes(&self) -> bool {
            self.trained
        }
    }

    /// What the two layers of `file` make of the same inputs, and what was noted.
    fn results(file: File, dtype: DType, products: Products) -> (Vec<f32>, Vec<String>) {
        let file = Arc::new(file);
        let params = Params::new(file.clone(), dtype, &Device::Cpu).with_products(products);
        let linear = Linear::load(&params.pp("linear"), 12, 5).unwrap();
        let conv = Conv2d::load(&params.pp("conv"), 3, 7, ConvOptions::SAME_3X3).unwrap();
        params.finish("two layers", Ignored::default()).unwrap();
        let x = Tensor::arange(0f32, 108., &Device::Cpu).unwrap();
        let x = x.affine(0.02, -1.).unwrap().to_dtype(dtype).unwrap();
        let rows = linear.forward(&x.reshape((9, 12)).unwrap()).unwrap();
        let picture = conv.forward(&x.reshape((1, 3, 6, 6)).unwrap()).unwrap();
        let both = [rows, picture].map(|y| y.flatten_all().unwrap());
        let both = Tensor::cat(&both, 0).unwrap();
        let values = both.to_dtype(DType::F32).unwrap().to_vec1().unwrap();
        (values, file.noted.lock().unwrap().clone())
    }

    #[test]
    fn weights_are_packed_where_they_lie_and_otherwise_as_loaded() {
        for (dtype, products) in [
            (DType::F32, Products::Exact),
            (DType::F32, Products::Bf16),
            (DType::BF16, Products::Exact),
        ] {
            let (from_memory, noted) = results(File::new(true), dtype, products);
            let expected = ["look at linear.weight", "release linear.weight"];
            assert_eq!(noted[..2], expected);
            assert!(!noted.contains(&"load linear.weight".to_owned()));
            assert!(!noted.contains(&"load conv.weight".to_owned()));
            let (loaded, noted) = results(File::new(false), dtype, products);
            assert!(noted.contains(&"load conv.weight".to_owned()));
            assert!(!noted.iter().any(|note| note.starts_with("release")));
            assert_eq!(from_memory, loaded);
        }
    }

    #[test]
    fn weights_in_training_are_not_packed() {
        let trained = File {
            trained: true,
            ..File::new(true)
        };
        let (_, noted) = results(trained, DType::F32, Products::Exact);
        assert!(
            noted.iter().all(|note| note.starts_with("load")),
            "{noted:?}"
        );
    }

    #[test]
    fn weights_of_another_shape_are_reported_and_not_packed() {
        let file = Arc::new(File::new(true));
        let params = Params::new(file.clone(), DType::F32, &Device::Cpu);
        Linear::load(&params.pp("linear"), 6, 10).unwrap();
        Linear::load_no_bias(&params.pp("none"), 6, 10).unwrap();
        let problems = params
            .finish("a layer", Ignored::default())
            .unwrap_err()
            .problems;
        let found = |problem: &ParamProblem| match problem {
            ParamProblem::Misshapen { name, .. } => name == "linear.weight",
            _ => false,
        };
        assert!(problems.iter().any(found), "{problems:?}");
        let missing = |problem: &ParamProblem| match problem {
            ParamProblem::Missing { name, .. } => name == "none.weight",
            _ => false,
        };
        assert!(problems.iter().any(missing), "{problems:?}");
        assert!(file.noted.lock().unwrap().is_empty());
    }
}
