//! Files that `torch.save` and `torch.jit.save` write.
//!
//! - Since PyTorch 1.6 an (uncompressed) zip archive: `NAME/data.pkl` holds the objects,
//!   `NAME/data/KEY` the storages. TorchScript archives have the same layout plus code, which is
//!   ignored.
//! - Before 1.6, and still on request, a run of five pickles (magic number, protocol, system, objects,
//!   storage keys) followed by the storages: `torch/serialization.py`, `_legacy_save`.
//!
//! Either way the tensors become views into the memory-mapped file.

mod globals;
mod pickle;
mod select;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

pub use pickle::PickleError;
use pickle::{Arena, Pickle, Storage, Value};
use select::{SelectError, StateDict};
pub use write::{WriteError, write_state_dict};

use crate::checkpoint::FileContents;
use crate::source::Bytes;
use crate::{CheckpointError, Format, TensorView, ViewError};

/// `torch.serialization.MAGIC_NUMBER`.
const LEGACY_MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// `torch.serialization.PROTOCOL_VERSION`.
const LEGACY_PROTOCOL: i128 = 1001;
/// Compressed entries may unpack to this much in all, plus this many times the size of the file.
const UNPACKED_BASE: u64 = 64 << 20;
const UNPACKED_RATIO: u64 = 64;

/// Whether `bytes` start like a pickle, as the legacy format does.
pub(crate) fn looks_like_pickle(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x80, 0..=5, 0x8a | 0x95 | b'}' | b']' | b'c' | b'(', ..] | [b'L', b'0'..=b'9', ..]
    )
}

/// Reads a zip archive. `wrapper` names the entry that holds the weights.
pub(crate) fn read_archive(
    path: &Path,
    bytes: &Bytes,
    wrapper: Option<&str>,
) -> Result<FileContents, CheckpointError> {
    let mut archive = Archive::open(path, bytes)?;
    let program = archive.entry("data.pkl")?;
    let Pickle { arena, root, .. } = pickle::read(&program).map_err(pickle_error(path))?;
    let state = select::select(&arena, root, wrapper).map_err(select_error(path, wrapper))?;
    let format = if archive.has("constants.pkl") {
        Format::TorchScript
    } else {
        Format::TorchZip
    };
    let metadata = state.metadata.clone();
    let tensors = views(path, &arena, state, |key| archive.storage(key))?;
    Ok(FileContents {
        tensors,
        metadata,
        format,
    })
}

