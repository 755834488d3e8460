//! What a step costs, before there are data or weights: time and memory with random weights.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_nn::Params;
use negkit_text::tower::ClipTextConfig;
use negkit_train::tasks::contrastive::{
    Anchors, ContrastiveBatch, ContrastiveData, ContrastiveTask, Pictures, frozen_in_fine_tuning,
};
use negkit_train::{ParamStore, TrainError, rehearse};
use rand_chacha::rand_core::RngCore;
use serde::Serialize;

use crate::order::draw;
use crate::{FineTuneError, FineTuneSettings};

/// What to measure.
#[derive(Debug, Clone)]
pub struct CostOptions {
    /// Sizes of the text tower.
    pub text: ClipTextConfig,
    /// Sizes of the picture tower.
    pub vision: ClipVisionConfig,
    /// The recipe, of which batch, chunk and precision decide.
    pub settings: FineTuneSettings,
    /// Tokens of every text: the context length is the worst case.
    pub tokens: usize,
    /// Steps to measure; of several the least counts, for other work on the machine only ever adds.
    pub steps: u64,
    /// Pictures to run through the frozen tower; 0 for none.
    pub pictures: usize,
    /// Where to compute.
    pub device: Device,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Pairs of a step.
    pub batch_size: usize,
    /// Pairs that were run at a time, by each thread.
    pub chunk: usize,
    /// Tokens of every text.
    pub tokens: usize,
    /// Parameters that are trained.
    pub trained: usize,
    /// Seconds of a step on picture features.
    pub step_seconds: f64,
    /// Seconds of the frozen tower for the pictures of a step, without reading them from disk.
    pub picture_seconds: Option<f64>,
    /// Largest memory that the process had, in bytes; known on Linux.
    pub peak_bytes: Option<u64>,
}

impl Cost {
    /// How many times longer an epoch takes when the picture tower runs for every caption.
    pub fn speedup(&self) -> Option<f64> {
        let pictures = self.picture_seconds?;
        Some((self.step_seconds + pictures) / self.step_seconds)
    }
}

/// Random texts of one length with random features.
struct RandomPairs {
    count: usize,
    anchors: usize,
    tokens: usize,
    text: ClipTextConfig,
}

impl ContrastiveData for RandomPairs {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let mut rng = draw(1, "cost", step);
        let words = self.text.eos_token_id.max(1);
        let row = |rng: &mut rand_chacha::ChaCha8Rng| -> Vec<u32> {
            let mut row: Vec<u32> = (1..self.tokens).map(|_| rng.next_u32() % words).collect();
            row.push(self.text.eos_token_id);
            row
        };
        let texts = (0..self.count).map(|_| row(&mut rng)).collect();
        let shape = (self.count, self.text.projection_dim);
        let pictures = Tensor::randn(0f32, 1., shape, &Device::Cpu)?;
        let anchors = match self.anchors {
            0 => None,
            count => Some(Anchors {
                texts: (0..count).map(|_| row(&mut rng)).collect(),
                targets: Tensor::ones((count, shape.1), DType::F32, &Device::Cpu)?,
            }),
        };
        Ok(ContrastiveBatch {
            anchors,
            ..ContrastiveBatch::new(Pictures::Embeddings(pictures), texts)
        })
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        Ok(Vec::new())
    }
}

/// Measures steps of a fine-tuning with random weights of the given sizes.
///
/// # Errors
/// When settings make no sense, or the device fails.
pub fn measure_cost(options: &CostOptions) -> Result<Cost, FineTuneError> {
    let CostOptions {
        text,
        settings,
        tokens,
        device,
        ..
    } = options;
    settings.check()?;
    if *tokens < 1 || *tokens > text.max_position_embeddings {
        return Err(FineTuneError::Setting {
            setting: "tokens",
            found: tokens.to_string(),
            expected: "at least 1, and at most the model's context length",
        });
    }
    let pictures = (options.pictures > 0).then(|| picture_seconds(options));
    let picture_seconds = pictures
        .transpose()?
        .map(|one| one * settings.batch_size as f64);
    let store = ParamStore::random(1, device).with_products(settings.products());
    store.freeze(frozen_in_fine_tuning);
    let data = RandomPairs {
        count: settings.batch_size,
        anchors: settings.anchors,
        tokens: *tokens,
        text: text.clone(),
    };
    let mut task = ContrastiveTask::new(&store, text, None, data)?;
    if settings.anchors > 0 {
        task = task.anchored(settings.anchor_weight);
    }
    let training = settings.training(settings.batch_size);
    let seconds = rehearse(&store, &task, &training, options.steps.max(1))?;
    Ok(Cost {
        batch_size: settings.batch_size,
        chunk: settings.chunk,
        tokens: *tokens,
        trained: store.sizes().1,
        step_seconds: seconds.into_iter().fold(f64::INFINITY, f64::min),
        picture_seconds,
        peak_bytes: peak_bytes(),
    })
}

/// Seconds of the frozen tower for one picture.
fn picture_seconds(options: &CostOptions) -> Result<f64, FineTuneError> {
    let CostOptions { vision, device, .. } = options;
    let params = Params::random(1, DType::F32, device);
    let tower = ClipVisionTower::load(&params, vision)?;
    let side = vision.image_size;
    let pixels = Tensor::randn(0f32, 1., (options.pictures, 3, side, side), device)?;
    let begun = Instant::now();
    let embeds = tower.forward(&pixels)?.image_embeds;
    // On a GPU this waits for the result.
    embeds.sum_all()?.to_scalar::<f32>()?;
    Ok(begun.elapsed().as_secs_f64() / options.pictures as f64)
}

/// `VmHWM` of Linux: the largest resident memory of this process.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
