//! mini-sd's autoencoder, without the rest of mini-sd.

use std::path::Path;

use image::RgbImage;
use negkit_diffusion::to_rgb;
use negkit_diffusion::vae::{Vae, VaeTiling};
use negkit_nn::AttentionBudget;

use crate::gallery::Normalisation;
use crate::recipe::{self, SIDE};
use crate::{MiniError, progress};

/// An autoencoder that is computed as [`recipe::compute`] says.
pub(crate) struct Autoencoder {
    pub(crate) vae: Vae,
    /// What its latents are multiplied by.
    pub(crate) scaling_factor: f64,
}

impl Autoencoder {
    /// From a folder of diffusers.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(folder: &Path) -> Result<Self, MiniError> {
        let (tensors, config) =
            negkit_diffusion::open_vae_folder(folder).map_err(MiniError::other)?;
        let vae = negkit_diffusion::load_vae(
            tensors,
            &config,
            &recipe::compute(),
            AttentionBudget::default(),
        )
        .map_err(MiniError::other)?;
        Ok(Self {
            vae,
            scaling_factor: config.scaling_factor,
        })
    }

    /// What pictures of [`SIDE`] pixels look like after they were encoded, to the means of their
    /// latents, and decoded.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn there_and_back(&self, pictures: &[RgbImage]) -> Result<Vec<RgbImage>, MiniError> {
        const AT_A_TIME: usize = 16;
        let bar = progress::bar(pictures.len() as u64, "there and back");
        let mut made = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(AT_A_TIME) {
            let rgb: Vec<&[u8]> = pictures
                .iter()
                .map(|picture| &picture.as_raw()[..])
                .collect();
            let pixels = Normalisation::SYMMETRIC.tensor(&rgb, SIDE as usize)?;
            let latents = self.vae.encode(&pixels)?.mean;
            let decoded = self.vae.decode(&latents, VaeTiling::Off)?;
            let decoded = decoded.affine(0.5, 0.5)?.clamp(0f32, 1f32)?;
            for picture in 0..pictures.len() {
                made.push(to_rgb(&decoded.get(picture)?).map_err(MiniError::other)?);
            }
            bar.inc(pictures.len() as u64);
        }
        bar.finish_and_clear();
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use negkit_world::{Scene, render_picture};

    use super::*;

    /// The card of the shipped autoencoder says 27.95 dB, the mean over validation scenes.
    #[test]
    fn the_shipped_autoencoder_gives_back_nearly_what_it_was_given() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/mini/sd/vae");
        // One more than fits into a batch.
        let seeds = recipe::VALIDATION.take(17);
        let given: Vec<RgbImage> = seeds
            .map(|seed| render_picture(&Scene::sample(seed), SIDE))
            .collect();
        let made = Autoencoder::open(&folder).unwrap();
        let made = made.there_and_back(&given).unwrap();
        assert_eq!(made.len(), given.len());
        for (made, given) in made.iter().zip(&given) {
            let errors = made.as_raw().iter().zip(given.as_raw());
            let squares = errors.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            let power = squares.sum::<f64>() / given.as_raw().len() as f64;
            let decibels = 10. * (255. * 255. / power).log10();
            assert!(decibels > 22., "{decibels:.1} dB");
        }
    }
}
