//! From the naming schemes that checkpoints are published under to the one that models ask for.
//!
//! The target is what transformers and diffusers publish today. Each conversion takes a checkpoint of
//! any scheme that it knows, including the target itself, and tells them apart by the names. It is
//! pure: it only re-views tensors. A name that no rule knows is kept as it is, so that strict loading
//! reports it as extra instead of it vanishing here. What is dropped is listed at each conversion:
//! buffers that models compute themselves, and state of training.

pub mod clip;
pub mod clipseg;
pub mod compvis;
pub mod diffusers_vae;

use std::collections::BTreeMap;
use std::fmt;

use crate::{Checkpoint, CheckpointError, TensorView};

/// The naming scheme of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Naming {
    /// OpenAI's CLIP, and with it NegationCLIP, CoN-CLIP and open_clip: `visual.…`,
    /// `transformer.resblocks.…`.
    OpenAiClip,
    /// `CLIPModel`, `CLIPTextModel`, … of transformers, with or without `text_model.`.
    TransformersClip,
    /// `CLIPSegForImageSegmentation` of transformers: `clip.…`, `decoder.…`.
    TransformersClipSeg,
    /// CLIPSeg's own: `film_mul`, `reduces`, `blocks`, `trans_conv`.
    OriginalClipSeg,
    /// `UNet2DConditionModel` of diffusers.
    DiffusersUnet,
    /// `AutoencoderKL` of diffusers, whichever names its attention has.
    DiffusersVae,
    /// A single file of Stable Diffusion, or its autoencoder alone, as CompVis publishes them.
    CompVis,
    /// None of these.
    Unknown,
}

impl Naming {
    /// Tells the scheme by the names.
    pub fn detect(checkpoint: &Checkpoint) -> Self {
        let starts = |prefix: &str| checkpoint.iter().any(|(name, _)| name.starts_with(prefix));
        let has = |name: &str| checkpoint.get(name).is_some();
        if compvis::is_single_file(checkpoint) || compvis::is_bare_vae(checkpoint) {
            Self::CompVis
        } else if has("film_mul.weight") {
            Self::OriginalClipSeg
        } else if has("decoder.film_mul.weight")
            || starts("clip.text_model.")
            || starts("clip.vision_model.")
        {
            Self::TransformersClipSeg
        } else if clip::has_openai_names(checkpoint) {
            Self::OpenAiClip
        } else if starts("text_model.")
            || starts("vision_model.")
            || has(clip::FLAT_TEXT)
            || has(clip::FLAT_VISION)
        {
            Self::TransformersClip
        } else if has("time_embedding.linear_1.weight") && has("conv_in.weight") {
            Self::DiffusersUnet
        } else if starts("encoder.mid_block.") || starts("decoder.mid_block.") {
            Self::DiffusersVae
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAiClip => "OpenAI CLIP",
            Self::TransformersClip => "transformers CLIP",
            Self::TransformersClipSeg => "transformers CLIPSeg",
            Self::OriginalClipSeg => "original CLIPSeg",
            Self::DiffusersUnet => "diffusers UNet",
            Self::DiffusersVae => "diffusers VAE",
            Self::CompVis => "CompVis",
            Self::Unknown => "unknown",
        })
    }
}

/// The result of a conversion while it is made.
struct Renamed<'a> {
    source: &'a Checkpoint,
    tensors: BTreeMap<String, TensorView>,
    /// New name to published name.
    published: BTreeMap<String, String>,
}

impl<'a> Renamed<'a> {
    fn new(source: &'a Checkpoint) -> Self {
        Self {
            source,
            tensors: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    /// Adds the tensor published as `published` under `name`.
    fn insert(
        &mut self,
        name: impl Into<String>,
        published: &str,
        view: TensorView,
    ) -> Result<(), CheckpointError> {
        let name = name.into();
        if let Some(first) = self.published.insert(name.clone(), published.to_owned()) {
            return Err(CheckpointError::Duplicate {
                origin: self.source.origin.clone(),
                name,
                first,
                second: published.to_owned(),
            });
        }
        self.tensors.insert(name, view);
        Ok(())
    }

    /// Adds a fused query, key and value, `[3 * width, …]`, as three tensors
    /// `PREFIX.{q,k,v}_proj.KIND`.
    fn insert_fused(
        &mut self,
        prefix: &str,
        kind: &str,
        published: &str,
        view: &TensorView,
    ) -> Result<(), CheckpointError> {
        let parts = view.split(3).map_err(|_| {
            self.misshapen(
                published,
                view,
                "[3 * width, width] or, for a bias, [3 * width]",
            )
        })?;
        for (letter, part) in ["q", "k", "v"].into_iter().zip(parts) {
            self.insert(format!("{prefix}.{letter}_proj.{kind}"), published, part)?;
        }
        Ok(())
    }

    /// Adds a matrix `[in, out]` as the weight `[out, in]` of a linear layer.
    fn insert_transposed(
        &mut self,
        name: String,
        published: &str,
        view: &TensorView,
    ) -> Result<(), CheckpointError> {
        let transposed = view
            .transpose()
            .map_err(|_| self.misshapen(published, view, "[width, projection]"))?;
        self.insert(name, published, transposed)
    }

    fn misshapen(
        &self,
        published: &str,
        view: &TensorView,
        expected: &'static str,
    ) -> CheckpointError {
        CheckpointError::Misshapen {
            origin: self.source.origin.clone(),
            name: published.to_owned(),
            found: view.shape().to_vec(),
            expected,
        }
    }

    fn finish(self) -> Checkpoint {
        self.source.with_tensors(self.tensors)
    }
}

/// Splits `name` into the number that it starts with and what follows the dot behind it:
/// `"12.attn.weight"` into 12 and `"attn.weight"`.
fn leading_number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Replaces the first of `pairs` that `name` starts with, up to a whole part of the dotted name.
fn replace_start(name: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(old, new)| {
        let rest = name.strip_prefix(old)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{new}{rest}"))
    })
}

#[cfg(test)]
mod tests;
