//! A second task of an autoencoder, a UNet or a vision tower in training: what stands where in the
//! picture.
//!
//! A UNet learns colours and places long before the shapes that nouns stand for: of the squared error
//! of a prediction, a chair that became a box is a small part. Whoever has to name what stands in every
//! cell of a picture that is mostly noise has to read it in the caption. The head that names them looks
//! at features inside the UNet and is left out of what is exported, as in "Representation Alignment for
//! Generation" (Yu et al., arXiv 2410.06940), which aligns such features with those of an encoder of
//! pictures; here they are aligned with the truth about drawn scenes.
//!
//! In the latents of an autoencoder that only has to give pictures back, the same noun is a small part
//! of what varies. One whose latents tell a linear layer what stands where gives it a larger one, as in
//! "Reconstruction vs. Generation: Taming Optimization Dilemma in Latent Diffusion Models" (Yao et al.,
//! arXiv 2501.01423).

use candle_core::{D, Tensor};
use negkit_nn::Ignored;
use negkit_vqa::detector::DetectorLogits;
use serde::Serialize;

use super::detector::{Scores, label_scores};
use super::split::uneven_rows;
use crate::{Init, ParamStore, TrainError};

/// What the names of the head's parameters begin with.
pub(super) const PREFIX: &str = "grounding.";

/// Whether a parameter is the model's own, and so to be published, and not the head's.
pub(super) fn is_of_the_model(name: &str) -> bool {
    !name.starts_with(PREFIX)
}

/// The head's parameters, where those of the model itself are asked for.
pub(super) fn not_of_the_model() -> Ignored<'static> {
    Ignored {
        prefixes: &[PREFIX],
        ..Ignored::default()
    }
}

/// Added to the variance of features before they are divided by their deviation.
const EPSILON: f64 = 1e-5;

/// The classes of cells, and how much they matter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroundingSettings {
    /// What the cross-entropy is multiplied by before it is added to the error of the prediction.
    pub weight: f64,
    /// Deviation of the noise that is added to latents before they are asked, in terms of their own
    /// root mean square: what is to be heard through it has to be a large part of what varies. Features
    /// of a UNet are noisy enough.
    pub noise: f64,
    /// Cells to a side of a picture: a multiple of the latents' side.
    pub grid: usize,
    /// Kinds of things.
    pub kinds: usize,
    /// Colours.
    pub colours: usize,
}

/// What stands in the cells of pictures, row by row, picture after picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CellLabels {
    /// 0 for nothing, else one more than the kind's number.
    pub kinds: Vec<u32>,
    /// 0 for no colour to learn, else one more than the colour's number.
    pub colours: Vec<u32>,
}

impl CellLabels {
    /// Those of all pictures of `parts`, in order.
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |mut all, part| {
            all.kinds.extend(part.kinds);
            all.colours.extend(part.colours);
            all
        })
    }

    /// The labels of `parts` parts of `pictures` pictures, in order, as
    /// [`uneven_rows`](super::split::uneven_rows) makes them.
    pub(super) fn split_unevenly(
        self,
        pictures: usize,
        parts: usize,
    ) -> Result<Vec<Self>, TrainError> {
        let parts = uneven_rows(self.split(pictures), parts)?;
        Ok(parts.into_iter().map(Self::joined).collect())
    }

    /// The labels of `parts` equal parts of the pictures, in order.
    pub(super) fn split(self, parts: usize) -> Vec<Self> {
        let each = (self.kinds.len() / parts.max(1)).max(1);
        let kinds = self.kinds.chunks_exact(each);
        kinds
            .zip(self.colours.chunks_exact(each))
            .map(|(kinds, colours)| Self {
                kinds: kinds.to_vec(),
                colours: colours.to_vec(),
            })
            .collect()
    }
}

/// What there is to say where somebody asks for labels of pictures that have none.
pub(super) fn unknown_cells() -> TrainError {
    TrainError::Task(
        "shall learn what stands where in its pictures, which is not known of these".to_owned(),
    )
}

