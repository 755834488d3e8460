//! How long one evaluation of a network takes.
//!
//! The work is that of `eval/bench`: one network, with the weights of a folder or with random ones of
//! the sizes that are published (`published/*.json`), on random inputs. The inputs do not matter to the
//! time and are not those of a parity case.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Result, Shape, Tensor};
use negkit_clip::{ClipVisionConfig, ClipVisionTower};
use negkit_clipseg::{ClipSeg, ClipSegConfig, ClipSegFiles};
use negkit_diffusion::unet::{UNet, UNetConfig};
use negkit_diffusion::vae::{Vae, VaeConfig, VaeTiling};
use negkit_diffusion::{load_unet, load_vae, open_unet_folder, open_vae_folder};
use negkit_image::PicturePreprocessor;
use negkit_nn::{AttentionBudget, Compute, Params, operations};
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use negkit_text::{ClipFiles, EncoderInfo, WeightsSource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ParityError;
use crate::run::{NoText, load_text_tower};

/// A network that can be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Stable Diffusion's UNet; its size is that of the picture.
    Unet,
    /// The decoder of Stable Diffusion's autoencoder; its size is that of the picture.
    VaeDecode,
    /// A CLIP text tower; its size is the number of tokens.
    ClipText,
    /// A CLIP vision tower; its size is that of the picture.
    ClipVision,
    /// CLIPSeg; one picture, and as many phrases as the batch says.
    Clipseg,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unet,
        Self::VaeDecode,
        Self::ClipText,
        Self::ClipVision,
        Self::Clipseg,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::VaeDecode => "vae-decode",
            Self::ClipText => "clip-text",
            Self::ClipVision => "clip-vision",
            Self::Clipseg => "clipseg",
        }
    }

    /// The size that it was made for.
    pub fn published_size(self) -> usize {
        match self {
            Self::Unet | Self::VaeDecode => 512,
            Self::ClipText => 77,
            Self::ClipVision => 224,
            Self::Clipseg => 352,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|network| network.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown network '{text}': expected one of {names}")
        })
    }
}

/// What is to be timed.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    /// The network.
    pub network: Network,
    /// The folder or file that it is published as; random weights of the published sizes without.
    pub weights: Option<&'a Path>,
    /// Elements of the batch; for CLIPSeg, phrases.
    pub batch: usize,
    /// See [`Network`].
    pub size: usize,
}

/// How long it took.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Time to load and pack the weights, in seconds.
    pub load_seconds: f64,
    /// Time of every evaluation, in seconds. One before them is not counted.
    pub seconds: Vec<f64>,
    /// Multiplications and additions in the products of one evaluation.
    pub operations: u64,
    /// Highest memory of the process, in GiB, where the system tells.
    pub peak_memory_gib: Option<f64>,
}

type Evaluate = Box<dyn Fn() -> std::result::Result<Tensor, ParityError>>;

/// Loads the network and evaluates it `repeat` times after one time that is not counted. `progress` is
/// called after each.
///
/// # Errors
/// When the weights cannot be read, or the sizes do not fit the network.
pub fn time(
    work: &Work,
    repeat: usize,
    compute: &Compute,
    mut progress: impl FnMut(),
) -> std::result::Result<Timing, ParityError> {
    let start = Instant::now();
    let evaluate = prepare(work, compute)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let mut seconds = Vec::with_capacity(repeat);
    let before = operations();
    // The result of the devices that compute in the background is only there once it is read.
    let run = || -> std::result::Result<(), ParityError> {
        evaluate()?
            .flatten_all()?
            .narrow(0, 0, 1)?
            .to_device(&Device::Cpu)?;
        Ok(())
    };
    run()?;
    let operations = operations() - before;
    progress();
    for _ in 0..repeat {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
        progress();
    }
    Ok(Timing {
        load_seconds,
        seconds,
        operations,
        peak_memory_gib: peak_memory_gib(),
    })
}

/// The highest resident memory of this process so far: `VmHWM` of Linux.
fn peak_memory_gib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

const SEED: u64 = 0;

fn published<C: DeserializeOwned>(text: &str) -> std::result::Result<C, ParityError> {
    serde_json::from_str(text).map_err(|cause| ParityError::Option {
        case: "published sizes".into(),
        option: "config.json".into(),
        cause,
    })
}

