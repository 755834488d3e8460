//! `negkit segment`.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, RgbImage};
use negkit::image::{Mask, Rle};
use serde_json::Value;

use crate::bench::{Bench, Ran, difference, fixture, picture, weights};

fn segment(bench: &Bench, model: &Path, photo: &Path, arguments: &str) -> Ran {
    let mut line = vec!["segment".to_owned(), photo.display().to_string()];
    line.extend(["--offline", "--json", "--model"].map(str::to_owned));
    line.push(model.display().to_string());
    line.extend(arguments.split_whitespace().map(str::to_owned));
    bench.run(line)
}

/// A tiny CLIPSeg that takes pictures of 64 pixels.
fn model(bench: &Bench, name: &str) -> PathBuf {
    let folder = bench.copy_with_tokenizer(name);
    let preprocessor = r#"{"image_processor_type": "ViTImageProcessor", "do_resize": true,
        "size": {"height": 64, "width": 64}, "resample": 2, "do_rescale": true,
        "do_normalize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225]}"#;
    fs::write(folder.join("preprocessor_config.json"), preprocessor).unwrap();
    folder
}

/// A colourful photo of 50 x 30 pixels.
fn photo() -> RgbImage {
    RgbImage::from_fn(50, 30, |x, y| {
        image::Rgb([(x * 5) as u8, (y * 8) as u8, ((x * y) % 251) as u8])
    })
}

fn save(bench: &Bench, name: &str, picture: impl Into<DynamicImage>) -> PathBuf {
    let path = bench.path(name);
    picture.into().save(&path).unwrap();
    path
}

fn rle(record: &Value) -> Mask {
    let rle: Rle = serde_json::from_value(record["segmentation"].clone()).unwrap();
    rle.to_mask().unwrap()
}

/// Checks every file and number of a run against the others.
#[track_caller]
fn check(bench: &Bench, saved: &Value, size: (u32, u32)) {
    for record in saved["segmentations"].as_array().unwrap() {
        let path = |key: &str| bench.path(record[key].as_str().unwrap());
        assert_eq!(picture(&path("overlay")).dimensions(), size);
        let png: GrayImage = image::open(path("mask")).unwrap().into_luma8();
        assert_eq!(png.dimensions(), size);
        assert!(png.as_raw().iter().all(|&s| s == 0 || s == 255));
        let mask = rle(record);
        assert_eq!(mask.to_luma(), png, "the RLE is not the mask in the PNG");
        assert_eq!(record["area"], mask.area());
        let highest = record["max_probability"].as_f64().unwrap();
        assert!((0. ..=1.).contains(&highest), "{highest}");
        let threshold = record["threshold"].as_f64().unwrap();
        assert_eq!(mask.area() > 0, highest > threshold);
    }
    let json = fs::read(bench.path(saved["json"].as_str().unwrap())).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json, saved["segmentations"]);
    let sheet = picture(&bench.path(saved["sheet"].as_str().unwrap()));
    assert!(sheet.width() > size.0 && sheet.height() > size.1);
}

/// A threshold that splits the pixels, so that the mask is neither empty nor full.
fn splitting_threshold(bench: &Bench, model: &Path, photo: &Path) -> f64 {
    let saved = segment(bench, model, photo, "-p dog --threshold 0 --out probe").good();
    let highest = saved.json()["segmentations"][0]["max_probability"].as_f64();
    highest.unwrap() * 0.98
}

