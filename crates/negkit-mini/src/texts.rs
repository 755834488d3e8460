//! Pictures and captions as the contrastive trainings read them.

use candle_core::Tensor;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::TrainError;
use negkit_train::tasks::contrastive::{
    ContrastiveBatch, ContrastiveData, ContrastiveModel, Pictures,
};
use negkit_train::tasks::pictures::Pictures as _;
use negkit_world::{Scene, language};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::gallery::{Gallery, Normalisation, draw};
use crate::recipe::CONTEXT;
use crate::scores;

/// Pictures a held-out batch, and batches.
const HELD_OUT: (usize, usize) = (200, 2);

/// Scenes with ordinary captions, for training a CLIP from scratch.
pub struct OrdinaryCaptions<'a> {
    /// Scenes to train on.
    pub train: &'a Gallery,
    /// Scenes to score.
    pub held_out: &'a Gallery,
    /// Of the model in training.
    pub tokenizer: &'a ClipTokenizer,
    /// Pairs a step.
    pub batch_size: usize,
    /// How often captions hold negations.
    pub style: language::CaptionStyle,
    /// Share of the captions that tell everything.
    pub full_share: f64,
    /// Whether half of the captions come with a near miss, in which another object stands for one
    /// that is there. Among the tens of thousands of pairs of a published CLIP's batch there are such
    /// captions anyway; among a few hundred there are none. None of them holds a negation.
    pub near_misses: bool,
    /// Whether batches say what stands in the cells of their pictures.
    pub cells: bool,
}

/// Token ids of texts, one row of the context length each.
pub fn tokens(tokenizer: &ClipTokenizer, texts: &[String]) -> Result<Vec<Vec<u32>>, TrainError> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(tokenizer.encode(&texts, CONTEXT)?.ids)
}

impl OrdinaryCaptions<'_> {
    fn caption(&self, scene: &Scene, rng: &mut ChaCha8Rng) -> String {
        match rng.random_bool(self.full_share) {
            true => language::full_caption(scene),
            false => language::caption_with(scene, &self.style, rng).text,
        }
    }

    fn pairs(
        &self,
        gallery: &Gallery,
        indices: &[usize],
        texts: &[String],
    ) -> Result<ContrastiveBatch, TrainError> {
        let pixels = gallery.tensor(indices, Normalisation::CLIP)?;
        let cells = self.cells.then(|| gallery.cells(indices)).transpose()?;
        let texts = tokens(self.tokenizer, texts)?;
        Ok(ContrastiveBatch {
            cells,
            ..ContrastiveBatch::new(Pictures::Pixels(pixels), texts)
        })
    }
}

impl ContrastiveData for OrdinaryCaptions<'_> {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let mut rng = draw("clip-pictures", step);
        let mut texts = draw("clip-captions", step);
        if !self.near_misses {
            let indices: Vec<usize> = (0..self.batch_size)
                .map(|_| rng.random_range(0..self.train.len()))
                .collect();
            let captions: Vec<String> = indices
                .iter()
                .map(|&i| self.caption(self.train.scene(i), &mut texts))
                .collect();
            return self.pairs(self.train, &indices, &captions);
        }
        let (mut indices, mut right, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        while indices.len() < self.batch_size {
            let i = rng.random_range(0..self.train.len());
            let scene = self.train.scene(i);
            if 2 * indices.len() < self.batch_size {
                let Some((caption, foil)) = language::ordinary_foil(scene, &mut texts) else {
                    continue;
                };
                right.push(caption);
                wrong.push(foil);
            } else {
                right.push(self.caption(scene, &mut texts));
            }
            indices.push(i);
        }
        let mut batch = self.pairs(self.train, &indices, &right)?;
        batch.hard_texts = tokens(self.tokenizer, &wrong)?;
        Ok(batch)
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        let (size, count) = HELD_OUT;
        (0..count)
            .map(|i| {
                let indices: Vec<usize> = (i * size..(i + 1) * size).collect();
                let mut rng = draw("clip-held-out", i as u64);
                let texts: Vec<String> = indices
                    .iter()
                    .map(|&i| self.caption(self.held_out.scene(i), &mut rng))
                    .collect();
                self.pairs(self.held_out, &indices, &texts)
            })
            .collect()
    }

    fn scores(&self, model: &ContrastiveModel) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let pictures = embed_gallery(model, self.held_out)?;
        contrastive_scores(model, self.tokenizer, self.held_out, &pictures)
    }

    fn recipe(&self) -> Value {
        let mut recipe = json!({
            "scenes": self.train.len(),
            "batch_size": self.batch_size,
            "negation_share": self.style.negation_share,
            "misaligned_share": self.style.misaligned_share,
            "full_share": self.full_share,
        });
        if self.near_misses {
            recipe["near_misses"] = json!(self.batch_size / 2);
        }
        recipe
    }
}

/// Foil accuracies and recall of a model in training, with its pictures embedded beforehand.
pub fn contrastive_scores(
    model: &ContrastiveModel,
    tokenizer: &ClipTokenizer,
    gallery: &Gallery,
    pictures: &Tensor,
) -> Result<Vec<(&'static str, f64)>, TrainError> {
    let embed = |texts: &[String]| -> Result<Tensor, TrainError> {
        let parts = texts
            .chunks(256)
            .map(|part| model.embed_texts(&tokens(tokenizer, part)?))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&parts, 0)?)
    };
    let scores = scores::contrast(gallery.scenes(), pictures, embed)?;
    Ok(vec![
        ("recall_at_5", scores::mean(&scores.recall_at_5)),
        ("ordinary_foil", scores::mean(&scores.ordinary_foil)),
        ("negation_foil", scores::mean(&scores.negation_foil)),
    ])
}

/// All pictures of a gallery as unit vectors, `[n, projection]`.
pub fn embed_gallery(model: &ContrastiveModel, gallery: &Gallery) -> Result<Tensor, TrainError> {
    let indices: Vec<usize> = (0..gallery.len()).collect();
    let parts = indices
        .chunks(250)
        .map(|part| {
            let pixels = gallery.tensor(part, Normalisation::CLIP)?;
            Ok(model.embed_pictures(&Pictures::Pixels(pixels))?.detach())
        })
        .collect::<Result<Vec<_>, TrainError>>()?;
    Ok(Tensor::cat(&parts, 0)?)
}
