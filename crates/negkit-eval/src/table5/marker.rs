//! What marks phrases in a picture.

use std::error::Error;

use image::RgbImage;
use negkit::clipseg::ClipSeg;
use negkit::segment;
use negkit::txt2img::NamedEncoder;

/// Probabilities of one phrase with one encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Marked {
    /// Of every pixel at the model's resolution, row by row.
    pub probabilities: Vec<f32>,
    /// Rows and columns of these.
    pub resolution: (usize, usize),
    /// Of every pixel of the picture, row by row.
    pub at_picture_size: Vec<f32>,
}

/// Marks the phrases of a picture with every encoder of the run.
pub trait PhraseMarker {
    /// For every encoder, in the order of the settings, every phrase, in the order given.
    ///
    /// # Errors
    /// When the model fails; the run then ends, and goes on with this picture.
    fn mark(
        &mut self,
        picture: &RgbImage,
        phrases: &[&str],
    ) -> Result<Vec<Vec<Marked>>, Box<dyn Error + Send + Sync>>;
}

/// CLIPSeg with each of several text encoders; the picture is encoded once for all.
pub struct ClipSegMarker {
    model: ClipSeg,
    encoders: Vec<NamedEncoder>,
}

impl ClipSegMarker {
    /// A marker with these encoders; `None` stands for the model's own.
    pub fn new(model: ClipSeg, encoders: Vec<NamedEncoder>) -> Self {
        Self { model, encoders }
    }
}

impl PhraseMarker for ClipSegMarker {
    fn mark(
        &mut self,
        picture: &RgbImage,
        phrases: &[&str],
    ) -> Result<Vec<Vec<Marked>>, Box<dyn Error + Send + Sync>> {
        let runs = segment::run(&mut self.model, &self.encoders, picture, phrases)?;
        let mut found = Vec::with_capacity(runs.len());
        for run in runs {
            let marked = run.segmentations.iter().map(|segmentation| {
                Ok(Marked {
                    probabilities: segmentation.probabilities(),
                    resolution: segmentation.resolution(),
                    at_picture_size: segmentation.probabilities_at_picture_size()?,
                })
            });
            found.push(marked.collect::<Result<_, Box<dyn Error + Send + Sync>>>()?);
        }
        Ok(found)
    }
}