struct Archive<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Folder inside the archive that everything lies in, with its slash.
    prefix: String,
    unpacked: u64,
    storages: HashMap<String, Bytes>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, bytes: &'a Bytes) -> Result<Self, CheckpointError> {
        let broken = |why: String| CheckpointError::Archive {
            path: path.to_owned(),
            why,
        };
        let zip = ZipArchive::new(Cursor::new(&**bytes)).map_err(|e| broken(e.to_string()))?;
        let mut prefixes: Vec<String> = Vec::new();
        for name in zip.file_names() {
            let name = name.map_err(|e| broken(e.to_string()))?;
            if let Some(prefix) = name.strip_suffix("data.pkl")
                && (prefix.is_empty() || prefix.ends_with('/'))
            {
                prefixes.push(prefix.to_owned());
            }
        }
        // `torch.save` writes one folder; with several, the outermost is the object that was saved.
        let prefix = prefixes
            .into_iter()
            .min_by_key(|p| (p.matches('/').count(), p.clone()))
            .ok_or_else(|| {
                broken("the zip archive has no data.pkl, so torch did not write it".into())
            })?;
        let mut archive = Self {
            path,
            bytes,
            zip,
            prefix,
            unpacked: 0,
            storages: HashMap::new(),
        };
        archive.check_byte_order()?;
        Ok(archive)
    }

    fn check_byte_order(&mut self) -> Result<(), CheckpointError> {
        if !self.has("byteorder") {
            return Ok(());
        }
        let order = self.entry("byteorder")?;
        if &*order == b"big" {
            return Err(self.broken("it was written on a big-endian machine; save it anew".into()));
        }
        Ok(())
    }

    fn broken(&self, why: String) -> CheckpointError {
        CheckpointError::Archive {
            path: self.path.to_owned(),
            why,
        }
    }

    fn has(&self, name: &str) -> bool {
        let name = format!("{}{name}", self.prefix);
        self.zip.index_for_name(&name).is_some()
    }

    fn storage(&mut self, key: &str) -> Result<Bytes, CheckpointError> {
        if let Some(bytes) = self.storages.get(key) {
            return Ok(bytes.clone());
        }
        let bytes = self.entry(&format!("data/{key}"))?;
        self.storages.insert(key.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// Content of an entry: a part of the mapped file where it is stored plainly, as all that torch
    /// writes is; unpacked otherwise.
    fn entry(&mut self, name: &str) -> Result<Bytes, CheckpointError> {
        let name = format!("{}{name}", self.prefix);
        let broken = |why: String| CheckpointError::Archive {
            path: self.path.to_owned(),
            why,
        };
        let index = self
            .zip
            .index_for_name(&name)
            .ok_or_else(|| broken(format!("the entry {name:?} is missing")))?;
        let failed = |e: zip::result::ZipError| broken(format!("entry {name:?}: {e}"));
        let entry = self.zip.by_index_raw(index).map_err(failed)?;
        if entry.encrypted() {
            return Err(broken(format!("entry {name:?} is encrypted")));
        }
        if entry.compression() == CompressionMethod::Stored {
            let range = entry.data_start().and_then(|start| {
                let start = usize::try_from(start).ok()?;
                let length = usize::try_from(entry.compressed_size()).ok()?;
                Some(start..start.checked_add(length)?)
            });
            let bytes = range.and_then(|range| self.bytes.slice(range));
            return match bytes {
                Some(bytes) => Ok(bytes),
                None => Err(broken(format!("entry {name:?} reaches beyond the file"))),
            };
        }
        let size = entry.size();
        drop(entry);
        let limit = (self.bytes.len() as u64)
            .saturating_mul(UNPACKED_RATIO)
            .saturating_add(UNPACKED_BASE);
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > limit {
            return Err(broken(format!(
                "its compressed entries say to unpack to over {limit} bytes"
            )));
        }
        let reader = self.zip.by_index(index).map_err(failed)?;
        let mut content = Vec::new();
        let read = reader
            .take(size.saturating_add(1))
            .read_to_end(&mut content);
        match read {
            Ok(n) if n as u64 == size => Ok(Bytes::owned(content)),
            Ok(n) => Err(broken(format!("entry {name:?} has {n} bytes, not {size}"))),
            Err(e) => Err(broken(format!("entry {name:?}: {e}"))),
        }
    }
}

/// Reads the format of before PyTorch 1.6.
pub(crate) fn read_legacy(
    path: &Path,
    bytes: &Bytes,
    wrapper: Option<&str>,
) -> Result<FileContents, CheckpointError> {
    let mut reader = LegacyReader { path, bytes, at: 0 };
    reader.header()?;
    let Pickle { arena, root, .. } = reader.pickle()?;
    let keys = reader.pickle()?;
    let storages = reader.storages(&arena, &keys)?;
    let state = select::select(&arena, root, wrapper).map_err(select_error(path, wrapper))?;
    let metadata = state.metadata.clone();
    let tensors = views(path, &arena, state, |key| {
        storages
            .get(key)
            .cloned()
            .ok_or_else(|| CheckpointError::Archive {
                path: path.to_owned(),
                why: format!("the storage {key:?} is missing"),
            })
    })?;
    Ok(FileContents {
        tensors,
        metadata,
        format: Format::TorchLegacy,
    })
}

struct LegacyReader<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
    at: usize,
}

impl LegacyReader<'_> {
    fn broken(&self, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Archive {
            path: self.path.to_owned(),
            why: why.into(),
        }
    }

    fn pickle(&mut self) -> Result<Pickle, CheckpointError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let pickle = pickle::read(rest).map_err(pickle_error(self.path))?;
        self.at += pickle.consumed;
        Ok(pickle)
    }

    fn header(&mut self) -> Result<(), CheckpointError> {
        let magic = self.pickle()?;
        if *magic.arena.get(magic.root) != Value::Int(LEGACY_MAGIC) {
            return Err(self.broken(
                "it is a pickle, but not one of torch.save: there is no magic number. Save the \
                 weights with torch.save or as safetensors",
            ));
        }
        let protocol = self.pickle()?;
        if *protocol.arena.get(protocol.root) != Value::Int(LEGACY_PROTOCOL) {
            return Err(self.broken("its protocol version is not 1001"));
        }
        let system = self.pickle()?;
        if let Value::Dict(items) = system.arena.get(system.root) {
            for (key, value) in items {
                if system.arena.str(*key) == Some("little_endian")
                    && *system.arena.get(*value) == Value::Bool(false)
                {
                    return Err(self.broken("it was written on a big-endian machine; save it anew"));
                }
            }
        }
        Ok(())
    }

    /// The storages, which follow one another in the order of the keys, each after its number of
    /// elements.
    fn storages(
        &mut self,
        arena: &Arena,
        keys: &Pickle,
    ) -> Result<HashMap<String, Bytes>, CheckpointError> {
        let known: HashMap<String, Storage> = arena
            .storages()
            .filter_map(|storage| Some((arena.key(storage)?, storage)))
            .collect();
        let mut found = HashMap::new();
        for key in keys.arena.items(keys.root).unwrap_or(&[]) {
            let Some(key) = keys.arena.text_key(*key) else {
                return Err(self.broken("a storage key is no text"));
            };
            let Some(element) = known.get(&key).and_then(|s| s.element) else {
                return Err(self.broken(format!("the storage {key:?} has no supported type")));
            };
            let bytes = self.storage(element.size()).ok_or_else(|| {
                self.broken(format!(
                    "the storage {key:?} breaks off: the file is truncated"
                ))
            })?;
            found.insert(key, bytes);
        }
        Ok(found)
    }

    fn storage(&mut self, element_size: usize) -> Option<Bytes> {
        let (count, _) = self.bytes.get(self.at..)?.split_first_chunk::<8>()?;
        let count = usize::try_from(i64::from_le_bytes(*count)).ok()?;
        let start = self.at.checked_add(8)?;
        let end = start.checked_add(count.checked_mul(element_size)?)?;
        let bytes = self.bytes.slice(start..end)?;
        self.at = end;
        Some(bytes)
    }
}

