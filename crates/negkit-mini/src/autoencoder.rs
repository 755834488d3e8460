//! mini-sd's autoencoder, without the rest of mini-sd.

use std::path::Path;

use candle_core::{Device, Tensor};
use image::RgbImage;
use negkit_diffusion::to_rgb;
use negkit_diffusion::vae::{Vae, VaeTiling};
use negkit_nn::{AttentionBudget, Compute, Products};

use crate::gallery::Normalisation;
use crate::recipe::SIDE;
use crate::{MiniError, progress};

/// An autoencoder that runs as it does in training: on the CPU, products in bf16 where the
/// processor has instructions for them.
pub struct Autoencoder {
    /// The network.
    pub vae: Vae,
    /// What its latents are multiplied by.
    pub scaling_factor: f64,
}

impl Autoencoder {
    /// From a folder of diffusers.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, MiniError> {
        let (tensors, config) =
            negkit_diffusion::open_vae_folder(folder).map_err(MiniError::other)?;
        let vae = negkit_diffusion::load_vae(
            tensors,
            &config,
            &Compute::cpu().with_products(Products::Bf16),
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
    pub fn there_and_back(&self, pictures: &[RgbImage]) -> Result<Vec<RgbImage>, MiniError> {
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

    /// Pictures `[n, 3, side, side]` of -1 to 1, by way of latents that normally distributed noise was
    /// added to. `strength` is on the scale of the UNet's errors, where latents have unit variance;
    /// `noise` gives as many values of unit variance as it is asked for.
    ///
    /// # Errors
    /// When the device fails.
    pub fn through_noise(
        &self,
        pictures: &Tensor,
        strength: f64,
        noise: impl FnOnce(usize) -> Vec<f32>,
    ) -> candle_core::Result<Tensor> {
        let latents = self.vae.encode(pictures)?.mean;
        let noise = noise(latents.elem_count());
        let noise = Tensor::from_vec(noise, latents.shape(), &Device::Cpu)?;
        let strength = strength / self.scaling_factor;
        self.vae
            .decode(&(latents + (noise * strength)?)?, VaeTiling::Off)
    }
}
