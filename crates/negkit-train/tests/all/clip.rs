//! A very small CLIP that learns colours: trained, fine-tuned, written and read again.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::{Rgb, RgbImage};
use negkit_checkpoint::Checkpoint;
use negkit_clip::{Clip, ClipVisionConfig};
use negkit_image::PicturePreprocessor;
use negkit_nn::{Compute, Products, TensorSource};
use negkit_text::tokenizer::ClipTokenizer;
use negkit_text::tower::ClipTextConfig;
use negkit_text::{ClipTextEncoder, TextEncoder};
use negkit_train::tasks::contrastive::{
    ContrastiveBatch, ContrastiveData, ContrastiveModel, ContrastiveTask, Pictures,
    frozen_in_fine_tuning,
};
use negkit_train::tasks::grounding::{CellLabels, GroundingSettings};
use negkit_train::{
    ParamStore, TrainError, TrainSettings, TrainedTokenizer, export_clip,
    export_projected_text_encoder, export_text_encoder, train,
};

const CONTEXT: usize = 16;
const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [200, 40, 40]),
    ("green", [40, 180, 60]),
    ("blue", [40, 70, 210]),
    ("yellow", [230, 210, 50]),
    ("black", [20, 20, 20]),
    ("white", [245, 245, 245]),
];

fn picture(colour: usize) -> RgbImage {
    RgbImage::from_pixel(16, 16, Rgb(COLOURS[colour].1))
}

fn caption(colour: usize) -> String {
    format!("a {} wall", COLOURS[colour].0)
}

fn tokenizer(folder: &Path) -> ClipTokenizer {
    let captions: Vec<String> = (0..COLOURS.len()).map(caption).collect();
    let captions = captions.iter().chain(&captions).map(String::as_str);
    let trained = TrainedTokenizer::train(captions, 540).unwrap();
    trained.write(folder, CONTEXT).unwrap();
    ClipTokenizer::from_folder(folder).unwrap()
}

fn text_config(tokenizer: &ClipTokenizer) -> ClipTextConfig {
    ClipTextConfig {
        vocab_size: tokenizer.info().vocab_size,
        eos_token_id: tokenizer.info().eos.id,
        hidden_size: 32,
        intermediate_size: 64,
        projection_dim: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        max_position_embeddings: CONTEXT,
        ..ClipTextConfig::default()
    }
}

fn vision_config() -> ClipVisionConfig {
    ClipVisionConfig {
        hidden_size: 32,
        intermediate_size: 64,
        projection_dim: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: 16,
        patch_size: 8,
        ..ClipVisionConfig::default()
    }
}

/// Pixels as the vision tower takes them.
fn preprocessed(pictures: &[RgbImage]) -> Result<Tensor, TrainError> {
    let pixels = PicturePreprocessor::clip(16)
        .apply_batch(pictures)
        .map_err(TrainError::other)?;
    let shape = pixels.dim();
    let (values, _) = pixels.into_raw_vec_and_offset();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

struct Walls {
    tokenizer: ClipTokenizer,
    /// Whether "a wall that is not red" and the like stand beside the captions.
    with_hard_texts: bool,
}

impl ContrastiveData for Walls {
    fn batch(&self, _step: u64) -> Result<ContrastiveBatch, TrainError> {
        let pictures: Vec<RgbImage> = (0..COLOURS.len()).map(picture).collect();
        let pixels = preprocessed(&pictures)?;
        let encode = |texts: Vec<String>| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            Ok::<_, TrainError>(self.tokenizer.encode(&texts, CONTEXT)?.ids)
        };
        let texts = encode((0..COLOURS.len()).map(caption).collect())?;
        let negated = |(name, _): (&str, _)| format!("no {name} wall");
        let mut batch = ContrastiveBatch::new(Pictures::Pixels(pixels), texts);
        if self.with_hard_texts {
            batch.hard_texts = encode(COLOURS.into_iter().map(negated).collect())?;
        }
        Ok(batch)
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        Ok(vec![self.batch(0)?])
    }
}

