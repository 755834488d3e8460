//! What has been measured already.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use negkit_image::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::MiniError;

/// Goes up when what a part measures, or how, is changed: older files are then of no use.
const FORMAT: u32 = 1;

/// Files of parts, one each.
pub(super) struct Parts {
    folder: PathBuf,
    fast: bool,
    seconds: RefCell<BTreeMap<String, f64>>,
}

/// What decides the content of a part.
#[derive(Serialize)]
struct Key<'a> {
    format: u32,
    part: &'a str,
    settings: Value,
    weights: Value,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// JSON of [`Key`], as text: numbers that were read back need not be equal to the last bit.
    key: String,
    seconds: f64,
    found: Value,
}

impl Parts {
    pub(super) fn open(folder: &Path, fast: bool) -> Result<Self, MiniError> {
        fs::create_dir_all(folder).map_err(MiniError::io(folder, "create"))?;
        // Everything in here can be had again, and is large.
        write_atomic(folder.join(".gitignore"), b"*\n")?;
        Ok(Self {
            folder: folder.to_owned(),
            fast,
            seconds: RefCell::default(),
        })
    }

    /// How long every part took that was asked for and is there.
    pub(super) fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.borrow().clone()
    }

    /// The part `name`: from its file when that was measured with the same settings and weights,
    /// else by `work`. `None` when there is neither.
    pub(super) fn part<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        settings: Value,
        weights: Value,
        work: Option<impl FnOnce() -> Result<T, MiniError>>,
    ) -> Result<Option<T>, MiniError> {
        // A fast run shall not cost a long one its files.
        let ending = if self.fast { "fast.json" } else { "json" };
        let path = self.folder.join(format!("{name}.{ending}"));
        let key = Key {
            format: FORMAT,
            part: name,
            settings,
            weights,
        };
        let key = serde_json::to_string(&key).map_err(MiniError::json(&path))?;
        if let Some((found, seconds)) = read(&path, &key)? {
            self.seconds.borrow_mut().insert(name.to_owned(), seconds);
            return Ok(Some(found));
        }
        let Some(work) = work else { return Ok(None) };
        eprintln!("{name}");
        let start = Instant::now();
        let found = work()?;
        let seconds = start.elapsed().as_secs_f64();
        let found = serde_json::to_value(&found).map_err(MiniError::json(&path))?;
        let stored = Stored {
            key,
            seconds,
            found,
        };
        let text = serde_json::to_string(&stored).map_err(MiniError::json(&path))?;
        write_atomic(&path, text.as_bytes())?;
        self.seconds.borrow_mut().insert(name.to_owned(), seconds);
        // As a later run will read it, to the last bit.
        let stored: Stored = serde_json::from_str(&text).map_err(MiniError::json(&path))?;
        let found = serde_json::from_value(stored.found).map_err(MiniError::json(&path))?;
        Ok(Some(found))
    }
}

/// What the file holds, if it is of that key. A damaged file is as none: it is measured again.
fn read<T: DeserializeOwned>(path: &Path, key: &str) -> Result<Option<(T, f64)>, MiniError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(MiniError::io(path, "read")(e)),
    };
    let Ok(stored) = serde_json::from_slice::<Stored>(&bytes) else {
        return Ok(None);
    };
    if stored.key != key {
        return Ok(None);
    }
    Ok(serde_json::from_value(stored.found)
        .ok()
        .map(|found| (found, stored.seconds)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_is_measured_once_for_the_same_weights_and_settings() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Cell::new(0);
        let part = |fast: bool, settings: Value, weights: Value| {
            let parts = Parts::open(folder.path(), fast).unwrap();
            let work = || {
                runs.set(runs.get() + 1);
                Ok(vec![0.1 + 0.2, f64::from(runs.get())])
            };
            parts.part("a", settings, weights, Some(work)).unwrap()
        };
        let (settings, weights) = (json!({ "steps": 20 }), json!({ "sd": "ab" }));
        let first = part(false, settings.clone(), weights.clone());
        assert_eq!(first, part(false, settings.clone(), weights.clone()));
        assert_eq!(runs.get(), 1);
        // A run of other counts keeps its own files.
        part(true, settings.clone(), weights.clone());
        assert_eq!(runs.get(), 2);
        assert_eq!(first, part(false, settings.clone(), weights.clone()));
        assert_eq!(runs.get(), 2);
        part(false, json!({ "steps": 21 }), weights.clone());
        part(false, settings.clone(), json!({ "sd": "cd" }));
        assert_eq!(runs.get(), 4);
        // Cut short, as no kill of ours leaves it.
        let path = folder.path().join("a.json");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        part(false, settings.clone(), json!({ "sd": "cd" }));
        assert_eq!(runs.get(), 5);
    }

    #[test]
    fn what_is_not_wanted_is_only_read() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::open(folder.path(), false).unwrap();
        let none = None::<fn() -> Result<u32, MiniError>>;
        let found = parts.part("b", json!(1), json!(1), none).unwrap();
        assert_eq!(found, None);
        parts
            .part("b", json!(1), json!(1), Some(|| Ok(7u32)))
            .unwrap();
        let none = None::<fn() -> Result<u32, MiniError>>;
        assert_eq!(parts.part("b", json!(1), json!(1), none).unwrap(), Some(7));
        // A failure leaves nothing.
        let broken = Some(|| Err::<u32, _>(MiniError::other("broken")));
        parts.part("c", json!(1), json!(1), broken).unwrap_err();
        assert!(!folder.path().join("c.json").exists());
    }
}
