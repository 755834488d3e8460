//! PNG files with text, written and read.

use image::{GrayImage, Rgb, RgbImage};
use negkit_image::{
    Error, Limits, PARAMETERS_KEY, open_rgb, read_png_text, write_png, write_png_luma,
};

use crate::reference::fixture;

fn picture() -> RgbImage {
    RgbImage::from_fn(5, 4, |x, y| Rgb([x as u8 * 50, y as u8 * 60, 7]))
}

/// The kinds and contents of a PNG file's chunks.
fn chunks(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut rest = &bytes[8..];
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let kind = String::from_utf8(rest[4..8].to_vec()).unwrap();
        chunks.push((kind, rest[8..8 + length].to_vec()));
        rest = &rest[12 + length..];
    }
    chunks
}

#[test]
fn latin_1_goes_into_text_and_the_rest_into_itxt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let text = [(PARAMETERS_KEY, "Grüße\nSteps: 4"), ("note", "猫 🐈")];
    write_png(&path, &picture(), &text).unwrap();

    let chunks = chunks(&std::fs::read(&path).unwrap());
    let of = |kind: &str| chunks.iter().find(|(k, _)| k == kind).unwrap().1.clone();
    assert_eq!(of("tEXt"), b"parameters\0Gr\xfc\xdfe\nSteps: 4");
    // Keyword, not compressed, method 0, no language, no translated keyword, UTF-8.
    assert_eq!(of("iTXt"), "note\0\0\0\0\0猫 🐈".as_bytes());
    let order: Vec<&str> = chunks.iter().map(|(kind, _)| kind.as_str()).collect();
    let pixels = order.iter().position(|&kind| kind == "IDAT").unwrap();
    assert!(order.iter().position(|&kind| kind == "iTXt").unwrap() < pixels);

    let read = read_png_text(&path).unwrap();
    let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(read, text);
    assert_eq!(open_rgb(&path, &Limits::default()).unwrap(), picture());
}

#[test]
fn masks_are_written_as_grey() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let mask = GrayImage::from_raw(2, 1, vec![0, 255]).unwrap();
    write_png_luma(&path, &mask, &[]).unwrap();
    let read = image::open(&path).unwrap();
    assert_eq!(read.color(), image::ColorType::L8);
    assert_eq!(read.into_luma8(), mask);
    assert_eq!(read_png_text(&path).unwrap(), []);
}

#[test]
fn all_kinds_of_text_that_pil_writes_are_read() {
    let text = read_png_text(fixture("text.png")).unwrap();
    let expected = [
        (
            "parameters",
            "Grüße, a street\nSteps: 20, Sampler: Euler a, Seed: 1".to_string(),
        ),
        ("packed", "é".repeat(3000)),
        ("unicode", "一只猫 🐈 – no dog".to_string()),
        ("packed unicode", "猫".repeat(2000)),
    ];
    for (found, expected) in text.iter().zip(&expected) {
        assert_eq!((found.0.as_str(), &found.1), (expected.0, &expected.1));
    }
    assert_eq!(text.len(), expected.len());
}

#[test]
fn text_that_a_chunk_cannot_hold_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let long = "k".repeat(80);
    for (key, value) in [
        ("", "x"),
        (long.as_str(), "x"),
        ("猫", "x"),
        (" key", "x"),
        ("a  b", "x"),
        ("a\nb", "x"),
        ("key", "x\0y"),
    ] {
        let error = write_png(&path, &picture(), &[(key, value)]).unwrap_err();
        assert!(matches!(error, Error::PngText { .. }), "{error}");
    }
    assert!(!path.exists());
    let error = write_png(&path, &RgbImage::new(0, 0), &[]).unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error}");
    let error = write_png(folder.path().join("no/a.png"), &picture(), &[]).unwrap_err();
    assert!(matches!(error, Error::MissingFolder { .. }), "{error}");
}

#[test]
fn text_of_what_is_no_whole_png_is_an_error() {
    assert!(matches!(
        read_png_text(fixture("formats/grey.jpg")),
        Err(Error::NotAPicture { .. })
    ));
    let missing = read_png_text(fixture("formats/missing.png"));
    assert!(matches!(missing, Err(Error::Read { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.png");
    let bytes = std::fs::read(fixture("text.png")).unwrap();
    for length in [0, 20, bytes.len() / 2, bytes.len() - 20] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(read_png_text(&path).is_err(), "{length} bytes");
    }
}

/// A compressed text of 200 MB must not be unpacked.
#[test]
fn text_bombs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.png");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder
        .add_ztxt_chunk("bomb".into(), "a".repeat(200 << 20))
        .unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0]).unwrap();
    writer.finish().unwrap();
    assert!(bytes.len() < 4 << 20, "{}", bytes.len());
    std::fs::write(&path, &bytes).unwrap();
    let error = read_png_text(&path).unwrap_err();
    assert!(!error.to_string().is_empty());
}
