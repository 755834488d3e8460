//! Lazy, strided views into weight files.

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use negkit_nn::StoredValues;
use rayon::prelude::*;

use crate::ElementType;
use crate::source::Bytes;

/// Most bytes that a view may have which repeats elements of a smaller storage (stride 0 or
/// overlapping rows). Expanded buffers are small; a file of a few bytes must not ask for gigabytes.
const MAX_REPEATED_BYTES: usize = 1 << 28;

/// Why a view cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A tensor has as many strides as dimensions.
    #[error("shape {shape:?} has {} dimensions, strides {strides:?} have {}", shape.len(), strides.len())]
    Rank {
        /// Shape asked for.
        shape: Vec<usize>,
        /// Strides asked for, in elements.
        strides: Vec<usize>,
    },
    /// Sizes do not fit in the machine's word.
    #[error("the size of shape {shape:?} with strides {strides:?} overflows")]
    Overflow {
        /// Shape asked for.
        shape: Vec<usize>,
        /// Strides asked for, in elements.
        strides: Vec<usize>,
    },
    /// The view would read beyond its storage.
    #[error("needs {needed} bytes of a storage of {available} bytes")]
    OutOfBounds {
        /// Bytes from the start of the storage to the end of the last element.
        needed: usize,
        /// Bytes of the storage.
        available: usize,
    },
    /// The view repeats few stored elements into very many.
    #[error("repeats a storage of {available} bytes into {expanded} bytes")]
    Amplified {
        /// Bytes that the view would have in memory.
        expanded: usize,
        /// Bytes of the storage.
        available: usize,
    },
    /// There is no such dimension, or it is too short.
    #[error("cannot take {len} from {start} of dimension {dim} of shape {shape:?}")]
    Narrow {
        /// Shape of the view.
        shape: Vec<usize>,
        /// Dimension asked for.
        dim: usize,
        /// First index asked for.
        start: usize,
        /// Number of indices asked for.
        len: usize,
    },
    /// Only a matrix has a transpose.
    #[error("only a matrix can be transposed, the shape is {shape:?}")]
    Transpose {
        /// Shape of the view.
        shape: Vec<usize>,
    },
}

/// A tensor that still lies in its file: element type, shape and strides over a run of bytes.
///
/// Renaming, splitting, transposing and dropping dimensions change numbers here and copy nothing;
/// [`TensorView::load`] copies once, into the layout, type and device that a model wants. That a
/// view stays within its bytes is checked when it is made, so loading cannot go out of bounds.
#[derive(Debug, Clone)]
pub struct TensorView {
    storage: Bytes,
    element: ElementType,
    shape: Vec<usize>,
    // In elements.
    strides: Vec<usize>,
    // Of the first element, in elements.
    offset: usize,
}

impl TensorView {
    /// A view of `storage`, `strides` and `offset` counted in elements.
    pub(crate) fn new(
        storage: Bytes,
        element: ElementType,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
    ) -> Result<Self, ViewError> {
        if shape.len() != strides.len() {
            return Err(ViewError::Rank { shape, strides });
        }
        let Some((needed, expanded)) = extent(element.size(), &shape, &strides, offset) else {
            return Err(ViewError::Overflow { shape, strides });
        };
        let available = storage.len();
        if needed > available {
            return Err(ViewError::OutOfBounds { needed, available });
        }
        if expanded > available && expanded > MAX_REPEATED_BYTES {
            return Err(ViewError::Amplified {
                expanded,
                available,
            });
        }
        Ok(Self {
            storage,
            element,
            shape,
            strides,
            offset,
        })
    }

    /// A view of all of `storage` in row-major order.
    pub(crate) fn contiguous(
        storage: Bytes,
        element: ElementType,
        shape: Vec<usize>,
    ) -> Result<Self, ViewError> {
        let Some(strides) = row_major(&shape) else {
            let strides = Vec::new();
            return Err(ViewError::Overflow { shape, strides });
        };
        Self::new(storage, element, shape, strides, 0)
    }

