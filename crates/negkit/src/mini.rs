//! The small models that lie in the repository, for when no model is named.
//!
//! `weights/mini` holds a folder a model in the layouts that the large ones are published in, so
//! that nothing but the place is particular about them: [`MiniModels`] knows it, and
//! [`ModelChoice`] is what a user named, or the small model where nothing was named. They are made
//! for drawn scenes of 64 pixels, and their encoders fit them alone; for anything else name a
//! published model.

use std::path::{Path, PathBuf};

use crate::{Error, Models, Result};

/// Inference steps of the small pipeline where nothing else is said.
pub const STEPS: usize = 20;
/// Guidance scale of the small pipeline where nothing else is said: of 2.2, 2.6 and 3 the one that
/// painted most of what 500 validation prompts name (0.915, 0.906 and 0.906 of the objects, 0.880, 0.869
/// and 0.862 of the colours), by `negkit mini quality --only sd --validation`.
pub const GUIDANCE_SCALE: f64 = 2.2;

/// Probability above which the small CLIPSeg's pixels are best marked: the best threshold for ordinary
/// phrases of validation scenes, as its card tells.
pub const MASK_THRESHOLD: f32 = 0.35;

/// The small pipeline in Stable Diffusion's layout.
pub const STABLE_DIFFUSION: &str = "sd";
/// The small CLIP.
pub const CLIP: &str = "clip";
/// The small CLIPSeg.
pub const CLIPSEG: &str = "clipseg";
/// The small model that answers questions about pictures.
pub const VQA: &str = "vqa";
/// The small NegationCLIP.
pub const NEGATIONCLIP: &str = "negationclip";

/// Where the small models are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiniModels {
    folder: PathBuf,
}

impl MiniModels {
    /// Looks for the folder `mini` in `weights` (as [`negkit_hub::HubConfig`] has it), in `weights`
    /// of the current folder, and, run by cargo, in that of the repository.
    ///
    /// # Errors
    /// [`Error::NoMiniModels`] when it is in none of these places.
    pub fn find(weights: &Path) -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        Self::find_in(&places(weights, package.as_deref()))
    }

    fn find_in(places: &[PathBuf]) -> Result<Self> {
        match places.iter().find(|place| place.is_dir()) {
            Some(folder) => Ok(Self {
                folder: folder.clone(),
            }),
            None => Err(Error::NoMiniModels {
                looked: places.to_vec(),
            }),
        }
    }

    /// The folder of a model, such as [`STABLE_DIFFUSION`].
    ///
    /// # Errors
    /// [`Error::NoMiniModel`] when there is none of that name.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if holds_files(&folder) {
            return Ok(folder);
        }
        Err(Error::NoMiniModel {
            name: name.to_owned(),
            folder,
            known: self.names(),
        })
    }

    /// The names of the models that are there, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| holds_files(path))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }
}

/// Whether it is a folder that is not empty: an empty one is what an interrupted copy leaves.
fn holds_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut all| all.next().is_some())
}

