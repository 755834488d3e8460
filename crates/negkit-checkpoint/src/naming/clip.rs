//! CLIP: from OpenAI's names to those of transformers' `CLIPModel`, and back.
//!
//! OpenAI's names (`clip/model.py` of openai/CLIP) are also those of NegationCLIP, CoN-CLIP and, for
//! vision transformers, open_clip, which puts `text.` before the text tower when it is a class of its
//! own. transformers 5 writes `CLIPTextModel` and `CLIPVisionModel` without the `text_model.` and
//! `vision_model.` that earlier versions put before every name.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::naming::{Naming, Renamed, leading_number, replace_start};
use crate::{Checkpoint, CheckpointError, TensorView};

/// A name that only the text tower of transformers 5 has at the top level.
pub(super) const FLAT_TEXT: &str = "embeddings.token_embedding.weight";
/// A name that only the vision tower of transformers 5 has at the top level.
pub(super) const FLAT_VISION: &str = "embeddings.patch_embedding.weight";

/// Constants that OpenAI's archives keep among the weights.
const OPENAI_CONSTANTS: &[&str] = &["input_resolution", "context_length", "vocab_size"];

/// Parts of a residual block, OpenAI to transformers. The fused attention input is apart.
const BLOCK: &[(&str, &str)] = &[
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
];
const TEXT: &[(&str, &str)] = &[
    ("token_embedding", "text_model.embeddings.token_embedding"),
    (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    ("ln_final", "text_model.final_layer_norm"),
    ("logit_scale", "logit_scale"),
];
/// `pre_layrnorm` is transformers' own spelling.
const VISION: &[(&str, &str)] = &[
    ("class_embedding", "vision_model.embeddings.class_embedding"),
    ("conv1", "vision_model.embeddings.patch_embedding"),
    (
        "positional_embedding",
        "vision_model.embeddings.position_embedding.weight",
    ),
    ("ln_pre", "vision_model.pre_layrnorm"),
    ("ln_post", "vision_model.post_layernorm"),
];

pub(super) fn has_openai_names(checkpoint: &Checkpoint) -> bool {
    checkpoint.iter().any(|(name, _)| {
        let name = name.strip_prefix("text.").unwrap_or(name);
        let name = name.strip_prefix("visual.").unwrap_or(name);
        name.starts_with("transformer.resblocks.")
    })
}

/// The names of `CLIPModel`: `text_model.…`, `vision_model.…`, `text_projection.weight`,
/// `visual_projection.weight`, `logit_scale`. A file with one tower gives that tower's.
///
/// Takes OpenAI's names, those of transformers with and without the prefix of a single tower, and
/// those of `CLIPSegForImageSegmentation` (whose decoder keeps its names). Fused projections
/// `in_proj_*` are split into query, key and value; `text_projection` and `visual.proj`,
/// `[width, projection]`, are transposed. Dropped: `position_ids` and `attn_mask` buffers, and the
/// constants `input_resolution`, `context_length`, `vocab_size` of OpenAI's archives.
///
/// # Errors
/// When a fused or transposed tensor has not the shape that its name promises, or two tensors end up
/// with one name.
pub fn to_transformers(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let mut renamed = Renamed::new(checkpoint);
    let naming = Naming::detect(checkpoint);
    let flat = flat_tower(checkpoint);
    for (name, view) in checkpoint.iter() {
        if is_buffer(name) {
            continue;
        }
        match naming {
            Naming::OpenAiClip => insert_openai(&mut renamed, "", name, name, view)?,
            Naming::TransformersClipSeg => {
                let bare = name.strip_prefix("clip.").unwrap_or(name);
                renamed.insert(bare, name, view.clone())?;
            }
            _ => {
                let tower = flat.filter(|_| is_flat(name)).unwrap_or("");
                renamed.insert(format!("{tower}{name}"), name, view.clone())?;
            }
        }
    }
    Ok(renamed.finish())
}

/// The way back: a CLIP under the names of `CLIPModel`, under those of OpenAI's `CLIP.state_dict()`,
/// which are also NegationCLIP's and open_clip's. Query, key and value are joined to `in_proj_*`, and
/// both projections transposed. Buffers are dropped, and names that no rule knows are kept.
///
/// # Errors
/// When a tensor has not the shape that its name promises, one of query, key and value is missing, or
/// the device fails.
pub fn to_openai(
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> candle_core::Result<Vec<(String, Tensor)>> {
    let mut named = BTreeMap::new();
    let mut fused: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
    for (name, tensor) in tensors {
        if is_buffer(&name) {
            continue;
        }
        match name.as_str() {
            "text_projection.weight" => {
                named.insert("text_projection".to_owned(), tensor.t()?.contiguous()?);
                continue;
            }
            "visual_projection.weight" => {
                named.insert("visual.proj".to_owned(), tensor.t()?.contiguous()?);
                continue;
            }
            _ => {}
        }
        let towers = [
            ("text_model.encoder.layers.", "", TEXT),
            ("vision_model.encoder.layers.", "visual.", VISION),
        ];
        let new = towers.into_iter().find_map(|(layers, prefix, parts)| {
            if let Some((layer, part)) = name.strip_prefix(layers).and_then(leading_number) {
                let block = format!("{prefix}transformer.resblocks.{layer}");
                let part = match fused_part(part) {
                    Some((slot, kind)) => {
                        return Some((format!("{block}.attn.in_proj_{kind}"), Some(slot)));
                    }
                    None => replace_start(part, &swapped(BLOCK))?,
                };
                return Some((format!("{block}.{part}"), None));
            }
            let part = replace_start(&name, &swapped(parts))?;
            Some((format!("{prefix}{part}"), None))
        });
        match new {
            Some((new, Some(slot))) => fused.entry(new).or_default()[slot] = Some(tensor),
            Some((new, None)) => {
                named.insert(new, tensor);
            }
            None => {
                named.insert(name, tensor);
            }
        }
    }
    for (name, parts) in fused {
        let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
        if parts.len() < 3 {
            candle_core::bail!("{name} is made of query, key and value, and one of them is missing")
        }
        named.insert(name, Tensor::cat(&parts, 0)?);
    }
    Ok(named.into_iter().collect())
}

/// Place among query, key and value, and whether weight or bias.
fn fused_part(part: &str) -> Option<(usize, &str)> {
    let (letter, kind) = part.strip_prefix("self_attn.")?.split_once("_proj.")?;
    let slot = ["q", "k", "v"].iter().position(|known| *known == letter)?;
    Some((slot, kind))
}

/// Pairs of names the other way round.
fn swapped(pairs: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    pairs.iter().map(|&(old, new)| (new, old)).collect()
}

pub(super) fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "position_ids" | "attn_mask")
}

