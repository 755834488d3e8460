//! Opening weight files, and what can be asked of an open one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Result as CandleResult, Tensor};
use negkit_digest::{hexadecimal, sha256};
use negkit_nn::{StoredValues, TensorSource};

use crate::error::none_or;
use crate::folder::{self, ShardIndex};
use crate::source::{Bytes, SourceFile};
use crate::{CheckpointError, ElementType, Sums, TensorView, safetensors, torch};

/// How a checkpoint is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// A zip archive of `torch.save`, PyTorch 1.6 and later.
    TorchZip,
    /// A file of `torch.save` before PyTorch 1.6.
    TorchLegacy,
    /// An archive of `torch.jit.save`.
    TorchScript,
    /// An index and several safetensors files.
    ShardedSafetensors,
    /// An index and several PyTorch files.
    ShardedTorch,
    /// Not from a file: [`Checkpoint::from_tensors`].
    Memory,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch archive",
            Self::TorchLegacy => "PyTorch file (before 1.6)",
            Self::TorchScript => "TorchScript archive",
            Self::ShardedSafetensors => "sharded safetensors",
            Self::ShardedTorch => "sharded PyTorch archives",
            Self::Memory => "memory",
        })
    }
}

/// How to open a checkpoint, where [`Checkpoint::open`] is not enough.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    variant: Option<String>,
    wrapper: Option<String>,
}

impl OpenOptions {
    /// The same as [`Checkpoint::open`].
    pub fn new() -> Self {
        Self::default()
    }

    /// In a folder, take the files of this variant, such as `fp16` for `model.fp16.safetensors`.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// In a PyTorch file, take the weights from this entry of the outermost dictionary, such as
    /// `model_ema`.
    #[must_use]
    pub fn wrapper(mut self, key: impl Into<String>) -> Self {
        self.wrapper = Some(key.into());
        self
    }

    /// Opens the file or folder at `path`.
    ///
    /// # Errors
    /// See [`Checkpoint::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
        let path = path.as_ref();
        if path.is_dir() {
            let path = folder::find(path, self.variant.as_deref())?;
            return self.open_file(&path);
        }
        self.open_file(path)
    }

    fn open_file(&self, path: &Path) -> Result<Checkpoint, CheckpointError> {
        let (file, bytes) = open_listed(path)?;
        let checkpoint = match detect(&bytes) {
            Content::Index => open_shards(path, &bytes)?,
            content => {
                let contents = read_file(path, &bytes, &content, self.wrapper.as_deref())?;
                Checkpoint {
                    tensors: contents.tensors,
                    files: vec![file],
                    format: contents.format,
                    metadata: contents.metadata,
                    origin: path.display().to_string(),
                }
            }
        };
        Ok(checkpoint.without_module_prefixes())
    }
}

/// Opens a file that is, where a list of hashes names it, the listed one.
fn open_listed(path: &Path) -> Result<(Arc<SourceFile>, Bytes), CheckpointError> {
    if let Some(sums) = Sums::above(path)? {
        sums.check_with_neighbours(path)?;
    }
    SourceFile::open(path)
}

/// What one weight file holds.
pub(crate) struct FileContents {
    pub tensors: BTreeMap<String, TensorView>,
    pub metadata: BTreeMap<String, String>,
    pub format: Format,
}

/// What a file's first bytes say that it is.
enum Content {
    Safetensors,
    Zip,
    Pickle,
    Index,
    /// Nothing to read; the text ends the sentence "it …".
    Other(String),
}

fn detect(bytes: &[u8]) -> Content {
    if safetensors::looks_like(bytes) {
        return Content::Safetensors;
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Content::Zip;
    }
    if torch::looks_like_pickle(bytes) {
        return Content::Pickle;
    }
    let start = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    Content::Other(match text {
        "" if bytes.is_empty() => "is empty".to_owned(),
        _ if text.starts_with('{') => return Content::Index,
        _ if text.starts_with("version https://git-lfs") => "is a pointer that stands for the \
            weights in a git checkout; fetch them with `git lfs pull`"
            .to_owned(),
        _ if text.starts_with('<') => {
            "is a web page, perhaps the answer of a server that wants a login".to_owned()
        }
        _ if start.starts_with(b"GGUF") => "is a GGUF file".to_owned(),
        _ if start.starts_with(b"\x89HDF") => "is an HDF5 file (Keras)".to_owned(),
        _ if start.starts_with(&[0x1f, 0x8b]) => "is compressed with gzip; unpack it".to_owned(),
        _ if start.get(257..262) == Some(b"ustar") => {
            "is a tar archive; unpack it, or save weights of PyTorch 0.1 anew".to_owned()
        }
        _ => format!("starts with {}", hexadecimal(&start[..start.len().min(8)])),
    })
}

