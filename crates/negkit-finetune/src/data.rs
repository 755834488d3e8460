//! Batches of captions with the features of their pictures.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::TrainError;
use negkit_train::tasks::contrastive::{ContrastiveBatch, ContrastiveData, Pictures};
use serde_json::{Value, json};

use crate::anchors::AnchorTexts;
use crate::captions::{CaptionSet, Item};
use crate::features::Features;
use crate::order::{draw, permutation, unit};
use crate::{FineTuneError, FineTuneSettings, Split};

/// Captions to train on and to validate by.
pub(crate) struct CaptionData {
    pub(crate) settings: FineTuneSettings,
    pub(crate) captions: CaptionSet,
    pub(crate) features: Features,
    pub(crate) tokenizer: ClipTokenizer,
    /// Tokens of a text.
    pub(crate) context: usize,
    /// Whether rows may end behind the last end of text: the tower is causal and takes its vector
    /// from there, so what comes after changes nothing.
    pub(crate) trims: bool,
    /// Hash of the picture tower.
    pub(crate) encoder: String,
    pub(crate) split: Halves,
    /// Texts to hold where they are.
    pub(crate) anchors: Option<AnchorTexts>,
    /// The order of an epoch, which is wanted for all of its batches.
    pub(crate) order: Mutex<Option<(u64, Vec<u32>)>>,
}

/// Numbers of items.
pub(crate) struct Halves {
    pub(crate) train: Vec<u32>,
    pub(crate) held_out: Vec<u32>,
}

impl Halves {
    /// The different ordinary captions of those to train on, in their order.
    pub(crate) fn ordinary_texts(&self, captions: &CaptionSet) -> Vec<String> {
        let mut seen = HashSet::new();
        let items = self.train.iter().map(|i| &captions.items[*i as usize]);
        let texts = items.map(|item| item.ordinary.trim());
        texts
            .filter(|text| !text.is_empty() && seen.insert(*text))
            .map(str::to_owned)
            .collect()
    }
}

/// Splits the captions, a share of `settings.validation_share` rounded down to validate by.
pub(crate) fn split(
    captions: &CaptionSet,
    settings: &FineTuneSettings,
) -> Result<Halves, FineTuneError> {
    let rng = draw(settings.seed, "split", 0);
    let share = |count: usize| (count as f64 * settings.validation_share) as usize;
    let halves = match settings.split {
        Split::Captions => {
            let mut held_out = permutation(captions.items.len(), rng);
            let train = held_out.split_off(share(captions.items.len()));
            Halves { train, held_out }
        }
        Split::Pictures => {
            let pictures = permutation(captions.pictures.len(), rng);
            let mut is_held_out = vec![false; pictures.len()];
            for picture in &pictures[..share(pictures.len())] {
                is_held_out[*picture as usize] = true;
            }
            let numbers = 0..captions.items.len() as u32;
            let (held_out, train) =
                numbers.partition(|i| is_held_out[captions.items[*i as usize].picture as usize]);
            Halves { train, held_out }
        }
    };
    if halves.train.is_empty() || halves.held_out.is_empty() {
        return Err(FineTuneError::TooFew {
            train: halves.train.len(),
            held_out: halves.held_out.len(),
        });
    }
    Ok(halves)
}

impl CaptionData {
    /// Batches of an epoch.
    pub(crate) fn batches(&self) -> u64 {
        self.settings.batches(self.split.train.len())
    }

    /// Numbers of the items of a step.
    pub(crate) fn items_of(&self, step: u64) -> Vec<u32> {
        let (epoch, batch) = (step / self.batches(), step % self.batches());
        let mut cached = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.split.train.len();
        if cached.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let order = permutation(count, draw(self.settings.seed, "epoch", epoch));
            *cached = Some((epoch, order));
        }
        let order = cached.as_ref().map_or(&[][..], |(_, order)| order);
        let start = batch as usize * self.settings.batch_size;
        let end = (start + self.settings.batch_size).min(count);
        let items = order[start.min(end)..end].iter();
        items.map(|i| self.split.train[*i as usize]).collect()
    }

    pub(crate) fn item(&self, number: u32) -> &Item {
        &self.captions.items[number as usize]
    }

    fn pairs(&self, items: &[(&Item, &str)]) -> Result<ContrastiveBatch, TrainError> {
        let pictures = self
            .features
            .of(items.iter().map(|(item, _)| item.picture))?;
        let denied: Vec<&str> = items
            .iter()
            .filter_map(|(item, _)| item.denied.as_deref())
            .collect();
        let texts: Vec<&str> = items.iter().map(|(_, text)| *text).collect();
        let mut ids = self.tokens(&[&texts[..], &denied].concat())?;
        let hard_texts = ids.split_off(texts.len());
        let mut batch = ContrastiveBatch::new(Pictures::Embeddings(pictures), ids);
        batch.hard_texts = hard_texts;
        // The loss has them for all pairs or for none.
        let distractors: Option<Vec<u32>> = items.iter().map(|(item, _)| item.distractor).collect();
        if let Some(distractors) = distractors {
            batch.distractors = Some(Pictures::Embeddings(self.features.of(distractors)?));
        }
        Ok(batch)
    }

    fn tokens(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TrainError> {
        let encoded = self.tokenizer.encode(texts, self.context)?;
        let mut ids = encoded.ids;
        let longest = encoded
            .eot_positions
            .iter()
            .max()
            .map_or(0, |last| last + 1);
        if self.trims {
            ids.iter_mut().for_each(|row| row.truncate(longest));
        }
        Ok(ids)
    }
}

impl ContrastiveData for CaptionData {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let mut rng = draw(self.settings.seed, "ordinary", step);
        let numbers = self.items_of(step);
        let items: Vec<(&Item, &str)> = numbers
            .into_iter()
            .map(|number| {
                let item = self.item(number);
                let is_ordinary = unit(&mut rng) < self.settings.ordinary_share;
                let text = match is_ordinary {
                    true => &item.ordinary,
                    false => &item.caption,
                };
                (item, text.as_str())
            })
            .collect();
        let mut batch = self.pairs(&items)?;
        let anchors = self.anchors.as_ref();
        batch.anchors = anchors
            .map(|anchors| anchors.of_step(step, |texts| self.tokens(texts)))
            .transpose()?;
        Ok(batch)
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        let numbers = self.split.held_out.chunks(self.settings.batch_size);
        numbers
            .map(|numbers| {
                let items = numbers.iter().map(|number| self.item(*number));
                let items: Vec<_> = items.map(|item| (item, item.caption.as_str())).collect();
                self.pairs(&items)
            })
            .collect()
    }

    fn recipe(&self) -> Value {
        let FineTuneSettings {
            method,
            seed,
            batch_size,
            ordinary_share,
            split,
            validation_share,
            largest_scale,
            precision,
            anchors,
            anchor_weight,
            ..
        } = &self.settings;
        let mut recipe = json!({
            "method": method,
            "objective": self.settings.objective(),
            "seed": seed,
            "batch_size": batch_size,
            "ordinary_share": ordinary_share,
            "split": split,
            "validation_share": validation_share,
            "largest_scale": largest_scale,
            "precision": precision,
            "captions": self.captions.digest(),
            "train": self.split.train.len(),
            "held_out": self.split.held_out.len(),
            "picture_tower": self.encoder,
            "tokenizer": self.tokenizer.info().fingerprint,
        });
        if let Some(texts) = &self.anchors {
            recipe["anchors"] = json!({
                "count": anchors,
                "weight": anchor_weight,
                "texts": texts.digest(),
            });
        }
        recipe
    }
}
