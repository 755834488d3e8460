//! What can go wrong in the recipe.

use std::path::{Path, PathBuf};

/// Why a small model cannot be made or measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniError {
    /// A stage needs what an earlier one leaves.
    #[error("{}: stage {stage} is not through yet; run `negkit mini train --out {}`", folder.display(), folder.display())]
    Missing {
        /// The earlier stage.
        stage: String,
        /// The folder of all stages.
        folder: PathBuf,
    },
    /// A stage was done before, with other settings.
    #[error(
        "{}: this stage was done before, and since then {before}. Remove the folder to do it again, \
         or work in another one",
        folder.display()
    )]
    Changed {
        /// The stage's folder.
        folder: PathBuf,
        /// What has changed.
        before: String,
    },
    /// The models are larger than a repository should hold.
    #[error(
        "{}: the models have {bytes} bytes, at most {most} are allowed ({}). Make a model smaller in \
         the recipe",
        folder.display(),
        list_sizes(sizes)
    )]
    TooLarge {
        /// The tree that was put together.
        folder: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
        /// Size of each model.
        sizes: Vec<(&'static str, u64)>,
    },
    /// A folder that would be replaced holds what no export wrote.
    #[error(
        "{}: an export replaces the whole folder, and it holds files that no export wrote: {}. Move \
         them away, or choose another folder",
        folder.display(),
        files.join(", ")
    )]
    ForeignFiles {
        /// The folder.
        folder: PathBuf,
        /// The files, below it.
        files: Vec<String>,
    },
    /// Files of an exported tree are not those that were exported.
    #[error(
        "{}: {} of its files are wrong. `negkit mini export` writes all of them anew.\n{}",
        folder.display(),
        wrong.len(),
        wrong.join("\n")
    )]
    NotVerified {
        /// The tree.
        folder: PathBuf,
        /// What is wrong, a line for each file.
        wrong: Vec<String>,
    },
    /// A published model does not say how it was made.
    #[error(
        "{}: there is no {file}, by which a run goes on from this model; `negkit mini export` writes \
         it",
        folder.display()
    )]
    NoRecord {
        /// The model's folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A measurement needs a model that is not there.
    #[error(
        "{}: there is no folder {model}, which {what} needs; `negkit mini export` writes it",
        folder.display()
    )]
    NoModel {
        /// The folder of all models.
        folder: PathBuf,
        /// The model's own.
        model: String,
        /// What it is for.
        what: String,
    },
    /// A text encoder that no export writes.
    #[error("there is no text encoder {name}; expected stock, {}", known.join(", "))]
    UnknownEncoder {
        /// What was asked for.
        name: String,
        /// What there is besides the stock one.
        known: Vec<&'static str>,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is no such JSON.
    #[error("{}: not the JSON that was expected: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A training failed.
    #[error(transparent)]
    Train(#[from] negkit_train::TrainError),
    /// A picture cannot be read or written.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Another part failed.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

fn list_sizes(sizes: &[(&'static str, u64)]) -> String {
    let sizes = sizes.iter().map(|(name, bytes)| format!("{name} {bytes}"));
    sizes.collect::<Vec<_>>().join(", ")
}

impl MiniError {
    /// An error of another part.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    pub(crate) fn io(
        path: &Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }
}
