//! Decoding against PIL's `ImageOps.exif_transpose(…).convert("RGB")`, and decoding of rubbish.

use image::RgbImage;
use negkit_image::{Error, Limits, decode_rgb, open_rgb};
use proptest::prelude::*;

use crate::reference::{Tensors, fixture, max_difference};

/// Largest difference to PIL that a format may have, in steps of 1/255, and why.
fn tolerance(name: &str) -> u8 {
    match name {
        // The two decoders round the inverse cosine transform, the upsampling of the colour planes
        // and the colour conversion differently. Measured: 4 (on photos 3; these are noisier).
        _ if name.ends_with(".jpg") => 4,
        // PIL rounds 16-bit PNM to the nearest of 256 steps and does not take the high byte.
        "rgb16.ppm" => 1,
        // Likewise for the colour planes of lossy WebP. Measured: 0.
        "rgb_lossy.webp" => 1,
        _ => 0,
    }
}

#[test]
fn every_format_decodes_as_in_pil() {
    let expected = Tensors::open("formats.safetensors");
    let names = expected.names();
    assert!(names.len() >= 45, "{} formats", names.len());
    let mut failures = Vec::new();
    for name in names {
        let path = fixture("formats").join(&name);
        let reference = expected.rgb(&name);
        match open_rgb(&path, &Limits::default()) {
            Ok(picture) if picture.dimensions() != reference.dimensions() => {
                failures.push(format!("{name}: {:?}", picture.dimensions()));
            }
            Ok(picture) => {
                let difference = max_difference(&picture, &reference);
                if difference > 0 {
                    println!("{name}: {difference}/255");
                }
                if difference > tolerance(&name) {
                    failures.push(format!("{name}: differs by {difference}/255"));
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_content_and_not_the_name_says_what_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really-a-png.jpg");
    std::fs::copy(fixture("formats/rgb8.png"), &path).unwrap();
    let picture = open_rgb(&path, &Limits::default()).unwrap();
    assert_eq!(picture.dimensions(), (21, 13));
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture("formats").join(name)).unwrap()
}

fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode_rgb(bytes, "upload", &Limits::default())
}

const TRUNCATABLE: [&str; 12] = [
    "rgb8.png",
    "palette.png",
    "rgb16.png",
    "ycbcr420.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "palette.gif",
    "rgba_lossless.webp",
    "rgb_lossy.webp",
    "rgb8.bmp",
    "rgb8.ppm",
    "rgb16.ppm",
];

#[test]
fn a_file_cut_off_before_its_last_pixel_is_an_error() {
    for name in TRUNCATABLE {
        let bytes = read(name);
        for length in 0..bytes.len() * 9 / 10 {
            let error = decode(&bytes[..length]).expect_err(name).to_string();
            assert!(error.starts_with("upload: "), "{name}: {error}");
        }
    }
}

#[test]
fn a_jpeg_without_its_end_is_truncated_at_any_length() {
    for name in ["ycbcr420.jpg", "progressive.jpg", "orientation6.jpg"] {
        let bytes = read(name);
        for length in 0..bytes.len() - 1 {
            assert!(decode(&bytes[..length]).is_err(), "{name} cut at {length}");
        }
        let error = decode(&bytes[..bytes.len() - 1]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
    }
}

/// A PNG that announces `width` x `height` 8-bit RGB pixels and holds almost none.
fn hollow_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = read("rgb8.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |mut crc, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    })
}

#[test]
fn decompression_bombs_are_refused_by_their_header() {
    let error = decode(&hollow_png(60_000, 60_000)).unwrap_err();
    let Error::TooManyPixels {
        width,
        height,
        limit,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((width, height, limit), (60_000, 60_000, 178_956_970));

    let strict = Limits {
        max_bytes: 100_000,
        ..Limits::default()
    };
    let error = decode_rgb(&hollow_png(1000, 1000), "upload", &strict).unwrap_err();
    assert!(matches!(error, Error::TooMuchMemory { .. }), "{error}");
    assert!(error.to_string().contains("3000000 bytes"), "{error}");
}

#[test]
fn the_pixel_limit_is_inclusive() {
    let bytes = read("rgb8.png");
    let limit = |max_pixels| Limits {
        max_pixels,
        ..Limits::default()
    };
    assert!(decode_rgb(&bytes, "upload", &limit(21 * 13)).is_ok());
    assert!(decode_rgb(&bytes, "upload", &limit(21 * 13 - 1)).is_err());
}

#[test]
fn pictures_without_pixels_are_errors() {
    for bytes in [
        hollow_png(0, 5),
        hollow_png(5, 0),
        b"P6 0 4 255\n".to_vec(),
        b"P5 3 0 255\n".to_vec(),
    ] {
        assert!(decode(&bytes).is_err());
    }
}

#[test]
fn what_is_no_picture_is_described() {
    for (bytes, found) in [
        (&b""[..], "an empty file"),
        (
            b"<!DOCTYPE html><html>",
            "text that begins with \"<!DOCTYPE html><\"",
        ),
        (
            b"\x00\x01\x02\x03",
            "4 bytes that begin with [00, 01, 02, 03]",
        ),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, Error::NotAPicture { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    for path in [missing.as_path(), folder.path()] {
        let error = open_rgb(path, &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_file_larger_than_the_memory_limit_is_not_read_to_its_end() {
    let strict = Limits {
        max_bytes: 50,
        ..Limits::default()
    };
    let error = open_rgb(fixture("formats/rgb8.png"), &strict).unwrap_err();
    assert!(matches!(error, Error::TooMuchMemory { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever a few flipped bytes do to a file, the answer is a picture or an error.
    #[test]
    fn damaged_files_never_panic(
        which in 0..TRUNCATABLE.len() + 2,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let name = TRUNCATABLE.get(which).copied().unwrap_or(
            if which == TRUNCATABLE.len() { "rgb8_lzw.tif" } else { "orientation6.jpg" },
        );
        let mut bytes = read(name);
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let limits = Limits { max_pixels: 1 << 22, max_bytes: 1 << 25 };
        if let Err(error) = decode_rgb(&bytes, "upload", &limits) {
            // A decoder that panics is caught and reported with these words; none should need it.
            prop_assert!(!error.to_string().contains("the decoder gave up"), "{name}: {error}");
        }
    }
}
