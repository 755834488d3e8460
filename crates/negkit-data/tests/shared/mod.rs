//! Where real data files lie.

use std::path::{Path, PathBuf};

/// A path under the shared data, or `None` after saying on standard error what is skipped and why.
pub fn data(test: &str, name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("NEGKIT_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED {test}: shared data not found at {}, set NEGKIT_SHARED_DATA",
        path.display()
    );
    None
}
