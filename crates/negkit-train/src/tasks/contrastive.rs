//! Contrastive training of a CLIP, from scratch or of its text tower alone.
//!
//! The loss is the symmetric InfoNCE of "Learning Transferable Visual Models From Natural Language
//! Supervision" (Radford et al., 2021, figure 3), with the hard negatives of CoN-CLIP ("Learning the
//! Power of 'No'", Singh et al., 2025; `src/training_utils/loss_functions.py` there) where a batch
//! has any. In its place there can be CLIP-bnl's: see [`Bidirectional`].

mod bidirectional;

use std::sync::{Mutex, PoisonError};

use candle_core::{D, Tensor, Var};
use negkit_clip::{ClipVisionConfig, ClipVisionTower, l2_normalize};
use negkit_nn::{Ignored, Params, ops};
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::detector::{Scores, share};
use super::grounding::{self, CellLabels, Grounding, GroundingSettings, unknown_cells};
use super::split::{uneven_chunks, uneven_rows};
use crate::{JointLoss, ParamStore, StepLoss, Task, TrainError};

pub use bidirectional::{Bidirectional, Constraint};

/// Name of the logarithm of the inverse temperature.
const LOGIT_SCALE: &str = "logit_scale";
/// The largest inverse temperature (Radford et al., section 2.5).
const LARGEST_SCALE: f64 = 100.;

/// Pictures, or what a frozen vision tower made of them.
#[derive(Debug, Clone)]
pub enum Pictures {
    /// Preprocessed pixels `[n, 3, side, side]`, f32.
    Pixels(Tensor),
    /// Projected picture embeddings `[n, projection]`, f32, normalised or not.
    Embeddings(Tensor),
}

impl Pictures {
    fn split(self, parts: usize) -> Result<Vec<Self>, TrainError> {
        let (tensor, wrap): (_, fn(Tensor) -> Self) = match self {
            Self::Pixels(tensor) => (tensor, Self::Pixels),
            Self::Embeddings(tensor) => (tensor, Self::Embeddings),
        };
        let chunks = uneven_chunks(&tensor, parts)?;
        Ok(chunks.into_iter().map(wrap).collect())
    }

    /// Number of pictures.
    ///
    /// # Errors
    /// When the tensor is a scalar.
    pub fn count(&self) -> Result<usize, TrainError> {
        let (Self::Pixels(tensor) | Self::Embeddings(tensor)) = self;
        Ok(tensor.dim(0)?)
    }
}

/// What is learned from the similarities of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Symmetric InfoNCE, with hard texts and distractors where a batch has any.
    #[default]
    InfoNce,
    /// CLIP-bnl's: hard text `i` is text `i` denied. The temperature plays no part in it, so
    /// `logit_scale` has to be frozen.
    Bidirectional(Bidirectional),
}

/// Texts whose vectors shall stay where they were before a fine-tuning: what is built on a text tower
/// reads more of a vector than its angle to a picture's, which is all that a contrastive loss sees.
#[derive(Debug, Clone)]
pub struct Anchors {
    /// `n` texts as token ids of one length.
    pub texts: Vec<Vec<u32>>,
    /// What the tower made of them before: `[n, projection]`, f32, not normalised, none of them zero.
    pub targets: Tensor,
}

impl Anchors {
    fn split(self, parts: usize) -> Result<Vec<Self>, TrainError> {
        let targets = uneven_chunks(&self.targets, parts)?;
        let texts = uneven_rows(self.texts, parts)?;
        let both = texts.into_iter().zip(targets);
        Ok(both
            .map(|(texts, targets)| Self { texts, targets })
            .collect())
    }
}

/// Pictures with their texts.
#[derive(Debug, Clone)]
pub struct ContrastiveBatch {
    /// `n` pictures.
    pub pictures: Pictures,
    /// `n` texts as token ids of one length; text `i` belongs to picture `i`.
    pub texts: Vec<Vec<u32>>,
    /// Texts that belong to none of the pictures (a caption with its meaning reversed, such as a
    /// false negation): further wrong answers for every picture. May be empty.
    pub hard_texts: Vec<Vec<u32>>,
    /// CoN-CLIP's distractors: picture `i` is one that `hard_texts[i]` is true of, so that there are
    /// as many of both. They are further wrong answers for every text, and have texts to find
    /// themselves.
    pub distractors: Option<Pictures>,
    /// For [`ContrastiveTask::anchored`]; else they are not looked at.
    pub anchors: Option<Anchors>,
    /// What stands in the cells of the pictures, for [`ContrastiveTask::grounded`]; else it is not
    /// looked at.
    pub cells: Option<CellLabels>,
}

