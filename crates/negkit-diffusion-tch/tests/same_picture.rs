//! The same seed gives the same picture in libtorch and in negkit's own engine.
//!
//! The bounds are those of `negkit parity` for whole pictures against diffusers in Python: latents
//! within 1e-3 (relative L2) and pictures within 2 of 255 (mean absolute difference). What is left is
//! the order in which f32 sums are rounded.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use negkit_diffusion::savings::DeepCache;
use negkit_diffusion::scheduler::SchedulerKind;
use negkit_diffusion::unet::{UNet, UNetConfig};
use negkit_diffusion::{
    GeneratedPicture, OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions,
    SamplingSettings, Savings, StableDiffusion, StepProgress,
};
use negkit_diffusion_tch::TchStableDiffusion;
use negkit_nn::Compute;
use negkit_train::ParamStore;
use tempfile::TempDir;

const LATENTS: f32 = 1e-3;
const PICTURE: f32 = 2. / 255.;

/// The small pipeline with random weights of the parity fixtures. Its UNet norms in 2 groups.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models/weights/sd")
}

/// The same pipeline with another UNet, which norms in 32 groups as Stable Diffusion's does. Its
/// weights are drawn when it is written: both engines read the same file.
fn small() -> TempDir {
    let folder = TempDir::new().unwrap();
    for part in ["scheduler", "text_encoder", "tokenizer", "vae"] {
        let (from, to) = (fixture().join(part), folder.path().join(part));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let index = "model_index.json";
    std::fs::copy(fixture().join(index), folder.path().join(index)).unwrap();
    let config = UNetConfig {
        block_out_channels: vec![32, 32, 64, 64],
        norm_num_groups: 32,
        ..open(&fixture()).unet_config().clone()
    };
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    std::fs::write(unet.join("config.json"), config.to_json().unwrap()).unwrap();
    let store = ParamStore::random(7, &Device::Cpu);
    UNet::load(&store.params(), &config).unwrap();
    let weights = unet.join("diffusion_pytorch_model.safetensors");
    store.save(&weights, DType::F32).unwrap();
    folder
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
    same_pictures(small().path(), &settings, &kinds);
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
    let folder = small();
    let model = TchStableDiffusion::from_files(&open(folder.path()), None).unwrap();
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

#[test]
fn a_unet_whose_transformers_norm_in_other_groups_is_refused() {
    let refused = TchStableDiffusion::from_files(&open(&fixture()), None);
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("2 groups, only such of 32"), "{message}");
}
