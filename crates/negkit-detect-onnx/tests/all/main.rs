//! The detector: on a model of a few lines that is built here, and FastestDet on annotated photos.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
mod photos;
mod tiny;
mod verdicts;
