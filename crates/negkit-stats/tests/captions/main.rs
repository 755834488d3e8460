//! Caption files of every format, whole and damaged, made by and recounted in Python.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broken;
mod formats;
mod recount;
