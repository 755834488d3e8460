//! Shards put together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lock::WorkLock;
use crate::records::{Found, add};
use crate::run::{PICTURES, write_whole};
use crate::{Result, RunError, RunFolder, Shard, sources};

/// Puts the records and pictures of several runs with the same settings into the folder `out`, as if
/// one run had made them all. The final files are then to be written from it.
///
/// # Errors
/// [`RunError::Changed`] when settings differ, [`RunError::Incomplete`] when an item has no record
/// in any of them and is no dead letter, [`RunError::Conflict`] when two records of an item differ, or when a file cannot
/// be read or written.
pub fn merge(out: impl Into<PathBuf>, runs: &[PathBuf]) -> Result<RunFolder> {
    let runs = runs
        .iter()
        .map(RunFolder::read)
        .collect::<Result<Vec<_>>>()?;
    let first = runs.first().ok_or(RunError::NoItems)?;
    let plan = first.plan();
    let mut found = Found::new();
    let mut failed = BTreeMap::new();
    for run in &runs {
        plan.check_plan(run.path(), run.plan())?;
        for (position, line) in run.found()? {
            add(plan, &mut found, position, line)?;
        }
        failed.extend(run.failures()?);
    }
    failed.retain(|position, _| !found.contains_key(position));
    let items = plan.items().iter().enumerate();
    let missing: Vec<String> = items
        .filter(|(position, _)| !found.contains_key(position) && !failed.contains_key(position))
        .map(|(_, item)| item.clone())
        .collect();
    if !missing.is_empty() {
        return Err(RunError::Incomplete {
            missing,
            total: plan.items().len(),
        });
    }
    let merged = RunFolder::open(out, plan.clone())?;
    let _lock = WorkLock::take(merged.path(), Shard::WHOLE)?;
    for run in &runs {
        copy_tree(&run.path().join(PICTURES), &merged.path().join(PICTURES))?;
    }
    sources::merge(&runs, &merged)?;
    merged.write_records(&found)?;
    merged.write_failures(&failed)?;
    Ok(merged)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    fs::create_dir_all(to).map_err(|source| RunError::write(to, source))?;
    let cannot_read = |source| RunError::read(from, source);
    for entry in fs::read_dir(from).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else if !entry.file_name().to_string_lossy().starts_with('.') && path != target {
            let bytes = fs::read(&path).map_err(|source| RunError::read(&path, source))?;
            write_whole(&target, &bytes)?;
        }
    }
    Ok(())
}
