//! A few dozen steps on trivial data: the loss falls, and the folder that is written gives in the
//! engine what the model in training gives.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_clipseg::decoder::ClipSegDecoder;
use negkit_clipseg::{ClipSeg, ClipSegConfig, ClipSegFiles, Segmentation, extract};
use negkit_diffusion::unet::{DownBlockType, PerBlock, UNet, UNetConfig, UpBlockType};
use negkit_diffusion::vae::{Vae, VaeConfig, VaeTiling};
use negkit_diffusion::{
    OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions, SamplingSettings,
    StableDiffusion, load_vae, open_vae_folder,
};
use negkit_nn::{AttentionBudget, Compute};
use negkit_text::ClipTextEncoder;
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use negkit_train::tasks::diffusion::{
    CaptionedLatents, DiffusionSettings, DiffusionTask, LatentTable, PipelineParts,
    export_pipeline, unet_init, zero_snr_schedule,
};
use negkit_train::tasks::grounding::{CellLabels, GroundingSettings};
use negkit_train::tasks::pictures::{PackedPictures, Pictures, signed_pixels};
use negkit_train::tasks::segmentation::{
    FrozenClip, PhraseMasks, SegmentationSettings, SegmentationTask, decoder_init, export_clipseg,
};
use negkit_train::tasks::vae::{
    VaeSettings, VaeTask, encode_pictures, export_vae, scaling_factor, vae_parameters,
};
use negkit_train::{Init, ParamStore, Schedule, Task, TrainError, TrainSettings, train};

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
    let store = vae_parameters(1, &vae_config(), &Device::Cpu).unwrap();
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
    let (store, config, before, after) = trained_vae(folder.path(), 100);
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

#[test]
fn latents_learn_to_tell_what_stands_where() {
    let folder = tempfile::tempdir().unwrap();
    let squares = || NamedSquares(PackedPictures::new(squares(), (SIDE, SIDE)).unwrap());
    let store = vae_parameters(1, &vae_config(), &Device::Cpu).unwrap();
    let options = |grounding| VaeSettings {
        batch_size: 8,
        validation_pictures: 16,
        grounding,
        ..VaeSettings::default()
    };
    let grounding = GroundingSettings {
        weight: 0.1,
        noise: 0.3,
        grid: 8,
        kinds: 2,
        colours: 2,
    };
    let (both, told) = ((squares(), squares()), options(Some(grounding.clone())));
    let task = VaeTask::new(&store, &vae_config(), both, told).unwrap();
    assert_eq!(score(&task.validate().unwrap(), "things"), 0.);
    let settings = TrainSettings {
        parts: 2,
        ..settings(150, 3e-3)
    };
    train(&store, &task, &settings, &folder.path().join("run")).unwrap();
    let things = score(&task.validate().unwrap(), "things");
    assert!(things > 0.9, "{things}");

    export_vae(&store, &vae_config(), &folder.path().join("vae")).unwrap();
    let (weights, _) = open_vae_folder(&folder.path().join("vae")).unwrap();
    let names = negkit_nn::TensorSource::names(&*weights);
    assert!(!names.is_empty() && names.iter().all(|name| !name.starts_with("grounding")));

    // Pictures that nothing is known of cannot teach it.
    let unknown = || PackedPictures::new(vec![0; 3 * SIDE * SIDE], (SIDE, SIDE)).unwrap();
    let (both, told) = ((unknown(), unknown()), options(Some(grounding)));
    let task = VaeTask::new(&store, &vae_config(), both, told).unwrap();
    let refused = task.batch(0).unwrap_err().to_string();
    assert!(refused.contains("what stands where"), "{refused}");
}

