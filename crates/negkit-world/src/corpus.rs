//! Many scenes' pictures in one file, drawn once and read by every training.
//!
//! The file is a header of 64 bytes (magic, side, first seed, count, sha256) and after it the
//! pixels of picture after picture, red green blue, row by row. The digest is of the header's
//! other fields and all pixels, so that neither can be changed or cut unseen.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use negkit_digest::hexadecimal;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::render::render_picture;
use crate::scene::Scene;

const MAGIC: [u8; 8] = *b"NKCORPUS";
const FIELDS: usize = 32;
const HEADER: usize = 64;
/// Pictures drawn between two reports of progress: enough to keep all cores busy.
const BLOCK: u64 = 512;
/// Pictures of a file that are drawn again to see that drawing has not changed since: enough that
/// every kind and place is among them.
const CHECKED: usize = 256;
/// Sides that a corpus may have: what can be drawn, and what fits into memory many times.
const SIDES: std::ops::RangeInclusive<u32> = 8..=1024;

/// Why a corpus could not be written or read.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// The file could not be read.
    #[error("cannot read the corpus {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the corpus {path}: {source}", path = path.display())]
    Write {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is no corpus of pictures: it does not begin with a corpus header; give the path of \
         a file that `Corpus::render` wrote",
        path = path.display()
    )]
    NotCorpus {
        /// The file.
        path: PathBuf,
    },
    /// The file has not the length that its header says.
    #[error(
        "the corpus {path} has {found} bytes, but its header says {expected}: it was cut off or \
         appended to; delete it and render it again",
        path = path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// The content is not what was written.
    #[error(
        "the corpus {path} has been changed since it was written (sha256 {found}, its header says \
         {expected}); delete it and render it again",
        path = path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The header's digest.
        expected: String,
        /// The content's digest.
        found: String,
    },
    /// The side is not one that pictures can have.
    #[error("pictures of {side} pixels a side cannot be kept in a corpus; 8 to 1024 can")]
    Side {
        /// The side asked for.
        side: u32,
    },
    /// The range of seeds is reversed.
    #[error("the seeds {}..{} end before they begin", seeds.start, seeds.end)]
    Seeds {
        /// The range asked for.
        seeds: Range<u64>,
    },
}

/// Pictures of the scenes of consecutive seeds, in memory.
#[derive(Debug)]
pub struct Corpus {
    side: u32,
    seeds: Range<u64>,
    /// The scene of a seed.
    draw: fn(u64) -> Scene,
    /// `[pictures, side, side, 3]`.
    pixels: Vec<u8>,
}

