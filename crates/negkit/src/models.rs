//! From what a user names to what computes.

use std::sync::Arc;

use negkit_clipseg::{ClipSeg, ClipSegFiles};
use negkit_diffusion::{OpenPipeline, PipelineFiles, PipelineOptions, Residency, StableDiffusion};
use negkit_hub::{ClipSize, Hub, Location, ModelKind, Resolved, Want};
use negkit_nn::Compute;
use negkit_text::{ClipFiles, TextEncoder};

use crate::Result;

/// Whether `spec` means the encoder that an engine was published with: Stable Diffusion's and
/// CLIPSeg's own text encoders *are* stock CLIP, so nothing else need be fetched for it.
pub fn is_own_encoder(spec: &str) -> bool {
    spec == "stock"
}

/// Opens engines and encoders from names, hub ids, folders and files, on one device.
pub struct Models {
    hub: Hub,
    compute: Compute,
}

impl Models {
    /// Models found through `hub`, computing with `compute`.
    pub fn new(hub: Hub, compute: Compute) -> Self {
        Self { hub, compute }
    }

    /// Where models are looked for.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Device and number type.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Local files for `spec`: a known name, a hub id, a folder or a file.
    ///
    /// # Errors
    /// When they are neither here nor can be fetched.
    pub fn resolve(&self, spec: &str, want: &Want) -> Result<Resolved> {
        Ok(self.hub.resolve(&Location::parse(spec)?, want)?)
    }

    /// A text encoder. `size` is the one to take where `spec` names a family: ViT-L/14 for Stable
    /// Diffusion 1, ViT-B/16 for CLIPSeg.
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn text_encoder(&self, spec: &str, size: ClipSize) -> Result<Arc<dyn TextEncoder>> {
        self.text_encoder_with(spec, size, Residency::Kept)
    }

    /// The same for a model of this residency: one that is to be in memory with nothing else can be
    /// released.
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn text_encoder_with(
        &self,
        spec: &str,
        size: ClipSize,
        residency: Residency,
    ) -> Result<Arc<dyn TextEncoder>> {
        let files = self.clip_files(spec, ModelKind::TextEncoder, size)?;
        Ok(residency.text_encoder(&files, spec, &self.compute)?)
    }

    /// The files of a CLIP ([`ModelKind::Clip`]), or of what has its text tower at least
    /// ([`ModelKind::TextEncoder`]). `size` is the one to take where `spec` names a family.
    ///
    /// # Errors
    /// When they cannot be found or read.
    pub fn clip_files(&self, spec: &str, kind: ModelKind, size: ClipSize) -> Result<ClipFiles> {
        let found = self.resolve(spec, &Want::new(kind).size(size))?;
        Ok(ClipFiles::open(&found.path)?)
    }

    /// The files of a Stable Diffusion.
    ///
    /// # Errors
    /// When they cannot be found or read.
    pub fn pipeline_files(&self, spec: &str, options: &OpenPipeline) -> Result<PipelineFiles> {
        let mut want = Want::new(ModelKind::Diffusion);
        if options.variant.as_deref() == Some("fp16") {
            want = want.fp16();
        }
        let found = self.resolve(spec, &want)?;
        Ok(PipelineFiles::open(found.path, options)?)
    }

    /// Stable Diffusion with its own text encoder.
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn stable_diffusion(
        &self,
        spec: &str,
        open: &OpenPipeline,
        options: &PipelineOptions,
    ) -> Result<StableDiffusion> {
        let files = self.pipeline_files(spec, open)?;
        // Every picture's record names them.
        files.unet().hash_ahead();
        files.vae().hash_ahead();
        Ok(StableDiffusion::from_files(&files, None, options)?)
    }

    /// CLIPSeg with its own text encoder. `clip` is where its CLIP is, for a file that holds the
    /// decoder alone.
    ///
    /// # Errors
    /// When the files cannot be found, read, or do not fit each other.
    pub fn clipseg(&self, spec: &str, clip: Option<&str>) -> Result<ClipSeg> {
        let found = self.resolve(spec, &Want::new(ModelKind::ClipSeg))?;
        let clip = clip
            .map(|spec| self.resolve(spec, &Want::new(ModelKind::Clip).size(ClipSize::VitB16)))
            .transpose()?;
        let clip = clip.as_ref().map(|found| found.path.as_path());
        let files = ClipSegFiles::open(found.path, clip)?;
        Ok(ClipSeg::from_files(&files, None, &self.compute)?)
    }
}