/// Where the small models may be, each place once.
fn places(weights: &Path, package: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![weights.join("mini")];
    let repository = Path::new("weights/mini");
    // cargo names the package, which in a workspace lies below the repository.
    let above = package.into_iter().flat_map(Path::ancestors).take(3);
    for place in [repository.to_owned()]
        .into_iter()
        .chain(above.map(|folder| folder.join(repository)))
    {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// A model that a user named, or the small one where none was named.
#[derive(Debug, Clone)]
pub struct ModelChoice {
    spec: String,
    name: String,
    mini: Option<MiniModels>,
}

impl ModelChoice {
    /// What to open.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The small models, where the model is one of them.
    pub fn mini(&self) -> Option<&MiniModels> {
        self.mini.as_ref()
    }

    /// Probability above which pixels that a CLIPSeg marked are in the mask, where nothing else is
    /// said: 0.5, with the small model [`MASK_THRESHOLD`].
    pub fn mask_threshold(&self) -> f32 {
        match self.mini {
            Some(_) => MASK_THRESHOLD,
            None => 0.5,
        }
    }

    /// What to open for a text encoder: beside a small model a name (`negationclip`, `conclip`) means
    /// the small encoder of that name, for no other would fit. A path that exists wins.
    ///
    /// # Errors
    /// [`Error::NoMiniModel`] when there is no small encoder of that name.
    pub fn encoder(&self, spec: &str) -> Result<String> {
        let is_name = !spec.is_empty() && !spec.contains(['/', '\\', '.', ':', '@', '~']);
        match &self.mini {
            Some(mini) if is_name && !Path::new(spec).exists() => {
                Ok(mini.model(spec)?.display().to_string())
            }
            _ => Ok(spec.to_owned()),
        }
    }
}

impl Models {
    /// The model that is `named`, or the small one of the name `otherwise`.
    ///
    /// # Errors
    /// When none is named and the small one is not there.
    pub fn choose(&self, named: Option<&str>, otherwise: &str) -> Result<ModelChoice> {
        if let Some(named) = named {
            return Ok(ModelChoice {
                spec: named.to_owned(),
                name: named.to_owned(),
                mini: None,
            });
        }
        let mini = MiniModels::find(self.hub().weights())?;
        Ok(ModelChoice {
            spec: mini.model(otherwise)?.display().to_string(),
            name: format!("mini-{otherwise}"),
            mini: Some(mini),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::fs;

    use negkit_hub::{Hub, HubConfig};
    use negkit_nn::Compute;

    use super::*;

    fn write(folder: &Path, path: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }

    #[test]
    fn the_weights_folder_comes_first_and_the_repository_last() {
        let package = Path::new("/repository/crates/negkit-cli");
        let all = places(Path::new("/elsewhere"), Some(package));
        let expected = [
            "/elsewhere/mini",
            "weights/mini",
            "/repository/crates/negkit-cli/weights/mini",
            "/repository/crates/weights/mini",
            "/repository/weights/mini",
        ];
        assert_eq!(all, expected.map(PathBuf::from));
        let here = places(Path::new("weights"), None);
        assert_eq!(here, [PathBuf::from("weights/mini")]);

        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("b")).unwrap();
        fs::create_dir_all(at("c")).unwrap();
        let found = MiniModels::find_in(&[at("a"), at("b"), at("c")]).unwrap();
        assert_eq!(found.folder, at("b"));
        let error = MiniModels::find_in(&[at("a"), at("x")]).unwrap_err();
        let message = error.to_string();
        for part in ["/a", "/x", "eval/mini/train.sh", "sd-1.4"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }

    #[test]
    fn small_names_are_small_encoders_beside_small_models_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let weights = scratch.path();
        write(weights, "mini/sd/model_index.json");
        write(weights, "mini/negationclip/config.json");
        fs::create_dir_all(weights.join("mini/clipseg")).unwrap();
        let hub = Hub::new(HubConfig::new(weights.join("cache"), weights)).unwrap();
        let models = Models::new(hub, Compute::cpu());

        let chosen = models.choose(None, STABLE_DIFFUSION).unwrap();
        let folder = weights.join("mini");
        assert_eq!(Path::new(chosen.spec()), folder.join("sd"));
        assert_eq!(chosen.name(), "mini-sd");
        let small = folder.join("negationclip").display().to_string();
        assert_eq!(chosen.encoder("negationclip").unwrap(), small);
        for other in ["openai/clip", "a.pth", "stock:ViT-L-14", "", ".", ".."] {
            assert_eq!(chosen.encoder(other).unwrap(), other);
        }
        let error = chosen.encoder("con-clip").unwrap_err().to_string();
        for part in ["con-clip", "here are: negationclip, sd"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }

        let named = models.choose(Some("sd-1.4"), STABLE_DIFFUSION).unwrap();
        assert_eq!((named.spec(), named.name()), ("sd-1.4", "sd-1.4"));
        assert!(named.mini().is_none());
        assert_eq!(named.encoder("negationclip").unwrap(), "negationclip");

        // An empty folder is no model.
        let error = models.choose(None, CLIPSEG).unwrap_err().to_string();
        for part in ["mini/clipseg", "eval/mini/train.sh"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}
