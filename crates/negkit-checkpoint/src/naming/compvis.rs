//! Single-file Stable Diffusion: from CompVis' names to three checkpoints of diffusers and
//! transformers.
//!
//! CompVis numbers the blocks of the UNet in one row, downsamplers included, and those of the decoder
//! from the output side. How many blocks there are, and how many layers each has, is told by the
//! tensors themselves: a downsampler or upsampler ends a block. The correspondence of names is that
//! of diffusers' `convert_ldm_unet_checkpoint` and `convert_ldm_vae_checkpoint`
//! (`diffusers/loaders/single_file_utils.py`).

use std::collections::{BTreeMap, BTreeSet};

use crate::naming::diffusers_vae::is_projection;
use crate::naming::{Renamed, clip, leading_number, replace_start};
use crate::{Checkpoint, CheckpointError};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
/// Stable Diffusion 1: a text encoder of transformers.
const TEXT_TRANSFORMERS: &str = "cond_stage_model.transformer.";
/// Stable Diffusion 2: a text encoder of open_clip.
const TEXT_OPEN_CLIP: &str = "cond_stage_model.model.";
/// Moving averages of the weights, kept for training on.
const AVERAGES: &str = "model_ema.";

/// The noise schedule, which a scheduler computes from its configuration.
const SCHEDULE: &[&str] = &[
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "betas",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "scale_factor",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
];

/// Parts of the UNet outside its blocks.
const UNET_ENDS: &[(&str, &str)] = &[
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];
const UNET_RESNET: &[(&str, &str)] = &[
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];
const VAE_ENDS: &[(&str, &str)] = &[
    ("conv_in", "conv_in"),
    ("conv_out", "conv_out"),
    ("norm_out", "conv_norm_out"),
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.block_2", "mid_block.resnets.1"),
    ("mid.attn_1", "mid_block.attentions.0"),
];
const VAE_ATTENTION: &[(&str, &str)] = &[
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
];

/// The three models of a single file, each in the names of its own library.
#[derive(Debug, Clone)]
pub struct SingleFile {
    /// diffusers' `UNet2DConditionModel`.
    pub unet: Option<Checkpoint>,
    /// diffusers' `AutoencoderKL`.
    pub vae: Option<Checkpoint>,
    /// transformers' `CLIPTextModel`, with `text_model.` before every name.
    pub text_encoder: Option<Checkpoint>,
    /// Names that belong to none of them and are not known to be of no use.
    pub unknown: Vec<String>,
}

pub(super) fn is_single_file(checkpoint: &Checkpoint) -> bool {
    let prefixes = [UNET, VAE, "cond_stage_model."];
    let mut names = checkpoint.iter().map(|(name, _)| name);
    names.any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

/// Whether the file is the autoencoder alone, without the prefix that it has in a single file.
pub(super) fn is_bare_vae(checkpoint: &Checkpoint) -> bool {
    let mut names = checkpoint.iter().map(|(name, _)| name);
    names.any(|name| name.starts_with("encoder.mid.") || name.starts_with("decoder.mid."))
}

/// Splits a single file into its models; also takes an autoencoder that is published alone. A model
/// that the file does not hold is `None`.
///
/// Dropped: the noise schedule, `model_ema.*` (the plain weights are what pipelines use), the
/// autoencoder's training loss, and `position_ids` buffers. Of an open_clip text encoder (Stable
/// Diffusion 2) also `logit_scale`, the projection and the last layer: the UNet is conditioned on the
/// layer before it, and the published `text_encoder/` is one layer shorter as well.
///
/// # Errors
/// When a tensor has not the shape that its name promises, or two tensors end up with one name.
pub fn split(checkpoint: &Checkpoint) -> Result<SingleFile, CheckpointError> {
    let part = |prefix: &str| Some(checkpoint.strip_prefix(prefix)).filter(|part| !part.is_empty());
    let bare_vae = is_bare_vae(checkpoint);
    let vae = if bare_vae {
        Some(checkpoint.clone())
    } else {
        part(VAE)
    };
    let text_encoder = match (part(TEXT_TRANSFORMERS), part(TEXT_OPEN_CLIP)) {
        (Some(text), _) => Some(clip::to_transformers(&text)?),
        (None, Some(text)) => Some(open_clip_text(&text)?),
        (None, None) => None,
    };
    let known = [UNET, VAE, TEXT_TRANSFORMERS, TEXT_OPEN_CLIP, AVERAGES];
    let unknown = checkpoint
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !bare_vae && !SCHEDULE.contains(name))
        .filter(|name| !known.iter().any(|prefix| name.starts_with(prefix)))
        .map(str::to_owned)
        .collect();
    Ok(SingleFile {
        unet: part(UNET).map(|part| unet(&part)).transpose()?,
        vae: vae.map(|part| autoencoder(&part)).transpose()?,
        text_encoder,
        unknown,
    })
}

