//! The same pictures with several text encoders, from the same noise.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use negkit_diffusion::{
    GeneratedPicture, PictureRequest, Residency, SamplingSettings, StableDiffusion, StepProgress,
};
use negkit_image::{GenerationParameters, PARAMETERS_KEY, Panel, Sheet, write_atomic, write_png};
use negkit_text::TextEncoder;
use serde::Serialize;

pub use crate::latents::{read_latents, write_latents};
use crate::{Error, Result};

/// A text encoder under the name that pictures are labelled with; `None` for the model's own.
pub type NamedEncoder = (String, Option<Arc<dyn TextEncoder>>);

/// The pictures of one encoder.
pub struct EncoderPictures {
    /// Name of the encoder.
    pub encoder: String,
    /// Its pictures, in the order of the requests.
    pub pictures: Vec<GeneratedPicture>,
    /// SHA-256 of the encoder's weights, where they come from a file.
    pub encoder_sha256: Option<String>,
}

/// A finished step, with what it belongs to.
pub struct RunProgress<'a> {
    /// The model, for a preview: see [`StableDiffusion::decode`].
    pub model: &'a StableDiffusion,
    /// Index of the encoder.
    pub encoder: usize,
    /// The step.
    pub step: &'a StepProgress<'a>,
}

/// Seeds and prompts as requests: every prompt with every seed from `seed` on.
pub fn requests(
    prompts: &[String],
    negative_prompt: &str,
    seed: u64,
    images_per_prompt: usize,
) -> Vec<PictureRequest> {
    let each = |prompt: &String| {
        let prompt = prompt.clone();
        (0..images_per_prompt as u64).map(move |i| PictureRequest {
            prompt: prompt.clone(),
            negative_prompt: negative_prompt.to_owned(),
            seed: seed.wrapping_add(i),
        })
    };
    prompts.iter().flat_map(each).collect()
}

/// Side of the pictures that a model was trained for, in pixels; Stable Diffusion 1's where its
/// configuration does not say.
pub fn own_side(model: &StableDiffusion) -> usize {
    const STABLE_DIFFUSION_1: usize = 512;
    let latents = model.unet_config().sample_size;
    latents.map_or(STABLE_DIFFUSION_1, |side| {
        side.saturating_mul(model.vae_config().scale())
    })
}

/// Makes the pictures of `requests` with every encoder in turn. `noise` takes the place of the
/// seeds' starting noise; `on_step` may end the run. However it ends, the model has its own encoder
/// again. With [`Residency::OneAtATime`] the UNet and the autoencoder are loaded once for all encoders.
///
/// # Errors
/// When there is no encoder or no request, an encoder does not fit the model, or a picture cannot
/// be made.
pub fn run(
    model: &mut StableDiffusion,
    encoders: &[NamedEncoder],
    requests: &[PictureRequest],
    settings: &SamplingSettings,
    noise: Option<&Tensor>,
    on_step: impl FnMut(&RunProgress<'_>) -> ControlFlow<()>,
) -> Result<Vec<EncoderPictures>> {
    if encoders.is_empty() {
        return Err(Error::Encoders("no text encoder was given".to_owned()));
    }
    if requests.is_empty() {
        return Err(Error::NoPictures);
    }
    let own = model.text().clone();
    let runs = run_encoders(model, &own, encoders, requests, settings, noise, on_step);
    model.set_text_encoder(own)?;
    runs
}

fn run_encoders(
    model: &mut StableDiffusion,
    own: &Arc<dyn TextEncoder>,
    encoders: &[NamedEncoder],
    requests: &[PictureRequest],
    settings: &SamplingSettings,
    noise: Option<&Tensor>,
    mut on_step: impl FnMut(&RunProgress<'_>) -> ControlFlow<()>,
) -> Result<Vec<EncoderPictures>> {
    // Nothing is made before every encoder is known to fit.
    let encoders: Vec<_> = encoders
        .iter()
        .map(|(name, encoder)| (name, encoder.as_ref().unwrap_or(own)))
        .collect();
    for &(_, encoder) in &encoders {
        model.set_text_encoder(encoder.clone())?;
    }
    let mut step_of = |model: &StableDiffusion, encoder, step: &StepProgress<'_>| {
        on_step(&RunProgress {
            model,
            encoder,
            step,
        })
    };
    let mut all = Vec::with_capacity(encoders.len());
    match model.residency() {
        Residency::Kept => {
            for (index, &(_, encoder)) in encoders.iter().enumerate() {
                model.set_text_encoder(encoder.clone())?;
                let model = &*model;
                let on_step = |step: &StepProgress<'_>| step_of(model, index, step);
                all.push(model.generate(requests, settings, noise, on_step)?);
            }
        }
        Residency::OneAtATime => {
            let mut encoded = Vec::with_capacity(encoders.len());
            for &(_, encoder) in &encoders {
                model.set_text_encoder(encoder.clone())?;
                encoded.push(model.encode(requests, settings)?);
            }
            // It is in memory even where it was not asked for.
            own.release();
            let model = &*model;
            let mut sampled = Vec::with_capacity(encoders.len());
            for (index, prompts) in encoded.iter().enumerate() {
                let on_step = |step: &StepProgress<'_>| step_of(model, index, step);
                sampled.push(model.sample(prompts, noise, on_step)?);
            }
            for pictures in sampled {
                all.push(model.decode_all(pictures)?);
            }
        }
    }
    encoders
        .into_iter()
        .zip(all)
        .map(|((name, encoder), pictures)| {
            Ok(EncoderPictures {
                encoder: name.clone(),
                pictures,
                encoder_sha256: encoder.info().weights.sha256()?.map(str::to_owned),
            })
        })
        .collect()
}

/// What a saved picture was made with, as the JSON beside it has it.
#[derive(Debug, Clone, Serialize)]
pub struct PictureRecord {
    /// The picture's file.
    pub file: PathBuf,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt.
    pub negative_prompt: String,
    /// The seed.
    pub seed: u64,
    /// Inference steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Name of the scheduler.
    pub scheduler: String,
    /// DDIM's eta.
    pub eta: f64,
    /// What was left out of the sampling, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savings: Option<String>,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the UNet's weight file.
    pub unet_sha256: Option<String>,
    /// SHA-256 of the autoencoder's weight file.
    pub vae_sha256: Option<String>,
    /// Name of the text encoder.
    pub text_encoder: String,
    /// SHA-256 of the text encoder's weight file.
    pub text_encoder_sha256: Option<String>,
    /// The end of the prompt that did not fit.
    pub truncated: Option<String>,
    /// Version of negkit.
    pub negkit: &'static str,
}

/// Where and how pictures are saved.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// The folder.
    pub folder: PathBuf,
    /// Name of the model, for the records.
    pub model: String,
    /// Whether a JSON file is written beside every picture.
    pub json: bool,
}

