//! Image-text similarity.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use image::RgbImage;
use negkit_nn::{Compute, ops};
use negkit_text::{ClipFiles, ClipTextEncoder, TextEncoder};

use crate::ClipError;
use crate::image_encoder::{ClipImageEncoder, logit_scale};

/// Scales every row of `x` `[.., width]` to length 1.
///
/// # Errors
/// When the device fails.
pub fn l2_normalize(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}

/// Cosine of every row of `a` `[m, width]` with every row of `b` `[n, width]`: `[m, n]`, in f32 on
/// the CPU.
///
/// # Errors
/// When the widths differ or the device fails.
pub fn cosines(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let normal = |x: &Tensor| l2_normalize(&x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?);
    ops::matmul(&normal(a)?, &normal(b)?.t()?)
}

/// Both towers of a CLIP; the text encoder is any [`TextEncoder`] of the right projection.
pub struct Clip {
    image: ClipImageEncoder,
    text: Arc<dyn TextEncoder>,
    logit_scale: f32,
}

impl Clip {
    /// Loads both towers from published files; see [`ClipFiles`] for what is taken.
    ///
    /// # Errors
    /// When the files cannot be read or do not fit each other.
    pub fn load(path: impl AsRef<Path>, compute: &Compute) -> Result<Self, ClipError> {
        let path = path.as_ref();
        let files = ClipFiles::open(path)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy());
        let name = name.unwrap_or_default().into_owned();
        let text = ClipTextEncoder::from_files(&files, name, None, compute)?;
        Self::from_files(&files, Arc::new(text), compute)
    }

    /// The vision tower of `files`, with a text encoder from wherever.
    ///
    /// # Errors
    /// When the files do not fit each other, or the encoder's projection does not fit the tower's.
    pub fn from_files(
        files: &ClipFiles,
        text: Arc<dyn TextEncoder>,
        compute: &Compute,
    ) -> Result<Self, ClipError> {
        // The initial value of training: softmax temperature 0.07.
        const INITIAL_LOGIT_SCALE: f32 = 2.6592;
        let image = ClipImageEncoder::from_files(files, compute)?;
        let projection = image.tower().config().projection_dim;
        text.info()
            .require_projection_dim("the CLIP vision tower", projection)?;
        Ok(Self {
            image,
            text,
            logit_scale: logit_scale(files)?.unwrap_or(INITIAL_LOGIT_SCALE).exp(),
        })
    }

    /// The image encoder.
    pub fn image(&self) -> &ClipImageEncoder {
        &self.image
    }

    /// The text encoder.
    pub fn text(&self) -> &Arc<dyn TextEncoder> {
        &self.text
    }

    /// The factor between a cosine and a logit.
    pub fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    /// Encodes prompts; gives `[prompts, projection]`, not normalised.
    ///
    /// # Errors
    /// When the text encoder fails.
    pub fn encode_text(&self, prompts: &[&str]) -> Result<Tensor, ClipError> {
        let encoding = self.text.encode(prompts)?;
        // Checked when this was built: an encoder without a projection does not get here.
        let projected = encoding.projected.ok_or_else(|| {
            candle_core::Error::Msg("the text encoder gave no projection".to_owned())
        })?;
        Ok(projected)
    }

    /// Cosine of every picture with every prompt, `[pictures, prompts]`, f32 on the CPU.
    ///
    /// # Errors
    /// When a picture cannot be preprocessed or an encoder fails.
    pub fn similarity(
        &self,
        pictures: &[&RgbImage],
        prompts: &[&str],
    ) -> Result<Tensor, ClipError> {
        let (pictures, prompts) = (self.image.encode(pictures)?, self.encode_text(prompts)?);
        Ok(cosines(&pictures, &prompts)?)
    }
}
