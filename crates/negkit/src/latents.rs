//! Latents as NumPy arrays.
//!
//! Read here and not with `Tensor::read_npy`, which trusts the header: a few bytes that promise a
//! huge array would end the process.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::txt2img::EncoderPictures;
use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads starting latents `[pictures, channels, height, width]` from a `.npy` file of 16-, 32- or
/// 64-bit floats; gives f32 on the CPU.
///
/// # Errors
/// When the file cannot be read, is no array of floats in C order, or is longer or shorter than
/// its header says.
pub fn read_latents(path: &Path) -> Result<Tensor> {
    let failed = |cause: String| Error::Latents {
        path: path.to_owned(),
        cause: format!("cannot be read as a NumPy array of floats: {cause}"),
    };
    let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let header = read_header(&mut file).map_err(failed)?;
    let bytes = header.bytes().ok_or_else(|| {
        failed(format!(
            "an array of shape {:?} does not fit into memory",
            header.shape
        ))
    })?;
    let mut values = Vec::new();
    // One byte more than promised: enough to see that the file goes on.
    file.take(bytes.saturating_add(1))
        .read_to_end(&mut values)
        .map_err(|error| failed(error.to_string()))?;
    if values.len() as u64 != bytes {
        let found = match values.len() as u64 {
            more if more > bytes => "there are more".to_owned(),
            fewer => format!("there are {fewer}"),
        };
        return Err(failed(format!(
            "its header says shape {:?}, which takes {bytes} bytes, and {found}",
            header.shape
        )));
    }
    let latents = Tensor::from_raw_buffer(&values, header.dtype, &header.shape, &Device::Cpu)?;
    Ok(latents.to_dtype(DType::F32)?)
}

struct Header {
    dtype: DType,
    shape: Vec<usize>,
}

impl Header {
    /// Size of the values; `None` when it is beyond all memory.
    fn bytes(&self) -> Option<u64> {
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |product, &side| product.checked_mul(side))?;
        let bytes = elements.checked_mul(self.dtype.size_in_bytes())?;
        u64::try_from(bytes).ok()
    }
}

/// The header as `numpy.lib.format` describes it, versions 1 to 3.
fn read_header(file: &mut File) -> std::result::Result<Header, String> {
    let mut start = [0; 8];
    let too_short = |error: std::io::Error| format!("its header breaks off ({error})");
    file.read_exact(&mut start).map_err(too_short)?;
    let length = match (start.strip_prefix(MAGIC), start[6]) {
        (None, _) => return Err("it does not begin as .npy files do".to_owned()),
        (_, 1) => {
            let mut length = [0; 2];
            file.read_exact(&mut length).map_err(too_short)?;
            u64::from(u16::from_le_bytes(length))
        }
        (_, 2 | 3) => {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(too_short)?;
            u64::from(u32::from_le_bytes(length))
        }
        (_, version) => return Err(format!("its version {version} is not known")),
    };
    let mut text = Vec::new();
    file.take(length)
        .read_to_end(&mut text)
        .map_err(too_short)?;
    if text.len() as u64 != length {
        return Err("its header breaks off".to_owned());
    }
    parse_header(&String::from_utf8_lossy(&text))
}

fn parse_header(text: &str) -> std::result::Result<Header, String> {
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let missing = |name: &str| format!("its header does not say '{name}': {}", text.trim());
    let between = |name: &str, open: char, close: char| {
        let value = field(name)?.strip_prefix(open)?.split_once(close)?;
        Some(value.0)
    };
    let dtype = match between("descr", '\'', '\'').ok_or_else(|| missing("descr"))? {
        "<f2" => DType::F16,
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        other => {
            return Err(format!(
                "its values are '{other}', expected '<f2', '<f4' or '<f8'"
            ));
        }
    };
    let order = field("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    if !order.starts_with("False") {
        return Err("it is in Fortran order: save numpy.ascontiguousarray of it".to_owned());
    }
    let sides = between("shape", '(', ')').ok_or_else(|| missing("shape"))?;
    let sides = sides.split(',').map(str::trim);
    let shape = sides
        .filter(|side| !side.is_empty())
        .map(|side| {
            side.parse()
                .map_err(|_| format!("'{side}' in its shape is no length"))
        })
        .collect::<std::result::Result<_, _>>()?;
    Ok(Header { dtype, shape })
}

/// Writes the final latents of one encoder's pictures, `[pictures, channels, height, width]` f32,
/// as a `.npy` file, whole or not at all.
///
/// # Errors
/// When there is no picture or the file cannot be written.
pub fn write_latents(run: &EncoderPictures, path: &Path) -> Result<()> {
    let latents: Vec<&Tensor> = run.pictures.iter().map(|made| &made.latents).collect();
    let unfinished = path.with_extension("npy.partial");
    let failed = |cause: String| Error::Latents {
        path: path.to_owned(),
        cause: format!("cannot be written: {cause}"),
    };
    Tensor::stack(&latents, 0)?
        .write_npy(&unfinished)
        .map_err(|cause| failed(cause.to_string()))?;
    fs::rename(&unfinished, path).map_err(|cause| failed(cause.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn error(text: &str) -> String {
        match parse_header(text) {
            Ok(header) => format!("taken: {:?}", header.shape),
            Err(why) => why,
        }
    }

    #[test]
    fn numpys_headers_are_read() {
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4, 3), }   \n";
        let header = parse_header(text).unwrap();
        assert_eq!((header.dtype, header.shape), (DType::F64, vec![2, 4, 3]));
        // candle's, and a scalar's.
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }";
        assert_eq!(parse_header(text).unwrap().shape, [7]);
        let text = "{'descr': '<f2', 'fortran_order': False, 'shape': (), }";
        assert_eq!(parse_header(text).unwrap().bytes(), Some(2));
    }

    #[test]
    fn headers_of_anything_else_are_refused() {
        for (descr, order, shape, why) in [
            ("<i8", "False", "(1,)", "'<i8'"),
            (">f4", "False", "(1,)", "'>f4'"),
            ("<f4", "True", "(2, 2)", "Fortran"),
            ("<f4", "False", "(-1,)", "'-1'"),
            ("<f4", "False", "7", "'shape'"),
        ] {
            let text =
                format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
            let error = error(&text);
            assert!(error.contains(why), "{error}");
        }
        assert!(error("").contains("descr"));
    }

    #[test]
    fn sizes_beyond_memory_are_seen() {
        for side in [usize::MAX, 1 << 32] {
            let header = Header {
                dtype: DType::F32,
                shape: vec![side, side],
            };
            assert_eq!(header.bytes(), None);
        }
    }
}
