//! Reading what a user wrote to name a model.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;
use crate::table::Table;
use crate::want::ClipSize;

/// Endings by which a name is taken for a weight file.
pub(crate) const WEIGHT_ENDINGS: [&str; 5] = [".safetensors", ".ckpt", ".pth", ".pt", ".bin"];

/// Where a model is, as a user names it.
///
/// | written | meaning |
/// |---|---|
/// | `sd-1.4` | a known name |
/// | `negationclip:ViT-L-14` | a known name in a size |
/// | `owner/name`, `owner/name@revision` | a repository on the hub |
/// | `owner/name:unet/config.json`, `owner/name@revision:file` | one file of it |
/// | `./models/clip`, `weights.pth` | a folder or a file on this machine |
///
/// A path that exists wins over every other reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A model of the [`Table`].
    Known {
        /// Its name.
        name: String,
        /// The size after the colon.
        size: Option<ClipSize>,
        /// The revision after the `@`.
        revision: Option<String>,
    },
    /// A repository on the hub.
    Hub {
        /// `owner/name`.
        id: String,
        /// The branch, tag or commit after the `@`.
        revision: Option<String>,
        /// The one file after the colon.
        file: Option<String>,
    },
    /// A folder on this machine.
    Folder(PathBuf),
    /// A file on this machine.
    File(PathBuf),
}

