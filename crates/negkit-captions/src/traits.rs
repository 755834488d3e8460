//! Who writes and who looks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A picture, as far as a pipeline knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// Its id in the dataset.
    pub id: u64,
    /// Where its file lies, for verifiers that look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl ImageRef {
    /// A picture known by its id alone.
    pub fn new(id: u64) -> Self {
        Self { id, file: None }
    }
}

/// A caption to start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCaption {
    /// Its annotation id.
    pub id: u64,
    /// The picture that it describes.
    pub image: ImageRef,
    /// Its words.
    pub text: String,
}

/// Why a writer or a verifier gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptionError {
    /// It could not be reached or failed; the same request may succeed later.
    #[error("{service} is not available: {reason}")]
    Unavailable {
        /// Who was asked.
        service: String,
        /// What went wrong.
        reason: String,
    },
    /// It answered with something that cannot be used.
    #[error("expected {expected}, and the answer is {answer:?}")]
    UnusableAnswer {
        /// What was asked for.
        expected: &'static str,
        /// The answer.
        answer: String,
    },
    /// There is nothing to write: the request has no answer in this form.
    #[error("cannot be written: {reason}")]
    NothingToWrite {
        /// Why.
        reason: String,
    },
    /// The verifier does not know that picture.
    #[error(
        "picture {id} is not known to the verifier; give it the dataset that the captions are of"
    )]
    UnknownImage {
        /// The picture's id.
        id: u64,
    },
    /// The picture's file is missing or broken.
    #[error("picture {id} cannot be looked at: {reason}")]
    Picture {
        /// The picture's id.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The verifier has no notion of that object.
    #[error("{object:?} is not an object that the verifier can look for")]
    UnknownObject {
        /// The object.
        object: String,
    },
}

impl CaptionError {
    /// Whether the same request may succeed when something outside has changed: a server runs again,
    /// a picture is where it belongs.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Picture { .. } | Self::UnknownImage { .. } => true,
            Self::UnusableAnswer { .. }
            | Self::NothingToWrite { .. }
            | Self::UnknownObject { .. } => false,
        }
    }
}

/// Thinks of objects and writes captions: the part of the language model.
///
/// It is given captions and never pictures, as in the paper. The same request may give another
/// answer the next time, unless an implementation promises otherwise.
pub trait CaptionWriter: Sync {
    /// One object, in the singular and without an article, that the caption does not mention but
    /// that would be likely in the picture: the first step of P1.
    ///
    /// # Errors
    /// When no usable answer could be had.
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError>;

    /// The caption with the absence of `object` worked into it: the third step of P1.
    ///
    /// # Errors
    /// When no usable answer could be had.
    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError>;

    /// The caption with a question about the picture and its answer "no" worked into it: P2.
    ///
    /// # Errors
    /// When no usable answer could be had, or the question does not lend itself to a caption.
    fn write_denial(&self, caption: &SourceCaption, question: &str)
    -> Result<String, CaptionError>;
}

/// Whether an object is in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is there.
    Yes,
    /// It is not there.
    No,
    /// The verifier cannot tell.
    Unsure,
}

/// A verdict, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whether the object is there.
    pub verdict: Verdict,
    /// What it rests on, or why the verifier cannot tell.
    pub note: Option<String>,
}

impl From<Verdict> for Sighting {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            note: None,
        }
    }
}

/// Looks whether an object is in a picture: the part of the model that sees.
pub trait ObjectVerifier: Sync {
    /// Whether `object` (singular, no article) is in the picture.
    ///
    /// # Errors
    /// When the picture cannot be had, or the verifier fails; what it merely cannot decide is
    /// [`Verdict::Unsure`].
    fn is_there(&self, image: &ImageRef, object: &str) -> Result<Verdict, CaptionError>;

    /// As [`is_there`](Self::is_there), with what the verdict rests on where the verifier can say
    /// so. The pipelines ask this.
    ///
    /// # Errors
    /// As [`is_there`](Self::is_there).
    fn look(&self, image: &ImageRef, object: &str) -> Result<Sighting, CaptionError> {
        self.is_there(image, object).map(Sighting::from)
    }
}

impl<W: CaptionWriter + ?Sized> CaptionWriter for &W {
    fn name_absent_object(&self, caption: &SourceCaption) -> Result<String, CaptionError> {
        (**self).name_absent_object(caption)
    }
    fn write_absence(&self, caption: &SourceCaption, object: &str) -> Result<String, CaptionError> {
        (**self).write_absence(caption, object)
    }
    fn write_denial(
        &self,
        caption: &SourceCaption,
        question: &str,
    ) -> Result<String, CaptionError> {
        (**self).write_denial(caption, question)
    }
}

impl<V: ObjectVerifier + ?Sized> ObjectVerifier for &V {
    fn is_there(&self, image: &ImageRef, object: &str) -> Result<Verdict, CaptionError> {
        (**self).is_there(image, object)
    }
    fn look(&self, image: &ImageRef, object: &str) -> Result<Sighting, CaptionError> {
        (**self).look(image, object)
    }
}
