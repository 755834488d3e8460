//! Steps that nothing is kept of, to see what they cost.

use std::time::Instant;

use crate::gradients::Workers;
use crate::optimizer::{AdamW, AdamWSettings};
use crate::{ParamStore, Task, TrainError, TrainSettings};

/// Does `steps` steps of a training without a folder, and gives the seconds that each took, from the
/// batch's making to the update. The parameters of `store` change as in a training.
///
/// # Errors
/// When settings make no sense, or the task or the device fails.
pub fn rehearse<T: Task>(
    store: &ParamStore,
    task: &T,
    settings: &TrainSettings,
    steps: u64,
) -> Result<Vec<f64>, TrainError> {
    settings.check()?;
    let mut optimizer = AdamW::new(store.trainable(), AdamWSettings::of(settings))?;
    let workers = Workers::new(settings.parts, settings.recompute, store.trainable())?;
    (0..steps)
        .map(|step| {
            let begun = Instant::now();
            let batch = task.batch(step)?;
            let parts = match settings.parts {
                1 => vec![batch],
                parts => task.split(batch, parts)?,
            };
            let computed = workers.compute(task, parts)?;
            let norm = optimizer.gradient_norm(&computed.gradients)?;
            let scale = AdamW::clip_scale(norm, settings.clip_norm);
            optimizer.update(&computed.gradients, settings.rate(step), scale)?;
            Ok(begun.elapsed().as_secs_f64())
        })
        .collect()
}