/// A CLIP of random weights with the tokenizer of a fixture, in the layout of transformers.
fn random_clip(folder: &Path) {
    let text = ClipTextConfig {
        vocab_size: 560,
        hidden_size: 24,
        intermediate_size: 48,
        projection_dim: 20,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        max_position_embeddings: 12,
        eos_token_id: 559,
        ..ClipTextConfig::default()
    };
    let vision = ClipVisionConfig {
        hidden_size: 24,
        intermediate_size: 48,
        projection_dim: 20,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        image_size: SIDE,
        patch_size: 4,
        ..ClipVisionConfig::default()
    };
    // Embeddings as large as what they are added to, so that texts and places differ at all.
    let store = ParamStore::random_with(5, &Device::Cpu, |name, _| {
        name.contains("embedding.weight")
            .then_some(Init::Normal { deviation: 0.5 })
    });
    store.get("text_projection.weight", (20, 24)).unwrap();
    ClipTextTower::load(&store.params(), &text).unwrap();
    ClipVisionTower::load(&store.params(), &vision).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    store
        .save(&folder.join("model.safetensors"), DType::F16)
        .unwrap();
    let config = serde_json::json!({
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 20,
        "text_config": text,
        "vision_config": vision,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../eval/parity/fixtures/models/weights/sd/tokenizer");
    for file in std::fs::read_dir(tokenizer).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
}

fn unet_config() -> UNetConfig {
    UNetConfig {
        sample_size: Some(4),
        in_channels: 4,
        out_channels: 4,
        down_block_types: vec![DownBlockType::CrossAttn, DownBlockType::Plain],
        up_block_types: vec![UpBlockType::Plain, UpBlockType::CrossAttn],
        block_out_channels: vec![32, 32],
        layers_per_block: 1,
        norm_num_groups: 4,
        cross_attention_dim: 24,
        attention_head_dim: PerBlock::One(2),
        ..UNetConfig::default()
    }
}

/// Flat latents, of which the caption tells the sign: +1.5 or -1.5, far from the noise's mean.
fn flat_latents() -> LatentTable {
    let walls = [
        (1.5, ["a bright wall", "bright"]),
        (-1.5, ["a dark wall", "dark"]),
    ];
    let walls: Vec<_> = walls.iter().cycle().take(32).collect();
    let values = walls.iter().flat_map(|(value, _)| [*value; 4 * 4 * 4]);
    let captions = walls
        .iter()
        .map(|(_, both)| both.map(str::to_owned).to_vec());
    LatentTable::new(values.collect(), [4, 4, 4], 1., captions.collect()).unwrap()
}

#[test]
fn a_unet_learns_and_paints_the_same_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    random_clip(&at("clip"));
    // Any autoencoder of the right channels: this test looks at latents.
    let vae = ParamStore::random(2, &Device::Cpu);
    Vae::load(&vae.params(), &four_times_smaller()).unwrap();
    export_vae(&vae, &four_times_smaller(), &at("vae")).unwrap();

    let store = ParamStore::random_with(3, &Device::Cpu, unet_init);
    let text = Arc::new(ClipTextEncoder::load(at("clip"), &Compute::cpu()).unwrap());
    let scheduler = zero_snr_schedule().unwrap();
    let options = DiffusionSettings {
        batch_size: 16,
        validation_pictures: 32,
        ..DiffusionSettings::default()
    };
    let data = (flat_latents(), flat_latents());
    let config = unet_config();
    let task = DiffusionTask::new(&store, &config, &scheduler, text, data, options).unwrap();
    let before = score(&task.validate().unwrap(), "loss");
    let settings = TrainSettings {
        warmup: 10,
        schedule: Schedule::Cosine { floor: 0.1 },
        ..settings(150, 6e-3)
    };
    train(&store, &task, &settings, &at("run")).unwrap();
    let after = score(&task.validate().unwrap(), "loss");
    assert!(after < before / 3., "loss {before} -> {after}");

    let (vae, clip) = (at("vae"), at("clip"));
    let parts = PipelineParts {
        unet: &store,
        unet_config: &config,
        scheduler: &scheduler,
        vae: &vae,
        clip: &clip,
    };
    export_pipeline(parts, &at("sd")).unwrap();
    let files = PipelineFiles::open(at("sd"), &OpenPipeline::default()).unwrap();
    let options = PipelineOptions::new(Compute::cpu());
    let model = StableDiffusion::from_files(&files, None, &options).unwrap();

    let sample = Tensor::randn(0f32, 1., (2, 4, 4, 4), &Device::Cpu).unwrap();
    let context = Tensor::randn(0f32, 1., (2, 12, 24), &Device::Cpu).unwrap();
    let run = |unet: &UNet| unet.forward(&sample, &[999., 20.], &context).unwrap();
    let (trained, published) = (run(task.unet()), run(&model.unet().unwrap()));
    let size = trained.abs().unwrap().max_all().unwrap();
    let size: f32 = size.to_scalar().unwrap();
    assert!(largest_difference(&trained, &published) < F16_TOLERANCE * size.max(1.));

    // From pure noise to latents whose mean is far from it, as their text says.
    for (prompt, sign) in [("a bright wall", 1.), ("dark", -1.)] {
        let request = PictureRequest {
            prompt: prompt.to_owned(),
            negative_prompt: String::new(),
            seed: 7,
        };
        let settings = SamplingSettings {
            steps: 20,
            guidance_scale: 2.,
            width: SIDE,
            height: SIDE,
            ..SamplingSettings::default()
        };
        let made = model.generate(&[request], &settings, None, |_| ControlFlow::Continue(()));
        let mean = made.unwrap()[0].latents.mean_all().unwrap();
        let mean: f32 = mean.to_scalar().unwrap();
        assert!(mean * sign > 0.75, "{prompt}: mean latent {mean}");
    }
}

/// Those latents, with a thing in the upper half: a bright one of kind 1, a dark one of kind 2.
struct Furnished(LatentTable);

impl CaptionedLatents for Furnished {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.0.shape()
    }

    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError> {
        self.0.read(index, latents)
    }

    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        self.0.caption(index, choice)
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        let kind = |index: usize| 1 + (index % 2) as u32;
        let pictures = indices.iter().map(|&index| kind(index));
        let kinds = pictures.flat_map(|kind| (0..64).map(move |cell| kind * u32::from(cell < 32)));
        let kinds: Vec<u32> = kinds.collect();
        let colours = kinds.iter().map(|kind| u32::from(*kind == 1)).collect();
        Ok(CellLabels { kinds, colours })
    }
}