    /// Copies `tensor` into a view of its own.
    pub(crate) fn from_tensor(tensor: &Tensor) -> CandleResult<Self> {
        let Some(element) = ElementType::of_candle(tensor.dtype()) else {
            candle_core::bail!("tensors of type {:?} cannot be kept", tensor.dtype());
        };
        let flat = tensor.flatten_all()?.to_device(&Device::Cpu)?;
        macro_rules! bytes {
            ($t:ty) => {
                flat.to_vec1::<$t>()?
                    .into_iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect()
            };
        }
        let bytes: Vec<u8> = match tensor.dtype() {
            DType::F64 => bytes!(f64),
            DType::F32 => bytes!(f32),
            DType::F16 => bytes!(f16),
            DType::BF16 => bytes!(bf16),
            DType::I64 => bytes!(i64),
            DType::I32 => bytes!(i32),
            DType::I16 => bytes!(i16),
            DType::U32 => bytes!(u32),
            _ => bytes!(u8),
        };
        Self::contiguous(Bytes::owned(bytes), element, tensor.dims().to_vec())
            .map_err(candle_core::Error::wrap)
    }

    /// Type of the stored elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Shape, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        // Cannot overflow: the constructor computed it with checks, and views only shrink.
        self.shape.iter().product()
    }

    /// Bytes that the elements take as they are stored.
    pub fn bytes(&self) -> usize {
        self.elements() * self.element.size()
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return self.elements() == 0;
            }
            expected *= size;
        }
        true
    }

    /// Whether both views start at the same element of the same storage, as tied weights do.
    pub fn shares_elements_with(&self, other: &Self) -> bool {
        self.storage.is_same_place(&other.storage) && self.offset == other.offset
    }

    /// Indices `start .. start + len` of dimension `dim`.
    ///
    /// # Errors
    /// When the view has no such dimension or it is shorter.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self, ViewError> {
        let fits = self
            .shape
            .get(dim)
            .is_some_and(|&size| start.checked_add(len).is_some_and(|end| end <= size));
        if !fits {
            return Err(ViewError::Narrow {
                shape: self.shape.clone(),
                dim,
                start,
                len,
            });
        }
        let mut view = self.clone();
        view.shape[dim] = len;
        if view.elements() > 0 {
            view.offset += start * self.strides[dim];
        }
        Ok(view)
    }

    /// Splits dimension 0 into `parts` equal views, in order: how a fused `in_proj_weight`
    /// `[3 * width, width]` becomes query, key and value.
    ///
    /// # Errors
    /// When dimension 0 is missing or not divisible.
    pub fn split(&self, parts: usize) -> Result<Vec<Self>, ViewError> {
        let size = self.shape.first().copied().unwrap_or(0);
        let each = size.checked_div(parts).unwrap_or(0);
        if self.shape.is_empty() || each * parts != size {
            return Err(ViewError::Narrow {
                shape: self.shape.clone(),
                dim: 0,
                start: 0,
                len: each,
            });
        }
        (0..parts).map(|i| self.narrow(0, i * each, each)).collect()
    }

    /// The matrix `[a, b]` as `[b, a]`.
    ///
    /// # Errors
    /// When the view is no matrix.
    pub fn transpose(&self) -> Result<Self, ViewError> {
        if self.shape.len() != 2 {
            return Err(ViewError::Transpose {
                shape: self.shape.clone(),
            });
        }
        let mut view = self.clone();
        view.shape.swap(0, 1);
        view.strides.swap(0, 1);
        Ok(view)
    }

    /// Drops dimensions of size 1 from the end while more than `rank` dimensions are left: the
    /// 1x1 convolution `[out, in, 1, 1]` is the linear layer `[out, in]`.
    #[must_use]
    pub fn drop_trailing_ones(&self, rank: usize) -> Self {
        let mut view = self.clone();
        while view.shape.len() > rank && view.shape.last() == Some(&1) {
            view.shape.pop();
            view.strides.pop();
        }
        view
    }

    /// Reads the tensor, row-major, as `dtype` on `device`. The file's own pages leave memory after
    /// that.
    ///
    /// # Errors
    /// When candle has no conversion between the two types, or the device refuses.
    pub fn load(&self, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let gathered;
        let bytes = match self.contiguous_bytes() {
            Some(bytes) => bytes,
            None => {
                gathered = self.gather();
                &gathered
            }
        };
        let tensor = self.decode(bytes, dtype)?;
        self.storage.release();
        tensor.to_dtype(dtype)?.to_device(device)
    }

    /// The stored bytes of a view made by [`TensorView::from_tensor`].
    pub(crate) fn stored_bytes(&self) -> &[u8] {
        self.contiguous_bytes().unwrap_or_default()
    }

    /// The values where they lie, if they are row-major, of a type that layers pack, and where numbers of
    /// their size may lie.
    pub(crate) fn stored_values(&self) -> Option<StoredValues<'_>> {
        if cfg!(target_endian = "big") {
            return None;
        }
        let bytes = self.contiguous_bytes()?;
        match self.element {
            ElementType::F32 => bytemuck::try_cast_slice(bytes).ok().map(StoredValues::F32),
            ElementType::F16 => bytemuck::try_cast_slice(bytes).ok().map(StoredValues::F16),
            ElementType::BF16 => bytemuck::try_cast_slice(bytes).ok().map(StoredValues::Bf16),
            _ => None,
        }
    }

    /// Lets the file's own pages leave memory.
    pub(crate) fn release(&self) {
        self.storage.release();
    }

    fn contiguous_bytes(&self) -> Option<&[u8]> {
        if self.elements() == 0 {
            return Some(&[]);
        }
        let start = self.offset * self.element.size();
        self.is_contiguous()
            .then(|| &self.storage[start..start + self.bytes()])
    }

    /// Copies the elements into row-major order.
    fn gather(&self) -> Vec<u8> {
        let size = self.element.size();
        let mut out = Vec::with_capacity(self.bytes());
        let Some((&inner, outer)) = self.shape.split_last() else {
            let start = self.offset * size;
            return self.storage[start..start + size].to_vec();
        };
        let inner_stride = self.strides[outer.len()];
        let rows: usize = outer.iter().product();
        let mut index = vec![0; outer.len()];
        let mut row_start = self.offset;
        for _ in 0..rows {
            let mut at = row_start;
            for _ in 0..inner {
                out.extend_from_slice(&self.storage[at * size..(at + 1) * size]);
                at += inner_stride;
            }
            // Counts `index` up by one, carrying from the last dimension to the first.
            for dim in (0..outer.len()).rev() {
                index[dim] += 1;
                row_start += self.strides[dim];
                if index[dim] < outer[dim] {
                    break;
                }
                row_start -= outer[dim] * self.strides[dim];
                index[dim] = 0;
            }
        }
        out
    }

    /// Row-major bytes into a tensor on the CPU. Between f32, f16 and bf16 values are converted here
    /// when `dtype` asks for it, with vector instructions and threads that candle's conversion lacks.
    fn decode(&self, bytes: &[u8], dtype: DType) -> CandleResult<Tensor> {
        let shape = self.shape.as_slice();
        let cpu = &Device::Cpu;
        macro_rules! words {
            ($t:ty) => {{
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                chunks.iter().map(|b| <$t>::from_le_bytes(*b))
            }};
        }
        macro_rules! tensor {
            ($values:expr) => {
                Tensor::from_vec($values.collect::<Vec<_>>(), shape, cpu)
            };
        }
        match self.element {
            ElementType::F64 => tensor!(words!(f64)),
            ElementType::F32 => match dtype {
                DType::F32 => {
                    let copy = |from: &[f32], to: &mut [f32]| to.copy_from_slice(from);
                    Tensor::from_vec(converted(bytes, f32::from_le_bytes, copy), shape, cpu)
                }
                DType::BF16 => {
                    let narrow = |from: &[f32], to: &mut [bf16]| to.convert_from_f32_slice(from);
                    Tensor::from_vec(to_bf16(bytes, f32::from_le_bytes, narrow), shape, cpu)
                }
                _ => tensor!(words!(f32)),
            },
            ElementType::F16 => match dtype {
                DType::F32 => {
                    let widen = |from: &[f16], to: &mut [f32]| from.convert_to_f32_slice(to);
                    Tensor::from_vec(converted(bytes, f16::from_le_bytes, widen), shape, cpu)
                }
                DType::BF16 => {
                    let convert = |from: &[f16], to: &mut [bf16]| {
                        let mut wide = [0_f32; CONVERTED];
                        let wide = &mut wide[..from.len()];
                        from.convert_to_f32_slice(wide);
                        to.convert_from_f32_slice(wide);
                    };
                    Tensor::from_vec(to_bf16(bytes, f16::from_le_bytes, convert), shape, cpu)
                }
                _ => tensor!(words!(f16)),
            },
            ElementType::BF16 if dtype == DType::F32 => {
                let widen = |from: &[bf16], to: &mut [f32]| from.convert_to_f32_slice(to);
                Tensor::from_vec(converted(bytes, bf16::from_le_bytes, widen), shape, cpu)
            }
            ElementType::BF16 => tensor!(words!(bf16)),
            ElementType::I64 => tensor!(words!(i64)),
            ElementType::I32 => tensor!(words!(i32)),
            ElementType::I16 => tensor!(words!(i16)),
            ElementType::I8 => tensor!(words!(i8).map(i16::from)),
            ElementType::U32 => tensor!(words!(u32)),
            ElementType::U16 => tensor!(words!(u16).map(u32::from)),
            ElementType::U8 => tensor!(bytes.iter().copied()),
            ElementType::Bool => tensor!(bytes.iter().map(|&b| u8::from(b != 0))),
            ElementType::U64
            | ElementType::F8E4M3
            | ElementType::F8E5M2
            | ElementType::Complex64
            | ElementType::Complex128 => candle_core::bail!(
                "elements of type {} cannot be loaded as {dtype:?}; float32, float16, bfloat16 and \
                 the integer types can",
                self.element
            ),
        }
    }
}

