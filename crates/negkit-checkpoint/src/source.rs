//! Bytes of weight files: memory-mapped, or owned where a file had to be unpacked.

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use negkit_digest::read_digest;
use sha2::{Digest, Sha256};

use crate::CheckpointError;

enum Backing {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

/// A shared, immutable run of bytes. Cloning and slicing never copy.
#[derive(Clone)]
pub(crate) struct Bytes {
    backing: Arc<Backing>,
    range: Range<usize>,
}

impl Bytes {
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self {
            backing: Arc::new(Backing::Owned(bytes)),
            range,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// The bytes `range` of these; `None` when it reaches beyond them.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self {
            backing: self.backing.clone(),
            range: start..end,
        })
    }

    /// Gives the memory of pages of a mapped file back, for what was in them is kept elsewhere now: a
    /// model in f32 would else stand in memory twice, in its file's pages and as the kernels take it.
    /// The system's cache keeps the file, and whoever reads these bytes again gets them from there.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        {
            /// Bytes of a file below which the calls cost more than they are worth.
            const WORTH: usize = 1 << 22;
            /// The system maps up to so many bytes around one that is read: a bias of a kilobyte
            /// would else leave two megabytes behind.
            const AROUND: usize = 1 << 21;
            if let Backing::Mapped(map) = &*self.backing
                && map.len() >= WORTH
            {
                let start = self.range.start - self.range.start % AROUND;
                let end = self.range.end.next_multiple_of(AROUND).min(map.len());
                drop_pages(map, start..end);
            }
        }
    }

    /// Whether both look at the same file or buffer, at the same place.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backing, &other.backing) && self.range == other.range
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.backing {
            Backing::Mapped(map) => map,
            Backing::Owned(bytes) => bytes,
        };
        // `range` never leaves the backing: it starts whole and `slice` only narrows it.
        &all[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({:?})", self.range)
    }
}

/// A weight file that tensors come from.
pub struct SourceFile {
    path: PathBuf,
    bytes: u64,
    // The handle that was mapped: hashing what lies at the path later could hash another file.
    file: Mutex<File>,
    sha256: OnceLock<String>,
}

impl SourceFile {
    /// Opens and maps the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<(Arc<Self>, Bytes), CheckpointError> {
        let io = |action: &'static str| {
            let path = path.to_owned();
            move |source| CheckpointError::Io {
                path,
                action,
                source,
            }
        };
        let file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read the size of"))?;
        let bytes = if metadata.len() == 0 {
            // Mapping nothing is an error on some systems.
            Bytes::owned(Vec::new())
        } else {
            map(&file).map_err(io("memory-map"))?
        };
        let source = Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            file: Mutex::new(file),
            sha256: OnceLock::new(),
        };
        Ok((Arc::new(source), bytes))
    }

    /// Path that the file was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the whole file in lower-case hexadecimal digits, as the hub and `sha256sum` give
    /// it. Computed in one streaming pass at the first call and remembered.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sha256(&self) -> Result<&str, CheckpointError> {
        // The lock also keeps two threads from moving one file position at a time.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = self.sha256.get() {
            return Ok(digest);
        }
        let digest = hash_from_start(&mut file).map_err(|source| CheckpointError::Io {
            path: self.path.clone(),
            action: "read",
            source,
        })?;
        Ok(self.sha256.get_or_init(|| digest))
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SourceFile({}, {} bytes)",
            self.path.display(),
            self.bytes
        )
    }
}

pub(crate) fn hash_from_start(file: &mut File) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    read_digest(file, Sha256::new())
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn drop_pages(map: &memmap2::Mmap, range: Range<usize>) {
    use memmap2::UncheckedAdvice;
    // SAFETY: `range` is within the map, as that of all `Bytes`. The map is shared with its file and
    // never written to: a page that was dropped is the same page of the file again at its next read, by
    // whatever thread, so that no borrowed byte changes.
    let dropped =
        unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
    // Advice that is not taken costs memory and nothing else.
    drop(dropped);
}

#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the map is read-only. What the type system cannot rule
    // out is another process truncating or rewriting the file meanwhile, as with every reader of
    // memory-mapped weights; weight files are replaced by renaming, never in place.
    let map = unsafe { memmap2::MmapOptions::new().map(file)? };
    let range = 0..map.len();
    Ok(Bytes {
        backing: Arc::new(Backing::Mapped(map)),
        range,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use candle_core::{DType, Device};

    use super::*;
    use crate::element::ElementType;
    use crate::view::TensorView;

    /// KiB of a mapped file that are in this process's memory.
    #[cfg(target_os = "linux")]
    fn resident(path: &Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines();
        lines.find(|line| line.ends_with(path.to_str().unwrap()));
        let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_loaded_leaves_memory_and_comes_back_with_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let written: Vec<u8> = (0..1 << 22).map(|i: u32| (i >> 8) as u8).collect();
        std::fs::write(&path, &written).unwrap();
        let (_source, bytes) = SourceFile::open(&path).unwrap();
        assert_eq!(*bytes, written[..]);
        assert!(resident(&path) >= 4096, "{} KiB", resident(&path));
        // Neither end is at the border of a page.
        let middle = bytes.slice(1000..3_000_001).unwrap();
        let view = TensorView::contiguous(middle, ElementType::U8, vec![2_999_001]).unwrap();
        view.load(DType::U8, &Device::Cpu).unwrap();
        let left = resident(&path);
        assert!(left <= 4096 - 2_999_001 / 1024 + 8, "{left} KiB");
        assert_eq!(*bytes, written[..]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_few_bytes_that_were_loaded_leave_nothing_around_them_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        // Page by page: what is written at once the system keeps, and lets go, in pieces of 2 MiB.
        let mut file = File::create(&path).unwrap();
        for _ in 0..(1 << 23) / 4096 {
            std::io::Write::write_all(&mut file, &[1u8; 4096]).unwrap();
        }
        let (_source, bytes) = SourceFile::open(&path).unwrap();
        for at in [0, 2_100_000, (1 << 23) - 4] {
            // Where the system keeps the file in pages of 2 MiB, one byte brings as many into memory;
            // where it does not, they are read one page after another.
            let around = at - at % (1 << 21);
            let mut pages = bytes[around..around + (1 << 21)].iter().step_by(4096);
            assert!(pages.all(|&byte| byte == 1) && resident(&path) > 0);
            let bias =
                TensorView::contiguous(bytes.slice(at..at + 4).unwrap(), ElementType::U8, vec![4]);
            let bias = bias.unwrap().load(DType::U8, &Device::Cpu).unwrap();
            assert_eq!(bias.to_vec1::<u8>().unwrap(), [1; 4]);
            assert_eq!(resident(&path), 0, "after the bytes at {at}");
        }
    }
}
