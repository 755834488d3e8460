//! CLIPSeg-rd64 at full size (352 pixels, ViT-B/16, random weights) on photos of tiny-coco,
//! with their own captions as phrases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use negkit_clipseg::{ClipSeg, ClipSegConfig};
use negkit_image::{Limits, PicturePreprocessor, open_rgb};
use negkit_nn::{Compute, Params};
use negkit_shared_data::shared;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use negkit_text::{ClipTextEncoder, TextEncoder, WeightsSource};
use serde::Deserialize;

/// The network sees every fifth photo; all are read and prepared.
const STRIDE: usize = 5;
/// Captions encoded at a time.
const BATCH: usize = 25;

#[derive(Deserialize)]
struct Captions {
    images: Vec<Photo>,
    annotations: Vec<Caption>,
}

#[derive(Deserialize)]
struct Photo {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Caption {
    image_id: u64,
    caption: String,
}

fn tiny_coco() -> Option<PathBuf> {
    let captions = shared("tiny-coco/captions_val2017.json")?;
    Some(captions.with_file_name(""))
}

fn random_text_encoder(compute: &Compute) -> ClipTextEncoder {
    let config = ClipTextConfig::default();
    let params = Params::random(1, compute.dtype, &compute.device);
    let tower = ClipTextTower::load(&params, &config).unwrap();
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let weights = WeightsSource::new("random", None);
    ClipTextEncoder::new(tower, &config, tokenizer, "random ViT-B/16", weights).unwrap()
}

/// The largest memory that this process had so far, as Linux tells it.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".to_owned(), |value| value.trim().to_owned())
}

#[test]
fn every_photo_with_its_own_captions() {
    let Some(folder) = tiny_coco() else { return };
    let captions = fs::read(folder.join("captions_val2017.json")).unwrap();
    let captions: Captions = serde_json::from_slice(&captions).unwrap();
    assert_eq!(captions.images.len(), 50);

    let start = Instant::now();
    let compute = Compute::cpu();
    let text = random_text_encoder(&compute);
    let texts: Vec<&str> = captions.annotations.iter().map(|c| &*c.caption).collect();
    let mut conditions: BTreeMap<u64, Vec<Tensor>> = BTreeMap::new();
    for (batch, owners) in texts.chunks(BATCH).zip(captions.annotations.chunks(BATCH)) {
        let encoding = text.encode(batch).unwrap();
        let projected = encoding.projected.unwrap();
        for (i, owner) in owners.iter().enumerate() {
            let of_photo = conditions.entry(owner.image_id).or_default();
            of_photo.push(projected.get(i).unwrap());
            assert!(!encoding.tokens[i].truncated, "{}", owner.caption);
        }
    }
    let config = ClipSegConfig::default();
    println!(
        "{} captions encoded in {:.1} s",
        texts.len(),
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let model = ClipSeg::random(
        &config,
        Arc::new(text),
        PicturePreprocessor::clipseg(352),
        0,
        &compute,
    )
    .unwrap();
    println!("model made in {:.1} s", start.elapsed().as_secs_f64());

    let clip = PicturePreprocessor::clip(224);
    let mut slowest: f64 = 0.;
    let photos = Instant::now();
    for (number, photo) in captions.images.iter().enumerate() {
        let start = Instant::now();
        let path = folder.join("val2017").join(&photo.file_name);
        let picture = open_rgb(&path, &Limits::default()).unwrap();
        assert_eq!(picture.dimensions(), (photo.width, photo.height));

        let pixels = clip.apply(&picture).unwrap();
        assert_eq!(pixels.dim(), (3, 224, 224));
        // Black and white, less the mean, over the deviation.
        assert!(pixels.iter().all(|x| (-1.8..2.2).contains(x)));

        if number % STRIDE != 0 {
            continue;
        }
        let encoded = model.encode_picture(&picture).unwrap();
        let of_photo = Tensor::stack(&conditions[&photo.id], 0).unwrap();
        let found = model.segment(&encoded, &of_photo).unwrap();
        assert_eq!(found.len(), conditions[&photo.id].len());
        for segmentation in &found {
            assert_eq!(segmentation.resolution(), (352, 352));
            assert!(segmentation.logits().iter().all(|x| x.is_finite()));
            let mask = segmentation.mask(0.5).unwrap();
            assert_eq!((mask.width(), mask.height()), picture.dimensions());
        }
        // Phrases are heard: no two captions of a photo give the same logits.
        let differs = found.windows(2).all(|w| w[0].logits() != w[1].logits());
        assert!(differs, "{}", photo.file_name);
        slowest = slowest.max(start.elapsed().as_secs_f64());
    }
    let shown = captions.images.len().div_ceil(STRIDE);
    println!(
        "{shown} photos with 5 phrases: {:.2} s a photo, at most {slowest:.2} s; peak memory {}",
        photos.elapsed().as_secs_f64() / shown as f64,
        peak_memory()
    );
}

#[test]
fn extract_layers_that_do_not_exist_are_an_error() {
    // Found when a picture is encoded: an error, and no panic.
    let compute = Compute::cpu();
    let mut config = ClipSegConfig {
        extract_layers: vec![0, 9],
        reduce_dim: 8,
        decoder_intermediate_size: 8,
        ..ClipSegConfig::default()
    };
    config.vision_config.num_hidden_layers = 1;
    config.vision_config.hidden_size = 24;
    config.vision_config.intermediate_size = 24;
    config.text_config.num_hidden_layers = 0;
    let text_config = ClipTextConfig {
        num_hidden_layers: 0,
        hidden_size: 8,
        num_attention_heads: 1,
        ..ClipTextConfig::default()
    };
    let params = Params::random(1, compute.dtype, &Device::Cpu);
    let tower = ClipTextTower::load(&params, &text_config).unwrap();
    let text = ClipTextEncoder::new(
        tower,
        &text_config,
        ClipTokenizer::built_in().unwrap(),
        "tiny",
        WeightsSource::new("random", None),
    )
    .unwrap();
    let preprocess = PicturePreprocessor::clipseg(32);
    let model = ClipSeg::random(&config, Arc::new(text), preprocess, 0, &compute).unwrap();
    let error = model.encode_picture(&image::RgbImage::new(32, 32));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("layer 9"), "{error}");
}
