//! What models paint and mark, for people to look at.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use negkit::txt2img::{self, NamedEncoder, requests};
use negkit_diffusion::{SamplingSettings, StableDiffusion};
use negkit_image::{OverlayStyle, Panel, Sheet, overlay_probabilities, write_png};
use negkit_world::{Scene, language, render_picture};

use super::{clipseg, pipeline, text_encoder};
use crate::MiniError;
use crate::gallery::draw as random;
use crate::recipe;

/// The sheet in a model's folder.
pub(super) const FILE: &str = "pictures.png";
/// First seed of the sheets.
pub(super) const SEED: u64 = 0;

/// What mini-sd paints, a picture each.
const AFFIRMATIVE: [[&str; 4]; 4] = [
    [
        "a room with a blue sofa",
        "a kitchen with a white fridge",
        "a bedroom with a red bed",
        "a bathroom with a bathtub",
    ],
    [
        "a street with a yellow bus",
        "a park with a green bench",
        "a beach with a red ball",
        "a harbor with a boat",
    ],
    [
        "a garden with a flower",
        "a forest with a purple tent",
        "a farm with a brown cow",
        "an office with a black chair",
    ],
    [
        "a man with a red hat",
        "a woman with an umbrella",
        "a white cat",
        "a black dog in a park",
    ],
];
/// What both encoders are asked for, with and without.
const NEGATED: [&str; 4] = [
    "a bedroom without a lamp",
    "a street with no car",
    "a park with no dog",
    "a man without a hat",
];
/// Pictures of each negated prompt and encoder.
const EACH: usize = 3;
/// Scenes that are marked.
const MARKED: usize = 4;

/// Draws the sheets of those models that are in the tree `weights`.
pub(super) fn draw(weights: &Path) -> Result<(), MiniError> {
    let at = |name: &str| Some(weights.join(name)).filter(|folder| folder.is_dir());
    if let Some(folder) = at("sd") {
        let mut model = pipeline(&folder)?;
        save(&painted(&mut model)?, &folder)?;
        if let Some(negation) = at("negationclip") {
            let encoder = text_encoder(&negation)?;
            let encoders = [
                ("stock".to_owned(), None),
                ("mini-negationclip".to_owned(), Some(encoder as Arc<_>)),
            ];
            save(&swapped(&mut model, &encoders)?, &negation)?;
        }
    }
    match at("clipseg") {
        Some(folder) => save(&marked(&folder)?, &folder),
        None => Ok(()),
    }
}

fn save(sheet: &Sheet, folder: &Path) -> Result<(), MiniError> {
    Ok(write_png(folder.join(FILE), &sheet.render()?, &[])?)
}

/// Pictures of prompts by each encoder, from the same noise.
fn paint(
    model: &mut StableDiffusion,
    encoders: &[NamedEncoder],
    prompts: &[String],
    each: usize,
) -> Result<Vec<Vec<RgbImage>>, MiniError> {
    let side = recipe::SIDE as usize;
    let settings = SamplingSettings {
        steps: recipe::SAMPLING_STEPS,
        guidance_scale: recipe::GUIDANCE,
        width: side,
        height: side,
        batch_size: recipe::PAINTED_AT_A_TIME,
        ..SamplingSettings::default()
    };
    let requests = requests(prompts, "", SEED, each);
    let goes_on = |_: &txt2img::RunProgress<'_>| ControlFlow::Continue(());
    let runs = txt2img::run(model, encoders, &requests, &settings, None, goes_on)
        .map_err(MiniError::other)?;
    let pictures = runs.into_iter().map(|run| {
        let made = run.pictures.into_iter();
        made.map(|made| made.picture).collect()
    });
    Ok(pictures.collect())
}

fn painted(model: &mut StableDiffusion) -> Result<Sheet, MiniError> {
    let prompts: Vec<String> = AFFIRMATIVE
        .iter()
        .flatten()
        .map(|&p| p.to_owned())
        .collect();
    let own = [("stock".to_owned(), None)];
    let pictures = paint(model, &own, &prompts, 1)?.into_iter().flatten();
    let panels: Vec<Panel> = prompts
        .iter()
        .zip(pictures)
        .map(|(prompt, image)| Panel {
            image,
            caption: prompt.clone(),
        })
        .collect();
    let rows = panels.chunks(AFFIRMATIVE[0].len());
    Ok(rows.fold(Sheet::new(), |sheet, row| sheet.row(row.to_vec())))
}

fn swapped(model: &mut StableDiffusion, encoders: &[NamedEncoder]) -> Result<Sheet, MiniError> {
    let prompts: Vec<String> = NEGATED.iter().map(|&prompt| prompt.to_owned()).collect();
    let runs = paint(model, encoders, &prompts, EACH)?;
    let mut sheet = Sheet::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let panels = encoders.iter().zip(&runs).flat_map(|((name, _), run)| {
            let own = run.iter().skip(number * EACH).take(EACH);
            own.map(|image| Panel {
                image: image.clone(),
                caption: name.clone(),
            })
        });
        sheet = sheet.row_with_heading(prompt, panels.collect());
    }
    Ok(sheet)
}

/// Validation scenes, each with an ordinary and a negated phrase that only some of it is meant by.
fn marked(folder: &Path) -> Result<Sheet, MiniError> {
    let model = clipseg(folder)?;
    let mut sheet = Sheet::new();
    let scenes = recipe::VALIDATION.filter_map(|seed| {
        let scene = Scene::sample(seed);
        let mut rng = random("sheets", seed);
        let texts = |phrases: Vec<language::Phrase>, negated: bool| {
            let texts = phrases.into_iter().filter(|p| p.negated == negated);
            texts.map(|phrase| phrase.text).next()
        };
        let ordinary = texts(language::phrases(&scene, &mut rng), false)?;
        let expressions = language::referring_expressions(&scene, &mut rng);
        let refers = texts(expressions.clone(), false)?;
        Some((scene, [ordinary, refers, texts(expressions, true)?]))
    });
    for (scene, phrases) in scenes.take(MARKED) {
        let picture = render_picture(&scene, 2 * recipe::SEGMENTATION_SIDE);
        let texts: Vec<&str> = phrases.iter().map(String::as_str).collect();
        let found = model
            .segment_phrases(&picture, &texts)
            .map_err(MiniError::other)?;
        let mut panels = vec![Panel {
            image: picture.clone(),
            caption: "the picture".to_owned(),
        }];
        for (text, found) in texts.iter().zip(&found) {
            let style = OverlayStyle::default();
            let probabilities = found.probabilities();
            panels.push(Panel {
                image: overlay_probabilities(
                    &picture,
                    &probabilities,
                    found.resolution(),
                    0.5,
                    &style,
                )?,
                caption: (*text).to_owned(),
            });
        }
        sheet = sheet.row(panels);
    }
    Ok(sheet)
}
