//! Sizes of models, from the files that they are published with.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Why sizes cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SizesError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no such configuration.
    #[error("{}: expected the config.json of {what}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What it should be of.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A language model with gated feed-forward blocks and grouped keys and values: `LlamaConfig` and
/// `MistralConfig` of transformers, field for field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LanguageModel {
    /// Width of the hidden states.
    pub hidden_size: u64,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads of the queries.
    pub num_attention_heads: u64,
    /// Heads of keys and values.
    pub num_key_value_heads: u64,
    /// Entries of the vocabulary.
    pub vocab_size: u64,
    /// Whether the last matrix is the embeddings'.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

impl LanguageModel {
    /// Width of keys, and of values.
    fn key_width(&self) -> u64 {
        self.num_key_value_heads * self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let (h, kv) = (self.hidden_size, self.key_width());
        let attention = 2 * h * h + 2 * h * kv;
        let feed_forward = 3 * h * self.intermediate_size;
        let layer = attention + feed_forward + 2 * h;
        let embeddings = h * self.vocab_size * if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * layer + h + embeddings
    }

    /// Bytes of keys and values of one token, in 16 bits.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        2 * 2 * self.num_hidden_layers * self.key_width()
    }
}

/// A CLIP vision tower: `CLIPVisionConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VisionTower {
    /// Width of the hidden states.
    pub hidden_size: u64,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Side of the pictures, in pixels.
    pub image_size: u64,
    /// Side of a patch, in pixels.
    pub patch_size: u64,
}

/// Parameters of a pre-norm layer with biases, as both of CLIP's towers have them.
fn clip_layer(hidden: u64, intermediate: u64) -> u64 {
    let attention = 4 * (hidden * hidden + hidden);
    let feed_forward = 2 * hidden * intermediate + hidden + intermediate;
    attention + feed_forward + 4 * hidden
}

impl VisionTower {
    /// Patches of a picture.
    #[must_use]
    pub fn patches(&self) -> u64 {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Parameters, the projection excepted.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let h = self.hidden_size;
        let embeddings = h * 3 * self.patch_size.pow(2) + h + h * (self.patches() + 1);
        let layers = self.num_hidden_layers * clip_layer(h, self.intermediate_size);
        embeddings + layers + 4 * h
    }
}

/// A CLIP text tower: `CLIPTextConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TextTower {
    /// Width of the hidden states.
    pub hidden_size: u64,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Heads.
    pub num_attention_heads: u64,
    /// Positions: the context length.
    pub max_position_embeddings: u64,
    /// Entries of the vocabulary.
    pub vocab_size: u64,
}

impl TextTower {
    /// Parameters of the layers.
    #[must_use]
    pub fn layer_parameters(&self) -> u64 {
        self.num_hidden_layers * clip_layer(self.hidden_size, self.intermediate_size)
    }

    /// Parameters, the projection excepted.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let embeddings = self.hidden_size * (self.vocab_size + self.max_position_embeddings);
        embeddings + self.layer_parameters() + 2 * self.hidden_size
    }
}

/// A CLIP: `CLIPConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClipSizes {
    /// Width of the common space.
    pub projection_dim: u64,
    /// The text tower.
    pub text_config: TextTower,
    /// The vision tower.
    pub vision_config: VisionTower,
}

impl ClipSizes {
    /// All parameters, the temperature among them.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let projections =
            (self.text_config.hidden_size + self.vision_config.hidden_size) * self.projection_dim;
        self.text_config.parameters() + self.vision_config.parameters() + projections + 1
    }

    /// Those that the paper's recipe trains: everything of the text side but `ln_final`, and the
    /// temperature.
    #[must_use]
    pub fn trained(&self) -> u64 {
        let text = &self.text_config;
        text.parameters() - 2 * text.hidden_size + text.hidden_size * self.projection_dim + 1
    }
}

/// A LLaVA-NeXT: `LlavaNextConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VisionLanguageModel {
    /// Its language model.
    pub text_config: LanguageModel,
    /// Its vision tower.
    pub vision_config: VisionTower,
    /// Sizes that a picture may be brought to, in tiles of the tower's size: height and width.
    pub image_grid_pinpoints: Vec<[u64; 2]>,
}

impl VisionLanguageModel {
    /// Parameters: the tower, two layers that bring its patches into the language model, and the mark
    /// at the end of a row of patches.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let (from, to) = (self.vision_config.hidden_size, self.text_config.hidden_size);
        let projector = from * to + to + to * to + to;
        self.text_config.parameters() + self.vision_config.parameters() + projector + to
    }

    /// Tokens of a picture, and how often the vision tower runs for it.
    ///
    /// The picture is seen whole, and once more in tiles: it is brought into that size of the grid
    /// that keeps most of it and wastes least (`select_best_resolution` of transformers); of the
    /// patches those are kept that it covers, with a mark after each row.
    #[must_use]
    pub fn picture_tokens(&self, width: u64, height: u64) -> (u64, u64) {
        let tower = &self.vision_config;
        let fit = |&[grid_height, grid_width]: &[u64; 2]| {
            let scale = (grid_width as f64 / width as f64).min(grid_height as f64 / height as f64);
            let fitted = (width as f64 * scale) as u64 * (height as f64 * scale) as u64;
            let kept = fitted.min(width * height);
            (kept, u64::MAX - (grid_width * grid_height - kept))
        };
        let whole = tower.patches();
        // Of equal ones the first is taken.
        let mut best: Option<([u64; 2], (u64, u64))> = None;
        for grid in &self.image_grid_pinpoints {
            if best.is_none_or(|(_, other)| fit(grid) > other) {
                best = Some((*grid, fit(grid)));
            }
        }
        let Some(([grid_height, grid_width], _)) = best else {
            return (whole, 1);
        };
        let (rows, columns) = (
            grid_height / tower.patch_size.max(1),
            grid_width / tower.patch_size.max(1),
        );
        // Half of what is too much is cut off at either side, rounded down.
        let cut = |have: u64, wanted: f64| have - 2 * (have.saturating_sub(wanted as u64) / 2);
        let (w, h) = (width as f64, height as f64);
        let (rows, columns) = if w / h > columns as f64 / rows as f64 {
            (cut(rows, h * columns as f64 / w), columns)
        } else {
            (rows, cut(columns, w * rows as f64 / h))
        };
        let tiles = (grid_height / tower.image_size) * (grid_width / tower.image_size);
        (whole + rows * (columns + 1), 1 + tiles)
    }
}

