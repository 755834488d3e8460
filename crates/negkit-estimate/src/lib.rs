//! What making a NegationCLIP takes: time, memory and disk, computed and not guessed.
//!
//! [`Estimate::new`] is what matters: it takes [`Inputs`] (how many captions, how many tokens a
//! request, which GPU) and the sizes of the models as their published `config.json` have them, and
//! returns a table in which every line has its formula. Nothing is measured here, and no model is
//! loaded; a number is as good as the inputs that are printed above it. So that an estimate can be
//! disbelieved in detail, formulas are as short as they can be while every term that matters is in
//! them: parameters are counted exactly, work is counted in multiply-adds of the matrices, and how
//! much of its peak a GPU reaches is an input.
#![deny(missing_docs)]

mod estimate;
mod inputs;
mod sizes;

pub use estimate::{Estimate, Line, Unit};
pub use inputs::{Gpu, Inputs, Request};
pub use sizes::{
    ClipSizes, LanguageModel, Models, SizesError, TextTower, VisionLanguageModel, VisionTower,
};
