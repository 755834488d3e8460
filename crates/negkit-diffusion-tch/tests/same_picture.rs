//! The same seed gives the same picture in libtorch and in negkit's own engine.
//!
//! The bounds are those of `negkit parity` for whole pictures against diffusers in Python: latents
//! within 1e-3 (relative L2) and pictures within 2 of 255 (mean absolute difference). What is left is
//! the order in which f32 sums are rounded.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use negkit_diffusion::savings::DeepCache;
use negkit_diffusion::scheduler::SchedulerKind;
use negkit_diffusion::{
    GeneratedPicture, OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions,
    SamplingSettings, Savings, StableDiffusion, StepProgress,
};
use negkit_diffusion_tch::TchStableDiffusion;
use negkit_nn::Compute;

const LATENTS: f32 = 1e-3;
const PICTURE: f32 = 2. / 255.;

/// The small pipeline with random weights of the parity fixtures.
fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models/weights/sd")
}

fn open(folder: &Path) -> PipelineFiles {
    PipelineFiles::open(folder, &OpenPipeline::default()).unwrap()
}

fn requests() -> Vec<PictureRequest> {
    let request = |prompt: &str, seed| PictureRequest {
        prompt: prompt.to_owned(),
        negative_prompt: String::new(),
        seed,
    };
    vec![
        request("a man, not wearing glasses", 5),
        request("no cats on the table", 6),
    ]
}

fn relative(found: &Tensor, expected: &Tensor) -> f32 {
    let norm = |x: &Tensor| {
        x.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    (norm(&(found - expected).unwrap()) / norm(expected)).sqrt()
}

fn compare(found: &[GeneratedPicture], expected: &[GeneratedPicture]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let latents = relative(&found.latents, &expected.latents);
        let difference = (&found.values - &expected.values).unwrap().abs().unwrap();
        let picture = difference.mean_all().unwrap().to_scalar::<f32>().unwrap();
        println!(
            "latents {latents:.1e}, picture {:.4} of 255",
            picture * 255.
        );
        assert!(latents < LATENTS, "latents: {latents}");
        assert!(picture < PICTURE, "picture: {picture}");
    }
}

/// Both engines paint in every scheduler of `kinds`.
fn same_pictures(folder: &Path, settings: &SamplingSettings, kinds: &[SchedulerKind]) {
    let files = open(folder);
    let theirs = TchStableDiffusion::from_files(&files, None).unwrap();
    let options = PipelineOptions::new(Compute::cpu());
    let ours = StableDiffusion::from_files(&files, None, &options).unwrap();
    let requests = requests();
    for &kind in kinds {
        let settings = SamplingSettings {
            scheduler: Some(kind),
            ..settings.clone()
        };
        let on_step = &mut |_: &StepProgress<'_>| ControlFlow::Continue(());
        let found = theirs
            .generate(&requests, &settings, None, on_step)
            .unwrap();
        let expected = ours
            .generate(&requests, &settings, None, |_| ControlFlow::Continue(()))
            .unwrap();
        println!("{}", kind.name());
        compare(&found, &expected);
    }
}

#[test]
fn the_same_seed_gives_the_same_picture() {
    let settings = SamplingSettings {
        steps: 6,
        width: 64,
        height: 128,
        batch_size: 2,
        ..SamplingSettings::default()
    };
    let kinds = [
        SchedulerKind::Pndm,
        SchedulerKind::Ddim,
        SchedulerKind::EulerAncestral,
    ];
    same_pictures(&small(), &settings, &kinds);
}

/// `NEGKIT_TCH_MODEL` names a pipeline at full size, such as the one that `eval/bench` makes.
#[test]
#[ignore = "takes minutes and a model at full size: eval/tch/check.sh FOLDER"]
fn the_same_seed_gives_the_same_picture_at_full_size() {
    let folder = std::env::var_os("NEGKIT_TCH_MODEL").expect("NEGKIT_TCH_MODEL names a pipeline");
    let settings = SamplingSettings {
        steps: 2,
        width: 256,
        height: 256,
        ..SamplingSettings::default()
    };
    same_pictures(Path::new(&folder), &settings, &[SchedulerKind::Ddim]);
}

#[test]
fn what_this_engine_has_not_is_an_error() {
    let model = TchStableDiffusion::from_files(&open(&small()), None).unwrap();
    let fail = |settings: SamplingSettings| {
        let on_step = &mut |_: &StepProgress<'_>| ControlFlow::Continue(());
        let made = model.generate(&requests(), &settings, None, on_step);
        made.unwrap_err().to_string()
    };
    let odd = fail(SamplingSettings {
        width: 40,
        height: 64,
        ..SamplingSettings::default()
    });
    assert!(odd.contains("multiples of 8"), "{odd}");
    let saving = fail(SamplingSettings {
        width: 64,
        height: 64,
        savings: Savings {
            deep_cache: DeepCache::new(2).ok(),
            ..Savings::default()
        },
        ..SamplingSettings::default()
    });
    assert!(saving.contains("deep cache"), "{saving}");
}
