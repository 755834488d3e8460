//! Pictures as trainers read them: by index, all of one size.

use candle_core::{Device, Tensor};

use super::grounding::{CellLabels, unknown_cells};
use crate::TrainError;

/// Pictures of one size in 8-bit RGB, by index.
///
/// Read from several threads; the same index always gives the same picture, or a run that goes on
/// would not be the run that was stopped.
pub trait Pictures: Sync {
    /// How many pictures there are.
    fn len(&self) -> usize;

    /// Height and width, in pixels.
    fn size(&self) -> (usize, usize);

    /// Writes picture `index` (below [`Pictures::len`]) row by row, red, green and blue:
    /// `3 * height * width` bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError>;

    /// What stands in the cells of those pictures.
    ///
    /// # Errors
    /// When it is not known, as where this is not implemented, or cannot be read.
    fn cells(&self, _indices: &[usize]) -> Result<CellLabels, TrainError> {
        Err(unknown_cells())
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P: Pictures + ?Sized> Pictures for &P {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn size(&self) -> (usize, usize) {
        (**self).size()
    }

    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError> {
        (**self).read(index, rgb)
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        (**self).cells(indices)
    }
}

/// Pictures laid end to end in memory or in a mapped file.
#[derive(Debug, Clone)]
pub struct PackedPictures<B> {
    bytes: B,
    size: (usize, usize),
}

impl<B: AsRef<[u8]> + Sync> PackedPictures<B> {
    /// Pictures of `size` (height, width), `3 * height * width` bytes each.
    ///
    /// # Errors
    /// When the bytes are no whole number of pictures.
    pub fn new(bytes: B, size: (usize, usize)) -> Result<Self, TrainError> {
        let (found, each) = (bytes.as_ref().len(), 3 * size.0 * size.1);
        if each == 0 || found % each != 0 {
            return Err(TrainError::Task(format!(
                "got {found} bytes, which are no whole number of RGB pictures of {} x {} pixels ({each} bytes \
                 each)",
                size.1, size.0
            )));
        }
        Ok(Self { bytes, size })
    }
}

impl<B: AsRef<[u8]> + Sync> Pictures for PackedPictures<B> {
    fn len(&self) -> usize {
        self.bytes.as_ref().len() / (3 * self.size.0 * self.size.1)
    }

    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn read(&self, index: usize, rgb: &mut [u8]) -> Result<(), TrainError> {
        let each = 3 * self.size.0 * self.size.1;
        let start = index * each;
        let picture = self.bytes.as_ref().get(start..start + each);
        match picture {
            Some(picture) if rgb.len() == each => {
                rgb.copy_from_slice(picture);
                Ok(())
            }
            _ => Err(TrainError::Task(format!(
                "asked for picture {index} of {}, {each} bytes, with room for {} bytes",
                self.len(),
                rgb.len()
            ))),
        }
    }
}

/// The pictures `indices` as `[n, 3, height, width]`, f32, -1 to 1: what an autoencoder takes.
///
/// # Errors
/// When one cannot be read.
pub fn signed_pixels(
    pictures: &impl Pictures,
    indices: &[usize],
    device: &Device,
) -> Result<Tensor, TrainError> {
    let (height, width) = pictures.size();
    let area = height * width;
    let mut rgb = vec![0; 3 * area];
    let mut values = vec![0f32; indices.len() * 3 * area];
    for (&index, planes) in indices.iter().zip(values.chunks_exact_mut(3 * area)) {
        pictures.read(index, &mut rgb)?;
        for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(rgb.chunks_exact(3)) {
                *value = f32::from(pixel[channel]) / 127.5 - 1.;
            }
        }
    }
    Ok(Tensor::from_vec(
        values,
        (indices.len(), 3, height, width),
        device,
    )?)
}
