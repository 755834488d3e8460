//! The cache of repositories in the layout that Python's `huggingface_hub` defined, so that both
//! see the same files: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
//!
//! ```text
//! models--owner--name/
//!   refs/main                    the commit that the branch stood for
//!   snapshots/COMMIT/config.json -> ../../blobs/HASH
//!   blobs/HASH                   the content, HASH.incomplete while it is being fetched
//! .locks/models--owner--name/HASH.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, at};
use crate::location::is_safe_relative;

/// Deep enough for every repository, and a stop for links that lead in a circle.
const MAX_DEPTH: usize = 8;

/// The part of the cache that belongs to one repository.
pub(crate) struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

/// The right to write one blob, until it is dropped.
pub(crate) struct BlobLock {
    /// Where the content grows.
    pub partial: PathBuf,
    /// Where it goes when it is whole.
    pub blob: PathBuf,
    _lock: Option<File>,
}

impl Repository {
    pub(crate) fn new(cache: &Path, id: &str) -> Repository {
        let name = format!("models--{}", id.replace('/', "--"));
        Repository {
            root: cache.join(&name),
            locks: cache.join(".locks").join(&name),
        }
    }

    /// The commit that `revision` stands for on this machine: what `refs` says, else the revision
    /// itself where a snapshot has that name, as one that was made by hand has.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        match fs::read_to_string(self.reference(revision)) {
            Ok(commit) => Some(commit.trim().to_owned()).filter(|c| is_safe_relative(c)),
            Err(_) => self
                .snapshot(revision)
                .is_dir()
                .then(|| revision.to_owned()),
        }
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }

    /// Notes that `revision` now stands for `commit`.
    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        create_parent(&path)?;
        let temporary = unique(&path, "tmp");
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(commit.as_bytes()))
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(at("write", &path))
    }

    /// Waits until no other process or thread fetches the blob `hash`.
    pub(crate) fn lock(&self, hash: &str) -> Result<BlobLock, Error> {
        let blob = self.root.join("blobs").join(hash);
        create_parent(&blob)?;
        let path = self.locks.join(format!("{hash}.lock"));
        create_parent(&path)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        let locked = match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                tracing::info!(%hash, "another process is fetching this file: waiting for it");
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
        };
        let incomplete = with_suffix(&blob, "incomplete");
        match locked {
            Ok(()) => Ok(BlobLock {
                partial: incomplete,
                blob,
                _lock: Some(file),
            }),
            // Some network file systems have no locks. A name of its own keeps the content whole
            // there, at the price of not continuing what another run began.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(BlobLock {
                partial: unique(&blob, "incomplete"),
                blob,
                _lock: None,
            }),
            Err(error) => Err(at("lock", &path)(error)),
        }
    }

    /// Makes `file` of `commit` show the blob, and gives its path.
    pub(crate) fn link(&self, commit: &str, file: &str, blob: &Path) -> Result<PathBuf, Error> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        let temporary = unique(&path, "tmp");
        let made = point_to(blob, file, &temporary).and_then(|()| fs::rename(&temporary, &path));
        if made.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        made.map_err(at("create", &path))?;
        Ok(path)
    }
}

/// A relative link, so that the cache can be moved as a whole.
#[cfg(unix)]
fn point_to(blob: &Path, file: &str, link: &Path) -> io::Result<()> {
    let up = "../".repeat(file.matches('/').count() + 2);
    let name = blob.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), link)
}

/// Links need a privilege on Windows, so the file itself is linked or copied.
#[cfg(not(unix))]
fn point_to(blob: &Path, _file: &str, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

/// The files below `folder` by their relative paths, with `/` between parts. Links whose target is
/// missing are left out. An unreadable or missing folder has no files.
pub(crate) fn list(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((path, prefix, depth)) = open.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let (Some(name), Ok(meta)) = (
                entry.file_name().to_str().map(str::to_owned),
                fs::metadata(entry.path()),
            ) else {
                continue;
            };
            if meta.is_file() {
                files.push(format!("{prefix}{name}"));
            } else if meta.is_dir() && depth < MAX_DEPTH {
                open.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            }
        }
    }
    files.sort();
    files
}

fn create_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(at("create", parent)),
        None => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// A path beside `path` that no other thread or process uses.
fn unique(path: &Path, suffix: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    with_suffix(path, &format!("{}-{count}.{suffix}", std::process::id()))
}
