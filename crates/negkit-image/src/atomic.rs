//! Files that are there whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// What the names of temporary files begin and end with.
const PARTIAL: (&str, &str) = (".negkit-", ".partial");

/// Whether a file of that name is what [`write_atomic`] leaves in a folder when its process is killed:
/// of no use to anybody, once that process is gone.
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL.0) && name.ends_with(PARTIAL.1)
}

/// Writes a file so that a reader sees the old content or the new, never half of it.
///
/// The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is
/// renamed over `path`. After an error the folder is as it was before.
///
/// # Errors
/// [`Error::MissingFolder`], [`Error::DiskFull`], or [`Error::Write`] for the rest.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    write_and_rename(path, folder, bytes).map_err(|source| explain(path, folder, bytes, source))
}

fn write_and_rename(path: &Path, folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL.0).suffix(PARTIAL.1);
    // Temporary files are private by default; this one becomes the result, so the usual mode is
    // asked for, from which the system takes off the user's mask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is only durable once the folder is. Some file systems cannot flush a
    // folder; the file is complete all the same.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn explain(path: &Path, folder: &Path, bytes: &[u8], source: io::Error) -> Error {
    let path = PathBuf::from(path);
    match source.kind() {
        io::ErrorKind::NotFound if !folder.is_dir() => Error::MissingFolder {
            path,
            folder: folder.into(),
        },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
            path,
            bytes: bytes.len(),
        },
        _ => Error::Write { path, source },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use std::fs;

    #[test]
    fn writes_and_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/a.png");
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(matches!(error, Error::MissingFolder { .. }), "{error}");
        assert!(error.to_string().contains("no/such"), "{error}");
    }

    #[test]
    fn a_failed_rename_keeps_the_target_and_cleans_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_called_so() {
        const ENOSPC: i32 = 28;
        let full = io::Error::from_raw_os_error(ENOSPC);
        let error = explain(Path::new("out/a.png"), Path::new("out"), &[0; 7], full);
        let text = error.to_string();
        assert!(matches!(error, Error::DiskFull { bytes: 7, .. }), "{text}");
        assert!(
            text.contains("out/a.png") && text.contains("full"),
            "{text}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_readable_like_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
