//! The files of a folder that `sentence-transformers` published.

use std::path::{Path, PathBuf};

use negkit_nn::{ConfigError, read_config};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::SbertError;

const MODEL: &str = "SentenceTransformer";

/// What is done to a text, as the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Folder of the transformer and its tokenizer.
    pub transformer: PathBuf,
    /// Most tokens of a text, where `sentence_bert_config.json` says so.
    pub max_seq_length: Option<usize>,
    /// Whether texts are put into lower case before the tokenizer.
    pub lower_case: bool,
    /// Whether embeddings are scaled to length one.
    pub normalize: bool,
}

/// A row of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

impl Module {
    /// `sentence_transformers.models.Pooling` and, since version 6,
    /// `sentence_transformers.sentence_transformer.modules.pooling.Pooling`.
    fn class(&self) -> &str {
        self.r#type.rsplit('.').next().unwrap_or(&self.r#type)
    }
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TransformerStep {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

impl Layout {
    /// Reads the folder. One without `modules.json` is a transformer alone, whose tokens are
    /// averaged, as `sentence-transformers` takes it.
    pub(crate) fn read(folder: &Path) -> Result<Self, SbertError> {
        let path = folder.join("modules.json");
        if !path.is_file() {
            return Self::with_transformer(folder.to_owned(), false);
        }
        let modules: Vec<Module> = read_config(&path)?;
        let classes: Vec<&str> = modules.iter().map(Module::class).collect();
        let normalize = match classes.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let found = modules.into_iter().map(|module| module.r#type).collect();
                return Err(SbertError::Steps { path, found });
            }
        };
        check_pooling(&folder.join(&modules[1].path).join("config.json"))?;
        Self::with_transformer(folder.join(&modules[0].path), normalize)
    }

    fn with_transformer(transformer: PathBuf, normalize: bool) -> Result<Self, SbertError> {
        let path = transformer.join("sentence_bert_config.json");
        let step: TransformerStep = if path.is_file() {
            read_config(&path)?
        } else {
            TransformerStep::default()
        };
        Ok(Self {
            transformer,
            max_seq_length: step.max_seq_length,
            lower_case: step.do_lower_case,
            normalize,
        })
    }
}

/// Refuses any pooling but the mean over tokens: in both the forms that version 6 and earlier ones
/// write.
fn check_pooling(path: &Path) -> Result<(), SbertError> {
    const OTHERS: [&str; 5] = [
        "pooling_mode_cls_token",
        "pooling_mode_max_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens",
        "pooling_mode_lasttoken",
    ];
    let config: Map<String, Value> = read_config(path)?;
    let mean = [Value::from("mean"), Value::from(vec!["mean"])];
    let (yes, no) = ([Value::from(true)], [Value::from(false)]);
    let mut supported: Vec<(&str, &[Value])> =
        vec![("pooling_mode", &mean), ("include_prompt", &yes)];
    // Where the new field stands, the old ones are ignored.
    if !config.contains_key("pooling_mode") {
        supported.push(("pooling_mode_mean_tokens", &yes));
        supported.extend(OTHERS.map(|field| (field, no.as_slice())));
    }
    Ok(ConfigError::check_fields(MODEL, &config, &supported)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const MODULES: &str = r#"[
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    ]"#;

    #[test]
    fn the_published_layout_is_read() {
        let folder = folder(&[
            ("modules.json", MODULES),
            (
                "1_Pooling/config.json",
                r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": false,
                    "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false}"#,
            ),
            (
                "sentence_bert_config.json",
                r#"{"max_seq_length": 256, "do_lower_case": false}"#,
            ),
        ]);
        let layout = Layout::read(folder.path()).unwrap();
        assert_eq!(
            layout,
            Layout {
                transformer: folder.path().join(""),
                max_seq_length: Some(256),
                lower_case: false,
                normalize: true,
            }
        );
    }

    #[test]
    fn a_transformer_alone_is_averaged_and_not_normalised() {
        let layout = Layout::read(folder(&[]).path()).unwrap();
        assert!(!layout.normalize && layout.max_seq_length.is_none());
    }

    #[test]
    fn another_pooling_is_refused_by_its_field() {
        for (config, field) in [
            (r#"{"pooling_mode": "cls"}"#, "pooling_mode"),
            (
                r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#,
                "pooling_mode_mean_tokens",
            ),
            (
                r#"{"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true}"#,
                "pooling_mode_max_tokens",
            ),
        ] {
            let folder = folder(&[("modules.json", MODULES), ("1_Pooling/config.json", config)]);
            let error = Layout::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("'{field}'")), "{error}");
        }
    }

    #[test]
    fn unknown_steps_are_refused_by_name() {
        let dense = MODULES.replace("models.Normalize", "models.Dense");
        let folder = folder(&[("modules.json", &dense)]);
        let error = Layout::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("models.Dense"), "{error}");
    }
}