fn open_clip_text(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let layer_of = |name: &str| {
        let rest = name.strip_prefix("transformer.resblocks.")?;
        leading_number(rest).map(|(layer, _)| layer)
    };
    let last = checkpoint
        .iter()
        .filter_map(|(name, _)| layer_of(name))
        .max();
    let tensors = checkpoint.iter().filter(|(name, _)| {
        let in_last_layer = layer_of(name).is_some_and(|layer| Some(layer) == last);
        !in_last_layer && !matches!(*name, "logit_scale" | "text_projection")
    });
    let tensors = tensors.map(|(name, view)| (name.to_owned(), view.clone()));
    clip::to_transformers(&checkpoint.with_tensors(tensors.collect()))
}

/// Where a numbered block of CompVis' row belongs: block of diffusers, layer in it, and whether it
/// ends the block.
struct Place {
    block: usize,
    layer: usize,
    ends_block: bool,
}

/// Places of the blocks `ROW.N`, given which of their names resize.
fn places(
    checkpoint: &Checkpoint,
    row: &str,
    resizes: impl Fn(&str) -> bool,
) -> BTreeMap<usize, Place> {
    let mut blocks: BTreeMap<usize, bool> = BTreeMap::new();
    for (name, _) in checkpoint.iter() {
        let numbered = name.strip_prefix(row).and_then(leading_number);
        if let Some((number, rest)) = numbered {
            *blocks.entry(number).or_default() |= resizes(rest);
        }
    }
    let (mut block, mut layer) = (0, 0);
    let mut places = BTreeMap::new();
    for (number, ends_block) in blocks {
        // The first entry of the input row is the convolution before all blocks.
        if row == INPUT_ROW && number == 0 {
            continue;
        }
        places.insert(
            number,
            Place {
                block,
                layer,
                ends_block,
            },
        );
        layer += 1;
        if ends_block {
            block += 1;
            layer = 0;
        }
    }
    places
}

const INPUT_ROW: &str = "input_blocks.";
const OUTPUT_ROW: &str = "output_blocks.";

fn unet(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let down = places(checkpoint, INPUT_ROW, |rest| rest.starts_with("0.op."));
    let up = places(checkpoint, OUTPUT_ROW, |rest| {
        leading_number(rest).is_some_and(|(_, part)| part.starts_with("conv."))
    });
    let mut renamed = Renamed::new(checkpoint);
    for (name, view) in checkpoint.iter() {
        let new = unet_name(name, &down, &up).unwrap_or_else(|| name.to_owned());
        renamed.insert(new, name, view.clone())?;
    }
    Ok(renamed.finish())
}

