//! From a [`Location`] to local files.

use std::path::{Path, PathBuf};

use crate::cache::{self, Repository};
use crate::client::Client;
use crate::config::HubConfig;
use crate::download;
use crate::error::{Error, PlacedFile, Placement, Why};
use crate::location::{Location, has_weight_ending};
use crate::select::{in_order, select};
use crate::table::{FileGroup, KnownModel, Table};
use crate::want::Want;

/// Finds models on this machine and fetches them from the hub.
pub struct Hub {
    config: HubConfig,
    client: Client,
    table: Table,
}

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What a reader opens: the one weight file, or the folder with all of them.
    pub path: PathBuf,
    /// The files that the [`Want`] needs, in the table's order. Empty for a folder that the user
    /// named, whose content is the reader's to judge.
    pub files: Vec<PathBuf>,
    /// Where they come from.
    pub source: Source,
}

/// Where the files of a model come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path that the user named.
    Local,
    /// A plain copy below the weights folder.
    Weights,
    /// The hub, at a commit.
    Hub {
        /// `owner/name`.
        id: String,
        /// The commit.
        commit: String,
    },
}

/// A location that has been looked up in the table: what there is to find, and where.
struct Target<'a> {
    model: Option<&'a KnownModel>,
    id: Option<&'a str>,
    revision: &'a str,
    file: Option<&'a str>,
    /// Where a plain copy would be.
    folder: Option<PathBuf>,
}

impl Hub {
    /// # Errors
    /// [`Error::Setting`] when the endpoint is no address.
    pub fn new(config: HubConfig) -> Result<Hub, Error> {
        Ok(Hub {
            client: Client::new(&config)?,
            table: Table::embedded()?,
            config,
        })
    }

    /// The folder of plain copies, as the configuration has it.
    pub fn weights(&self) -> &Path {
        &self.config.weights
    }

    /// The models that are known by name.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The files of `location` that `want` needs, from this machine if they are there, else from
    /// the hub.
    ///
    /// Files in the cache are used as they are, without asking the hub for newer ones:
    /// [`Hub::fetch`] asks.
    ///
    /// # Errors
    /// [`Error::NotHere`], with the list of what goes where, when the files are not here and the
    /// hub may not be asked or cannot be reached; [`Error::Size`], [`Error::Kind`],
    /// [`Error::FilesMissing`] or [`Error::Ambiguous`] when the location does not give what is
    /// wanted; anything that can go wrong with the network or the disk.
    pub fn resolve(&self, location: &Location, want: &Want) -> Result<Resolved, Error> {
        match self.find_local(location, want)? {
            Some(found) => Ok(found),
            None => self.fetch(location, want),
        }
    }

    /// As [`Hub::resolve`], without any request; `None` when the files are not on this machine.
    ///
    /// # Errors
    /// As [`Hub::resolve`], where they do not concern the hub.
    pub fn find_local(&self, location: &Location, want: &Want) -> Result<Option<Resolved>, Error> {
        if let Some(found) = named_path(location)? {
            return Ok(Some(found));
        }
        let target = self.target(location, want)?;
        Ok(self
            .in_weights(&target, want)
            .or_else(|| self.in_cache(&target, want)))
    }

    /// Asks the hub for the newest commit of the revision and fetches what is missing of it.
    ///
    /// # Errors
    /// As [`Hub::resolve`].
    pub fn fetch(&self, location: &Location, want: &Want) -> Result<Resolved, Error> {
        if let Some(found) = named_path(location)? {
            return Ok(found);
        }
        let target = self.target(location, want)?;
        let why = match target.id {
            None => Why::NotOnTheHub,
            Some(_) if self.config.offline => Why::Offline,
            Some(id) => match self.fetch_from(&target, id, want) {
                Err(error) if error.is_unreachable() => Why::Unreachable(Box::new(error)),
                result => return result,
            },
        };
        Err(Error::NotHere(Box::new(self.placement(&target, want, why))))
    }

