//! The stages of mini-sd: autoencoder, latents, UNet.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use negkit_text::{ClipTextEncoder, TextEncoder};
use negkit_train::tasks::diffusion::{
    CaptionedLatents, DiffusionTask, PipelineParts, export_pipeline, unet_init, zero_snr_schedule,
};
use negkit_train::tasks::grounding::CellLabels;
use negkit_train::tasks::pictures::Pictures;
use negkit_train::tasks::vae::{
    VaeTask, encode_pictures, export_vae, scaling_factor, vae_parameters,
};
use negkit_train::{ParamStore, TrainError, train};
use negkit_world::{Scene, language};
use rand::Rng;
use rayon::prelude::*;
use serde_json::json;

use crate::autoencoder::Autoencoder;
use crate::gallery::{Gallery, draw};
use crate::recipe::{self, LATENT_CHANNELS, SEED};
use crate::stage::Workshop;
use crate::train::World;
use crate::{MiniError, progress};

/// The autoencoder: folder `vae`, in diffusers' layout under `export`.
///
/// # Errors
/// When the training fails.
pub fn vae(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let (settings, task_settings) = recipe::vae_training();
    let config = recipe::vae_config();
    let described = json!({ "training": settings, "task": task_settings, "model": config });
    shop.stage("vae", &described, &["pictures"], |folder| {
        let store = vae_parameters(SEED, &config, &Device::Cpu)?;
        let task = VaeTask::new(
            &store,
            &config,
            (&world.train, &world.validation),
            task_settings.clone(),
        )?;
        train(&store, &task, &settings, &folder.join("training"))?;
        let latents =
            encode_pictures(task.vae(), &(&world.validation), (50, &Device::Cpu), |_| ())?;
        let config = negkit_diffusion::vae::VaeConfig {
            scaling_factor: scaling_factor(&latents)?,
            ..config.clone()
        };
        export_vae(&store, &config, &folder.join("export"))?;
        Ok(())
    })?;
    Ok(())
}

/// Latents of a gallery, with captions made when they are asked for.
struct GalleryLatents<'a> {
    gallery: &'a Gallery,
    /// Scaled, picture by picture.
    values: Vec<f32>,
}

impl CaptionedLatents for GalleryLatents<'_> {
    fn len(&self) -> usize {
        self.gallery.len()
    }

    fn shape(&self) -> [usize; 3] {
        shape()
    }

    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError> {
        let each = latents.len();
        latents.copy_from_slice(&self.values[index * each..(index + 1) * each]);
        Ok(())
    }

    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        let scene = self.gallery.scene(index);
        let mut rng = draw("unet-captions", choice ^ (index as u64) << 32);
        Ok(match rng.random_bool(recipe::FULL_CAPTIONS_UNET) {
            true => language::full_caption(scene),
            false => language::caption_with(scene, &recipe::caption_style(), &mut rng).text,
        })
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        Pictures::cells(&self.gallery, indices)
    }
}

/// Channels, height and width of a picture's latents.
fn shape() -> [usize; 3] {
    let side = recipe::SIDE as usize / recipe::vae_config().scale();
    [LATENT_CHANNELS, side, side]
}

/// Several galleries' latents, one after the other.
struct Joined<'a>(Vec<GalleryLatents<'a>>);

impl Joined<'_> {
    /// The gallery that has picture `index`, and its number there.
    fn find(&self, mut index: usize) -> Result<(&GalleryLatents<'_>, usize), TrainError> {
        for latents in &self.0 {
            if index < latents.len() {
                return Ok((latents, index));
            }
            index -= latents.len();
        }
        Err(TrainError::Task(format!(
            "asked for a picture {index} beyond the last"
        )))
    }
}

impl CaptionedLatents for &Joined<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(CaptionedLatents::len).sum()
    }

    fn shape(&self) -> [usize; 3] {
        shape()
    }

    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError> {
        let (own, index) = self.find(index)?;
        own.read(index, latents)
    }

    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        let (own, index) = self.find(index)?;
        own.caption(index, choice)
    }

    fn cells(&self, indices: &[usize]) -> Result<CellLabels, TrainError> {
        let of_one = |&index: &usize| {
            let (own, index) = self.find(index)?;
            own.cells(&[index])
        };
        let each = indices.par_iter().map(of_one);
        Ok(CellLabels::joined(each.collect::<Result<Vec<_>, _>>()?))
    }
}

