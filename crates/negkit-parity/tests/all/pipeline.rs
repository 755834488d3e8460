//! What holds for the pipelines whatever the weights: properties that no reference output shows.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit::segment;
use negkit::txt2img::{self, NamedEncoder};
use negkit_clip::Clip;
use negkit_clipseg::{ClipSeg, ClipSegError, ClipSegFiles};
use negkit_diffusion::{
    DiffusionError, GeneratedPicture, OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions,
    Residency, SamplingSettings, StableDiffusion,
};
use negkit_nn::{Compute, Products};
use negkit_text::{
    ClipFiles, EncoderInfo, PromptTokens, TextEncoder, TextEncoding, TextError, WeightsSource,
};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

fn weights(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models");
    fixtures.join("weights").join(name)
}

/// A text encoder of one's own: every prompt gets numbers made of its bytes.
struct Own {
    info: EncoderInfo,
    /// What every number is multiplied by.
    factor: f32,
    calls: AtomicUsize,
    releases: AtomicUsize,
}

impl Own {
    fn new(hidden_size: usize, projection_dim: Option<usize>) -> Self {
        Self {
            info: EncoderInfo {
                name: "own".into(),
                hidden_size,
                projection_dim,
                context_length: 5,
                tokenizer: "bytes".into(),
                weights: WeightsSource::new("made up", None),
            },
            factor: 1.,
            calls: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
        }
    }

    fn values(&self, prompts: &[&str], shape: &[usize]) -> candle_core::Result<Tensor> {
        let each: usize = shape.iter().product();
        let values = prompts.iter().flat_map(|prompt| {
            let seed = prompt
                .bytes()
                .fold(1., |h, b| h * 0.7 + f32::from(b) * 0.01);
            (0..each).map(move |i| (seed * (i + 1) as f32).sin() * self.factor)
        });
        let shape = [&[prompts.len()], shape].concat();
        Tensor::from_iter(values, &Device::Cpu)?.reshape(shape)
    }
}

impl TextEncoder for Own {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let EncoderInfo {
            hidden_size,
            context_length,
            projection_dim,
            ..
        } = self.info;
        Ok(TextEncoding {
            last_hidden_state: self.values(prompts, &[context_length, hidden_size])?,
            pooled: self.values(prompts, &[hidden_size])?,
            projected: projection_dim
                .map(|width| self.values(prompts, &[width]))
                .transpose()?,
            tokens: prompts
                .iter()
                .map(|prompt| PromptTokens {
                    count: prompt.len(),
                    truncated: false,
                    removed_text: None,
                })
                .collect(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.info
    }

    fn release(&self) {
        self.releases.fetch_add(1, Ordering::Relaxed);
    }
}

/// Width of the tiny UNet's context.
const HIDDEN: usize = 16;
/// Projection of the tiny CLIPSegs.
const PROJECTION: usize = 12;

fn load(path: &Path, text: Option<Arc<dyn TextEncoder>>, dtype: DType) -> StableDiffusion {
    let files = PipelineFiles::open(path, &OpenPipeline::default()).unwrap();
    let compute = Compute {
        device: Device::Cpu,
        dtype,
        products: Products::Exact,
    };
    StableDiffusion::from_files(&files, text, &PipelineOptions::new(compute)).unwrap()
}

fn stable_diffusion() -> StableDiffusion {
    load(&weights("sd"), None, DType::F32)
}

fn request(prompt: &str, seed: u64) -> PictureRequest {
    PictureRequest {
        prompt: prompt.into(),
        negative_prompt: String::new(),
        seed,
    }
}

fn settings() -> SamplingSettings {
    SamplingSettings {
        steps: 3,
        width: 24,
        height: 16,
        ..SamplingSettings::default()
    }
}

fn generate(
    model: &StableDiffusion,
    requests: &[PictureRequest],
    settings: &SamplingSettings,
) -> Result<Vec<GeneratedPicture>, DiffusionError> {
    model.generate(requests, settings, None, |_| ControlFlow::Continue(()))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).unwrap().abs().unwrap();
    difference.max_all().unwrap().to_scalar().unwrap()
}

fn mean_difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).unwrap().abs().unwrap();
    difference.mean_all().unwrap().to_scalar().unwrap()
}

