//! For tests: published files that lie outside the repository, where they are there.
//!
//! They are too large to be kept here or may not be spread. Tests that need them are skipped without
//! them and say so; nothing but tests depends on this crate.
#![deny(missing_docs)]

use std::path::{Path, PathBuf};
use std::thread;

/// The folder of the files, if it is not `../shared/data` beside the repository.
pub const VARIABLE: &str = "NEGKIT_SHARED_DATA";

/// The path of a file or folder; `None` after saying which test is skipped and why.
#[must_use]
pub fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(VARIABLE).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    // The name of a test's thread is that of the test.
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    println!(
        "SKIPPED {test}: there is no {}; set {VARIABLE}",
        path.display()
    );
    None
}
