//! Running a case and comparing what comes out.

mod blip;
mod sentence;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use negkit_clip::{ClipVisionTower, cosines, logit_scale, vision_config};
use negkit_clipseg::{ClipSeg, ClipSegFiles};
use negkit_diffusion::scheduler::SchedulerConfig;
use negkit_diffusion::vae::{Vae, VaeTiling};
use negkit_diffusion::{
    OpenPipeline, PictureRequest, PipelineFiles, PipelineOptions, SamplingSettings,
    StableDiffusion, load_unet, load_vae, open_unet_folder, open_vae_folder,
};
use negkit_nn::{AttentionBudget, Compute, Params};
use negkit_text::tower::{ClipTextConfig, ClipTextTower};
use negkit_text::{ClipFiles, EncoderInfo, TextEncoder, TextEncoding, TextError, WeightsSource};
use serde::Serialize;
use serde_json::Value;

use crate::case::{Case, CaseKind, Tolerance};
use crate::{Difference, ParityError};

/// One output beside the reference's.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Name of the output.
    pub output: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How far it is from the reference.
    pub difference: Difference,
    /// Name of the measure that counts.
    pub measure: &'static str,
    /// Its bound.
    pub tolerance: f64,
    /// Whether the measure is within its bound.
    pub passed: bool,
}

/// The result of one case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseReport {
    /// Name of the case.
    pub name: String,
    /// Library, version and class that computed the reference.
    pub reference: String,
    /// Every output.
    pub comparisons: Vec<Comparison>,
    /// Time to load and run the model, in seconds.
    pub seconds: f64,
}

impl CaseReport {
    /// Whether every output is within its tolerance.
    pub fn passed(&self) -> bool {
        self.comparisons.iter().all(|comparison| comparison.passed)
    }
}

/// What a model gave for a case, by the names of the case's outputs.
pub type Outputs = BTreeMap<String, Tensor>;

/// Loads the case's model, runs it on the case's inputs and compares every output.
///
/// # Errors
/// When the case or its model cannot be read or run, or lacks an output. An output that is too far
/// from the reference is no error; see [`CaseReport::passed`].
pub fn run_case(case: &Case, compute: &Compute) -> Result<CaseReport, ParityError> {
    let start = Instant::now();
    let outputs = run_model(case, compute)?;
    compare_outputs(case, &outputs, start.elapsed().as_secs_f64())
}

/// Loads the case's model and runs it on the case's inputs.
///
/// # Errors
/// When the case or its model cannot be read or run.
pub fn run_model(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    match case.kind {
        CaseKind::ClipText => clip_text(case, compute),
        CaseKind::ClipVision => clip_vision(case, compute),
        CaseKind::Clip => clip(case, compute),
        CaseKind::Clipseg => clipseg(case, compute),
        CaseKind::Unet => unet(case, compute),
        CaseKind::VaeDecode => vae_decode(case, compute),
        CaseKind::VaeEncode => vae_encode(case, compute),
        CaseKind::Txt2img => txt2img(case, compute),
        CaseKind::BlipVqa => blip::run(case, compute),
        CaseKind::Sentence => sentence::run(case, compute),
    }
}

/// Compares what a model gave in `seconds` with the case's reference.
///
/// # Errors
/// When an output is missing or has another shape than the reference's.
pub fn compare_outputs(
    case: &Case,
    outputs: &Outputs,
    seconds: f64,
) -> Result<CaseReport, ParityError> {
    let mut comparisons = Vec::with_capacity(case.outputs().len());
    for (name, tolerance) in case.outputs() {
        let found = outputs.get(name).ok_or_else(|| ParityError::NoTensor {
            case: case.name.clone(),
            name: name.clone(),
            found: outputs.keys().cloned().collect(),
        })?;
        comparisons.push(compare(case, name, *tolerance, found)?);
    }
    Ok(CaseReport {
        name: case.name.clone(),
        reference: case.reference.clone(),
        comparisons,
        seconds,
    })
}

fn compare(
    case: &Case,
    name: &str,
    tolerance: Tolerance,
    found: &Tensor,
) -> Result<Comparison, ParityError> {
    let expected = case.expected(name)?;
    if expected.dims() != found.dims() {
        return Err(ParityError::Shape {
            case: case.name.clone(),
            output: name.to_owned(),
            expected: expected.dims().to_vec(),
            found: found.dims().to_vec(),
        });
    }
    let difference = Difference::between(found, &expected)?;
    let (measure, value, tolerance) = match tolerance {
        Tolerance {
            mean_absolute: Some(bound),
            ..
        } => ("mean_absolute", difference.mean_absolute, bound),
        Tolerance { relative_l2, .. } => (
            "relative_l2",
            difference.relative_l2,
            relative_l2.unwrap_or_default(),
        ),
    };
    Ok(Comparison {
        output: name.to_owned(),
        shape: found.dims().to_vec(),
        difference,
        measure,
        tolerance,
        // NaN is within no bound.
        passed: value <= tolerance,
    })
}

