//! The tests of this crate, in one program: each that is linked costs as much as many tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod clip;
mod engines;
mod environment;
mod fine_tuning;
mod training;
