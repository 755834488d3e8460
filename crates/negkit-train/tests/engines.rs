//! A few dozen steps on trivial data: the loss falls, and the folder that is written gives in the
//! engine what the model in training gives.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use negkit_clipseg::{ClipSeg, ClipSegConfig, ClipSegFiles};
use negkit_diffusion::scheduler::SchedulerKind;
use negkit_diffusion::unet::{DownBlockType, PerBlock, UNetConfig, UpBlockType};
use negkit_diffusion::vae::{Vae, VaeConfig, VaeTiling};
use negkit_diffusion::{
    OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions, SamplingSettings,
    StableDiffusion, load_vae, open_vae_folder,
};
use negkit_nn::{AttentionBudget, Compute};
use negkit_text::ClipTextEncoder;
use negkit_train::tasks::diffusion::{
    DiffusionSettings, DiffusionTask, LatentTable, PipelineParts, export_pipeline, unet_init,
    zero_snr_schedule,
};
use negkit_train::tasks::pictures::{PackedPictures, Pictures, signed_pixels};
use negkit_train::tasks::segmentation::{
    FrozenClip, PhraseMasks, SegmentationSettings, SegmentationTask, export_clipseg,
};
use negkit_train::tasks::vae::{
    VaeSettings, VaeTask, encode_pictures, export_vae, scaling_factor,
};
use negkit_train::{ParamStore, Task, TrainError, TrainSettings, train};

const SIDE: usize = 16;

/// Weights of trained models are within ±4, where f16 keeps 11 bits; outputs of a few layers are
/// then off by about 2^-9 of their size.
const F16_TOLERANCE: f32 = 0.02;

fn settings(steps: u64, learning_rate: f64) -> TrainSettings {
    TrainSettings {
        steps,
        learning_rate,
        weight_decay: 0.,
        checkpoint_every: 0,
        validate_every: 0,
        ..TrainSettings::default()
    }
}

/// Squares of one of two colours on backgrounds of another two, at one of four places.
fn squares() -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..16 {
        let background = [[30, 40, 60], [220, 210, 190]][i & 1];
        let square = [[200, 30, 30], [40, 160, 60]][i >> 1 & 1];
        let (top, left) = ((i >> 2 & 1) * 8, (i >> 3 & 1) * 8);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let inside = (top + 1..top + 7).contains(&y) && (left + 1..left + 7).contains(&x);
                bytes.extend(if inside { square } else { background });
            }
        }
    }
    bytes
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

fn score(scores: &[(&'static str, f64)], name: &str) -> f64 {
    scores.iter().find(|(n, _)| *n == name).unwrap().1
}

fn vae_config() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![16, 32],
        layers_per_block: 1,
        latent_channels: 4,
        norm_num_groups: 4,
        sample_size: SIDE,
        ..VaeConfig::default()
    }
}

/// The folder and the model in training, which goes on to live in the store.
fn trained_vae(folder: &Path, steps: u64) -> (ParamStore, VaeConfig, f64, f64) {
    let bytes = squares();
    let pictures = PackedPictures::new(&bytes[..], (SIDE, SIDE)).unwrap();
    let store = ParamStore::random(1, &Device::Cpu);
    let options = VaeSettings {
        batch_size: 16,
        ..VaeSettings::default()
    };
    let both = (pictures.clone(), pictures.clone());
    let task = VaeTask::new(&store, &vae_config(), both, options).unwrap();
    let before = task.validate().unwrap();
    train(&store, &task, &settings(steps, 3e-3), &folder.join("run")).unwrap();
    let after = task.validate().unwrap();
    let latents = encode_pictures(task.vae(), &pictures, (4, &Device::Cpu), |_| ()).unwrap();
    let config = VaeConfig {
        scaling_factor: scaling_factor(&latents).unwrap(),
        ..vae_config()
    };
    export_vae(&store, &config, &folder.join("vae")).unwrap();
    assert!(score(&after, "psnr") > score(&before, "psnr"));
    (store, config, score(&before, "loss"), score(&after, "loss"))
}

#[test]
fn an_autoencoder_learns_and_is_the_same_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (store, config, before, after) = trained_vae(folder.path(), 60);
    assert!(after < before / 2., "loss {before} -> {after}");

    let (weights, read) = open_vae_folder(&folder.path().join("vae")).unwrap();
    assert_eq!(read.scaling_factor, config.scaling_factor);
    assert_eq!(read.rest["_class_name"], "AutoencoderKL");
    let compute = Compute::cpu();
    let published = load_vae(weights, &read, &compute, AttentionBudget::default()).unwrap();
    let trained = Vae::load(&store.detached_params(), &config).unwrap();
    let bytes = squares();
    let pictures = PackedPictures::new(&bytes[..], (SIDE, SIDE)).unwrap();
    let pixels = signed_pixels(&pictures, &[0, 5, 15], &Device::Cpu).unwrap();
    let mut made = Vec::new();
    let mut means = Vec::new();
    for vae in [&trained, &published] {
        let mean = vae.encode(&pixels).unwrap().mean;
        made.push(vae.decode(&mean, VaeTiling::Off).unwrap());
        means.push(mean);
    }
    let size = means[0].abs().unwrap().max_all().unwrap();
    let size: f32 = size.to_scalar().unwrap();
    assert!(largest_difference(&means[0], &means[1]) < F16_TOLERANCE * size.max(1.));
    assert!(largest_difference(&made[0], &made[1]) < F16_TOLERANCE);
}
