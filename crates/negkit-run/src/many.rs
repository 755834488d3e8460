//! Many items at a time, for work that waits for others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::index::Index;
use crate::lock::WorkLock;
use crate::progress::Progress;
use crate::records::{LineIn, RecordFile, whole_lines};
use crate::run::{RECORDS, files, write_whole};
use crate::{Result, RunError, RunFolder, Shard};

const FAILED: &str = "failed";
/// The longest that a record waits to be on the disk; a kill of the process loses none.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled<R> {
    /// It is finished.
    Done(R),
    /// It could not be done now; a later start may try again.
    Failed(String),
}

/// How many items are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Many {
    /// The part of the run.
    pub shard: Shard,
    /// Items at a time.
    pub workers: usize,
    /// Whether items that failed before are tried again.
    pub retry_failed: bool,
    /// The most failures in a row; with one more the work ends.
    pub most_failures_in_row: usize,
}

/// What [`RunFolder::work_many`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkedMany {
    /// Items that were finished now.
    pub done: usize,
    /// Items of the run that are dead letters.
    pub failed: usize,
    /// Items of the run that are neither finished nor dead letters: those of other shards.
    pub left: usize,
}

/// The records and failures of a run, read one at a time.
#[derive(Debug)]
pub struct SettledItems {
    records: Index,
    failures: BTreeMap<usize, String>,
}

impl SettledItems {
    /// The record of the item at `position`, where it is finished.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn record<R: DeserializeOwned>(&self, position: usize) -> Result<Option<R>> {
        self.records.record(position)
    }

    /// Why the item at `position` failed, where it did and is not finished.
    pub fn failure(&self, position: usize) -> Option<&str> {
        self.failures.get(&position).map(String::as_str)
    }

    /// Whether the item at `position` is finished or has failed.
    pub fn holds(&self, position: usize) -> bool {
        self.records.holds(position) || self.failures.contains_key(&position)
    }
}

impl RunFolder {
    /// Does the items of a shard that have no record yet, `workers` at a time and begun in the order
    /// of the plan. Each result is written before it is counted; `note` is what there is to say
    /// beside the progress, such as what was spent.
    ///
    /// # Errors
    /// [`RunError::Failing`] when too many items in a row fail, [`RunError::Locked`] when another
    /// process does the same, [`RunError::DiskFull`]. Whatever was under way is finished and kept.
    pub fn work_many<R>(
        &self,
        options: &Many,
        work: impl Fn(usize, &str) -> Settled<R> + Sync,
        note: impl Fn() -> String,
    ) -> Result<WorkedMany>
    where
        R: Serialize + DeserializeOwned + Send,
    {
        let shard = options.shard;
        let _lock = WorkLock::take(&self.root, shard)?;
        let mut records = RecordFile::open(self.root.join(shard.file(RECORDS, "jsonl")))?;
        let mut failures = RecordFile::open(self.root.join(shard.file(FAILED, "jsonl")))?;
        let before = self.settled()?;
        let own = (0..self.plan.items().len()).filter(|position| shard.holds(*position));
        let own: Vec<usize> = own.collect();
        let open = |position: &usize| {
            let again = options.retry_failed && !before.records.holds(*position);
            again || !before.holds(*position)
        };
        let to_do: Vec<usize> = own.iter().copied().filter(open).collect();
        drop(before);
        let mut progress = Progress::new(self.plan.table(), own.len(), own.len() - to_do.len());
        let workers = options.workers.clamp(1, to_do.len().max(1));
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (results, settled) = sync_channel(2 * workers);
        let mut done = 0;
        let outcome = std::thread::scope(|scope| {
            for _ in 0..workers {
                let results = results.clone();
                let (next, stop, to_do, work) = (&next, &stop, &to_do, &work);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(&position) = to_do.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            return;
                        };
                        let result = work(position, &self.plan.items()[position]);
                        if results.send((position, result)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            let mut outcome = Ok(());
            let (mut in_row, mut synced, mut dirty) = (0, Instant::now(), false);
            loop {
                let received = settled.recv_timeout(SYNC_EVERY);
                if dirty && synced.elapsed() >= SYNC_EVERY {
                    let both = records.sync().and_then(|()| failures.sync());
                    (synced, dirty) = (Instant::now(), false);
                    if let Err(error) = both {
                        stop.store(true, Ordering::Relaxed);
                        outcome = outcome.and(Err(error));
                    }
                }
                let (position, result) = match received {
                    Ok(result) => result,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                let item = &self.plan.items()[position];
                dirty = true;
                let written = match result {
                    Settled::Done(record) => {
                        in_row = 0;
                        done += 1;
                        records.write(item, &record)
                    }
                    Settled::Failed(reason) => {
                        in_row += 1;
                        let written = failures.write(item, &reason);
                        match in_row > options.most_failures_in_row {
                            true => written.and(Err(RunError::Failing { in_row, reason })),
                            false => written,
                        }
                    }
                };
                if let Err(error) = written {
                    stop.store(true, Ordering::Relaxed);
                    // What is under way fails alike; the first reason is the one to tell.
                    outcome = outcome.and(Err(error));
                }
                progress.done(&note());
            }
            outcome
        });
        progress.finish();
        let synced = records.sync().and_then(|()| failures.sync());
        outcome.and(synced)?;
        let now = self.settled()?;
        let left = (0..self.plan.items().len()).filter(|position| !now.holds(*position));
        Ok(WorkedMany {
            done,
            failed: now.failures.len(),
            left: left.count(),
        })
    }

    /// What is settled so far, of all shards.
    ///
    /// # Errors
    /// [`RunError::Conflict`], or when a file cannot be read.
    pub fn settled(&self) -> Result<SettledItems> {
        let records = Index::read(files(&self.root, RECORDS)?, &self.plan)?;
        let mut failures = self.failures()?;
        failures.retain(|position, _| !records.holds(*position));
        Ok(SettledItems { records, failures })
    }

    /// The last failure of each item that has one, finished since or not.
    pub(crate) fn failures(&self) -> Result<BTreeMap<usize, String>> {
        let mut last = BTreeMap::new();
        for path in files(&self.root, FAILED)? {
            for (position, reason) in self.failures_of(path)? {
                last.insert(position, reason);
            }
        }
        Ok(last)
    }

    /// An item fails as often as it is tried, and differently: every line counts, the last the most.
    fn failures_of(&self, path: PathBuf) -> Result<Vec<(usize, String)>> {
        let mut found = Vec::new();
        let text = std::fs::read(&path).map_err(|source| RunError::read(&path, source))?;
        for line in whole_lines(&text).split_inclusive(|byte| *byte == b'\n') {
            let part = LineIn::<String>::parse(&path, found.len() + 1, line)?;
            let Some(position) = self.plan.position(&part.item) else {
                return Err(RunError::Damaged {
                    path,
                    line: found.len() + 1,
                    reason: format!("expected an item of the run, found '{}'", part.item),
                });
            };
            found.push((position, part.record));
        }
        Ok(found)
    }

    /// Replaces the dead letters of the whole run.
    pub(crate) fn write_failures(&self, failures: &BTreeMap<usize, String>) -> Result<()> {
        let path = self.root.join(Shard::WHOLE.file(FAILED, "jsonl"));
        if failures.is_empty() && !path.exists() {
            return Ok(());
        }
        let mut text = String::new();
        for (position, reason) in failures {
            let line = serde_json::json!({
                "item": self.plan.items()[*position],
                "record": reason,
            });
            text.push_str(&format!("{line}\n"));
        }
        write_whole(&path, text.as_bytes())
    }
}
