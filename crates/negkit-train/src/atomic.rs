//! Files that are whole at every moment.
//!
//! A file is written under another name in the same folder, made durable, and then renamed over the
//! old one, which POSIX and Windows do in one step. The folder is made durable after it, so that the
//! new name survives a loss of power too. Until then the old file stays.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::View;

use crate::TrainError;

/// Replaces `path` by what `write` puts at the path that it is given.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
    let mut unfinished = path.file_name().unwrap_or_default().to_owned();
    unfinished.push(".unfinished");
    let unfinished = folder.join(unfinished);
    // The writer of safetensors makes files that only their owner may read; models are for all.
    let usual = File::create(&unfinished)
        .and_then(|file| file.metadata())
        .map_err(TrainError::io(&unfinished, "create"))?
        .permissions();
    write(&unfinished)?;
    std::fs::set_permissions(&unfinished, usual)
        .map_err(TrainError::io(&unfinished, "set the permissions of"))?;
    File::options()
        .write(true)
        .open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(TrainError::io(&unfinished, "make durable"))?;
    std::fs::rename(&unfinished, path).map_err(TrainError::io(path, "replace"))?;
    // Windows cannot open a folder as a file, and needs no such step.
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(TrainError::io(folder, "make durable"))?;
    Ok(())
}

/// Replaces `path` by `bytes`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    replace(path, |unfinished| {
        std::fs::write(unfinished, bytes).map_err(TrainError::io(unfinished, "write"))
    })
}

/// A tensor on its way into a safetensors file.
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Little-endian values.
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Replaces `path` by a safetensors file.
pub(crate) fn write_safetensors(
    path: &Path,
    tensors: &[(String, Stored)],
    metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    replace(path, |unfinished| {
        let views = tensors.iter().map(|(name, stored)| (name, stored));
        safetensors::serialize_to_file(views, Some(metadata), unfinished).map_err(|e| {
            TrainError::Io {
                path: unfinished.to_owned(),
                action: "write",
                source: std::io::Error::other(e),
            }
        })
    })
}
