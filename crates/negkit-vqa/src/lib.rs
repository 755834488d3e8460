//! Questions about a picture, answered.
//!
//! [`QuestionAnswerer`] is what matters: a picture and questions in, one [`Answer`] a question out.
//! The scores that need visual question answering (Neg Score, TIFA) know nothing else of the model,
//! so that a small model, a large one, a server or a recording can answer. Every answerer is a
//! module of its own; [`mini`] is the small one: [`mini::MiniVqa`] looks at the picture once with a
//! convolutional network ([`mini::MiniVqaModel::encode_pictures`]), reads each question in the light
//! of the picture, and picks one of the answers that its `config.json` lists.
//!
//! [`QuestionAnswerer::inquire`] also says which picture it is and what there is to choose from;
//! [`replay`] answers from what was stored of an earlier run, and needs the picture's key for that.
//! An answer that cannot be read without guessing is a [`Refusal`], kept beside the others.
//!
//! [`detector`] answers what is in a picture *without* being asked in words. A score is only as
//! good as the model that answers, and a model cannot vouch for itself: the detector is trained apart,
//! from other first weights and without any text, and shares no weight with an answerer. Its network
//! has the form of the one that mini-vqa looks with, so that the two are not strangers: where they
//! agree, they may still err alike.
//!
//! ```no_run
//! use negkit_nn::Compute;
//! use negkit_vqa::{QuestionAnswerer, mini::MiniVqa};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let vqa = MiniVqa::load("weights/mini/vqa", &Compute::cpu())?;
//! let picture = negkit_image::open_rgb("room.png", &Default::default())?;
//! for answer in vqa.answer(&picture, &["is there a chair?", "what place is this?"])? {
//!     println!("{} ({:?})", answer.text, answer.confidence);
//! }
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod answerer;
pub mod detector;
mod error;
pub mod mini;
pub mod replay;

pub use answerer::{
    Answer, AnswererInfo, Inquiry, Question, QuestionAnswerer, Refusal, RefusalReason, YES_NO,
};
pub use error::VqaError;