    fn target<'a>(&'a self, location: &'a Location, want: &Want) -> Result<Target<'a>, Error> {
        let (model, revision, id, file) = match location {
            Location::Known {
                name,
                size,
                revision,
            } => {
                let model = self.table.find(name, *size, want.size)?;
                (Some(model), revision, model.id.as_deref(), None)
            }
            Location::Hub { id, revision, file } => {
                let model = match file {
                    Some(_) => None,
                    None => self.table.find_id(id, want.size)?,
                };
                (model, revision, Some(id.as_str()), file.as_deref())
            }
            Location::Folder(path) | Location::File(path) => {
                return Err(Error::PathMissing { path: path.clone() });
            }
        };
        if let Some(model) = model {
            check_kind(model, want)?;
        }
        // A revision that the user wrote is not what a plain copy can be known to be.
        let folder = model
            .filter(|_| revision.is_none())
            .map(|model| self.config.weights.join(&model.folder));
        Ok(Target {
            model,
            id,
            revision: revision
                .as_deref()
                .unwrap_or_else(|| model.map_or("main", KnownModel::wanted_revision)),
            file,
            folder,
        })
    }

    fn in_weights(&self, target: &Target<'_>, want: &Want) -> Option<Resolved> {
        let folder = target.folder.as_ref()?;
        let listing = cache::list(folder);
        let place = folder.display().to_string();
        let files = select(&self.table, target.model, &place, &listing, want).ok()?;
        Some(resolved(folder, &files, Source::Weights))
    }

    fn in_cache(&self, target: &Target<'_>, want: &Want) -> Option<Resolved> {
        let id = target.id?;
        let repository = Repository::new(&self.config.cache, id);
        let commit = repository.commit(target.revision)?;
        let snapshot = repository.snapshot(&commit);
        let files = match target.file {
            Some(file) => snapshot
                .join(file)
                .is_file()
                .then(|| vec![file.to_owned()])?,
            None => {
                let listing = cache::list(&snapshot);
                select(&self.table, target.model, id, &listing, want).ok()?
            }
        };
        let source = Source::Hub {
            id: id.to_owned(),
            commit,
        };
        Some(self.resolved_target(target, &snapshot, &files, source))
    }

    fn fetch_from(&self, target: &Target<'_>, id: &str, want: &Want) -> Result<Resolved, Error> {
        let repository = Repository::new(&self.config.cache, id);
        let (commit, files) = match target.file {
            Some(file) => {
                let remote = self.client.inspect(id, target.revision, file)?;
                let commit = remote.commit.ok_or_else(|| Error::Protocol {
                    url: format!("{id}: {file}"),
                    message: "no X-Repo-Commit, so it cannot be placed in the cache".to_owned(),
                })?;
                (commit, vec![file.to_owned()])
            }
            None => {
                let listing = self.client.list(id, target.revision)?;
                let place = format!("{id}@{}", target.revision);
                let files = select(&self.table, target.model, &place, &listing.files, want)?;
                (listing.commit, files)
            }
        };
        let snapshot = repository.snapshot(&commit);
        for (at, file) in files.iter().enumerate() {
            if snapshot.join(file).is_file() {
                continue;
            }
            let remote = self.client.inspect(id, &commit, file)?;
            let bar = download::progress_bar(
                self.config.progress,
                file,
                at + 1,
                files.len(),
                remote.size,
            );
            let blob = download::fetch(&self.client, &repository, &remote, &bar)?;
            bar.finish();
            repository.link(&commit, file, &blob)?;
        }
        // Last, so that a branch never stands for a commit of which files are missing.
        repository.set_commit(target.revision, &commit)?;
        let source = Source::Hub {
            id: id.to_owned(),
            commit,
        };
        Ok(self.resolved_target(target, &snapshot, &files, source))
    }

    fn resolved_target(
        &self,
        target: &Target<'_>,
        snapshot: &Path,
        files: &[String],
        source: Source,
    ) -> Resolved {
        let mut resolved = resolved(snapshot, files, source);
        if let Some(file) = target.file {
            resolved.path = snapshot.join(file);
        }
        resolved
    }

