//! Embeddings on disk: a vector by the hash of the tower that made it and of what it was made of.
//!
//! A tower has a file of its own. It is only ever appended to, a whole batch at a time under a lock, so
//! that several processes may fill it; every record carries a checksum, so that a torn or damaged one is
//! known for what it is, passed over and computed again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{BenchmarkError, Result};
use crate::hash::Hash;

const MAGIC: &[u8; 8] = b"NEGKEMB1";
const KEY: usize = 32;
const CHECK: usize = 8;
/// Magic, width, tower, checksum.
const HEADER: usize = 8 + 4 + KEY + CHECK;

/// The folder of stored embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingCache {
    folder: PathBuf,
}

impl EmbeddingCache {
    /// In that folder, which is made when something is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The embeddings of a tower, `width` numbers each. `kind` is "pictures" or "texts", to be seen in
    /// the file's name.
    ///
    /// # Errors
    /// When the file cannot be read, or is no file of embeddings of that tower.
    pub fn open(&self, kind: &str, tower: Hash, width: usize) -> Result<EmbeddingStore> {
        let name = tower.to_string();
        let file = format!("{kind}-{}.embeddings", &name[..16]);
        EmbeddingStore::open(self.folder.join(file), tower, width)
    }
}

/// The stored embeddings of one tower.
#[derive(Debug)]
pub struct EmbeddingStore {
    path: PathBuf,
    tower: Hash,
    width: usize,
    vectors: Vec<f32>,
    places: HashMap<Hash, usize>,
    damaged: usize,
}

impl EmbeddingStore {
    fn open(path: PathBuf, tower: Hash, width: usize) -> Result<Self> {
        let mut store = Self {
            path,
            tower,
            width,
            vectors: Vec::new(),
            places: HashMap::new(),
            damaged: 0,
        };
        let mut bytes = Vec::new();
        match File::open(&store.path) {
            Ok(mut file) => {
                // A batch that another process is writing would be seen torn.
                file.lock_shared()
                    .map_err(BenchmarkError::access(&store.path))?;
                file.read_to_end(&mut bytes)
                    .map_err(BenchmarkError::access(&store.path))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(store),
            Err(error) => return Err(BenchmarkError::access(&store.path)(error)),
        }
        if bytes.len() < HEADER {
            return Ok(store);
        }
        store.check_header(&bytes[..HEADER])?;
        for record in bytes[HEADER..].chunks_exact(store.record()) {
            let (content, check) = record.split_at(record.len() - CHECK);
            match content.first_chunk::<KEY>() {
                Some(key) if checksum(content) == check => {
                    let vector = content[KEY..]
                        .chunks_exact(4)
                        .map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
                    store
                        .places
                        .insert(Hash::from_bytes(*key), store.vectors.len());
                    store.vectors.extend(vector);
                }
                _ => store.damaged += 1,
            }
        }
        Ok(store)
    }

    /// Number of embeddings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Records whose checksum was wrong when the file was opened.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// A stored vector.
    #[must_use]
    pub fn get(&self, item: &Hash) -> Option<&[f32]> {
        let at = *self.places.get(item)?;
        self.vectors.get(at..at + self.width)
    }

    /// Stores vectors, on the disk when this returns. Vectors of another width, or with numbers that
    /// are none, are left out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, entries: &[(Hash, Vec<f32>)]) -> Result<()> {
        let usable = |(_, vector): &&(Hash, Vec<f32>)| {
            vector.len() == self.width && vector.iter().all(|x| x.is_finite())
        };
        let entries: Vec<&(Hash, Vec<f32>)> = entries.iter().filter(usable).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(entries.len() * self.record());
        for (key, vector) in &entries {
            let start = bytes.len();
            bytes.extend_from_slice(key.bytes());
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
            let check = checksum(&bytes[start..]);
            bytes.extend_from_slice(&check);
        }
        self.write(&bytes)
            .map_err(BenchmarkError::access(&self.path))?;
        for (key, vector) in entries {
            self.places.insert(*key, self.vectors.len());
            self.vectors.extend_from_slice(vector);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&self.path)?;
        // Given back when the file is closed, a killed process's too.
        file.lock()?;
        let length = file.metadata()?.len();
        let header = HEADER as u64;
        let end = if length < header {
            file.set_len(0)?;
            file.write_all(&self.header())?;
            header
        } else {
            // What a kill left of a record is cut off.
            header + (length - header) / self.record() as u64 * self.record() as u64
        };
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn record(&self) -> usize {
        KEY + 4 * self.width + CHECK
    }

    fn header(&self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&(self.width as u32).to_le_bytes());
        header.extend_from_slice(self.tower.bytes());
        let check = checksum(&header);
        header.extend_from_slice(&check);
        header
    }