impl ContrastiveBatch {
    /// Pictures and their texts, without further negatives.
    pub fn new(pictures: Pictures, texts: Vec<Vec<u32>>) -> Self {
        Self {
            pictures,
            texts,
            hard_texts: Vec::new(),
            distractors: None,
            anchors: None,
            cells: None,
        }
    }
}

/// Where the pictures and texts come from.
pub trait ContrastiveData: Sync {
    /// The batch of step `step`: a pure function of the step.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError>;

    /// Held-out batches, the same at every call.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError>;

    /// Further scores of a model, which are logged and decide nothing.
    ///
    /// # Errors
    /// When the data cannot be read or the model cannot be run.
    fn scores(&self, _model: &ContrastiveModel) -> Result<Vec<(&'static str, f64)>, TrainError> {
        Ok(Vec::new())
    }

    /// What [`Task::recipe`] shall say.
    fn recipe(&self) -> Value {
        Value::Null
    }
}

/// Both towers of a CLIP, or the text tower alone where picture embeddings are made beforehand.
pub struct ContrastiveModel {
    /// The text tower with its projection.
    pub text: ClipTextTower,
    /// The vision tower with its projection.
    pub vision: Option<ClipVisionTower>,
    /// Logarithm of the inverse temperature, a scalar.
    pub logit_scale: Tensor,
    /// What [`ContrastiveModel::loss`] is.
    pub objective: Objective,
    /// Weight of the drift of [`ContrastiveBatch::anchors`] in the loss; `None` does not look at them.
    pub anchor_weight: Option<f64>,
    /// Names what stands below the vision tower's patches.
    grounding: Option<Grounding>,
}

impl ContrastiveModel {
    /// Reads `text_model.*`, `text_projection.weight`, `logit_scale` and, with a configuration for
    /// it, `vision_model.*` and `visual_projection.weight`: the names of transformers.
    ///
    /// # Errors
    /// When the tensors do not fit the configurations.
    pub fn load(
        params: &Params,
        text: &ClipTextConfig,
        vision: Option<&ClipVisionConfig>,
    ) -> Result<Self, TrainError> {
        let model = Self {
            text: ClipTextTower::load(params, text)?,
            vision: vision
                .map(|config| ClipVisionTower::load(params, config))
                .transpose()?,
            logit_scale: params.get((), LOGIT_SCALE)?,
            objective: Objective::default(),
            anchor_weight: None,
            grounding: None,
        };
        let ignored = Ignored {
            prefixes: match vision {
                Some(_) => &[grounding::PREFIX],
                None => &["vision_model.", "visual_projection."],
            },
            buffers: &["position_ids"],
        };
        params.finish("the CLIP to be trained", ignored)?;
        if !model.text.has_projection() {
            return Err(TrainError::Task(
                "needs a text tower with a projection, and the checkpoint has none".to_owned(),
            ));
        }
        Ok(model)
    }

    /// Texts as unit vectors, `[n, projection]`.
    ///
    /// # Errors
    /// When rows differ in length, or the device fails.
    pub fn embed_texts(&self, texts: &[Vec<u32>]) -> Result<Tensor, TrainError> {
        Ok(l2_normalize(&self.project_texts(texts)?)?)
    }

    /// Texts as vectors that are not normalised, `[n, projection]`.
    ///
    /// # Errors
    /// When rows differ in length, or the device fails.
    pub fn project_texts(&self, texts: &[Vec<u32>]) -> Result<Tensor, TrainError> {
        let projected = self.text.forward(texts)?.projected;
        projected.ok_or_else(|| TrainError::Task("lost its text projection".to_owned()))
    }

