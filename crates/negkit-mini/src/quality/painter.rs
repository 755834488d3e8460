//! Pictures by mini-sd.

use std::ops::ControlFlow;

use image::RgbImage;
use negkit_diffusion::scheduler::SchedulerKind;
use negkit_diffusion::{PictureRequest, SamplingSettings, StableDiffusion};
use serde::{Serialize, Serializer};

use crate::recipe::{self, SIDE};
use crate::{MiniError, progress};

/// How pictures are painted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Painting {
    /// The scheduler; `None` for the one that the model was published with.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_name")]
    pub scheduler: Option<SchedulerKind>,
    /// Its inference steps.
    pub steps: usize,
    /// Weight of the prompt against no prompt.
    pub guidance: f64,
    /// Pictures at a time. They do not depend on it.
    #[serde(skip)]
    pub at_a_time: usize,
}

impl Default for Painting {
    /// As [`recipe`] has it.
    fn default() -> Self {
        Self {
            scheduler: None,
            steps: recipe::SAMPLING_STEPS,
            guidance: recipe::GUIDANCE,
            at_a_time: recipe::PAINTED_AT_A_TIME,
        }
    }
}

fn as_name<S: Serializer>(
    scheduler: &Option<SchedulerKind>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    scheduler.map(SchedulerKind::name).serialize(serializer)
}

/// A prompt with the seed of its noise.
pub(super) fn request(prompt: &str, seed: u64) -> PictureRequest {
    PictureRequest {
        prompt: prompt.to_owned(),
        negative_prompt: String::new(),
        seed,
    }
}

/// Paints all requests.
pub(super) fn paint(
    model: &StableDiffusion,
    requests: &[PictureRequest],
    painting: &Painting,
) -> Result<Vec<RgbImage>, MiniError> {
    let settings = SamplingSettings {
        scheduler: painting.scheduler,
        steps: painting.steps,
        guidance_scale: painting.guidance,
        width: SIDE as usize,
        height: SIDE as usize,
        batch_size: painting.at_a_time,
        ..SamplingSettings::default()
    };
    let bar = progress::bar(requests.len() as u64, "painted");
    let made = model
        .generate(requests, &settings, None, |at| {
            let done = at.first_picture + at.pictures * at.step / at.steps;
            bar.set_position(done as u64);
            ControlFlow::Continue(())
        })
        .map_err(MiniError::other)?;
    bar.finish_and_clear();
    Ok(made.into_iter().map(|made| made.picture).collect())
}
