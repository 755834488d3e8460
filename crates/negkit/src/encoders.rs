//! Looking into a checkpoint, and comparing two encoders.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::Checkpoint;
use negkit_checkpoint::naming::Naming;
use negkit_clip::cosines;
use negkit_text::{ClipFiles, TextEncoder};
use serde::Serialize;

use crate::Result;

/// Width of the text that Stable Diffusion 1 is steered by.
const SD1_WIDTH: usize = 768;
/// Width of the text that Stable Diffusion 2 is steered by.
const SD2_WIDTH: usize = 1024;
/// Projection that the published CLIPSegs take.
const CLIPSEG_PROJECTION: usize = 512;

/// One tensor of a checkpoint.
#[derive(Debug, Clone, Serialize)]
pub struct TensorSummary {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Sizes of a text tower.
#[derive(Debug, Clone, Serialize)]
pub struct TextTowerSummary {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Positions of a prompt.
    pub context_length: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Width of the projection; `None` without one.
    pub projection_dim: Option<usize>,
    /// Activation of the feed-forward blocks.
    pub activation: String,
    /// What a text encoder of these sizes fits.
    pub fits: Vec<String>,
}

/// What a checkpoint is.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointSummary {
    /// Where it is.
    pub origin: String,
    /// How it is stored.
    pub format: String,
    /// Its naming scheme.
    pub naming: String,
    /// Size of its files, in bytes.
    pub file_bytes: u64,
    /// SHA-256 of the weight file.
    pub sha256: Option<String>,
    /// Number of parameters and buffers.
    pub elements: usize,
    /// Its text tower, where it has one.
    pub text_tower: Option<TextTowerSummary>,
    /// Why there is no text tower, or it cannot be used.
    pub text_tower_error: Option<String>,
    /// Its tensors, in order of their names.
    pub tensors: Vec<TensorSummary>,
}

/// Looks into the checkpoint at `path` without building a model.
///
/// # Errors
/// When the file cannot be read.
pub fn inspect(path: &Path) -> Result<CheckpointSummary> {
    let is_pipeline = path.join("model_index.json").is_file();
    let weights = if is_pipeline {
        path.join("text_encoder")
    } else {
        path.to_owned()
    };
    let checkpoint = Checkpoint::open(weights)?;
    let files = ClipFiles::open(path);
    let tower = files
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|files| {
            let config = files.text_config().map_err(|error| error.to_string())?;
            let projected = files.dim("text_projection.weight", 0).is_some();
            let projection_dim = projected.then_some(config.projection_dim);
            Ok(TextTowerSummary {
                vocab_size: config.vocab_size,
                context_length: config.max_position_embeddings,
                hidden_size: config.hidden_size,
                layers: config.num_hidden_layers,
                heads: config.num_attention_heads,
                projection_dim,
                activation: format!("{:?}", config.hidden_act),
                fits: fits(config.hidden_size, projection_dim),
            })
        });
    let (text_tower, text_tower_error) = match tower {
        Ok(tower) => (Some(tower), None),
        Err(error) => (None, Some(error)),
    };
    let tensors = checkpoint.iter().map(|(name, view)| TensorSummary {
        name: name.to_owned(),
        dtype: view.element().name().to_owned(),
        shape: view.shape().to_vec(),
    });
    Ok(CheckpointSummary {
        origin: checkpoint.origin().to_owned(),
        format: checkpoint.format().to_string(),
        naming: Naming::detect(&checkpoint).to_string(),
        file_bytes: checkpoint.file_bytes(),
        sha256: checkpoint.sha256()?,
        elements: checkpoint.elements(),
        text_tower,
        text_tower_error,
        tensors: tensors.collect(),
    })
}

fn fits(hidden_size: usize, projection_dim: Option<usize>) -> Vec<String> {
    let mut fits = Vec::new();
    if hidden_size == SD1_WIDTH {
        fits.push(format!(
            "Stable Diffusion 1.x (cross_attention_dim {SD1_WIDTH})"
        ));
    }
    if hidden_size == SD2_WIDTH {
        fits.push(format!(
            "Stable Diffusion 2.x (cross_attention_dim {SD2_WIDTH})"
        ));
    }
    if projection_dim == Some(CLIPSEG_PROJECTION) {
        fits.push(format!("CLIPSeg (projection_dim {CLIPSEG_PROJECTION})"));
    }
    if let Some(projection) = projection_dim {
        fits.push(format!("CLIP vision towers of projection {projection}"));
    }
    fits
}