    /// Squared distance of every anchor from its target, over the target's squared length: `[n]`.
    fn drift(&self, anchors: &Anchors) -> Result<Tensor, TrainError> {
        let found = self.project_texts(&anchors.texts)?;
        let targets = anchors.targets.to_device(found.device())?;
        check_count("anchor targets", targets.dim(0)?, found.dim(0)?)?;
        let squared = |tensor: Tensor| tensor.sqr()?.sum(D::Minus1);
        Ok((squared((found - &targets)?)? / squared(targets)?)?)
    }

    /// Pictures as unit vectors, `[n, projection]`.
    ///
    /// # Errors
    /// When there are pixels and no vision tower, or the device fails.
    pub fn embed_pictures(&self, pictures: &Pictures) -> Result<Tensor, TrainError> {
        Ok(self.see(pictures)?.0)
    }

    /// Pictures as unit vectors; where there is somebody to name what their patches show, these as maps
    /// `[n, hidden, side, side]`, before the last layer.
    fn see(&self, pictures: &Pictures) -> Result<(Tensor, Option<Tensor>), TrainError> {
        let device = self.logit_scale.device();
        let (embeds, patches) = match (pictures, &self.vision) {
            (Pictures::Embeddings(embeds), _) => (embeds.to_device(device)?, None),
            (Pictures::Pixels(pixels), Some(vision)) => {
                let seen = vision.forward(&pixels.to_device(device)?)?;
                let patches = match self.grounding {
                    Some(_) => Some(patch_map(&seen.hidden_states)?),
                    None => None,
                };
                (seen.image_embeds, patches)
            }
            (Pictures::Pixels(_), None) => {
                return Err(TrainError::Task(
                    "has pixels in a batch and no vision tower; give picture embeddings".to_owned(),
                ));
            }
        };
        Ok((l2_normalize(&embeds)?, patches))
    }

    /// The loss of a batch with its metrics: `accuracy`, the share of pictures whose own text is
    /// the nearest of all in the batch, and `scale`, the inverse temperature.
    ///
    /// As [`Objective::InfoNce`] it is, without distractors, the mean of picture-to-text
    /// cross-entropy, over texts and hard texts, and text-to-picture cross-entropy; with distractors
    /// the mean of three terms: pictures to texts, texts to pictures and distractors, distractors to
    /// texts.
    ///
    /// With [`ContrastiveModel::anchor_weight`] it has that many times the mean of the anchors' drift
    /// besides (a metric, too), which is the squared distance of a text's vector from its target over
    /// the target's squared length. What [`ContrastiveTask::grounded`] adds is the metric `cells`,
    /// not weighted.
    ///
    /// # Errors
    /// When the numbers of pictures and texts do not fit, or the device fails.
    pub fn loss(&self, batch: &ContrastiveBatch) -> Result<StepLoss, TrainError> {
        self.loss_of(&self.embed(batch)?.0)
    }

    /// Pictures, texts, then hard texts and distractors where there are any, as unit vectors; last what
    /// [`ContrastiveModel::besides`] lists, a number for each anchor or picture. With them, what was named
    /// of the cells, where there is somebody to name it.
    fn embed(&self, batch: &ContrastiveBatch) -> Result<(Vec<Tensor>, Option<Scores>), TrainError> {
        let (count, hard) = (batch.texts.len(), batch.hard_texts.len());
        let (pictures, patches) = self.see(&batch.pictures)?;
        check_count("pictures", pictures.dim(0)?, count)?;
        let all_texts = self.embed_texts(&[&batch.texts[..], &batch.hard_texts].concat())?;
        let mut embedded = vec![pictures, all_texts.narrow(0, 0, count)?];
        if hard > 0 {
            embedded.push(all_texts.narrow(0, count, hard)?);
        }
        if let Some(distractors) = &batch.distractors {
            check_count("hard texts", hard, count)?;
            let distractors = self.embed_pictures(distractors)?;
            check_count("distractors", distractors.dim(0)?, count)?;
            embedded.push(distractors);
        }
        if self.anchor_weight.is_some() {
            let anchors = batch.anchors.as_ref().ok_or_else(|| {
                TrainError::Task("is anchored and has a batch without anchors".to_owned())
            })?;
            embedded.push(self.drift(anchors)?);
        }
        let Some(head) = &self.grounding else {
            return Ok((embedded, None));
        };
        let patches = patches.as_ref().ok_or_else(unknown_cells)?;
        let cells = batch.cells.as_ref().ok_or_else(unknown_cells)?;
        let named = head.score(patches, cells)?;
        let loss = named.loss.reshape(1)?.broadcast_as(count)?;
        embedded.push(loss.contiguous()?);
        Ok((embedded, Some(named)))
    }

