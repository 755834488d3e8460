//! A run and its folder.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::RgbImage;
use negkit_image::{is_partial, write_atomic, write_png};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lock::{self, WorkLock};
use crate::progress::Progress;
use crate::records::{Found, RecordFile, collect};
use crate::{Plan, Result, RunError, Shard};

const HEAD: &str = "run.toml";
const ITEMS: &str = "items.txt";
pub(crate) const RECORDS: &str = "records";
const TIMES: &str = "times";
/// The folder of the pictures within that of the run.
pub(crate) const PICTURES: &str = "pictures";

/// The folder of a run.
///
/// | file | what it is |
/// |---|---|
/// | `run.toml` | everything that decides the result; `made_by` tells of the checkout and decides nothing |
/// | `items.txt` | the keys of the items, in the order of work |
/// | `records.jsonl` | one line an item that is finished; `records-2-of-4.jsonl` for a shard |
/// | `failed.jsonl` | dead letters of [`RunFolder::work_many`], with their reasons |
/// | `times.jsonl` | how long each item took: for estimates, in no result |
/// | `pictures/` | what the items made |
/// | `sources.jsonl` | where the pictures are that the items looked at, in no result |
/// | `summary.json`, `summary.csv`, `table.md` | the results, when all items are finished |
#[derive(Debug)]
pub struct RunFolder {
    pub(crate) root: PathBuf,
    pub(crate) plan: Plan,
}

/// What [`RunFolder::work`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worked {
    /// Items that were done now.
    pub done: usize,
    /// Items of the run without a record: those of other shards.
    pub left: usize,
}

/// How far a run is, and how fast it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Items of the shard that is asked about.
    pub items: usize,
    /// Of these, those that are finished.
    pub done: usize,
    /// How long an item took on average so far, where one is finished.
    pub each: Option<Duration>,
}

/// The results of a run: what its final files hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Finals {
    /// `summary.json`: every number.
    pub summary: serde_json::Value,
    /// `summary.csv`: the numbers as one table with a line of titles.
    pub csv: String,
    /// `table.md`: the paper's table, to be read.
    pub table: String,
}

#[derive(Serialize, Deserialize)]
struct TimeLine {
    item: String,
    seconds: f64,
}

impl RunFolder {
    /// Makes the folder, or opens that of a run with the same plan.
    ///
    /// # Errors
    /// [`RunError::Changed`] with every setting that differs, [`RunError::NotARun`], or when the
    /// folder cannot be written.
    pub fn open(root: impl Into<PathBuf>, plan: Plan) -> Result<Self> {
        let root = root.into();
        check_usable(&root)?;
        fs::create_dir_all(&root).map_err(|source| RunError::write(&root, source))?;
        // Shards start at the same moment: the first one sets up.
        let _setup = lock::setup(&root)?;
        let head = root.join(HEAD);
        match read(&head)? {
            Some(text) => plan.check_same(&root, &text)?,
            None => write_whole(&head, plan.to_toml()?.as_bytes())?,
        }
        let (items, text) = (root.join(ITEMS), plan.items_text());
        if read(&items)?.as_deref() != Some(&text) {
            write_whole(&items, text.as_bytes())?;
        }
        Ok(Self { root, plan })
    }

    /// Opens the folder of a run that was begun, to look at it.
    ///
    /// # Errors
    /// [`RunError::NotARun`] when there is none, or when its files cannot be read.
    pub fn read(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let (head, items) = (root.join(HEAD), root.join(ITEMS));
        let (Some(head_text), Some(items_text)) = (read(&head)?, read(&items)?) else {
            return Err(RunError::NotARun { path: root });
        };
        let plan = Plan::parse((&head, &head_text), (&items, &items_text))?;
        Ok(Self { root, plan })
    }

