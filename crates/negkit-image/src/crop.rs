//! Cutting boxes out of pictures.

use image::{RgbImage, imageops};

use crate::{Error, Limits};

/// Cuts the box with corners `(x0, y0)` and `(x1, y1)`, in pixels, as `PIL.Image.crop` does.
///
/// Each corner is rounded to the nearest integer, halves to the even one (Python's `round`), and
/// what lies outside the picture is black. `x1` and `y1` are exclusive.
///
/// # Errors
/// [`Error::Shape`] when the rounded box is empty or turned over, not finite, or has more than
/// [`Limits::PIL_MAX_PIXELS`] pixels. (PIL allows empty crops, but nothing can be done with one.)
pub fn crop_box_pil(
    picture: &RgbImage,
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
) -> Result<RgbImage, Error> {
    let corners = [x0, y0, x1, y1].map(f64::round_ties_even);
    let [left, top, right, bottom] = corners;
    // Beyond i32, PIL overflows; below that, f64 differences are exact.
    let in_range = corners.iter().all(|c| c.abs() <= f64::from(i32::MAX));
    let (width, height) = (right - left, bottom - top);
    let fits = width >= 1.0 && height >= 1.0 && width * height <= Limits::PIL_MAX_PIXELS as f64;
    if !(in_range && fits) {
        return Err(Error::Shape {
            operation: "crop",
            expected: format!(
                "a box (x0, y0, x1, y1) of 1 to {} pixels, with x0 < x1 and y0 < y1 after rounding",
                Limits::PIL_MAX_PIXELS
            ),
            found: format!("({x0}, {y0}, {x1}, {y1})"),
        });
    }
    Ok(window(
        picture,
        left as i64,
        top as i64,
        width as u32,
        height as u32,
    ))
}

/// The `width` x `height` window whose upper left corner is at (`left`, `top`) of the picture,
/// black where there is no picture.
pub(crate) fn window(picture: &RgbImage, left: i64, top: i64, width: u32, height: u32) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    imageops::replace(&mut out, picture, -left, -top);
    out
}
