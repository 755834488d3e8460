//! Pictures that are missing, broken or of another size: counted and named, never passed over.

use std::fmt;
use std::path::{Path, PathBuf};

use image::RgbImage;
use negkit_image::{Limits, open_rgb};
use rayon::prelude::*;
use serde::Serialize;

/// What is wrong with a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureFault {
    /// Its file is not there.
    Missing,
    /// Its file cannot be decoded.
    Broken(String),
    /// It has another size than the dataset says.
    Size {
        /// Width and height that the dataset gives.
        expected: (u32, u32),
        /// Width and height of the file.
        found: (u32, u32),
    },
}

impl fmt::Display for PictureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Broken(reason) => write!(f, "broken: {reason}"),
            Self::Size { expected, found } => write!(
                f,
                "expected {}x{} pixels, found {}x{}",
                expected.0, expected.1, found.0, found.1
            ),
        }
    }
}

/// Opens a picture of a dataset as RGB. `size` is its width and height by the dataset, where the
/// dataset gives one.
///
/// # Errors
/// What is wrong with it. A run notes that under the picture's name and goes on.
pub fn open_picture(path: &Path, size: Option<(u32, u32)>) -> Result<RgbImage, PictureFault> {
    if !path.exists() {
        return Err(PictureFault::Missing);
    }
    let picture = open_rgb(path, &Limits::default())
        .map_err(|error| PictureFault::Broken(error.to_string()))?;
    match size {
        Some(expected) if expected != picture.dimensions() => Err(PictureFault::Size {
            expected,
            found: picture.dimensions(),
        }),
        _ => Ok(picture),
    }
}

/// A folder of pictures, which a dataset names by the paths that its authors had.
///
/// Files say `data/coco/images/val2017/000000397133.jpg` or `/workspace/datasets/cc3m/1.jpg`; the
/// pictures lie where the user unpacked them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFolder(PathBuf);

impl PictureFolder {
    /// The folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The picture that `named` means: the longest end of that path that is a file in the folder. Where
    /// none is, the file name in the folder, so that the picture is reported missing there.
    #[must_use]
    pub fn find(&self, named: &str) -> PathBuf {
        let parts: Vec<&str> = named
            .split(['/', '\\'])
            .filter(|part| !matches!(*part, "" | "." | ".."))
            .collect();
        let ends = (0..parts.len()).map(|start| self.0.join(parts[start..].join("/")));
        let last = self.0.join(parts.last().copied().unwrap_or_default());
        ends.into_iter().find(|path| path.is_file()).unwrap_or(last)
    }
}

/// How closely pictures are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Whether the file is there.
    Exists,
    /// Whether it decodes, to the right size.
    Decode,
}

/// A picture that a dataset needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NeededPicture {
    /// Its file.
    pub path: PathBuf,
    /// Width and height by the dataset.
    pub size: Option<(u32, u32)>,
}

/// Pictures that a dataset needs, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PictureAudit {
    /// How many are needed.
    pub needed: usize,
    /// Those that have a fault, by their paths.
    pub faults: Vec<(PathBuf, PictureFault)>,
}

impl PictureAudit {
    /// Looks at all pictures. Each path counts once.
    #[must_use]
    pub fn of(pictures: impl IntoIterator<Item = NeededPicture>, look: Look) -> Self {
        let mut pictures: Vec<NeededPicture> = pictures.into_iter().collect();
        pictures.sort_by(|a, b| a.path.cmp(&b.path));
        pictures.dedup_by(|a, b| a.path == b.path);
        let fault = |picture: &NeededPicture| match look {
            Look::Exists => (!picture.path.is_file()).then_some(PictureFault::Missing),
            Look::Decode => open_picture(&picture.path, picture.size).err(),
        };
        let faults = pictures
            .par_iter()
            .filter_map(|picture| Some((picture.path.clone(), fault(picture)?)))
            .collect();
        Self {
            needed: pictures.len(),
            faults,
        }
    }

    /// How many are as they should be.
    #[must_use]
    pub fn good(&self) -> usize {
        self.needed - self.faults.len()
    }
}
