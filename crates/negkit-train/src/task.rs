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

    /// The loss of a batch.
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
