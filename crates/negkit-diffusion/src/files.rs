//! The published files of a Stable Diffusion.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::naming::{Naming, compvis, diffusers_vae};
use negkit_checkpoint::{Checkpoint, OpenOptions};
use negkit_nn::{AttentionBudget, Compute, Ignored, Params, TensorSource, read_config};
use negkit_text::ClipFiles;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::DiffusionError;
use crate::scheduler::SchedulerConfig;
use crate::unet::{DownBlockType, PerBlock, UNet, UNetConfig, UpBlockType};
use crate::vae::{Vae, VaeConfig};

/// How to open the files of a Stable Diffusion.
#[derive(Debug, Clone, Default)]
pub struct OpenPipeline {
    /// Take the files of this variant, such as `fp16`, where a folder has it.
    pub variant: Option<String>,
    /// For a single file: a folder with the configurations of a diffusers pipeline. Without it they
    /// are inferred from the tensors, as Stable Diffusion 1 and 2 are published.
    pub config: Option<PathBuf>,
}

/// The published files of a Stable Diffusion, opened: a diffusers folder or a single file.
#[derive(Debug, Clone)]
pub struct PipelineFiles {
    path: PathBuf,
    unet: Arc<Checkpoint>,
    unet_config: UNetConfig,
    vae: Arc<Checkpoint>,
    vae_config: VaeConfig,
    scheduler: SchedulerConfig,
    text: ClipFiles,
}

impl PipelineFiles {
    /// Opens a diffusers folder or a single-file checkpoint.
    ///
    /// # Errors
    /// When a file cannot be read, holds something else, or a configuration is not supported.
    pub fn open(path: impl AsRef<Path>, options: &OpenPipeline) -> Result<Self, DiffusionError> {
        let path = path.as_ref();
        let files = if path.join("model_index.json").is_file() {
            Self::open_folder(path, options)?
        } else if path.is_dir() {
            return Err(DiffusionError::NotAPipeline {
                path: path.to_owned(),
                found: "a folder without model_index.json".to_owned(),
            });
        } else {
            Self::open_single_file(path, options)?
        };
        files.unet_config.check()?;
        files.vae_config.check()?;
        Ok(files)
    }

    fn open_folder(path: &Path, options: &OpenPipeline) -> Result<Self, DiffusionError> {
        let variant = options.variant.as_deref();
        let part = |name: &str| path.join(name);
        let mut open = OpenOptions::new();
        if let Some(variant) = variant {
            open = open.variant(variant);
        }
        Ok(Self {
            unet: Arc::new(open.open(part("unet"))?),
            unet_config: read_config(&part("unet").join("config.json"))?,
            vae: Arc::new(diffusers_vae::to_current(&open.open(part("vae"))?)?),
            vae_config: read_config(&part("vae").join("config.json"))?,
            scheduler: read_scheduler(path)?,
            text: ClipFiles::open_variant(path, variant)?,
            path: path.to_owned(),
        })
    }

    fn open_single_file(path: &Path, options: &OpenPipeline) -> Result<Self, DiffusionError> {
        let checkpoint = Checkpoint::open(path)?;
        let naming = Naming::detect(&checkpoint);
        if naming != Naming::CompVis {
            return Err(DiffusionError::NotAPipeline {
                path: path.to_owned(),
                found: format!("a file whose naming is '{naming}'"),
            });
        }
        let parts = compvis::split(&checkpoint)?;
        let missing = |part| DiffusionError::MissingPart {
            path: path.to_owned(),
            part,
        };
        let unet = parts.unet.ok_or_else(|| missing("UNet"))?;
        let vae = parts.vae.ok_or_else(|| missing("VAE"))?;
        let text = ClipFiles::open(path)?;
        let (unet_config, vae_config, scheduler, text) = match &options.config {
            None => (
                infer_unet_config(&unet),
                infer_vae_config(&vae),
                SchedulerConfig::stable_diffusion_1()?,
                text,
            ),
            Some(folder) => (
                read_config(&folder.join("unet").join("config.json"))?,
                read_config(&folder.join("vae").join("config.json"))?,
                read_scheduler(folder)?,
                text.described_by(
                    Some(&folder.join("text_encoder").join("config.json")),
                    Some(&folder.join("tokenizer")),
                )?,
            ),
        };
        Ok(Self {
            path: path.to_owned(),
            unet: Arc::new(unet),
            unet_config,
            vae: Arc::new(vae),
            vae_config,
            scheduler,
            text,
        })
    }

