//! Models behind an OpenAI-compatible chat endpoint, as vLLM, llama.cpp and Ollama offer it.
//!
//! [`ChatClient`] is what matters: messages in, a [`Completion`] out, with a bound on requests at a
//! time, repetitions and a time limit. [`ChatAnswerer`] asks such a model about pictures, as a
//! [`QuestionAnswerer`](negkit_vqa::QuestionAnswerer): every question is a request of its own, for an
//! answer must not depend on what else was asked.
//!
//! A chat model says what it likes. Whatever it says is kept ([`RawAnswer`]), and what is not plainly
//! an answer is a [`Refusal`](negkit_vqa::Refusal) and never guessed at ([`parse`]): a score made of
//! guesses would measure the guessing.
//!
//! ```no_run
//! use negkit_chat::{ChatAnswerer, ChatClient, ChatConfig, JsonLines, Message};
//! use negkit_vqa::{Inquiry, Question, QuestionAnswerer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ChatConfig::new("http://127.0.0.1:8000/v1", "llava-1.6-mistral-7b")?;
//! let client = ChatClient::new(config)?;
//! let words = client.complete(&[Message::user("Name an animal.")])?;
//! println!("{}", words.text);
//!
//! let answerer = ChatAnswerer::new(client).record(JsonLines::append("answers.jsonl")?);
//! let picture = image::open("room.png")?.to_rgb8();
//! let answers = answerer.inquire(&Inquiry {
//!     picture: &picture,
//!     key: Some("room.png"),
//!     questions: &[Question::yes_no("is there a chair?")],
//! })?;
//! println!("{}", answers[0].text);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod answerer;
mod cache;
mod client;
mod config;
mod error;
mod gate;
mod message;
pub mod parse;
mod record;

pub use answerer::{ChatAnswerer, Templates};
pub use cache::AnswerCache;
pub use client::{ChatClient, Completion, Spent, Usage};
pub use config::{API_KEY_VARIABLE, ApiKey, ChatConfig, Sampling};
pub use error::ChatError;
pub use message::{Message, PictureFormat, Role};
pub use negkit_http::RetryPolicy;
pub use record::{JsonLines, RawAnswer, Recorder};