pub(crate) fn load_text_tower(
    files: &ClipFiles,
    compute: &Compute,
) -> Result<(ClipTextTower, ClipTextConfig), ParityError> {
    let config = files.text_config()?;
    let params = Params::compute(files.tensors().clone(), compute);
    let tower = ClipTextTower::load(&params, &config)?;
    params.finish("the CLIP text tower", ClipFiles::NOT_TEXT)?;
    Ok((tower, config))
}

fn clip_text(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    text_outputs(case, &ClipFiles::open(&case.model)?, compute)
}

fn text_outputs(case: &Case, files: &ClipFiles, compute: &Compute) -> Result<Outputs, ParityError> {
    let (tower, _) = load_text_tower(files, compute)?;
    let output = tower.forward(&case.ids("input_ids")?)?;
    let mut outputs = Outputs::new();
    outputs.insert("last_hidden_state".into(), output.last_hidden_state);
    outputs.insert("pooler_output".into(), output.pooled);
    if let Some(projected) = output.projected {
        outputs.insert("text_embeds".into(), projected);
    }
    Ok(outputs)
}

fn clip_vision(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    vision_outputs(case, &ClipFiles::open(&case.model)?, compute)
}

fn vision_outputs(
    case: &Case,
    files: &ClipFiles,
    compute: &Compute,
) -> Result<Outputs, ParityError> {
    let params = Params::compute(files.tensors().clone(), compute);
    let tower = ClipVisionTower::load(&params, &vision_config(files)?)?;
    params.finish("the CLIP vision tower", ClipFiles::NOT_VISION)?;
    let pixels = case
        .input("pixel_values", &compute.device)?
        .to_dtype(compute.dtype)?;
    let output = tower.forward(&pixels)?;
    let mut outputs = Outputs::new();
    for (i, state) in output.hidden_states.iter().enumerate() {
        outputs.insert(format!("hidden_states.{i}"), state.clone());
    }
    if let Some(last) = output.hidden_states.last() {
        outputs.insert("last_hidden_state".into(), last.clone());
    }
    outputs.insert("pooler_output".into(), output.pooled);
    outputs.insert("image_embeds".into(), output.image_embeds);
    Ok(outputs)
}

fn clip(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let files = ClipFiles::open(&case.model)?;
    let mut outputs = Outputs::new();
    for (part, of_part) in [
        ("text_model", text_outputs(case, &files, compute)?),
        ("vision_model", vision_outputs(case, &files, compute)?),
    ] {
        for (name, tensor) in of_part {
            let shared = name == "text_embeds" || name == "image_embeds";
            outputs.insert(
                if shared {
                    name
                } else {
                    format!("{part}.{name}")
                },
                tensor,
            );
        }
    }
    if let (Some(image), Some(text)) = (outputs.get("image_embeds"), outputs.get("text_embeds")) {
        let scale = logit_scale(&files)?.unwrap_or_default().exp();
        let logits = (cosines(image, text)? * f64::from(scale))?;
        outputs.insert("logits_per_image".into(), logits);
    }
    Ok(outputs)
}

/// Stands for the text encoder where a case brings token ids instead of phrases.
pub(crate) struct NoText(pub(crate) EncoderInfo);