    /// How far the run of `plan` in the folder `root` is; nothing is made or changed.
    ///
    /// # Errors
    /// As [`RunFolder::open`].
    pub fn outlook(root: &Path, plan: &Plan, shard: Shard) -> Result<Outlook> {
        check_usable(root)?;
        if let Some(text) = read(&root.join(HEAD))? {
            plan.check_same(root, &text)?;
        }
        let found = found(root, plan)?;
        let own = |position: &usize| shard.holds(*position);
        Ok(Outlook {
            items: (0..plan.items().len()).filter(own).count(),
            done: found.keys().copied().filter(own).count(),
            each: mean_time(root)?,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What the run does.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does every item of a shard that has no record yet, in the order of the plan. `work` is given
    /// the item's position and key, and what it returns is the item's record: it is on the disk
    /// before the next item begins. Numbers in a record must be finite; an optional number is to be
    /// checked by `work`, for JSON writes NaN as it writes nothing.
    ///
    /// # Errors
    /// [`RunError::Work`] with the item when the work fails, [`RunError::Locked`] when another
    /// process does the same, [`RunError::Record`] for a record that is not finite,
    /// [`RunError::DiskFull`]; all that was finished is kept.
    pub fn work<R, E>(
        &self,
        shard: Shard,
        mut work: impl FnMut(usize, &str) -> std::result::Result<R, E>,
    ) -> Result<Worked>
    where
        R: Serialize + DeserializeOwned,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let _lock = WorkLock::take(&self.root, shard)?;
        if shard.is_whole() {
            // Nobody else writes here now.
            sweep(&self.root, false)?;
            sweep(&self.root.join(PICTURES), true)?;
        }
        let mut records = RecordFile::open(self.root.join(shard.file(RECORDS, "jsonl")))?;
        let found = found(&self.root, &self.plan)?;
        for line in found.values() {
            line.read::<R>()?;
        }
        let own: Vec<usize> = (0..self.plan.items().len())
            .filter(|position| shard.holds(*position))
            .collect();
        let to_do = || own.iter().filter(|position| !found.contains_key(position));
        let mut done = 0;
        let before = own.len() - to_do().count();
        let mut progress = Progress::new(self.plan.table(), own.len(), before);
        for &position in to_do() {
            let item = &self.plan.items()[position];
            let begun = Instant::now();
            let record = work(position, item).map_err(|source| RunError::Work {
                item: item.clone(),
                source: source.into(),
            })?;
            records.append(item, &record)?;
            self.note_time(shard, item, begun.elapsed());
            progress.done(item);
            done += 1;
        }
        progress.finish();
        Ok(Worked {
            done,
            left: self.missing()?.len(),
        })
    }

    /// The records of all items, in the order of the plan.
    ///
    /// # Errors
    /// [`RunError::Incomplete`] with the items that have none, [`RunError::Conflict`], or when a
    /// file of records cannot be read.
    pub fn records<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        let found = self.complete()?;
        found.values().map(|line| line.read()).collect()
    }

    /// The records that there are so far, each with its item's key, in the order of the plan.
    ///
    /// # Errors
    /// [`RunError::Conflict`], or when a file of records cannot be read.
    pub fn records_so_far<R: DeserializeOwned>(&self) -> Result<Vec<(String, R)>> {
        let found = self.found()?;
        let lines = found.iter();
        lines
            .map(|(position, line)| Ok((self.plan.items()[*position].clone(), line.read()?)))
            .collect()
    }

    /// Writes a picture under a name such as `neg/0007-conclip-seed3.png` into the folder of
    /// pictures, whole or not at all, and returns its path within the run's folder, for the record.
    ///
    /// # Errors
    /// When the disk is full or the file cannot be written.
    pub fn write_picture(
        &self,
        name: &str,
        picture: &RgbImage,
        text: &[(&str, &str)],
    ) -> Result<String> {
        let file = format!("{PICTURES}/{name}");
        let path = self.root.join(&file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| RunError::write(folder, source))?;
        }
        write_png(&path, picture, text).map_err(|error| RunError::write_whole(&path, error))?;
        Ok(file)
    }

