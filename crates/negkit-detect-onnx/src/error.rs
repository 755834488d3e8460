//! What can go wrong with a detector.

use std::path::PathBuf;

use thiserror::Error;

/// Why a detector cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DetectError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// The file is no model that can be run.
    #[error(
        "{} is no ONNX model that can be run; if it was downloaded, compare its size and hash: {reason}",
        path.display()
    )]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Input or output do not have the form of FastestDet.
    #[error(
        "{} is no detector of FastestDet's form: expected {expected}, found {found}",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// The form.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The file with the names of the classes is wrong.
    #[error("{}: expected a class a line, in the order of training; found {found}", path.display())]
    Names {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The list of words is wrong.
    #[error("words of the classes, line {line}: {reason}")]
    Words {
        /// The line, from 1.
        line: usize,
        /// What was expected and found.
        reason: String,
    },
    /// The thresholds contradict each other.
    #[error(
        "expected thresholds with 0 <= no below <= yes from <= 1, found {no_below} and {yes_from}"
    )]
    Thresholds {
        /// The lower one.
        no_below: f32,
        /// The upper one.
        yes_from: f32,
    },
    /// A picture cannot be run through the model.
    #[error("the detector failed: {0}")]
    Run(String),
    /// A picture of the dataset cannot be opened.
    #[error("picture {}: {fault}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: negkit_data::PictureFault,
    },
}