/// A linear layer that names the cells below every position of a map of features.
#[derive(Debug, Clone)]
pub(super) struct Grounding {
    weight: Tensor,
    bias: Tensor,
    /// Whether a position's features are normalised before.
    normalised: bool,
    settings: GroundingSettings,
}

impl Grounding {
    /// A head for maps of `channels` features and `side` positions to a side. The store need not have
    /// its parameters: they begin at zero.
    pub(super) fn new(
        store: &ParamStore,
        (channels, side): (usize, usize),
        settings: GroundingSettings,
    ) -> Result<Self, TrainError> {
        if side == 0 || settings.grid == 0 || !settings.grid.is_multiple_of(side) {
            return Err(TrainError::Setting {
                setting: "grounding.grid",
                found: settings.grid.to_string(),
                expected: "a multiple of the latents' side",
            });
        }
        let classes = 1 + settings.kinds + settings.colours;
        let rows = (settings.grid / side).pow(2) * classes;
        let name = |part: &str| format!("{PREFIX}{part}");
        Ok(Self {
            weight: store.get_or_init(&name("weight"), (rows, channels), Init::ZEROS)?,
            bias: store.get_or_init(&name("bias"), rows, Init::ZEROS)?,
            normalised: false,
            settings,
        })
    }

    /// The same, of features of no particular size: those of every position are normalised before.
    pub(super) fn normalised(self) -> Self {
        Self {
            normalised: true,
            ..self
        }
    }

    /// Logits of all cells, from features `[n, channels, side, side]`.
    fn logits(&self, features: &Tensor) -> Result<DetectorLogits, TrainError> {
        let (n, channels, rows, columns) = features.dims4()?;
        let below = self.settings.grid / rows.max(1);
        let classes = 1 + self.settings.kinds + self.settings.colours;
        let x = features
            .permute((0, 2, 3, 1))?
            .reshape((n * rows * columns, channels))?;
        let x = match self.normalised {
            true => {
                let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
                let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
                x.broadcast_div(&deviation)?
            }
            false => x,
        };
        let x = x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        let x = x
            .reshape(&[n, rows, columns, below, below, classes])?
            .permute(vec![0, 5, 1, 3, 2, 4])?
            .reshape((n, classes, rows * below, columns * below))?;
        Ok(DetectorLogits {
            kinds: x.narrow(1, 0, 1 + self.settings.kinds)?,
            colours: Some(x.narrow(1, 1 + self.settings.kinds, self.settings.colours)?),
        })
    }

    /// How well features tell what stands where. Its loss is not weighted yet.
    pub(super) fn score(
        &self,
        features: &Tensor,
        labels: &CellLabels,
    ) -> Result<Scores, TrainError> {
        let pictures = features.dim(0)?;
        let cells = pictures * self.settings.grid.pow(2);
        if (labels.kinds.len(), labels.colours.len()) != (cells, cells) {
            return Err(TrainError::Task(format!(
                "has labels of {} kinds and {} colours for {pictures} pictures, expected {cells}",
                labels.kinds.len(),
                labels.colours.len()
            )));
        }
        label_scores(&self.logits(features)?, &labels.kinds, &labels.colours)
    }

    /// As [`Grounding::score`], of features with `noise` of variance 1 and their shape added.
    pub(super) fn score_through(
        &self,
        features: &Tensor,
        noise: &Tensor,
        labels: &CellLabels,
    ) -> Result<Scores, TrainError> {
        let power = features.detach().sqr()?.mean_all()?.to_scalar::<f32>()?;
        let deviation = self.settings.noise * f64::from(power).sqrt();
        self.score(&(features + (noise * deviation)?)?, labels)
    }

    /// What the cross-entropy is multiplied by.
    pub(super) fn weight(&self) -> f64 {
        self.settings.weight
    }
}
