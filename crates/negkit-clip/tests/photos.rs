//! CLIP on real photos: a tiny vision tower, the photos of tiny-coco, and text encoders of one's own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use image::RgbImage;
use negkit_clip::{Clip, ClipImageEncoder};
use negkit_image::{Limits, open_rgb};
use negkit_nn::Compute;
use negkit_shared_data::shared;
use negkit_text::{
    ClipFiles, EncoderInfo, PromptTokens, TextEncoder, TextEncoding, TextError, WeightsSource,
};
use tempfile::TempDir;

/// Projection of the tiny CLIP.
const PROJECTION: usize = 20;

/// Gives every prompt a vector of its own, made of its bytes.
struct Bytes(EncoderInfo);

impl Bytes {
    fn encoder(projection_dim: Option<usize>) -> Arc<dyn TextEncoder> {
        Arc::new(Self(EncoderInfo {
            name: "bytes".into(),
            hidden_size: PROJECTION,
            projection_dim,
            context_length: 4,
            tokenizer: "none".into(),
            weights: WeightsSource::new("none", None),
        }))
    }
}

impl TextEncoder for Bytes {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        let rows = prompts.iter().flat_map(|prompt| {
            let sum: f32 = prompt.bytes().map(f32::from).sum();
            (0..PROJECTION).map(move |i| (sum * (i + 1) as f32).sin())
        });
        let pooled = Tensor::from_iter(rows, &Device::Cpu)?.reshape((prompts.len(), PROJECTION))?;
        Ok(TextEncoding {
            last_hidden_state: pooled.unsqueeze(1)?,
            projected: Some(pooled.clone()),
            pooled,
            tokens: vec![
                PromptTokens {
                    count: 1,
                    truncated: false,
                    removed_text: None,
                };
                prompts.len()
            ],
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.0
    }
}

fn tiny_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/models/weights/clip-hf")
}

/// A copy of the tiny CLIP that is published with a preprocessing of 48 pixels (the tower itself
/// was made for 12).
fn published() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(tiny_clip().join(name), folder.path().join(name)).unwrap();
    }
    let preprocessor = r#"{"image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}"#;
    fs::write(folder.path().join("preprocessor_config.json"), preprocessor).unwrap();
    folder
}

/// The photos of tiny-coco, or `None` where they are not on this machine.
fn photos() -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(shared("tiny-coco/val2017")?).unwrap();
    let mut photos: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    photos.sort();
    Some(photos)
}

#[test]
fn every_photo_is_compared_with_every_prompt() {
    let Some(paths) = photos() else { return };
    assert_eq!(paths.len(), 50);
    let folder = published();
    let compute = Compute::cpu();
    let files = ClipFiles::open(folder.path()).unwrap();
    let clip = Clip::from_files(&files, Bytes::encoder(Some(PROJECTION)), &compute).unwrap();
    let pictures: Vec<RgbImage> = paths
        .iter()
        .map(|path| open_rgb(path, &Limits::default()).unwrap())
        .collect();
    let pictures: Vec<&RgbImage> = pictures.iter().collect();
    let prompts = ["a cat", "a street without cars", "no dog"];
    let all = clip.similarity(&pictures, &prompts).unwrap();
    assert_eq!(all.dims(), [50, 3]);
    let rows: Vec<Vec<f32>> = all.to_vec2().unwrap();
    for (path, row) in paths.iter().zip(&rows) {
        for cosine in row {
            // Rounding may lead a little beyond 1.
            assert!(cosine.abs() <= 1. + 1e-6, "{}: {cosine}", path.display());
        }
        assert!(row[0] != row[1] && row[1] != row[2], "{}", path.display());
    }
    // A photo does not depend on its batch.
    for (picture, row) in pictures.iter().zip(&rows).step_by(7) {
        let alone = clip.similarity(&[picture], &prompts).unwrap();
        let alone: Vec<Vec<f32>> = alone.to_vec2().unwrap();
        for (a, b) in alone[0].iter().zip(row) {
            assert!((a - b).abs() < 1e-5, "{a} alone, {b} among 50");
        }
    }
}

#[test]
fn the_published_preprocessing_is_taken_for_a_folder_and_for_its_file() {
    let folder = published();
    let compute = Compute::cpu();
    let size = |path: &Path| {
        let encoder = ClipImageEncoder::load(path, &compute).unwrap();
        encoder.preprocess().center_crop
    };
    assert_eq!(size(folder.path()), Some((48, 48)));
    assert_eq!(
        size(&folder.path().join("model.safetensors")),
        Some((48, 48))
    );
    // Without one, it is CLIP's own at the tower's size.
    assert_eq!(size(&tiny_clip()), Some((12, 12)));
}

#[test]
fn a_text_encoder_of_another_projection_is_refused() {
    let files = ClipFiles::open(tiny_clip()).unwrap();
    let error = |projection| {
        let clip = Clip::from_files(&files, Bytes::encoder(projection), &Compute::cpu());
        clip.err().expect("accepted").to_string()
    };
    let other = error(Some(PROJECTION + 1));
    for part in ["bytes", "CLIP vision tower", "projection is 21", "is 20"] {
        assert!(other.contains(part), "{part} is not in {other}");
    }
    let none = error(None);
    assert!(none.contains("has no projection"), "{none}");
}

#[test]
fn no_pictures_are_an_error() {
    let encoder = ClipImageEncoder::load(tiny_clip(), &Compute::cpu()).unwrap();
    assert!(encoder.encode(&[]).is_err());
    let error = encoder.encode(&[&RgbImage::new(0, 5)]).unwrap_err();
    assert!(error.to_string().contains("0x5"), "{error}");
}
