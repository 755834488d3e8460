//! What can go wrong, in any of the crates.

use std::path::PathBuf;

use thiserror::Error;

/// An error of any part of negkit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be found or fetched.
    #[error(transparent)]
    Hub(#[from] negkit_hub::Error),
    /// A device cannot be had.
    #[error(transparent)]
    Device(#[from] negkit_nn::DeviceError),
    /// A weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] negkit_checkpoint::CheckpointError),
    /// A text encoder cannot be loaded or used.
    #[error(transparent)]
    Text(#[from] negkit_text::TextError),
    /// A CLIP cannot be loaded or used.
    #[error(transparent)]
    Clip(#[from] negkit_clip::ClipError),
    /// Stable Diffusion cannot be loaded or used.
    #[error(transparent)]
    Diffusion(#[from] negkit_diffusion::DiffusionError),
    /// CLIPSeg cannot be loaded or used.
    #[error(transparent)]
    ClipSeg(#[from] negkit_clipseg::ClipSegError),
    /// An answerer cannot be loaded or used.
    #[error(transparent)]
    Vqa(#[from] negkit_vqa::VqaError),
    /// BLIP cannot be loaded or used.
    #[error(transparent)]
    Blip(#[from] negkit_blip::BlipError),
    /// A chat model cannot be used.
    #[error(transparent)]
    Chat(#[from] negkit_chat::ChatError),
    /// A sentence encoder cannot be loaded or used.
    #[error(transparent)]
    Sbert(#[from] negkit_sbert::SbertError),
    /// A folder does not hold a model that answers questions.
    #[error(
        "{path}: the model_type in config.json is '{found}', and models that answer questions about \
         pictures are 'blip' and 'mini-vqa'"
    )]
    NoAnswerer {
        /// The folder, or what is in its place.
        path: PathBuf,
        /// The type that is named.
        found: String,
    },
    /// A picture cannot be read or written.
    #[error(transparent)]
    Picture(#[from] negkit_image::Error),
    /// A folder cannot be made.
    #[error("cannot make the folder {path}: {cause}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A file of latents cannot be read or written.
    #[error("latents in {path}: {cause}")]
    Latents {
        /// The `.npy` file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The small models of the repository are not on this machine.
    #[error(
        "no model is named, and the small ones of the repository are not here (looked for \
         {}); run this in the repository's folder or set NEGKIT_WEIGHTS, make them with \
         eval/mini/train.sh, or name a model, such as sd-1.4 or clipseg-rd64-refined",
        paths(looked)
    )]
    NoMiniModels {
        /// The folders that they were looked for in.
        looked: Vec<PathBuf>,
    },
    /// One of the small models is missing.
    #[error(
        "the small model '{name}' is not here: expected its files in {}; here are: {}. The small \
         models come with the repository, and eval/mini/train.sh makes them anew",
        folder.display(),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )]
    NoMiniModel {
        /// The model.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// The small models that are here.
        known: Vec<String>,
    },
    /// Nothing is asked for.
    #[error("there is no picture to make: expected at least one prompt and one picture of it")]
    NoPictures,
    /// Two encoders cannot be told apart, or none was given.
    #[error("{0}")]
    Encoders(String),
    /// Tensors do not fit, or the device failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A result cannot be written as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

fn paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// A result with [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;