    /// Writes `summary.json`, `summary.csv` and `table.md`, each whole or not at all.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_finals(&self, finals: &Finals) -> Result<()> {
        let Finals {
            summary,
            csv,
            table,
        } = finals;
        let path = self.root.join("summary.json");
        let mut json = serde_json::to_string_pretty(summary)
            .map_err(|error| RunError::write(&path, error.into()))?;
        json.push('\n');
        write_whole(&path, json.as_bytes())?;
        write_whole(&self.root.join("summary.csv"), csv.as_bytes())?;
        write_whole(&self.root.join("table.md"), table.as_bytes())
    }

    /// The lines of the records of all items.
    pub(crate) fn complete(&self) -> Result<Found> {
        let missing = self.missing()?;
        if missing.is_empty() {
            return self.found();
        }
        Err(RunError::Incomplete {
            missing,
            total: self.plan.items().len(),
        })
    }

    /// The lines of the records that are there.
    pub(crate) fn found(&self) -> Result<Found> {
        found(&self.root, &self.plan)
    }

    fn missing(&self) -> Result<Vec<String>> {
        let found = self.found()?;
        let items = self.plan.items().iter().enumerate();
        let missing = items.filter(|(position, _)| !found.contains_key(position));
        Ok(missing.map(|(_, item)| item.clone()).collect())
    }

    /// Replaces the records of the whole run.
    pub(crate) fn write_records(&self, found: &Found) -> Result<()> {
        let lines = found.values().map(|line| format!("{}\n", line.text));
        let path = self.root.join(Shard::WHOLE.file(RECORDS, "jsonl"));
        write_whole(&path, lines.collect::<String>().as_bytes())
    }

    /// A time that cannot be written is no reason to end a run: no result depends on it.
    fn note_time(&self, shard: Shard, item: &str, took: Duration) {
        let line = TimeLine {
            item: item.to_owned(),
            seconds: took.as_secs_f64(),
        };
        let path = self.root.join(shard.file(TIMES, "jsonl"));
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let (Ok(mut file), Ok(mut line)) = (file, serde_json::to_string(&line)) {
            line.push('\n');
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// Takes away the halves of files that a killed run left, where the folder is there.
fn sweep(folder: &Path, and_below: bool) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RunError::read(folder, source)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| RunError::read(folder, source))?;
        let (path, name) = (entry.path(), entry.file_name());
        if is_partial(&name.to_string_lossy()) {
            fs::remove_file(&path).map_err(|source| RunError::write(&path, source))?;
        } else if and_below && path.is_dir() {
            sweep(&path, true)?;
        }
    }
    Ok(())
}

/// Refuses a folder that holds something else than a run.
fn check_usable(root: &Path) -> Result<()> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RunError::read(root, source)),
    };
    let names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // What a run that was killed at its very beginning leaves.
    let own = |name: &str| name.starts_with('.') || name == PICTURES;
    if names.iter().any(|name| name == HEAD) || names.iter().all(|name| own(name)) {
        return Ok(());
    }
    Err(RunError::NotARun {
        path: root.to_owned(),
    })
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunError::read(path, source)),
    }
}

pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, bytes).map_err(|error| RunError::write_whole(path, error))
}

/// The files of a run of that name, those of shards too, in the order of their names.
pub(crate) fn files(root: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(RunError::read(root, source)),
    };
    let own = |name: &str| {
        let rest = name.strip_prefix(stem);
        rest.is_some_and(|rest| rest.ends_with(".jsonl") && (rest.starts_with(['-', '.'])))
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| RunError::read(root, source))?;
        if entry.file_name().to_str().is_some_and(own) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn found(root: &Path, plan: &Plan) -> Result<Found> {
    let mut found = Found::new();
    for path in files(root, RECORDS)? {
        collect(&path, plan, &mut found)?;
    }
    Ok(found)
}

/// The mean over all items whose time is known, each once.
fn mean_time(root: &Path) -> Result<Option<Duration>> {
    let mut seen = HashSet::new();
    let mut sum = 0.;
    for path in files(root, TIMES)? {
        let bytes = fs::read(&path).map_err(|source| RunError::read(&path, source))?;
        for line in bytes.split(|byte| *byte == b'\n') {
            // A line that was not finished tells nothing.
            let Ok(line) = serde_json::from_slice::<TimeLine>(line) else {
                continue;
            };
            if seen.insert(line.item) {
                sum += line.seconds;
            }
        }
    }
    let mean = sum / seen.len() as f64;
    Ok(Duration::try_from_secs_f64(mean).ok())
}