fn unet_name(
    name: &str,
    down: &BTreeMap<usize, Place>,
    up: &BTreeMap<usize, Place>,
) -> Option<String> {
    if let Some(new) = replace_start(name, UNET_ENDS) {
        return Some(new);
    }
    if let Some(rest) = name.strip_prefix("middle_block.") {
        // Residual layers and attentions alternate.
        let (number, part) = leading_number(rest)?;
        return unet_part("mid_block", number % 2, number / 2, part);
    }
    let (row, places, block_name) = match name.strip_prefix(INPUT_ROW) {
        Some(row) => (row, down, "down_blocks"),
        None => (name.strip_prefix(OUTPUT_ROW)?, up, "up_blocks"),
    };
    let (number, rest) = leading_number(row)?;
    let place = places.get(&number)?;
    let block = format!("{block_name}.{}", place.block);
    let (index, part) = leading_number(rest)?;
    if place.ends_block {
        if let Some(kind) = part.strip_prefix("op.").filter(|_| index == 0) {
            return Some(format!("{block}.downsamplers.0.conv.{kind}"));
        }
        if let Some(kind) = part.strip_prefix("conv.").filter(|_| index > 0) {
            return Some(format!("{block}.upsamplers.0.conv.{kind}"));
        }
    }
    unet_part(&block, index, place.layer, part)
}

/// Part 0 of a numbered block is a residual layer, part 1 an attention.
fn unet_part(block: &str, index: usize, layer: usize, part: &str) -> Option<String> {
    match index {
        0 => {
            let part = replace_start(part, UNET_RESNET)?;
            Some(format!("{block}.resnets.{layer}.{part}"))
        }
        // Within an attention both libraries have the same names.
        1 => Some(format!("{block}.attentions.{layer}.{part}")),
        _ => None,
    }
}

fn autoencoder(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let up_blocks: BTreeSet<usize> = checkpoint
        .iter()
        .filter_map(|(name, _)| leading_number(name.strip_prefix("decoder.up.")?))
        .map(|(number, _)| number)
        .collect();
    let last_up = up_blocks.last().copied().unwrap_or(0);
    let mut renamed = Renamed::new(checkpoint);
    for (name, view) in checkpoint.iter() {
        if name.starts_with("loss.") || name.starts_with(AVERAGES) {
            continue;
        }
        let new = vae_name(name, last_up).unwrap_or_else(|| name.to_owned());
        let attention = new.split_once(".attentions.0.");
        let view = match attention {
            Some((_, part)) if is_projection(part) => view.drop_trailing_ones(2),
            _ => view.clone(),
        };
        renamed.insert(new, name, view)?;
    }
    Ok(renamed.finish())
}

fn vae_name(name: &str, last_up: usize) -> Option<String> {
    let (half, rest) = name.split_once('.')?;
    if !matches!(half, "encoder" | "decoder") {
        return None;
    }
    if let Some(part) = rest.strip_prefix("mid.attn_1.") {
        let part = replace_start(part, VAE_ATTENTION)?;
        return Some(format!("{half}.mid_block.attentions.0.{part}"));
    }
    if let Some(new) = replace_start(rest, VAE_ENDS) {
        return Some(format!("{half}.{}", shortcut(&new)));
    }
    let (block, resampler, part) =
        match (half, rest.strip_prefix("down."), rest.strip_prefix("up.")) {
            ("encoder", Some(rest), _) => {
                let (number, part) = leading_number(rest)?;
                (format!("encoder.down_blocks.{number}"), "downsample", part)
            }
            ("decoder", _, Some(rest)) => {
                let (number, part) = leading_number(rest)?;
                // Counted from the output side there, in the order of use here.
                let number = last_up.checked_sub(number)?;
                (format!("decoder.up_blocks.{number}"), "upsample", part)
            }
            _ => return None,
        };
    if let Some(layer) = part.strip_prefix("block.") {
        return Some(format!("{block}.resnets.{}", shortcut(layer)));
    }
    let conv = part.strip_prefix(resampler)?;
    Some(format!("{block}.{resampler}rs.0{conv}")).filter(|_| conv.starts_with(".conv."))
}

fn shortcut(name: &str) -> String {
    name.replace(".nin_shortcut.", ".conv_shortcut.")
}
