//! Types of the elements that published tensors are stored in.

use std::fmt;

use candle_core::DType;

/// Type of a stored element. Wider than [`DType`]: files also hold types that candle has no name
/// for, and a file with one such buffer in it must stay readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of an [`ElementType::F32`].
    BF16,
    /// 8-bit float, 4 exponent bits. Listed, never loaded.
    F8E4M3,
    /// 8-bit float, 5 exponent bits. Listed, never loaded.
    F8E5M2,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// One byte, zero or one.
    Bool,
    /// Two [`ElementType::F32`]. Listed, never loaded.
    Complex64,
    /// Two [`ElementType::F64`]. Listed, never loaded.
    Complex128,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }

    /// Lower-case name as PyTorch spells it, less the `torch.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F8E4M3 => "float8_e4m3fn",
            Self::F8E5M2 => "float8_e5m2",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U64 => "uint64",
            Self::U32 => "uint32",
            Self::U16 => "uint16",
            Self::U8 => "uint8",
            Self::Bool => "bool",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
        }
    }

    /// From the name of a PyTorch storage class, such as `HalfStorage`. `None` for quantised types
    /// and unknown names.
    pub(crate) fn of_torch_storage(class: &str) -> Option<Self> {
        Some(match class.strip_suffix("Storage")? {
            "Double" => Self::F64,
            "Float" => Self::F32,
            "Half" => Self::F16,
            "BFloat16" => Self::BF16,
            "Long" => Self::I64,
            "Int" => Self::I32,
            "Short" => Self::I16,
            "Char" => Self::I8,
            "Byte" => Self::U8,
            "Bool" => Self::Bool,
            "ComplexFloat" => Self::Complex64,
            "ComplexDouble" => Self::Complex128,
            // Typed by the tensor that views it.
            "Untyped" => Self::U8,
            _ => return None,
        })
    }

    /// From the name of a `torch.dtype`, less the `torch.`.
    pub(crate) fn of_torch_dtype(name: &str) -> Option<Self> {
        Some(match name {
            "float64" | "double" => Self::F64,
            "float32" | "float" => Self::F32,
            "float16" | "half" => Self::F16,
            "bfloat16" => Self::BF16,
            "float8_e4m3fn" => Self::F8E4M3,
            "float8_e5m2" => Self::F8E5M2,
            "int64" | "long" => Self::I64,
            "int32" | "int" => Self::I32,
            "int16" | "short" => Self::I16,
            "int8" => Self::I8,
            "uint64" => Self::U64,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
            "uint8" => Self::U8,
            "bool" => Self::Bool,
            "complex64" | "cfloat" => Self::Complex64,
            "complex128" | "cdouble" => Self::Complex128,
            _ => return None,
        })
    }

    /// From a safetensors header. `None` for types of less than a byte and for rare 8-bit floats.
    pub(crate) fn of_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype as D;
        Some(match dtype {
            D::F64 => Self::F64,
            D::F32 => Self::F32,
            D::F16 => Self::F16,
            D::BF16 => Self::BF16,
            D::F8_E4M3 => Self::F8E4M3,
            D::F8_E5M2 => Self::F8E5M2,
            D::I64 => Self::I64,
            D::I32 => Self::I32,
            D::I16 => Self::I16,
            D::I8 => Self::I8,
            D::U64 => Self::U64,
            D::U32 => Self::U32,
            D::U16 => Self::U16,
            D::U8 => Self::U8,
            D::BOOL => Self::Bool,
            D::C64 => Self::Complex64,
            _ => return None,
        })
    }

    pub(crate) fn of_candle(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::I64 => Self::I64,
            DType::I32 => Self::I32,
            DType::I16 => Self::I16,
            DType::U32 => Self::U32,
            DType::U8 => Self::U8,
            _ => return None,
        })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