    fn check_header(&self, found: &[u8]) -> Result<()> {
        let expected = self.header();
        if found == expected {
            return Ok(());
        }
        let width = found[8..12]
            .first_chunk()
            .map_or(0, |x| u32::from_le_bytes(*x));
        let reason = match found.starts_with(MAGIC) {
            true if width as usize != self.width => {
                format!("expected vectors of {} numbers, found {width}", self.width)
            }
            true => "expected another tower's hash".to_owned(),
            false => "its beginning is another".to_owned(),
        };
        Err(BenchmarkError::Cache {
            path: self.path.clone(),
            reason,
        })
    }
}

fn checksum(content: &[u8]) -> [u8; CHECK] {
    let hash = Sha256::digest(content);
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(number: u8) -> Hash {
        Hash::of([&[number][..]])
    }

    fn entries(numbers: &[u8]) -> Vec<(Hash, Vec<f32>)> {
        let vector = |n: &u8| (key(*n), vec![f32::from(*n), 0.5, -1.]);
        numbers.iter().map(vector).collect()
    }

    fn path_of(cache: &EmbeddingCache) -> PathBuf {
        let mut files = fs::read_dir(cache.folder()).unwrap();
        files.next().unwrap().unwrap().path()
    }

    #[test]
    fn what_is_stored_is_found_by_the_same_tower_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path().join("new"));
        let mut store = cache.open("texts", key(0), 3).unwrap();
        store.append(&entries(&[1, 2])).unwrap();
        store
            .append(&[(key(9), vec![f32::NAN, 0., 0.]), (key(8), vec![1.])])
            .unwrap();
        let again = cache.open("texts", key(0), 3).unwrap();
        assert_eq!((again.len(), again.damaged()), (2, 0));
        assert_eq!(again.get(&key(2)), Some(&[2., 0.5, -1.][..]));
        assert_eq!(again.get(&key(9)), None);
        assert!(cache.open("texts", key(7), 3).unwrap().is_empty());
        assert!(cache.open("pictures", key(0), 3).unwrap().is_empty());
        let error = cache.open("texts", key(0), 4).unwrap_err().to_string();
        assert!(error.contains("4 numbers, found 3"), "{error}");
    }

    #[test]
    fn a_torn_end_is_cut_off_and_damage_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path());
        cache
            .open("texts", key(0), 3)
            .unwrap()
            .append(&entries(&[1, 2, 3]))
            .unwrap();
        let path = path_of(&cache);
        let whole = fs::read(&path).unwrap();
        for end in [0, 5, HEADER, HEADER + 1, whole.len() - 1] {
            fs::write(&path, &whole[..end]).unwrap();
            let mut store = cache.open("texts", key(0), 3).unwrap();
            let missing: Vec<_> = entries(&[1, 2, 3])
                .into_iter()
                .filter(|(item, _)| store.get(item).is_none())
                .collect();
            store.append(&missing).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {end}");
        }
        let mut damaged = whole.clone();
        damaged[HEADER + KEY + 2] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let store = cache.open("texts", key(0), 3).unwrap();
        assert_eq!((store.len(), store.damaged()), (2, 1));
        assert_eq!(store.get(&key(1)), None);
    }

    #[test]
    fn several_may_append_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path());
        std::thread::scope(|scope| {
            for first in [10, 20, 30, 40] {
                let cache = &cache;
                scope.spawn(move || {
                    let mut store = cache.open("texts", key(0), 3).unwrap();
                    for number in first..first + 8 {
                        store.append(&entries(&[number])).unwrap();
                    }
                });
            }
        });
        let store = cache.open("texts", key(0), 3).unwrap();
        assert_eq!((store.len(), store.damaged()), (32, 0));
    }
}
