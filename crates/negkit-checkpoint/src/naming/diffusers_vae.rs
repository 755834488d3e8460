//! diffusers' `AutoencoderKL`: from the attention names of its first versions, which the published
//! Stable Diffusion 1.x still has, to today's.

use crate::naming::{Renamed, replace_start};
use crate::{Checkpoint, CheckpointError};

/// Parts of an attention layer, old to new (`diffusers/models/modeling_utils.py`,
/// `_fix_state_dict_keys_on_load`).
const ATTENTION: &[(&str, &str)] = &[
    ("query", "to_q"),
    ("key", "to_k"),
    ("value", "to_v"),
    ("proj_attn", "to_out.0"),
];

/// Today's names of `AutoencoderKL`. Those that are today's already stay.
///
/// Attention weights that are stored as 1x1 convolutions, `[channels, channels, 1, 1]`, become
/// matrices, `[channels, channels]`. Nothing is dropped.
///
/// # Errors
/// When two tensors end up with one name.
pub fn to_current(checkpoint: &Checkpoint) -> Result<Checkpoint, CheckpointError> {
    let mut renamed = Renamed::new(checkpoint);
    for (name, view) in checkpoint.iter() {
        let Some((layer, part)) = split_attention(name) else {
            renamed.insert(name, name, view.clone())?;
            continue;
        };
        let part = replace_start(part, ATTENTION).unwrap_or_else(|| part.to_owned());
        let view = if is_projection(&part) {
            view.drop_trailing_ones(2)
        } else {
            view.clone()
        };
        renamed.insert(format!("{layer}{part}"), name, view)?;
    }
    Ok(renamed.finish())
}

/// Splits `decoder.mid_block.attentions.0.query.weight` before `query`.
fn split_attention(name: &str) -> Option<(&str, &str)> {
    const MARK: &str = ".attentions.";
    let number = name.find(MARK)? + MARK.len();
    let part = number + name[number..].find('.')? + 1;
    Some(name.split_at(part))
}

/// Whether an attention layer's part is a weight that a linear layer multiplies with.
pub(super) fn is_projection(part: &str) -> bool {
    matches!(
        part,
        "to_q.weight" | "to_k.weight" | "to_v.weight" | "to_out.0.weight"
    )
}
