//! From a file or bytes to an upright RGB picture.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::Error;

/// How large a picture may be before it is refused.
///
/// A few hundred bytes of PNG can announce a picture of many gigabytes, so the size in the header
/// is checked before anything is decoded.
///
/// ```
/// use negkit_image::Limits;
///
/// let strict = Limits { max_pixels: 4096 * 4096, ..Limits::default() };
/// assert!(strict.max_pixels < Limits::default().max_pixels);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels (width times height). The default, 178,956,970, is the number above which
    /// PIL raises `DecompressionBombError` (twice its `MAX_IMAGE_PIXELS`).
    pub max_pixels: u64,
    /// Most bytes of memory, for the file as well as for the decoded pixels before their
    /// conversion to RGB. The default, 1 GiB, fits an 8-bit RGBA picture of the most pixels.
    pub max_bytes: u64,
}

impl Limits {
    /// PIL's bound on decompression bombs, in pixels.
    pub const PIL_MAX_PIXELS: u64 = 178_956_970;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: Self::PIL_MAX_PIXELS,
            max_bytes: 1 << 30,
        }
    }
}

/// Reads the picture at `path` as 8-bit RGB, upright.
///
/// The format is recognised by the file's content, its name does not matter (only TGA, which has
/// no signature, is recognised by its extension). See [`decode_rgb`] for what happens to the
/// pixels and for the errors; a file that cannot be read at all is [`Error::Read`].
pub fn open_rgb(path: impl AsRef<Path>, limits: &Limits) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let mut bytes = Vec::new();
    // `take`, and not the length by the file system: devices and pipes have none.
    file.take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > limits.max_bytes {
        return Err(Error::TooMuchMemory {
            name,
            needed: "more than that for the file alone".into(),
            limit: limits.max_bytes,
        });
    }
    let by_extension = ImageFormat::from_path(path).ok();
    decode(&bytes, &name, by_extension, limits)
}

/// Decodes a picture from `bytes` as 8-bit RGB, upright; `name` is what errors call it.
///
/// The result equals `PIL.ImageOps.exif_transpose(image).convert("RGB")`:
/// - EXIF orientation (JPEG, PNG, WebP, TIFF) is applied.
/// - Alpha is dropped, not composited; so is the transparency of a palette.
/// - Grey becomes three equal channels, a palette its colours, CMYK is converted without profile.
/// - 16-bit samples keep their high byte. (PIL does so for colour; 16-bit *grey* it clips at 255,
///   which turns most such pictures white. That is not copied.)
/// - Of an animation the first frame is taken; a GIF's screen is black where that frame is not.
///
/// AVIF, OpenEXR and Radiance HDR are left out: the first needs a C library, the others have no
/// agreed way to 8 bits.
///
/// # Errors
/// [`Error::NotAPicture`], [`Error::Unsupported`], [`Error::Damaged`], [`Error::Truncated`],
/// [`Error::Empty`], [`Error::TooManyPixels`] and [`Error::TooMuchMemory`].
pub fn decode_rgb(bytes: &[u8], name: &str, limits: &Limits) -> Result<RgbImage, Error> {
    decode(bytes, name, None, limits)
}

fn decode(
    bytes: &[u8],
    name: &str,
    by_extension: Option<ImageFormat>,
    limits: &Limits,
) -> Result<RgbImage, Error> {
    let format = match image::guess_format(bytes) {
        Ok(format) => format,
        Err(_) if by_extension == Some(ImageFormat::Tga) => ImageFormat::Tga,
        Err(_) => {
            return Err(Error::NotAPicture {
                name: name.into(),
                found: describe_start(bytes),
            });
        }
    };
    // The decoders are third-party code over hostile input. A panic in one of them must stay an
    // error about one file, or a single picture could end a run over thousands.
    catch_unwind(AssertUnwindSafe(|| {
        decode_format(bytes, name, format, limits)
    }))
    .unwrap_or_else(|_| {
        Err(Error::Damaged {
            name: name.into(),
            format: format_name(format),
            reason: "the decoder gave up on it".into(),
        })
    })
}