    /// Metric and weight of what is added to the contrast, in the order of [`ContrastiveModel::embed`].
    fn besides(&self) -> Vec<(&'static str, f64)> {
        let drift = self.anchor_weight.map(|weight| ("drift", weight));
        let cells = self.grounding.as_ref().map(|head| ("cells", head.weight()));
        drift.into_iter().chain(cells).collect()
    }

    fn loss_of(&self, embedded: &[Tensor]) -> Result<StepLoss, TrainError> {
        let besides = self.besides();
        let (vectors, others) = embedded.split_at(embedded.len().saturating_sub(besides.len()));
        let StepLoss {
            mut loss,
            mut metrics,
        } = self.contrast(vectors)?;
        for ((name, weight), values) in besides.into_iter().zip(others) {
            let mean = values.mean_all()?;
            metrics.push((name, f64::from(mean.detach().to_scalar::<f32>()?)));
            loss = (loss + (mean * weight)?)?;
        }
        Ok(StepLoss { loss, metrics })
    }

    fn contrast(&self, embedded: &[Tensor]) -> Result<StepLoss, TrainError> {
        let (pictures, texts, hard, distractors) = match embedded {
            [pictures, texts] => (pictures, texts, None, None),
            [pictures, texts, hard] => (pictures, texts, Some(hard), None),
            [pictures, texts, hard, distractors] => {
                (pictures, texts, Some(hard), Some(distractors))
            }
            other => {
                return Err(TrainError::Task(format!(
                    "has {} sorts of embeddings, expected pictures, texts, hard texts, distractors",
                    other.len()
                )));
            }
        };
        let embedded = Embedded {
            pictures: pictures.clone(),
            texts: texts.clone(),
            all_texts: match hard {
                Some(hard) => Tensor::cat(&[texts, hard], 0)?,
                None => texts.clone(),
            },
            distractors: distractors.cloned(),
        };
        let (loss, accuracy) = match self.objective {
            Objective::InfoNce => embedded.info_nce(&self.logit_scale)?,
            Objective::Bidirectional(settings) => {
                if let Some(hard) = hard {
                    check_count("hard texts", hard.dim(0)?, texts.dim(0)?)?;
                }
                let loss = settings.loss(pictures, texts, hard)?;
                let similarities = pictures.detach().matmul(&texts.detach().t()?)?;
                (loss, share_of_own(&similarities)?)
            }
        };
        let scale = f64::from(self.logit_scale.detach().to_scalar::<f32>()?).exp();
        Ok(StepLoss {
            loss,
            metrics: vec![("accuracy", accuracy), ("scale", scale)],
        })
    }
}

/// Patches before the last layer as a map `[n, hidden, side, side]`: what the class token gathers from,
/// and below what CLIPSeg reads. `hidden_states` as in [`negkit_clip::VisionTowerOutput`].
fn patch_map(hidden_states: &[Tensor]) -> Result<Tensor, TrainError> {
    let index = hidden_states.len().saturating_sub(2);
    let states = hidden_states.get(index).ok_or_else(unknown_cells)?;
    let (n, tokens, hidden) = states.dims3()?;
    let side = (tokens - 1).isqrt();
    let patches = states.narrow(1, 1, tokens - 1)?.transpose(1, 2)?;
    Ok(patches.reshape((n, hidden, side, side))?)
}

/// A batch as unit vectors `[.., projection]`.
struct Embedded {
    pictures: Tensor,
    texts: Tensor,
    /// The texts, then the hard texts.
    all_texts: Tensor,
    distractors: Option<Tensor>,
}

