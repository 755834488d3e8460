//! A parity case on disk; the format is described in `eval/parity/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use negkit_checkpoint::Checkpoint;
use negkit_nn::{TensorSource, read_config};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ParityError;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseKind {
    /// A text tower, from token ids.
    ClipText,
    /// A vision tower, from pixel values.
    ClipVision,
    /// Both and their similarity.
    Clip,
    /// CLIPSeg, from pixel values and token ids, vectors or pictures.
    Clipseg,
    /// One evaluation of a UNet.
    Unet,
    /// Latents to pictures.
    VaeDecode,
    /// Pictures to latents.
    VaeEncode,
    /// The whole pipeline, from a prompt and a seed.
    Txt2img,
    /// Sentence embeddings, from texts.
    Sentence,
    /// Answers to questions about a picture, from the picture and the questions.
    BlipVqa,
}

/// How far an output may be from the reference. Exactly one bound is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tolerance {
    /// Norm of the difference over the norm of the reference.
    pub relative_l2: Option<f64>,
    /// Mean absolute difference.
    pub mean_absolute: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct CaseFile {
    name: String,
    kind: CaseKind,
    reference: String,
    model: PathBuf,
    #[serde(default)]
    options: Map<String, Value>,
    tolerance: Tolerance,
    outputs: BTreeMap<String, Tolerance>,
    io: Option<PathBuf>,
}

/// A case, opened.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is compared.
    pub kind: CaseKind,
    /// Library, version and class that computed the outputs.
    pub reference: String,
    /// The file or folder to load.
    pub model: PathBuf,
    /// Options by kind.
    pub options: Map<String, Value>,
    outputs: BTreeMap<String, Tolerance>,
    folder: PathBuf,
    io: Checkpoint,
}

impl Case {
    /// Opens the case in `folder`.
    ///
    /// # Errors
    /// When `case.json` or the tensors cannot be read.
    pub fn open(folder: &Path) -> Result<Self, ParityError> {
        let file: CaseFile = read_config(&folder.join("case.json"))?;
        let io = file.io.unwrap_or_else(|| "io.safetensors".into());
        let outputs = file.outputs.into_iter().map(|(name, own)| {
            let tolerance = if own == Tolerance::default() {
                file.tolerance
            } else {
                own
            };
            (name, tolerance)
        });
        Ok(Self {
            name: file.name,
            kind: file.kind,
            reference: file.reference,
            model: folder.join(file.model),
            options: file.options,
            outputs: outputs.collect(),
            io: Checkpoint::open(folder.join(io))?,
            folder: folder.to_owned(),
        })
    }

    /// The outputs to compare, with their tolerances.
    pub fn outputs(&self) -> &BTreeMap<String, Tolerance> {
        &self.outputs
    }

    /// The input `name`, as f32 on `device`.
    ///
    /// # Errors
    /// When the case has no such input.
    pub fn input(&self, name: &str, device: &Device) -> Result<Tensor, ParityError> {
        self.tensor(&format!("in.{name}"), DType::F32, device)
    }

    /// The input `name`, where the case has it, as f32 on `device`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn optional_input(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Option<Tensor>, ParityError> {
        let name = format!("in.{name}");
        match self.io.get(&name) {
            Some(_) => self.tensor(&name, DType::F32, device).map(Some),
            None => Ok(None),
        }
    }

    /// The integer input `name` `[rows, columns]`.
    ///
    /// # Errors
    /// When the case has no such input, or it is no matrix of small numbers.
    pub fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>, ParityError> {
        let ids = self.tensor(&format!("in.{name}"), DType::U32, &Device::Cpu)?;
        Ok(ids.to_vec2()?)
    }

    /// The reference's output `name`, as f32 on the CPU.
    ///
    /// # Errors
    /// When the case has no such output.
    pub fn expected(&self, name: &str) -> Result<Tensor, ParityError> {
        self.tensor(&format!("out.{name}"), DType::F32, &Device::Cpu)
    }

    /// The option `name`.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn option<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ParityError> {
        let value = self.options.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value).map_err(|cause| ParityError::Option {
            case: self.name.clone(),
            option: name.to_owned(),
            cause,
        })
    }

    /// The path that the option `name` gives, relative to the case.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn path_option(&self, name: &str) -> Result<Option<PathBuf>, ParityError> {
        let path: Option<PathBuf> = self.option(name)?;
        Ok(path.map(|path| self.folder.join(path)))
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, ParityError> {
        if self.io.get(name).is_none() {
            return Err(ParityError::NoTensor {
                case: self.name.clone(),
                name: name.to_owned(),
                found: self.io.names(),
            });
        }
        Ok(self.io.load(name, dtype, device)?)
    }
}

/// All folders at and below `folder` that hold a `case.json`, in order of their paths.
///
/// # Errors
/// When a folder cannot be read, or there is no case.
pub fn find_cases(folder: &Path) -> Result<Vec<PathBuf>, ParityError> {
    let mut cases = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        if folder.join("case.json").is_file() {
            cases.push(folder);
            continue;
        }
        let unreadable = |cause| ParityError::Folder {
            folder: folder.clone(),
            cause,
        };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_type().map_err(unreadable)?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    if cases.is_empty() {
        return Err(ParityError::NoCases {
            folder: folder.to_owned(),
        });
    }
    cases.sort();
    Ok(cases)
}