#[test]
fn the_callback_ends_the_run() {
    let model = stable_diffusion();
    let requests = [request("a cat", 0), request("no dog", 1)];
    let mut seen = Vec::new();
    let result = model.generate(&requests, &settings(), None, |progress| {
        seen.push((progress.first_picture, progress.step));
        match progress {
            p if p.first_picture == 1 && p.step == 2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    // PNDM makes one call more than it was asked for.
    assert!(matches!(
        result,
        Err(DiffusionError::Cancelled { step: 2, steps: 4 })
    ));
    assert_eq!(seen, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2)]);
    // The model is as good as before.
    assert_eq!(generate(&model, &requests, &settings()).unwrap().len(), 2);
}

#[test]
fn one_network_at_a_time_makes_the_same_pictures() {
    let files = PipelineFiles::open(weights("sd"), &OpenPipeline::default()).unwrap();
    let model = |residency| {
        let options = PipelineOptions {
            residency,
            ..PipelineOptions::new(Compute::cpu())
        };
        StableDiffusion::from_files(&files, None, &options).unwrap()
    };
    let requests = ["a cat", "no dog", "a cat"].map(|prompt| request(prompt, 5));
    let settings = SamplingSettings {
        batch_size: 2,
        ..settings()
    };
    let run = |residency| {
        let own = Arc::new(Own::new(HIDDEN, None));
        let encoders: [NamedEncoder; 2] =
            [("own".into(), Some(own.clone())), ("stock".into(), None)];
        let mut model = model(residency);
        let mut seen = Vec::new();
        let runs = txt2img::run(&mut model, &encoders, &requests, &settings, None, |at| {
            let preview = at.model.decode(at.step.latents).unwrap();
            assert_eq!(preview.dims()[0], at.step.pictures);
            seen.push((at.encoder, at.step.first_picture, at.step.step));
            ControlFlow::Continue(())
        });
        let pictures: Vec<_> = runs.unwrap().into_iter().flat_map(|r| r.pictures).collect();
        let (calls, releases) = (&own.calls, &own.releases);
        let counts = [calls, releases].map(|count| count.load(Ordering::Relaxed));
        (pictures, seen, counts)
    };
    let (kept, steps, counts) = run(Residency::Kept);
    assert_eq!(counts, [1, 0]);
    let (released, same_steps, counts) = run(Residency::OneAtATime);
    assert_eq!((same_steps, counts), (steps, [1, 1]));
    assert_eq!(kept.len(), 6);
    for (a, b) in kept.iter().zip(&released) {
        assert_eq!(a.request, b.request);
        assert_eq!(largest_difference(&a.values, &b.values), 0.);
        assert_eq!(largest_difference(&a.latents, &b.latents), 0.);
    }
    // Alone, and again, when everything has been taken out of memory.
    let model = model(Residency::OneAtATime);
    for _ in 0..2 {
        let made = generate(&model, &requests, &settings).unwrap();
        for (a, b) in kept[3..].iter().zip(&made) {
            assert_eq!(largest_difference(&a.values, &b.values), 0.);
        }
    }
}

#[test]
fn a_run_that_ends_early_leaves_the_models_own_encoder() {
    let mut model = stable_diffusion();
    let own = model.text().info().name.clone();
    let encoder =
        |hidden| -> NamedEncoder { ("own".into(), Some(Arc::new(Own::new(hidden, None)))) };
    let requests = [request("a cat", 0)];
    for (encoders, breaks, part) in [
        (vec![encoder(HIDDEN)], true, "cancelled at step 1"),
        (vec![encoder(HIDDEN), encoder(3)], false, "hidden size is 3"),
        (vec![], false, "no text encoder"),
    ] {
        let result =
            txt2img::run(
                &mut model,
                &encoders,
                &requests,
                &settings(),
                None,
                |_| match breaks {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                },
            );
        let error = result.err().expect("it ended well").to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(model.text().info().name, own);
    }
}

#[test]
fn an_encoder_of_ones_own_is_taken_where_it_fits() {
    let compute = Compute::cpu();
    let mut model = load(
        &weights("sd"),
        Some(Arc::new(Own::new(HIDDEN, None))),
        DType::F32,
    );
    let requests = [request("a cat", 0), request("no dog", 0)];
    let made = generate(&model, &requests, &settings()).unwrap();
    assert!(largest_difference(&made[0].values, &made[1].values) > 0.01);
    let refused = |error: String, parts: &[&str]| {
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    };
    let parts = [
        "own",
        "UNet",
        "hidden size is 24",
        "cross_attention_dim is 16",
    ];
    let wide: Arc<dyn TextEncoder> = Arc::new(Own::new(24, Some(PROJECTION)));
    let files = PipelineFiles::open(weights("sd"), &OpenPipeline::default()).unwrap();
    let options = PipelineOptions::new(compute.clone());
    let error = StableDiffusion::from_files(&files, Some(wide.clone()), &options).err();
    refused(error.unwrap().to_string(), &parts);
    refused(
        model.set_text_encoder(wide).unwrap_err().to_string(),
        &parts,
    );
    // The refused encoder has not been put in.
    assert_eq!(model.text().info().hidden_size, HIDDEN);

    let files = ClipSegFiles::open(weights("clipseg-rd64"), None).unwrap();
    let segment = |encoder: Own| ClipSeg::from_files(&files, Some(Arc::new(encoder)), &compute);
    // The hidden size does not matter to CLIPSeg.
    let mut model = segment(Own::new(99, Some(PROJECTION))).unwrap();
    let found = model.segment_phrases(&photo(), &["a", "b"]).unwrap();
    assert_ne!(found[0], found[1]);
    let parts = [
        "own",
        "CLIPSeg decoder",
        "projection is 13",
        "projection_dim is 12",
    ];
    refused(
        segment(Own::new(99, Some(13))).err().unwrap().to_string(),
        &parts,
    );
    let none = ["has no projection", "12"];
    refused(
        segment(Own::new(PROJECTION, None))
            .err()
            .unwrap()
            .to_string(),
        &none,
    );
    let error = model.set_text_encoder(Arc::new(Own::new(99, Some(13))));
    refused(error.unwrap_err().to_string(), &parts);

    let files = ClipFiles::open(weights("clip-hf")).unwrap();
    let clip = |projection| Clip::from_files(&files, Arc::new(Own::new(9, projection)), &compute);
    let similarity = clip(Some(20)).unwrap().similarity(&[&photo()], &["a", "b"]);
    assert_eq!(similarity.unwrap().dims(), [1, 2]);
    let parts = [
        "CLIP vision tower",
        "projection is 21",
        "projection_dim is 20",
    ];
    refused(clip(Some(21)).err().unwrap().to_string(), &parts);
}

/// Gives other shapes than its description promises.
struct Liar(EncoderInfo);

impl TextEncoder for Liar {
    fn encode(&self, _: &[&str]) -> Result<TextEncoding, TextError> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        Ok(TextEncoding {
            last_hidden_state: zeros(&[1, 5, 7])?,
            pooled: zeros(&[1, 7])?,
            projected: None,
            tokens: Vec::new(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.0
    }
}

#[test]
fn an_encoder_that_breaks_its_word_is_an_error() {
    let info = Own::new(HIDDEN, Some(PROJECTION)).info;
    let model = load(
        &weights("sd"),
        Some(Arc::new(Liar(info.clone()))),
        DType::F32,
    );
    let result = generate(&model, &[request("a cat", 0)], &settings());
    assert!(result.is_err());
    let files = ClipSegFiles::open(weights("clipseg-rd64"), None).unwrap();
    let model = ClipSeg::from_files(&files, Some(Arc::new(Liar(info))), &Compute::cpu()).unwrap();
    assert!(model.segment_phrases(&photo(), &["a", "b"]).is_err());
}

fn copy_folder(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let to = target.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The tensors of a safetensors file.
struct Stored(Vec<u8>);

impl Stored {
    fn read(path: &Path) -> Self {
        Self(fs::read(path).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let mut names: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Writes the file with every value of one tensor NaN. (All bits set are NaN in every float
    /// type.)
    fn write_with_nan(&self, broken: &str, path: &Path) {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let nan = vec![0xff; tensors.tensor(broken).unwrap().data().len()];
        let views: BTreeMap<String, TensorView<'_>> = tensors
            .iter()
            .map(|(name, view)| {
                let data = if name == broken { &nan } else { view.data() };
                let view = TensorView::new(view.dtype(), view.shape().to_vec(), data);
                (name.to_owned(), view.unwrap())
            })
            .collect();
        // The old file may be mapped into memory: it is replaced, not overwritten.
        fs::remove_file(path).unwrap();
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

#[test]
fn weights_that_are_nan_never_make_a_picture() {
    let folder = TempDir::new().unwrap();
    let one_step = SamplingSettings {
        steps: 1,
        width: 16,
        ..settings()
    };
    for part in [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ] {
        let model = folder.path().join("sd");
        copy_folder(&weights("sd"), &model);
        let stored = Stored::read(&model.join(part));
        // The encoder of the VAE takes no part, and position_ids are no weights.
        let unused = [
            "encoder.",
            "quant_conv.",
            "text_model.embeddings.position_ids",
        ];
        let names = stored.names().into_iter();
        let names: Vec<String> = names
            .filter(|name| part.starts_with("unet") || !unused.iter().any(|u| name.starts_with(u)))
            .collect();
        assert!(names.len() > 20, "{part}: {names:?}");
        // A prime, so that every kind of tensor has its turn.
        for name in names.iter().step_by(5) {
            stored.write_with_nan(name, &model.join(part));
            let model = load(&model, None, DType::F32);
            let made = generate(&model, &[request("a cat", 3)], &one_step);
            assert!(
                matches!(made, Err(DiffusionError::NotFinite { seed: 3, .. })),
                "{part}, {name}: {:?}",
                made.map(|made| made.len())
            );
        }
    }
}

fn photo() -> RgbImage {
    RgbImage::from_fn(50, 30, |x, y| {
        image::Rgb([(x * 5) as u8, (y * 8) as u8, ((x * y) % 251) as u8])
    })
}

fn clipseg(path: &Path, encoder: Own) -> ClipSeg {
    let files = ClipSegFiles::open(path, None).unwrap();
    ClipSeg::from_files(&files, Some(Arc::new(encoder)), &Compute::cpu()).unwrap()
}

#[test]
fn weights_that_are_nan_never_make_a_mask() {
    let folder = TempDir::new().unwrap();
    for name in ["clipseg-rd64", "clipseg-refined"] {
        let model = folder.path().join(name);
        copy_folder(&weights(name), &model);
        let preprocessor = r#"{"image_processor_type": "ViTImageProcessor",
            "size": {"height": 32, "width": 32}}"#;
        fs::write(model.join("preprocessor_config.json"), preprocessor).unwrap();
        let file = model.join("model.safetensors");
        let stored = Stored::read(&file);
        let unused = |name: &str| {
            [
                "text_",
                "logit_scale",
                "post_layernorm",
                "visual_projection",
                "position_ids",
            ]
            .iter()
            .any(|part| name.contains(part))
        };
        let names = stored.names().into_iter();
        let names: Vec<String> = names.filter(|name| !unused(name)).collect();
        assert!(names.len() > 150, "{names:?}");
        for tensor in &names {
            stored.write_with_nan(tensor, &file);
            let model = clipseg(&model, Own::new(1, Some(PROJECTION)));
            let found = model.segment_phrases(&photo(), &["a", "b"]);
            assert!(
                matches!(found, Err(ClipSegError::NotFinite { condition: 0, .. })),
                "{name}, {tensor}: {:?}",
                found.map(|found| found.len())
            );
        }
    }
    // Nor does a text encoder that gives NaN or infinity.
    for factor in [f32::NAN, f32::INFINITY] {
        let broken = Own {
            factor,
            ..Own::new(1, Some(PROJECTION))
        };
        let found = clipseg(&weights("clipseg-rd64"), broken).segment_phrases(&photo(), &["a"]);
        assert!(matches!(found, Err(ClipSegError::NotFinite { .. })));
        let broken = Own {
            factor,
            ..Own::new(HIDDEN, None)
        };
        let model = load(&weights("sd"), Some(Arc::new(broken)), DType::F32);
        let made = generate(&model, &[request("a", 0)], &settings());
        assert!(matches!(made, Err(DiffusionError::NotFinite { .. })));
    }
}

#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let model = stable_diffusion();
    // Prompts of different lengths, one prompt twice, and different negative prompts.
    let mut requests = vec![
        request("a cat", 0),
        request("a room with no chairs and no tables and no lamps", 1),
        request("a cat", 2),
        request("", 0),
    ];
    requests[2].negative_prompt = "blurry".into();
    let batched = |batch_size| {
        let settings = SamplingSettings {
            batch_size,
            scheduler: Some("euler-a".parse().unwrap()),
            ..settings()
        };
        generate(&model, &requests, &settings).unwrap()
    };
    let one = batched(1);
    for size in [2, 3, 4, 100] {
        for (alone, among) in one.iter().zip(batched(size)) {
            assert_eq!(alone.request, among.request);
            let latents = largest_difference(&alone.latents, &among.latents);
            let values = largest_difference(&alone.values, &among.values);
            assert!(
                latents < 1e-4 && values < 1e-4,
                "{size}: {latents}, {values}"
            );
        }
    }
    assert!(largest_difference(&one[0].values, &one[2].values) > 0.01);
}

#[test]
fn half_precision_is_near() {
    let requests = [request("a cat", 0), request("no dog", 1)];
    let made =
        |dtype| generate(&load(&weights("sd"), None, dtype), &requests, &settings()).unwrap();
    let exact = made(DType::F32);
    // Mean difference of values from 0 to 1; 8 bits of significand instead of 11.
    for (dtype, tolerance) in [(DType::F16, 0.005), (DType::BF16, 0.04)] {
        for (exact, half) in exact.iter().zip(made(dtype)) {
            let mean = mean_difference(&exact.values, &half.values);
            println!("Stable Diffusion, {dtype:?}: {mean:.5}");
            assert!(mean > 0. && mean < tolerance, "{dtype:?}: {mean}");
        }
    }
    let files = ClipSegFiles::open(weights("clipseg-rd64"), None).unwrap();
    let probabilities = |dtype| {
        let compute = Compute {
            device: Device::Cpu,
            dtype,
            products: Products::Exact,
        };
        let text = Arc::new(Own::new(1, Some(PROJECTION)));
        let model = ClipSeg::from_files(&files, Some(text), &compute).unwrap();
        model.segment_phrases(&photo(), &["a"]).unwrap()[0].probabilities()
    };
    let exact = probabilities(DType::F32);
    for (dtype, tolerance) in [(DType::F16, 0.005), (DType::BF16, 0.04)] {
        let half = probabilities(dtype);
        let sum: f32 = exact.iter().zip(&half).map(|(a, b)| (a - b).abs()).sum();
        let mean = sum / exact.len() as f32;
        println!("CLIPSeg, {dtype:?}: {mean:.5}");
        assert!(mean > 0. && mean < tolerance, "{dtype:?}: {mean}");
    }
}

#[test]
fn many_phrases_give_what_each_gives_alone() {
    // More than are decoded at a time.
    let phrases: Vec<String> = (0..37).map(|i| format!("phrase number {i}")).collect();
    let phrases: Vec<&str> = phrases.iter().map(String::as_str).collect();
    for name in ["clipseg-rd64", "clipseg-refined", "clipseg-rd16"] {
        let model = clipseg(&weights(name), Own::new(1, Some(PROJECTION)));
        let encoded = model.encode_picture(&photo()).unwrap();
        assert_eq!(encoded.size(), (50, 30));
        let all = model.segment_phrases(&photo(), &phrases).unwrap();
        assert_eq!(all.len(), phrases.len());
        for (phrase, among) in phrases.iter().zip(&all) {
            // The same encoded picture serves every phrase, and is not used up.
            let condition = model.encode_phrases(&[phrase]).unwrap();
            let alone = &model.segment(&encoded, &condition).unwrap()[0];
            assert_eq!(alone.resolution(), among.resolution());
            let pairs = alone.logits().iter().zip(among.logits());
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0., f32::max);
            let scale = alone.logits().iter().map(|x| x.abs()).fold(1., f32::max);
            assert!(largest <= 1e-5 * scale, "{name}, {phrase}: {largest}");
        }
        assert_ne!(all[0], all[1]);
        assert!(
            model
                .segment_phrases(&photo(), &[])
                .is_ok_and(|found| found.is_empty())
        );
    }
}

#[test]
fn several_encoders_are_asked_once_each_and_the_own_one_is_back() {
    let mut model = clipseg(&weights("clipseg-rd64"), Own::new(1, Some(PROJECTION)));
    let (first, second) = (
        Arc::new(Own::new(2, Some(PROJECTION))),
        Arc::new(Own {
            factor: -2.,
            ..Own::new(3, Some(PROJECTION))
        }),
    );
    let encoders: Vec<NamedEncoder> = vec![
        ("first".into(), Some(first.clone())),
        ("own".into(), None),
        ("second".into(), Some(second.clone())),
    ];
    let runs = segment::run(&mut model, &encoders, &photo(), &["a", "b", "c"]).unwrap();
    assert_eq!(runs.len(), 3);
    assert_eq!(first.calls.load(Ordering::Relaxed), 1);
    assert_eq!(second.calls.load(Ordering::Relaxed), 1);
    // The first gives what the model's own gives, the second something else.
    assert_eq!(runs[0].segmentations, runs[1].segmentations);
    assert_ne!(runs[0].segmentations, runs[2].segmentations);
    assert_eq!(model.text().info().hidden_size, 1);

    let misfit: NamedEncoder = ("misfit".into(), Some(Arc::new(Own::new(4, Some(5)))));
    let encoders = [encoders[0].clone(), misfit];
    assert!(segment::run(&mut model, &encoders, &photo(), &["a"]).is_err());
    assert_eq!(model.text().info().hidden_size, 1);
}
