//! What can go wrong with a chat model.

use std::path::PathBuf;

use thiserror::Error;

/// Why a chat model gave nothing that can be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A setting makes no sense.
    #[error("{setting}: {message}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What was expected and found.
        message: String,
    },
    /// The endpoint cannot be reached, or the connection broke.
    #[error("no answer from {url} after {attempts} attempt(s): {message}")]
    Connection {
        /// The address.
        url: String,
        /// What happened last.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The endpoint wants a key, or another one.
    #[error(
        "{url} refused the request ({status}): {message}; {}",
        if *with_key { "the key that was sent is not accepted" } else {
            "no key was sent: set NEGKIT_CHAT_API_KEY"
        }
    )]
    Unauthorized {
        /// The address.
        url: String,
        /// 401 or 403.
        status: u16,
        /// What the endpoint says.
        message: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The endpoint refused or failed.
    #[error("{url} answered with status {status} after {attempts} attempt(s): {message}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// What the endpoint says.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The answer is not a chat completion.
    #[error(
        "{url} answered with something that is no chat completion: {message}; expected an \
         OpenAI-compatible endpoint, whose address often ends in /v1"
    )]
    Protocol {
        /// The address.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// A picture cannot be sent.
    #[error("the picture cannot be encoded: {0}")]
    Picture(#[from] image::ImageError),
    /// Raw answers cannot be kept.
    #[error("cannot keep the raw answers in {path}: {cause}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A request of another thread failed in a way that nobody saw.
    #[error("a question was left without an answer")]
    Unanswered,
}

impl ChatError {
    /// The error after `tries` attempts.
    pub(crate) fn after(mut self, tries: u32) -> Self {
        if let Self::Connection { attempts, .. } | Self::Status { attempts, .. } = &mut self {
            *attempts = tries;
        }
        self
    }
}
