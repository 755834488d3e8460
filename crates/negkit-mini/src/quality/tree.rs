//! The folder of the exported models.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use negkit_checkpoint::Sums;
use negkit_clipseg::ClipSeg;
use negkit_diffusion::StableDiffusion;
use negkit_text::TextEncoder;
use negkit_vqa::detector::MiniDetector;
use negkit_vqa::mini::MiniVqa;
use serde_json::Value;

use crate::autoencoder::Autoencoder;
use crate::export::{self, Layout, MODELS};
use crate::{MiniError, recipe};

/// Name of the text encoder that everything was trained with.
pub const STOCK: &str = "stock";
/// The folder that it is in.
pub(super) const STOCK_FOLDER: &str = "clip";
/// What makes of a folder a model; its page and pictures do not.
const MODEL_FILES: [&str; 3] = ["safetensors", "json", "txt"];

/// The text encoders that can take the stock one's place.
pub fn encoder_names() -> impl Iterator<Item = &'static str> {
    MODELS
        .into_iter()
        .filter(|model| model.layout == Layout::TextEncoder)
        .map(|model| model.name)
}

/// The names without the stock one, which always takes part, and each once.
pub(super) fn check_names(names: &[String]) -> Result<Vec<&'static str>, MiniError> {
    let mut known = Vec::new();
    for name in names.iter().filter(|name| *name != STOCK) {
        let found = encoder_names().find(|known| known == name);
        let found = found.ok_or_else(|| MiniError::UnknownEncoder {
            name: name.clone(),
            known: encoder_names().collect(),
        })?;
        if !known.contains(&found) {
            known.push(found);
        }
    }
    Ok(known)
}

/// The exported models.
pub(super) struct Tree {
    folder: PathBuf,
    hashes: RefCell<BTreeMap<String, Value>>,
}

impl Tree {
    pub(super) fn open(folder: &Path) -> Result<Self, MiniError> {
        // Says what the system says of it.
        std::fs::read_dir(folder).map_err(MiniError::io(folder, "list"))?;
        Ok(Self {
            folder: folder.to_owned(),
            hashes: RefCell::default(),
        })
    }

    pub(super) fn has(&self, model: &str) -> bool {
        self.folder.join(model).is_dir()
    }

    /// The folder of a model that `what` needs.
    fn path(&self, model: &str, what: &str) -> Result<PathBuf, MiniError> {
        match self.has(model) {
            true => Ok(self.folder.join(model)),
            false => Err(MiniError::NoModel {
                folder: self.folder.clone(),
                model: model.to_owned(),
                what: what.to_owned(),
            }),
        }
    }

    /// SHA-256 of the files of a model, by their names.
    pub(super) fn hashes(&self, model: &str, what: &str) -> Result<Value, MiniError> {
        if let Some(known) = self.hashes.borrow().get(model) {
            return Ok(known.clone());
        }
        let sums = Sums::of(self.path(model, what)?).map_err(MiniError::other)?;
        let text = sums.text();
        let files = text.lines().filter_map(|line| line.split_once("  "));
        let own = files.filter(|(_, name)| {
            let extension = Path::new(name).extension().and_then(|e| e.to_str());
            extension.is_some_and(|e| MODEL_FILES.contains(&e))
        });
        let hashes: serde_json::Map<String, Value> = own
            .map(|(hash, name)| (name.to_owned(), hash.into()))
            .collect();
        let hashes = Value::Object(hashes);
        self.hashes
            .borrow_mut()
            .insert(model.to_owned(), hashes.clone());
        Ok(hashes)
    }

    /// The hashes of all models that were asked for.
    pub(super) fn all_hashes(&self) -> BTreeMap<String, Value> {
        self.hashes.borrow().clone()
    }

    /// The text encoders besides the stock one that are there, and those that are not.
    pub(super) fn encoders(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        encoder_names().partition(|name| self.has(name))
    }

    /// The folder of a text encoder's weights.
    pub(super) fn encoder_folder(name: &str) -> &str {
        match name {
            STOCK => STOCK_FOLDER,
            name => name,
        }
    }

    pub(super) fn encoder(&self, name: &str) -> Result<Arc<dyn TextEncoder>, MiniError> {
        let folder = self.path(Self::encoder_folder(name), "the text encoder")?;
        Ok(export::text_encoder(&folder)?)
    }

    pub(super) fn clip(&self) -> Result<negkit_clip::ClipImageEncoder, MiniError> {
        let folder = self.path(STOCK_FOLDER, "the picture side")?;
        negkit_clip::ClipImageEncoder::load(folder, &recipe::compute()).map_err(MiniError::other)
    }

    pub(super) fn vqa(&self) -> Result<MiniVqa, MiniError> {
        let folder = self.path("vqa", "every question")?;
        MiniVqa::load(folder, &recipe::compute()).map_err(MiniError::other)
    }

    /// mini-sd's autoencoder.
    pub(super) fn vae(&self) -> Result<Autoencoder, MiniError> {
        Autoencoder::open(&self.path("sd", "the autoencoder")?.join("vae"))
    }

    pub(super) fn detector(&self) -> Result<MiniDetector, MiniError> {
        let folder = self.path("detector", "the check of mini-vqa")?;
        MiniDetector::load(folder, &recipe::compute()).map_err(MiniError::other)
    }

    /// mini-sd with that text encoder.
    pub(super) fn sd(&self, encoder: &str) -> Result<StableDiffusion, MiniError> {
        let mut model = export::pipeline(&self.path("sd", "every painted picture")?)?;
        if encoder != STOCK {
            model
                .set_text_encoder(self.encoder(encoder)?)
                .map_err(MiniError::other)?;
        }
        Ok(model)
    }

    /// mini-clipseg with that text encoder.
    pub(super) fn clipseg(&self, encoder: &str) -> Result<ClipSeg, MiniError> {
        let mut model = export::clipseg(&self.path("clipseg", "every marked picture")?)?;
        if encoder != STOCK {
            model
                .set_text_encoder(self.encoder(encoder)?)
                .map_err(MiniError::other)?;
        }
        Ok(model)
    }
}
