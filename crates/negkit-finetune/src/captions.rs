//! Caption files, and which of their captions can be used.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use negkit_data::PictureFault;
use negkit_data::coco::{Caption, Captions};
use negkit_digest::hexadecimal;
use negkit_image::write_atomic;
use sha2::{Digest, Sha256};

use crate::{FineTuneError, FineTuneSettings, Method};

/// A caption to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its picture, by number in [`CaptionSet::pictures`].
    pub picture: u32,
    /// The caption.
    pub caption: String,
    /// The annotation's ordinary caption.
    pub ordinary: String,
    /// The caption with its meaning denied, where the method needs one.
    pub denied: Option<String>,
    /// A picture that the denied caption is true of, where the method can use one.
    pub distractor: Option<u32>,
}

/// Why a caption cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its picture is missing or broken.
    Picture(PathBuf, PictureFault),
    /// The annotation lacks a field, or it is empty.
    Field(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Picture(path, fault) => write!(f, "picture {}: {fault}", path.display()),
            Self::Field(field) => write!(f, "no {field}"),
        }
    }
}

/// A caption that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The caption file.
    pub file: PathBuf,
    /// The annotation's id.
    pub id: u64,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.file_name().unwrap_or_default();
        write!(
            f,
            "annotation {} of {}: {}",
            self.id,
            file.to_string_lossy(),
            self.reason
        )
    }
}

/// What of an annotation is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which field is the caption.
    pub field: String,
    /// What is learned from.
    pub method: Method,
}

impl From<&FineTuneSettings> for Wanted {
    fn from(settings: &FineTuneSettings) -> Self {
        Self {
            field: settings.caption_field.clone(),
            method: settings.method,
        }
    }
}

/// The captions of several files with their pictures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptionSet {
    /// File names of the pictures in their folder, each once.
    pub pictures: Vec<String>,
    /// The captions that can be used, in the files' order.
    pub items: Vec<Item>,
    /// File and annotation of each item, for messages.
    sources: Vec<(usize, u64)>,
    /// The others.
    pub left_out: Vec<LeftOut>,
    files: Vec<PathBuf>,
}

impl CaptionSet {
    /// Reads COCO caption files whose pictures lie in `images`. Whether a picture is there is seen
    /// later, when it is encoded: see [`CaptionSet::without`].
    ///
    /// # Errors
    /// When a file cannot be read, or a record is not what it should be.
    pub fn read(files: &[PathBuf], wanted: &Wanted) -> Result<Self, FineTuneError> {
        let mut set = Self {
            files: files.to_vec(),
            ..Self::default()
        };
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (file, path) in files.iter().enumerate() {
            let read = Captions::open(path)?;
            let names: HashMap<u64, String> = read
                .pictures
                .into_iter()
                .map(|picture| (picture.id, picture.file_name))
                .collect();
            let mut number_of = |id: u64| -> Option<u32> {
                let name = names.get(&id)?;
                let next = set.pictures.len() as u32;
                Some(*numbers.entry(name.clone()).or_insert_with(|| {
                    set.pictures.push(name.clone());
                    next
                }))
            };
            for caption in read.captions {
                let id = caption.id;
                match item(caption, wanted, &mut number_of) {
                    Ok(item) => {
                        set.items.push(item);
                        set.sources.push((file, id));
                    }
                    Err(field) => set.left_out.push(LeftOut {
                        file: path.clone(),
                        id,
                        reason: Reason::Field(field),
                    }),
                }
            }
        }
        Ok(set)
    }

    /// Leaves out the captions that need one of the pictures `faults`, by number; a distractor is
    /// needed as well.
    #[must_use]
    pub fn without(mut self, images: &Path, faults: &HashMap<u32, PictureFault>) -> Self {
        let items = std::mem::take(&mut self.items);
        let sources = std::mem::take(&mut self.sources);
        for (item, (file, id)) in items.into_iter().zip(sources) {
            let mut pictures = std::iter::once(item.picture).chain(item.distractor);
            match pictures.find_map(|picture| Some((picture, faults.get(&picture)?))) {
                None => {
                    self.items.push(item);
                    self.sources.push((file, id));
                }
                Some((picture, fault)) => {
                    let path = images.join(&self.pictures[picture as usize]);
                    self.left_out.push(LeftOut {
                        file: self.files[file].clone(),
                        id,
                        reason: Reason::Picture(path, fault.clone()),
                    });
                }
            }
        }
        self
    }

    /// That no more is left out than allowed. What is left out is written to `list`, one a line.
    ///
    /// # Errors
    /// When it is more, or the list cannot be written.
    pub fn check(&self, allowed: f64, list: &Path) -> Result<(), FineTuneError> {
        const EXAMPLES: usize = 5;
        let (left_out, all) = (self.left_out.len(), self.left_out.len() + self.items.len());
        if left_out > 0 {
            let lines: String = self.left_out.iter().map(|one| format!("{one}\n")).collect();
            write_atomic(list, lines.as_bytes())?;
        }
        if left_out as f64 <= allowed * all as f64 {
            return Ok(());
        }
        let mut examples: Vec<String> = self
            .left_out
            .iter()
            .take(EXAMPLES)
            .map(ToString::to_string)
            .collect();
        if left_out > EXAMPLES {
            examples.push(format!("and {} more", left_out - EXAMPLES));
        }
        Err(FineTuneError::LeftOut {
            left_out,
            all,
            allowed,
            examples,
            list: list.to_owned(),
        })
    }

    /// SHA-256 over all items, as hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        let mut text = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        for item in &self.items {
            text(&self.pictures[item.picture as usize]);
            text(&item.caption);
            text(&item.ordinary);
            text(item.denied.as_deref().unwrap_or_default());
            let distractor = item.distractor.map(|i| self.pictures[i as usize].as_str());
            text(distractor.unwrap_or_default());
        }
        hexadecimal(hasher.finalize())
    }
}

/// The annotation as an item, or the field that it lacks.
fn item(
    caption: Caption,
    wanted: &Wanted,
    number_of: &mut impl FnMut(u64) -> Option<u32>,
) -> Result<Item, &'static str> {
    let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let text = match wanted.field.as_str() {
        "caption" => filled(Some(caption.caption.clone())).ok_or("caption")?,
        _ => filled(caption.updated_caption).ok_or("updated_caption")?,
    };
    let denied = match wanted.method.needs_denials() {
        true => Some(filled(caption.negated_caption).ok_or("negated_caption")?),
        false => None,
    };
    let distractor = match (wanted.method, caption.distractor) {
        (Method::Conclip, Some(id)) => {
            Some(number_of(id).ok_or("distractor that is a picture of the file")?)
        }
        _ => None,
    };
    // Readers have checked that every annotation is of a picture of its file.
    let picture = number_of(caption.image_id).ok_or("picture in the file")?;
    Ok(Item {
        picture,
        caption: text,
        ordinary: caption.caption,
        denied,
        distractor,
    })
}