#[test]
fn a_unet_learns_on_and_names_what_stands_where() {
    let folder = tempfile::tempdir().unwrap();
    random_clip(&folder.path().join("clip"));
    let clip = folder.path().join("clip");
    let text = Arc::new(ClipTextEncoder::load(&clip, &Compute::cpu()).unwrap());
    let (scheduler, config) = (zero_snr_schedule().unwrap(), unet_config());
    let grounding = |grid| DiffusionSettings {
        batch_size: 16,
        validation_pictures: 32,
        grounding: Some(GroundingSettings {
            weight: 0.2,
            noise: 0.,
            grid,
            kinds: 2,
            colours: 1,
        }),
        ..DiffusionSettings::default()
    };
    let furnished = || (Furnished(flat_latents()), Furnished(flat_latents()));

    // A UNet of an earlier training has no head for it, and begins as good as it was.
    let before = ParamStore::random_with(3, &Device::Cpu, unet_init);
    let plain = DiffusionSettings {
        grounding: None,
        ..grounding(8)
    };
    let alone = DiffusionTask::new(
        &before,
        &config,
        &scheduler,
        text.clone(),
        furnished(),
        plain,
    );
    let alone = score(&alone.unwrap().validate().unwrap(), "loss");
    let path = folder.path().join("before.safetensors");
    before.save(&path, DType::F32).unwrap();
    let before = negkit_checkpoint::Checkpoint::open(&path).unwrap();
    let store = ParamStore::from_tensors(Arc::new(before), &Device::Cpu).unwrap();
    let made = |data, grid| {
        DiffusionTask::new(
            &store,
            &config,
            &scheduler,
            text.clone(),
            data,
            grounding(grid),
        )
    };
    let task = made(furnished(), 8).unwrap();
    let scores = task.validate().unwrap();
    assert_eq!(score(&scores, "loss"), alone);
    // All logits are zero, and "nothing" is the first of them.
    assert_eq!(score(&scores, "things"), 0.);

    let settings = TrainSettings {
        warmup: 10,
        parts: 2,
        ..settings(100, 6e-3)
    };
    train(&store, &task, &settings, &folder.path().join("run")).unwrap();
    let things = score(&task.validate().unwrap(), "things");
    assert!(things > 0.9, "{things}");

    // What is published is the UNet alone.
    let vae = ParamStore::random(2, &Device::Cpu);
    Vae::load(&vae.params(), &four_times_smaller()).unwrap();
    let vae_folder = folder.path().join("vae");
    export_vae(&vae, &four_times_smaller(), &vae_folder).unwrap();
    let parts = PipelineParts {
        unet: &store,
        unet_config: &config,
        scheduler: &scheduler,
        vae: &vae_folder,
        clip: &clip,
    };
    let names = |path: &Path| {
        let published = negkit_checkpoint::Checkpoint::open(path).unwrap();
        negkit_nn::TensorSource::names(&published)
    };
    let out = folder.path().join("sd");
    export_pipeline(parts, &out).unwrap();
    assert_eq!(names(&out.join("unet")), names(&path));

    let refused = made(furnished(), 6).err().unwrap().to_string();
    assert!(refused.contains("grounding.grid"), "{refused}");
}

fn four_times_smaller() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![8, 8, 8],
        scaling_factor: 1.,
        ..vae_config()
    }
}

/// The squares with the phrases that tell where they are, and their two colours for two kinds of things.
struct NamedSquares(PackedPictures<Vec<u8>>);

impl Pictures for NamedSquares {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn size(&self) -> (usize, usize) {
        self.0.size()
    }

    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError> {
        self.0.read(index, rgb)
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        let label = |index: usize, cell: usize| {
            let own = (index >> 2 & 1, index >> 3 & 1) == (cell / 32, cell % 8 / 4);
            u32::from(own) * (1 + (index >> 1 & 1) as u32)
        };
        let kinds: Vec<u32> = indices
            .iter()
            .flat_map(|&index| (0..64).map(move |cell| label(index, cell)))
            .collect();
        let colours = kinds.clone();
        Ok(CellLabels { kinds, colours })
    }
}

