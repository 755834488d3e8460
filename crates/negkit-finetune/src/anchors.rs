//! Ordinary texts that a fine-tuning leaves where they are.

use std::path::Path;

use negkit_digest::sha256;
use negkit_train::TrainError;
use negkit_train::tasks::contrastive::{Anchors, ContrastiveModel};

use crate::order::{draw, unit};
use crate::{FineTuneError, FineTuneSettings};

/// Texts whose vectors are held.
pub(crate) struct AnchorTexts {
    /// The encoder before the fine-tuning.
    stock: ContrastiveModel,
    texts: Vec<String>,
    /// Texts a step.
    count: usize,
    seed: u64,
}

impl AnchorTexts {
    /// `count` of the texts that `settings` name a step, or of `captions` where they name none.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no text.
    pub(crate) fn new(
        stock: ContrastiveModel,
        settings: &FineTuneSettings,
        captions: impl FnOnce() -> Vec<String>,
    ) -> Result<Self, FineTuneError> {
        let (texts, source) = match &settings.anchor_texts {
            Some(path) => (read_texts(path)?, path.display().to_string()),
            None => (captions(), "the captions' `caption`".to_owned()),
        };
        if texts.is_empty() {
            return Err(FineTuneError::Setting {
                setting: "anchor_texts",
                found: format!("{source}, which has none"),
                expected: "a file with a text a line, or captions with ordinary ones",
            });
        }
        Ok(Self {
            stock,
            texts,
            count: settings.anchors,
            seed: settings.seed,
        })
    }

    /// Hash over all texts.
    pub(crate) fn digest(&self) -> String {
        sha256(self.texts.join("\n"))
    }

    /// Those of a step, which may be there twice, with the vectors that they have to keep. `tokens` makes
    /// rows of one length of them.
    pub(crate) fn of_step(
        &self,
        step: u64,
        tokens: impl FnOnce(&[&str]) -> Result<Vec<Vec<u32>>, TrainError>,
    ) -> Result<Anchors, TrainError> {
        let mut rng = draw(self.seed, "anchors", step);
        let drawn: Vec<&str> = (0..self.count)
            .map(|_| (unit(&mut rng) * self.texts.len() as f64) as usize)
            .map(|i| self.texts[i].as_str())
            .collect();
        let texts = tokens(&drawn)?;
        let targets = self.stock.project_texts(&texts)?.detach();
        Ok(Anchors { texts, targets })
    }
}

/// The lines of a file that are not empty.
fn read_texts(path: &Path) -> Result<Vec<String>, FineTuneError> {
    let read = std::fs::read_to_string(path).map_err(FineTuneError::io(path, "read"))?;
    let lines = read.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}
