//! What is kept of a caption.

use negkit_captions::{Exchange, NegationCaption, Rejected, Source};
use serde::{Deserialize, Serialize};

/// What became of a caption, and all that was said on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptionRecord {
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Requests and raw answers, in their order. Rules and exact truth have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchange>,
}

/// What became of a caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A negation was worked into it.
    Kept(NegationCaption),
    /// It was dropped.
    Rejected(RejectedCaption),
}

/// A caption that was dropped, in the form of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectedCaption {
    /// The picture's id.
    pub image_id: u64,
    /// The caption's annotation id.
    pub caption_id: u64,
    /// The caption.
    pub caption: String,
    /// The pipeline.
    pub source: Source,
    /// The object, if it came to that.
    pub object: Option<String>,
    /// The question (P2).
    pub question: Option<String>,
    /// What was written, if it came to that.
    pub written: Option<String>,
    /// A word for the reason, to count by.
    pub kind: String,
    /// The reason.
    pub reason: String,
}

impl RejectedCaption {
    pub(crate) fn new(rejected: &Rejected, question: Option<&str>) -> Self {
        Self {
            image_id: rejected.caption.image.id,
            caption_id: rejected.caption.id,
            caption: rejected.caption.text.clone(),
            source: rejected.pipeline,
            object: rejected.object.clone(),
            question: question.map(str::to_owned),
            written: rejected.written.clone(),
            kind: rejected.reason.kind().to_owned(),
            reason: rejected.reason.to_string(),
        }
    }
}
