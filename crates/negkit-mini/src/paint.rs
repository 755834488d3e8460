//! The stages of mini-sd: autoencoder, latents, UNet.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use negkit_text::ClipTextEncoder;
use negkit_train::tasks::diffusion::{
    CaptionedLatents, DiffusionTask, PipelineParts, export_pipeline, unet_init, zero_snr_schedule,
};
use negkit_train::tasks::vae::{
    VaeTask, encode_pictures, export_vae, scaling_factor, vae_parameters,
};
use negkit_train::{ParamStore, TrainError, train};
use negkit_world::language;
use rand::Rng;
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
    shape: [usize; 3],
}

impl CaptionedLatents for GalleryLatents<'_> {
    fn len(&self) -> usize {
        self.gallery.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
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
}

/// Latents of both galleries, scaled to unit variance: folder `latents`.
fn latents<'a>(
    shop: &Workshop,
    world: &'a World,
) -> Result<(GalleryLatents<'a>, GalleryLatents<'a>), MiniError> {
    const NAMES: [&str; 2] = ["training", "validation"];
    let galleries = [&world.train, &world.validation];
    let folder = shop.stage("latents", &json!({}), &["pictures", "vae"], |folder| {
        let autoencoder = Autoencoder::open(&shop.path("vae").join("export"))?;
        for (name, gallery) in NAMES.into_iter().zip(galleries) {
            let bar = progress::bar(gallery.len() as u64, "latents");
            let mut values =
                encode_pictures(&autoencoder.vae, &gallery, (16, &Device::Cpu), |done| {
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
    let side = recipe::SIDE as usize / recipe::vae_config().scale();
    let read = |name: &str, gallery: &'a Gallery| -> Result<GalleryLatents<'a>, MiniError> {
        let path = folder.join(format!("{name}.safetensors"));
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        let values = match tensors.remove("latents") {
            Some(tensor) => tensor.to_vec1()?,
            None => Vec::new(),
        };
        Ok(GalleryLatents {
            gallery,
            values,
            shape: [LATENT_CHANNELS, side, side],
        })
    };
    Ok((read(NAMES[0], galleries[0])?, read(NAMES[1], galleries[1])?))
}

/// mini-sd: folder `sd`, in diffusers' layout under `export`.
///
/// # Errors
/// When the training fails.
pub fn unet(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let (settings, task_settings) = recipe::unet_training();
    let config = recipe::unet_config();
    let described = json!({
        "training": settings,
        "task": task_settings,
        "model": config,
        "full_captions": recipe::FULL_CAPTIONS_UNET,
    });
    let (train_latents, held_out) = latents(shop, world)?;
    shop.stage("sd", &described, &["latents", "towers"], |folder| {
        // Its text tower is that of the finished mini-clip.
        let clip = shop.path("towers").join("export");
        let text = ClipTextEncoder::load(&clip, &recipe::compute()).map_err(MiniError::other)?;
        let schedule = zero_snr_schedule()?;
        let store = ParamStore::random_with(SEED, &Device::Cpu, unet_init);
        let task = DiffusionTask::new(
            &store,
            &config,
            &schedule,
            Arc::new(text),
            (train_latents, held_out),
            task_settings.clone(),
        )?;
        train(&store, &task, &settings, &folder.join("training"))?;
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
