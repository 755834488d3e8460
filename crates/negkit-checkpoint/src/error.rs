//! What can be wrong with a weight file.

use std::path::PathBuf;

pub use crate::torch::PickleError;
use crate::{SumsError, ViewError};

/// Why a checkpoint cannot be opened or converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights, or what is read with them, are not what the list of hashes beside them names.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// A folder holds no weights under any published name.
    #[error(
        "no weights in {}: looked for {}; found {}. Give the path of the weight file itself if it \
         has another name",
        folder.display(),
        looked_for.join(", "),
        none_or(found)
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// File names that would have been taken, best first.
        looked_for: Vec<String>,
        /// What is in the folder.
        found: Vec<String>,
    },
    /// The file's content is of no supported format.
    #[error(
        "{} is no weight file: it {found}. Supported are safetensors, PyTorch archives \
         (.pth, .pt, .bin, .ckpt), TorchScript archives and index files of sharded weights",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like, as the end of a sentence.
        found: String,
    },
    /// A safetensors header is broken.
    #[error("{} is a broken safetensors file: {why}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An index of sharded weights is broken or does not fit its shards.
    #[error("{}: the index of shards is wrong: {why}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A PyTorch archive is broken.
    #[error("{} is a broken PyTorch file: {why}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The pickle inside a PyTorch file cannot be read, or must not be.
    #[error("{}: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the pickle.
        source: PickleError,
    },
    /// The file is well-formed, but there is no tensor in it that a name leads to.
    #[error("{} holds no named tensors, only {}", path.display(), none_or(found))]
    NoTensors {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Vec<String>,
    },
    /// More than one dictionary in the file may be the weights.
    #[error(
        "{} holds several sets of tensors: {}. Choose one: `OpenOptions::new().wrapper(\"{}\")`",
        path.display(),
        choices.join(", "),
        choices.first().map_or("", String::as_str)
    )]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// Keys of the candidates.
        choices: Vec<String>,
    },
    /// The dictionary that was asked for is not in the file.
    #[error("{} has no entry {asked:?} with tensors, only {}", path.display(), none_or(choices))]
    NoSuchWrapper {
        /// The file.
        path: PathBuf,
        /// The key that was asked for.
        asked: String,
        /// Keys that hold tensors.
        choices: Vec<String>,
    },
    /// A tensor is stored in a way that is not supported.
    #[error("{}: tensor {tensor:?} is stored as {kind}, which is not supported", path.display())]
    UnsupportedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// How it is stored.
        kind: String,
    },
    /// A tensor does not fit into the bytes that it is said to lie in.
    #[error("{}: tensor {tensor:?} {source}: the file is truncated or damaged", path.display())]
    View {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        source: ViewError,
    },
    /// Two tensors of the file would have one name.
    #[error("{origin}: {first:?} and {second:?} would both be called {name:?}")]
    Duplicate {
        /// Where the tensors come from.
        origin: String,
        /// The name.
        name: String,
        /// Published name of one tensor.
        first: String,
        /// Published name of the other.
        second: String,
    },
    /// A tensor has not the shape that its name promises, so it cannot be converted.
    #[error("{origin}: {name:?} has shape {found:?}, expected {expected}")]
    Misshapen {
        /// Where the tensors come from.
        origin: String,
        /// Published name of the tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the naming scheme prescribes, in words.
        expected: &'static str,
    },
    /// A tensor made in memory cannot be kept.
    #[error("tensor {name:?} cannot be kept: {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why.
        source: candle_core::Error,
    },
}

/// At most this many names in one message.
const SHOWN: usize = 20;

pub(crate) fn none_or(names: &[String]) -> String {
    match names.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}
