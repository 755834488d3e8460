//! The numbers of the paper's Tables 4 and 5, and which encoder they are of.

/// A row of both tables: Stable Diffusion 1.4 or CLIPSeg with this text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaperRow {
    /// OpenAI's CLIP, which the model was trained with.
    Stock,
    /// CoN-CLIP.
    ConClip,
    /// NegationCLIP.
    NegationClip,
}

impl PaperRow {
    /// The row of an encoder by the name or path that a user gives; of the encoder itself, not of its
    /// ablations.
    pub(crate) fn of(encoder: &str) -> Option<Self> {
        if negkit::is_own_encoder(encoder) || encoder == "stock" {
            return Some(Self::Stock);
        }
        let parts = encoder.rsplit(['/', '\\', ':', '@']);
        let mut names = parts.map(|part| {
            let letters = part.chars().filter(|c| c.is_alphanumeric());
            letters.collect::<String>().to_lowercase()
        });
        names.find_map(|name| {
            let ablation = name.ends_with("p1") || name.ends_with("p2");
            match name.as_str() {
                name if name.starts_with("conclip") => Some(Some(Self::ConClip)),
                name if name.starts_with("negationclip") && ablation => Some(None),
                name if name.starts_with("negationclip") => Some(Some(Self::NegationClip)),
                _ => None,
            }
        })?
    }

    /// TIFA and Neg Score of Table 4.
    pub(crate) fn pictures(self) -> (f64, f64) {
        match self {
            Self::Stock => (0.786, 0.295),
            Self::ConClip => (0.783, 0.243),
            Self::NegationClip => (0.790, 0.449),
        }
    }

    /// Mean IoU of Table 5 on PhraseCut and on the negated part of RefCOCOg.
    pub(crate) fn masks(self) -> (f64, f64) {
        match self {
            Self::Stock => (0.562, 0.267),
            Self::ConClip => (0.539, 0.123),
            Self::NegationClip => (0.561, 0.288),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_are_known_by_the_names_that_they_have() {
        for (name, row) in [
            ("stock", Some(PaperRow::Stock)),
            ("conclip", Some(PaperRow::ConClip)),
            ("CoN-CLIP", Some(PaperRow::ConClip)),
            ("negationclip", Some(PaperRow::NegationClip)),
            ("negationclip:ViT-B/16", Some(PaperRow::NegationClip)),
            ("jerryray/negationclip@main", Some(PaperRow::NegationClip)),
            (
                "weights/negationclip_ViT-L14.pth",
                Some(PaperRow::NegationClip),
            ),
            ("negationclip-p1", None),
            ("weights/mini/negationclip-rand-p1", None),
            ("weights/mini/negationclip-p2/model.safetensors", None),
            ("my-encoder", None),
            ("", None),
        ] {
            assert_eq!(PaperRow::of(name), row, "{name}");
        }
    }
}
