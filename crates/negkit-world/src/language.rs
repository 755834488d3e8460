//! What can be said and asked about a scene: captions, phrases, questions, prompts.
//!
//! Everything here is read off the [`Scene`](crate::scene::Scene), never off its picture, and drawn by a
//! [`ChaCha8Rng`](rand_chacha::ChaCha8Rng), so that the same seed gives the same words. What is
//! said is true of the scene, with one exception that is marked as such: the rare negation in an
//! ordinary [`caption`], which, as in the captions that CLIP was trained on, mostly denies what
//! the picture shows.
//!
//! The one type that matters is [`Description`]: a noun with properties, some of them negated. It
//! is both a text and a test of a thing, and captions, phrases and questions are made of it.

mod captions;
mod checks;
mod description;
mod expressions;
mod foils;
mod grammar;
mod prompts;
mod questions;

pub use captions::{
    Caption, CaptionStyle, MISALIGNED_SHARE, NEGATION_SHARE, Negated, Negation, caption,
    caption_with, full_caption,
};
pub use checks::prompt_questions;
pub use description::{Attribute, Description, Determiner, NegationWord, Noun, Property};
pub use expressions::{Phrase, phrases, referring_expressions, referring_scene};
pub use foils::{multiple_choice, negation_foil, ordinary_foil};
pub use grammar::{indefinite, indefinite_coloured, join, number_word, with_article};
pub use prompts::{
    AffirmativePrompt, NamedThing, NegationKind, NegationPrompt, TifaItem, TifaQuestion,
    affirmative_prompts, is_test_prompt, negation_prompts, tifa_items,
};
pub use questions::{
    Question, QuestionKind, answer_vocabulary, attribute_question, colour_question,
    existence_question, place_question, questions, worn_colour_question,
};