    fn placement(&self, target: &Target<'_>, want: &Want, why: Why) -> Placement {
        let id = target.id.unwrap_or_default();
        let page = format!("{}/{id}", self.config.endpoint.trim_end_matches('/'));
        let cache = target.id.map(|id| {
            let repository = Repository::new(&self.config.cache, id);
            let commit = repository.commit(target.revision);
            repository.snapshot(commit.as_deref().unwrap_or(target.revision))
        });
        let model = match (target.model, target.id) {
            (Some(model), Some(id)) => format!("{} ({id}@{})", model.label(), target.revision),
            (Some(model), None) => model.label(),
            (None, _) => format!("{id}@{}", target.revision),
        };
        Placement {
            model,
            why,
            source: target.model.map_or(page, |model| model.source.clone()),
            folder: target.folder.clone(),
            cache,
            files: self.placed_files(target, want),
            licence: target.model.map(|model| {
                let doubt = if model.licence.verified {
                    ""
                } else {
                    " (not verified)"
                };
                format!("{}{doubt}, {}", model.licence.name, model.licence.url)
            }),
        }
    }

    fn placed_files(&self, target: &Target<'_>, want: &Want) -> Vec<PlacedFile> {
        if let Some(file) = target.file {
            return vec![PlacedFile {
                any_of: vec![vec![file.to_owned()]],
                bytes: None,
                what: "the file that was named".to_owned(),
                verified: true,
            }];
        }
        let groups: &[FileGroup] = match target.model {
            Some(model) => &model.files,
            None => self
                .table
                .layouts
                .iter()
                .find(|layout| {
                    layout
                        .files
                        .iter()
                        .any(|g| g.kinds.contains(&want.kind) && !is_part(g))
                })
                .map_or(&[], |layout| &layout.files),
        };
        groups
            .iter()
            .filter(|group| group.kinds.contains(&want.kind) && !group.optional)
            .map(|group| {
                let alternatives: Vec<_> = in_order(group, want.variant).collect();
                let first = alternatives.first();
                PlacedFile {
                    any_of: alternatives.iter().map(|alt| alt.files.clone()).collect(),
                    bytes: first.and_then(|alt| alt.bytes),
                    what: group.what.clone(),
                    verified: first.is_none_or(|alt| alt.verified),
                }
            })
            .collect()
    }
}

/// Whether a group of a pipeline serves something smaller than the pipeline too: a text encoder
/// that is in no pipeline is better described by the layout of a model of its own.
fn is_part(group: &FileGroup) -> bool {
    group.kinds.contains(&crate::ModelKind::Diffusion) && group.kinds.len() > 1
}

fn check_kind(model: &KnownModel, want: &Want) -> Result<(), Error> {
    let kinds = model.kinds();
    if kinds.contains(&want.kind) {
        return Ok(());
    }
    let offers: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    Err(Error::Kind {
        name: model.label(),
        wanted: want.kind,
        offers: offers.join(" or "),
    })
}

/// A path that the user named, if it is still there.
fn named_path(location: &Location) -> Result<Option<Resolved>, Error> {
    let (path, files) = match location {
        Location::Folder(path) if path.is_dir() => (path, Vec::new()),
        Location::File(path) if path.is_file() => (path, vec![path.clone()]),
        Location::Folder(path) | Location::File(path) => {
            return Err(Error::PathMissing { path: path.clone() });
        }
        Location::Known { .. } | Location::Hub { .. } => return Ok(None),
    };
    Ok(Some(Resolved {
        path: path.clone(),
        files,
        source: Source::Local,
    }))
}

fn resolved(folder: &Path, files: &[String], source: Source) -> Resolved {
    let files: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
    let path = match files.as_slice() {
        [only] if only.to_str().is_some_and(has_weight_ending) => only.clone(),
        _ => folder.to_owned(),
    };
    Resolved {
        path,
        files,
        source,
    }
}