impl TextEncoder for NoText {
    fn encode(&self, _: &[&str]) -> Result<TextEncoding, TextError> {
        Err(TextError::Other {
            encoder: self.0.name.clone(),
            cause: "there is no text encoder here: conditions are given as they are".into(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        &self.0
    }
}

fn clipseg(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let clip = case.path_option("clip")?;
    let files = ClipSegFiles::open(&case.model, clip.as_deref())?;
    let (tower, config) = load_text_tower(files.clip(), compute)?;
    let info = EncoderInfo {
        name: case.name.clone(),
        hidden_size: config.hidden_size,
        projection_dim: tower.has_projection().then_some(config.projection_dim),
        context_length: config.max_position_embeddings,
        tokenizer: "none".into(),
        weights: WeightsSource::new(files.path().display().to_string(), None),
    };
    let model = ClipSeg::from_files(&files, Some(Arc::new(NoText(info))), compute)?;
    let input = |name: &str| -> Result<Option<Tensor>, ParityError> {
        let tensor = case.optional_input(name, &compute.device)?;
        Ok(tensor.map(|t| t.to_dtype(compute.dtype)).transpose()?)
    };
    let Some(pixels) = input("pixel_values")? else {
        return Ok(Outputs::new());
    };
    let mut conditions: Vec<(&str, Tensor)> = Vec::new();
    if let Some(text) = tower.forward(&case.ids("input_ids")?)?.projected {
        conditions.push(("", text));
    }
    if let Some(pictures) = input("conditional_pixel_values")? {
        let embeds = model.vision().forward(&pictures)?.image_embeds;
        conditions.push(("_image_prompt", embeds));
    }
    if let Some(vectors) = input("conditional_embeddings")? {
        conditions.push(("_conditional_embeddings", vectors));
    }
    let mut outputs = Outputs::new();
    for (suffix, conditions) in conditions {
        // The reference pairs pictures and conditions; ours decodes one picture for many.
        let mut logits = Vec::new();
        for i in 0..pixels.dim(0)? {
            let (picture, condition) = (pixels.narrow(0, i, 1)?, conditions.narrow(0, i, 1)?);
            logits.push(model.forward(&picture, &condition)?.squeeze(0)?);
        }
        outputs.insert(format!("logits{suffix}"), Tensor::cat(&logits, 0)?);
        outputs.insert(format!("conditional_embeddings{suffix}"), conditions);
    }
    Ok(outputs)
}

fn unet(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let (tensors, config) = open_unet_folder(&case.model)?;
    let unet = load_unet(tensors, &config, compute, AttentionBudget::default())?;
    let input = |name: &str| -> Result<Tensor, ParityError> {
        Ok(case.input(name, &compute.device)?.to_dtype(compute.dtype)?)
    };
    let timesteps = case.input("timestep", &Device::Cpu)?.to_dtype(DType::F64)?;
    let output = unet.forward(
        &input("sample")?,
        &timesteps.to_vec1()?,
        &input("encoder_hidden_states")?,
    )?;
    Ok(Outputs::from([("sample".into(), output)]))
}

fn open_vae(case: &Case, compute: &Compute) -> Result<Vae, ParityError> {
    let (tensors, config) = open_vae_folder(&case.model)?;
    Ok(load_vae(
        tensors,
        &config,
        compute,
        AttentionBudget::default(),
    )?)
}

fn vae_decode(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let vae = open_vae(case, compute)?;
    let latents = case
        .input("latents", &compute.device)?
        .to_dtype(compute.dtype)?;
    let tiling = match case.option::<Option<bool>>("tiling")? {
        Some(true) => VaeTiling::On,
        _ => VaeTiling::Off,
    };
    Ok(Outputs::from([(
        "image".into(),
        vae.decode(&latents, tiling)?,
    )]))
}

fn vae_encode(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let vae = open_vae(case, compute)?;
    let picture = case
        .input("image", &compute.device)?
        .to_dtype(compute.dtype)?;
    let distribution = vae.encode(&picture)?;
    Ok(Outputs::from([
        ("moments".into(), vae.moments(&picture)?),
        ("mean".into(), distribution.mean),
        ("logvar".into(), distribution.logvar),
    ]))
}

fn txt2img(case: &Case, compute: &Compute) -> Result<Outputs, ParityError> {
    let open = OpenPipeline {
        variant: None,
        config: case.path_option("config")?,
    };
    let mut files = PipelineFiles::open(&case.model, &open)?;
    if let Some(Value::Object(scheduler)) = case.options.get("scheduler_config") {
        let text = Value::Object(scheduler.clone()).to_string();
        files = files.with_scheduler(
            SchedulerConfig::from_json(&text).map_err(negkit_diffusion::DiffusionError::from)?,
        );
    }
    let model = StableDiffusion::from_files(&files, None, &PipelineOptions::new(compute.clone()))?;
    let prompts: Vec<String> = case.option("prompt")?;
    let negatives: Option<Vec<String>> = case.option("negative_prompt")?;
    let seeds: Vec<u64> = case.option("seeds")?;
    let requests = prompts
        .into_iter()
        .zip(seeds)
        .enumerate()
        .map(|(i, (prompt, seed))| {
            let negative = negatives.as_ref().and_then(|all| all.get(i));
            PictureRequest {
                prompt,
                negative_prompt: negative.cloned().unwrap_or_default(),
                seed,
            }
        });
    let requests: Vec<PictureRequest> = requests.collect();
    let settings = SamplingSettings {
        steps: case.option("steps")?,
        guidance_scale: case.option("guidance_scale")?,
        width: case.option("width")?,
        height: case.option("height")?,
        batch_size: requests.len(),
        ..SamplingSettings::default()
    };
    let noise = model.starting_noise(&requests, &settings)?;
    let made = model.generate(&requests, &settings, None, |_| ControlFlow::Continue(()))?;
    let stack = |tensors: Vec<Tensor>| Tensor::stack(&tensors, 0);
    let latents = stack(made.iter().map(|picture| picture.latents.clone()).collect())?;
    let pictures = stack(made.iter().map(|picture| picture.values.clone()).collect())?;
    let noise_difference = Difference::between(&noise, &case.input("latents", &Device::Cpu)?)?;
    let noise_agrees = noise_difference.max_absolute <= MAX_NOISE_DIFFERENCE;
    if !noise_agrees {
        return Err(ParityError::Noise {
            case: case.name.clone(),
            difference: noise_difference.max_absolute,
            tolerance: MAX_NOISE_DIFFERENCE,
        });
    }
    Ok(Outputs::from([
        ("latents".into(), latents),
        (
            "image".into(),
            pictures.permute((0, 2, 3, 1))?.contiguous()?,
        ),
    ]))
}

/// PyTorch's own noise differs by as much between processors (its vectorised logarithm).
const MAX_NOISE_DIFFERENCE: f64 = 1e-6;
