//! Pictures and masks as data URLs.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Component, Path};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, RgbImage};
use negkit_image::{Filter, Limits, Mask, open_rgb, resize_rgb};

use crate::{ReportError, Result};

/// Pictures up to this side are kept to the pixel and shown as pixels: they are few, and each counts.
const PIXEL_ART: u32 = 160;
/// JPEG quality of larger ones.
const QUALITY: u8 = 82;

/// A picture as the page has it.
#[derive(Debug)]
pub(crate) enum PictureView {
    /// Inlined where it stands.
    Inline { url: String, pixels: bool },
    /// A mask over a picture that several panels share: the class of the style that holds the picture
    /// and its ratio of width to height. The picture need not be there.
    Layers { class: String, mask: String },
    /// There is none, and why.
    Missing(String),
}

/// Brings a picture to at most `side` pixels a side.
pub(crate) fn reduced(picture: &RgbImage, side: u32) -> Result<RgbImage> {
    let (width, height) = reduced_size(picture.dimensions(), side);
    if (width, height) == picture.dimensions() {
        return Ok(picture.clone());
    }
    Ok(resize_rgb(picture, width, height, Filter::Bicubic)?)
}

/// The size of a picture brought to at most `side` pixels a side.
pub(crate) fn reduced_size((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= side {
        return (width, height);
    }
    let scaled = |length: u32| {
        let scaled = u64::from(length) * u64::from(side) / u64::from(longer.max(1));
        (scaled as u32).max(1)
    };
    (scaled(width), scaled(height))
}

/// Whether a picture of this size is shown pixel by pixel.
pub(crate) fn is_pixel_art((width, height): (u32, u32)) -> bool {
    width.max(height) <= PIXEL_ART
}

/// The data URL of a picture: small ones without loss.
pub(crate) fn data_url(picture: &RgbImage) -> Result<String> {
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    let failed = |error: image::ImageError| ReportError::Encode(error.to_string());
    let kind = match is_pixel_art((width, height)) {
        true => {
            WebPEncoder::new_lossless(Cursor::new(&mut bytes))
                .encode(picture, width, height, ExtendedColorType::Rgb8)
                .map_err(failed)?;
            "webp"
        }
        false => {
            JpegEncoder::new_with_quality(Cursor::new(&mut bytes), QUALITY)
                .encode(picture, width, height, ExtendedColorType::Rgb8)
                .map_err(failed)?;
            "jpeg"
        }
    };
    Ok(in_url(kind, &bytes))
}

fn in_url(kind: &str, bytes: &[u8]) -> String {
    let mut url = String::with_capacity(bytes.len() * 4 / 3 + 32);
    // Writing into a string cannot fail.
    let _ = write!(url, "data:image/{kind};base64,");
    STANDARD.encode_string(bytes, &mut url);
    url
}

/// Opens a picture of a run; the error is for the page's reader.
pub(crate) fn open(path: &Path) -> std::result::Result<RgbImage, String> {
    open_rgb(path, &Limits::default()).map_err(|error| error.to_string())
}

/// Whether a path from a record stays in the folder that it is relative to.
pub(crate) fn is_within(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    !file.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// What a marked pixel is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Neither marked nor meant.
    Nothing,
    /// Marked and meant.
    Hit,
    /// Marked, not meant.
    Wrong,
    /// Meant, not marked.
    Missed,
}

/// Colours that stay apart for the colour-blind (Okabe and Ito, "Color Universal Design", 2008).
const COLOURS: [[u8; 3]; 3] = [[0, 158, 115], [230, 159, 0], [0, 114, 178]];
/// Opacity within a region and on its edge.
const OPACITY: [u8; 2] = [140, 245];

impl Found {
    /// Of one pixel.
    fn of(marked: bool, meant: bool) -> Self {
        match (marked, meant) {
            (false, false) => Self::Nothing,
            (true, true) => Self::Hit,
            (true, false) => Self::Wrong,
            (false, true) => Self::Missed,
        }
    }

    /// Red, green, blue; none for nothing.
    pub(crate) fn colour(self) -> Option<[u8; 3]> {
        match self {
            Self::Nothing => None,
            Self::Hit => Some(COLOURS[0]),
            Self::Wrong => Some(COLOURS[1]),
            Self::Missed => Some(COLOURS[2]),
        }
    }

    /// Index in the palette: 0 is nothing, 1 to 3 regions, 4 to 6 their edges.
    fn index(self, edge: bool) -> u8 {
        let region = match self {
            Self::Nothing => return 0,
            Self::Hit => 1,
            Self::Wrong => 2,
            Self::Missed => 3,
        };
        region + if edge { COLOURS.len() as u8 } else { 0 }
    }
}

/// What every pixel of a mask is, at most `side` pixels a side: the pixel under the new one's centre.
pub(crate) fn compare(marked: &Mask, meant: &Mask, side: u32) -> (u32, u32, Vec<Found>) {
    let (from_width, from_height) = (meant.width(), meant.height());
    let (width, height) = reduced_size((from_width, from_height), side);
    let place = |at: u32, of: u32, from: u32| {
        let centre = (2 * u64::from(at) + 1) * u64::from(from) / (2 * u64::from(of));
        (centre as u32).min(from.saturating_sub(1))
    };
    let mut found = Vec::with_capacity(width as usize * height as usize);
    for y in 0..height {
        let y = place(y, height, from_height);
        for x in 0..width {
            let x = place(x, width, from_width);
            found.push(Found::of(marked.contains(x, y), meant.contains(x, y)));
        }
    }
    (width, height, found)
}

/// Whether a pixel's neighbour is something else.
pub(crate) fn is_edge(width: u32, height: u32, found: &[Found], index: usize) -> bool {
    let (width, height) = (width as usize, height as usize);
    let (x, y) = (index % width, index / width);
    let own = found[index];
    (x > 0 && found[index - 1] != own)
        || (x + 1 < width && found[index + 1] != own)
        || (y > 0 && found[index - width] != own)
        || (y + 1 < height && found[index + width] != own)
}

/// The data URL of a transparent PNG that shows, over the picture, what was found and missed.
pub(crate) fn mask_url((width, height, found): &(u32, u32, Vec<Found>)) -> Result<String> {
    let mut palette = vec![0; 3];
    let mut alpha = vec![0];
    for opacity in OPACITY {
        for colour in COLOURS {
            palette.extend(colour);
            alpha.push(opacity);
        }
    }
    let (width, height) = (*width, *height);
    // Two pixels a byte, every row in whole bytes.
    let mut rows = Vec::with_capacity((width as usize).div_ceil(2) * height as usize);
    let index = |at: usize| found[at].index(is_edge(width, height, found, at));
    for y in 0..height as usize {
        let row = y * width as usize..(y + 1) * width as usize;
        let row: Vec<u8> = row.map(index).collect();
        rows.extend(
            row.chunks(2)
                .map(|pair| (pair[0] << 4) | pair.get(1).unwrap_or(&0)),
        );
    }
    let mut bytes = Vec::new();
    let failed = |error: png::EncodingError| ReportError::Encode(error.to_string());
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Four);
    encoder.set_palette(palette);
    encoder.set_trns(alpha);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&rows).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(in_url("png", &bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn decoded(url: &str) -> image::DynamicImage {
        let (_, bytes) = url.split_once(";base64,").unwrap();
        image::load_from_memory(&STANDARD.decode(bytes).unwrap()).unwrap()
    }

    #[test]
    fn small_pictures_keep_every_pixel_and_large_ones_are_reduced() {
        let picture = RgbImage::from_fn(60, 40, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let small = reduced(&picture, 256).unwrap();
        assert_eq!(decoded(&data_url(&small).unwrap()).to_rgb8(), picture);
        let large = RgbImage::from_pixel(1200, 800, image::Rgb([200, 40, 40]));
        let reduced = reduced(&large, 300).unwrap();
        assert_eq!(reduced.dimensions(), (300, 200));
        let shown = decoded(&data_url(&reduced).unwrap()).to_rgb8();
        let far = |a: u8, b: u8| a.abs_diff(b);
        let [r, g, b] = shown.get_pixel(150, 100).0;
        assert!(far(r, 200) < 4 && far(g, 40) < 4 && far(b, 40) < 4);
    }

    #[test]
    fn a_mask_shows_hits_misses_and_errors_and_nothing_else() {
        // Odd, so that rows end in half a byte.
        let mask = |marked: &[usize]| {
            let pixels = (0..15).map(|pixel| marked.contains(&pixel)).collect();
            Mask::new(5, 3, pixels).unwrap()
        };
        let compared = compare(&mask(&[0, 1, 14]), &mask(&[1, 2]), 256);
        let shown = decoded(&mask_url(&compared).unwrap()).to_rgba8();
        assert_eq!(shown.dimensions(), (5, 3));
        let at = |pixel: u32| {
            let [r, g, b, a] = shown.get_pixel(pixel % 5, pixel / 5).0;
            (a > 0).then_some([r, g, b])
        };
        assert_eq!(at(0), Found::Wrong.colour());
        assert_eq!(at(1), Found::Hit.colour());
        assert_eq!(at(2), Found::Missed.colour());
        assert_eq!(at(14), Found::Wrong.colour());
        let nothing = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        assert!(nothing.into_iter().all(|pixel| at(pixel).is_none()));
    }

    #[test]
    fn a_large_mask_is_reduced_with_its_picture() {
        let pixels = (0..400 * 200).map(|pixel| pixel % 400 >= 200).collect();
        let right_half = Mask::new(400, 200, pixels).unwrap();
        let (width, height, found) = compare(&right_half, &right_half, 100);
        assert_eq!((width, height), (100, 50));
        let hits = found.iter().filter(|found| **found == Found::Hit).count();
        assert_eq!(hits, 100 * 50 / 2);
    }

    #[test]
    fn a_record_cannot_name_a_file_outside_of_its_run() {
        assert!(is_within("pictures/neg/0001-stock-seed0.png"));
        for bad in ["", "/etc/hostname", "../x.png", "pictures/../../x.png"] {
            assert!(!is_within(bad), "{bad}");
        }
    }
}
