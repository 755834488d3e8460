//! The stages of mini-sd: autoencoder, latents, UNet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use negkit_diffusion::scheduler::SchedulerConfig;
use negkit_diffusion::unet::UNetConfig;
use negkit_text::{ClipTextEncoder, TextEncoder};
use negkit_train::tasks::diffusion::{
    CaptionedLatents, DiffusionSettings, DiffusionTask, PipelineParts, export_pipeline, unet_init,
};
use negkit_train::tasks::grounding::CellLabels;
use negkit_train::tasks::vae::{
    VaeTask, encode_pictures, export_vae, scaling_factor, vae_parameters,
};
use negkit_train::{ParamStore, TrainError, TrainSettings, train};
use negkit_world::{Scene, language};
use rand::Rng;
use rayon::prelude::*;
use serde_json::json;

use crate::autoencoder::Autoencoder;
use crate::detect::{Naming, cell_labels};
use crate::gallery::{Gallery, draw};
use crate::recipe::{self, LATENT_CHANNELS, SEED};
use crate::stage::Workshop;
use crate::train::{World, posed_pictures, trained};
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

/// Latents of pictures of a gallery, with captions made when they are asked for.
#[derive(Clone)]
struct GalleryLatents<'a> {
    gallery: &'a Gallery,
    /// Numbers of the pictures.
    pictures: Vec<usize>,
    /// Scaled, picture by picture, of the whole gallery.
    values: Arc<Vec<f32>>,
}

impl GalleryLatents<'_> {
    /// Those of the first `count` pictures.
    fn first(mut self, count: usize) -> Self {
        self.pictures.truncate(count);
        self
    }

    /// Those of the pictures of scenes that are `wanted`, so many times.
    fn again(mut self, wanted: fn(&Scene) -> bool, times: usize) -> Vec<Self> {
        let gallery = self.gallery;
        self.pictures.retain(|&i| wanted(gallery.scene(i)));
        vec![self; times]
    }
}

/// Whether the scene has a thing that stands, flies or moves in several ways, or wears something.
fn is_varied(scene: &Scene) -> bool {
    let mut things = scene.things.iter();
    things.any(|thing| thing.state.is_some() || !thing.worn.is_empty())
}

/// Whether somebody wears or holds something.
fn has_worn(scene: &Scene) -> bool {
    scene.things.iter().any(|thing| !thing.worn.is_empty())
}

impl CaptionedLatents for GalleryLatents<'_> {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn shape(&self) -> [usize; 3] {
        shape()
    }

    fn read(&self, index: usize, latents: &mut [f32]) -> Result<(), TrainError> {
        let (index, each) = (self.pictures[index], latents.len());
        latents.copy_from_slice(&self.values[index * each..(index + 1) * each]);
        Ok(())
    }

    fn caption(&self, index: usize, choice: u64) -> Result<String, TrainError> {
        let index = self.pictures[index];
        let scene = self.gallery.scene(index);
        let mut rng = draw("unet-captions", choice ^ (index as u64) << 32);
        Ok(match rng.random_bool(recipe::FULL_CAPTIONS_UNET) {
            true => language::full_caption(scene),
            false => language::caption_with(scene, &recipe::caption_style(), &mut rng).text,
        })
    }
}

/// Channels, height and width of a picture's latents.
fn shape() -> [usize; 3] {
    let side = recipe::SIDE as usize / recipe::vae_config().scale();
    [LATENT_CHANNELS, side, side]
}

/// Several galleries' latents, one after the other.
#[derive(Clone)]
struct Joined<'a> {
    galleries: Vec<GalleryLatents<'a>>,
    /// What cells are labelled with.
    naming: Naming,
}

impl Joined<'_> {
    /// The gallery that has picture `index`, and its number there.
    fn find(&self, mut index: usize) -> Result<(&GalleryLatents<'_>, usize), TrainError> {
        for latents in &self.galleries {
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
        self.galleries.iter().map(CaptionedLatents::len).sum()
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
        let config = recipe::detector_config().map_err(TrainError::other)?;
        let of_one = |&index: &usize| {
            let (own, index) = self.find(index)?;
            let index = own.pictures[index];
            let (kinds, colours) = cell_labels(own.gallery, &[index], &config, self.naming)?;
            Ok::<_, TrainError>(CellLabels { kinds, colours })
        };
        let each = indices.par_iter().map(of_one);
        Ok(CellLabels::joined(each.collect::<Result<Vec<_>, _>>()?))
    }
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
        Ok(GalleryLatents {
            gallery,
            pictures: (0..gallery.len()).collect(),
            values: Arc::new(values),
        })
    };
    galleries.iter().map(read).collect()
}

