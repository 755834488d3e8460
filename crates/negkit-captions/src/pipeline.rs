//! The pipelines, caption by caption and as lazy iterators.

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::gate::{GateFault, QualityGate, SourceFault};
use crate::record::{NegationCaption, Source, VqaPair};
use crate::traits::{CaptionError, CaptionWriter, ObjectVerifier, SourceCaption, Verdict};
use crate::words::names_object;

/// Why a caption was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The caption itself is no use.
    #[error(transparent)]
    Source(#[from] SourceFault),
    /// The object is in the picture.
    #[error("{object:?} is in the picture")]
    ObjectThere {
        /// The object.
        object: String,
    },
    /// The verifier could not tell; a caption that may be wrong is not kept.
    #[error(
        "the verifier cannot tell whether {object:?} is in the picture{}",
        why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    Unsure {
        /// The object.
        object: String,
        /// Why, where it said so.
        why: Option<String>,
    },
    /// The caption names the object already.
    #[error("the caption names {object:?} already")]
    ObjectNamed {
        /// The object.
        object: String,
    },
    /// The answer to the question is not "no".
    #[error("the answer is {answer:?}, not \"no\"")]
    AnswerNotNo {
        /// The answer.
        answer: String,
    },
    /// Caption and question are of different pictures.
    #[error("the caption is of picture {caption}, the question of picture {question}")]
    OtherPicture {
        /// The caption's picture.
        caption: u64,
        /// The question's picture.
        question: u64,
    },
    /// What was written does not pass the gate.
    #[error(transparent)]
    Gate(#[from] GateFault),
    /// Writer or verifier failed.
    #[error(transparent)]
    Failed(#[from] CaptionError),
}

impl Reason {
    /// A word for it, to count by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(SourceFault::Empty { .. }) => "source-empty",
            Self::Source(SourceFault::TooLong { .. }) => "source-too-long",
            Self::ObjectThere { .. } => "object-there",
            Self::Unsure { .. } => "unsure",
            Self::ObjectNamed { .. } => "object-named",
            Self::AnswerNotNo { .. } => "answer-not-no",
            Self::OtherPicture { .. } => "other-picture",
            Self::Gate(fault) => match fault {
                GateFault::Empty => "gate-empty",
                GateFault::TooLong { .. } => "gate-too-long",
                GateFault::NoNegation { .. } => "gate-no-negation",
                GateFault::ObjectMissing { .. } => "gate-object-missing",
                GateFault::ObjectNotDenied { .. } => "gate-object-not-denied",
                GateFault::QuestionNotDenied { .. } => "gate-question-not-denied",
                GateFault::ContentDenied { .. } => "gate-content-denied",
                GateFault::ContentLost { .. } => "gate-content-lost",
                GateFault::TooMuchAdded { .. } => "gate-too-much-added",
            },
            Self::Failed(error) => match error {
                CaptionError::Unavailable { .. } => "unavailable",
                CaptionError::UnusableAnswer { .. } => "unusable-answer",
                CaptionError::NothingToWrite { .. } => "nothing-to-write",
                CaptionError::UnknownImage { .. } => "unknown-image",
                CaptionError::Picture { .. } => "picture",
                CaptionError::UnknownObject { .. } => "unknown-object",
            },
        }
    }
}

/// A caption that was dropped, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("caption {} of picture {}: {reason}", caption.id, caption.image.id)]
pub struct Rejected {
    /// The caption that it was to be made from.
    pub caption: SourceCaption,
    /// The pipeline that dropped it.
    pub pipeline: Source,
    /// The object, if it came to that.
    pub object: Option<String>,
    /// What was written, if it came to that.
    pub written: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// What becomes of a caption.
pub type Outcome = Result<NegationCaption, Box<Rejected>>;

fn reject(caption: &SourceCaption, source: Source, reason: impl Into<Reason>) -> Box<Rejected> {
    Box::new(Rejected {
        caption: caption.clone(),
        pipeline: source,
        object: None,
        written: None,
        reason: reason.into(),
    })
}

/// P1 for one caption: a likely object is named, looked for, and if it is not there its absence is
/// written into the caption.
///
/// # Errors
/// [`Rejected`] when the object is there or may be, or no usable caption was written.
pub fn p1_caption(
    caption: &SourceCaption,
    writer: &dyn CaptionWriter,
    verifier: &dyn ObjectVerifier,
    gate: &QualityGate,
) -> Outcome {
    check_source(caption, Source::P1, gate)?;
    let object = writer
        .name_absent_object(caption)
        .map_err(|error| reject(caption, Source::P1, error))?;
    absence(caption, object, Source::P1, writer, verifier, gate)
}

/// Nobody is asked about a caption that can come to nothing.
fn check_source(
    caption: &SourceCaption,
    source: Source,
    gate: &QualityGate,
) -> Result<(), Box<Rejected>> {
    gate.check_source(&caption.text)
        .map_err(|fault| reject(caption, source, fault))
}

/// Objects that Rand-P1 draws from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RandomObjects {
    /// The objects, in the singular.
    pub vocabulary: Vec<String>,
    /// Decides with the caption's id which one is drawn.
    pub seed: u64,
}

impl RandomObjects {
    /// An object that the caption does not name; the same for the same caption id and seed.
    pub fn draw(&self, caption: &SourceCaption) -> Option<&str> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(caption.id);
        let open: Vec<&String> = self
            .vocabulary
            .iter()
            .filter(|object| !names_object(&caption.text, object))
            .collect();
        open.choose(&mut rng).map(|object| object.as_str())
    }
}

