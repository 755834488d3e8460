//! Scenes with their pictures.

use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use negkit_world::{Corpus, Scene};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::MiniError;
use crate::recipe::{SEED, SIDE};

/// Consecutive scenes and what they look like.
pub struct Gallery {
    scenes: Vec<Scene>,
    corpus: Corpus,
}

/// Mean and standard deviation that a model's pictures are normalised by, per channel.
#[derive(Debug, Clone, Copy)]
pub struct Normalisation {
    /// Mean of red, green and blue, of values from 0 to 1.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

impl Normalisation {
    /// CLIP's.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };
    /// From -1 to 1, as the VAE has it.
    pub const SYMMETRIC: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    /// `[3, side, side]` values of a picture of `side * side` RGB pixels, appended to `out`.
    fn append(&self, rgb: &[u8], out: &mut [f32]) {
        let pixels = rgb.len() / 3;
        for channel in 0..3 {
            let (mean, scale) = (self.mean[channel], 1. / self.std[channel]);
            let plane = &mut out[channel * pixels..(channel + 1) * pixels];
            for (value, pixel) in plane.iter_mut().zip(rgb.chunks_exact(3)) {
                *value = (f32::from(pixel[channel]) / 255. - mean) * scale;
            }
        }
    }

    /// Pictures of equal size as `[n, 3, side, side]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensor(&self, pictures: &[&[u8]], side: usize) -> candle_core::Result<Tensor> {
        let size = 3 * side * side;
        let mut values = vec![0f32; size * pictures.len()];
        values
            .par_chunks_exact_mut(size)
            .zip(pictures)
            .for_each(|(out, rgb)| self.append(rgb, out));
        Tensor::from_vec(values, (pictures.len(), 3, side, side), &Device::Cpu)
    }
}

impl Gallery {
    /// The sampled scenes of `seeds`, their pictures in the file `path`: rendered, when it is not
    /// there.
    ///
    /// # Errors
    /// When the file cannot be written or read, or is damaged.
    pub fn open(seeds: Range<u64>, path: &Path) -> Result<Self, MiniError> {
        Self::open_with(Scene::sample, seeds, path)
    }

    /// The same of the scenes that `draw` makes of seeds.
    ///
    /// # Errors
    /// As [`Gallery::open`].
    pub fn open_with(
        draw: fn(u64) -> Scene,
        seeds: Range<u64>,
        path: &Path,
    ) -> Result<Self, MiniError> {
        let bar = crate::progress::bar(seeds.end - seeds.start, "pictures");
        let corpus = Corpus::render_with(draw, seeds.clone(), SIDE, path, |done, _| {
            bar.set_position(done);
        })
        .map_err(MiniError::other)?;
        bar.finish_and_clear();
        let scenes = seeds.into_par_iter().map(draw).collect();
        Ok(Self { scenes, corpus })
    }

    /// Number of scenes.
    pub fn len(&self) -> usize {
        self.scenes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scenes.is_empty()
    }

    /// What is in picture `i`.
    pub fn scene(&self, i: usize) -> &Scene {
        &self.scenes[i]
    }

    /// All scenes.
    pub fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// The pixels of picture `i`, RGB, row by row.
    pub fn pixels(&self, i: usize) -> &[u8] {
        self.corpus.picture(i)
    }

    /// The pictures of those numbers, `[n, 3, side, side]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensor(&self, indices: &[usize], by: Normalisation) -> candle_core::Result<Tensor> {
        let pictures: Vec<&[u8]> = indices.iter().map(|&i| self.pixels(i)).collect();
        by.tensor(&pictures, SIDE as usize)
    }
}

/// A batch of `count` pictures: step by step from one gallery after the other.
pub(crate) fn draw_pictures<'a>(
    galleries: &[&'a Gallery],
    step: u64,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> (&'a Gallery, Vec<usize>) {
    let gallery = galleries[step as usize % galleries.len()];
    let indices = (0..count).map(|_| rng.random_range(0..gallery.len()));
    (gallery, indices.collect())
}

/// Random numbers for one purpose and one step: a pure function of both, so that a training that is
/// resumed draws what it would have drawn.
pub fn draw(purpose: &str, step: u64) -> ChaCha8Rng {
    let mut seed = [0u8; 32];
    seed[..8].copy_from_slice(&SEED.to_le_bytes());
    seed[8..16].copy_from_slice(&step.to_le_bytes());
    for (slot, byte) in seed[16..].iter_mut().zip(purpose.bytes()) {
        *slot = byte;
    }
    ChaCha8Rng::from_seed(seed)
}