fn settings(steps: u64) -> TrainSettings {
    TrainSettings {
        steps,
        learning_rate: 2e-3,
        ..TrainSettings::default()
    }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    difference.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_clip_is_trained_written_read_and_fine_tuned() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let tokenizer_folder = path("tokenizer");
    let tokenizer = tokenizer(&tokenizer_folder);
    let (text, vision) = (text_config(&tokenizer), vision_config());
    let walls = |with_hard_texts| Walls {
        tokenizer: tokenizer.clone(),
        with_hard_texts,
    };

    let store = ParamStore::random(1, &Device::Cpu);
    let task = ContrastiveTask::new(&store, &text, Some(&vision), walls(false)).unwrap();
    let summary = train(&store, &task, &settings(60), &path("train")).unwrap();
    assert_eq!(summary.metrics[1], ("accuracy".to_owned(), 1.));
    assert!(summary.best.unwrap() < 0.1, "{:?}", summary.best);

    export_clip(&store, &text, &vision, &tokenizer_folder, &path("clip")).unwrap();
    let clip = Clip::load(path("clip"), &Compute::cpu()).unwrap();
    let batch = task.data().batch(0).unwrap();
    let trained = task.model().embed_pictures(&batch.pictures).unwrap();
    let pictures: Vec<RgbImage> = (0..COLOURS.len()).map(picture).collect();
    let pictures: Vec<&RgbImage> = pictures.iter().collect();
    let read = clip.image().encode(&pictures).unwrap();
    let read = negkit_clip::l2_normalize(&read).unwrap();
    // f16 has eleven bits.
    let off = largest_difference(&read, &trained);
    assert!(off < 2e-3, "{off}");
    let scale = task.model().logit_scale.to_scalar::<f32>().unwrap().exp();
    assert!((clip.logit_scale() / scale - 1.).abs() < 2e-3);

    let encoder_folder = path("pipeline/text_encoder");
    let beside = path("pipeline/tokenizer");
    export_text_encoder(
        &store,
        &text,
        &tokenizer_folder,
        &encoder_folder,
        Some(&beside),
    )
    .unwrap();
    std::fs::write(path("pipeline/model_index.json"), "{}").unwrap();
    let encoder = ClipTextEncoder::load(path("pipeline"), &Compute::cpu()).unwrap();
    let captions: Vec<String> = (0..COLOURS.len()).map(caption).collect();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let encoded = encoder.encode(&captions).unwrap();
    assert!(encoded.projected.is_none());
    let trained = task.model().text.forward(&batch.texts).unwrap();
    let off = largest_difference(&encoded.last_hidden_state, &trained.last_hidden_state);
    assert!(off < 2e-2, "{off}");

    // The paper's fine-tuning, on embeddings that were made beforehand, keeps the picture side.
    let checkpoint = Checkpoint::open(path("clip")).unwrap();
    let tuned = ParamStore::from_tensors(Arc::new(checkpoint), &Device::Cpu).unwrap();
    tuned.freeze(frozen_in_fine_tuning);
    let before = tuned.tensors().unwrap();
    let before: Vec<_> = before.iter().map(|(n, t)| (n, t.copy().unwrap())).collect();
    let task = ContrastiveTask::new(&tuned, &text, None, Embedded(walls(true), read)).unwrap();
    let start = task.model().loss(&task.data().batch(0).unwrap()).unwrap();
    let start = start.loss.to_scalar::<f32>().unwrap();
    let summary = train(&tuned, &task, &settings(20), &path("tuned")).unwrap();
    assert!(
        summary.best.unwrap() < f64::from(start),
        "{start} {summary:?}"
    );
    for ((name, before), (_, after)) in before.iter().zip(tuned.tensors().unwrap()) {
        let same = largest_difference(before, &after) == 0.;
        assert_eq!(same, frozen_in_fine_tuning(name), "{name}");
    }
    export_clip(
        &tuned,
        &text,
        &vision,
        &tokenizer_folder,
        &path("tuned-clip"),
    )
    .unwrap();
    Clip::load(path("tuned-clip"), &Compute::cpu()).unwrap();

    // The text side alone says the same as within the whole.
    let alone = path("tuned-text");
    export_projected_text_encoder(&tuned, &text, &tokenizer_folder, &alone).unwrap();
    let encode = |folder: &Path| {
        let encoder = ClipTextEncoder::load(folder, &Compute::cpu()).unwrap();
        encoder.encode(&captions).unwrap()
    };
    let (whole, alone) = (encode(&path("tuned-clip")), encode(&alone));
    let (whole_projected, projected) = (whole.projected.unwrap(), alone.projected.unwrap());
    assert_eq!(largest_difference(&whole_projected, &projected), 0.);
    let off = largest_difference(&whole.last_hidden_state, &alone.last_hidden_state);
    assert_eq!(off, 0.);
}

/// The same texts with picture embeddings instead of pictures.
struct Embedded(Walls, Tensor);

impl ContrastiveData for Embedded {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let pictures = Pictures::Embeddings(self.1.clone());
        Ok(ContrastiveBatch {
            pictures,
            ..self.0.batch(step)?
        })
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        Ok(vec![self.batch(0)?])
    }
}

/// Walls of four stripes, each half as wide as a patch and of another colour.
struct Stripes {
    tokenizer: ClipTokenizer,
    /// Whether batches say which stripe is where.
    labelled: bool,
}

impl Stripes {
    const GRID: usize = 4;

    fn colour(wall: usize, stripe: usize) -> usize {
        (wall + stripe * stripe) % COLOURS.len()
    }
}

