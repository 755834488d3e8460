//! BLIP: questions about a picture, answered in free words.
//!
//! "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language Understanding and
//! Generation" (Li et al., 2022); the reference is `BlipForQuestionAnswering` of transformers, whose
//! published folders (`Salesforce/blip-vqa-base`, `Salesforce/blip-vqa-capfilt-large`) are read as
//! they are. [`BlipVqa`] is what matters, a [`QuestionAnswerer`](negkit_vqa::QuestionAnswerer). A
//! picture goes through the [`VisionTower`] once; each question is read by a BERT that attends to
//! the picture, and a second BERT, attending to what the first one understood, writes the answer
//! word by word ([`BlipModel`]).
//!
//! An answer never depends on which questions are asked along with it. The reference's decoder, given
//! a batch of questions of different lengths, also attends to the states of the padding, so that the
//! same question can get another answer in a batch than alone. Here padding is hidden everywhere, and
//! a batch gives what the reference gives for its questions one at a time.
//!
//! ```no_run
//! use negkit_blip::BlipVqa;
//! use negkit_nn::Compute;
//! use negkit_vqa::QuestionAnswerer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let blip = BlipVqa::load("blip-vqa-base", &Compute::cpu())?;
//! let picture = negkit_image::open_rgb("room.png", &Default::default())?;
//! for answer in blip.answer(&picture, &["is there a chair?", "what color is the wall?"])? {
//!     println!("{}", answer.text);
//! }
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod answerer;
mod config;
mod error;
mod model;
mod vision;

pub use answerer::BlipVqa;
pub use config::{BlipConfig, BlipTextConfig, BlipVisionConfig};
pub use error::BlipError;
pub use model::{BlipModel, DecodedAnswer, Questions};
pub use vision::VisionTower;
