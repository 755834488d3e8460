//! The published datasets in one folder, each in one of the places where they are usually unpacked.

use std::path::{Path, PathBuf};

use negkit_data::DataError;

/// A folder with the published datasets. What is looked for in it stands with the tables that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaperFolder(PathBuf);

impl PaperFolder {
    /// The folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// COCO's pictures of 2014, on which RefCOCOg and NegRefCOCOg are.
    pub(crate) fn train2014(&self) -> Result<PathBuf, DataError> {
        self.find(
            &[
                "train2014",
                "coco/train2014",
                "COCO/train2014",
                "images/train2014",
            ],
            "COCO's pictures; http://images.cocodataset.org/zips/train2014.zip",
        )
    }

    /// The first of the places that is there.
    pub(crate) fn find(&self, places: &[&str], hint: &str) -> Result<PathBuf, DataError> {
        let mut paths = places.iter().map(|place| self.0.join(place));
        let found = paths.find(|path| path.exists());
        found.ok_or_else(|| missing(self.0.join(places[0]), hint))
    }

    /// The first of the places that holds one of the files.
    pub(crate) fn find_holding(
        &self,
        places: &[&str],
        files: &[&str],
        hint: &str,
    ) -> Result<PathBuf, DataError> {
        let mut paths = places.iter().map(|place| self.0.join(place));
        let found = paths.find(|path| files.iter().any(|file| path.join(file).exists()));
        found.ok_or_else(|| missing(self.0.join(places[0]).join(files[0]), hint))
    }
}

fn missing(path: PathBuf, hint: &str) -> DataError {
    let hint = hint.to_owned();
    DataError::Missing { path, hint }
}
