//! One writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Result, RunError, Shard};

/// Held while a run is worked on. The system takes it back when the process ends, however it ends: a
/// lock that is left behind by a killed run stands in nobody's way.
#[derive(Debug)]
pub(crate) struct WorkLock {
    files: Vec<File>,
}

impl Drop for WorkLock {
    /// Closing would do only once nobody else has the files: a program that another thread starts
    /// holds copies of them for a moment.
    fn drop(&mut self) {
        for file in &self.files {
            // Where this fails, the system gives the lock back when the process ends.
            let _ = file.unlock();
        }
    }
}

impl WorkLock {
    /// For a shard: shards exclude themselves and a run of everything, not each other.
    pub(crate) fn take(folder: &Path, shard: Shard) -> Result<Self> {
        let whole = folder.join(".lock");
        if shard.is_whole() {
            let file = open(&whole)?;
            hold(whole, &file, File::try_lock)?;
            return Ok(Self { files: vec![file] });
        }
        let shared = open(&whole)?;
        hold(whole, &shared, File::try_lock_shared)?;
        // From here on it is given back by `drop` where something fails.
        let mut lock = Self {
            files: vec![shared],
        };
        let own = folder.join(shard.file(".lock", "shard"));
        let file = open(&own)?;
        hold(own, &file, File::try_lock)?;
        lock.files.push(file);
        Ok(lock)
    }
}

/// Waits until nobody else sets up the same folder.
pub(crate) fn setup(folder: &Path) -> Result<File> {
    let path = folder.join(".setup.lock");
    let file = open(&path)?;
    file.lock()
        .map_err(|source| RunError::write(&path, source))?;
    Ok(file)
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).read(true);
    options
        .open(path)
        .map_err(|source| RunError::write(path, source))
}

fn hold(
    path: PathBuf,
    file: &File,
    lock: impl Fn(&File) -> std::result::Result<(), TryLockError>,
) -> Result<()> {
    lock(file).map_err(|error| match error {
        TryLockError::WouldBlock => RunError::Locked { path },
        TryLockError::Error(source) => RunError::write(&path, source),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn shards_exclude_themselves_and_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let take = |shard: &str| WorkLock::take(folder.path(), shard.parse().unwrap());
        let locked = |shard: &str| matches!(take(shard), Err(RunError::Locked { .. }));
        let (first, second) = (take("1/2").unwrap(), take("2/2").unwrap());
        assert!(locked("1/2") && locked("2/2") && locked("1/1"));
        drop(first);
        assert!(locked("1/1"));
        drop(second);
        let whole = take("1/1").unwrap();
        assert!(locked("1/1") && locked("1/2"));
        drop(whole);
        take("1/2").unwrap();
    }
}
