//! The windows that a convolution sees, as rows of a product.
//!
//! Pictures are channels last, so that the channels of a pixel, and those of the pixels beside it, are
//! one run of memory. The border of zeros and the nearest upsampling before a convolution are a matter
//! of which pixel a window's pixel is: neither is ever written to memory.

use candle_core::{Result, bail};

use crate::element::Element;
use crate::layer::Rows;

/// Sizes of a picture and of the windows that slide over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    /// Height and width of the picture.
    pub picture: [usize; 2],
    /// Height and width that it is resized to first, to the nearest pixel.
    pub resized: [usize; 2],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
    /// Zeros above and to the left.
    pub before: usize,
    /// Zeros below and to the right.
    pub after: usize,
}

impl Sliding {
    /// Number of windows down and across, if one fits.
    pub fn windows(&self) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let size = self.resized[i] + self.before + self.after;
            let room = size.checked_sub(self.kernel[i])?;
            Some(room.checked_div(self.stride)? + 1)
        };
        let nothing = self.kernel.contains(&0) || self.picture.contains(&0);
        (!nothing).then(|| Some([along(0)?, along(1)?])).flatten()
    }

    /// Whether it is 3x3 pixels that go pixel by pixel, with a border of one, so that there are as many
    /// windows as pixels.
    pub(crate) fn is_same_3x3(&self) -> bool {
        self.kernel == [3, 3] && [self.stride, self.before, self.after] == [1; 3]
    }

    /// For every window and every pixel of it, which pixel of the picture it is.
    fn pixels(&self, i: usize, windows: usize) -> Vec<Option<u32>> {
        let (from, to) = (self.picture[i], self.resized[i]);
        let scale = from as f64 / to as f64;
        let mut pixels = Vec::with_capacity(windows * self.kernel[i]);
        for window in 0..windows {
            for k in 0..self.kernel[i] {
                let at = (window * self.stride + k).checked_sub(self.before);
                let at = at.filter(|at| *at < to);
                pixels.push(at.map(|at| {
                    let nearest = (at as f64 * scale) as usize;
                    nearest.min(from - 1) as u32
                }));
            }
        }
        pixels
    }
}

/// All windows of pictures `[n, height, width, channels]`; a row is a window's pixels, row by row.
pub struct Windows<'a, T> {
    pictures: &'a [T],
    count: usize,
    channels: usize,
    sliding: Sliding,
    windows: [usize; 2],
    /// Row of the picture of every window's rows.
    down: Vec<Option<u32>>,
    /// Column of the picture of every window's columns.
    across: Vec<Option<u32>>,
    /// Whether the columns of a window are neighbours in the picture.
    whole: Vec<bool>,
}

impl<'a, T> Windows<'a, T> {
    /// The windows of pictures of `channels` channels.
    ///
    /// # Errors
    /// When sizes do not fit each other, or a window is larger than the picture with its border.
    pub fn new(pictures: &'a [T], channels: usize, sliding: Sliding) -> Result<Self> {
        let size = sliding.picture[0] * sliding.picture[1] * channels;
        let Some(windows) = sliding.windows() else {
            bail!("convolution: no window fits into {sliding:?}")
        };
        if size == 0 || !pictures.len().is_multiple_of(size) || size > u32::MAX as usize {
            bail!(
                "convolution: {} values are not pictures of {channels} channels of {sliding:?}",
                pictures.len()
            )
        }
        let across = sliding.pixels(1, windows[1]);
        let whole = across
            .chunks(sliding.kernel[1])
            .map(|columns| {
                let first = columns[0];
                first.is_some_and(|first| {
                    let mut expected = (first..).map(Some);
                    columns
                        .iter()
                        .all(|column| *column == expected.next().flatten())
                })
            })
            .collect();
        Ok(Self {
            count: pictures.len() / size,
            pictures,
            channels,
            sliding,
            windows,
            down: sliding.pixels(0, windows[0]),
            across,
            whole,
        })
    }

    /// Height and width of the result.
    pub fn size(&self) -> [usize; 2] {
        self.windows
    }

    /// The channels of a pixel of a window; `None` where it lies in the border.
    #[inline(always)]
    pub(crate) fn pixel(&self, window: usize, [down, across]: [usize; 2]) -> Option<&'a [T]> {
        let [height, width] = self.sliding.picture;
        let (x, rest) = (window % self.windows[1], window / self.windows[1]);
        let (y, picture) = (rest % self.windows[0], rest / self.windows[0]);
        let row = self.down[y * self.sliding.kernel[0] + down]?;
        let column = self.across[x * self.sliding.kernel[1] + across]?;
        let pixel = (picture * height + row as usize) * width + column as usize;
        Some(&self.pictures[pixel * self.channels..][..self.channels])
    }

    /// Number of pictures.
    pub fn pictures(&self) -> usize {
        self.count
    }
}

impl<T: Element> Rows for Windows<'_, T> {
    type Value = T;

    fn count(&self) -> usize {
        self.count * self.windows[0] * self.windows[1]
    }

    fn steps(&self) -> usize {
        self.channels * self.sliding.kernel[0] * self.sliding.kernel[1]
    }

    #[inline(always)]
    fn visit(
        &self,
        row: usize,
        first: usize,
        length: usize,
        mut visit: impl FnMut(usize, usize, Option<&[T]>),
    ) {
        let channels = self.channels;
        let ([height, width], [kernel_height, kernel_width]) =
            (self.sliding.picture, self.sliding.kernel);
        let (x, rest) = (row % self.windows[1], row / self.windows[1]);
        let (y, picture) = (rest % self.windows[0], rest / self.windows[0]);
        let down = &self.down[y * kernel_height..][..kernel_height];
        let across = &self.across[x * kernel_width..][..kernel_width];
        // A run is a row of the window where its pixels are neighbours, and one pixel elsewhere.
        let run = if self.whole[x] {
            kernel_width * channels
        } else {
            channels
        };
        let mut at = 0;
        while at < length {
            let (index, within) = ((first + at) / run, (first + at) % run);
            let count = (run - within).min(length - at);
            let (row, column) = if self.whole[x] {
                (down[index], across[0])
            } else {
                (down[index / kernel_width], across[index % kernel_width])
            };
            let values = row.zip(column).map(|(row, column)| {
                let pixel = (picture * height + row as usize) * width + column as usize;
                &self.pictures[pixel * channels + within..][..count]
            });
            visit(at, count, values);
            at += count;
        }
    }
}