/// Values that are converted at a time.
const CONVERTED: usize = 1024;

/// `bytes` as values of `SIZE` bytes that `decode` reads, converted by `convert`, on all threads where
/// there are many.
///
/// `T` is a number of Rust's own: its zeros are pages that the system hands out when they are first
/// written, by the thread that writes them.
fn converted<const SIZE: usize, F, T>(
    bytes: &[u8],
    decode: impl Fn([u8; SIZE]) -> F + Sync,
    convert: impl Fn(&[F], &mut [T]) + Sync,
) -> Vec<T>
where
    F: Copy + Default,
    T: Copy + Default + Send,
{
    /// Values that are worth a task.
    const TASK: usize = 64 * CONVERTED;
    let (words, _) = bytes.as_chunks::<SIZE>();
    let mut values = vec![T::default(); words.len()];
    let tasks = values.par_chunks_mut(TASK).zip(words.par_chunks(TASK));
    tasks.for_each(|(values, words)| {
        let mut decoded = [F::default(); CONVERTED];
        for (to, words) in values.chunks_mut(CONVERTED).zip(words.chunks(CONVERTED)) {
            let decoded = &mut decoded[..words.len()];
            for (value, word) in decoded.iter_mut().zip(words) {
                *value = decode(*word);
            }
            convert(decoded, to);
        }
    });
    values
}

