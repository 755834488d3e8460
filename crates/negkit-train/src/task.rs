//! What is trained: the contract between a model with its data and the loop.

use candle_core::Tensor;
use serde_json::Value;

use crate::TrainError;

/// The loss of one batch.
#[derive(Debug, Clone)]
pub struct StepLoss {
    /// The loss, a tracked f32 scalar.
    pub loss: Tensor,
    /// Further numbers for the log, the same names at every step.
    pub metrics: Vec<(&'static str, f64)>,
}

/// A loss that compares all examples of a batch with each other, such as a contrastive one. Parts
/// of a batch are embedded one by one, then compared all at once, and the gradients of the
/// embeddings go back into the parts: the same gradients as those of the whole batch (Gao et al.,
/// "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021). Their second
/// forward pass is only made where memory is the limit: see [`TrainSettings::recompute`].
///
/// [`TrainSettings::recompute`]: crate::TrainSettings::recompute
pub trait JointLoss<B>: Sync {
    /// Tracked embeddings of a part, each `[examples, ..]`; as many for every part. Called twice
    /// with the same part, it gives the same numbers.
    ///
    /// # Errors
    /// When the model cannot be run.
    fn embed(&self, part: &B) -> Result<Vec<Tensor>, TrainError>;

    /// The loss from those of all parts, joined along the first dimension.
    ///
    /// # Errors
    /// When they do not fit together or the device fails.
    fn loss(&self, embedded: &[Tensor]) -> Result<StepLoss, TrainError>;
}

/// A model with its data and its loss.
pub trait Task: Sync {
    /// What one step computes its loss from.
    type Batch: Send;

    /// The batch of step `step`, which counts from 0: a pure function of the step, made on another
    /// thread while the step before is computed.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn batch(&self, step: u64) -> Result<Self::Batch, TrainError>;

    /// `batch` in `parts` parts of one size, so that its loss is the mean of theirs, for
    /// [`TrainSettings::parts`], or comes from their embeddings ([`Task::joint`]). A task that cannot
    /// do either gives the batch back whole.
    ///
    /// # Errors
    /// When it cannot be divided by `parts`.
    ///
    /// [`TrainSettings::parts`]: crate::TrainSettings::parts
    fn split(&self, batch: Self::Batch, parts: usize) -> Result<Vec<Self::Batch>, TrainError> {
        let _ = parts;
        Ok(vec![batch])
    }

    /// For tasks whose loss is no mean of that of parts, but can be computed from embeddings that
    /// every part gives for itself.
    fn joint(&self) -> Option<&dyn JointLoss<Self::Batch>> {
        None
    }

    /// The loss of a batch, or of a part of one.
    ///
    /// # Errors
    /// When the model cannot be run on it.
    fn loss(&self, batch: Self::Batch) -> Result<StepLoss, TrainError>;

    /// Scores on held-out data; the first one decides which weights are best (lower is better).
    /// Where an average of the weights is kept ([`TrainSettings::ema`]), the model has the average
    /// while this is called.
    ///
    /// [`TrainSettings::ema`]: crate::TrainSettings::ema
    ///
    /// # Errors
    /// When the model cannot be run.
    fn validate(&self) -> Result<Vec<(&'static str, f64)>, TrainError>;

    /// Whatever else decides the result: seeds, sizes, data. It is kept beside the checkpoint, and
    /// a folder that was trained with another recipe is refused.
    fn recipe(&self) -> Value {
        Value::Null
    }
}
