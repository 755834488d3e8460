//! Masks, and COCO's run-length encoding of them.
//!
//! The encoding is that of COCO's `maskApi.c` (`pycocotools.mask`): runs of pixels down the
//! columns, beginning with a run of background, as numbers or packed into a string. The crate that
//! does this, `cocotools` 0.0.7, brings a dataset viewer with its window and an older `image` along,
//! so the few functions are here.

use image::GrayImage;
use serde::{Deserialize, Serialize};

use crate::{Error, Limits};

/// One bit a pixel: which pixels belong to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    /// Row by row.
    pixels: Vec<bool>,
}

impl Mask {
    /// A mask from its pixels, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are not `width * height` of them.
    pub fn new(width: u32, height: u32, pixels: Vec<bool>) -> Result<Self, Error> {
        if pixels.len() as u64 != u64::from(width) * u64::from(height) {
            return Err(wrong_length("mask", width, height, pixels.len()));
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// The pixels whose value is above `threshold`, from a map `[height, width]` row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are not `width * height` values.
    pub fn from_threshold(
        values: &[f32],
        width: u32,
        height: u32,
        threshold: f32,
    ) -> Result<Self, Error> {
        let pixels = values.iter().map(|&value| value > threshold).collect();
        Self::new(width, height, pixels)
    }

    /// The pixels of a grey picture that are not black.
    #[must_use]
    pub fn from_luma(picture: &GrayImage) -> Self {
        Self {
            width: picture.width(),
            height: picture.height(),
            pixels: picture.as_raw().iter().map(|&sample| sample > 0).collect(),
        }
    }

    /// A grey picture, 255 inside and 0 outside.
    #[must_use]
    pub fn to_luma(&self) -> GrayImage {
        let mut picture = GrayImage::new(self.width, self.height);
        for (sample, &inside) in picture.iter_mut().zip(&self.pixels) {
            *sample = if inside { 255 } else { 0 };
        }
        picture
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[bool] {
        &self.pixels
    }

    /// Whether the pixel in column `x` and row `y` is inside; outside the picture nothing is.
    #[must_use]
    pub fn contains(&self, x: u32, y: u32) -> bool {
        x < self.width
            && y < self.height
            && self.pixels[y as usize * self.width as usize + x as usize]
    }

    /// How many pixels are inside.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.pixels.iter().filter(|&&inside| inside).count() as u64
    }
}

fn wrong_length(operation: &'static str, width: u32, height: u32, found: usize) -> Error {
    Error::Shape {
        operation,
        expected: format!("{width}x{height} values"),
        found: format!("{found} values"),
    }
}

/// A mask as run lengths, COCO's form.
///
/// In JSON it is `{"size": [height, width], "counts": …}`; it is written with the packed string
/// and read with either a string or a list of numbers.
///
/// ```
/// use negkit_image::{Mask, Rle};
///
/// let mask = Mask::new(3, 2, vec![false, true, true, false, true, false])?;
/// let rle = Rle::from_mask(&mask);
/// assert_eq!(rle.counts(), [2, 3, 1]);
/// assert_eq!(serde_json::to_string(&rle)?, r#"{"size":[2,3],"counts":"231"}"#);
/// assert_eq!(rle.to_mask()?, mask);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "CocoRle", try_from = "CocoRle")]
pub struct Rle {
    width: u32,
    height: u32,
    /// Pixels outside, inside, outside, … down the columns from left to right.
    counts: Vec<u32>,
}

impl Rle {
    /// Encodes a mask (`rleEncode`).
    #[must_use]
    pub fn from_mask(mask: &Mask) -> Self {
        let (width, height) = (mask.width as usize, mask.height as usize);
        let mut counts = Vec::new();
        let mut inside = false;
        let mut run = 0;
        for x in 0..width {
            for y in 0..height {
                if mask.pixels[y * width + x] != inside {
                    counts.push(run);
                    run = 0;
                    inside = !inside;
                }
                run += 1;
            }
        }
        counts.push(run);
        Self {
            width: mask.width,
            height: mask.height,
            counts,
        }
    }

    /// Takes run lengths as they stand.
    ///
    /// # Errors
    /// [`Error::Rle`] when they do not add up to `width * height`.
    pub fn from_counts(width: u32, height: u32, counts: Vec<u32>) -> Result<Self, Error> {
        let pixels = u64::from(width) * u64::from(height);
        let sum = counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        if sum != pixels {
            return Err(Error::Rle {
                width,
                height,
                expected: format!("counts that add up to {pixels} pixels"),
                found: format!("{} counts that add up to {sum}", counts.len()),
            });
        }
        Ok(Self {
            width,
            height,
            counts,
        })
    }

    /// Unpacks COCO's string (`rleFrString`): six bits a character from `'0'`, the lower five
    /// data and the sixth "more follows"; from the fourth number on, differences to the number
    /// two before.
    ///
    /// # Errors
    /// [`Error::Rle`] for a character or number that cannot be, a string that breaks off, and
    /// counts that do not add up to `width * height`.
    pub fn from_compressed(width: u32, height: u32, packed: &str) -> Result<Self, Error> {
        let error = |expected: &str, found: String| Error::Rle {
            width,
            height,
            expected: expected.into(),
            found,
        };
        // A u32 difference has 33 bits with its sign: seven groups of five.
        const MOST_SHIFT: u32 = 6 * 5;
        let mut counts: Vec<u32> = Vec::new();
        let mut number = 0_i64;
        let mut shift = 0;
        for (index, byte) in packed.bytes().enumerate() {
            let code = byte
                .checked_sub(48)
                .filter(|&code| code < 64)
                .ok_or_else(|| {
                    error(
                        "characters from '0' to 'o'",
                        format!("byte {byte:#04x} at {index}"),
                    )
                })?;
            if shift > MOST_SHIFT {
                return Err(error(
                    "numbers of at most seven characters",
                    format!("a longer one that ends at {index}"),
                ));
            }
            number |= i64::from(code & 0x1f) << shift;
            shift += 5;
            if code & 0x20 != 0 {
                continue;
            }
            if code & 0x10 != 0 {
                number |= -1 << shift;
            }
            if counts.len() > 2 {
                number += i64::from(counts[counts.len() - 2]);
            }
            let count = u32::try_from(number).map_err(|_| {
                error(
                    "counts from 0 to 4294967295",
                    format!("{number} as number {}", counts.len() + 1),
                )
            })?;
            counts.push(count);
            (number, shift) = (0, 0);
        }
        if shift > 0 {
            return Err(error(
                "a string that ends with a whole number",
                "one that breaks off".into(),
            ));
        }
        Self::from_counts(width, height, counts)
    }

    /// Packs the counts into COCO's string (`rleToString`), the inverse of
    /// [`from_compressed`](Self::from_compressed).
    #[must_use]
    pub fn to_compressed(&self) -> String {
        let mut packed = String::new();
        for (index, &count) in self.counts.iter().enumerate() {
            let mut number = i64::from(count);
            if index > 2 {
                number -= i64::from(self.counts[index - 2]);
            }
            loop {
                let code = (number & 0x1f) as u8;
                number >>= 5;
                let sign = if code & 0x10 == 0 { 0 } else { -1 };
                let more = number != sign;
                packed.push(char::from(48 + code + if more { 0x20 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        packed
    }

    /// Decodes the mask (`rleDecode`).
    ///
    /// # Errors
    /// [`Error::Rle`] when the mask has more than [`Limits::PIL_MAX_PIXELS`] pixels: a few bytes
    /// of JSON could otherwise ask for gigabytes.
    pub fn to_mask(&self) -> Result<Mask, Error> {
        let (width, height) = (self.width as usize, self.height as usize);
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels > Limits::PIL_MAX_PIXELS {
            return Err(Error::Rle {
                width: self.width,
                height: self.height,
                expected: format!("at most {} pixels", Limits::PIL_MAX_PIXELS),
                found: format!("{pixels}"),
            });
        }
        let mut mask = Mask {
            width: self.width,
            height: self.height,
            pixels: vec![false; width * height],
        };
        let mut at = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            let end = at + count as usize;
            if index % 2 == 1 {
                for pixel in at..end {
                    mask.pixels[pixel % height * width + pixel / height] = true;
                }
            }
            at = end;
        }
        Ok(mask)
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The run lengths: pixels outside, inside, outside, … down the columns.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// How many pixels are inside (`rleArea`).
    #[must_use]
    pub fn area(&self) -> u64 {
        self.counts
            .iter()
            .skip(1)
            .step_by(2)
            .map(|&count| u64::from(count))
            .sum()
    }

    /// The smallest box around the pixels inside, COCO's `[x, y, width, height]`; all zero when
    /// there are none (`rleToBbox`).
    #[must_use]
    pub fn bounding_box(&self) -> [u32; 4] {
        let height = u64::from(self.height);
        let (mut left, mut right, mut top, mut bottom) = (u64::MAX, 0, u64::MAX, 0);
        let mut at = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            let end = at + u64::from(count);
            if index % 2 == 1 && count > 0 {
                let (first, last) = (at / height, (end - 1) / height);
                left = left.min(first);
                right = right.max(last);
                if first == last {
                    top = top.min(at % height);
                    bottom = bottom.max((end - 1) % height);
                } else {
                    // Over the edge of a column: the run touches the bottom row and the top row.
                    top = 0;
                    bottom = height - 1;
                }
            }
            at = end;
        }
        if left == u64::MAX {
            return [0; 4];
        }
        [left, top, right - left + 1, bottom - top + 1].map(|side| side as u32)
    }
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct CocoRle {
    /// Height, width.
    size: [u32; 2],
    counts: Counts,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Counts {
    Compressed(String),
    Uncompressed(Vec<u32>),
}

impl From<Rle> for CocoRle {
    fn from(rle: Rle) -> Self {
        Self {
            size: [rle.height, rle.width],
            counts: Counts::Compressed(rle.to_compressed()),
        }
    }
}

impl TryFrom<CocoRle> for Rle {
    type Error = Error;

    fn try_from(coco: CocoRle) -> Result<Self, Error> {
        let [height, width] = coco.size;
        match coco.counts {
            Counts::Compressed(packed) => Self::from_compressed(width, height, &packed),
            Counts::Uncompressed(counts) => Self::from_counts(width, height, counts),
        }
    }
}