fn prepare(work: &Work, compute: &Compute) -> std::result::Result<Evaluate, ParityError> {
    let Work {
        weights,
        batch,
        size,
        ..
    } = *work;
    let Compute { dtype, device, .. } = compute;
    let random = Params::random(SEED, *dtype, device).with_products(compute.products);
    let inputs = Params::random(SEED + 1, DType::F32, &Device::Cpu);
    let input = |shape: &[usize]| -> Result<Tensor> {
        let shape = Shape::from(shape);
        let values = inputs.get((shape.elem_count(), 1), "input")?;
        values.reshape(shape)?.to_dtype(*dtype)?.to_device(device)
    };
    let budget = AttentionBudget::default();
    Ok(match work.network {
        Network::Unet => {
            let (unet, config) = match weights {
                Some(folder) => {
                    let (tensors, config) = open_unet_folder(folder)?;
                    (load_unet(tensors, &config, compute, budget)?, config)
                }
                None => {
                    let config: UNetConfig = published(include_str!("../published/unet.json"))?;
                    (UNet::load(&random, &config)?, config)
                }
            };
            let side = size / LATENT_SCALE;
            let sample = input(&[batch, config.in_channels, side, side])?;
            let context = input(&[batch, CONTEXT, config.cross_attention_dim])?;
            Box::new(move || Ok(unet.forward(&sample, &[500.], &context)?))
        }
        Network::VaeDecode => {
            let vae = match weights {
                Some(folder) => {
                    let (tensors, config) = open_vae_folder(folder)?;
                    load_vae(tensors, &config, compute, budget)?
                }
                None => {
                    let config: VaeConfig = published(include_str!("../published/vae.json"))?;
                    Vae::load(&random, &config)?
                }
            };
            let side = size / vae.config().scale();
            let latents = input(&[batch, vae.config().latent_channels, side, side])?;
            Box::new(move || Ok(vae.decode(&latents, VaeTiling::Off)?))
        }
        Network::ClipText => {
            let (tower, config) = match weights {
                Some(folder) => load_text_tower(&ClipFiles::open(folder)?, compute)?,
                None => {
                    let text = include_str!("../published/clip-text.json");
                    let config: ClipTextConfig = published(text)?;
                    (ClipTextTower::load(&random, &config)?, config)
                }
            };
            let last = config.vocab_size as u32 - 1;
            let row: Vec<u32> = (0..size as u32).map(|i| (i * 7919) % last).collect();
            let ids = vec![row; batch];
            Box::new(move || Ok(tower.forward(&ids)?.last_hidden_state))
        }
        Network::ClipVision => {
            let tower = match weights {
                Some(folder) => {
                    let files = ClipFiles::open(folder)?;
                    let config = negkit_clip::vision_config(&files)?;
                    let params = Params::compute(files.tensors().clone(), compute);
                    let tower = ClipVisionTower::load(&params, &config)?;
                    params.finish("the CLIP vision tower", ClipFiles::NOT_VISION)?;
                    tower
                }
                None => {
                    let text = include_str!("../published/clip-vision.json");
                    let config: ClipVisionConfig = published(text)?;
                    ClipVisionTower::load(&random, &config)?
                }
            };
            let pixels = input(&[batch, tower.config().num_channels, size, size])?;
            Box::new(move || Ok(tower.forward(&pixels)?.image_embeds))
        }
        Network::Clipseg => {
            let no_text = |config: &ClipSegConfig, from: String| {
                Arc::new(NoText(EncoderInfo {
                    name: "none".into(),
                    hidden_size: config.text_config.hidden_size,
                    projection_dim: Some(config.projection_dim),
                    context_length: config.text_config.max_position_embeddings,
                    tokenizer: "none".into(),
                    weights: WeightsSource::new(from, None),
                }))
            };
            let model = match weights {
                Some(folder) => {
                    let files = ClipSegFiles::open(folder, None)?;
                    let text = no_text(files.config(), folder.display().to_string());
                    ClipSeg::from_files(&files, Some(text), compute)?
                }
                None => {
                    let config = ClipSegConfig::default();
                    let text = no_text(&config, "random weights".into());
                    let preprocess = PicturePreprocessor::clip(size as u32);
                    ClipSeg::random(&config, text, preprocess, SEED, compute)?
                }
            };
            let pixels = input(&[1, 3, size, size])?;
            let phrases = input(&[batch, model.config().projection_dim])?;
            Box::new(move || Ok(model.forward(&pixels, &phrases)?))
        }
    })
}

/// Pixels of a latent along one side, as in all of Stable Diffusion 1 and 2.
const LATENT_SCALE: usize = 8;
/// Tokens of a prompt.
const CONTEXT: usize = 77;