    /// The same files with another scheduler configuration.
    #[must_use]
    pub fn with_scheduler(mut self, scheduler: SchedulerConfig) -> Self {
        self.scheduler = scheduler;
        self
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text encoder that the model was published with.
    pub fn text(&self) -> &ClipFiles {
        &self.text
    }

    /// Tensors of the UNet, under the names of diffusers.
    pub fn unet(&self) -> &Arc<Checkpoint> {
        &self.unet
    }

    /// Configuration of the UNet.
    pub fn unet_config(&self) -> &UNetConfig {
        &self.unet_config
    }

    /// Tensors of the autoencoder, under the names of diffusers.
    pub fn vae(&self) -> &Arc<Checkpoint> {
        &self.vae
    }

    /// Configuration of the autoencoder.
    pub fn vae_config(&self) -> &VaeConfig {
        &self.vae_config
    }

    /// The scheduler that the model was published with.
    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }
}

/// `scheduler/scheduler_config.json` of a pipeline.
fn read_scheduler(pipeline: &Path) -> Result<SchedulerConfig, DiffusionError> {
    let path = pipeline.join("scheduler").join("scheduler_config.json");
    SchedulerConfig::from_file(&path).map_err(|cause| DiffusionError::SchedulerFile { path, cause })
}

/// A configuration with those of `required` that it lacks, first, as a published file has them.
pub(crate) fn published_json(
    config: &impl Serialize,
    required: &[(&str, Value)],
) -> serde_json::Result<String> {
    let mut fields = Map::new();
    for (field, value) in required {
        fields.insert((*field).to_owned(), value.clone());
    }
    if let Value::Object(own) = serde_json::to_value(config)? {
        fields.extend(own);
    }
    Ok(format!("{:#}\n", Value::Object(fields)))
}

/// Builds a UNet from tensors under the names of diffusers.
///
/// # Errors
/// When the configuration is not supported, or the tensors do not fit it.
pub fn load_unet(
    tensors: Arc<dyn TensorSource>,
    config: &UNetConfig,
    compute: &Compute,
    attention: AttentionBudget,
) -> Result<UNet, DiffusionError> {
    config.check()?;
    let params = Params::compute(tensors, compute).with_attention_budget(attention);
    let unet = UNet::load(&params, config)?;
    params.finish("the UNet", Ignored::default())?;
    Ok(unet)
}

/// Builds an autoencoder from tensors under the current names of diffusers.
///
/// # Errors
/// When the configuration is not supported, or the tensors do not fit it.
pub fn load_vae(
    tensors: Arc<dyn TensorSource>,
    config: &VaeConfig,
    compute: &Compute,
    attention: AttentionBudget,
) -> Result<Vae, DiffusionError> {
    config.check()?;
    let params = Params::compute(tensors, compute).with_attention_budget(attention);
    let vae = Vae::load(&params, config)?;
    params.finish("the VAE", Ignored::default())?;
    Ok(vae)
}

/// Tensors of a file's names and shapes without its values: what a model is built from to see whether it
/// fits, when it is to be read later.
struct Outline(Arc<dyn TensorSource>);

impl TensorSource for Outline {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(name)
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let shape = self.0.shape(name).unwrap_or_default();
        // One zero, whatever the shape.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn origin(&self) -> String {
        self.0.origin()
    }

    /// Layers then pack nothing.
    fn changes(&self) -> bool {
        true
    }
}

/// Whether UNet and autoencoder can be built from these files, without reading their tensors.
///
/// # Errors
/// Those of [`load_unet`] and [`load_vae`] when a configuration is not supported, or tensors are missing,
/// misshapen or too many.
pub(crate) fn check_networks(files: &PipelineFiles) -> Result<(), DiffusionError> {
    let (compute, attention) = (Compute::cpu(), AttentionBudget::default());
    let [unet, vae] = [files.unet(), files.vae()].map(|tensors| Arc::new(Outline(tensors.clone())));
    load_unet(unet, files.unet_config(), &compute, attention)?;
    load_vae(vae, files.vae_config(), &compute, attention)?;
    Ok(())
}

