//! The stage of mini-vqa, and how its pictures are made harder.

use std::path::Path;

use candle_core::{Device, Tensor};
use negkit_diffusion::vae::VaeTiling;
use negkit_text::tokenizer::ClipTokenizer;
use negkit_train::tasks::vqa::{VqaBatch, VqaData, VqaTask, export_vqa};
use negkit_train::{ParamStore, TrainError, TrainSettings, train};
use negkit_vqa::mini::MiniVqaConfig;
use negkit_world::language;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};

use crate::MiniError;
use crate::autoencoder::Autoencoder;
use crate::detect::{Naming, cell_labels};
use crate::gallery::{Gallery, Normalisation, draw, draw_pictures};
use crate::recipe::{self, SEED};
use crate::stage::Workshop;
use crate::train::{World, posed_stage};

/// What is done to pictures so that a model reads painted ones as it reads drawn ones: noise, blur,
/// shifts of colour, and the way through the autoencoder with noise on the latents.
pub struct Wear {
    autoencoder: Autoencoder,
}

impl Wear {
    /// With the autoencoder of a folder of diffusers.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(vae: &Path) -> Result<Self, MiniError> {
        Ok(Self {
            autoencoder: Autoencoder::open(vae)?,
        })
    }

    /// Pictures `[n, 3, side, side]` of -1 to 1, worn in ways drawn from `rng`; a third goes
    /// through the autoencoder.
    ///
    /// # Errors
    /// When the device fails.
    pub fn apply(&self, pictures: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor, TrainError> {
        let (count, channels, height, width) = pictures.dims4()?;
        let through = count / 3;
        let (first, rest) = (
            pictures.narrow(0, 0, through)?,
            pictures.narrow(0, through, count - through)?,
        );
        let Autoencoder {
            vae,
            scaling_factor,
        } = &self.autoencoder;
        let latents = vae.encode(&first)?.mean;
        // The scale on which the UNet's errors are: latents of unit variance.
        let strength = rng.random_range(0. ..0.25) / scaling_factor;
        let noise = normal(latents.elem_count(), rng);
        let noise = Tensor::from_vec(noise, latents.shape(), latents.device())?;
        let first = vae.decode(&(latents + (noise * strength)?)?, VaeTiling::Off)?;
        let all = Tensor::cat(&[&first, &rest], 0)?;
        let mut values = all.flatten_all()?.to_vec1::<f32>()?;
        let plane = height * width;
        for picture in values.chunks_exact_mut(channels * plane) {
            if rng.random_bool(0.3) {
                for channel in picture.chunks_exact_mut(plane) {
                    blur(channel, width);
                }
            }
            if rng.random_bool(0.4) {
                let deviation = rng.random_range(0. ..0.12);
                for (value, noise) in picture.iter_mut().zip(normal(channels * plane, rng)) {
                    *value += deviation * noise;
                }
            }
            let (gain, shift) = (rng.random_range(0.9..1.1), rng.random_range(-0.08..0.08));
            for value in picture {
                *value = (*value * gain + shift).clamp(-1., 1.);
            }
        }
        Ok(Tensor::from_vec(
            values,
            pictures.shape(),
            pictures.device(),
        )?)
    }
}

fn normal(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| StandardNormal.sample(rng)).collect()
}

/// Binomial blur of one channel, 1-2-1 both ways.
fn blur(channel: &mut [f32], width: usize) {
    let height = channel.len() / width;
    let source = channel.to_vec();
    let at = |x: usize, y: usize| source[y * width + x];
    for y in 0..height {
        let (up, down) = (y.saturating_sub(1), (y + 1).min(height - 1));
        for x in 0..width {
            let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
            let row = |y: usize| at(left, y) + 2. * at(x, y) + at(right, y);
            channel[y * width + x] = (row(up) + 2. * row(y) + row(down)) / 16.;
        }
    }
}

/// Scenes with questions.
struct Questions<'a> {
    /// Batches come from one after the other.
    train: &'a [&'a Gallery],
    held_out: &'a Gallery,
    wear: &'a Wear,
    config: &'a MiniVqaConfig,
    tokenizer: &'a ClipTokenizer,
    pictures: usize,
    each: usize,
}

