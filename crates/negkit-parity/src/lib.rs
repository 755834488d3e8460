//! Comparison with reference implementations, tensor by tensor.
//!
//! `eval/parity/` holds scripts that run the reference implementations on random weights and write
//! what went in and what came out. This crate reads such a [`Case`], loads its model as a user
//! would, runs it, and compares every output ([`run_case`]). `cargo test` does so for the small
//! cases in the repository, `negkit parity FOLDER` for any, such as those at full size.
//!
//! The bounds stand in the cases and not here: a case says how exact it must be, and the measure is
//! the norm of the difference over the norm of the reference, which neither a few large values nor
//! many small ones can hide in.
#![deny(missing_docs)]

mod case;
mod difference;
mod run;
pub mod speed;

use std::path::PathBuf;

pub use case::{Case, CaseKind, Tolerance, find_cases};
pub use difference::Difference;
pub use run::{CaseReport, Comparison, Outputs, compare_outputs, run_case, run_model};

/// Why a case cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// A folder cannot be read.
    #[error("cannot read the folder {folder}: {cause}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// There is no case.
    #[error("no case.json in {folder} or below: make cases with eval/parity/models.py")]
    NoCases {
        /// The folder.
        folder: PathBuf,
    },
    /// The case or the model lacks a tensor.
    #[error("case {case}: there is no tensor '{name}', only {}", found.join(", "))]
    NoTensor {
        /// Name of the case.
        case: String,
        /// The tensor.
        name: String,
        /// What there is.
        found: Vec<String>,
    },
    /// An option is missing or of another type.
    #[error("case {case}: option '{option}': {cause}")]
    Option {
        /// Name of the case.
        case: String,
        /// The option.
        option: String,
        /// What is wrong.
        cause: serde_json::Error,
    },
    /// An output has another shape than the reference's.
    #[error("case {case}: output '{output}' has shape {found:?}, the reference {expected:?}")]
    Shape {
        /// Name of the case.
        case: String,
        /// The output.
        output: String,
        /// The reference's shape.
        expected: Vec<usize>,
        /// Ours.
        found: Vec<usize>,
    },
    /// The starting noise is not PyTorch's.
    #[error(
        "case {case}: the starting noise differs from PyTorch's by {difference:e}, more than \
         {tolerance:e}"
    )]
    Noise {
        /// Name of the case.
        case: String,
        /// Largest absolute difference.
        difference: f64,
        /// Its bound.
        tolerance: f64,
    },
    /// A configuration cannot be read.
    #[error(transparent)]
    Config(#[from] negkit_nn::ConfigError),
    /// The tensors do not fit.
    #[error(transparent)]
    Params(#[from] negkit_nn::ParamsError),
    /// A file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] negkit_checkpoint::CheckpointError),
    /// The text tower cannot be loaded.
    #[error(transparent)]
    Text(#[from] negkit_text::TextError),
    /// The vision tower cannot be loaded.
    #[error(transparent)]
    Clip(#[from] negkit_clip::ClipError),
    /// CLIPSeg cannot be loaded or run.
    #[error(transparent)]
    ClipSeg(#[from] negkit_clipseg::ClipSegError),
    /// Stable Diffusion cannot be loaded or run.
    #[error(transparent)]
    Diffusion(#[from] negkit_diffusion::DiffusionError),
    /// A sentence encoder cannot be loaded or run.
    #[error(transparent)]
    Sentence(#[from] negkit_sbert::SbertError),
    /// A BLIP cannot be loaded.
    #[error(transparent)]
    Blip(#[from] negkit_blip::BlipError),
    /// A question cannot be answered.
    #[error(transparent)]
    Vqa(#[from] negkit_vqa::VqaError),
    /// An answer has other words than the reference's.
    #[error("case {case}: \"{question}\" is answered '{found}', by the reference '{expected}'")]
    Answer {
        /// Name of the case.
        case: String,
        /// The question.
        question: String,
        /// The reference's answer.
        expected: String,
        /// Ours.
        found: String,
    },
    /// An input is no 8-bit picture.
    #[error("case {case}: 'in.{input}' of shape {shape:?} is no picture [height, width, 3]")]
    Picture {
        /// Name of the case.
        case: String,
        /// The input.
        input: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
