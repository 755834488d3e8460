//! What is left out: off it changes nothing, on it does what it says. On the small Stable Diffusion
//! with random weights of the parity fixtures.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Tensor};
use negkit_diffusion::savings::{DeepCache, GuidanceInterval, TokenMerging};
use negkit_diffusion::scheduler::SchedulerKind;
use negkit_diffusion::unet::{DeepFeatures, Shortcuts};
use negkit_diffusion::{
    OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions, SamplingSettings, Savings,
    StableDiffusion,
};
use negkit_nn::Compute;

fn model() -> StableDiffusion {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models");
    let files = PipelineFiles::open(root.join("weights/sd"), &OpenPipeline::default()).unwrap();
    StableDiffusion::from_files(&files, None, &PipelineOptions::new(Compute::cpu())).unwrap()
}

fn values(model: &StableDiffusion, guidance_scale: f64, savings: Savings) -> Vec<f32> {
    let settings = SamplingSettings {
        steps: 8,
        guidance_scale,
        width: 64,
        height: 32,
        scheduler: Some(SchedulerKind::Ddim),
        savings,
        ..SamplingSettings::default()
    };
    let request = PictureRequest {
        prompt: "a dog without a hat".into(),
        negative_prompt: String::new(),
        seed: 3,
    };
    let made = model
        .generate(&[request], &settings, None, |_| ControlFlow::Continue(()))
        .unwrap();
    made[0].values.flatten_all().unwrap().to_vec1().unwrap()
}

fn mean_absolute(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

const GUIDANCE: f64 = 7.5;

#[test]
fn keeping_deep_features_changes_no_bit_and_reusing_them_at_once_neither() {
    let model = model();
    let unet = model.unet().unwrap();
    let random =
        |shape: (usize, usize, usize, usize)| Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap();
    let sample = random((2, 4, 8, 6));
    let states = random((1, 2, 7, 16)).squeeze(0).unwrap();
    let context = unet.prepare(&states).unwrap();
    let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let plain = bits(&unet.forward(&sample, &[500.], &states).unwrap());
    let mut kept = None;
    let keep = Shortcuts {
        deep: DeepFeatures::Keep(&mut kept),
        merging: None,
    };
    let keeping = unet.forward_with(&sample, &[500.], &context, keep).unwrap();
    assert_eq!(bits(&keeping), plain);
    // The deep features of this very input: all that is left out is what is known already.
    let reuse = Shortcuts {
        deep: DeepFeatures::Reuse(kept.as_ref().unwrap()),
        merging: None,
    };
    let reused = unet
        .forward_with(&sample, &[500.], &context, reuse)
        .unwrap();
    assert_eq!(bits(&reused), plain);
    // Of another time step they are not.
    let reuse = Shortcuts {
        deep: DeepFeatures::Reuse(kept.as_ref().unwrap()),
        merging: None,
    };
    let other = unet.forward_with(&sample, &[10.], &context, reuse).unwrap();
    let exact = bits(&unet.forward(&sample, &[10.], &states).unwrap());
    assert_ne!(bits(&other), exact);
    assert_ne!(bits(&other), plain);
}

#[test]
fn an_interval_of_all_steps_is_no_interval_and_one_of_none_is_no_guidance() {
    let model = model();
    let within = |from, to| Savings {
        guidance_interval: Some(GuidanceInterval::new(from, to).unwrap()),
        ..Savings::default()
    };
    let exact = values(&model, GUIDANCE, Savings::default());
    assert_eq!(values(&model, GUIDANCE, within(0., 1.)), exact);
    // Between the last step (7 of 8) and the end there is no step.
    let unguided = values(&model, GUIDANCE, within(0.99, 1.));
    let without = values(&model, 1., Savings::default());
    assert!(mean_absolute(&unguided, &without) < 1e-5);
    let part = values(&model, GUIDANCE, within(0.25, 0.75));
    assert!(mean_absolute(&part, &exact) > 0. && mean_absolute(&part, &without) > 0.);
}

#[test]
fn deep_features_of_an_earlier_step_give_a_near_picture() {
    let model = model();
    let every = |n| Savings {
        deep_cache: Some(DeepCache::new(n).unwrap()),
        ..Savings::default()
    };
    let exact = values(&model, GUIDANCE, Savings::default());
    let two = mean_absolute(&values(&model, GUIDANCE, every(2)), &exact);
    let eight = mean_absolute(&values(&model, GUIDANCE, every(8)), &exact);
    assert!(two > 0. && two < eight, "{two} and {eight}");
    // Guidance that ends in between changes the batch, which deep features must not outlive.
    let both = Savings {
        guidance_interval: Some(GuidanceInterval::new(0., 0.3).unwrap()),
        ..every(4)
    };
    assert_ne!(values(&model, GUIDANCE, both), exact);
}

#[test]
fn merging_more_tokens_changes_the_picture_more() {
    let model = model();
    let merging = |ratio| Savings {
        token_merging: Some(TokenMerging::new(ratio).unwrap()),
        ..Savings::default()
    };
    let exact = values(&model, GUIDANCE, Savings::default());
    let little = mean_absolute(&values(&model, GUIDANCE, merging(0.1)), &exact);
    let most = mean_absolute(&values(&model, GUIDANCE, merging(0.75)), &exact);
    assert!(little > 0. && little < most, "{little} and {most}");
    // Less than a token: nothing is merged, and taking apart and putting together keeps the values.
    let none = values(&model, GUIDANCE, merging(1e-6));
    assert!(mean_absolute(&none, &exact) < 1e-5);
}
