//! `mini-vqa`: a small model that picks its answer from a list.
//!
//! The layout of the network is BLIP's ("BLIP: Bootstrapping Language-Image Pre-training for Unified
//! Vision-Language Understanding and Generation", Li et al., 2022, figure 2): a vision transformer
//! encodes the picture, and every layer of the question encoder attends first to the question and
//! then to the picture. Where BLIP generates its answer, this model classifies the first token's
//! state over a closed list of answers, which is what questions about a small world need.
//!
//! A published folder holds `config.json` ([`MiniVqaConfig`]), `model.safetensors`, the tokenizer's
//! files and `preprocessor_config.json`.

mod answerer;
mod config;
mod model;

pub use answerer::{MiniVqa, tokenize_questions};
pub use config::{MiniVqaConfig, QuestionConfig};
pub use model::MiniVqaModel;
