//! The weights of a layer: a tensor where they are trained, packed for the kernels where they are not.
//!
//! A layer packs its weights when it is loaded and keeps nothing else of them. A gradient that flows
//! *through* a layer that is not trained needs the tensor again: it is unpacked then, each time.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use half::bf16;
use negkit_kernels::{Element, Isa, Order, Precision, Weights};

use crate::Params;

/// A matrix or the kernel of a convolution.
#[derive(Debug, Clone)]
pub(crate) enum Kernel {
    /// As it was read: for training, for other devices and for other types.
    Tensor(Tensor),
    /// For the kernels of the CPU.
    Packed(Packed),
}

/// Weights as the kernels take them.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) weights: Arc<Weights>,
    pub(crate) order: Order,
    shape: Vec<usize>,
    dtype: DType,
}

impl Kernel {
    /// Packs `weight` `[output, input]` or `[output, input, height, width]` if the kernels can take it
    /// and its values are to stay.
    pub(crate) fn new(weight: Tensor, order: Order, params: &Params) -> Result<Self> {
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
        let (columns, inputs, taps) = match *shape.as_slice() {
            [columns, inputs] => (columns, inputs, 1),
            [columns, inputs, height, width] => (columns, inputs, height * width),
            _ => bail!("a layer's weight has two or four dimensions, found {shape:?}"),
        };
        let order = if order.fits(columns) {
            order
        } else {
            Order::Plain
        };
        let dtype = weight.dtype();
        let precision = match dtype {
            DType::BF16 => Precision::Bf16,
            _ if products.rounded() => Precision::Bf16,
            _ => Precision::F32,
        };
        let sizes = [columns, inputs, taps];
        let isa = Isa::current();
        let weights = with_values(&weight, Pack(sizes, order, precision, isa))?;
        Ok(Self::Packed(Packed {
            weights: Arc::new(weights),
            order,
            shape,
            dtype,
        }))
    }

    /// The packed weights, if `tensors`, of which `x` is the one that they multiply, can be computed
    /// with by the kernels: no gradient is tracked.
    pub(crate) fn packed(&self, tensors: &[&Tensor]) -> Option<&Packed> {
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
            Self::Packed(Packed {
                weights,
                order,
                shape,
                dtype,
            }) => {
                let taps = shape.iter().skip(2).product();
                let values = weights.unpack(taps, *order);
                Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?.to_dtype(*dtype)
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

struct Pack([usize; 3], Order, Precision, Isa);

impl WithValues for Pack {
    type Output = Weights;
    fn call<T: Value>(self, values: &[T]) -> Result<Weights> {
        let Self(sizes, order, precision, isa) = self;
        Weights::pack_taps(values, sizes, order, precision, isa)
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
