//! The weights of a layer: a tensor where they are trained, packed for the kernels where they are not.
//!
//! A layer packs its weights when it is loaded and keeps nothing else of them. A gradient that flows
//! *through* a layer that is not trained needs the tensor again: it is unpacked then, each time.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use half::bf16;
use negkit_kernels::{Convolution, Element, Isa, Order, Precision, Reach, Weights};

use crate::Params;

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
    fn pack<T: Element>(
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

    fn pack<T: Element>(
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

    fn pack<T: Element>(
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
    /// Packs `weight` if the kernels can take it and its values are to stay.
    pub(crate) fn new(weight: Tensor, how: F::How, params: &Params) -> Result<Self> {
        let products = params.products();
        let packs = !params.changes()
            && weight.device().is_cpu()
            && matches!(weight.dtype(), DType::F32 | DType::BF16)
            && !weight.track_op()
            && weight.elem_count() > 0;
        if !packs {
            return Ok(Self::Tensor(weight));
        }
        let shape = weight.dims().to_vec();
        let how = F::settle(how, &shape);
        let dtype = weight.dtype();
        let precision = match dtype {
            DType::BF16 => Precision::Bf16,
            _ if products.rounded() => Precision::Bf16,
            _ => Precision::F32,
        };
        let pack = Pack::<F> {
            shape: &shape,
            how,
            precision,
        };
        let weights = Arc::new(with_values(&weight, pack)?);
        Ok(Self::Packed(Packed {
            weights,
            how,
            shape,
            dtype,
        }))
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

struct Pack<'a, F: Form> {
    shape: &'a [usize],
    how: F::How,
    precision: Precision,
}

impl<F: Form> WithValues for Pack<'_, F> {
    type Output = F;
    fn call<T: Value>(self, values: &[T]) -> Result<F> {
        F::pack(values, self.shape, self.how, self.precision, Isa::current())
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
