//! Lists of hashes beside weights: the file `SHA256SUMS`, as `sha256sum` writes and checks it.
//!
//! Whoever publishes a tree of models puts one list at its top. [`Checkpoint::open`] looks for it,
//! so that no loader can forget to: a weight file that a list names is used only when its hash, and
//! those of its model's configuration and tokenizer, are the listed ones. A file that no list names is taken as it
//! is.
//!
//! [`Checkpoint::open`]: crate::Checkpoint::open

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::source::hash_from_start;

/// Name of a list of hashes.
pub const SUMS_FILE: &str = "SHA256SUMS";
/// How far above a file its list may lie: `sd/unet/x.safetensors` is two below it.
const LEVELS: usize = 3;
/// What makes of numbers a model, and is read with them.
const READ_WITH_WEIGHTS: [&str; 2] = ["json", "txt"];

/// Why a file is not the one that a list names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SumsError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The list is no list.
    #[error(
        "{} line {line}: expected 64 hexadecimal digits, two blanks and a path below the folder, \
         found {found:?}. Bring the file back (`git checkout -- {}` in a checkout), or write it \
         anew with sha256sum",
        path.display(),
        path.display()
    )]
    Malformed {
        /// The list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        found: String,
    },
    /// A listed file is not there.
    #[error(
        "{} is listed in {} but is not there. Bring it back (`git checkout -- {}` in a checkout), \
         or make the folder anew",
        path.display(),
        list.display(),
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The list.
        list: PathBuf,
    },
    /// A file has another content than listed.
    #[error(
        "{} is not the file that {} lists: expected SHA-256 {expected}, found {found} ({bytes} \
         bytes). It was cut short or edited: bring it back (`git checkout -- {}` in a checkout), or \
         make the folder anew",
        path.display(),
        list.display(),
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// The list.
        list: PathBuf,
        /// The listed hash, hexadecimal.
        expected: String,
        /// The content's hash, hexadecimal.
        found: String,
        /// The content's size.
        bytes: u64,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SumsError {
    let path = path.to_owned();
    move |source| SumsError::Io {
        path,
        action,
        source,
    }
}

/// A list of hashes of the files below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    folder: PathBuf,
    /// Hash by path below the folder, with `/` between its parts.
    hashes: BTreeMap<String, String>,
}

impl Sums {
    /// The hashes of all files below `folder`, as they are now. Hidden files and the list itself
    /// are left out.
    ///
    /// # Errors
    /// When a file cannot be read, or its path is no Unicode text.
    pub fn of(folder: impl Into<PathBuf>) -> Result<Self, SumsError> {
        let folder = folder.into();
        let mut hashes = BTreeMap::new();
        for name in files_below(&folder)? {
            let (hash, _) = hash_of(&folder.join(&name))?;
            hashes.insert(name, hash);
        }
        Ok(Self { folder, hashes })
    }

    /// Reads the list in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is no list.
    pub fn read(folder: impl Into<PathBuf>) -> Result<Self, SumsError> {
        let folder = folder.into();
        let path = folder.join(SUMS_FILE);
        let bytes = fs::read(&path).map_err(io("read", &path))?;
        Self::parse(folder, &String::from_utf8_lossy(&bytes))
    }