/// Turns the chosen tensors into views; `bytes_of` finds a storage by its key.
fn views(
    path: &Path,
    arena: &Arena,
    state: StateDict,
    mut bytes_of: impl FnMut(&str) -> Result<Bytes, CheckpointError>,
) -> Result<BTreeMap<String, TensorView>, CheckpointError> {
    let mut views = BTreeMap::new();
    for (name, tensor) in state.tensors {
        let unsupported = |kind: &str| CheckpointError::UnsupportedTensor {
            path: path.to_owned(),
            tensor: name.clone(),
            kind: kind.to_owned(),
        };
        let element = tensor
            .element
            .ok_or_else(|| unsupported("a quantised, conjugated or unknown type"))?;
        let Some(geometry) = arena.geometry(tensor) else {
            return Err(unsupported(
                "something whose shape and strides are no sizes",
            ));
        };
        let Some(key) = arena.key(tensor.storage) else {
            return Err(unsupported("a view of a storage without a key"));
        };
        let bytes = bytes_of(&key)?;
        let view = checked_view(bytes, tensor.storage, element, geometry);
        let view = view.map_err(|source| CheckpointError::View {
            path: path.to_owned(),
            tensor: name.clone(),
            source,
        })?;
        views.insert(name, view);
    }
    Ok(views)
}

fn checked_view(
    bytes: Bytes,
    storage: Storage,
    element: crate::ElementType,
    geometry: pickle::Geometry,
) -> Result<TensorView, ViewError> {
    let pickle::Geometry {
        offset,
        shape,
        strides,
    } = geometry;
    // A storage that is shorter than the pickle says is damage, whether or not a tensor shows it.
    let declared = storage
        .element
        .map_or(Some(0), |e| storage.elements.checked_mul(e.size()));
    match (declared, offset.checked_add(storage.view_offset)) {
        (Some(needed), Some(_)) if needed > bytes.len() => Err(ViewError::OutOfBounds {
            needed,
            available: bytes.len(),
        }),
        (Some(_), Some(offset)) => TensorView::new(bytes, element, shape, strides, offset),
        _ => Err(ViewError::Overflow { shape, strides }),
    }
}

fn pickle_error(path: &Path) -> impl Fn(PickleError) -> CheckpointError {
    move |source| CheckpointError::Pickle {
        path: path.to_owned(),
        source,
    }
}

fn select_error<'a>(
    path: &'a Path,
    wrapper: Option<&'a str>,
) -> impl Fn(SelectError) -> CheckpointError + 'a {
    move |error| {
        let path = path.to_owned();
        match error {
            SelectError::NoTensors { found } => CheckpointError::NoTensors { path, found },
            SelectError::Ambiguous { choices } => CheckpointError::Ambiguous { path, choices },
            SelectError::NoSuchWrapper { choices } => CheckpointError::NoSuchWrapper {
                path,
                asked: wrapper.unwrap_or_default().to_owned(),
                choices,
            },
            SelectError::Unsupported { tensor, kind } => {
                CheckpointError::UnsupportedTensor { path, tensor, kind }
            }
            SelectError::TooComplex => CheckpointError::Archive {
                path,
                why: "its dictionaries are nested in each other more deeply than any weights"
                    .into(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
