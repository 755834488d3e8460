//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::want::{ClipSize, ModelKind};

/// Everything that can go wrong between a name and local files.
///
/// No variant holds the access token: messages of the server are cleaned of it, and of the query
/// strings of signed addresses, before they get here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text names nothing.
    #[error("`{text}` names no model: {reason}")]
    Location {
        /// What was written.
        text: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// A single word that is not in the table.
    #[error(
        "`{name}` is neither a path that exists nor a known model. Known: {known}. Or give a hub id (owner/name), a folder or a file"
    )]
    UnknownName {
        /// What was written.
        name: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// A path that is not there.
    #[error("the path {} does not exist (a hub id has the form owner/name)", path.display())]
    PathMissing {
        /// The path.
        path: PathBuf,
    },
    /// A name that exists in several sizes, without one of them.
    #[error("{}", size_message(name, *asked, sizes))]
    Size {
        /// The name or hub id.
        name: String,
        /// The size that was asked for, if any.
        asked: Option<ClipSize>,
        /// The sizes there are.
        sizes: Vec<ClipSize>,
    },
    /// A model of another kind than the caller needs.
    #[error("`{name}` cannot serve as a {wanted}: it is known as a {offers}")]
    Kind {
        /// The name.
        name: String,
        /// What the caller needs.
        wanted: ModelKind,
        /// What the model is.
        offers: String,
    },
    /// A folder or repository that lacks needed files.
    #[error("{place} lacks files that a {wanted} needs: {}{hint}", missing.join("; "))]
    FilesMissing {
        /// The folder or repository.
        place: String,
        /// What the caller needs.
        wanted: ModelKind,
        /// One line for each thing that is missing, with its alternatives.
        missing: Vec<String>,
        /// What may help, or empty.
        hint: String,
    },
    /// A repository without a known layout and with several weight files.
    #[error(
        "{place} has no layout that is known for a {wanted} and several weight files; choose one with owner/name:FILE, or give a size: {}",
        candidates.join(", ")
    )]
    Ambiguous {
        /// The repository.
        place: String,
        /// What the caller needs.
        wanted: ModelKind,
        /// The weight files.
        candidates: Vec<String>,
    },
    /// Needed files are not on this machine and cannot be fetched.
    #[error("{0}")]
    NotHere(Box<Placement>),
    /// The hub wants to know who asks: status 401.
    #[error(
        "{url}: the hub answered 401 ({message}). The repository does not exist, or is private or gated{}",
        if *with_token { "; the token that was sent does not open it" } else { ". Set HF_TOKEN to a token that may read it" }
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// The server's reason.
        message: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The hub refuses: status 403.
    #[error(
        "{url}: the hub answered 403 ({message}). Open the model's page with your account, accept its terms, and check that the token may read gated repositories"
    )]
    Forbidden {
        /// What was asked for.
        url: String,
        /// The server's reason.
        message: String,
    },
    /// The hub does not have it: status 404.
    #[error(
        "{url}: the hub answered 404 ({message}). Check the id, the revision and the file name"
    )]
    NotFound {
        /// What was asked for.
        url: String,
        /// The server's reason.
        message: String,
    },
    /// Any other status that is no success.
    #[error("{url}: the hub answered {status} ({message}){}", attempts_message(*attempts))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's reason.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// No connection, or one that broke.
    #[error("{url}: {message}{}", attempts_message(*attempts))]
    Connection {
        /// What was asked for.
        url: String,
        /// What the connection reported.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An answer that does not follow the hub's protocol.
    #[error("{url}: unusable answer: {message}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file of another size than announced.
    #[error("{url}: {expected} bytes were announced, but the answer has {found}{}. Nothing was kept", if *open_ended { " or more" } else { "" })]
    WrongSize {
        /// What was asked for.
        url: String,
        /// The size in bytes that the hub announced for the file.
        expected: u64,
        /// The size in bytes that the answer has.
        found: u64,
        /// Whether reading stopped at `found` with more to come.
        open_ended: bool,
    },
    /// A download that broke off and could not be continued.
    #[error("{url}: the download broke off after {have} of {} bytes{} ({message}). What came is kept: run it again to continue", expected.map_or("unknown".to_owned(), |n| n.to_string()), attempts_message(*attempts))]
    Interrupted {
        /// What was asked for.
        url: String,
        /// How many bytes are here.
        have: u64,
        /// The announced size in bytes.
        expected: Option<u64>,
        /// What the connection reported.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A file with another content than announced.
    #[error(
        "{url}: the content's {algorithm} is {found}, announced was {expected}. The file was not kept; try again, and distrust the source if it stays so"
    )]
    WrongHash {
        /// What was asked for.
        url: String,
        /// `sha256` or `git blob sha1`.
        algorithm: &'static str,
        /// The announced hash, hexadecimal.
        expected: String,
        /// The content's hash, hexadecimal.
        found: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A setting that cannot be used.
    #[error("{setting}: {message}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The embedded table of models is malformed.
    #[error("the embedded weights/models.json is malformed: {source}")]
    Table {
        /// What the parser said.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the hub could not be reached at all, so that telling where files go by hand helps.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Error::Connection { .. })
    }

    /// The same error after `attempts` tries.
    pub(crate) fn after(mut self, tries: u32) -> Error {
        match &mut self {
            Error::Status { attempts, .. }
            | Error::Connection { attempts, .. }
            | Error::Interrupted { attempts, .. } => *attempts = tries,
            _ => {}
        }
        self
    }
}