/// What was saved.
#[derive(Debug, Clone, Serialize)]
pub struct Saved {
    /// One record a picture: encoder by encoder, in the order of the requests.
    pub pictures: Vec<PictureRecord>,
    /// The comparison sheet, where there is more than one picture.
    pub sheet: Option<PathBuf>,
}

/// Writes every picture as a PNG with its parameters inside, and a sheet with all of them side by
/// side. Every file is written whole or not at all.
///
/// # Errors
/// When a file cannot be written.
pub fn save(
    model: &StableDiffusion,
    runs: &[EncoderPictures],
    settings: &SamplingSettings,
    options: &SaveOptions,
) -> Result<Saved> {
    let folder = &options.folder;
    std::fs::create_dir_all(folder).map_err(|cause| Error::Folder {
        path: folder.clone(),
        cause,
    })?;
    let hash = |weights: &negkit_text::WeightsSource| -> Result<Option<String>> {
        Ok(weights.sha256()?.map(str::to_owned))
    };
    let (unet_sha256, vae_sha256) = (hash(model.unet_weights())?, hash(model.vae_weights())?);
    let scheduler = model.scheduler_kind(settings)?;
    let mut records = Vec::new();
    let encoders = encoder_slugs(runs.iter().map(|run| run.encoder.as_str()));
    for (run, encoder) in runs.iter().zip(&encoders) {
        for (index, made) in run.pictures.iter().enumerate() {
            let name = file_stem(index, &made.request, encoder);
            let record = PictureRecord {
                file: folder.join(format!("{name}.png")),
                prompt: made.request.prompt.clone(),
                negative_prompt: made.request.negative_prompt.clone(),
                seed: made.request.seed,
                steps: settings.steps,
                guidance_scale: settings.guidance_scale,
                width: settings.width,
                height: settings.height,
                scheduler: scheduler.name().to_owned(),
                eta: settings.eta,
                savings: settings.savings.described(),
                model: options.model.clone(),
                unet_sha256: unet_sha256.clone(),
                vae_sha256: vae_sha256.clone(),
                text_encoder: run.encoder.clone(),
                text_encoder_sha256: run.encoder_sha256.clone(),
                truncated: made.truncated.clone(),
                negkit: env!("CARGO_PKG_VERSION"),
            };
            let text = parameters(&record).format()?;
            write_png(&record.file, &made.picture, &[(PARAMETERS_KEY, &text)])?;
            if options.json {
                let json = serde_json::to_vec_pretty(&record)?;
                write_atomic(folder.join(format!("{name}.json")), &json)?;
            }
            records.push(record);
        }
    }
    let sheet = (records.len() > 1)
        .then(|| write_sheet(runs, &folder.join("sheet.png")))
        .transpose()?;
    Ok(Saved {
        pictures: records,
        sheet,
    })
}

