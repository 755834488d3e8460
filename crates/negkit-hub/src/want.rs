//! What a caller wants of a model, so that only the files for that are fetched.

use std::fmt;

use serde::Deserialize;

/// What the files are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A text tower with its tokenizer, to plug into an engine.
    TextEncoder,
    /// A whole Stable Diffusion pipeline: UNet, VAE, text encoder, tokenizer and scheduler.
    Diffusion,
    /// CLIPSeg: the decoder with both CLIP towers.
    #[serde(rename = "clipseg")]
    ClipSeg,
    /// Both CLIP towers, for image-text similarity.
    Clip,
    /// A model that answers questions about pictures.
    QuestionAnswering,
    /// A model that says which sentences are alike.
    SentenceEncoder,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelKind::TextEncoder => "text encoder",
            ModelKind::Diffusion => "diffusion pipeline",
            ModelKind::ClipSeg => "CLIPSeg model",
            ModelKind::Clip => "CLIP model",
            ModelKind::QuestionAnswering => "question answering model",
            ModelKind::SentenceEncoder => "sentence encoder",
        })
    }
}

/// The numeric format of the weight files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The files without a suffix, float32 in every known model. Never replaced by half-precision
    /// files: results would change without a word.
    #[default]
    Full,
    /// The `.fp16.` files where the repository has them, else the full ones.
    Fp16,
}

/// A size of OpenAI's CLIP.
///
/// Which one fits is decided by the engine: Stable Diffusion 1.x is conditioned on ViT-L/14's text
/// tower, CLIPSeg on ViT-B/16's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum ClipSize {
    /// ViT-B/32, 224 px.
    #[serde(rename = "ViT-B/32")]
    VitB32,
    /// ViT-B/16, 224 px.
    #[serde(rename = "ViT-B/16")]
    VitB16,
    /// ViT-L/14, 224 px.
    #[serde(rename = "ViT-L/14")]
    VitL14,
    /// ViT-L/14, 336 px.
    #[serde(rename = "ViT-L/14@336px")]
    VitL14At336,
}

impl ClipSize {
    /// Every size, smallest first.
    pub const ALL: [ClipSize; 4] = [
        ClipSize::VitB32,
        ClipSize::VitB16,
        ClipSize::VitL14,
        ClipSize::VitL14At336,
    ];

    /// Reads a size in any of its usual spellings: `ViT-L/14@336px`, `ViT-L-14-336`, `vit_b16`.
    /// `None` when it is no size of OpenAI's CLIP.
    pub fn parse(text: &str) -> Option<ClipSize> {
        match alphanumeric(text).trim_end_matches("px") {
            "vitb32" => Some(ClipSize::VitB32),
            "vitb16" => Some(ClipSize::VitB16),
            "vitl14" => Some(ClipSize::VitL14),
            "vitl14336" => Some(ClipSize::VitL14At336),
            _ => None,
        }
    }

    /// The spelling without a slash, as it is written after a name: `negationclip:ViT-L-14`.
    pub fn suffix(self) -> &'static str {
        match self {
            ClipSize::VitB32 => "ViT-B-32",
            ClipSize::VitB16 => "ViT-B-16",
            ClipSize::VitL14 => "ViT-L-14",
            ClipSize::VitL14At336 => "ViT-L-14-336px",
        }
    }
}

impl fmt::Display for ClipSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClipSize::VitB32 => "ViT-B/32",
            ClipSize::VitB16 => "ViT-B/16",
            ClipSize::VitL14 => "ViT-L/14",
            ClipSize::VitL14At336 => "ViT-L/14@336px",
        })
    }
}

/// Letters and digits of `text`, in lower case: what stays of a name when punctuation is ignored.
pub(crate) fn alphanumeric(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// What a caller wants of a model. Engines build one each.
///
/// ```
/// use negkit_hub::{ClipSize, ModelKind, Variant, Want};
///
/// let want = Want::new(ModelKind::TextEncoder).size(ClipSize::VitL14);
/// assert_eq!(want.variant, Variant::Full);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// What the files are for.
    pub kind: ModelKind,
    /// The numeric format of the weights.
    pub variant: Variant,
    /// The CLIP size to take where a name exists in several and does not say which.
    pub size: Option<ClipSize>,
}

impl Want {
    /// The files for `kind` at full precision, with no preferred size.
    pub fn new(kind: ModelKind) -> Want {
        Want {
            kind,
            variant: Variant::Full,
            size: None,
        }
    }

    /// Takes the half-precision files where there are any.
    pub fn fp16(mut self) -> Want {
        self.variant = Variant::Fp16;
        self
    }

    /// Prefers `size` where the location names none.
    pub fn size(mut self, size: ClipSize) -> Want {
        self.size = Some(size);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_in_every_spelling_it_is_printed_in() {
        for size in ClipSize::ALL {
            assert_eq!(ClipSize::parse(&size.to_string()), Some(size));
            assert_eq!(ClipSize::parse(size.suffix()), Some(size));
        }
        assert_eq!(ClipSize::parse("vit_l14_336"), Some(ClipSize::VitL14At336));
        assert_eq!(ClipSize::parse("ViT-H-14"), None);
        assert_eq!(ClipSize::parse(""), None);
    }
}
