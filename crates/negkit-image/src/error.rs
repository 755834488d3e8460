//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that can go wrong between a picture file and an array of numbers, and back.
///
/// `name` is the path of the file, or what the caller called the bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Path of the file.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// The bytes are no picture of a known format.
    #[error(
        "{name}: expected a picture (JPEG, PNG, WebP, GIF, BMP, TIFF, PNM, ICO, QOI, TGA, DDS or \
         farbfeld), found {found}"
    )]
    NotAPicture {
        /// Path or name of the picture.
        name: String,
        /// What the file seems to hold.
        found: String,
    },

    /// The bytes claim to be a picture, but do not decode.
    #[error("{name}: expected an intact {format} picture, found damage: {reason}")]
    Damaged {
        /// Path or name of the picture.
        name: String,
        /// Format by the file's signature.
        format: String,
        /// What the decoder said.
        reason: String,
    },

    /// The picture uses a feature of its format that the decoder lacks.
    #[error("{name}: this kind of {format} picture cannot be decoded: {reason}; convert it to PNG")]
    Unsupported {
        /// Path or name of the picture.
        name: String,
        /// Format by the file's signature.
        format: String,
        /// What the decoder said.
        reason: String,
    },

    /// The file ends before the picture does.
    #[error(
        "{name}: expected {format} data up to its end marker, found the end of the file after \
         {bytes} bytes: the file is truncated, copy or download it again"
    )]
    Truncated {
        /// Path or name of the picture.
        name: String,
        /// Format by the file's signature.
        format: String,
        /// Length of the file in bytes.
        bytes: usize,
    },

    /// The picture has no pixels.
    #[error("{name}: expected a picture of at least 1x1 pixels, found {width}x{height}")]
    Empty {
        /// Path or name of the picture.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// The picture has more pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error(
        "{name}: expected at most {limit} pixels, found {width}x{height}: if you trust the file, \
         raise Limits::max_pixels"
    )]
    TooManyPixels {
        /// Path or name of the picture.
        name: String,
        /// Width in pixels by the file's header.
        width: u32,
        /// Height in pixels by the file's header.
        height: u32,
        /// The limit that was set.
        limit: u64,
    },

    /// Reading the picture would take more memory than
    /// [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error(
        "{name}: expected to decode within {limit} bytes of memory, found a need of {needed}: if \
         you trust the file, raise Limits::max_bytes"
    )]
    TooMuchMemory {
        /// Path or name of the picture.
        name: String,
        /// How much is needed, in words (the decoder does not always know the number).
        needed: String,
        /// The limit that was set, in bytes.
        limit: u64,
    },

    /// A size that an operation cannot work with.
    #[error("{operation}: expected {expected}, found {found}")]
    Shape {
        /// The operation that was asked for.
        operation: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        found: String,
    },

    /// A `preprocessor_config.json` that cannot be followed.
    #[error("{name}: field `{field}`: expected {expected}, found {found}")]
    Config {
        /// Path or name of the configuration.
        name: String,
        /// The field in question.
        field: String,
        /// What the field may hold.
        expected: String,
        /// What it holds.
        found: String,
    },

    /// A run-length encoding that describes no mask.
    #[error(
        "COCO run-length encoding of a {width}x{height} mask: expected {expected}, found {found}"
    )]
    Rle {
        /// Width of the mask in pixels.
        width: u32,
        /// Height of the mask in pixels.
        height: u32,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// A key or text that a PNG text chunk cannot hold.
    #[error("PNG text chunk {key:?}: expected {expected}, found {found}")]
    PngText {
        /// The key of the chunk.
        key: String,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },

    /// Generation parameters that the `parameters` text cannot express.
    #[error("generation parameters: expected {expected}, found {found}")]
    Infotext {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// The picture could not be compressed.
    #[error("cannot encode {name} as PNG: {reason}")]
    Encode {
        /// Path of the file to be.
        name: String,
        /// What the encoder said.
        reason: String,
    },

    /// The folder that a file should go to is not there.
    #[error("cannot write {}: its folder {} does not exist; create it first", path.display(), folder.display())]
    MissingFolder {
        /// Path of the file to be.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },

    /// The disk is full.
    #[error(
        "cannot write {}: the disk is full ({bytes} bytes needed); free some space or choose \
         another folder. Nothing was left behind, and a file that was there before is untouched",
        path.display()
    )]
    DiskFull {
        /// Path of the file to be.
        path: PathBuf,
        /// Size of the file to be.
        bytes: usize,
    },

    /// Any other failure to write.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the file to be.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The caption font could not be used.
    #[error("the built-in caption font cannot be read: {0}")]
    Font(String),
}

impl Error {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            name: path.display().to_string(),
            source,
        }
    }
}