/// Pictures of scenes with few things, for the UNet alone: folder `sparse-pictures`.
fn sparse_pictures(shop: &Workshop) -> Result<Gallery, MiniError> {
    let open = |folder: &Path| {
        let path = folder.join("training.rgb");
        Gallery::open_with(Scene::sparse, recipe::SPARSE, &path)
    };
    let settings = json!({ "side": recipe::SIDE, "training": recipe::SPARSE });
    let folder = shop.stage("sparse-pictures", &settings, &[], |folder| {
        open(folder).map(drop)
    })?;
    open(&folder)
}

/// Latents of galleries, scaled to unit variance: the folder `stage`, with a file each.
fn latents<'a>(
    shop: &Workshop,
    (stage, pictures): (&str, &str),
    galleries: &[(&str, &'a Gallery)],
) -> Result<Vec<GalleryLatents<'a>>, MiniError> {
    let folder = shop.stage(stage, &json!({}), &[pictures, "vae"], |folder| {
        let autoencoder = Autoencoder::open(&shop.path("vae").join("export"))?;
        for (name, gallery) in galleries {
            let bar = progress::bar(gallery.len() as u64, "latents");
            let mut values =
                encode_pictures(&autoencoder.vae, gallery, (16, &Device::Cpu), |done| {
                    bar.set_position(done as u64);
                })?;
            bar.finish_and_clear();
            for value in &mut values {
                *value *= autoencoder.scaling_factor as f32;
            }
            let count = values.len();
            let tensor = Tensor::from_vec(values, count, &Device::Cpu)?;
            let tensors = std::collections::HashMap::from([("latents".to_owned(), tensor)]);
            candle_core::safetensors::save(&tensors, folder.join(format!("{name}.safetensors")))?;
        }
        Ok(())
    })?;
    let read = |(name, gallery): &(&str, &'a Gallery)| -> Result<GalleryLatents<'a>, MiniError> {
        let path = folder.join(format!("{name}.safetensors"));
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        let values = match tensors.remove("latents") {
            Some(tensor) => tensor.to_vec1()?,
            None => Vec::new(),
        };
        Ok(GalleryLatents { gallery, values })
    };
    galleries.iter().map(read).collect()
}

/// mini-sd: folder `sd`, in diffusers' layout under `export`.
///
/// # Errors
/// When the training fails.
pub fn unet(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let trainings = recipe::unet_trainings();
    let config = recipe::unet_config();
    let described = json!({
        "trainings": trainings,
        "model": config,
        "full_captions": recipe::FULL_CAPTIONS_UNET,
    });
    let galleries = [
        ("training", &world.train),
        ("validation", &world.validation),
    ];
    let mut train_latents = latents(shop, ("latents", "pictures"), &galleries)?;
    let held_out = train_latents.split_off(1);
    let sparse = sparse_pictures(shop)?;
    let of_sparse = ("sparse-latents", "sparse-pictures");
    train_latents.extend(latents(shop, of_sparse, &[("training", &sparse)])?);
    let (train_latents, held_out) = (Joined(train_latents), Joined(held_out));
    let inputs = ["latents", "sparse-latents", "towers"];
    shop.stage("sd", &described, &inputs, |folder| {
        // Its text tower is that of the finished mini-clip.
        let clip = shop.path("towers").join("export");
        let text = ClipTextEncoder::load(&clip, &recipe::compute()).map_err(MiniError::other)?;
        let text = Arc::new(text);
        let schedule = zero_snr_schedule()?;
        let store = ParamStore::random_with(SEED, &Device::Cpu, unet_init);
        let folders = ["training", "training-noisy"];
        for ((settings, task_settings), name) in trainings.iter().zip(folders) {
            let task = DiffusionTask::new(
                &store,
                &config,
                &schedule,
                Arc::clone(&text) as Arc<dyn TextEncoder>,
                (&train_latents, &held_out),
                task_settings.clone(),
            )?;
            train(&store, &task, settings, &folder.join(name))?;
        }
        let parts = PipelineParts {
            unet: &store,
            unet_config: &config,
            scheduler: &schedule,
            vae: &shop.path("vae").join("export"),
            clip: &clip,
        };
        export_pipeline(parts, &folder.join("export"))?;
        Ok(())
    })?;
    Ok(())
}