/// `result.map_err(at("read", path))`
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

fn attempts_message(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        n => format!(", {n} times"),
    }
}

fn size_message(name: &str, asked: Option<ClipSize>, sizes: &[ClipSize]) -> String {
    let listed: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let listed = listed.join(", ");
    match (asked, sizes.first()) {
        (Some(asked), Some(_)) => {
            format!("`{name}` does not exist in size {asked}; it has {listed}")
        }
        (Some(asked), None) => format!("`{name}` exists in one size only: leave out {asked}"),
        (None, Some(first)) => format!(
            "`{name}` exists in the sizes {listed}: say which, for example {name}:{}",
            first.suffix()
        ),
        (None, None) => format!("`{name}` has no size to choose by"),
    }
}

/// Why files that are needed are not to be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum Why {
    /// `HF_HUB_OFFLINE` is set, or the configuration says so.
    Offline,
    /// The hub cannot be reached.
    Unreachable(Box<Error>),
    /// The model is not published on the hub.
    NotOnTheHub,
}

/// What to put where, when needed files are not on this machine.
///
/// Its `Display` is a text of several lines for a person.
#[derive(Debug)]
pub struct Placement {
    /// Name and hub id.
    pub model: String,
    /// Why they were not fetched.
    pub why: Why,
    /// The page to get them from.
    pub source: String,
    /// A plain folder where they are found by the model's name; `None` for a repository that is
    /// not in the table, whose folder is given by path instead.
    pub folder: Option<PathBuf>,
    /// The folder of the Hugging Face cache, when the model is on the hub.
    pub cache: Option<PathBuf>,
    /// What is needed.
    pub files: Vec<PlacedFile>,
    /// The licence, where it is known.
    pub licence: Option<String>,
}

/// One thing to put in place.
#[derive(Debug)]
pub struct PlacedFile {
    /// The alternatives, best first, each a list of paths that belong together.
    pub any_of: Vec<Vec<String>>,
    /// The size in bytes of the first alternative, where it is known.
    pub bytes: Option<u64>,
    /// What they hold.
    pub what: String,
    /// Whether the name of the first alternative was checked.
    pub verified: bool,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not on this machine, ", self.model)?;
        match &self.why {
            Why::Offline => write!(f, "and the hub may not be asked (HF_HUB_OFFLINE)")?,
            Why::Unreachable(error) => write!(f, "and the hub cannot be reached: {error}")?,
            Why::NotOnTheHub => write!(f, "and it is not published on the hub")?,
        }
        write!(f, ".\nGet these files from {}", self.source)?;
        for file in &self.files {
            let mut names: Vec<String> = file.any_of.iter().map(|all| all.join(" + ")).collect();
            let first = if names.is_empty() {
                String::new()
            } else {
                names.remove(0)
            };
            write!(f, "\n  {first}  ({}", file.what)?;
            match file.bytes {
                Some(bytes) => write!(f, ", about {}", readable(bytes))?,
                None => write!(f, ", size not known")?,
            }
            if !file.verified {
                write!(f, ", name not verified")?;
            }
            write!(f, ")")?;
            if !names.is_empty() {
                write!(f, "  or {}", names.join(" or "))?;
            }
        }
        let sizes: Option<Vec<u64>> = self.files.iter().map(|file| file.bytes).collect();
        if let Some(sizes) = sizes {
            write!(f, "\nTogether about {}.", readable(sizes.iter().sum()))?;
        }
        match &self.licence {
            Some(licence) => write!(f, "\nLicence: {licence}.")?,
            None => write!(f, "\nLicence: see the page.")?,
        }
        write!(f, "\nPut them, under these names, in")?;
        match &self.folder {
            Some(folder) => write!(
                f,
                "\n  {}  (a plain folder, found by the name)",
                folder.display()
            )?,
            None => write!(f, "\n  any folder, and give its path instead of the id")?,
        }
        if let Some(cache) = &self.cache {
            write!(f, "\nor\n  {}  (the Hugging Face cache)", cache.display())?;
        }
        Ok(())
    }
}

/// A size for people: `3.4 GB`, decimal units as model pages use them.
pub(crate) fn readable(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes / (unit / 10);
            return match tenths {
                t if t < 100 && t % 10 != 0 => format!("{}.{} {name}", t / 10, t % 10),
                t => format!("{} {name}", t / 10),
            };
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (5, "5 bytes"),
            (1_486_000, "1.4 MB"),
            (3_440_000_000, "3.4 GB"),
            (605_000_000, "605 MB"),
            (4_000_000_000, "4 GB"),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }
}