impl Embedded {
    /// The loss, and the share of pictures whose own text is the nearest.
    fn info_nce(&self, logit_scale: &Tensor) -> candle_core::Result<(Tensor, f64)> {
        let scale = logit_scale.exp()?;
        let logits = |a: &Tensor, b: &Tensor| -> candle_core::Result<Tensor> {
            ops::matmul(a, &b.t()?)?.broadcast_mul(&scale)
        };
        let to_texts = logits(&self.pictures, &self.all_texts)?;
        let accuracy = share_of_own(&to_texts.detach())?;
        let Some(distractors) = &self.distractors else {
            let to_pictures = logits(&self.texts, &self.pictures)?;
            let terms = (own_entry(&to_texts)? + own_entry(&to_pictures)?)?;
            return Ok(((terms / 2.)?, accuracy));
        };
        let count = self.texts.dim(0)?;
        let hard = self.all_texts.dim(0)? - count;
        let hard_texts = self.all_texts.narrow(0, count, hard)?;
        let all_pictures = Tensor::cat(&[&self.pictures, distractors], 0)?;
        let hard_first = Tensor::cat(&[&hard_texts, &self.texts], 0)?;
        let to_pictures = logits(&self.texts, &all_pictures)?;
        let from_distractors = logits(distractors, &hard_first)?;
        let terms = (own_entry(&to_texts)? + own_entry(&to_pictures)?)?;
        Ok((((terms + own_entry(&from_distractors)?)? / 3.)?, accuracy))
    }
}

fn check_count(what: &str, found: usize, texts: usize) -> Result<(), TrainError> {
    if found == texts && texts > 0 {
        return Ok(());
    }
    Err(TrainError::Task(format!(
        "has {found} {what} for {texts} texts in a batch, expected as many, and at least one"
    )))
}

/// Mean cross-entropy of logits `[n, m]`, `m >= n`, whose right answer in row `i` is column `i`.
fn own_entry(logits: &Tensor) -> candle_core::Result<Tensor> {
    let rows = logits.dim(0)?;
    let own = Tensor::arange(0u32, rows as u32, logits.device())?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let own = shifted.gather(&own.unsqueeze(1)?, 1)?;
    (log_sum - own)?.mean_all()
}

/// Share of the rows `i` of `[n, m]` whose largest entry is that of column `i`.
fn share_of_own(logits: &Tensor) -> candle_core::Result<f64> {
    let nearest: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
    let right = nearest
        .iter()
        .zip(0..)
        .filter(|(found, own)| **found == *own);
    Ok(right.count() as f64 / nearest.len().max(1) as f64)
}

/// What the paper's fine-tuning keeps as it is ("Know 'No' Better", Park et al., 2025): the whole vision
/// tower with its projection, and the text tower's final layer norm. Embeddings, text layers, text
/// projection and temperature are trained.
pub fn frozen_in_fine_tuning(name: &str) -> bool {
    name.starts_with("vision_model.")
        || name.starts_with("visual_projection.")
        || name.starts_with("text_model.final_layer_norm.")
}

/// Contrastive training as a [`Task`].
pub struct ContrastiveTask<D> {
    /// Computes gradients.
    tracked: ContrastiveModel,
    /// The same weights without gradients, for validation.
    model: ContrastiveModel,
    /// `logit_scale`, where it is trained.
    scale: Option<Mutex<Var>>,
    largest_scale: Option<f64>,
    data: D,
}

impl<D: ContrastiveData> ContrastiveTask<D> {
    /// A task over the parameters of `store`. Without `vision`, every batch has to bring picture
    /// embeddings. What shall stay as it is, is frozen before: see [`frozen_in_fine_tuning`].
    ///
    /// # Errors
    /// When the store's tensors do not fit the configurations.
    pub fn new(
        store: &ParamStore,
        text: &ClipTextConfig,
        vision: Option<&ClipVisionConfig>,
        data: D,
    ) -> Result<Self, TrainError> {
        let tracked = ContrastiveModel::load(&store.params(), text, vision)?;
        let model = ContrastiveModel::load(&store.detached_params(), text, vision)?;
        let mut trainable = store.trainable().into_iter();
        let scale = trainable.find(|(name, _)| name == LOGIT_SCALE);
        Ok(Self {
            tracked,
            model,
            scale: scale.map(|(_, var)| Mutex::new(var)),
            largest_scale: Some(LARGEST_SCALE),
            data,
        })
    }

    /// The same task with another loss.
    #[must_use]
    pub fn with_objective(mut self, objective: Objective) -> Self {
        self.tracked.objective = objective;
        self.model.objective = objective;
        self
    }

