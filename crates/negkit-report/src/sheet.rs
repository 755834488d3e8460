//! The contact sheet.

use image::{Rgb, RgbImage, imageops};
use negkit_image::{Filter, Mask, Panel, Sheet, resize_rgb};

use crate::picture::{Found, compare, is_edge, reduced_size};
use crate::{ReportError, Result};

/// The side of a picture in a strip.
const STRIP_SIDE: u32 = 128;
/// The side of a picture of its own; smaller ones are enlarged by a whole factor.
const OWN_SIDE: u32 = 256;
/// The frame that tells right pictures from wrong ones.
const FRAME: u32 = 4;
const GAP: u32 = 6;
const GROUND: Rgb<u8> = Rgb([250, 250, 248]);

/// A prompt or a phrase on the sheet.
pub(crate) struct SheetRow {
    pub(crate) heading: String,
    /// Pictures with their captions; without any the row is left out.
    pub(crate) panels: Vec<(RgbImage, String)>,
}

/// Lays the rows onto a sheet.
pub(crate) fn render(rows: Vec<SheetRow>) -> Result<RgbImage> {
    let mut sheet = Sheet::new();
    let mut pictures = 0;
    for row in rows {
        if row.panels.is_empty() {
            continue;
        }
        pictures += row.panels.len();
        let panels = row.panels.into_iter();
        let panels = panels.map(|(image, caption)| Panel { image, caption });
        sheet = sheet.row_with_heading(row.heading, panels.collect());
    }
    match pictures {
        0 => Err(ReportError::NoPictures),
        _ => Ok(sheet.render()?),
    }
}

/// A prompt's pictures side by side, each in a frame that says whether it is right.
pub(crate) fn strip(pictures: &[(RgbImage, bool)]) -> Result<RgbImage> {
    let side = match pictures.len() {
        1 => OWN_SIDE,
        _ => STRIP_SIDE,
    };
    let sized = pictures
        .iter()
        .map(|(picture, right)| Ok((brought_to(picture, side)?, *right)))
        .collect::<Result<Vec<_>>>()?;
    let width = |picture: &RgbImage| picture.width() + 2 * FRAME;
    let gaps = GAP * sized.len().saturating_sub(1) as u32;
    let all = sized.iter().map(|(picture, _)| width(picture)).sum::<u32>() + gaps;
    let height = sized.iter().map(|(picture, _)| picture.height()).max();
    let mut strip = RgbImage::from_pixel(all, height.unwrap_or(0) + 2 * FRAME, GROUND);
    let mut left = 0;
    for (picture, right) in &sized {
        let colour = match right {
            true => Found::Hit.colour(),
            false => Found::Wrong.colour(),
        };
        let frame = RgbImage::from_pixel(
            width(picture),
            picture.height() + 2 * FRAME,
            Rgb(colour.unwrap_or_default()),
        );
        imageops::replace(&mut strip, &frame, i64::from(left), 0);
        let inner = (i64::from(left + FRAME), i64::from(FRAME));
        imageops::replace(&mut strip, picture, inner.0, inner.1);
        left += width(picture) + GAP;
    }
    Ok(strip)
}

/// A picture of about `side` pixels a side: small ones enlarged by a whole factor.
fn brought_to(picture: &RgbImage, side: u32) -> Result<RgbImage> {
    let longer = picture.width().max(picture.height()).max(1);
    let factor = side / longer;
    if factor >= 1 {
        let (width, height) = (picture.width() * factor, picture.height() * factor);
        return Ok(resize_rgb(picture, width, height, Filter::Nearest)?);
    }
    let (width, height) = reduced_size(picture.dimensions(), side);
    Ok(resize_rgb(picture, width, height, Filter::Bicubic)?)
}

/// A picture with what was marked and what was meant, in the page's colours.
pub(crate) fn overlay(picture: &RgbImage, marked: &Mask, meant: &Mask) -> RgbImage {
    let (width, height, found) = compare(marked, meant, u32::MAX);
    let mut shown = picture.clone();
    for (index, pixel) in shown.pixels_mut().enumerate() {
        let Some(colour) = found.get(index).and_then(|found| found.colour()) else {
            continue;
        };
        let share = if is_edge(width, height, &found, index) {
            0.95
        } else {
            0.55
        };
        for (under, over) in pixel.0.iter_mut().zip(colour) {
            *under = (f32::from(*under) * (1. - share) + f32::from(over) * share).round() as u8;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_strip_frames_what_is_right_and_what_is_wrong() {
        let picture = RgbImage::from_pixel(64, 64, Rgb([10, 20, 30]));
        let strip = strip(&[(picture.clone(), true), (picture, false)]).unwrap();
        assert_eq!(strip.dimensions(), (2 * (128 + 8) + 6, 128 + 8));
        assert_eq!(strip.get_pixel(0, 0).0, Found::Hit.colour().unwrap());
        assert_eq!(
            strip.get_pixel(128 + 8 + 6, 0).0,
            Found::Wrong.colour().unwrap()
        );
        assert_eq!(strip.get_pixel(4, 4).0, [10, 20, 30]);
        assert_eq!(strip.get_pixel(128 + 8 + 2, 5), &GROUND);
    }

    #[test]
    fn a_sheet_of_nothing_is_refused() {
        let row = SheetRow {
            heading: "a".to_owned(),
            panels: Vec::new(),
        };
        assert!(matches!(render(vec![row]), Err(ReportError::NoPictures)));
    }
}
