//! Every raw answer, kept.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use negkit_vqa::Refusal;
use serde::Serialize;

use crate::ChatError;

/// What was asked, what the model said, and what was made of it. A line of these can be read by
/// [`ReplayAnswerer`](negkit_vqa::replay::ReplayAnswerer) where the picture has a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RawAnswer {
    /// The picture's key, where it has one.
    pub picture: Option<String>,
    /// The question.
    pub question: String,
    /// The answers to choose from, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What is scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// All that the model said.
    pub raw: String,
    /// Why the model stopped, such as `stop` or `length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// The model that was asked.
    pub model: String,
    /// All that it was asked in words.
    pub prompt: String,
}

/// Takes raw answers, from several threads at a time.
pub trait Recorder: Send + Sync {
    /// Keeps one, before it is used.
    ///
    /// # Errors
    /// When it cannot be kept; then the question counts as failed.
    fn record(&self, answer: &RawAnswer) -> Result<(), ChatError>;
}

impl<F: Fn(&RawAnswer) -> Result<(), ChatError> + Send + Sync> Recorder for F {
    fn record(&self, answer: &RawAnswer) -> Result<(), ChatError> {
        self(answer)
    }
}

/// A file to which raw answers are appended, one JSON object a line.
pub struct JsonLines {
    path: PathBuf,
    file: Mutex<File>,
}

impl JsonLines {
    /// Opens or makes the file. An unfinished last line, left by a process that was killed, is cut
    /// off: its answer was never used.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append(path: impl AsRef<Path>) -> Result<Self, ChatError> {
        let path = path.as_ref().to_owned();
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)?;
            let whole = length_of_whole_lines(&mut file)?;
            if whole < file.metadata()?.len() {
                tracing::warn!(path = %path.display(), "an unfinished line is cut off");
                file.set_len(whole)?;
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Self {
                file: Mutex::new(file),
                path,
            }),
            Err(cause) => Err(ChatError::Record { path, cause }),
        }
    }
}

/// Bytes up to and with the last line break.
pub(crate) fn length_of_whole_lines(file: &mut File) -> std::io::Result<u64> {
    const BLOCK: u64 = 1 << 12;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl Recorder for JsonLines {
    fn record(&self, answer: &RawAnswer) -> Result<(), ChatError> {
        let failed = |cause| ChatError::Record {
            path: self.path.clone(),
            cause,
        };
        let mut line = serde_json::to_vec(answer).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(failed)
    }
}