fn read_file(
    path: &Path,
    bytes: &Bytes,
    content: &Content,
    wrapper: Option<&str>,
) -> Result<FileContents, CheckpointError> {
    match content {
        Content::Safetensors => safetensors::read(path, bytes),
        Content::Zip => torch::read_archive(path, bytes, wrapper),
        Content::Pickle => torch::read_legacy(path, bytes, wrapper),
        Content::Index => Err(CheckpointError::UnknownFormat {
            path: path.to_owned(),
            found: "is JSON".to_owned(),
        }),
        Content::Other(found) => Err(CheckpointError::UnknownFormat {
            path: path.to_owned(),
            found: found.clone(),
        }),
    }
}

fn open_shards(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let index = ShardIndex::parse(path, bytes)?;
    let mut checkpoint = Checkpoint {
        tensors: BTreeMap::new(),
        files: Vec::new(),
        format: Format::ShardedSafetensors,
        metadata: BTreeMap::new(),
        origin: path.display().to_string(),
    };
    for (shard, shard_path) in index.shards(path)? {
        let (file, bytes) = open_listed(&shard_path)?;
        let content = detect(&bytes);
        let contents = read_file(&shard_path, &bytes, &content, None)?;
        if contents.format != Format::Safetensors {
            checkpoint.format = Format::ShardedTorch;
        }
        for (name, view) in contents.tensors {
            // A tensor may lie in several shards; the index says which one counts.
            if index
                .weight_map
                .get(&name)
                .is_none_or(|owner| *owner == shard)
            {
                checkpoint.tensors.insert(name, view);
            }
        }
        checkpoint.metadata.extend(contents.metadata);
        checkpoint.files.push(file);
    }
    let listed = index.weight_map.keys();
    let missing: Vec<String> = listed
        .filter(|name| !checkpoint.tensors.contains_key(*name))
        .cloned()
        .collect();
    if missing.is_empty() {
        return Ok(checkpoint);
    }
    Err(CheckpointError::Index {
        path: path.to_owned(),
        why: format!("the shards lack the tensors {}", none_or(&missing)),
    })
}

/// Named tensors of one or several weight files, memory-mapped.
///
/// Opening reads the names, types and shapes, and checks that every tensor lies within its file. The
/// weights themselves are read from the map when they are loaded, and copied once. Cloning, renaming
/// and splitting cost nothing; all clones share the files.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) tensors: BTreeMap<String, TensorView>,
    pub(crate) files: Vec<Arc<SourceFile>>,
    pub(crate) format: Format,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) origin: String,
}

