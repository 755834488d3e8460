//! Writing a trained CLIP in the layouts that CLIPs are published in.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use negkit_checkpoint::{naming, write_state_dict};
use negkit_clip::ClipVisionConfig;
use negkit_image::PicturePreprocessor;
use negkit_text::TextError;
use negkit_text::tokenizer::{ClipTokenizer, TokenizerInfo};
use negkit_text::tower::ClipTextConfig;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::store::save_tensors;
use crate::tasks::export::{TOKENIZER_FILES, TRANSFORMERS_WEIGHTS, copy_files};
use crate::tokenizer::write_json;
use crate::{ParamStore, TrainError, atomic};

/// What belongs to a text tower without its projection.
const TEXT_TOWER: &str = "text_model.";
/// Its projection into the space that it shares with pictures.
const TEXT_PROJECTION: &str = "text_projection.";
/// What else belongs to a CLIP.
const CLIP_PARTS: [&str; 4] = [
    "vision_model.",
    "visual_projection.",
    TEXT_PROJECTION,
    "logit_scale",
];

/// Writes a CLIP as transformers' `CLIPModel` is published: `config.json`, `model.safetensors` (f16),
/// `preprocessor_config.json` and the tokenizer's files. The weights come last: a folder that holds
/// them is whole.
///
/// # Errors
/// When `tokenizer` is no folder of a tokenizer that fits `text`, the store lacks a part, or a file
/// cannot be written.
pub fn export_clip(
    store: &ParamStore,
    text: &ClipTextConfig,
    vision: &ClipVisionConfig,
    tokenizer: &Path,
    folder: &Path,
) -> Result<(), TrainError> {
    export_clip_as(DType::F16, store, text, vision, tokenizer, folder)
}

/// As [`export_clip`], with weights of another type.
///
/// # Errors
/// As [`export_clip`], and when `dtype` is no float.
pub fn export_clip_as(
    dtype: DType,
    store: &ParamStore,
    text: &ClipTextConfig,
    vision: &ClipVisionConfig,
    tokenizer: &Path,
    folder: &Path,
) -> Result<(), TrainError> {
    let info = fitting_tokenizer(text, tokenizer)?;
    let tensors = whole_clip(store)?;
    let type_name = match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F64 => "float64",
        _ => "float32",
    };
    let config = json!({
        "architectures": ["CLIPModel"],
        "dtype": type_name,
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": text.projection_dim,
        "text_config": text_config(text, &info)?,
        "torch_dtype": type_name,
        "vision_config": with_defaults(vision, "clip_vision_model")?,
    });
    write_json(&folder.join("config.json"), &config)?;
    let preprocessor = preprocessor_config(vision.image_size);
    write_json(&folder.join("preprocessor_config.json"), &preprocessor)?;
    copy_files(tokenizer, folder, &TOKENIZER_FILES)?;
    save_tensors(&folder.join(TRANSFORMERS_WEIGHTS), &tensors, dtype)
}

/// Writes a CLIP under OpenAI's names, in f32: as a safetensors file, and as the archive that
/// `torch.save(model.state_dict())` writes, which is what NegationCLIP is published as.
///
/// # Errors
/// When the store lacks a part, or a file cannot be written.
pub fn export_openai(
    store: &ParamStore,
    safetensors: &Path,
    archive: &Path,
) -> Result<(), TrainError> {
    let tensors = naming::clip::to_openai(whole_clip(store)?)?;
    save_tensors(safetensors, &tensors, DType::F32)?;
    atomic::replace(archive, |unfinished| {
        let file = File::create(unfinished).map_err(TrainError::io(unfinished, "create"))?;
        let mut out = BufWriter::new(file);
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_state_dict(&mut out, named).map_err(TrainError::other)?;
        out.flush().map_err(TrainError::io(unfinished, "write"))
    })
}

/// All that belongs to a CLIP.
fn whole_clip(store: &ParamStore) -> Result<Vec<(String, Tensor)>, TrainError> {
    let parts = |name: &str| {
        name.starts_with(TEXT_TOWER) || CLIP_PARTS.iter().any(|part| name.starts_with(part))
    };
    let tensors = some_tensors(store, parts)?;
    for part in [TEXT_TOWER].into_iter().chain(CLIP_PARTS) {
        require(&tensors, part)?;
    }
    Ok(tensors)
}

/// Writes the text tower alone, without its projection, as the `text_encoder` folder of a diffusers
/// pipeline: transformers' `CLIPTextModel`, f16. Its tokenizer has a folder of its own there; it is
/// checked, and copied to `tokenizer_folder` where one is given.
///
/// # Errors
/// As [`export_clip`].
pub fn export_text_encoder(
    store: &ParamStore,
    text: &ClipTextConfig,
    tokenizer: &Path,
    folder: &Path,
    tokenizer_folder: Option<&Path>,
) -> Result<(), TrainError> {
    let folders = (folder, tokenizer_folder);
    write_text_model(store, text, tokenizer, folders, TextModel::Bare)
}

