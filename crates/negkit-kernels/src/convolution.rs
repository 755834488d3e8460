//! Convolutions: in which of the ways one is computed follows from its sizes, when it is packed.

use candle_core::{Result, bail};

use crate::Isa;
use crate::element::{Element, Stored};
use crate::layer::{Finish, layer};
use crate::weights::{Order, Precision, Weights};
use crate::windows::{Sliding, Windows};
use crate::winograd::{self, Winograd};

/// The kernel of a convolution, packed.
#[derive(Debug)]
pub struct Convolution {
    taps: usize,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// As a product of windows.
    Windows(Weights),
    /// By tiles.
    Tiles(Winograd),
}

/// What a convolution does to every picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// 3x3 pixels, pixel by pixel, with a border of one: as large a picture as before.
    Same3x3,
    /// The same, where the kernel may take more memory for its speed: pictures are not small.
    RoomySame3x3,
    /// Anything else.
    Any,
}

impl Convolution {
    /// Packs `weight` `[columns, inputs, taps]`, which is to be slid as `reach` says.
    ///
    /// # Errors
    /// When the values are not as many.
    pub fn pack<T: Stored>(
        weight: &[T],
        [columns, inputs, taps]: [usize; 3],
        reach: Reach,
        precision: Precision,
        isa: Isa,
    ) -> Result<Self> {
        let roomy = reach == Reach::RoomySame3x3;
        let tiles = reach != Reach::Any
            && taps == 9
            && Winograd::worth([columns, inputs], roomy, precision, isa);
        let way = if tiles {
            Way::Tiles(Winograd::pack(weight, [columns, inputs], precision, isa)?)
        } else {
            let sizes = [columns, inputs, taps];
            Way::Windows(Weights::pack_taps(
                weight,
                sizes,
                Order::Plain,
                precision,
                isa,
            )?)
        };
        Ok(Self { taps, way })
    }

    /// `[columns, inputs, taps]`: as they were packed, or up to the rounding of a transformed kernel.
    pub fn unpack(&self) -> Vec<f32> {
        match &self.way {
            Way::Windows(weights) => weights.unpack(self.taps, Order::Plain),
            Way::Tiles(kernel) => kernel.unpack(),
        }
    }

    /// Channels that it gives.
    pub fn columns(&self) -> usize {
        match &self.way {
            Way::Windows(weights) => weights.columns(),
            Way::Tiles(kernel) => kernel.columns(),
        }
    }

    /// Channels that it takes.
    pub fn inputs(&self) -> usize {
        match &self.way {
            Way::Windows(weights) => weights.steps() / self.taps.max(1),
            Way::Tiles(kernel) => kernel.inputs(),
        }
    }
}

/// `finish(convolution)` of pictures `[n, height, width, channels]`, of the same order, and the height
/// and width of the result.
///
/// # Errors
/// When sizes do not fit.
pub fn convolve<T: Element>(
    pictures: &[T],
    sliding: Sliding,
    kernel: &Convolution,
    finish: Finish<'_, T>,
) -> Result<(Vec<T>, [usize; 2])> {
    if sliding.kernel[0] * sliding.kernel[1] != kernel.taps {
        bail!(
            "convolution: {sliding:?} with a kernel of {} pixels",
            kernel.taps
        )
    }
    match &kernel.way {
        Way::Tiles(tiles) => {
            let values = winograd::convolve(pictures, sliding, tiles, finish)?;
            Ok((values, sliding.resized))
        }
        Way::Windows(weights) => {
            let windows = Windows::new(pictures, kernel.inputs(), sliding)?;
            Ok((layer(&windows, weights, finish)?, windows.size()))
        }
    }
}