impl Checkpoint {
    /// Opens a weight file, an index of sharded weights, or a folder with weights under one of the
    /// published names (`model.safetensors`, `diffusion_pytorch_model.safetensors`,
    /// `open_clip_model.safetensors`, `pytorch_model.bin`, …; the `fp16` variant when there is no
    /// other). The format is told by the content, not by the name.
    ///
    /// In a PyTorch file the weights may be bare or wrapped: under `state_dict`, `model`,
    /// `model_state_dict`, `params` and the like next to training state, or as a module, which is
    /// flattened into dotted names. Where several entries could be meant, the error lists them and
    /// [`OpenOptions::wrapper`] chooses. The prefixes `module.` and `_orig_mod.`, and `model.`, are
    /// dropped when every name has them.
    ///
    /// Where a file `SHA256SUMS` in the folder, or in one of the two above it, lists the weight file,
    /// its hash is compared first, and those of the listed `.json` and `.txt` files of its model.
    ///
    /// # Errors
    /// When the path cannot be read, its content is not the one listed, is of no supported format,
    /// broken or malicious, or a tensor reaches beyond its file. Nothing in the file is ever executed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        OpenOptions::new().open(path)
    }

    /// A checkpoint of tensors in memory, copied, under their names.
    ///
    /// # Errors
    /// When two tensors have one name, or one has an element type that files do not have.
    pub fn from_tensors(
        tensors: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Result<Self, CheckpointError> {
        let origin = "tensors in memory".to_owned();
        let mut views = BTreeMap::new();
        for (name, tensor) in tensors {
            let view =
                TensorView::from_tensor(&tensor).map_err(|source| CheckpointError::Tensor {
                    name: name.clone(),
                    source,
                })?;
            if views.insert(name.clone(), view).is_some() {
                return Err(CheckpointError::Duplicate {
                    origin,
                    first: name.clone(),
                    second: name.clone(),
                    name,
                });
            }
        }
        Ok(Self {
            tensors: views,
            files: Vec::new(),
            format: Format::Memory,
            metadata: BTreeMap::new(),
            origin,
        })
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorView> {
        self.tensors.get(name)
    }

    /// All tensors, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorView)> {
        self.tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// How the checkpoint is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The weight files, in order of their names; empty for tensors in memory.
    pub fn files(&self) -> &[Arc<SourceFile>] {
        &self.files
    }

    /// Size of all weight files together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes()).sum()
    }

    /// Number of elements of all tensors together.
    pub fn elements(&self) -> usize {
        let elements = self.tensors.values().map(TensorView::elements);
        elements.fold(0, usize::saturating_add)
    }

    /// How many tensors there are of each element type.
    pub fn element_types(&self) -> BTreeMap<ElementType, usize> {
        let mut counts = BTreeMap::new();
        for view in self.tensors.values() {
            *counts.entry(view.element()).or_default() += 1;
        }
        counts
    }

    /// What the file says beside its tensors: the `__metadata__` of safetensors, or scalars such as
    /// `epoch` beside the weights in a PyTorch file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// SHA-256 in lower-case hexadecimal digits: of the weight file, or, where there are several, of
    /// the text that `sha256sum` prints for them in order of their names. `None` for tensors in
    /// memory. Reads all files at the first call and remembers.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn sha256(&self) -> Result<Option<String>, CheckpointError> {
        match self.files.as_slice() {
            [] => Ok(None),
            [file] => Ok(Some(file.sha256()?.to_owned())),
            files => {
                let line = |file: &Arc<SourceFile>| {
                    let name = file.path().file_name().unwrap_or_default();
                    Ok(format!("{}  {}\n", file.sha256()?, name.to_string_lossy()))
                };
                let lines: String = files
                    .iter()
                    .map(line)
                    .collect::<Result<_, CheckpointError>>()?;
                Ok(Some(sha256(lines)))
            }
        }
    }

    /// Begins to compute the hashes that [`Checkpoint::sha256`] needs, on a thread of their own, for
    /// whoever will ask for them: loading weights is mostly the work of one core. A file that cannot be
    /// read is [`Checkpoint::sha256`]'s error, which tries again.
    pub fn hash_ahead(&self) {
        let files = self.files.clone();
        let work = move || {
            for file in files {
                drop(file.sha256());
            }
        };
        // Without a thread the hash is computed when it is asked for.
        drop(std::thread::Builder::new().name("hash".into()).spawn(work));
    }

    /// The tensors whose names start with `prefix`, called by what follows it.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Self {
        let tensors = self.tensors.iter().filter_map(|(name, view)| {
            let rest = name.strip_prefix(prefix)?;
            (!rest.is_empty()).then(|| (rest.to_owned(), view.clone()))
        });
        self.with_tensors(tensors.collect())
    }

    /// All tensors, with `prefix` before their names.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let tensors = self.tensors.iter();
        let tensors = tensors.map(|(name, view)| (format!("{prefix}{name}"), view.clone()));
        self.with_tensors(tensors.collect())
    }

    /// The tensors of both, for a model whose parts are published apart.
    ///
    /// # Errors
    /// When both have a tensor of one name.
    pub fn merge(&self, other: &Self) -> Result<Self, CheckpointError> {
        let mut merged = self.clone();
        merged.origin = format!("{} and {}", self.origin, other.origin);
        for (name, view) in &other.tensors {
            if merged.tensors.insert(name.clone(), view.clone()).is_some() {
                return Err(CheckpointError::Duplicate {
                    origin: merged.origin,
                    name: name.clone(),
                    first: name.clone(),
                    second: name.clone(),
                });
            }
        }
        merged.metadata.extend(other.metadata.clone());
        for file in &other.files {
            if !merged.files.iter().any(|f| Arc::ptr_eq(f, file)) {
                merged.files.push(file.clone());
            }
        }
        Ok(merged)
    }

    /// Where the tensors come from: a path, or several.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn with_tensors(&self, tensors: BTreeMap<String, TensorView>) -> Self {
        Self {
            tensors,
            files: self.files.clone(),
            format: self.format,
            metadata: self.metadata.clone(),
            origin: self.origin.clone(),
        }
    }

    /// Drops what wrapping a module puts before every name: `DataParallel`, `torch.compile`, and
    /// training classes with the model as an attribute. Single-file Stable Diffusion checkpoints
    /// have `model.diffusion_model.` of their own.
    fn without_module_prefixes(mut self) -> Self {
        loop {
            let prefix = ["module.", "_orig_mod.", "model."]
                .into_iter()
                .find(|prefix| {
                    !self.is_empty()
                        && self.tensors.keys().all(|name| {
                            name.len() > prefix.len()
                                && name.starts_with(prefix)
                                && !name.starts_with("model.diffusion_model.")
                        })
                });
            match prefix {
                Some(prefix) => self = self.strip_prefix(prefix),
                None => return self,
            }
        }
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape().to_vec())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let Some(view) = self.tensors.get(name) else {
            candle_core::bail!("{}: there is no tensor {name:?}", self.origin);
        };
        view.load(dtype, device)
            .map_err(|e| e.context(format!("{}: tensor {name:?}", self.origin)))
    }

    fn stored(&self, name: &str) -> Option<StoredValues<'_>> {
        self.tensors.get(name)?.stored_values()
    }

    fn release(&self, name: &str) {
        if let Some(view) = self.tensors.get(name) {
            view.release();
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }
}