    /// The same task, in which the texts of [`ContrastiveBatch::anchors`] are held where they were:
    /// `weight` times their drift is added to the loss. Every batch of training has to have as many
    /// anchors as [`crate::TrainSettings::parts`], or more; held-out batches need none.
    #[must_use]
    pub fn anchored(mut self, weight: f64) -> Self {
        self.tracked.anchor_weight = Some(weight);
        self
    }

    /// The same task, in which the vision tower's patches learn to tell what stands below them, from
    /// [`ContrastiveBatch::cells`]: the cross-entropy of a linear layer on them is added to the loss. Of
    /// pairs alone a small tower on few pictures learns what fills a picture long before it learns
    /// spectacles. The layer is no part of what [`export_clip`](crate::export_clip) writes.
    ///
    /// # Errors
    /// When there is no vision tower, its patches do not fit [`GroundingSettings::grid`], or the store has
    /// a head of another size.
    pub fn grounded(
        mut self,
        store: &ParamStore,
        settings: GroundingSettings,
    ) -> Result<Self, TrainError> {
        let vision = self.tracked.vision.as_ref().map(ClipVisionTower::config);
        let vision = vision.ok_or_else(|| {
            TrainError::Task(
                "has no vision tower whose patches could tell what stands there".into(),
            )
        })?;
        let side = vision.image_size / vision.patch_size.max(1);
        let head = Grounding::new(store, (vision.hidden_size, side), settings)?.normalised();
        self.model.grounding = Some(head.clone());
        self.tracked.grounding = Some(head);
        Ok(self)
    }

    /// The same task with another largest inverse temperature than CLIP's 100, or none.
    #[must_use]
    pub fn with_largest_scale(self, largest: Option<f64>) -> Self {
        Self {
            largest_scale: largest,
            ..self
        }
    }

    /// The model in training, as it serves: without gradients.
    pub fn model(&self) -> &ContrastiveModel {
        &self.model
    }

    /// The data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Brings the inverse temperature back to the largest one where an update led above it, as CLIP
    /// does.
    fn clamp_scale(&self) -> Result<(), TrainError> {
        let (Some(scale), Some(largest)) = (&self.scale, self.largest_scale) else {
            return Ok(());
        };
        let var = scale.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = largest.ln() as f32;
        if var.to_scalar::<f32>()? > largest {
            var.set(&Tensor::new(largest, var.device())?)?;
        }
        Ok(())
    }
}

impl<D: ContrastiveData> Task for ContrastiveTask<D> {
    type Batch = ContrastiveBatch;

    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        self.data.batch(step)
    }

    fn split(
        &self,
        batch: ContrastiveBatch,
        parts: usize,
    ) -> Result<Vec<ContrastiveBatch>, TrainError> {
        // An epoch's last batch may be smaller than the others.
        let parts = parts.min(batch.texts.len());
        let pictures = batch.pictures.split(parts)?;
        let distractors = batch.distractors.map(|pictures| pictures.split(parts));
        let mut distractors = distractors.transpose()?.map(Vec::into_iter);
        let texts = uneven_rows(batch.texts, parts)?;
        let hard_texts = match batch.hard_texts.is_empty() {
            true => vec![Vec::new(); parts],
            false => uneven_rows(batch.hard_texts, parts)?,
        };
        let anchors = batch.anchors.map(|anchors| anchors.split(parts));
        let mut anchors = anchors.transpose()?.map(Vec::into_iter);
        let count = texts.iter().map(Vec::len).sum();
        let cells = batch.cells.map(|cells| cells.split_unevenly(count, parts));
        let mut cells = cells.transpose()?.map(Vec::into_iter);
        let all = pictures.into_iter().zip(texts).zip(hard_texts);
        Ok(all
            .map(|((pictures, texts), hard_texts)| ContrastiveBatch {
                pictures,
                texts,
                hard_texts,
                distractors: distractors.as_mut().and_then(Iterator::next),
                anchors: anchors.as_mut().and_then(Iterator::next),
                cells: cells.as_mut().and_then(Iterator::next),
            })
            .collect())
    }

    fn joint(&self) -> Option<&dyn JointLoss<ContrastiveBatch>> {
        Some(self)
    }

    fn loss(&self, batch: ContrastiveBatch) -> Result<StepLoss, TrainError> {
        self.clamp_scale()?;
        self.tracked.loss(&batch)
    }

    /// `loss` and `accuracy`, means over the validation batches; where the task is grounded, `things`: the
    /// share of cells with a thing whose kind is right; then the data's own scores.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError> {
        self.clamp_scale()?;
        let batches = self.data.validation()?;
        let (mut loss, mut accuracy) = (0., 0.);
        let (mut right, mut things) = (0, 0);
        for batch in &batches {
            let (embedded, named) = self.model.embed(batch)?;
            let computed = self.model.loss_of(&embedded)?;
            loss += f64::from(computed.loss.to_scalar::<f32>()?);
            accuracy += computed.metrics[0].1;
            if let Some(named) = named {
                right += named.right_things;
                things += named.things;
            }
        }
        let count = batches.len() as f64;
        let mut scores = vec![("loss", loss / count), ("accuracy", accuracy / count)];
        if self.model.grounding.is_some() {
            scores.push(("things", share(right, things)));
        }
        scores.extend(self.data.scores(&self.model)?);
        Ok(scores)
    }

    fn recipe(&self) -> Value {
        self.data.recipe()
    }
}