/// Opens one folder of a pipeline (`unet/`): its tensors and its `config.json`.
///
/// # Errors
/// When a file cannot be read.
pub fn open_unet_folder(folder: &Path) -> Result<(Arc<Checkpoint>, UNetConfig), DiffusionError> {
    let config = read_config(&folder.join("config.json"))?;
    Ok((Arc::new(Checkpoint::open(folder)?), config))
}

/// Opens one folder of a pipeline (`vae/`): its tensors and its `config.json`.
///
/// # Errors
/// When a file cannot be read.
pub fn open_vae_folder(folder: &Path) -> Result<(Arc<Checkpoint>, VaeConfig), DiffusionError> {
    let config = read_config(&folder.join("config.json"))?;
    let checkpoint = diffusers_vae::to_current(&Checkpoint::open(folder)?)?;
    Ok((Arc::new(checkpoint), config))
}

/// Reads sizes off a checkpoint's shapes.
struct Shapes<'a>(&'a Checkpoint);

impl Shapes<'_> {
    fn dim(&self, name: &str, dim: usize) -> usize {
        let view = self.0.get(name);
        view.and_then(|view| view.shape().get(dim).copied())
            .unwrap_or_default()
    }

    fn rank(&self, name: &str) -> usize {
        self.0.get(name).map_or(0, |view| view.shape().len())
    }

    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// How many of `name(0)`, `name(1)`, … there are.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }
}

/// Sizes from the tensors; what they do not say is as in Stable Diffusion 1 (8 heads) and, where
/// transformers are entered by a linear layer, 2 (heads of width 64).
fn infer_unet_config(unet: &Checkpoint) -> UNetConfig {
    const SD1_HEADS: usize = 8;
    const SD2_HEAD_WIDTH: usize = 64;
    let shapes = Shapes(unet);
    let resnet = |block: usize, i: usize| format!("down_blocks.{block}.resnets.{i}.conv1.weight");
    let blocks = shapes.count(|i| resnet(i, 0));
    let channels: Vec<usize> = (0..blocks).map(|i| shapes.dim(&resnet(i, 0), 0)).collect();
    let mid = "mid_block.attentions.0";
    let attends = |way: &str, i: usize| shapes.has(&format!("{way}.{i}.attentions.0.norm.weight"));
    let linear = shapes.rank(&format!("{mid}.proj_in.weight")) == 2;
    UNetConfig {
        in_channels: shapes.dim("conv_in.weight", 1),
        out_channels: shapes.dim("conv_out.weight", 0),
        down_block_types: (0..blocks)
            .map(|i| match attends("down_blocks", i) {
                true => DownBlockType::CrossAttn,
                false => DownBlockType::Plain,
            })
            .collect(),
        up_block_types: (0..blocks)
            .map(|i| match attends("up_blocks", i) {
                true => UpBlockType::CrossAttn,
                false => UpBlockType::Plain,
            })
            .collect(),
        layers_per_block: shapes.count(|i| resnet(0, i)),
        cross_attention_dim: shapes
            .dim(&format!("{mid}.transformer_blocks.0.attn2.to_k.weight"), 1),
        attention_head_dim: if linear {
            PerBlock::Each(channels.iter().map(|c| c / SD2_HEAD_WIDTH).collect())
        } else {
            PerBlock::One(SD1_HEADS)
        },
        use_linear_projection: linear,
        block_out_channels: channels,
        ..UNetConfig::default()
    }
}

fn infer_vae_config(vae: &Checkpoint) -> VaeConfig {
    /// What Stable Diffusion 1 and 2 were trained for.
    const SAMPLE_SIZE: usize = 512;
    let shapes = Shapes(vae);
    let resnet =
        |block: usize, i: usize| format!("encoder.down_blocks.{block}.resnets.{i}.conv1.weight");
    let blocks = shapes.count(|i| resnet(i, 0));
    VaeConfig {
        in_channels: shapes.dim("encoder.conv_in.weight", 1),
        out_channels: shapes.dim("decoder.conv_out.weight", 0),
        block_out_channels: (0..blocks).map(|i| shapes.dim(&resnet(i, 0), 0)).collect(),
        layers_per_block: shapes.count(|i| resnet(0, i)),
        latent_channels: shapes.dim("decoder.conv_in.weight", 1),
        sample_size: SAMPLE_SIZE,
        ..VaeConfig::default()
    }
}
