//! Showing a probability map or a mask on top of its picture.

use image::RgbImage;

use crate::resize::resize_bilinear_f32;
use crate::{Error, Mask};

/// How an overlay looks. The default is a half-transparent red with a dark red outline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverlayStyle {
    /// Red, green, blue of the tint.
    pub color: [u8; 3],
    /// From 0 (invisible) to 1 (opaque), where the probability is 1.
    pub opacity: f32,
    /// The line along the inner edge of the mask; `None` draws none.
    pub outline: Option<Outline>,
}

/// The line along the inner edge of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Red, green, blue.
    pub color: [u8; 3],
    /// Width in pixels of the picture.
    pub width: u32,
}

impl Default for OverlayStyle {
    fn default() -> Self {
        Self {
            color: [235, 45, 55],
            opacity: 0.55,
            outline: Some(Outline {
                color: [130, 0, 20],
                width: 2,
            }),
        }
    }
}

/// Tints a picture in proportion to a map of probabilities `[h, w]` (row by row) of any size, and
/// outlines where they are above `threshold`.
///
/// The map is brought to the picture's size by [`resize_bilinear_f32`] *before* the threshold, so
/// the outline is smooth even for a coarse map. Values outside 0..1 count as 0 or 1, and what is
/// not a number as 0.
///
/// # Errors
/// [`Error::Shape`] when `probabilities` has not `h * w` values or the picture has no pixels.
pub fn overlay_probabilities(
    picture: &RgbImage,
    probabilities: &[f32],
    (h, w): (usize, usize),
    threshold: f32,
    style: &OverlayStyle,
) -> Result<RgbImage, Error> {
    let (width, height) = picture.dimensions();
    let clean: Vec<f32> = probabilities.iter().copied().map(fraction).collect();
    let full = resize_bilinear_f32(&clean, (h, w), (height as usize, width as usize))?;
    let mask = Mask::from_threshold(&full, width, height, threshold)?;
    let mut out = picture.clone();
    for (pixel, probability) in out.pixels_mut().zip(full) {
        blend(&mut pixel.0, style.color, style.opacity * probability);
    }
    draw_outline(&mut out, &mask, style);
    Ok(out)
}

/// Tints the inside of a mask and outlines it.
///
/// # Errors
/// [`Error::Shape`] when mask and picture differ in size.
pub fn overlay_mask(
    picture: &RgbImage,
    mask: &Mask,
    style: &OverlayStyle,
) -> Result<RgbImage, Error> {
    if picture.dimensions() != (mask.width(), mask.height()) {
        return Err(Error::Shape {
            operation: "overlay",
            expected: format!("a mask of {}x{}", picture.width(), picture.height()),
            found: format!("{}x{}", mask.width(), mask.height()),
        });
    }
    let mut out = picture.clone();
    for (pixel, &inside) in out.pixels_mut().zip(mask.pixels()) {
        if inside {
            blend(&mut pixel.0, style.color, style.opacity);
        }
    }
    draw_outline(&mut out, mask, style);
    Ok(out)
}

/// The nearest number from 0 to 1, and 0 for NaN.
fn fraction(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

/// Moves `under` towards `over` by `opacity` (0 to 1).
pub(crate) fn blend(under: &mut [u8; 3], over: [u8; 3], opacity: f32) {
    let opacity = fraction(opacity);
    for (under, over) in under.iter_mut().zip(over) {
        let mixed = f32::from(*under) * (1.0 - opacity) + f32::from(over) * opacity;
        *under = mixed.round() as u8;
    }
}

fn draw_outline(picture: &mut RgbImage, mask: &Mask, style: &OverlayStyle) {
    let Some(outline) = style.outline.filter(|outline| outline.width > 0) else {
        return;
    };
    let core = erode(mask, outline.width as usize);
    for ((pixel, &inside), core) in picture.pixels_mut().zip(mask.pixels()).zip(core) {
        if inside && !core {
            pixel.0 = outline.color;
        }
    }
}

/// The pixels whose whole square of `radius` pixels to each side is inside the mask. Beyond the
/// picture counts as outside, so that a mask that is cut by the border still gets a closed line.
fn erode(mask: &Mask, radius: usize) -> Vec<bool> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let mut pixels = mask.pixels().to_vec();
    for row in pixels.chunks_exact_mut(width.max(1)) {
        erode_line(row, radius);
    }
    let mut column = vec![false; height];
    for x in 0..width {
        for (y, pixel) in column.iter_mut().enumerate() {
            *pixel = pixels[y * width + x];
        }
        erode_line(&mut column, radius);
        for (y, &pixel) in column.iter().enumerate() {
            pixels[y * width + x] = pixel;
        }
    }
    pixels
}

