//! The same phrases on one picture with several text encoders.

use std::path::PathBuf;
use std::sync::Arc;

use ::image::RgbImage;
use negkit_clipseg::{ClipSeg, Segmentation};
use negkit_image::{
    OverlayStyle, Panel, Rle, Sheet, overlay_probabilities, write_atomic, write_png, write_png_luma,
};
use negkit_text::TextEncoder;
use serde::Serialize;

use crate::txt2img::{NamedEncoder, encoder_slugs, slug};
use crate::{Error, Result};

/// What one encoder found.
pub struct EncoderSegmentations {
    /// Name of the encoder.
    pub encoder: String,
    /// One segmentation a phrase, in their order.
    pub segmentations: Vec<Segmentation>,
    /// SHA-256 of the encoder's weights, where they come from a file.
    pub encoder_sha256: Option<String>,
}

/// Segments `picture` by `phrases` with every encoder. The picture is encoded once. However it
/// ends, the model has its own encoder again.
///
/// # Errors
/// When there is no encoder, one does not fit the model, or the model fails.
pub fn run(
    model: &mut ClipSeg,
    encoders: &[NamedEncoder],
    picture: &RgbImage,
    phrases: &[&str],
) -> Result<Vec<EncoderSegmentations>> {
    if encoders.is_empty() {
        return Err(Error::Encoders("no text encoder was given".to_owned()));
    }
    let own = model.text().clone();
    let runs = run_encoders(model, &own, encoders, picture, phrases);
    model.set_text_encoder(own)?;
    runs
}

fn run_encoders(
    model: &mut ClipSeg,
    own: &Arc<dyn TextEncoder>,
    encoders: &[NamedEncoder],
    picture: &RgbImage,
    phrases: &[&str],
) -> Result<Vec<EncoderSegmentations>> {
    // The picture is not encoded before every encoder is known to fit.
    for (_, encoder) in encoders {
        model.set_text_encoder(encoder.clone().unwrap_or_else(|| Arc::clone(own)))?;
    }
    let encoded = model.encode_picture(picture)?;
    let mut runs = Vec::with_capacity(encoders.len());
    for (name, encoder) in encoders {
        model.set_text_encoder(encoder.clone().unwrap_or_else(|| Arc::clone(own)))?;
        let conditions = model.encode_phrases(phrases)?;
        let sha256 = model.text().info().weights.sha256()?;
        runs.push(EncoderSegmentations {
            encoder: name.clone(),
            segmentations: model.segment(&encoded, &conditions)?,
            encoder_sha256: sha256.map(str::to_owned),
        });
    }
    Ok(runs)
}

/// Segments `picture` by what looks like `examples` ("image prompts"); no text encoder takes part.
///
/// # Errors
/// When a picture cannot be preprocessed or the model fails.
pub fn run_examples(
    model: &ClipSeg,
    picture: &RgbImage,
    examples: &[&RgbImage],
) -> Result<EncoderSegmentations> {
    let conditions = model.encode_examples(examples)?;
    let encoded = model.encode_picture(picture)?;
    Ok(EncoderSegmentations {
        encoder: "example pictures".to_owned(),
        segmentations: model.segment(&encoded, &conditions)?,
        encoder_sha256: None,
    })
}

/// A mask as COCO has it: run lengths, compressed, column by column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CocoRle {
    /// Height and width, in pixels.
    pub size: [u32; 2],
    /// The compressed run lengths.
    pub counts: String,
}

/// What was found for one phrase by one encoder.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentRecord {
    /// The phrase.
    pub phrase: String,
    /// Name of the text encoder.
    pub text_encoder: String,
    /// SHA-256 of the text encoder's weight file.
    pub text_encoder_sha256: Option<String>,
    /// Threshold of the mask.
    pub threshold: f32,
    /// The mask, at the picture's size.
    pub segmentation: CocoRle,
    /// Pixels of the mask.
    pub area: u64,
    /// Bounding box of the mask: x, y, width, height.
    pub bbox: [u32; 4],
    /// Highest probability of any pixel.
    pub max_probability: f32,
    /// The picture with the probabilities over it.
    pub overlay: PathBuf,
    /// The mask, white on black.
    pub mask: PathBuf,
}

/// Where and how results are saved.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// The folder.
    pub folder: PathBuf,
    /// Threshold of the masks.
    pub threshold: f32,
}

/// What was saved.
#[derive(Debug, Clone, Serialize)]
pub struct Saved {
    /// One record a phrase and encoder.
    pub segmentations: Vec<SegmentRecord>,
    /// Everything side by side: a row a phrase, a column an encoder.
    pub sheet: PathBuf,
    /// The records as a JSON file.
    pub json: PathBuf,
}

/// Writes for every phrase and encoder an overlay and a mask as PNG, all masks as COCO RLE in one
/// JSON file, and a sheet with everything side by side.
///
/// # Errors
/// When the threshold is no probability or a file cannot be written.
pub fn save(
    picture: &RgbImage,
    phrases: &[&str],
    runs: &[EncoderSegmentations],
    options: &SaveOptions,
) -> Result<Saved> {
    let folder = &options.folder;
    std::fs::create_dir_all(folder).map_err(|cause| Error::Folder {
        path: folder.clone(),
        cause,
    })?;
    let style = OverlayStyle::default();
    let mut records = Vec::new();
    let mut sheet = Sheet::new();
    let encoders = encoder_slugs(runs.iter().map(|run| run.encoder.as_str()));
    for (index, phrase) in phrases.iter().enumerate() {
        let mut panels = Vec::with_capacity(runs.len());
        for (run, encoder) in runs.iter().zip(&encoders) {
            let Some(found) = run.segmentations.get(index) else {
                continue;
            };
            let mask = found.mask(options.threshold)?;
            let probabilities = found.probabilities_at_picture_size()?;
            let (width, height) = found.picture_size();
            let overlay = overlay_probabilities(
                picture,
                &probabilities,
                (height as usize, width as usize),
                options.threshold,
                &style,
            )?;
            let stem = format!("{index:02}-{}-{encoder}", slug(phrase));
            let rle = Rle::from_mask(&mask);
            let record = SegmentRecord {
                phrase: (*phrase).to_owned(),
                text_encoder: run.encoder.clone(),
                text_encoder_sha256: run.encoder_sha256.clone(),
                threshold: options.threshold,
                segmentation: CocoRle {
                    size: [height, width],
                    counts: rle.to_compressed(),
                },
                area: rle.area(),
                bbox: rle.bounding_box(),
                max_probability: probabilities.iter().copied().fold(0., f32::max),
                overlay: folder.join(format!("{stem}-overlay.png")),
                mask: folder.join(format!("{stem}-mask.png")),
            };
            write_png(&record.overlay, &overlay, &[("phrase", phrase)])?;
            write_png_luma(&record.mask, &mask.to_luma(), &[("phrase", phrase)])?;
            panels.push(Panel {
                image: overlay,
                caption: format!("{}: at most {:.2}", run.encoder, record.max_probability),
            });
            records.push(record);
        }
        sheet = sheet.row_with_heading((*phrase).to_owned(), panels);
    }
    let saved = Saved {
        segmentations: records,
        sheet: folder.join("sheet.png"),
        json: folder.join("segmentations.json"),
    };
    write_png(&saved.sheet, &sheet.render()?, &[])?;
    write_atomic(
        &saved.json,
        &serde_json::to_vec_pretty(&saved.segmentations)?,
    )?;
    Ok(saved)
}
