//! The published files of a CLIPSeg.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use negkit_checkpoint::naming::{Naming, clipseg};
use negkit_checkpoint::{Checkpoint, TensorView};
use negkit_clip::vision_config;
use negkit_image::PicturePreprocessor;
use negkit_nn::read_config;
use negkit_text::ClipFiles;

use crate::ClipSegError;
use crate::decoder::ClipSegConfig;

/// The published files of a CLIPSeg, opened.
///
/// Taken are a folder of transformers (`CLIPSegForImageSegmentation`), and the decoder alone as the
/// authors publish it (`rd64-uni.pth`, `rd64-uni-refined.pth`, `rd16-uni.pth`) with a CLIP from
/// elsewhere.
#[derive(Debug, Clone)]
pub struct ClipSegFiles {
    path: PathBuf,
    clip: ClipFiles,
    /// All tensors, under the names of transformers.
    tensors: Arc<Checkpoint>,
    config: ClipSegConfig,
    /// `preprocessor_config.json`; the CLIP of another file has none for CLIPSeg.
    preprocessor: Option<PathBuf>,
}

impl ClipSegFiles {
    /// Opens `path`; `clip` is needed where `path` holds the decoder alone.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn open(path: impl AsRef<Path>, clip: Option<&Path>) -> Result<Self, ClipSegError> {
        let path = path.as_ref().to_owned();
        let checkpoint = Checkpoint::open(&path)?;
        match Naming::detect(&checkpoint) {
            Naming::TransformersClipSeg => {
                let folder = if path.is_dir() {
                    path.clone()
                } else {
                    path.parent().map(Path::to_owned).unwrap_or_default()
                };
                let clip = ClipFiles::open(&path)?;
                Ok(Self {
                    preprocessor: clip.published("preprocessor_config.json"),
                    clip,
                    tensors: Arc::new(clipseg::to_transformers(&checkpoint)?),
                    config: read_config(&folder.join("config.json"))?,
                    path,
                })
            }
            Naming::OriginalClipSeg => {
                let Some(clip) = clip else {
                    return Err(ClipSegError::NeedsClip { path });
                };
                let clip = ClipFiles::open(clip)?;
                let decoder = clipseg::to_transformers(&checkpoint)?;
                let config = infer_config(&decoder, &clip)?;
                Ok(Self {
                    tensors: Arc::new(decoder.merge(&vision_tensors(&clip)?)?),
                    path,
                    clip,
                    config,
                    preprocessor: None,
                })
            }
            naming => Err(ClipSegError::NoDecoder {
                path,
                naming: naming.to_string(),
            }),
        }
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The CLIP that it is built on.
    pub fn clip(&self) -> &ClipFiles {
        &self.clip
    }

    /// All tensors, under the names of transformers: `clip.*` and `decoder.*`.
    pub fn tensors(&self) -> &Arc<Checkpoint> {
        &self.tensors
    }

    /// Sizes: from `config.json`, or inferred from the tensors' shapes.
    pub fn config(&self) -> &ClipSegConfig {
        &self.config
    }

    /// The preprocessing that the model was published with, or the authors' own.
    ///
    /// # Errors
    /// When `preprocessor_config.json` cannot be used.
    pub fn preprocess(&self) -> Result<PicturePreprocessor, ClipSegError> {
        /// Side of a picture in the authors' code and in every published configuration.
        const SIZE: u32 = 352;
        Ok(match &self.preprocessor {
            Some(published) => PicturePreprocessor::from_file(published)?,
            None => PicturePreprocessor::clipseg(SIZE),
        })
    }
}

/// The vision tower's tensors, below `clip.`: neither a text tower nor the decoder that another
/// CLIPSeg would bring.
fn vision_tensors(clip: &ClipFiles) -> Result<Checkpoint, ClipSegError> {
    let part = |name: &str| {
        let tensors = clip.tensors().strip_prefix(name);
        tensors.with_prefix(&format!("clip.{name}"))
    };
    Ok(part("vision_model.").merge(&part("visual_projection."))?)
}

fn infer_config(decoder: &Checkpoint, clip: &ClipFiles) -> Result<ClipSegConfig, ClipSegError> {
    let shape = |name: &str| decoder.get(name).map(TensorView::shape).unwrap_or_default();
    let dim = |name: &str, i: usize| shape(name).get(i).copied().unwrap_or_default();
    let refined = decoder
        .get("decoder.transposed_convolution.0.weight")
        .is_some();
    let defaults = ClipSegConfig::default();
    Ok(ClipSegConfig {
        vision_config: vision_config(clip)?,
        projection_dim: dim("decoder.film_mul.weight", 1),
        reduce_dim: dim("decoder.film_mul.weight", 0),
        decoder_intermediate_size: dim("decoder.layers.0.mlp.fc1.weight", 0),
        use_complex_transposed_convolution: refined,
        // The authors' files do not say these; all of them were made with the defaults.
        ..defaults
    })
}