impl<D: ContrastiveData> JointLoss<ContrastiveBatch> for ContrastiveTask<D> {
    fn embed(&self, part: &ContrastiveBatch) -> Result<Vec<Tensor>, TrainError> {
        Ok(self.tracked.embed(part)?.0)
    }

    fn loss(&self, embedded: &[Tensor]) -> Result<StepLoss, TrainError> {
        self.clamp_scale()?;
        self.tracked.loss_of(embedded)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use candle_core::{DType, Device};
    use negkit_checkpoint::Checkpoint;
    use negkit_nn::TensorSource;

    use super::*;

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn losses_and_gradients_are_those_of_pytorch() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../eval/parity/fixtures/training"
        );
        let fixture = Path::new(folder).join("contrastive.safetensors");
        let fixture = Checkpoint::open(fixture).unwrap();
        let read = |name: &str| fixture.load(name, DType::F32, &Device::Cpu).unwrap();
        let denied = Var::from_tensor(&read("hard_texts")).unwrap();
        let [pictures, texts] = ["pictures", "texts"].map(|n| Var::from_tensor(&read(n)).unwrap());
        let mut settings = Bidirectional::default();
        settings.to_picture.weight = 0.5;
        settings.to_caption.weight = 0.25;
        let loss = settings.loss(&pictures, &texts, Some(&denied)).unwrap();
        let off = largest_difference(&loss, &read("loss.bidirectional"));
        assert!(off < 2e-6, "bidirectional: {off}");
        let gradients = loss.backward().unwrap();
        let vars = [
            ("pictures", &pictures),
            ("texts", &texts),
            ("hard_texts", &denied),
        ];
        for (name, var) in vars {
            let expected = read(&format!("gradient.bidirectional.{name}"));
            let off = largest_difference(gradients.get(var).unwrap(), &expected);
            assert!(off < 2e-6, "bidirectional, gradient of {name}: {off}");
        }
        for case in ["plain", "hard", "distractors"] {
            let vars = ["pictures", "texts", "scale"];
            let [pictures, texts, scale] = vars.map(|n| Var::from_tensor(&read(n)).unwrap());
            let hard = read("hard_texts");
            let all_texts = match case {
                "plain" => texts.as_tensor().clone(),
                _ => Tensor::cat(&[texts.as_tensor(), &hard], 0).unwrap(),
            };
            let embedded = Embedded {
                pictures: pictures.as_tensor().clone(),
                texts: texts.as_tensor().clone(),
                all_texts,
                distractors: (case == "distractors").then(|| read("distractors")),
            };
            let (loss, _) = embedded.info_nce(&scale).unwrap();
            let off = largest_difference(&loss, &read(&format!("loss.{case}")));
            assert!(off < 2e-6, "{case}: {off}");
            let gradients = loss.backward().unwrap();
            for (name, var) in vars.iter().zip([&pictures, &texts, &scale]) {
                let expected = read(&format!("gradient.{case}.{name}"));
                let off = largest_difference(gradients.get(var).unwrap(), &expected);
                assert!(off < 2e-6, "{case}, gradient of {name}: {off}");
            }
        }
    }
}
