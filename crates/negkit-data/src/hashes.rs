//! The hashes of files that something was read from.

use std::collections::BTreeMap;
use std::path::Path;

use negkit_digest::file_sha256;

use crate::DataError;

/// SHA-256 of files, as `sha256sum` prints it, under the files' names: for the settings of a run.
///
/// # Errors
/// When one cannot be read.
pub fn file_hashes(
    files: impl IntoIterator<Item = impl AsRef<Path>>,
) -> Result<BTreeMap<String, String>, DataError> {
    let hash = |file: _| {
        let path = AsRef::<Path>::as_ref(&file);
        let digest = file_sha256(path).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), digest))
    };
    files.into_iter().map(hash).collect()
}