impl Questions<'_> {
    fn of(
        &self,
        gallery: &Gallery,
        indices: &[usize],
        worn: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<VqaBatch, TrainError> {
        let mut texts: Vec<(String, String)> = Vec::new();
        for &i in indices {
            let mut questions = language::questions(gallery.scene(i), rng);
            if questions.is_empty() {
                return Err(TrainError::Task(
                    "got a scene that nothing can be asked of".to_owned(),
                ));
            }
            for _ in 0..self.each {
                let drawn = rng.random_range(0..questions.len());
                // Without replacement as long as there are enough.
                let question = match questions.len() {
                    1 => questions[0].clone(),
                    _ => questions.swap_remove(drawn),
                };
                texts.push((question.text, question.answer));
            }
        }
        let (kinds, colours) =
            cell_labels(gallery, indices, &self.config.vision_config, Naming::Kinds)?;
        let mut pictures = gallery.tensor(indices, Normalisation::SYMMETRIC)?;
        if worn {
            pictures = self.wear.apply(&pictures, rng)?;
        }
        let examples: Vec<(&str, &str)> = texts
            .iter()
            .map(|(question, answer)| (question.as_str(), answer.as_str()))
            .collect();
        VqaBatch::from_words(
            pictures,
            (kinds, colours),
            &examples,
            self.config,
            self.tokenizer,
        )
    }
}

impl VqaData for Questions<'_> {
    fn batch(&self, step: u64) -> Result<VqaBatch, TrainError> {
        let mut rng = draw("questions", step);
        let (gallery, indices) = draw_pictures(self.train, step, self.pictures, &mut rng);
        self.of(gallery, &indices, true, &mut rng)
    }

    fn validation(&self) -> Result<Vec<VqaBatch>, TrainError> {
        let mut rng = draw("questions-held", 0);
        let indices: Vec<usize> = (0..400).collect();
        indices
            .chunks(100)
            .map(|part| self.of(self.held_out, part, false, &mut rng))
            .collect()
    }

    fn recipe(&self) -> Value {
        json!({ "pictures": self.pictures, "questions": self.each })
    }
}

/// mini-vqa: folder `vqa-posed`, ready for use under `export`; as it is before it sees posed
/// scenes, in the folder `vqa`.
///
/// # Errors
/// When the training fails.
pub fn vqa(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let (pictures, each) = recipe::VQA_BATCH;
    let settings = recipe::vqa_training();
    let described = json!({
        "training": settings,
        "pictures": pictures,
        "questions": each,
        "widths": recipe::VQA_WIDTHS,
    });
    let inputs = ["pictures", "tokenizer", "vae"];
    shop.stage("vqa", &described, &inputs, |folder| {
        let store = ParamStore::random(SEED + 1, &Device::Cpu);
        train_vqa(shop, world, &[&world.train], (&store, &settings), folder)
    })?;

    let settings = recipe::vqa_posed_training();
    let described = json!({
        "training": settings,
        "pictures": pictures,
        "questions": each,
    });
    let of_it = ("vqa", &["tokenizer", "vae"][..]);
    posed_stage(
        shop,
        world,
        of_it,
        &described,
        |galleries, store, folder| train_vqa(shop, world, galleries, (store, &settings), folder),
    )
}

fn train_vqa(
    shop: &Workshop,
    world: &World,
    galleries: &[&Gallery],
    (store, settings): (&ParamStore, &TrainSettings),
    folder: &Path,
) -> Result<(), MiniError> {
    let (pictures, each) = recipe::VQA_BATCH;
    let tokenizer_folder = shop.path("tokenizer");
    let tokenizer = ClipTokenizer::from_folder(&tokenizer_folder).map_err(MiniError::other)?;
    let config = recipe::vqa_config(tokenizer.info().vocab_size)?;
    let wear = Wear::open(&shop.path("vae").join("export"))?;
    let data = Questions {
        train: galleries,
        held_out: &world.validation,
        wear: &wear,
        config: &config,
        tokenizer: &tokenizer,
        pictures,
        each,
    };
    let task = VqaTask::new(store, &config, data)?;
    train(store, &task, settings, &folder.join("training"))?;
    export_vqa(store, &config, &tokenizer_folder, &folder.join("export"))?;
    Ok(())
}