impl Location {
    /// Reads what a user wrote. Looks at the file system, not at the network.
    ///
    /// # Errors
    /// [`Error::PathMissing`] for what looks like a path (it begins with `.`, `/` or `~`, or ends
    /// like a weight file) and does not exist, [`Error::UnknownName`] for a single word that is no
    /// known name, [`Error::Location`] for anything that is none of the forms above.
    pub fn parse(text: &str) -> Result<Location, Error> {
        if text.trim().is_empty() {
            return Err(bad(text, "it is empty"));
        }
        let path = expand_home(text);
        if path.is_dir() {
            return Ok(Location::Folder(path));
        }
        if path.exists() {
            return Ok(Location::File(path));
        }
        if text.starts_with(['.', '/', '~']) || text.contains('\\') {
            return Err(Error::PathMissing { path });
        }
        if let Some(known) = parse_known(text, &Table::embedded()?)? {
            return Ok(known);
        }
        let is_id_with_file = text
            .split_once(':')
            .is_some_and(|(id, _)| id.matches('/').count() == 1);
        if has_weight_ending(text) && !is_id_with_file {
            return Err(Error::PathMissing { path });
        }
        parse_hub(text)
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Location, Error> {
        Location::parse(text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Known {
                name,
                size,
                revision,
            } => {
                f.write_str(name)?;
                if let Some(size) = size {
                    write!(f, ":{}", size.suffix())?;
                }
                write_revision(f, revision.as_deref())
            }
            Location::Hub { id, revision, file } => {
                f.write_str(id)?;
                write_revision(f, revision.as_deref())?;
                match file {
                    Some(file) => write!(f, ":{file}"),
                    None => Ok(()),
                }
            }
            Location::Folder(path) | Location::File(path) => write!(f, "{}", path.display()),
        }
    }
}

fn write_revision(f: &mut fmt::Formatter<'_>, revision: Option<&str>) -> fmt::Result {
    match revision {
        Some(revision) => write!(f, "@{revision}"),
        None => Ok(()),
    }
}

fn bad(text: &str, reason: &str) -> Error {
    Error::Location {
        text: text.to_owned(),
        reason: reason.to_owned(),
    }
}

fn expand_home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

pub(crate) fn has_weight_ending(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WEIGHT_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// `name`, `name:size`, `name@revision`, `name:size@revision`; `None` when the first word is not a
/// known name. A size may itself hold an `@` (`ViT-L/14@336px`), so it is tried whole first.
fn parse_known(text: &str, table: &Table) -> Result<Option<Location>, Error> {
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !table.models.iter().any(|m| m.name == name) {
        return Ok(None);
    }
    let known = |size, revision: Option<&str>| {
        Ok(Some(Location::Known {
            name: name.to_owned(),
            size,
            revision: revision.map(str::to_owned),
        }))
    };
    if rest.is_empty() {
        return known(None, None);
    }
    if let Some(revision) = rest.strip_prefix('@') {
        check_revision(text, revision)?;
        return known(None, Some(revision));
    }
    let rest = rest.trim_start_matches(':');
    if let Some(size) = ClipSize::parse(rest) {
        return known(Some(size), None);
    }
    if let Some((size, revision)) = rest.rsplit_once('@')
        && let Some(size) = ClipSize::parse(size)
    {
        check_revision(text, revision)?;
        return known(Some(size), Some(revision));
    }
    Err(bad(
        text,
        &format!("after `{name}:` a CLIP size is expected, such as ViT-B-32, ViT-B-16 or ViT-L-14"),
    ))
}

fn parse_hub(text: &str) -> Result<Location, Error> {
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (id, rest) = text.split_at(end);
    if !id.contains('/') {
        return Err(Error::UnknownName {
            name: id.to_owned(),
            known: Table::embedded()?.names().join(", "),
        });
    }
    check_id(text, id)?;
    let (revision, file) = match rest.strip_prefix(':') {
        Some(rest) => split_file_revision(rest),
        None => match rest.strip_prefix('@') {
            Some(rest) => match rest.split_once(':') {
                Some((revision, file)) => (Some(revision), Some(file)),
                None => (Some(rest), None),
            },
            None => (None, None),
        },
    };
    if let Some(revision) = revision {
        check_revision(text, revision)?;
    }
    if let Some(file) = file
        && !is_safe_relative(file)
    {
        return Err(bad(
            text,
            "after the colon the path of a file within the repository is expected",
        ));
    }
    Ok(Location::Hub {
        id: id.to_owned(),
        revision: revision.map(str::to_owned),
        file: file.map(str::to_owned),
    })
}

/// `file@revision`, where the file's own name may hold an `@`: only what follows a file ending is
/// a revision.
fn split_file_revision(rest: &str) -> (Option<&str>, Option<&str>) {
    for (at, _) in rest.match_indices('@') {
        let (file, revision) = (&rest[..at], &rest[at + 1..]);
        if has_weight_ending(file) || file.ends_with(".json") || file.ends_with(".txt") {
            return (Some(revision), Some(file));
        }
    }
    (None, Some(rest))
}

fn check_id(text: &str, id: &str) -> Result<(), Error> {
    let part_ok = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    let parts: Vec<&str> = id.split('/').collect();
    if parts.len() == 2 && parts.iter().all(|part| part_ok(part)) {
        return Ok(());
    }
    Err(bad(
        text,
        "it is no path that exists here, no known name, and no hub id of the form owner/name",
    ))
}

fn check_revision(text: &str, revision: &str) -> Result<(), Error> {
    if is_safe_relative(revision) {
        return Ok(());
    }
    Err(bad(
        text,
        "after the @ the name of a branch, a tag or a commit is expected",
    ))
}

/// Whether a path from a user or a server stays below the folder that it is joined to.
pub(crate) fn is_safe_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0', ':'])
        && !path.split('/').any(|part| part.is_empty() || part == ".")
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn known(name: &str, size: Option<ClipSize>, revision: Option<&str>) -> Location {
        Location::Known {
            name: name.to_owned(),
            size,
            revision: revision.map(str::to_owned),
        }
    }

    fn hub(id: &str, revision: Option<&str>, file: Option<&str>) -> Location {
        Location::Hub {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        }
    }

    #[test]
    fn every_known_name_is_read() {
        for name in [
            "stock",
            "negationclip",
            "con-clip",
            "sd-1.4",
            "sd-1.5",
            "clipseg-rd64",
            "clipseg-rd64-refined",
            "clipseg-rd16",
        ] {
            assert_eq!(Location::parse(name).unwrap(), known(name, None, None));
        }
    }

    #[test]
    fn sizes_and_revisions_of_known_names() {
        use ClipSize::*;
        for (text, size, revision) in [
            ("stock:ViT-B-16", Some(VitB16), None),
            ("stock:ViT-L/14", Some(VitL14), None),
            ("stock:ViT-L/14@336px", Some(VitL14At336), None),
            ("stock:ViT-L-14@refs/pr/3", Some(VitL14), Some("refs/pr/3")),
            ("stock@v1", None, Some("v1")),
        ] {
            assert_eq!(
                Location::parse(text).unwrap(),
                known("stock", size, revision),
                "{text}"
            );
        }
        let err = Location::parse("negationclip:ViT-H-14").unwrap_err();
        assert!(err.to_string().contains("a CLIP size is expected"), "{err}");
    }

    #[test]
    fn hub_ids_with_files_and_revisions() {
        for (text, id, revision, file) in [
            ("openai/clip", "openai/clip", None, None),
            ("a/b@main", "a/b", Some("main"), None),
            ("a/b@refs/pr/1", "a/b", Some("refs/pr/1"), None),
            ("a/b:x.pth", "a/b", None, Some("x.pth")),
            (
                "a/b:unet/x.safetensors@v2",
                "a/b",
                Some("v2"),
                Some("unet/x.safetensors"),
            ),
            (
                "a/b@v2:unet/x.safetensors",
                "a/b",
                Some("v2"),
                Some("unet/x.safetensors"),
            ),
            (
                "a/b:ViT-L14@336px.pth",
                "a/b",
                None,
                Some("ViT-L14@336px.pth"),
            ),
            (
                "a/b:ViT-L14@336px.pth@v2",
                "a/b",
                Some("v2"),
                Some("ViT-L14@336px.pth"),
            ),
        ] {
            assert_eq!(
                Location::parse(text).unwrap(),
                hub(id, revision, file),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_location_prints_reads_back() {
        for text in [
            "stock:ViT-L-14-336px",
            "a/b@v2:unet/x.bin",
            "sd-1.4@fp16",
            "a/b",
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_string(), text);
            assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
        }
    }

    #[test]
    fn what_looks_like_a_path_and_is_missing_says_so() {
        for text in [
            "./nothing",
            "/nothing/here",
            "~/nothing-here",
            "nothing.pth",
            "a/nothing.safetensors",
            "nothing.ckpt",
        ] {
            let err = Location::parse(text).unwrap_err();
            assert!(matches!(err, Error::PathMissing { .. }), "{text}: {err}");
            assert!(err.to_string().contains("does not exist"), "{err}");
        }
    }

    #[test]
    fn an_existing_path_wins_over_a_hub_id() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.pth");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(
            Location::parse(dir.path().to_str().unwrap()).unwrap(),
            Location::Folder(dir.path().to_owned())
        );
        assert_eq!(
            Location::parse(file.to_str().unwrap()).unwrap(),
            Location::File(file)
        );
        // `src/lib.rs` has the form of a hub id and exists next to this crate's manifest.
        assert_eq!(
            Location::parse("src/lib.rs").unwrap(),
            Location::File(PathBuf::from("src/lib.rs"))
        );
    }

    #[test]
    fn other_words_are_refused_with_the_known_names() {
        let err = Location::parse("sd-9").unwrap_err();
        assert!(matches!(err, Error::UnknownName { .. }));
        assert!(err.to_string().contains("clipseg-rd64-refined"), "{err}");
        for text in [
            "",
            " ",
            "a/b/c",
            "a/..",
            "a//b",
            "a/b@",
            "a/b:",
            "a/b:../x",
            "a/b:/etc/passwd",
            "a/b@../x",
            "a/b--c",
        ] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}
