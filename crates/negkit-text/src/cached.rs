//! Encodings kept on disk, so that a prompt is encoded once for all runs.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use negkit_digest::sha256;
use negkit_nn::Compute;
use safetensors::SafeTensors;
use tempfile::NamedTempFile;

use crate::TextError;
use crate::encoder::{EncoderInfo, PromptTokens, TextEncoder, TextEncoding};

/// A text encoder that looks for a prompt's encoding in a folder first.
///
/// An encoding is found under the SHA-256 of the encoder's weights, its tokenizer, the number type,
/// negkit's version and the prompt: another encoder never gives another's encodings. What was written
/// when a prompt was encoded for the first time is given to the bit ever after; encoded anew in another
/// batch it may differ in the last bits.
pub struct CachedTextEncoder {
    encoder: Arc<dyn TextEncoder>,
    folder: PathBuf,
    device: Device,
    /// Everything that decides an encoding but the prompt.
    identity: String,
}

/// One prompt's encoding.
struct Entry {
    /// `[context, hidden]`
    last_hidden_state: Tensor,
    /// `[hidden]`
    pooled: Tensor,
    /// `[projection]`
    projected: Option<Tensor>,
    tokens: PromptTokens,
}

const COUNT: &str = "count";
const TRUNCATED: &str = "truncated";
const REMOVED: &str = "removed";
const PROMPT: &str = "prompt";

impl CachedTextEncoder {
    /// `encoder` with encodings in `folder`, which need not exist yet. `compute` is what the encoder
    /// computes with. The weights are hashed, once.
    ///
    /// # Errors
    /// When the encoder's weights have no hash, so that its encodings cannot be told from another's, or
    /// cannot be read.
    pub fn new(
        encoder: Arc<dyn TextEncoder>,
        folder: impl Into<PathBuf>,
        compute: &Compute,
    ) -> Result<Self, TextError> {
        let info = encoder.info();
        let Some(sha256) = info.weights.sha256()? else {
            return Err(TextError::NoHash {
                encoder: info.name.clone(),
            });
        };
        let identity = format!(
            "{}\n{sha256}\n{}\n{}\n{:?}\n{:?}\n",
            env!("CARGO_PKG_VERSION"),
            info.tokenizer,
            info.context_length,
            compute.dtype,
            compute.products,
        );
        Ok(Self {
            identity,
            folder: folder.into(),
            device: compute.device.clone(),
            encoder,
        })
    }

    fn path(&self, prompt: &str) -> PathBuf {
        let name = sha256(format!("{}{prompt}", self.identity));
        self.folder.join(format!("{name}.safetensors"))
    }

    /// `None` when there is none, or a damaged one, which is then replaced.
    fn read(&self, prompt: &str) -> Result<Option<Entry>, TextError> {
        let path = self.path(prompt);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(TextError::Cache { path, cause }),
        };
        Ok(parse(&bytes, prompt, &self.device))
    }

    fn write(&self, prompt: &str, entry: &Entry) -> Result<(), TextError> {
        let path = self.path(prompt);
        let failed = |cause| TextError::Cache {
            path: path.clone(),
            cause,
        };
        let metadata = HashMap::from([
            (PROMPT.to_owned(), prompt.to_owned()),
            (COUNT.to_owned(), entry.tokens.count.to_string()),
            (TRUNCATED.to_owned(), entry.tokens.truncated.to_string()),
        ]);
        let removed = entry.tokens.removed_text.clone();
        let metadata = metadata
            .into_iter()
            .chain(removed.map(|text| (REMOVED.to_owned(), text)))
            .collect();
        let mut tensors = vec![
            ("last_hidden_state", entry.last_hidden_state.clone()),
            ("pooled", entry.pooled.clone()),
        ];
        tensors.extend(entry.projected.clone().map(|tensor| ("projected", tensor)));
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .map_err(|e| failed(std::io::Error::other(e)))?;
        fs::create_dir_all(&self.folder).map_err(failed)?;
        // Whole or not at all, whoever else writes the same.
        let mut file = NamedTempFile::new_in(&self.folder).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn parse(bytes: &[u8], prompt: &str, device: &Device) -> Option<Entry> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let metadata = metadata.metadata().clone()?;
    if metadata.get(PROMPT).map(String::as_str) != Some(prompt) {
        return None;
    }
    let mut tensors = candle_core::safetensors::load_buffer(bytes, device).ok()?;
    Some(Entry {
        last_hidden_state: tensors.remove("last_hidden_state")?,
        pooled: tensors.remove("pooled")?,
        projected: tensors.remove("projected"),
        tokens: PromptTokens {
            count: metadata.get(COUNT)?.parse().ok()?,
            truncated: metadata.get(TRUNCATED)?.parse().ok()?,
            removed_text: metadata.get(REMOVED).cloned(),
        },
    })
}

impl TextEncoder for CachedTextEncoder {
    fn encode(&self, prompts: &[&str]) -> Result<TextEncoding, TextError> {
        let mut entries: HashMap<&str, Entry> = HashMap::new();
        let mut missing: Vec<&str> = Vec::new();
        for &prompt in prompts {
            if entries.contains_key(prompt) || missing.contains(&prompt) {
                continue;
            }
            match self.read(prompt)? {
                Some(entry) => {
                    entries.insert(prompt, entry);
                }
                None => missing.push(prompt),
            }
        }
        if !missing.is_empty() {
            let made = self.encoder.encode(&missing)?;
            for ((i, &prompt), tokens) in missing.iter().enumerate().zip(made.tokens) {
                let entry = Entry {
                    last_hidden_state: made.last_hidden_state.get(i)?.contiguous()?,
                    pooled: made.pooled.get(i)?.contiguous()?,
                    projected: match &made.projected {
                        Some(all) => Some(all.get(i)?.contiguous()?),
                        None => None,
                    },
                    tokens,
                };
                self.write(prompt, &entry)?;
                entries.insert(prompt, entry);
            }
        }
        let found: Vec<&Entry> = prompts.iter().filter_map(|p| entries.get(p)).collect();
        let stacked = |of: fn(&Entry) -> &Tensor| {
            let rows: Vec<&Tensor> = found.iter().map(|entry| of(entry)).collect();
            Tensor::stack(&rows, 0)
        };
        let projected: Option<Vec<&Tensor>> =
            found.iter().map(|entry| entry.projected.as_ref()).collect();
        Ok(TextEncoding {
            last_hidden_state: stacked(|entry| &entry.last_hidden_state)?,
            pooled: stacked(|entry| &entry.pooled)?,
            projected: projected.map(|rows| Tensor::stack(&rows, 0)).transpose()?,
            tokens: found.iter().map(|entry| entry.tokens.clone()).collect(),
        })
    }

    fn info(&self) -> &EncoderInfo {
        self.encoder.info()
    }

    fn release(&self) {
        self.encoder.release();
    }
}