/// The models that take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// Who writes.
    pub writer: LanguageModel,
    /// Who looks.
    pub verifier: VisionLanguageModel,
    /// What is fine-tuned.
    pub clip: ClipSizes,
}

const WRITER: &str = include_str!("../configs/llama-3-8b-instruct.json");
const VERIFIER: &str = include_str!("../configs/llava-v1.6-mistral-7b.json");
/// The CLIPs that are known by name, with their configurations.
const CLIPS: [(&str, &str); 3] = [
    (
        "ViT-B/32",
        include_str!("../configs/clip-vit-base-patch32.json"),
    ),
    (
        "ViT-B/16",
        include_str!("../configs/clip-vit-base-patch16.json"),
    ),
    (
        "ViT-L/14",
        include_str!("../configs/clip-vit-large-patch14.json"),
    ),
];

impl Models {
    /// The paper's writer and verifier, with the CLIP of a name such as `ViT-B/32` or a
    /// `config.json`.
    ///
    /// # Errors
    /// When the name is not known and no such file can be read.
    pub fn of_paper(clip: &str) -> Result<Self, SizesError> {
        let known = CLIPS.iter().find(|(name, _)| *name == clip);
        Ok(Self {
            writer: parse(
                Path::new("llama-3-8b-instruct.json"),
                WRITER,
                "a language model",
            )?,
            verifier: parse(
                Path::new("llava-v1.6-mistral-7b.json"),
                VERIFIER,
                "a LLaVA-NeXT",
            )?,
            clip: match known {
                Some((name, text)) => parse(Path::new(name), text, "a CLIP")?,
                None => read(Path::new(clip), "a CLIP (or ViT-B/32, ViT-B/16, ViT-L/14)")?,
            },
        })
    }

    /// The same with another writer, from its `config.json`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn with_writer(mut self, config: &Path) -> Result<Self, SizesError> {
        self.writer = read(config, "a language model like Llama's or Mistral's")?;
        Ok(self)
    }

    /// The same with another verifier, from its `config.json`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn with_verifier(mut self, config: &Path) -> Result<Self, SizesError> {
        self.verifier = read(config, "a LLaVA-NeXT")?;
        Ok(self)
    }
}

fn read<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, SizesError> {
    let text = std::fs::read_to_string(path).map_err(|source| SizesError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text, what)
}

fn parse<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    what: &'static str,
) -> Result<T, SizesError> {
    serde_json::from_str(text).map_err(|error| SizesError::Config {
        path: path.to_owned(),
        what,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The counts of the published weights: those of Llama and LLaVA as the hub shows them, those of
    /// the CLIPs as open_clip lists them.
    #[test]
    fn parameters_are_those_of_the_published_models() {
        let models = Models::of_paper("ViT-B/32").unwrap();
        assert_eq!(models.writer.parameters(), 8_030_261_248);
        assert_eq!(models.verifier.parameters(), 7_566_747_648);
        assert_eq!(models.clip.parameters(), 151_277_313);
        // The towers of the two others.
        let of = |name| Models::of_paper(name).unwrap().clip.parameters();
        assert_eq!(of("ViT-B/16"), 149_620_737);
        assert_eq!(of("ViT-L/14"), 427_616_513);
    }

    /// By hand: 640 x 480 fits 672 x 672 as 672 x 504, which are 48 x 36 patches; a mark a row, and
    /// the 24 x 24 patches of the picture seen whole.
    #[test]
    fn a_picture_has_the_tokens_that_it_covers() {
        let verifier = Models::of_paper("ViT-B/32").unwrap().verifier;
        assert_eq!(verifier.picture_tokens(640, 480), (576 + 36 * 49, 5));
        assert_eq!(verifier.picture_tokens(480, 640), (576 + 48 * 37, 5));
    }

    #[test]
    fn what_is_no_configuration_is_named() {
        let error = Models::of_paper("none.json").unwrap_err().to_string();
        assert!(error.contains("cannot read none.json"), "{error}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/clip-vit-base-patch32.json");
        let models = Models::of_paper("ViT-B/32").unwrap();
        let error = models.with_writer(&path).unwrap_err().to_string();
        assert!(
            error.contains("expected the config.json of a language model"),
            "{error}"
        );
    }
}