/// What a training of the UNet needs besides pictures.
struct Painter<'a> {
    shop: &'a Workshop,
    config: UNetConfig,
    schedule: SchedulerConfig,
    /// Stock mini-clip.
    clip: PathBuf,
    text: Arc<dyn TextEncoder>,
}

impl<'a> Painter<'a> {
    fn open(shop: &'a Workshop) -> Result<Self, MiniError> {
        let clip = shop.path("clip").join("export");
        let text = ClipTextEncoder::load(&clip, &recipe::compute()).map_err(MiniError::other)?;
        Ok(Self {
            shop,
            config: recipe::unet_config(),
            schedule: recipe::schedule()?,
            clip,
            text: Arc::new(text),
        })
    }

    /// Trains the UNet in `store`, in `folder`.
    fn train(
        &self,
        store: &ParamStore,
        latents: (&Joined<'_>, &Joined<'_>),
        (settings, task_settings): &(TrainSettings, DiffusionSettings),
        folder: &Path,
    ) -> Result<(), MiniError> {
        let task = DiffusionTask::new(
            store,
            &self.config,
            &self.schedule,
            Arc::clone(&self.text),
            latents,
            task_settings.clone(),
        )?;
        train(store, &task, settings, folder)?;
        Ok(())
    }

    /// Writes mini-sd in diffusers' layout.
    fn export(&self, store: &ParamStore, folder: &Path) -> Result<(), MiniError> {
        let parts = PipelineParts {
            unet: store,
            unet_config: &self.config,
            scheduler: &self.schedule,
            vae: &self.shop.path("vae").join("export"),
            clip: &self.clip,
        };
        Ok(export_pipeline(parts, folder)?)
    }
}

/// mini-sd: folder `sd-looks`, in diffusers' layout under `export`; as it is before it learns states,
/// in the folder `sd`.
///
/// # Errors
/// When the training fails.
pub fn unet(shop: &Workshop, world: &World) -> Result<(), MiniError> {
    let galleries = [
        ("training", &world.train),
        ("validation", &world.validation),
    ];
    let mut ordinary = latents(shop, ("latents", "pictures"), &galleries)?;
    let mut held_out = Joined {
        galleries: ordinary.split_off(1),
        naming: Naming::Kinds,
    };
    let posed = posed_pictures(shop)?;
    let of_posed = ("posed-latents", "posed-pictures");
    let mut all = latents(shop, of_posed, &[("training", &posed)])?;
    let more = |wanted: fn(&Scene) -> bool, times: usize| -> Vec<GalleryLatents<'_>> {
        let posed = all.iter().cloned();
        posed
            .flat_map(|latents| latents.again(wanted, times))
            .collect()
    };
    let varied = more(is_varied, recipe::VARIED_REPEATS);
    let worn = more(has_worn, recipe::WORN_REPEATS);
    all.extend(varied);
    for latents in ordinary {
        all.push(latents.first(recipe::ORDINARY_BESIDE_POSED));
    }
    let mut all = Joined {
        galleries: all,
        naming: Naming::Kinds,
    };

    let training = recipe::unet_training();
    let described = json!({
        "training": training,
        "model": recipe::unet_config(),
        "ordinary_scenes": recipe::ORDINARY_BESIDE_POSED,
        "repeats": recipe::VARIED_REPEATS,
        "full_captions": recipe::FULL_CAPTIONS_UNET,
    });
    let inputs = ["latents", "posed-latents", "clip"];
    let before = shop.stage("sd", &described, &inputs, |folder| {
        let painter = Painter::open(shop)?;
        let store = ParamStore::random_with(SEED, &Device::Cpu, unet_init);
        let folder_of_it = folder.join("training");
        painter.train(&store, (&all, &held_out), &training, &folder_of_it)?;
        painter.export(&store, &folder.join("export"))
    })?;

    all.galleries.extend(worn);
    for latents in [&mut all, &mut held_out] {
        latents.naming = Naming::Looks;
    }
    let training = recipe::unet_looks_training();
    let described = json!({ "training": training, "repeats_of_worn": recipe::WORN_REPEATS });
    let inputs = ["latents", "posed-latents", "clip", "sd"];
    shop.stage("sd-looks", &described, &inputs, |folder| {
        let painter = Painter::open(shop)?;
        let store = trained(&before.join("export").join("unet"))?;
        let folder_of_it = folder.join("training");
        painter.train(&store, (&all, &held_out), &training, &folder_of_it)?;
        painter.export(&store, &folder.join("export"))
    })?;
    Ok(())
}
