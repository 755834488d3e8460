//! The safetensors format: a JSON header and the tensors one after the other.

use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::SafeTensors;

use crate::checkpoint::FileContents;
use crate::source::Bytes;
use crate::{CheckpointError, ElementType, Format, TensorView};

/// Bytes of the header's length, which stands before the header.
const LENGTH_BYTES: usize = 8;

/// Whether `bytes` start like a safetensors file: a length that fits, then a JSON object.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<LENGTH_BYTES>() {
        Some((length, rest)) => {
            rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64
        }
        None => false,
    }
}

/// Tensors and metadata of the file.
pub(crate) fn read(path: &Path, bytes: &Bytes) -> Result<FileContents, CheckpointError> {
    let broken = |why: String| CheckpointError::Safetensors {
        path: path.to_owned(),
        why,
    };
    let (length, header) = SafeTensors::read_metadata(bytes).map_err(|e| broken(e.to_string()))?;
    let data = length
        .checked_add(LENGTH_BYTES)
        .and_then(|start| bytes.slice(start..bytes.len()))
        .ok_or_else(|| broken("the header reaches beyond the file".into()))?;
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let Some(element) = ElementType::of_safetensors(info.dtype) else {
            return Err(CheckpointError::UnsupportedTensor {
                path: path.to_owned(),
                tensor: name,
                kind: format!("{:?}", info.dtype),
            });
        };
        let (start, end) = info.data_offsets;
        let storage = data
            .slice(start..end)
            .ok_or_else(|| broken(format!("tensor {name:?} reaches beyond the file")))?;
        let view = TensorView::contiguous(storage, element, info.shape.clone());
        let view = view.map_err(|source| CheckpointError::View {
            path: path.to_owned(),
            tensor: name.clone(),
            source,
        })?;
        tensors.insert(name, view);
    }
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(FileContents {
        tensors,
        metadata,
        format: Format::Safetensors,
    })
}