/// The prefix that a single tower of transformers 5 lacks.
fn flat_tower(checkpoint: &Checkpoint) -> Option<&'static str> {
    if checkpoint.get(FLAT_TEXT).is_some() {
        Some("text_model.")
    } else {
        checkpoint.get(FLAT_VISION).map(|_| "vision_model.")
    }
}

fn is_flat(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    matches!(
        first,
        "embeddings" | "encoder" | "final_layer_norm" | "pre_layrnorm" | "post_layernorm"
    )
}

/// Adds the tensor called `name` in OpenAI's scheme, `published` in the file, with `prefix` before
/// its new name.
pub(super) fn insert_openai(
    renamed: &mut Renamed<'_>,
    prefix: &str,
    name: &str,
    published: &str,
    view: &TensorView,
) -> Result<(), CheckpointError> {
    if OPENAI_CONSTANTS.contains(&name) {
        return Ok(());
    }
    let (tower, parts, inner) = match name.strip_prefix("visual.") {
        Some(inner) => ("vision_model", VISION, inner),
        None => (
            "text_model",
            TEXT,
            name.strip_prefix("text.").unwrap_or(name),
        ),
    };
    let projection = match (tower, inner) {
        ("vision_model", "proj") => Some("visual_projection.weight"),
        ("text_model", "text_projection") => Some("text_projection.weight"),
        _ => None,
    };
    if let Some(projection) = projection {
        return renamed.insert_transposed(format!("{prefix}{projection}"), published, view);
    }
    if let Some((layer, part)) = inner
        .strip_prefix("transformer.resblocks.")
        .and_then(leading_number)
    {
        let layer = format!("{prefix}{tower}.encoder.layers.{layer}");
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            return renamed.insert_fused(&format!("{layer}.self_attn"), kind, published, view);
        }
        if let Some(part) = replace_start(part, BLOCK) {
            return renamed.insert(format!("{layer}.{part}"), published, view.clone());
        }
    } else if let Some(new) = replace_start(inner, parts) {
        return renamed.insert(format!("{prefix}{new}"), published, view.clone());
    }
    renamed.insert(published, published, view.clone())
}