/// [`converted`] to bf16.
fn to_bf16<const SIZE: usize, F: Copy + Default>(
    bytes: &[u8],
    decode: impl Fn([u8; SIZE]) -> F + Sync,
    convert: impl Fn(&[F], &mut [bf16]) + Sync,
) -> Vec<bf16> {
    let convert = |from: &[F], to: &mut [u16]| convert(from, to.reinterpret_cast_mut());
    converted(bytes, decode, convert).reinterpret_into()
}

/// Bytes from the start of the storage to the end of the last element, and bytes of all elements
/// laid out. `None` when either overflows.
fn extent(
    size: usize,
    shape: &[usize],
    strides: &[usize],
    offset: usize,
) -> Option<(usize, usize)> {
    let elements = shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s))?;
    let expanded = elements.checked_mul(size)?;
    if elements == 0 {
        return Some((0, 0));
    }
    let mut last = offset;
    for (&length, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((length - 1).checked_mul(stride)?)?;
    }
    // A stride times a length must stay in range as well: the row counter steps beyond the end of a
    // dimension before it goes back.
    for (&length, &stride) in shape.iter().zip(strides) {
        last.checked_add(length.checked_mul(stride)?)?;
    }
    Some((last.checked_add(1)?.checked_mul(size)?, expanded))
}