impl PhraseMasks for NamedSquares {
    fn phrase(&self, index: usize, choice: u64, mask: &mut [u8]) -> Result<String, TrainError> {
        let (top, left) = ((index >> 2 & 1) * 8, (index >> 3 & 1) * 8);
        let wanted = choice.is_multiple_of(2);
        for (i, pixel) in mask.iter_mut().enumerate() {
            let (y, x) = (i / SIDE, i % SIDE);
            let inside = (top + 1..top + 7).contains(&y) && (left + 1..left + 7).contains(&x);
            *pixel = u8::from(inside == wanted);
        }
        Ok(if wanted { "square" } else { "the background" }.to_owned())
    }

    fn absent_phrase(&self, _index: usize, _choice: u64) -> Result<String, TrainError> {
        Ok("a wolf".to_owned())
    }
}

#[test]
fn a_segmentation_decoder_learns_and_marks_the_same_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    random_clip(&at("clip"));
    let clip = FrozenClip::open(&at("clip"), 2 * SIDE as u32, &Device::Cpu).unwrap();
    let data = || NamedSquares(PackedPictures::new(squares(), (SIDE, SIDE)).unwrap());
    let config = ClipSegConfig {
        extract_layers: vec![0, 1, 2],
        reduce_dim: 32,
        decoder_num_attention_heads: 4,
        decoder_intermediate_size: 64,
        ..ClipSegConfig::default()
    };
    let store = ParamStore::random_with(4, &Device::Cpu, decoder_init);
    let options = SegmentationSettings {
        pictures: 8,
        validation_pictures: 16,
        ..SegmentationSettings::default()
    };
    let task = SegmentationTask::new(&store, &config, &clip, (data(), data()), options).unwrap();
    let before = score(&task.validate().unwrap(), "loss");
    train(&store, &task, &settings(80, 3e-3), &at("run")).unwrap();
    let scores = task.validate().unwrap();
    let after = score(&scores, "loss");
    assert!(after < before / 3., "loss {before} -> {after}");
    assert!(score(&scores, "iou") > 0.6, "{scores:?}");

    export_clipseg(&store, &config, &clip, &at("clipseg")).unwrap();
    let files = ClipSegFiles::open(at("clipseg"), None).unwrap();
    assert_eq!(files.config(), task.config());
    let model = ClipSeg::from_files(&files, None, &Compute::cpu()).unwrap();
    let trained = ClipSegDecoder::load(&store.detached_params().pp("decoder"), task.config());
    let trained = trained.unwrap();
    let mut rgb = vec![0; 3 * SIDE * SIDE];
    data().read(3, &mut rgb).unwrap();
    let picture = RgbImage::from_raw(SIDE as u32, SIDE as u32, rgb).unwrap();
    let phrases = ["square", "the background", "a wolf"];
    let published = model.segment_phrases(&picture, &phrases).unwrap();

    let pixels = files.preprocess().unwrap().apply(&picture).unwrap();
    let side = 2 * SIDE;
    let pixels = Tensor::from_vec(
        pixels.into_raw_vec_and_offset().0,
        (1, 3, side, side),
        &Device::Cpu,
    );
    let states = extract(model.vision(), &pixels.unwrap(), &config.extract_layers).unwrap();
    let reduced = trained.reduce(&states, (side, side)).unwrap();
    let conditions = model.encode_phrases(&phrases).unwrap();
    let logits = trained.forward(&reduced, &conditions).unwrap();
    for (i, published) in published.iter().enumerate() {
        assert_eq!(published.resolution(), (side, side));
        let published = Tensor::from_slice(published.logits(), (side, side), &Device::Cpu).unwrap();
        let trained = logits.get(i).unwrap();
        let size = trained.abs().unwrap().max_all().unwrap();
        let size: f32 = size.to_scalar().unwrap();
        assert!(largest_difference(&trained, &published) < F16_TOLERANCE * size.max(1.));
    }
    let share = |i: usize| {
        let mask: Segmentation = published[i].clone();
        mask.mask(0.5).unwrap().area() as f64 / (SIDE * SIDE) as f64
    };
    assert!(share(0) > 0.05 && share(0) < 0.3, "square: {}", share(0));
    assert!(share(1) > 0.7, "background: {}", share(1));
    assert!(share(2) < 0.05, "absent: {}", share(2));
}

#[test]
fn numbers_that_a_run_wrote_down_are_read_to_the_last_bit() {
    // The usual fast way is one unit in the last place off here.
    for written in [0.449_393_122_638_471_64, 1. / 3., 5e-324, 0.1 + 0.2] {
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(
            serde_json::from_str::<f64>(&text).unwrap(),
            written,
            "{text}"
        );
    }
}
