//! Reading the `config.json` that a model is published with.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// The file is not the JSON that was expected.
    #[error("{path} is no valid configuration: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What went wrong, with line, column and field.
        cause: serde_json::Error,
    },
    /// A field asks for something that is not supported.
    #[error(
        "{model}: config field '{field}' is {found}, supported is {supported}. This variant of the \
         model cannot be run"
    )]
    Unsupported {
        /// Class of the model.
        model: &'static str,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// The values that work.
        supported: String,
    },
}

impl ConfigError {
    /// A field with an unsupported value.
    pub fn unsupported(
        model: &'static str,
        field: &str,
        found: impl Display,
        supported: impl Display,
    ) -> Self {
        Self::Unsupported {
            model,
            field: field.to_owned(),
            found: found.to_string(),
            supported: supported.to_string(),
        }
    }

    /// Checks that every field of `supported` that is in `fields` has one of the values listed for
    /// it. A field that is absent has its default, which every model supports.
    ///
    /// # Errors
    /// On the first field with another value.
    pub fn check_fields(
        model: &'static str,
        fields: &Map<String, Value>,
        supported: &[(&str, &[Value])],
    ) -> Result<(), Self> {
        for (field, values) in supported {
            match fields.get(*field) {
                Some(found) if !values.contains(found) => {
                    let values: Vec<String> = values.iter().map(Value::to_string).collect();
                    return Err(Self::unsupported(model, field, found, values.join(" or ")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a JSON file.
///
/// # Errors
/// When the file cannot be read, or is not what `T` expects.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    serde_json::from_str(&text).map_err(|cause| ConfigError::Malformed {
        path: path.to_owned(),
        cause,
    })
}