impl Corpus {
    /// Draws the sampled scenes of `seeds` on all cores into the file `path` and opens it;
    /// `progress` is told how many of how many pictures are drawn.
    ///
    /// The file appears under its name when it is complete. One that is there already is taken as
    /// it is when it is whole, of the same seeds and side, and a few hundred of its pictures are what
    /// would be drawn now; otherwise it is replaced.
    ///
    /// # Errors
    /// [`CorpusError::Side`] and [`CorpusError::Seeds`] for what cannot be, and
    /// [`CorpusError::Write`] or [`CorpusError::Read`] when the file system refuses.
    pub fn render(
        seeds: Range<u64>,
        side: u32,
        path: &Path,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self, CorpusError> {
        Self::render_with(Scene::sample, seeds, side, path, progress)
    }

    /// The same of the scenes that `draw` makes of seeds, such as [`Scene::posed`].
    ///
    /// # Errors
    /// As [`Corpus::render`].
    pub fn render_with(
        draw: fn(u64) -> Scene,
        seeds: Range<u64>,
        side: u32,
        path: &Path,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, CorpusError> {
        if !SIDES.contains(&side) {
            return Err(CorpusError::Side { side });
        }
        let Some(count) = seeds.end.checked_sub(seeds.start) else {
            return Err(CorpusError::Seeds { seeds });
        };
        if let Ok(there) = Self::open_with(draw, path)
            && there.side == side
            && there.seeds == seeds
            && there.is_current()
        {
            progress(count, count);
            return Ok(there);
        }
        write(draw, &seeds, side, path, &mut progress).map_err(|source| CorpusError::Write {
            path: path.into(),
            source,
        })?;
        Self::open_with(draw, path)
    }

    /// Reads a corpus of sampled scenes into memory and checks it against its digest.
    ///
    /// # Errors
    /// [`CorpusError::Read`], [`CorpusError::NotCorpus`] for another file,
    /// [`CorpusError::Length`] for one cut off and [`CorpusError::Changed`] for one edited.
    pub fn open(path: &Path) -> Result<Self, CorpusError> {
        Self::open_with(Scene::sample, path)
    }

    fn open_with(draw: fn(u64) -> Scene, path: &Path) -> Result<Self, CorpusError> {
        let read = |source| CorpusError::Read {
            path: path.into(),
            source,
        };
        let mut file = File::open(path).map_err(read)?;
        let found = file.metadata().map_err(read)?.len();
        let not_corpus = || CorpusError::NotCorpus { path: path.into() };
        let mut bytes = [0; HEADER];
        match file.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not_corpus());
            }
            other => other.map_err(read)?,
        }
        let header = Header::read(&bytes).ok_or_else(not_corpus)?;
        let expected = header.file_length().ok_or_else(not_corpus)?;
        if expected != found {
            return Err(CorpusError::Length {
                path: path.into(),
                expected,
                found,
            });
        }
        let mut pixels = Vec::with_capacity(usize::try_from(expected).map_err(|_| not_corpus())?);
        file.read_to_end(&mut pixels).map_err(read)?;
        let mut digest = Sha256::new();
        digest.update(header.fields());
        digest.update(&pixels);
        let digest: [u8; 32] = digest.finalize().into();
        if digest != header.digest {
            return Err(CorpusError::Changed {
                path: path.into(),
                expected: hexadecimal(header.digest),
                found: hexadecimal(digest),
            });
        }
        Ok(Self {
            side: header.side,
            seeds: header.first..header.first + header.count,
            draw,
            pixels,
        })
    }

    /// Side of the pictures in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// Seeds of the scenes, in the order of the pictures.
    pub fn seeds(&self) -> Range<u64> {
        self.seeds.clone()
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.picture_bytes()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Pixels `[side, side, 3]` of picture `index`: red, green, blue, row by row. Empty beyond the
    /// last picture.
    pub fn picture(&self, index: usize) -> &[u8] {
        let bytes = self.picture_bytes();
        let start = index.saturating_mul(bytes);
        self.pixels
            .get(start..start.saturating_add(bytes))
            .unwrap_or_default()
    }

    /// The scene of picture `index`, drawn from its seed again.
    pub fn scene(&self, index: usize) -> Scene {
        (self.draw)(self.seeds.start.wrapping_add(index as u64))
    }

    fn picture_bytes(&self) -> usize {
        self.side as usize * self.side as usize * 3
    }

    /// Whether pictures from the first to the last are what would be drawn now.
    fn is_current(&self) -> bool {
        let step = self.len().div_ceil(CHECKED).max(1);
        let last = self.len().checked_sub(1);
        (0..self.len()).step_by(step).chain(last).all(|index| {
            render_picture(&self.scene(index), self.side).as_raw() == self.picture(index)
        })
    }
}

struct Header {
    side: u32,
    first: u64,
    count: u64,
    digest: [u8; 32],
}

impl Header {
    fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (side, rest) = rest.split_first_chunk::<4>()?;
        let (reserved, rest) = rest.split_first_chunk::<4>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (digest, _) = rest.split_first_chunk::<32>()?;
        let header = Self {
            side: u32::from_le_bytes(*side),
            first: u64::from_le_bytes(*first),
            count: u64::from_le_bytes(*count),
            digest: *digest,
        };
        let sound = *magic == MAGIC
            && *reserved == [0; 4]
            && SIDES.contains(&header.side)
            && header.first.checked_add(header.count).is_some();
        sound.then_some(header)
    }

    /// All of the header but the digest, which covers it.
    fn fields(&self) -> [u8; FIELDS] {
        let mut fields = [0; FIELDS];
        fields[..8].copy_from_slice(&MAGIC);
        fields[8..12].copy_from_slice(&self.side.to_le_bytes());
        fields[16..24].copy_from_slice(&self.first.to_le_bytes());
        fields[24..].copy_from_slice(&self.count.to_le_bytes());
        fields
    }

    fn file_length(&self) -> Option<u64> {
        let picture = u64::from(self.side) * u64::from(self.side) * 3;
        picture.checked_mul(self.count)?.checked_add(HEADER as u64)
    }
}