/// How two encoders see one prompt.
#[derive(Debug, Clone, Serialize)]
pub struct PromptComparison {
    /// The prompt.
    pub prompt: String,
    /// Cosine of the end-of-text hidden vectors.
    pub pooled: f32,
    /// Cosine of the projections, where both encoders have one.
    pub projected: Option<f32>,
    /// Mean over all positions of the cosine of the hidden states: what Stable Diffusion sees.
    pub hidden_states: f32,
}

/// How one encoder sees two prompts: the cosine of their projections (or, without one, of their
/// end-of-text hidden vectors). Near 1 for "a room with chairs" and "a room with no chairs" means
/// blind to the negation.
#[derive(Debug, Clone, Serialize)]
pub struct PromptPair {
    /// One prompt.
    pub first: String,
    /// The other prompt.
    pub second: String,
    /// The cosine in the first encoder.
    pub a: f32,
    /// The cosine in the second encoder.
    pub b: f32,
}

/// Two encoders side by side.
#[derive(Debug, Clone, Serialize)]
pub struct EncoderComparison {
    /// Name of the first encoder.
    pub a: String,
    /// Name of the second encoder.
    pub b: String,
    /// Each prompt, in both encoders.
    pub prompts: Vec<PromptComparison>,
    /// Each pair of prompts, in each encoder.
    pub pairs: Vec<PromptPair>,
}

/// Compares two encoders of the same sizes on prompts.
///
/// # Errors
/// When a prompt cannot be encoded, or the encoders differ in size.
pub fn compare(
    a: &dyn TextEncoder,
    b: &dyn TextEncoder,
    prompts: &[&str],
) -> Result<EncoderComparison> {
    let (info_a, info_b) = (a.info(), b.info());
    let sizes = |info: &negkit_text::EncoderInfo| (info.hidden_size, info.context_length);
    if sizes(info_a) != sizes(info_b) {
        return Err(crate::Error::Encoders(format!(
            "'{}' and '{}' cannot be compared: their (hidden size, context length) are {:?} and \
             {:?}",
            info_a.name,
            info_b.name,
            sizes(info_a),
            sizes(info_b)
        )));
    }
    let (a, b) = (a.encode(prompts)?, b.encode(prompts)?);
    let pooled = diagonal(&cosines(&a.pooled, &b.pooled)?)?;
    let projected = match (&a.projected, &b.projected) {
        (Some(a), Some(b)) if a.dims() == b.dims() => Some(diagonal(&cosines(a, b)?)?),
        _ => None,
    };
    let mut comparisons = Vec::with_capacity(prompts.len());
    for (i, prompt) in prompts.iter().enumerate() {
        let states = |encoding: &negkit_text::TextEncoding| encoding.last_hidden_state.get(i);
        let per_position = diagonal(&cosines(&states(&a)?, &states(&b)?)?)?;
        comparisons.push(PromptComparison {
            prompt: (*prompt).to_owned(),
            pooled: pooled[i],
            projected: projected.as_ref().map(|all| all[i]),
            hidden_states: per_position.iter().sum::<f32>() / per_position.len() as f32,
        });
    }
    let within = |encoding: &negkit_text::TextEncoding| -> Result<Vec<Vec<f32>>> {
        let vectors = encoding.projected.as_ref().unwrap_or(&encoding.pooled);
        Ok(cosines(vectors, vectors)?.to_vec2()?)
    };
    let (within_a, within_b) = (within(&a)?, within(&b)?);
    let mut pairs = Vec::new();
    for i in 0..prompts.len() {
        for j in i + 1..prompts.len() {
            pairs.push(PromptPair {
                first: prompts[i].to_owned(),
                second: prompts[j].to_owned(),
                a: within_a[i][j],
                b: within_b[i][j],
            });
        }
    }
    Ok(EncoderComparison {
        a: info_a.name.clone(),
        b: info_b.name.clone(),
        prompts: comparisons,
        pairs,
    })
}

fn diagonal(matrix: &Tensor) -> Result<Vec<f32>> {
    let rows: Vec<Vec<f32>> = matrix
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .to_vec2()?;
    let entries = rows.iter().enumerate().filter_map(|(i, row)| row.get(i));
    Ok(entries.copied().collect())
}
