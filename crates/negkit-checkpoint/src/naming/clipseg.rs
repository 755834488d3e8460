//! CLIPSeg: from the names of its authors to those of transformers' `CLIPSegForImageSegmentation`.
//!
//! The published files (`rd64-uni.pth`, `rd64-uni-refined.pth`, `rd16-uni.pth`) hold the decoder
//! alone, CLIP coming from OpenAI's file. Names follow `CLIPDensePredT` in `models/clipseg.py` of
//! timojl/clipseg; the conversion is that of transformers' `convert_clipseg_original_pytorch_to_hf.py`.
//! Both run through the extracted layers deepest first, so that `reduces.0` stays `reduces.0`.

use crate::naming::{Naming, Renamed, clip, leading_number, replace_start};
use crate::{Checkpoint, CheckpointError, TensorView};

/// Parts of the decoder, original to transformers, below `decoder.`.
const DECODER: &[(&str, &str)] = &[
    ("film_mul", "film_mul"),
    ("film_add", "film_add"),
    ("reduces", "reduces"),
    ("trans_conv", "transposed_convolution"),
];
/// Parts of a decoder block, which is a `torch.nn.TransformerEncoderLayer`.
const BLOCK: &[(&str, &str)] = &[
    ("self_attn.out_proj", "self_attn.out_proj"),
    ("linear1", "mlp.fc1"),
    ("linear2", "mlp.fc2"),
    ("norm1", "layer_norm1"),
    ("norm2", "layer_norm2"),
];

/// The names of `CLIPSegForImageSegmentation`: `clip.…` and `decoder.…`.
///
/// A file of the decoder alone gives the decoder alone; [`Checkpoint::merge`] adds a CLIP. Dropped:
/// `reduce.*`, a layer that the original class makes for its relatives and never uses; `model.*`,
/// the vision tower a second time where `clip_model.*` has it; and `position_ids` buffers.
///
/// # Errors
/// When a fused tensor has not the shape that its name promises, or two tensors end up with one name.
pub fn to_transformers(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let mut renamed = Renamed::new(checkpoint);
    let original = Naming::detect(checkpoint) == Naming::OriginalClipSeg;
    let has_clip = checkpoint.iter().any(|(n, _)| n.starts_with("clip_model."));
    for (name, view) in checkpoint.iter() {
        if clip::is_buffer(name) {
            continue;
        }
        if !original {
            renamed.insert(name, name, view.clone())?;
        } else if let Some(bare) = name.strip_prefix("clip_model.") {
            clip::insert_openai(&mut renamed, "clip.", bare, name, view)?;
        } else if name.starts_with("reduce.") || (has_clip && name.starts_with("model.")) {
            continue;
        } else {
            insert_decoder(&mut renamed, name, view)?;
        }
    }
    Ok(renamed.finish())
}

fn insert_decoder(
    renamed: &mut Renamed<'_>,
    name: &str,
    view: &TensorView,
) -> Result<(), CheckpointError> {
    if let Some(new) = replace_start(name, DECODER) {
        return renamed.insert(format!("decoder.{new}"), name, view.clone());
    }
    if let Some((layer, part)) = name.strip_prefix("blocks.").and_then(leading_number) {
        let layer = format!("decoder.layers.{layer}");
        if let Some(kind) = part.strip_prefix("self_attn.in_proj_") {
            return renamed.insert_fused(&format!("{layer}.self_attn"), kind, name, view);
        }
        if let Some(part) = replace_start(part, BLOCK) {
            return renamed.insert(format!("{layer}.{part}"), name, view.clone());
        }
    }
    renamed.insert(name, name, view.clone())
}