/// Draws block after block into a temporary file beside `path` and gives it that name at the end.
fn write(
    draw: fn(u64) -> Scene,
    seeds: &Range<u64>,
    side: u32,
    path: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".negkit-").suffix(".partial");
    // Temporary files are private by default; this one becomes the result.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    let mut header = Header {
        side,
        first: seeds.start,
        count: seeds.end - seeds.start,
        digest: [0; 32],
    };
    let mut digest = Sha256::new();
    digest.update(header.fields());
    file.write_all(&[0; HEADER])?;
    let mut start = seeds.start;
    progress(0, header.count);
    while start < seeds.end {
        let end = seeds.end.min(start.saturating_add(BLOCK));
        let pictures: Vec<Vec<u8>> = (start..end)
            .into_par_iter()
            .map(|seed| render_picture(&draw(seed), side).into_raw())
            .collect();
        for picture in &pictures {
            digest.update(picture);
            file.write_all(picture)?;
        }
        start = end;
        progress(start - seeds.start, header.count);
    }
    header.digest = digest.finalize().into();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header.fields())?;
    file.write_all(&header.digest)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fs;

    use super::*;

    #[test]
    fn holds_the_pictures_of_its_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures");
        let mut reports = Vec::new();
        let corpus = Corpus::render(5..1000, 16, &path, |done, all| reports.push((done, all)));
        let corpus = corpus.unwrap();
        assert_eq!((corpus.len(), corpus.side()), (995, 16));
        assert_eq!(reports, [(0, 995), (512, 995), (995, 995)]);
        for index in [0, 1, 511, 512, 994] {
            let expected = render_picture(&Scene::sample(5 + index as u64), 16);
            assert_eq!(corpus.picture(index), expected.as_raw().as_slice());
            assert_eq!(corpus.scene(index), Scene::sample(5 + index as u64));
        }
        assert!(corpus.picture(995).is_empty() && corpus.picture(usize::MAX).is_empty());
        assert_eq!(Corpus::open(&path).unwrap().pixels, corpus.pixels);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_scenes_of_the_same_seeds_are_other_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures");
        Corpus::render(0..40, 32, &path, |_, _| ()).unwrap();
        let posed = Corpus::render_with(Scene::posed, 0..40, 32, &path, |_, _| ()).unwrap();
        for index in [0, 17, 39] {
            let scene = Scene::posed(index as u64);
            assert_eq!(posed.scene(index), scene);
            assert_eq!(
                posed.picture(index),
                render_picture(&scene, 32).as_raw().as_slice()
            );
        }
    }

    #[test]
    fn the_same_seeds_give_the_same_file_and_a_whole_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        Corpus::render(0..40, 32, &a, |_, _| ()).unwrap();
        Corpus::render(0..40, 32, &b, |_, _| ()).unwrap();
        let bytes = fs::read(&a).unwrap();
        assert_eq!(bytes, fs::read(&b).unwrap());
        let mut calls = 0;
        Corpus::render(0..40, 32, &a, |_, _| calls += 1).unwrap();
        assert_eq!(calls, 1, "drawn again though it was there");
        assert_eq!(Corpus::render(0..41, 32, &a, |_, _| ()).unwrap().len(), 41);
        fs::write(&a, &bytes[..5000]).unwrap();
        assert_eq!(Corpus::render(0..40, 32, &a, |_, _| ()).unwrap().len(), 40);
        assert_eq!(bytes, fs::read(&a).unwrap());
    }

    #[test]
    fn every_cut_and_every_edit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures");
        Corpus::render(0..3, 8, &path, |_, _| ()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Corpus::open(&path).unwrap_err();
            let expected = match error {
                CorpusError::NotCorpus { .. } => length < HEADER,
                CorpusError::Length { .. } => length >= HEADER,
                _ => false,
            };
            assert!(expected, "{length}: {error}");
        }
        for index in 0..whole.len() {
            let mut edited = whole.clone();
            edited[index] ^= 1;
            fs::write(&path, &edited).unwrap();
            let error = Corpus::open(&path).unwrap_err();
            assert!(error.to_string().contains("pictures"), "{index}: {error}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(Corpus::open(&path).unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        let side = Corpus::render(0..1, 4, &path, |_, _| ()).unwrap_err();
        assert!(matches!(side, CorpusError::Side { side: 4 }), "{side}");
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let seeds = Corpus::render(9..3, 16, &path, |_, _| ()).unwrap_err();
        assert!(matches!(seeds, CorpusError::Seeds { .. }), "{seeds}");
        let lost = folder.path().join("no/such/folder");
        let write = Corpus::render(0..1, 16, &lost, |_, _| ()).unwrap_err();
        assert!(matches!(write, CorpusError::Write { .. }), "{write}");
        let read = Corpus::open(&path).unwrap_err();
        assert!(matches!(read, CorpusError::Read { .. }), "{read}");
        let nothing = Corpus::render(7..7, 16, &path, |_, _| ()).unwrap();
        assert!(nothing.is_empty() && nothing.picture(0).is_empty());
    }
}
