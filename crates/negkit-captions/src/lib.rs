//! Captions that state what is *not* in the picture, made from captions that say what is.
//!
//! Two traits are what matters: a [`CaptionWriter`] (a language model, or rules) thinks of likely
//! objects and writes sentences, and an [`ObjectVerifier`] (a model that sees, a detector, or exact
//! truth) says whether an object is in a picture. The pipelines of "Know 'No' Better"
//! (arXiv 2501.10913) are functions over them:
//!
//! - [`p1`]: the writer names an object that the caption does not mention but that is likely in
//!   the picture; the verifier is asked whether it is there, and "yes" drops the caption; the
//!   writer works the absence into the caption.
//! - [`p2`]: a question about the picture whose answer is "no" is worked into a caption of it.
//! - [`rand_p1`]: as P1, but the object is any at random.
//!
//! What a writer answers is never trusted: a [`QualityGate`] checks that the new caption holds a
//! negation of that object, keeps what the old one said, denies nothing of it, and adds little else. Each caption becomes a
//! [`NegationCaption`] or a [`Rejected`] with its reason, and a caption is never lost without a
//! word. The pipelines are lazy iterators over single-caption functions, so that a caller who
//! talks to a slow service may run those on as many threads as it likes.
#![deny(missing_docs)]

mod gate;
mod pipeline;
mod record;
mod scope;
mod traits;
mod words;

pub use gate::{GateFault, NEGATION_WORDS, QualityGate, SourceFault, holds_negation};
pub use pipeline::{
    Outcome, RandomObjects, Reason, Rejected, p1, p1_caption, p2, p2_caption, rand_p1,
    rand_p1_caption,
};
pub use record::{
    Exchange, HardNegative, NegationCaption, Source, Transcript, UpdatedAnnotation, VqaPair,
    read_json_lines, updated_captions, write_json_lines,
};
pub use traits::{
    CaptionError, CaptionWriter, ImageRef, ObjectVerifier, Sighting, SourceCaption, Verdict,
};
pub use words::names_object;
