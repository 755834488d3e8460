//! The loss of CLIP-bnl: "Learn to Understand Negation in Video Retrieval" (Wang et al., ACM MM 2022).
//!
//! A caption with its meaning partly denied is a *soft* negative: it should be further from the
//! picture than the caption itself, but not as far as any other caption. Two hinges say so, one from
//! either side, which is what "bidirectionally constrained" means.
//!
//! From the authors' code (`loss.py` and `model/negclip.py` of ruc-aimc-lab/nT2VR): the ranking loss
//! over the hardest picture of the batch, text to picture, with margin 0.2; both constraints with
//! their formulas; that pictures get no gradient from them; the margins and weights of
//! `shell/train/msrvtt7k_clip_bnl.sh`, which are the defaults here. Two things are different: the
//! authors sum over a batch, and this is the mean, which an optimiser that divides by the gradient's
//! size cannot tell apart; and every caption has its denied one here, while theirs may lack it.

use candle_core::{D, Result, Tensor};
use negkit_nn::ops;
use serde::{Deserialize, Serialize};

/// More than two cosines can lie apart.
const BEYOND_ANY_COSINE: f64 = 4.;

/// How far the similarity of a denied caption has to stay below the caption's own: hinges at
/// `own - lower` from above and at `own - upper` from below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Factor in the loss.
    pub weight: f64,
    /// Least distance.
    pub lower: f64,
    /// Largest distance.
    pub upper: f64,
}

impl Constraint {
    /// Mean over a batch of both hinges, for similarities `own` and `denied` `[n]`; without the
    /// weight.
    fn loss(&self, own: &Tensor, denied: &Tensor) -> Result<Tensor> {
        let above = (denied - own)?;
        let too_near = (&above + self.lower)?.relu()?;
        let too_far = (above.neg()? - self.upper)?.relu()?;
        (too_near + too_far)?.mean_all()
    }
}

/// Settings of CLIP-bnl's loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bidirectional {
    /// By how much a text's own picture shall be nearer than any other of the batch.
    pub margin: f64,
    /// Similarity of the denied caption to the picture, against the caption's to the picture.
    pub to_picture: Constraint,
    /// Similarity of the denied caption to the caption, against the caption's to the picture.
    pub to_caption: Constraint,
}

impl Default for Bidirectional {
    fn default() -> Self {
        Self {
            margin: 0.2,
            to_picture: Constraint {
                weight: 1e-3,
                lower: 0.1,
                upper: 0.6,
            },
            to_caption: Constraint {
                weight: 1e-3,
                lower: 0.1,
                upper: 0.3,
            },
        }
    }
}

impl Bidirectional {
    /// The loss of unit vectors `[n, d]`: `pictures`, their `texts`, and `denied`, where there are
    /// any: row `i` is text `i` with its meaning denied.
    pub(super) fn loss(
        &self,
        pictures: &Tensor,
        texts: &Tensor,
        denied: Option<&Tensor>,
    ) -> Result<Tensor> {
        let count = texts.dim(0)?;
        let similarities = ops::matmul(texts, &pictures.t()?)?;
        let own = (texts * pictures)?.sum(D::Minus1)?;
        let itself = Tensor::eye(count, similarities.dtype(), similarities.device())?;
        let others = (similarities - (itself * BEYOND_ANY_COSINE)?)?;
        let nearest = others.max(D::Minus1)?;
        let ranking = ((nearest - &own)? + self.margin)?.relu()?.mean_all()?;
        let Some(denied) = denied else {
            return Ok(ranking);
        };
        let pictures = pictures.detach();
        let own = (texts * &pictures)?.sum(D::Minus1)?;
        let to_picture = (denied * &pictures)?.sum(D::Minus1)?;
        let to_caption = (denied * texts)?.sum(D::Minus1)?;
        let picture = (self.to_picture.loss(&own, &to_picture)? * self.to_picture.weight)?;
        let caption = (self.to_caption.loss(&own, &to_caption)? * self.to_caption.weight)?;
        (ranking + picture)? + caption
    }
}