#[test]
fn masks_overlays_and_json_agree() {
    let bench = Bench::new();
    let (model, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    let threshold = splitting_threshold(&bench, &model, &photo);
    let arguments = format!("-p dog -p cat --threshold {threshold} --out out");
    let saved = segment(&bench, &model, &photo, &arguments).good().json();
    check(&bench, &saved, (50, 30));
    let records = saved["segmentations"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["phrase"], "dog");
    assert_eq!(records[0]["text_encoder"], "stock");
    let area = records[0]["area"].as_u64().unwrap();
    assert!(0 < area && area < 50 * 30, "{area} of 1500 pixels");
    assert_ne!(records[0]["max_probability"], records[1]["max_probability"]);

    // Everything is above 0, and nothing above 1.
    for (threshold, area) in [(0, 50 * 30), (1, 0)] {
        let arguments = format!("-p dog --threshold {threshold} --out out");
        let saved = segment(&bench, &model, &photo, &arguments).good().json();
        assert_eq!(saved["segmentations"][0]["area"], area);
    }
}

#[test]
fn two_encoders_stand_side_by_side() {
    let bench = Bench::new();
    let (rd64, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    let other = model(&bench, "clipseg-refined");
    let arguments = format!(
        "-p dog -e stock -e {} -e {} --out out",
        other.display(),
        rd64.display()
    );
    let saved = segment(&bench, &rd64, &photo, &arguments).good().json();
    check(&bench, &saved, (50, 30));
    let records = saved["segmentations"].as_array().unwrap();
    assert_eq!(records.len(), 3);
    assert_ne!(records[0]["max_probability"], records[1]["max_probability"]);
    // The model's own folder as the encoder is the model's own encoder.
    assert_eq!(records[0]["max_probability"], records[2]["max_probability"]);
    assert_eq!(
        records[0]["text_encoder_sha256"],
        records[2]["text_encoder_sha256"]
    );

    let narrow = bench.copy_with_tokenizer("clip-hf");
    let arguments = format!("-p dog -e {} --out refused", narrow.display());
    segment(&bench, &rd64, &photo, &arguments).refused(&[
        "does not fit the CLIPSeg decoder",
        "projection is 20",
        "projection_dim is 12",
    ]);
    let none = bench.copy_with_tokenizer("clip-text-no-prefix");
    let arguments = format!("-p dog -e {} --out refused", none.display());
    segment(&bench, &rd64, &photo, &arguments).refused(&["has no projection", "12"]);
    assert!(!bench.path("refused").exists());
}

#[test]
fn pictures_of_any_kind_are_taken() {
    let bench = Bench::new();
    let model = model(&bench, "clipseg-rd16");
    let rgb = DynamicImage::from(photo());
    let taken: Vec<PathBuf> = vec![
        save(&bench, "rgb.png", photo()),
        save(&bench, "rgb.jpg", photo()),
        save(&bench, "grey.png", rgb.to_luma8()),
        save(&bench, "grey16.png", rgb.to_luma16()),
        save(&bench, "grey-alpha.png", rgb.to_luma_alpha8()),
        save(&bench, "alpha.png", rgb.to_rgba8()),
        save(&bench, "palette.gif", rgb.to_rgba8()),
        save(&bench, "rgb.webp", photo()),
        save(&bench, "rgb.bmp", photo()),
        save(&bench, "rgb.tif", photo()),
        // The name does not matter.
        save(&bench, "right.png", photo()),
    ];
    fs::rename(bench.path("right.png"), bench.path("wrong.jpg")).unwrap();
    let probability = |saved: &Value| saved["segmentations"][0]["max_probability"].clone();
    let mut of_rgb = Value::Null;
    for path in taken.iter().take(10) {
        let saved = segment(&bench, &model, path, "-p dog --out out")
            .good()
            .json();
        check(&bench, &saved, (50, 30));
        if path.ends_with("rgb.png") {
            of_rgb = probability(&saved);
        }
        // Lossless pictures of the same pixels give the same numbers; alpha is dropped.
        if ["alpha.png", "rgb.bmp", "rgb.webp", "rgb.tif"]
            .iter()
            .any(|name| path.ends_with(name))
        {
            assert_eq!(probability(&saved), of_rgb, "{}", path.display());
        }
    }
    let saved = segment(&bench, &model, &bench.path("wrong.jpg"), "-p dog")
        .good()
        .json();
    assert_eq!(probability(&saved), of_rgb);
    // A palette with transparency, and EXIF orientation, which turns the picture.
    let formats = fixture("../image/formats");
    for (name, turned) in [
        ("palette_transparent.png", false),
        ("orientation6.jpg", true),
    ] {
        let path = formats.join(name);
        let (width, height) = image::image_dimensions(&path).unwrap();
        let size = if turned {
            (height, width)
        } else {
            (width, height)
        };
        let saved = segment(&bench, &model, &path, "-p dog --out out")
            .good()
            .json();
        check(&bench, &saved, size);
    }
}

#[test]
fn an_example_picture_takes_the_place_of_phrases() {
    let bench = Bench::new();
    let (model, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    let grey = save(
        &bench,
        "grey.png",
        RgbImage::from_pixel(9, 70, image::Rgb([90; 3])),
    );
    let arguments = format!("--example {} --example {}", grey.display(), photo.display());
    let saved = segment(&bench, &model, &photo, &arguments).good().json();
    check(&bench, &saved, (50, 30));
    let records = saved["segmentations"].as_array().unwrap();
    assert_eq!(records[0]["phrase"], "like grey.png");
    assert_eq!(records[1]["phrase"], "like photo.png");
    assert_ne!(records[0]["max_probability"], records[1]["max_probability"]);
    assert_eq!(records[0]["text_encoder_sha256"], Value::Null);
    let both = format!("-p dog --example {}", grey.display());
    segment(&bench, &model, &photo, &both).refused(&["--example", "--phrase"]);
    segment(&bench, &model, &photo, "").refused(&["--phrase"]);
}

#[test]
fn the_authors_decoder_takes_its_clip_from_elsewhere() {
    let bench = Bench::new();
    let photo = save(&bench, "photo.png", photo());
    for (decoder, converted) in [
        ("rd64-uni.pth", "clipseg-rd64"),
        ("rd64-uni-refined.pth", "clipseg-refined"),
        ("rd16-uni.pth", "clipseg-rd16"),
    ] {
        let decoder = weights("clipseg-original").join(decoder);
        let folder = bench.copy_with_tokenizer(converted);
        let clip = format!("-p dog --out pth --clip {}", folder.display());
        let original = segment(&bench, &decoder, &photo, &clip).good().json();
        check(&bench, &original, (50, 30));
        // The same weights in the other naming, at the authors' 352 pixels as well.
        let converted = segment(&bench, &folder, &photo, "-p dog --out hf")
            .good()
            .json();
        let overlay = |saved: &Value| {
            picture(&bench.path(saved["segmentations"][0]["overlay"].as_str().unwrap()))
        };
        let (largest, _) = difference(&overlay(&original), &overlay(&converted));
        assert!(largest <= 1, "{}: {largest}", decoder.display());
        segment(&bench, &decoder, &photo, "-p dog")
            .refused(&["holds the CLIPSeg decoder alone", "ViT-B/16"]);
    }
}

#[test]
fn a_weight_file_in_a_folder_is_the_folder() {
    let bench = Bench::new();
    let (folder, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    let of_folder = segment(&bench, &folder, &photo, "-p dog").good().json();
    let file = folder.join("model.safetensors");
    let of_file = segment(&bench, &file, &photo, "-p dog").good().json();
    assert_eq!(of_folder["segmentations"], of_file["segmentations"]);
}

#[test]
fn thresholds_and_pictures_that_cannot_be_are_refused() {
    let bench = Bench::new();
    let (model, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    for threshold in ["1.5", "-0.1", "nan", "half"] {
        let arguments = format!("-p dog --threshold={threshold} --out out");
        segment(&bench, &model, &photo, &arguments).refused(&[threshold, "0 to 1"]);
    }
    let whole = fs::read(&photo).unwrap();
    fs::write(bench.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let jpeg = fs::read(save(&bench, "photo.jpg", self::photo())).unwrap();
    fs::write(bench.path("cut.jpg"), &jpeg[..jpeg.len() * 2 / 3]).unwrap();
    fs::write(bench.path("text.png"), "no picture").unwrap();
    fs::write(bench.path("empty.png"), "").unwrap();
    for (name, part) in [
        ("cut.png", "cut.png"),
        ("cut.jpg", "cut.jpg"),
        ("text.png", "text that begins with"),
        ("empty.png", "an empty file"),
        ("missing.png", "No such file"),
        (".", "directory"),
    ] {
        let path = bench.path(name);
        segment(&bench, &model, &path, "-p dog --out out").refused(&[part]);
        let example = format!("--example {} --out out", path.display());
        segment(&bench, &model, &photo, &example).refused(&[part]);
    }
    segment(&bench, &weights("clip-hf"), &photo, "-p dog --out out")
        .refused(&["no CLIPSeg decoder", "transformers CLIP"]);
    // Without a tokenizer for its vocabulary the text tower cannot be used.
    segment(&bench, &weights("clipseg-rd64"), &photo, "-p dog --out out").refused(&[
        "brings no tokenizer",
        "67",
        "vocab.json",
    ]);
    assert!(!bench.path("out").exists());
}

#[test]
fn what_is_printed_names_every_file() {
    let bench = Bench::new();
    let (model, photo) = (
        model(&bench, "clipseg-rd64"),
        save(&bench, "photo.png", photo()),
    );
    let ran = bench.run([
        "segment".as_ref(),
        photo.as_os_str(),
        "--offline".as_ref(),
        "--model".as_ref(),
        model.as_os_str(),
        "-p".as_ref(),
        "the dog without a hat".as_ref(),
    ]);
    let text = ran.good().stdout;
    for part in [
        "out/segment/00-the-dog-without-a-hat-stock-overlay.png",
        "the dog without a hat [stock]",
        "out/segment/sheet.png",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