/// Rand-P1 for one caption: as [`p1_caption`], with an object drawn at random.
///
/// # Errors
/// As [`p1_caption`].
pub fn rand_p1_caption(
    caption: &SourceCaption,
    objects: &RandomObjects,
    writer: &dyn CaptionWriter,
    verifier: &dyn ObjectVerifier,
    gate: &QualityGate,
) -> Outcome {
    check_source(caption, Source::RandP1, gate)?;
    let Some(object) = objects.draw(caption) else {
        let error = CaptionError::NothingToWrite {
            reason: "the caption names every object of the vocabulary".to_owned(),
        };
        return Err(reject(caption, Source::RandP1, error));
    };
    let object = object.to_owned();
    absence(caption, object, Source::RandP1, writer, verifier, gate)
}

fn absence(
    caption: &SourceCaption,
    object: String,
    source: Source,
    writer: &dyn CaptionWriter,
    verifier: &dyn ObjectVerifier,
    gate: &QualityGate,
) -> Outcome {
    let named = object.clone();
    let rejected = |reason: Reason| {
        Box::new(Rejected {
            object: Some(named.clone()),
            ..*reject(caption, source, reason)
        })
    };
    if names_object(&caption.text, &object) {
        return Err(rejected(Reason::ObjectNamed { object }));
    }
    let sighting = verifier
        .look(&caption.image, &object)
        .map_err(|error| rejected(error.into()))?;
    match sighting.verdict {
        Verdict::No => {}
        Verdict::Yes => return Err(rejected(Reason::ObjectThere { object })),
        Verdict::Unsure => {
            let why = sighting.note;
            return Err(rejected(Reason::Unsure { object, why }));
        }
    }
    let written = writer
        .write_absence(caption, &object)
        .map_err(|error| rejected(error.into()))?;
    if let Err(fault) = gate.check(&caption.text, &written, Some(&object)) {
        return Err(Box::new(Rejected {
            written: Some(written),
            ..*rejected(fault.into())
        }));
    }
    Ok(NegationCaption {
        image_id: caption.image.id,
        caption_id: caption.id,
        caption: caption.text.clone(),
        updated_caption: written,
        object: Some(object),
        question: None,
        verdict: Some(Verdict::No),
        verdict_note: sighting.note,
        source,
    })
}

/// P2 for one caption and a question about the same picture whose answer is "no".
///
/// # Errors
/// [`Rejected`] when the answer is another, the pictures differ, or no usable caption was written.
pub fn p2_caption(
    caption: &SourceCaption,
    pair: &VqaPair,
    writer: &dyn CaptionWriter,
    gate: &QualityGate,
) -> Outcome {
    let rejected = |reason: Reason| reject(caption, Source::P2, reason);
    if pair.image.id != caption.image.id {
        return Err(rejected(Reason::OtherPicture {
            caption: caption.image.id,
            question: pair.image.id,
        }));
    }
    if !pair.answer.trim().eq_ignore_ascii_case("no") {
        return Err(rejected(Reason::AnswerNotNo {
            answer: pair.answer.clone(),
        }));
    }
    check_source(caption, Source::P2, gate)?;
    let written = writer
        .write_denial(caption, &pair.question)
        .map_err(|error| rejected(error.into()))?;
    if let Err(fault) = gate.check_answer(&caption.text, &written, &pair.question) {
        return Err(Box::new(Rejected {
            written: Some(written),
            ..*rejected(fault.into())
        }));
    }
    Ok(NegationCaption {
        image_id: caption.image.id,
        caption_id: caption.id,
        caption: caption.text.clone(),
        updated_caption: written,
        object: None,
        question: Some(pair.question.clone()),
        verdict: None,
        verdict_note: None,
        source: Source::P2,
    })
}

/// P1 over captions, as they are asked for.
pub fn p1<'a>(
    captions: impl IntoIterator<Item = SourceCaption> + 'a,
    writer: &'a dyn CaptionWriter,
    verifier: &'a dyn ObjectVerifier,
    gate: &'a QualityGate,
) -> impl Iterator<Item = Outcome> + 'a {
    captions
        .into_iter()
        .map(move |caption| p1_caption(&caption, writer, verifier, gate))
}

/// Rand-P1 over captions, as they are asked for.
pub fn rand_p1<'a>(
    captions: impl IntoIterator<Item = SourceCaption> + 'a,
    objects: &'a RandomObjects,
    writer: &'a dyn CaptionWriter,
    verifier: &'a dyn ObjectVerifier,
    gate: &'a QualityGate,
) -> impl Iterator<Item = Outcome> + 'a {
    captions
        .into_iter()
        .map(move |caption| rand_p1_caption(&caption, objects, writer, verifier, gate))
}

/// P2 over captions, each with a question about its picture, as they are asked for.
pub fn p2<'a>(
    pairs: impl IntoIterator<Item = (SourceCaption, VqaPair)> + 'a,
    writer: &'a dyn CaptionWriter,
    gate: &'a QualityGate,
) -> impl Iterator<Item = Outcome> + 'a {
    pairs
        .into_iter()
        .map(move |(caption, pair)| p2_caption(&caption, &pair, writer, gate))
}
