//! The tests of this crate, in one program: each that is linked costs as much as many tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod download;
mod local;
mod server;
mod table;