fn row_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = shape[dim].max(1).checked_mul(strides[dim])?;
    }
    Some(strides)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn view(shape: &[usize]) -> TensorView {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        TensorView::from_tensor(&tensor).unwrap()
    }

    fn values(view: &TensorView) -> Vec<f32> {
        let tensor = view.load(DType::F32, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), view.shape());
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn transpose_split_and_narrow_agree_with_candle() {
        let original = view(&[6, 5]);
        let tensor = original.load(DType::F32, &Device::Cpu).unwrap();
        let parts = original.split(3).unwrap();
        for (i, part) in parts.iter().enumerate() {
            let expected = tensor.narrow(0, 2 * i, 2).unwrap().t().unwrap();
            let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(part.is_contiguous());
            assert_eq!(values(&part.transpose().unwrap()), expected);
        }
        let columns = original.narrow(1, 1, 3).unwrap();
        assert!(!columns.is_contiguous());
        assert_eq!(values(&columns)[..4], [1., 2., 3., 6.]);
    }

    #[test]
    fn a_three_dimensional_permutation_is_gathered_in_order() {
        let v = view(&[2, 3, 4]);
        let permuted = TensorView::new(
            v.storage.clone(),
            ElementType::F32,
            vec![4, 2, 3],
            vec![1, 12, 4],
            0,
        )
        .unwrap();
        let tensor = v.load(DType::F32, &Device::Cpu).unwrap();
        let expected = tensor.permute((2, 0, 1)).unwrap().flatten_all().unwrap();
        assert_eq!(values(&permuted), expected.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn a_one_by_one_convolution_becomes_a_matrix() {
        assert_eq!(view(&[3, 2, 1, 1]).drop_trailing_ones(2).shape(), [3, 2]);
        assert_eq!(
            view(&[3, 2, 1, 2]).drop_trailing_ones(2).shape(),
            [3, 2, 1, 2]
        );
    }

    #[test]
    fn views_beyond_the_storage_are_refused() {
        let storage = Bytes::owned(vec![0; 16]);
        let new = |shape: &[usize], strides: &[usize], offset| {
            TensorView::new(
                storage.clone(),
                ElementType::F32,
                shape.to_vec(),
                strides.to_vec(),
                offset,
            )
        };
        assert!(new(&[4], &[1], 0).is_ok());
        assert!(matches!(
            new(&[4], &[1], 1),
            Err(ViewError::OutOfBounds { .. })
        ));
        assert!(matches!(
            new(&[2, 2], &[3, 1], 0),
            Err(ViewError::OutOfBounds { .. })
        ));
        assert!(matches!(new(&[2], &[1, 1], 0), Err(ViewError::Rank { .. })));
        assert!(matches!(
            new(&[usize::MAX, 2], &[0, 0], 0),
            Err(ViewError::Overflow { .. })
        ));
        assert!(matches!(
            new(&[1], &[usize::MAX], usize::MAX),
            Err(ViewError::Overflow { .. })
        ));
        assert!(matches!(
            new(&[1 << 30], &[0], 0),
            Err(ViewError::Amplified { .. })
        ));
        assert!(new(&[0, 1 << 40], &[1, 1], 1 << 50).is_ok());
    }

    #[test]
    fn a_view_without_elements_loads_as_nothing() {
        let empty = view(&[2, 3]).narrow(0, 2, 0).unwrap();
        assert!(values(&empty).is_empty());
        let matrix = empty.transpose().unwrap();
        assert!(values(&matrix).is_empty());
    }

    #[test]
    fn values_are_lent_where_numbers_may_lie_as_they_do() {
        let numbers: Vec<f32> = (0..7).map(|i| i as f32 - 2.5).collect();
        let storage = Bytes::owned(bytemuck::cast_slice(&numbers).to_vec());
        // As many bytes lie before the first that f32 may lie at.
        let start = storage.as_ptr().align_offset(align_of::<f32>());
        let view = |element, offset: usize, shape: &[usize]| {
            let bytes = storage.slice(start + offset..storage.len()).unwrap();
            let count: usize = shape.iter().product();
            let bytes = bytes.slice(0..count * ElementType::size(element)).unwrap();
            TensorView::contiguous(bytes, element, shape.to_vec()).unwrap()
        };
        let own = view(ElementType::F32, 0, &[2, 3]);
        for (view, bytes) in [
            (own.clone(), &storage[start..start + 24]),
            (
                own.narrow(0, 1, 1).unwrap(),
                &storage[start + 12..start + 24],
            ),
        ] {
            match view.stored_values() {
                Some(StoredValues::F32(values)) => {
                    assert_eq!(bytemuck::cast_slice::<f32, u8>(values), bytes)
                }
                other => panic!("{other:?}"),
            }
        }
        let half = view(ElementType::F16, 2, &[5]);
        assert!(
            matches!(half.stored_values(), Some(StoredValues::F16(values)) if values.len() == 5)
        );
        let brain = view(ElementType::BF16, 2, &[5]);
        assert!(
            matches!(brain.stored_values(), Some(StoredValues::Bf16(values)) if values.len() == 5)
        );
        for none in [
            own.transpose().unwrap(),
            view(ElementType::F32, 2, &[3]),
            view(ElementType::F16, 1, &[3]),
            view(ElementType::F64, 0, &[2]),
            view(ElementType::U16, 0, &[4]),
        ] {
            assert!(none.stored_values().is_none(), "{none:?}");
        }
    }

    #[test]
    fn odd_types_are_widened_or_refused() {
        let load = |element: ElementType, bytes: &[u8], dtype| {
            let n = bytes.len() / element.size();
            TensorView::contiguous(Bytes::owned(bytes.to_vec()), element, vec![n])
                .unwrap()
                .load(dtype, &Device::Cpu)
        };
        let t = load(ElementType::I8, &[0xff, 2], DType::F32).unwrap();
        assert_eq!(t.to_vec1::<f32>().unwrap(), [-1., 2.]);
        let t = load(ElementType::Bool, &[0, 7], DType::U8).unwrap();
        assert_eq!(t.to_vec1::<u8>().unwrap(), [0, 1]);
        let t = load(ElementType::U16, &[0xff, 0xff], DType::U32).unwrap();
        assert_eq!(t.to_vec1::<u32>().unwrap(), [65535]);
        let error = load(ElementType::F8E4M3, &[1], DType::F32).unwrap_err();
        assert!(error.to_string().contains("float8_e4m3fn"), "{error}");
    }
}