/// Writes the text tower with its projection and its tokenizer in one folder: transformers'
/// `CLIPTextModelWithProjection`, f16, which takes the place of the text encoder of Stable Diffusion,
/// of CLIPSeg and of CLIP.
///
/// # Errors
/// As [`export_clip`].
pub fn export_projected_text_encoder(
    store: &ParamStore,
    text: &ClipTextConfig,
    tokenizer: &Path,
    folder: &Path,
) -> Result<(), TrainError> {
    let folders = (folder, Some(folder));
    write_text_model(store, text, tokenizer, folders, TextModel::Projected)
}

/// Classes of transformers for a text tower alone.
#[derive(Clone, Copy)]
enum TextModel {
    Bare,
    Projected,
}

fn write_text_model(
    store: &ParamStore,
    text: &ClipTextConfig,
    tokenizer: &Path,
    (folder, tokenizer_folder): (&Path, Option<&Path>),
    model: TextModel,
) -> Result<(), TrainError> {
    let info = fitting_tokenizer(text, tokenizer)?;
    let (class, parts) = match model {
        TextModel::Bare => ("CLIPTextModel", &[TEXT_TOWER][..]),
        TextModel::Projected => (
            "CLIPTextModelWithProjection",
            &[TEXT_TOWER, TEXT_PROJECTION][..],
        ),
    };
    let wanted = |name: &str| parts.iter().any(|part| name.starts_with(part));
    let tensors = some_tensors(store, wanted)?;
    for part in parts {
        require(&tensors, part)?;
    }
    let mut config = text_config(text, &info)?;
    config.insert("architectures".to_owned(), json!([class]));
    config.insert("dtype".to_owned(), "float16".into());
    config.insert("torch_dtype".to_owned(), "float16".into());
    write_json(&folder.join("config.json"), &Value::Object(config))?;
    if let Some(to) = tokenizer_folder {
        copy_files(tokenizer, to, &TOKENIZER_FILES)?;
    }
    save_tensors(&folder.join(TRANSFORMERS_WEIGHTS), &tensors, DType::F16)
}

/// The tokenizer's description, when its ids are those that the tower was made for.
fn fitting_tokenizer(text: &ClipTextConfig, folder: &Path) -> Result<TokenizerInfo, TrainError> {
    let tokenizer = ClipTokenizer::from_folder(folder)?;
    let info = tokenizer.info();
    if info.vocab_size > text.vocab_size {
        return Err(TrainError::Text(TextError::VocabularyMismatch {
            origin: info.source.to_string(),
            tokenizer: info.vocab_size,
            embedding: text.vocab_size,
        }));
    }
    if info.eos.id != text.eos_token_id {
        return Err(TrainError::Task(format!(
            "has a text tower that was trained with the end-of-text token {}, but {} says {}",
            text.eos_token_id, info.source, info.eos.id
        )));
    }
    Ok(info.clone())
}

fn some_tensors(
    store: &ParamStore,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Tensor)>, TrainError> {
    let mut tensors = store.tensors()?;
    tensors.retain(|(name, _)| wanted(name));
    Ok(tensors)
}

fn require(tensors: &[(String, Tensor)], part: &str) -> Result<(), TrainError> {
    match tensors.iter().any(|(name, _)| name.starts_with(part)) {
        true => Ok(()),
        false => Err(TrainError::Task(format!(
            "has no parameters {part}* to write; build the whole model from the store first, or \
             start the store from a whole checkpoint"
        ))),
    }
}

fn text_config(
    text: &ClipTextConfig,
    tokenizer: &TokenizerInfo,
) -> Result<Map<String, Value>, TrainError> {
    let mut config = with_defaults(text, "clip_text_model")?;
    config.insert("bos_token_id".to_owned(), tokenizer.bos.id.into());
    config.insert("eos_token_id".to_owned(), tokenizer.eos.id.into());
    config.insert("pad_token_id".to_owned(), tokenizer.pad.id.into());
    Ok(config)
}

/// A tower's configuration with the fields that published files have besides.
fn with_defaults(config: &impl Serialize, model: &str) -> Result<Map<String, Value>, TrainError> {
    let value = serde_json::to_value(config).map_err(TrainError::other)?;
    let mut fields = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for (name, value) in [
        ("attention_dropout", json!(0.0)),
        ("initializer_factor", json!(1.0)),
        ("initializer_range", json!(0.02)),
        ("model_type", json!(model)),
    ] {
        fields.insert(name.to_owned(), value);
    }
    Ok(fields)
}

/// CLIP's preprocessing at another size.
fn preprocessor_config(side: usize) -> Value {
    // PIL's number for its bicubic filter.
    const BICUBIC: u32 = 3;
    let clip = PicturePreprocessor::clip(side as u32);
    let normalize = clip.normalize.as_ref();
    json!({
        "crop_size": { "height": side, "width": side },
        "do_center_crop": true,
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": normalize.map(|n| n.mean),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": normalize.map(|n| n.std),
        "resample": BICUBIC,
        "rescale_factor": clip.rescale_factor,
        "size": { "shortest_edge": side },
    })
}
