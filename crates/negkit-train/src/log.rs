//! The numbers of a training as CSV.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::atomic;
use crate::checkpoint::read;

/// A CSV file whose first column is the step, in rising order. Rows are appended in one write each.
pub(crate) struct CsvLog {
    path: PathBuf,
    file: File,
    header: Option<String>,
}

impl CsvLog {
    /// Opens `path` to append to, without the rows after `step` and without a row that was cut off.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let text = read(path)?.unwrap_or_default();
        let text = String::from_utf8(text).map_err(|e| TrainError::damaged(path, e))?;
        let mut header = None;
        let mut kept = String::new();
        for line in text.split_inclusive('\n').filter(|l| l.ends_with('\n')) {
            match header {
                None => header = Some(line.trim_end().to_owned()),
                Some(_) if row_step(line).is_none_or(|row| row > step) => break,
                Some(_) => {}
            }
            kept.push_str(line);
        }
        if step == 0 {
            header = None;
            kept.clear();
        }
        atomic::write(path, kept.as_bytes())?;
        let file = File::options()
            .append(true)
            .open(path)
            .map_err(TrainError::io(path, "open"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
        })
    }

    /// Appends the row of `step`. All rows have the same columns.
    pub(crate) fn append(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), TrainError> {
        let names = values.iter().map(|(name, _)| *name);
        let header = std::iter::once("step").chain(names).collect::<Vec<_>>();
        let header = header.join(",");
        let mut row = String::new();
        match &self.header {
            None => row = format!("{header}\n"),
            Some(before) if *before != header => {
                return Err(TrainError::Task(format!(
                    "gives the numbers {header} at step {step}, but {} has {before}",
                    self.path.display()
                )));
            }
            Some(_) => {}
        }
        row.push_str(&step.to_string());
        for (_, value) in values {
            row.push_str(&format!(",{value}"));
        }
        row.push('\n');
        self.header = Some(header);
        self.file
            .write_all(row.as_bytes())
            .map_err(TrainError::io(&self.path, "write"))
    }
}

/// The columns of a log, by name, `step` first. What is no number becomes NaN.
pub(crate) fn columns(path: &Path) -> Result<Vec<(String, Vec<f64>)>, TrainError> {
    let text = read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let mut columns: Vec<(String, Vec<f64>)> = header
        .split(',')
        .map(|name| (name.to_owned(), Vec::new()))
        .collect();
    for line in lines {
        for ((_, values), field) in columns.iter_mut().zip(line.split(',')) {
            values.push(field.parse().unwrap_or(f64::NAN));
        }
    }
    Ok(columns)
}

fn row_step(line: &str) -> Option<u64> {
    line.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_is_cut_back_to_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut log = CsvLog::open(&path, 0).unwrap();
        for step in 1..=5 {
            log.append(step, &[("loss", step as f64 / 2.)]).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // As a kill in the middle of a write leaves it.
        std::fs::write(&path, format!("{text}6,3.")).unwrap();
        let mut log = CsvLog::open(&path, 3).unwrap();
        log.append(4, &[("loss", 7.)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "step,loss\n1,0.5\n2,1\n3,1.5\n4,7\n");
        assert_eq!(columns(&path).unwrap()[1].1, [0.5, 1., 1.5, 7.]);
        let other = log.append(5, &[("accuracy", 1.)]).unwrap_err().to_string();
        assert!(
            other.contains("accuracy") && other.contains("step,loss"),
            "{other}"
        );
    }
}