fn decode_format(
    bytes: &[u8],
    name: &str,
    format: ImageFormat,
    limits: &Limits,
) -> Result<RgbImage, Error> {
    let explain = |error| explain(error, name, format, bytes.len(), limits);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(limits.max_bytes);
    reader.limits(memory.clone());
    let mut decoder = reader.into_decoder().map_err(explain)?;

    let (width, height) = decoder.dimensions();
    check_size(name, width, height, decoder.total_bytes(), limits)?;
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(Error::Truncated {
            name: name.into(),
            format: format_name(format),
            bytes: bytes.len(),
        });
    }
    memory.reserve(decoder.total_bytes()).map_err(explain)?;
    decoder.set_limits(memory).map_err(explain)?;

    // Damaged metadata is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(explain)?;
    let mut picture = DynamicImage::ImageRgb8(drop_to_rgb8(picture));
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn check_size(
    name: &str,
    width: u32,
    height: u32,
    decoded_bytes: u64,
    limits: &Limits,
) -> Result<(), Error> {
    if width == 0 || height == 0 {
        return Err(Error::Empty {
            name: name.into(),
            width,
            height,
        });
    }
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Error::TooManyPixels {
            name: name.into(),
            width,
            height,
            limit: limits.max_pixels,
        });
    }
    if decoded_bytes > limits.max_bytes {
        return Err(Error::TooMuchMemory {
            name: name.into(),
            needed: format!("{decoded_bytes} bytes for {width}x{height} pixels"),
            limit: limits.max_bytes,
        });
    }
    Ok(())
}

fn drop_to_rgb8(picture: DynamicImage) -> RgbImage {
    fn high(sample: u16) -> u8 {
        (sample >> 8) as u8
    }
    fn map<P: image::Pixel>(
        picture: &image::ImageBuffer<P, Vec<P::Subpixel>>,
        to_rgb: impl Fn(&[P::Subpixel]) -> [u8; 3],
    ) -> RgbImage {
        let mut rgb = RgbImage::new(picture.width(), picture.height());
        for (to, from) in rgb.pixels_mut().zip(picture.pixels()) {
            to.0 = to_rgb(from.channels());
        }
        rgb
    }
    match picture {
        DynamicImage::ImageRgb8(picture) => picture,
        DynamicImage::ImageRgba8(picture) => map(&picture, |c| [c[0], c[1], c[2]]),
        DynamicImage::ImageLuma8(picture) => map(&picture, |c| [c[0]; 3]),
        DynamicImage::ImageLumaA8(picture) => map(&picture, |c| [c[0]; 3]),
        DynamicImage::ImageLuma16(picture) => map(&picture, |c| [high(c[0]); 3]),
        DynamicImage::ImageLumaA16(picture) => map(&picture, |c| [high(c[0]); 3]),
        DynamicImage::ImageRgb16(picture) => map(&picture, |c| [c[0], c[1], c[2]].map(high)),
        DynamicImage::ImageRgba16(picture) => map(&picture, |c| [c[0], c[1], c[2]].map(high)),
        float => float.to_rgb8(),
    }
}

/// Whether the markers of a JPEG file lead to its end-of-image marker.
///
/// The decoder fills what is missing with grey and reports success; PIL refuses such files, and a
/// half-grey photo would quietly spoil a measurement. Walking the segments by their lengths keeps
/// the end marker of an embedded thumbnail from counting.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;
    let mut at = 2;
    loop {
        // Between segments, and at the end of a scan: look for 0xFF and a marker byte. Within a
        // scan, 0xFF 0x00 is a data byte and 0xFF 0xD0..=0xD7 restarts the decoder.
        let Some(offset) = bytes.get(at..).and_then(|rest| {
            rest.windows(2)
                .position(|pair| pair[0] == 0xFF && pair[1] != 0 && pair[1] != 0xFF)
        }) else {
            return false;
        };
        let marker = bytes[at + offset + 1];
        at += offset + 2;
        match marker {
            END_OF_IMAGE => return true,
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
                if marker == START_OF_SCAN && at >= bytes.len() {
                    return false;
                }
            }
        }
    }
}

fn explain(
    error: ImageError,
    name: &str,
    format: ImageFormat,
    bytes: usize,
    limits: &Limits,
) -> Error {
    let name = name.to_string();
    let format = format_name(format);
    match error {
        ImageError::Limits(limit) if matches!(limit.kind(), LimitErrorKind::InsufficientMemory) => {
            Error::TooMuchMemory {
                name,
                needed: "more than that".into(),
                limit: limits.max_bytes,
            }
        }
        ImageError::Unsupported(unsupported) => Error::Unsupported {
            name,
            format,
            reason: unsupported.to_string(),
        },
        ImageError::IoError(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::Truncated {
                name,
                format,
                bytes,
            }
        }
        other => Error::Damaged {
            name,
            format,
            reason: other.to_string(),
        },
    }
}

fn format_name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

fn describe_start(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let start = &bytes[..bytes.len().min(SHOWN)];
    if bytes.is_empty() {
        "an empty file".into()
    } else if start
        .iter()
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
    {
        format!("text that begins with {:?}", String::from_utf8_lossy(start))
    } else {
        format!("{} bytes that begin with {start:02x?}", bytes.len())
    }
}