impl ContrastiveData for Stripes {
    fn batch(&self, step: u64) -> Result<ContrastiveBatch, TrainError> {
        let pictures: Vec<RgbImage> = (0..COLOURS.len())
            .map(|wall| {
                RgbImage::from_fn(16, 16, |x, _| {
                    Rgb(COLOURS[Self::colour(wall, x as usize / Self::GRID)].1)
                })
            })
            .collect();
        let pixels = preprocessed(&pictures)?;
        let cells = (0..COLOURS.len() * Self::GRID * Self::GRID)
            .map(|cell| Self::colour(cell / (Self::GRID * Self::GRID), cell % Self::GRID));
        let kinds: Vec<u32> = cells.map(|colour| 1 + colour as u32).collect();
        let walls = Walls {
            tokenizer: self.tokenizer.clone(),
            with_hard_texts: false,
        };
        Ok(ContrastiveBatch {
            pictures: Pictures::Pixels(pixels),
            cells: self.labelled.then(|| CellLabels {
                colours: vec![0; kinds.len()],
                kinds,
            }),
            ..walls.batch(step)?
        })
    }

    fn validation(&self) -> Result<Vec<ContrastiveBatch>, TrainError> {
        Ok(vec![self.batch(0)?])
    }
}

#[test]
fn patches_learn_what_stands_below_them() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    let tokenizer_folder = path("tokenizer");
    let tokenizer = tokenizer(&tokenizer_folder);
    let (text, vision) = (text_config(&tokenizer), vision_config());
    let grounding = GroundingSettings {
        weight: 1.,
        noise: 0.,
        grid: Stripes::GRID,
        kinds: COLOURS.len(),
        colours: 1,
    };
    let task = |store: &ParamStore, labelled| {
        let stripes = Stripes {
            tokenizer: tokenizer.clone(),
            labelled,
        };
        ContrastiveTask::new(store, &text, Some(&vision), stripes)
            .unwrap()
            .grounded(store, grounding.clone())
    };
    let learn = |parts: usize, steps: u64, folder: &str| {
        let store = ParamStore::random(1, &Device::Cpu).with_products(Products::Exact);
        let settings = TrainSettings {
            parts,
            ..settings(steps)
        };
        let task = task(&store, true).unwrap();
        (
            train(&store, &task, &settings, &path(folder)).unwrap(),
            store,
        )
    };
    let (whole, store) = learn(1, 100, "whole");
    let metric = |summary: &negkit_train::Summary, wanted: &str| {
        let mut metrics = summary.metrics.iter();
        metrics.find(|(name, _)| name == wanted).unwrap().1
    };
    assert_eq!(metric(&whole, "things"), 1., "{whole:?}");
    assert_eq!(metric(&whole, "accuracy"), 1., "{whole:?}");

    // Parts of one and of two pictures come to the same step as the whole.
    let losses =
        [learn(1, 3, "one"), learn(4, 3, "four")].map(|(summary, _)| summary.best.unwrap());
    assert!((losses[0] - losses[1]).abs() < 1e-4, "{losses:?}");

    // What names the cells is not published, and goes on from a store that has it.
    export_clip(&store, &text, &vision, &tokenizer_folder, &path("clip")).unwrap();
    let published = Checkpoint::open(path("clip")).unwrap();
    assert!(
        published
            .names()
            .iter()
            .all(|name| !name.contains("grounding"))
    );
    Clip::load(path("clip"), &Compute::cpu()).unwrap();
    task(&store, true).unwrap();

    let store = ParamStore::random(1, &Device::Cpu);
    let error = train(
        &store,
        &task(&store, false).unwrap(),
        &settings(1),
        &path("none"),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("what stands where"), "{error}");
    let stripes = Stripes {
        tokenizer: tokenizer.clone(),
        labelled: true,
    };
    let blind = ContrastiveTask::new(&store, &text, None, stripes).unwrap();
    let Err(error) = blind.grounded(&store, grounding.clone()) else {
        panic!("it has no vision tower")
    };
    assert!(error.to_string().contains("no vision tower"), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let work = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(work.path());
    let text = text_config(&tokenizer);
    let store = ParamStore::random(1, &Device::Cpu);
    let model = ContrastiveModel::load(&store.params(), &text, None).unwrap();
    let walls = Walls {
        tokenizer,
        with_hard_texts: false,
    };
    let pixels = model
        .loss(&walls.batch(0).unwrap())
        .unwrap_err()
        .to_string();
    assert!(pixels.contains("no vision tower"), "{pixels}");

    let to = work.path().join("clip");
    let missing = export_clip(&store, &text, &vision_config(), work.path(), &to).unwrap_err();
    let missing = missing.to_string();
    assert!(missing.contains("vision_model."), "{missing}");
    let other = ClipTextConfig {
        eos_token_id: 7,
        ..text.clone()
    };
    let eos = export_clip(&store, &other, &vision_config(), work.path(), &to).unwrap_err();
    assert!(eos.to_string().contains("end-of-text token 7"), "{eos}");
    assert!(!to.exists(), "nothing is written before all is checked");

    // A checkpoint without a text tower says everything that is missing at once.
    let empty = Checkpoint::from_tensors([]).unwrap();
    let empty = ParamStore::from_tensors(Arc::new(empty), &Device::Cpu).unwrap();
    let Err(error) = ContrastiveModel::load(&empty.params(), &text, None) else {
        panic!("it loaded")
    };
    let error = error.to_string();
    for name in ["token_embedding", "layers.1.mlp.fc2", "logit_scale"] {
        assert!(error.contains(name), "{error}");
    }
}
