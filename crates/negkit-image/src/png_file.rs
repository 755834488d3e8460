//! PNG out, with text in it; and the text back.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use image::{GrayImage, RgbImage};

use crate::{Error, write_atomic};

/// The key of the text chunk that AUTOMATIC1111's web UI and its many readers look for.
pub const PARAMETERS_KEY: &str = "parameters";

/// Writes a picture as PNG with text chunks, atomically (see [`write_atomic`]).
///
/// A text goes into a `tEXt` chunk when it is Latin-1 and into an `iTXt` chunk (UTF-8) otherwise,
/// as PIL's `PngInfo.add_text` does.
///
/// # Errors
/// [`Error::PngText`] for a key that is not 1 to 79 characters of Latin-1 or a text with a NUL in
/// it, [`Error::Encode`] for a picture without pixels, and those of [`write_atomic`].
pub fn write_png(
    path: impl AsRef<Path>,
    picture: &RgbImage,
    text: &[(&str, &str)],
) -> Result<(), Error> {
    write(
        path.as_ref(),
        picture.dimensions(),
        png::ColorType::Rgb,
        picture.as_raw(),
        text,
    )
}

/// Writes a grey picture, such as a mask's [`to_luma`](crate::Mask::to_luma); otherwise
/// [`write_png`].
///
/// # Errors
/// As [`write_png`].
pub fn write_png_luma(
    path: impl AsRef<Path>,
    picture: &GrayImage,
    text: &[(&str, &str)],
) -> Result<(), Error> {
    write(
        path.as_ref(),
        picture.dimensions(),
        png::ColorType::Grayscale,
        picture.as_raw(),
        text,
    )
}

fn write(
    path: &Path,
    size: (u32, u32),
    color: png::ColorType,
    samples: &[u8],
    text: &[(&str, &str)],
) -> Result<(), Error> {
    for &(key, value) in text {
        check_text(key, value)?;
    }
    let bytes = encode(size, color, samples, text).map_err(|error| Error::Encode {
        name: path.display().to_string(),
        reason: error.to_string(),
    })?;
    write_atomic(path, &bytes)
}

fn check_text(key: &str, value: &str) -> Result<(), Error> {
    let error = |expected, found: String| Error::PngText {
        key: key.into(),
        expected,
        found,
    };
    // PNG, 11.3.4.2: printable Latin-1, no space at either end, no two in a row.
    let printable = |c| matches!(c, '\u{20}'..='\u{7e}' | '\u{a1}'..='\u{ff}');
    let spaced = key.trim_matches(' ') != key || key.contains("  ");
    if !(1..=79).contains(&key.chars().count()) || !key.chars().all(printable) || spaced {
        return Err(error(
            "a key of 1 to 79 printable Latin-1 characters without stray spaces",
            format!("{key:?}"),
        ));
    }
    if let Some(at) = value.find('\0') {
        return Err(error(
            "text without NUL characters",
            format!("one at byte {at}"),
        ));
    }
    Ok(())
}

fn encode(
    (width, height): (u32, u32),
    color: png::ColorType,
    samples: &[u8],
    text: &[(&str, &str)],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    for &(key, value) in text {
        let latin1 = value.chars().all(|c| u32::from(c) < 256);
        if latin1 {
            encoder.add_text_chunk(key.into(), value.into())?;
        } else {
            encoder.add_itxt_chunk(key.into(), value.into())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(samples)?;
    writer.finish()?;
    Ok(bytes)
}

/// The text chunks of a PNG file as (key, text), wherever in the file they stand: first those in
/// Latin-1 (`tEXt`), then compressed ones (`zTXt`), then those in UTF-8 (`iTXt`).
///
/// # Errors
/// [`Error::Read`] when the file cannot be opened, [`Error::NotAPicture`] when it is no PNG,
/// [`Error::Damaged`] when it breaks off or a chunk does not decode, and [`Error::TooMuchMemory`]
/// when the text unpacks to more than 64 MiB.
pub fn read_png_text(path: impl AsRef<Path>) -> Result<Vec<(String, String)>, Error> {
    const MOST_BYTES: usize = 64 << 20;
    const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    let path = path.as_ref();
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let too_much = || Error::TooMuchMemory {
        name: name.clone(),
        needed: "more than that for its text".into(),
        limit: MOST_BYTES as u64,
    };
    let explain = |error: png::DecodingError| match error {
        png::DecodingError::LimitsExceeded => too_much(),
        png::DecodingError::IoError(source)
            if source.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            Error::Read {
                name: name.clone(),
                source,
            }
        }
        other => Error::Damaged {
            name: name.clone(),
            format: "PNG".into(),
            reason: other.to_string(),
        },
    };

    let mut start = BufReader::new(file);
    let first = start
        .fill_buf()
        .map_err(|source| Error::read(path, source))?;
    if !first.starts_with(PNG_SIGNATURE) {
        return Err(Error::NotAPicture {
            name,
            found: "no PNG signature, and only PNG has text chunks".into(),
        });
    }
    let limits = png::Limits { bytes: MOST_BYTES };
    let mut reader = png::Decoder::new_with_limits(start, limits)
        .read_info()
        .map_err(explain)?;
    // Texts may stand behind the pixels, which are skipped and not decoded.
    reader.finish().map_err(explain)?;

    let info = reader.info();
    let mut text: Vec<(String, String)> = info
        .uncompressed_latin1_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()))
        .collect();
    // Compressed texts are unpacked here and not by the reader, with what is left of the limit.
    let mut left = MOST_BYTES;
    for mut chunk in info.compressed_latin1_text.iter().cloned() {
        chunk.decompress_text_with_limit(left).map_err(explain)?;
        let value = chunk.get_text().map_err(explain)?;
        left = left.saturating_sub(value.len());
        text.push((chunk.keyword, value));
    }
    for mut chunk in info.utf8_text.iter().cloned() {
        chunk.decompress_text_with_limit(left).map_err(explain)?;
        let value = chunk.get_text().map_err(explain)?;
        left = left.saturating_sub(value.len());
        text.push((chunk.keyword, value));
    }
    Ok(text)
}
