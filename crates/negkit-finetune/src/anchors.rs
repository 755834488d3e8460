//! Ordinary texts that a fine-tuning leaves where they are.

use std::path::Path;

use negkit_digest::sha256;
use negkit_train::TrainError;
use negkit_train::tasks::contrastive::{Anchors, ContrastiveModel};

use crate::FineTuneError;
use crate::order::{draw, unit};

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
    /// `count` of `texts` a step, at least one of which there has to be.
    pub(crate) fn new(
        stock: ContrastiveModel,
        texts: Vec<String>,
        (count, seed): (usize, u64),
    ) -> Self {
        Self {
            stock,
            texts,
            count,
            seed,
        }
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
pub(crate) fn read_texts(path: &Path) -> Result<Vec<String>, FineTuneError> {
    let read = std::fs::read_to_string(path).map_err(FineTuneError::io(path, "read"))?;
    let lines = read.lines().map(str::trim).filter(|line| !line.is_empty());
    let texts: Vec<String> = lines.map(str::to_owned).collect();
    if texts.is_empty() {
        return Err(FineTuneError::Setting {
            setting: "anchor_texts",
            found: format!("{}, which has none", path.display()),
            expected: "a file with a text a line",
        });
    }
    Ok(texts)
}