    /// A list of files below `folder` that is not in a file of its own.
    ///
    /// # Errors
    /// When the text is no list.
    pub fn parse(folder: impl Into<PathBuf>, text: &str) -> Result<Self, SumsError> {
        let folder = folder.into();
        let mut hashes = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let Some((hash, name)) = parse(line) else {
                return Err(SumsError::Malformed {
                    path: folder.join(SUMS_FILE),
                    line: number,
                    found: line.to_owned(),
                });
            };
            hashes.insert(name.to_owned(), hash);
        }
        Ok(Self { folder, hashes })
    }

    /// The list that `file` is under: in its folder, or in one of the two above.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn above(file: &Path) -> Result<Option<Self>, SumsError> {
        let file = std::path::absolute(file).map_err(io("find", file))?;
        let mut folders = file.ancestors().skip(1).take(LEVELS);
        folders
            .find(|folder| folder.join(SUMS_FILE).is_file())
            .map(Self::read)
            .transpose()
    }

    /// The text of the list, a line for each file in order of their names.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, hash) in &self.hashes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{hash}  {name}");
        }
        text
    }

    /// The listed paths, below the folder.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().map(String::as_str)
    }

    /// Files below the folder that the list does not name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn unlisted(&self) -> Result<Vec<String>, SumsError> {
        let mut files = files_below(&self.folder)?;
        files.retain(|name| !self.hashes.contains_key(name));
        Ok(files)
    }

    /// Everything that is wrong with the listed files; nothing when all are as listed.
    pub fn wrong(&self) -> Vec<SumsError> {
        let checks = self.names().map(|name| self.check(name));
        checks.filter_map(Result::err).collect()
    }

    /// Checks a weight file and what is read with it: the files of its model that end in `.json` and
    /// `.txt`.
    pub(crate) fn check_with_neighbours(&self, weights: &Path) -> Result<(), SumsError> {
        let weights = std::path::absolute(weights).map_err(io("find", weights))?;
        let folder = std::path::absolute(&self.folder).map_err(io("find", &self.folder))?;
        let Some(name) = weights.strip_prefix(&folder).ok().and_then(slashed) else {
            return Ok(());
        };
        if !self.hashes.contains_key(&name) {
            return Ok(());
        }
        let place = self.model_of(&name);
        for other in self.names() {
            let read = READ_WITH_WEIGHTS
                .iter()
                .any(|ending| Path::new(other).extension().is_some_and(|e| e == *ending));
            if other == name || (read && Path::new(other).starts_with(place)) {
                self.check(other)?;
            }
        }
        Ok(())
    }

    /// The folder of the model that a weight file is part of: its own, or the one above where that
    /// is a pipeline of diffusers.
    fn model_of<'a>(&self, weights: &'a str) -> &'a Path {
        let own = Path::new(weights).parent().unwrap_or(Path::new(""));
        let is_pipeline = |folder: &&Path| {
            let index = slashed(&folder.join("model_index.json"));
            index.is_some_and(|index| self.hashes.contains_key(&index))
        };
        own.parent().filter(is_pipeline).unwrap_or(own)
    }

    fn check(&self, name: &str) -> Result<(), SumsError> {
        let path = self.folder.join(name);
        let list = self.folder.join(SUMS_FILE);
        let Some(expected) = self.hashes.get(name) else {
            return Ok(());
        };
        if !path.is_file() {
            return Err(SumsError::Missing { path, list });
        }
        let (found, bytes) = hash_of(&path)?;
        if found == *expected {
            return Ok(());
        }
        Err(SumsError::Differs {
            path,
            list,
            expected: expected.clone(),
            found,
            bytes,
        })
    }
}

/// Hash and path of a line. A path that leads out of the folder is none.
fn parse(line: &str) -> Option<(String, &str)> {
    let (hash, name) = line.split_at_checked(64)?;
    let name = name
        .strip_prefix("  ")
        .or_else(|| name.strip_prefix(" *"))?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let below = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let fits = !name.is_empty() && below && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| (hash.to_ascii_lowercase(), name))
}

fn hash_of(path: &Path) -> Result<(String, u64), SumsError> {
    let mut file = File::open(path).map_err(io("open", path))?;
    let hash = hash_from_start(&mut file).map_err(io("read", path))?;
    let bytes = file.metadata().map_err(io("read the size of", path))?.len();
    Ok((hash, bytes))
}

