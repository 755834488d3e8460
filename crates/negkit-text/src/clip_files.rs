//! The published files of a CLIP, whichever layout and naming they have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use negkit_checkpoint::naming::{Naming, clip, compvis};
use negkit_checkpoint::{Checkpoint, OpenOptions};
use negkit_nn::{Activation, ConfigError, Ignored, read_config};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::TextError;
use crate::tokenizer::ClipTokenizer;
use crate::tower::ClipTextConfig;

const TOKEN_EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";
const TEXT_PROJECTION: &str = "text_projection.weight";
/// Width of a head in every published CLIP; OpenAI's `build_model` relies on it.
const HEAD_WIDTH: usize = 64;
/// Only the text tower of Stable Diffusion 2 (open_clip ViT-H) is so wide, and it uses exact GELU.
const OPEN_CLIP_H_WIDTH: usize = 1024;

/// The published files of a CLIP, opened: tensors under the names of transformers, and what is
/// known of its sizes.
///
/// Taken are: a folder of transformers (`CLIPModel`, `CLIPTextModel`,
/// `CLIPTextModelWithProjection`, `CLIPSegForImageSegmentation`), a pipeline folder of diffusers, a
/// folder of open_clip, a state dict or TorchScript archive in OpenAI's naming (NegationCLIP,
/// CoN-CLIP), and a single-file Stable Diffusion checkpoint.
#[derive(Debug, Clone)]
pub struct ClipFiles {
    path: PathBuf,
    tensors: Arc<Checkpoint>,
    naming: Naming,
    /// `config.json` of transformers.
    config: Option<Map<String, Value>>,
    config_path: PathBuf,
    /// `model_cfg` of `open_clip_config.json`.
    open_clip: Option<Map<String, Value>>,
    tokenizer_folder: Option<PathBuf>,
    /// Where configurations of these weights lie; `None` for a file that says all by its tensors.
    config_folder: Option<PathBuf>,
}