/// The record in the form that AUTOMATIC1111's readers understand.
fn parameters(record: &PictureRecord) -> GenerationParameters {
    const SHORT_HASH: usize = 10;
    let short = |hash: &String| hash.chars().take(SHORT_HASH).collect::<String>();
    let mut extra = vec![("Text encoder".to_owned(), record.text_encoder.clone())];
    if let Some(hash) = &record.text_encoder_sha256 {
        extra.push(("Text encoder hash".to_owned(), short(hash)));
    }
    if let Some(savings) = &record.savings {
        extra.push(("Savings".to_owned(), savings.clone()));
    }
    extra.push(("Version".to_owned(), format!("negkit {}", record.negkit)));
    GenerationParameters {
        prompt: record.prompt.clone(),
        negative_prompt: record.negative_prompt.clone(),
        steps: u32::try_from(record.steps).ok(),
        sampler: Some(record.scheduler.clone()),
        cfg_scale: Some(record.guidance_scale),
        seed: Some(record.seed),
        size: Some((record.width as u32, record.height as u32)),
        model_hash: record.unet_sha256.as_ref().map(short),
        model: Some(record.model.clone()),
        extra,
    }
}

/// One row a request, one column an encoder.
fn write_sheet(runs: &[EncoderPictures], path: &Path) -> Result<PathBuf> {
    let mut sheet = Sheet::new();
    let rows = runs.first().map_or(0, |run| run.pictures.len());
    for row in 0..rows {
        let panels = runs.iter().filter_map(|run| {
            let made = run.pictures.get(row)?;
            Some(Panel {
                image: made.picture.clone(),
                caption: run.encoder.clone(),
            })
        });
        let request = runs.first().and_then(|run| run.pictures.get(row));
        let heading = request.map_or(String::new(), |made| {
            format!("{} (seed {})", made.request.prompt, made.request.seed)
        });
        sheet = sheet.row_with_heading(heading, panels.collect());
    }
    write_png(path, &sheet.render()?, &[])?;
    Ok(path.to_owned())
}

/// `encoder` is of [`encoder_slugs`].
fn file_stem(index: usize, request: &PictureRequest, encoder: &str) -> String {
    let prompt = slug(&request.prompt);
    format!("{index:03}-{prompt}-seed{}-{encoder}", request.seed)
}

/// Longest part that a text has in a file name, in characters.
const LONGEST_SLUG: usize = 40;

/// The letters and digits of a text, for a file name: the beginning of a long one.
pub(crate) fn slug(text: &str) -> String {
    words(text).chars().take(LONGEST_SLUG).collect()
}

/// A part of a file name for every encoder, no two the same: what is written for one encoder must
/// not overwrite what was written for another. Of a long path this is the end, which tells more.
pub fn encoder_slugs<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut slugs: Vec<String> = Vec::new();
    for name in names {
        let all = words(name);
        let left_out = all.chars().count().saturating_sub(LONGEST_SLUG);
        let end: String = all.chars().skip(left_out).collect();
        let end = end.trim_start_matches('-');
        let mut unique = end.to_owned();
        let mut number = 2;
        while slugs.contains(&unique) {
            unique = format!("{end}-{number}");
            number += 1;
        }
        slugs.push(unique);
    }
    slugs
}

fn words(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        "empty".to_owned()
    } else {
        words.join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_meets_every_seed() {
        let prompts = ["a".to_owned(), "b".to_owned()];
        let all = requests(&prompts, "n", u64::MAX, 2);
        let seen: Vec<_> = all.iter().map(|r| (r.prompt.as_str(), r.seed)).collect();
        assert_eq!(seen, [("a", u64::MAX), ("a", 0), ("b", u64::MAX), ("b", 0)]);
        assert!(all.iter().all(|r| r.negative_prompt == "n"));
    }

    #[test]
    fn slugs_are_file_names() {
        assert_eq!(slug("A room, with NO chairs!"), "a-room-with-no-chairs");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("…"), "empty");
        assert_eq!(slug(&"x".repeat(500)).len(), 40);
    }

    #[test]
    fn no_two_encoders_share_a_file() {
        let folder = "/a/folder/with/a/very/long/path/before/the/name/of/the/file";
        let (a, b) = (format!("{folder}/a.pth"), format!("{folder}/b.pth"));
        let slugs = encoder_slugs([&*a, &*b, &*b, "b.pth", "stock", "Stock"].into_iter());
        let expected = [
            "h-before-the-name-of-the-file-a-pth",
            "h-before-the-name-of-the-file-b-pth",
            "h-before-the-name-of-the-file-b-pth-2",
            "b-pth",
            "stock",
            "stock-2",
        ];
        for (slug, expected) in slugs.iter().zip(expected) {
            assert!(slug.ends_with(expected), "{slug}");
        }
        let different: std::collections::BTreeSet<_> = slugs.iter().collect();
        assert_eq!(different.len(), slugs.len());
    }
}
