//! The pictures and texts of a benchmark, each once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A picture that is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureInput {
    /// Its file.
    pub path: PathBuf,
    /// The part of it that is taken: left, top, width and height in pixels, rounded as PIL's `crop`
    /// rounds the corners. The whole picture where there is none.
    pub bbox: Option<[f64; 4]>,
}

impl PictureInput {
    pub(crate) fn whole(path: PathBuf) -> Self {
        Self { path, bbox: None }
    }

    /// What it is called where it is missing.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Pictures, each once.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    all: Vec<PictureInput>,
    places: HashMap<(PathBuf, Option<[u64; 4]>), usize>,
}

impl Pictures {
    /// The place of a picture, which is added if it is new.
    pub(crate) fn add(&mut self, path: &Path, bbox: Option<[f64; 4]>) -> usize {
        let key = (path.to_owned(), bbox.map(|bbox| bbox.map(f64::to_bits)));
        let all = &mut self.all;
        *self.places.entry(key).or_insert_with(|| {
            all.push(PictureInput {
                path: path.to_owned(),
                bbox,
            });
            all.len() - 1
        })
    }

    pub(crate) fn into_list(self) -> Vec<PictureInput> {
        self.all
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    all: Vec<String>,
    places: HashMap<String, usize>,
}

impl Texts {
    /// The place of a text, which is added if it is new.
    pub(crate) fn add(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), self.all.len() - 1);
        self.all.len() - 1
    }

    pub(crate) fn into_list(self) -> Vec<String> {
        self.all
    }
}