/// A relative path with `/` between its parts.
fn slashed(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// All files below a folder that are neither hidden nor its list, in order.
fn files_below(folder: &Path) -> Result<Vec<String>, SumsError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(place) = folders.pop() {
        for entry in fs::read_dir(&place).map_err(io("list", &place))? {
            let path = entry.map_err(io("list", &place))?.path();
            let name = path.strip_prefix(folder).ok().and_then(slashed);
            let Some(name) = name else {
                let reason = io::Error::new(io::ErrorKind::InvalidData, "no Unicode text");
                return Err(io("list", &path)(reason));
            };
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden || name == SUMS_FILE {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(name),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{Checkpoint, CheckpointError};

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn lines_of_sha256sum_are_read() {
        let line = |rest: &str| format!("{EMPTY}{rest}");
        let parsed = |text: &str| parse(text).map(|(_, name)| name.to_owned());
        assert_eq!(parsed(&line("  a/b.json")), Some("a/b.json".to_owned()));
        assert_eq!(parsed(&line(" *a b")), Some("a b".to_owned()));
        assert_eq!(parsed(&line("  ./a")), Some("a".to_owned()));
        for wrong in [
            line(""),
            line("  "),
            line(" a"),
            line("  /etc/passwd"),
            line("  ../a"),
            format!("z{}  a", &EMPTY[1..]),
            EMPTY[..40].to_owned(),
            format!("é{}", line("  a")),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_list_names_everything_below_and_finds_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sd/unet")).unwrap();
        for (name, text) in [
            ("empty", ""),
            ("sd/unet/config.json", "{}"),
            (".hidden", "x"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        let sums = Sums::of(folder.path()).unwrap();
        assert!(sums.text().starts_with(&format!("{EMPTY}  empty\n")));
        assert_eq!(sums.names().count(), 2);
        fs::write(at(SUMS_FILE), sums.text()).unwrap();
        let sums = Sums::read(folder.path()).unwrap();
        assert!(sums.wrong().is_empty());
        assert!(sums.unlisted().unwrap().is_empty());
        let found = Sums::above(&at("sd/unet/config.json")).unwrap();
        assert_eq!(found.map(|sums| sums.text()), Some(sums.text()));

        fs::write(at("sd/unet/config.json"), "{]").unwrap();
        fs::remove_file(at("empty")).unwrap();
        fs::write(at("more"), "").unwrap();
        let wrong: Vec<String> = sums.wrong().iter().map(ToString::to_string).collect();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("empty is listed"), "{wrong:?}");
        assert!(wrong[1].contains("sd/unet/config.json") && wrong[1].contains("(2 bytes)"));
        assert_eq!(sums.unlisted().unwrap(), ["more"]);

        fs::write(at(SUMS_FILE), &sums.text()[..50]).unwrap();
        let error = Sums::above(&at("empty")).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn weights_that_are_not_the_listed_ones_are_refused() {
        let tree = tempfile::tempdir().unwrap();
        let model = tree.path().join("clip");
        fs::create_dir(&model).unwrap();
        let weights = model.join("model.safetensors");
        let config = model.join("config.json");
        let tensor = Tensor::arange(0f32, 50., &Device::Cpu).unwrap();
        candle_core::safetensors::save(&HashMap::from([("w", tensor)]), &weights).unwrap();
        fs::write(&config, "{}").unwrap();
        fs::write(model.join("README.md"), "a card").unwrap();
        let list = Sums::of(tree.path()).unwrap().text();
        fs::write(tree.path().join(SUMS_FILE), list).unwrap();
        let open = || Checkpoint::open(&model);
        let refused = |name: &str| match open() {
            Err(CheckpointError::Sums(SumsError::Differs { path, .. })) => {
                assert!(path.ends_with(name), "{}", path.display());
            }
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(open().unwrap().len(), 1);

        let whole = fs::read(&weights).unwrap();
        fs::write(&weights, &whole[..whole.len() - 4]).unwrap();
        refused("model.safetensors");
        let mut edited = whole.clone();
        edited[whole.len() - 1] ^= 1;
        fs::write(&weights, edited).unwrap();
        refused("model.safetensors");
        fs::write(&weights, whole).unwrap();
        // The card decides nothing about the numbers.
        fs::write(model.join("README.md"), "another card").unwrap();
        assert_eq!(open().unwrap().len(), 1);
        fs::write(&config, "[]").unwrap();
        refused("config.json");
    }

    #[test]
    fn a_pipeline_is_one_model() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        for (name, text) in [
            ("sd/model_index.json", "{}"),
            ("sd/tokenizer/vocab.json", "{}"),
            ("sd/unet/x.safetensors", "weights"),
            ("vqa/config.json", "{}"),
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let sums = Sums::of(tree.path()).unwrap();
        let check = || sums.check_with_neighbours(&at("sd/unet/x.safetensors"));
        fs::write(at("vqa/config.json"), "[]").unwrap();
        check().unwrap();
        fs::write(at("sd/tokenizer/vocab.json"), "[]").unwrap();
        let error = check().unwrap_err().to_string();
        assert!(error.contains("sd/tokenizer/vocab.json is not"), "{error}");
    }
}
