//! Writing what `torch.save(state_dict)` writes: `torch/serialization.py`, `_save`.
//!
//! An uncompressed zip archive with the objects in `archive/data.pkl` and each tensor's values in
//! `archive/data/NUMBER`. The pickle calls three things only, `torch._utils._rebuild_tensor_v2`, a
//! storage type and `collections.OrderedDict`, which `torch.load(weights_only=True)` knows as
//! harmless. The same tensors give the same bytes.

use std::io::{Seek, Write};

use candle_core::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::{ElementType, TensorView};

/// Folder inside the archive that everything lies in.
const FOLDER: &str = "archive";
/// `torch.serialization` reads archives of version 3; the byte order came with it.
const VERSION: &[u8] = b"3\n";
/// Where values begin, so that they can be memory-mapped.
const ALIGNMENT: u16 = 64;

/// Why a state dict cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The operating system refused.
    #[error("cannot write a PyTorch archive: {0}")]
    Io(#[from] std::io::Error),
    /// The archive cannot be put together.
    #[error("cannot write a PyTorch archive: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// A tensor cannot be read from its device, or PyTorch has no storage for its type.
    #[error("tensor {name:?} cannot be written into a PyTorch archive: {why}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why.
        why: String,
    },
}

/// Writes `tensors`, in their order, as PyTorch's `torch.save` writes a dictionary of them.
///
/// # Errors
/// When a tensor is of a type that PyTorch's archives do not have, or `out` refuses.
pub fn write_state_dict<'a, W: Write + Seek>(
    out: W,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), WriteError> {
    let plain = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .with_alignment(ALIGNMENT);
    let mut program = Program::new();
    let mut named = Vec::new();
    for (number, (name, tensor)) in tensors.into_iter().enumerate() {
        let storage = ElementType::of_candle(tensor.dtype()).and_then(storage_type);
        let Some(storage) = storage else {
            return Err(WriteError::Tensor {
                name: name.to_owned(),
                why: format!("its type is {:?}", tensor.dtype()),
            });
        };
        program.tensor(name, storage, number, tensor.dims());
        named.push((name, tensor));
    }
    let mut zip = ZipWriter::new(out);
    let mut entry = |name: String, bytes: &[u8]| -> Result<(), WriteError> {
        let large = u32::try_from(bytes.len()).is_err();
        zip.start_file(format!("{FOLDER}/{name}"), plain.large_file(large))?;
        Ok(zip.write_all(bytes)?)
    };
    entry("data.pkl".to_owned(), &program.finish())?;
    entry("byteorder".to_owned(), b"little")?;
    for (number, (name, tensor)) in named.into_iter().enumerate() {
        // One tensor at a time is in memory twice.
        let view = TensorView::from_tensor(tensor).map_err(|why| WriteError::Tensor {
            name: name.to_owned(),
            why: why.to_string(),
        })?;
        entry(format!("data/{number}"), view.stored_bytes())?;
    }
    entry("version".to_owned(), VERSION)?;
    zip.finish()?;
    Ok(())
}

/// PyTorch's class for the values of one type.
fn storage_type(element: ElementType) -> Option<&'static str> {
    Some(match element {
        ElementType::F64 => "DoubleStorage",
        ElementType::F32 => "FloatStorage",
        ElementType::F16 => "HalfStorage",
        ElementType::BF16 => "BFloat16Storage",
        ElementType::I64 => "LongStorage",
        ElementType::I32 => "IntStorage",
        ElementType::I16 => "ShortStorage",
        ElementType::U8 => "ByteStorage",
        _ => return None,
    })
}

/// A pickle of protocol 2 that makes one dictionary of tensors.
struct Program(Vec<u8>);

impl Program {
    fn new() -> Self {
        // PROTO 2, EMPTY_DICT, MARK
        Self(b"\x80\x02}(".to_vec())
    }

    /// `name: _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`
    fn tensor(&mut self, name: &str, storage: &str, number: usize, shape: &[usize]) {
        self.text(name);
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.push(b'(');
        // ("storage", storage type, key, device, number of values), told apart as persistent.
        self.0.push(b'(');
        self.text("storage");
        self.global("torch", storage);
        self.text(&number.to_string());
        self.text("cpu");
        self.number(shape.iter().product());
        self.0.extend(b"tQ");
        self.number(0);
        self.numbers(shape);
        let strides: Vec<usize> = (1..=shape.len())
            .map(|dim| shape[dim..].iter().map(|&size| size.max(1)).product())
            .collect();
        self.numbers(&strides);
        // NEWFALSE: no gradient. No hooks either.
        self.0.push(0x89);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR");
    }

    fn finish(mut self) -> Vec<u8> {
        // SETITEMS, STOP
        self.0.extend(b"u.");
        self.0
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").into_bytes());
    }

    /// BINUNICODE
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn numbers(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        for &number in numbers {
            self.number(number);
        }
        self.0.push(b't');
    }

    fn number(&mut self, number: usize) {
        match i32::try_from(number) {
            // BININT
            Ok(small) => {
                self.0.push(b'J');
                self.0.extend(small.to_le_bytes());
            }
            // LONG1 of nine bytes, so that the sign bit is never set.
            Err(_) => {
                self.0.extend([0x8a, 9]);
                self.0.extend((number as u64).to_le_bytes());
                self.0.push(0);
            }
        }
    }
}
