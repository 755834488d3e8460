//! The encoders that are measured, and where each training of them is.

use std::path::Path;
use std::sync::Arc;

use negkit::mini::{self, ModelChoice};
use negkit::{ClipSize, Models, hub::ModelKind, is_own_encoder};
use negkit_benchmarks::{ImageTower, TextTower};

use crate::{EvalError, Result};

/// An encoder: a name, and its trainings with different seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderSpec {
    /// What the table calls it.
    pub name: String,
    /// What to open for each training, as everywhere: a known name, a hub id, a folder or a file.
    pub seeds: Vec<String>,
}

/// Reads encoders as they are written: `conclip`, `mine=weights.pth`, the same name several times for
/// several trainings (`p1=a p1=b`), or a path with one `*` for all that there are
/// (`p1=out/p1/*/export`).
///
/// # Errors
/// When a name or what follows it is empty, or nothing is found for a `*`.
pub fn parse_encoders(written: &[String]) -> Result<Vec<EncoderSpec>> {
    let mut all: Vec<EncoderSpec> = Vec::new();
    for text in written {
        let (name, spec) = match text.split_once('=') {
            Some((name, spec)) => (name.trim(), spec.trim()),
            None => (text.as_str(), text.as_str()),
        };
        if name.is_empty() || spec.is_empty() || name.contains(char::is_control) {
            return Err(EvalError::Encoders(format!(
                "{text:?} is no encoder: expected NAME, or NAME=WHAT with a name, a hub id, a folder or \
                 a file"
            )));
        }
        let seeds = match spec.contains('*') {
            true => expand(spec)?,
            false => vec![spec.to_owned()],
        };
        match all.iter_mut().find(|known| known.name == name) {
            Some(known) => known.seeds.extend(seeds),
            None => all.push(EncoderSpec {
                name: name.to_owned(),
                seeds,
            }),
        }
    }
    if all.is_empty() {
        return Err(EvalError::Encoders(
            "there is no text encoder to measure: expected at least one".to_owned(),
        ));
    }
    Ok(all)
}

/// The paths that a pattern with one `*` stands for, by the length and then the letters of what stands
/// in its place: 2 comes before 10.
fn expand(pattern: &str) -> Result<Vec<String>> {
    let nothing = |reason: String| {
        EvalError::Encoders(format!(
            "'{pattern}': {reason}; expected a path with one * in it"
        ))
    };
    if pattern.matches('*').count() != 1 {
        return Err(nothing("more than one *".to_owned()));
    }
    let parts: Vec<&str> = pattern.split('/').collect();
    let place = parts
        .iter()
        .position(|part| part.contains('*'))
        .unwrap_or(0);
    let (before, after) = parts[place].split_once('*').unwrap_or_default();
    let folder = match place {
        0 => ".".to_owned(),
        1 if parts[0].is_empty() => "/".to_owned(),
        _ => parts[..place].join("/"),
    };
    let entries =
        std::fs::read_dir(&folder).map_err(|error| nothing(format!("{folder}: {error}")))?;
    let mut found: Vec<(usize, String)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let fits = name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after);
        let mut path = vec![folder.clone(), name.clone()];
        path.extend(parts[place + 1..].iter().map(|part| (*part).to_owned()));
        let path = path.join("/");
        if fits && !name.starts_with('.') && Path::new(&path).exists() {
            found.push((name.len(), path));
        }
    }
    if found.is_empty() {
        return Err(nothing("nothing is there".to_owned()));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The CLIP that sees the pictures, and the encoders of its text side.
pub struct EncoderBench<'m> {
    models: &'m Models,
    chosen: ModelChoice,
    size: ClipSize,
    vision: Arc<ImageTower>,
}

/// One training of an encoder, opened.
pub(super) struct Opened {
    pub(super) text: TextTower,
    pub(super) vision: Arc<ImageTower>,
}

impl<'m> EncoderBench<'m> {
    /// Opens the CLIP that is `named`, or the small one. `size` is the one to take of families.
    ///
    /// # Errors
    /// When it cannot be found or read, or has no vision tower.
    pub fn open(models: &'m Models, named: Option<&str>, size: ClipSize) -> Result<Self> {
        let chosen = models.choose(named, mini::CLIP)?;
        let files = models.clip_files(chosen.spec(), ModelKind::Clip, size)?;
        let vision = Arc::new(ImageTower::from_files(&files, models.compute())?);
        Ok(Self {
            models,
            chosen,
            size,
            vision,
        })
    }

    /// The models.
    pub(super) fn models(&self) -> &Models {
        self.models
    }

    /// What the CLIP is called.
    pub fn name(&self) -> &str {
        self.chosen.name()
    }

    /// The size that is taken of families; none for the small CLIP.
    pub fn size(&self) -> Option<ClipSize> {
        self.chosen.mini().is_none().then_some(self.size)
    }

    /// The vision tower.
    pub(super) fn vision(&self) -> &Arc<ImageTower> {
        &self.vision
    }

    /// Opens one training of an encoder. It sees with its own vision tower where its files hold one,
    /// else with that of the CLIP.
    pub(super) fn encoder(&self, name: &str, spec: &str) -> Result<Opened> {
        let compute = self.models.compute();
        let files = if is_own_encoder(spec) {
            self.models
                .clip_files(self.chosen.spec(), ModelKind::Clip, self.size)?
        } else {
            let spec = self.chosen.encoder(spec)?;
            self.models
                .clip_files(&spec, ModelKind::TextEncoder, self.size)?
        };
        let text = TextTower::from_files(&files, name, compute)?;
        let vision = match ImageTower::is_in(&files) && !is_own_encoder(spec) {
            true => {
                let own = ImageTower::from_files(&files, compute)?;
                match own.hash() == self.vision.hash() {
                    true => self.vision.clone(),
                    false => Arc::new(own),
                }
            }
            false => self.vision.clone(),
        };
        if text.width() != vision.width() {
            return Err(negkit_benchmarks::BenchmarkError::Width {
                name: name.to_owned(),
                expected: vision.width(),
                found: text.width(),
            }
            .into());
        }
        Ok(Opened { text, vision })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn encoders_of_one_name_are_trainings_of_one() {
        let folder = tempfile::tempdir().unwrap();
        for seed in ["1", "2", "10"] {
            std::fs::create_dir_all(folder.path().join("p1").join(seed).join("export")).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("p1").join("unfinished")).unwrap();
        let root = folder.path().display().to_string();
        let written = [
            "stock".to_owned(),
            format!("p1={root}/p1/*/export"),
            "p2=a.pth".to_owned(),
            "p2=b.pth".to_owned(),
        ];
        let found = parse_encoders(&written).unwrap();
        let names: Vec<&str> = found.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["stock", "p1", "p2"]);
        assert_eq!(found[0].seeds, ["stock"]);
        let expected = ["1", "2", "10"].map(|seed| format!("{root}/p1/{seed}/export"));
        assert_eq!(found[1].seeds, expected);
        assert_eq!(found[2].seeds, ["a.pth", "b.pth"]);
        for bad in ["", "=a", "a=", "p=/nowhere/*/x", "p=/*/*"] {
            assert!(parse_encoders(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(parse_encoders(&[]).is_err());
    }
}