impl ClipFiles {
    /// Tensors that are no part of the text tower.
    pub const NOT_TEXT: Ignored<'static> = Ignored {
        prefixes: &[
            "vision_model.",
            "visual_projection.",
            "logit_scale",
            "logit_bias",
            "decoder.",
        ],
        buffers: &["position_ids"],
    };

    /// Tensors that are no part of the vision tower.
    pub const NOT_VISION: Ignored<'static> = Ignored {
        prefixes: &[
            "text_model.",
            "text_projection.",
            "logit_scale",
            "logit_bias",
            "decoder.",
        ],
        buffers: &["position_ids"],
    };

    /// Opens a file or a folder.
    ///
    /// # Errors
    /// When the weights or a configuration cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TextError> {
        Self::open_variant(path, None)
    }

    /// Opens a file or a folder; in a folder the files of `variant` (such as `fp16`).
    ///
    /// # Errors
    /// When the weights or a configuration cannot be read.
    pub fn open_variant(path: impl AsRef<Path>, variant: Option<&str>) -> Result<Self, TextError> {
        let path = path.as_ref();
        let is_pipeline = path.join("model_index.json").is_file();
        let model = if is_pipeline {
            path.join("text_encoder")
        } else {
            path.to_owned()
        };
        let folder = if model.is_dir() {
            model.clone()
        } else {
            model.parent().map(Path::to_owned).unwrap_or_default()
        };
        let mut options = OpenOptions::new();
        if let Some(variant) = variant {
            options = options.variant(variant);
        }
        let checkpoint = options.open(&model)?;
        let naming = Naming::detect(&checkpoint);
        let tensors =
            match naming {
                Naming::CompVis => compvis::split(&checkpoint)?.text_encoder.ok_or_else(|| {
                    TextError::NoTextTower {
                        path: path.to_owned(),
                        naming: naming.to_string(),
                    }
                })?,
                _ => clip::to_transformers(&checkpoint)?,
            };
        // A state dict in another naming says all by its tensors; a config.json that happens to
        // lie beside it belongs to another file.
        let described = matches!(
            naming,
            Naming::TransformersClip | Naming::TransformersClipSeg
        );
        let config_path = folder.join("config.json");
        let config = (described && config_path.is_file())
            .then(|| read_config(&config_path))
            .transpose()?;
        let open_clip_path = folder.join("open_clip_config.json");
        let open_clip = (naming == Naming::OpenAiClip && open_clip_path.is_file())
            .then(|| read_config::<Map<String, Value>>(&open_clip_path))
            .transpose()?
            .and_then(|mut all| match all.remove("model_cfg") {
                Some(Value::Object(model)) => Some(model),
                _ => None,
            });
        let config_folder = (described || model.is_dir()).then(|| folder.clone());
        let tokenizer_folder = if is_pipeline {
            path.join("tokenizer")
        } else {
            folder
        };
        let has_tokenizer = tokenizer_folder.join("tokenizer.json").is_file()
            || tokenizer_folder.join("vocab.json").is_file();
        Ok(Self {
            path: path.to_owned(),
            tensors: Arc::new(tensors),
            naming,
            config,
            config_path,
            open_clip,
            tokenizer_folder: has_tokenizer.then_some(tokenizer_folder),
            config_folder,
        })
    }

    /// The same files, with the sizes of `config` (a `config.json` of transformers) and the tokenizer
    /// in `tokenizer_folder`, for weights that say too little of themselves. What is `None` stays.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn described_by(
        mut self,
        config: Option<&Path>,
        tokenizer_folder: Option<&Path>,
    ) -> Result<Self, TextError> {
        if let Some(config) = config {
            self.config = Some(read_config(config)?);
            self.config_path = config.to_owned();
        }
        if let Some(folder) = tokenizer_folder {
            self.tokenizer_folder = Some(folder.to_owned());
        }
        Ok(self)
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name` that was published with these weights, such as `preprocessor_config.json`,
    /// where there is one: in the opened folder, or beside an opened file in the naming of
    /// transformers.
    pub fn published(&self, name: &str) -> Option<PathBuf> {
        let path = self.config_folder.as_ref()?.join(name);
        path.is_file().then_some(path)
    }

    /// The folder of the tokenizer that was published with these weights, where there is one.
    pub fn tokenizer_folder(&self) -> Option<&Path> {
        self.tokenizer_folder.as_deref()
    }

    /// The tensors, under the names of transformers.
    pub fn tensors(&self) -> &Arc<Checkpoint> {
        &self.tensors
    }

    /// The naming scheme that the file was published in.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// `config.json` of transformers, where there is one.
    pub fn config(&self) -> Option<&Map<String, Value>> {
        self.config.as_ref()
    }

    /// Sizes of the text tower: from `config.json`, or inferred from the tensors' shapes.
    ///
    /// # Errors
    /// When there is no text tower, or the configuration cannot be used.
    pub fn text_config(&self) -> Result<ClipTextConfig, TextError> {
        if self.tensors.get(TOKEN_EMBEDDING).is_none() {
            return Err(TextError::NoTextTower {
                path: self.path.clone(),
                naming: self.naming.to_string(),
            });
        }
        match &self.config {
            Some(config) => self.tower_config(config, "text_config"),
            None => Ok(self.infer_text_config()),
        }
    }

    /// The part `key` (`text_config` or `vision_config`) of `config`, or all of it where the file
    /// describes one tower alone. The `projection_dim` of the whole model wins over the part's.
    ///
    /// # Errors
    /// When a field has the wrong type.
    pub fn tower_config<T: DeserializeOwned>(
        &self,
        config: &Map<String, Value>,
        key: &str,
    ) -> Result<T, TextError> {
        let mut part = match config.get(key) {
            Some(Value::Object(part)) => part.clone(),
            // CLIPModel without the part means its defaults.
            _ if config.contains_key("text_config") || config.contains_key("vision_config") => {
                Map::new()
            }
            _ => config.clone(),
        };
        // Old files repeat the part under `text_config_dict`, which transformers lets win.
        if let Some(Value::Object(wins)) = config.get(&format!("{key}_dict")) {
            part.extend(wins.clone());
        }
        if config.contains_key(key)
            && let Some(projection) = config.get("projection_dim")
        {
            part.insert("projection_dim".to_owned(), projection.clone());
        }
        part.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(part)).map_err(|cause| {
            TextError::Config(ConfigError::Malformed {
                path: self.config_path.clone(),
                cause,
            })
        })
    }

    /// Dimension `dim` of the tensor `name`, where there is such a tensor.
    pub fn dim(&self, name: &str, dim: usize) -> Option<usize> {
        self.tensors.get(name)?.shape().get(dim).copied()
    }

    /// Number of layers below `prefix`, such as `text_model.encoder.layers.`.
    pub fn count_layers(&self, prefix: &str) -> usize {
        let layers = self.tensors.iter().filter_map(|(name, _)| {
            let index = name.strip_prefix(prefix)?.split('.').next()?;
            index.parse::<usize>().ok()
        });
        layers.max().map_or(0, |last| last + 1)
    }

    /// Number of attention heads: as open_clip's configuration says below `part`, or of OpenAI's
    /// fixed width.
    pub fn heads(&self, part: &str, hidden_size: usize) -> usize {
        let part = self.open_clip.as_ref().and_then(|c| c.get(part));
        let number = |key: &str| part?.get(key)?.as_u64().map(|n| n as usize);
        let from_width = |width: usize| (hidden_size / width.max(1)).max(1);
        number("heads")
            .or_else(|| number("head_width").map(from_width))
            .unwrap_or_else(|| from_width(HEAD_WIDTH))
    }

    /// Activation of a file without `config.json`.
    pub fn activation(&self) -> Activation {
        match &self.open_clip {
            // open_clip's default; models trained by OpenAI say `quick_gelu`.
            Some(model) => match model.get("quick_gelu").and_then(Value::as_bool) {
                Some(true) => Activation::QuickGelu,
                _ => Activation::Gelu,
            },
            None if self.dim(TOKEN_EMBEDDING, 1) == Some(OPEN_CLIP_H_WIDTH) => Activation::Gelu,
            None => Activation::QuickGelu,
        }
    }

    fn infer_text_config(&self) -> ClipTextConfig {
        let defaults = ClipTextConfig::default();
        let size = |name: &str, dim: usize| self.dim(name, dim).unwrap_or_default();
        let hidden_size = size(TOKEN_EMBEDDING, 1);
        let vocab_size = size(TOKEN_EMBEDDING, 0);
        ClipTextConfig {
            vocab_size,
            hidden_size,
            intermediate_size: size("text_model.encoder.layers.0.mlp.fc1.weight", 0),
            projection_dim: self.dim(TEXT_PROJECTION, 0).unwrap_or(hidden_size),
            num_hidden_layers: self.count_layers("text_model.encoder.layers."),
            num_attention_heads: self.heads("text_cfg", hidden_size),
            max_position_embeddings: size("text_model.embeddings.position_embedding.weight", 0),
            hidden_act: self.activation(),
            // End-of-text is the last entry of every CLIP vocabulary.
            eos_token_id: vocab_size.saturating_sub(1) as u32,
            ..defaults
        }
    }

    /// The tokenizer that lies with the weights, or CLIP's own for its vocabulary.
    ///
    /// # Errors
    /// When the files cannot be read, or there are none and the vocabulary is another.
    pub fn tokenizer(&self, vocab_size: usize) -> Result<ClipTokenizer, TextError> {
        const CLIP_VOCABULARY: usize = 49408;
        match &self.tokenizer_folder {
            Some(folder) => Ok(ClipTokenizer::from_folder(folder)?),
            None if vocab_size == CLIP_VOCABULARY => Ok(ClipTokenizer::built_in()?),
            None => Err(TextError::NoTokenizer {
                path: self.path.clone(),
                vocab_size,
            }),
        }
    }
}
