//! The models that are known by name, read from `weights/models.json`.

use serde::Deserialize;

use crate::error::Error;
use crate::want::{ClipSize, ModelKind, Variant};

const TABLE: &str = include_str!("../../../weights/models.json");

/// The table of known models and of the layouts that unknown repositories are matched with.
///
/// It is data so that a new model is a new entry: `weights/README.md` explains every field.
#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    /// Known models. A name that exists in several sizes has one entry a size.
    pub models: Vec<KnownModel>,
    /// Layouts of repositories that are not in the table, in the order in which they are tried.
    pub(crate) layouts: Vec<Layout>,
}

/// One known model in one size.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownModel {
    /// The name that a user gives.
    pub name: String,
    /// The CLIP size, where the name exists in several.
    pub size: Option<ClipSize>,
    /// The hub id, `None` when it is not published there.
    pub id: Option<String>,
    /// The branch or tag to take from the hub.
    pub revision: Option<String>,
    /// The commit that `revision` is pinned to, `None` when not pinned.
    pub commit: Option<String>,
    /// The folder below the weights folder in which a copy is looked for.
    pub folder: String,
    /// What it is, in a sentence.
    pub what: String,
    /// The licence of the weights.
    pub licence: Licence,
    /// The page to get it from.
    pub source: String,
    /// How the file names and sizes of this entry were checked.
    pub checked: String,
    /// The files it consists of.
    pub files: Vec<FileGroup>,
}

/// The licence of a model's weights.
#[derive(Debug, Clone, Deserialize)]
pub struct Licence {
    /// Its name, or what is known of it.
    pub name: String,
    /// Where it is stated.
    pub url: String,
    /// Whether the page of the weights themselves was seen to state it.
    pub verified: bool,
}

/// One thing that a model needs, and the files that can provide it.
#[derive(Debug, Clone, Deserialize)]
pub struct FileGroup {
    /// The kinds of use that need it.
    #[serde(rename = "for")]
    pub kinds: Vec<ModelKind>,
    /// What the files hold.
    pub what: String,
    /// Whether the model works without.
    #[serde(default)]
    pub optional: bool,
    /// The alternatives, best first.
    pub any_of: Vec<Alternative>,
}

/// Files that together provide what a [`FileGroup`] needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Alternative {
    /// Paths within the repository.
    pub files: Vec<String>,
    /// Their approximate size together, in bytes.
    pub bytes: Option<u64>,
    /// The numeric format of the weights.
    #[serde(default)]
    pub variant: Variant,
    /// `false` when the file names are an assumption. Then a file whose name has the same letters
    /// and digits is accepted too.
    #[serde(default = "yes")]
    pub verified: bool,
}

fn yes() -> bool {
    true
}

/// Files of a kind of repository, recognised by one of its files.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Layout {
    pub marker: String,
    pub what: String,
    pub files: Vec<FileGroup>,
}

impl Table {
    /// The table that the crate was built with.
    ///
    /// # Errors
    /// [`Error::Table`] when `weights/models.json` is not of the expected form, which a test of
    /// this crate rules out.
    pub fn embedded() -> Result<Table, Error> {
        serde_json::from_str(TABLE).map_err(|source| Error::Table { source })
    }

    /// The known names, each once, in the table's order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for model in &self.models {
            if !names.contains(&model.name.as_str()) {
                names.push(&model.name);
            }
        }
        names
    }

    /// The entry of `name` in the size that the user asked for, else the one the engine prefers.
    ///
    /// # Errors
    /// [`Error::UnknownName`], or [`Error::Size`] when the name exists in several sizes and none
    /// was given, or not in the one that was.
    pub fn find(
        &self,
        name: &str,
        asked: Option<ClipSize>,
        preferred: Option<ClipSize>,
    ) -> Result<&KnownModel, Error> {
        let entries = self.models.iter().filter(|m| m.name == name);
        pick_size(name, entries.collect(), asked, preferred)?.ok_or_else(|| Error::UnknownName {
            name: name.to_owned(),
            known: self.names().join(", "),
        })
    }

    /// The entry with hub id `id`, in the preferred size where there are several; `None` when the
    /// id is not in the table.
    pub(crate) fn find_id(
        &self,
        id: &str,
        preferred: Option<ClipSize>,
    ) -> Result<Option<&KnownModel>, Error> {
        let entries = self
            .models
            .iter()
            .filter(|m| m.id.as_deref().is_some_and(|i| i.eq_ignore_ascii_case(id)));
        pick_size(id, entries.collect(), None, preferred)
    }
}

fn pick_size<'a>(
    name: &str,
    entries: Vec<&'a KnownModel>,
    asked: Option<ClipSize>,
    preferred: Option<ClipSize>,
) -> Result<Option<&'a KnownModel>, Error> {
    let first = entries.first().copied();
    let several = entries.len() > 1;
    // A preference is the engine's and means nothing to a model without sizes; a size that the
    // user wrote must exist.
    let size = asked.or(if several { preferred } else { None });
    match (size, first) {
        (_, None) => Ok(None),
        (None, Some(entry)) if !several => Ok(Some(entry)),
        (size, Some(_)) => match entries.iter().find(|m| size.is_some() && m.size == size) {
            Some(entry) => Ok(Some(entry)),
            None => Err(Error::Size {
                name: name.to_owned(),
                asked: size,
                sizes: entries.iter().filter_map(|m| m.size).collect(),
            }),
        },
    }
}

impl KnownModel {
    /// The revision to ask the hub for: the pinned commit, else the branch.
    pub fn wanted_revision(&self) -> &str {
        let branch = self.revision.as_deref().unwrap_or("main");
        self.commit.as_deref().unwrap_or(branch)
    }

    /// The kinds of use it serves.
    pub fn kinds(&self) -> Vec<ModelKind> {
        let mut kinds: Vec<ModelKind> = self.files.iter().flat_map(|g| g.kinds.clone()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Name and size as a user writes them: `negationclip:ViT-B-32`.
    pub fn label(&self) -> String {
        match self.size {
            Some(size) => format!("{}:{}", self.name, size.suffix()),
            None => self.name.clone(),
        }
    }
}