/// Clears `radius` pixels at both ends of each run.
fn erode_line(line: &mut [bool], radius: usize) {
    let mut start = 0;
    while start < line.len() {
        let run = line[start..].iter().take_while(|&&inside| inside).count();
        let end = start + run;
        let margin = radius.min(run);
        line[start..start + margin].fill(false);
        line[end - margin..end].fill(false);
        start = end + 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use image::Rgb;

    fn style(outline: Option<Outline>) -> OverlayStyle {
        OverlayStyle {
            color: [255, 0, 0],
            opacity: 0.5,
            outline,
        }
    }

    #[test]
    fn mask_tints_inside_and_outlines_its_edge() {
        let picture = RgbImage::from_pixel(9, 9, Rgb([100, 100, 100]));
        let inside = |x: u32, y: u32| (2..7).contains(&x) && (2..7).contains(&y);
        let pixels = (0..81).map(|i| inside(i % 9, i / 9)).collect();
        let mask = Mask::new(9, 9, pixels).unwrap();
        let line = Outline {
            color: [0, 0, 255],
            width: 1,
        };
        let out = overlay_mask(&picture, &mask, &style(Some(line))).unwrap();
        for (x, y, pixel) in out.enumerate_pixels() {
            let core = (3..6).contains(&x) && (3..6).contains(&y);
            let expected = match (inside(x, y), core) {
                (false, _) => [100, 100, 100],
                (true, false) => [0, 0, 255],
                (true, true) => [178, 50, 50],
            };
            assert_eq!(pixel.0, expected, "at {x},{y}");
        }
    }

    #[test]
    fn outline_closes_at_the_border_of_the_picture() {
        let picture = RgbImage::new(5, 4);
        let mask = Mask::new(5, 4, vec![true; 20]).unwrap();
        let line = Outline {
            color: [9, 9, 9],
            width: 1,
        };
        let out = overlay_mask(&picture, &mask, &style(Some(line))).unwrap();
        for (x, y, pixel) in out.enumerate_pixels() {
            let border = x == 0 || y == 0 || x == 4 || y == 3;
            assert_eq!(pixel.0 == [9, 9, 9], border, "at {x},{y}");
        }
    }

    #[test]
    fn probabilities_tint_in_proportion_and_nonsense_counts_as_nothing() {
        let picture = RgbImage::from_pixel(4, 1, Rgb([100, 100, 100]));
        let map = [0.0, 0.5, 7.0, f32::NAN];
        let out = overlay_probabilities(&picture, &map, (1, 4), 0.4, &style(None)).unwrap();
        let pixels: Vec<_> = out.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(
            pixels,
            [
                [100, 100, 100],
                [139, 75, 75],
                [178, 50, 50],
                [100, 100, 100]
            ]
        );
    }

    #[test]
    fn a_mask_of_another_size_is_refused_with_both_sizes() {
        let mask = Mask::new(3, 2, vec![true; 6]).unwrap();
        let error = overlay_mask(&RgbImage::new(2, 3), &mask, &OverlayStyle::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("2x3") && error.contains("3x2"), "{error}");
    }

    #[test]
    fn a_coarse_map_reaches_the_size_of_the_picture() {
        let picture = RgbImage::new(640, 427);
        let map: Vec<f32> = (0..22 * 22).map(|i| (i % 22) as f32 / 21.0).collect();
        let out = overlay_probabilities(&picture, &map, (22, 22), 0.5, &style(None)).unwrap();
        assert_eq!(out.dimensions(), (640, 427));
        let reds: Vec<u8> = (0..640).map(|x| out.get_pixel(x, 200).0[0]).collect();
        assert!(
            reds.is_sorted() && reds[0] == 0 && reds[639] == 128,
            "{reds:?}"
        );
    }
}
