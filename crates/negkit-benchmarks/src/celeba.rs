//! Attributes of faces: does the picture have it, or not?

use std::collections::BTreeMap;
use std::path::Path;

use negkit_data::celeba::Attributes;
use negkit_data::{DataError, PictureFolder, file_hashes};
use negkit_metrics::chosen;
use serde::Deserialize;

use crate::benchmark::{Average, Benchmark, BenchmarkInfo, Content, Measure, Outcome, Reference};
use crate::error::{BenchmarkError, Result};
use crate::lists::{Pictures, Texts};
use crate::vectors::{Vectors, similarity};

const NAME: &str = "CelebA attributes";

/// Prompts for CelebA's own forty attributes.
const CELEBA_PROMPTS: &str = include_str!("../data/celeba_prompts.json");

/// For every attribute the text that affirms it, and the one that denies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AttributePrompts(BTreeMap<String, [String; 2]>);

impl AttributePrompts {
    /// Those for CelebA's forty attributes that come with this crate. They are this project's own:
    /// there is no published list.
    ///
    /// # Errors
    /// Never for the file as it is.
    pub fn celeba() -> Result<Self> {
        Self::parse(CELEBA_PROMPTS, Path::new("celeba_prompts.json"))
    }

    /// Reads a JSON object: `{"Eyeglasses": ["a face with eyeglasses", "a face with no eyeglasses"]}`.
    ///
    /// # Errors
    /// When the file cannot be read or is not of that form.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            DataError::Damaged {
                path: path.to_owned(),
                format: "a JSON object with two prompts for every attribute",
                place: format!("line {}", error.line()),
                reason: error.to_string(),
            }
            .into()
        })
    }
}

struct Attribute {
    name: String,
    affirmed: usize,
    denied: usize,
    /// Whether each picture has it.
    has: Vec<bool>,
}

/// CelebA's attributes, or others in its layout: of the prompt that affirms an attribute and the one
/// that denies it, the true one must be more similar to the picture. Balanced accuracy, for most
/// attributes are rare.
pub struct CelebA {
    content: Content,
    attributes: Vec<Attribute>,
}

impl CelebA {
    /// Of pictures with attributes (see [`Attributes::open`], [`Attributes::keep`]) and prompts. Of the
    /// attributes those are asked that have prompts. `files` are what these were read from.
    ///
    /// # Errors
    /// When there are no pictures, an attribute with prompts is not among those of the pictures, or a
    /// file cannot be read.
    pub fn new(
        attributes: &Attributes,
        prompts: &AttributePrompts,
        folder: &PictureFolder,
        files: &[&Path],
    ) -> Result<Self> {
        if attributes.pictures.is_empty() || prompts.0.is_empty() {
            return Err(BenchmarkError::Empty {
                benchmark: NAME,
                expected: "a picture with attributes, and prompts for these",
                path: files
                    .first()
                    .map_or_else(Default::default, |path| (*path).to_owned()),
            });
        }
        let (mut all, mut texts) = (Pictures::default(), Texts::default());
        for picture in &attributes.pictures {
            all.add(&folder.find(&picture.file), None);
        }
        let mut asked = Vec::with_capacity(prompts.0.len());
        for (name, [affirmed, denied]) in &prompts.0 {
            let Some(place) = attributes.names.iter().position(|known| known == name) else {
                return Err(BenchmarkError::Misfit {
                    benchmark: NAME.to_owned(),
                    expected: format!(
                        "prompts for the attributes of the pictures ({})",
                        attributes.names.join(", ")
                    ),
                    found: format!("prompts for {name}"),
                });
            };
            asked.push(Attribute {
                name: name.clone(),
                affirmed: texts.add(affirmed),
                denied: texts.add(denied),
                has: attributes
                    .pictures
                    .iter()
                    .map(|picture| picture.has[place])
                    .collect(),
            });
        }
        let pictures = all.into_list();
        Ok(Self {
            content: Content {
                info: BenchmarkInfo {
                    key: "celeba".to_owned(),
                    title: NAME.to_owned(),
                    main: "balanced accuracy".to_owned(),
                    what: format!(
                        "{} attributes of {} pictures: of the prompt that affirms one and that which \
                     denies it, the true one must be more similar",
                        asked.len(),
                        pictures.len()
                    ),
                    settings: [
                        ("pictures".to_owned(), pictures.len().to_string()),
                        ("attributes".to_owned(), asked.len().to_string()),
                    ]
                    .into(),
                    files: file_hashes(files)?,
                },
                pictures,
                texts: texts.into_list(),
            },
            attributes: asked,
        })
    }
}

impl Benchmark for CelebA {
    fn content(&self) -> &Content {
        &self.content
    }

    fn measures(&self, pictures: &Vectors, texts: &Vectors) -> Vec<Measure> {
        let mut all = Measure {
            name: "balanced accuracy".to_owned(),
            average: Average::Groups,
            outcomes: Vec::new(),
            clusters: Vec::new(),
            groups: Vec::new(),
            reference: Some(Reference { chance: 0.5 }),
        };
        for (number, attribute) in self.attributes.iter().enumerate() {
            let (affirmed, denied) = (texts.get(attribute.affirmed), texts.get(attribute.denied));
            for (picture, has) in attribute.has.iter().enumerate() {
                let outcome = match (pictures.get(picture), affirmed, denied) {
                    (None, _, _) => Outcome::Unscored,
                    (Some(picture), Some(affirmed), Some(denied)) => {
                        let similar = [similarity(picture, affirmed), similarity(picture, denied)];
                        Outcome::of(chosen(&similar) == Some(usize::from(!has)))
                    }
                    _ => Outcome::Wrong,
                };
                all.outcomes.push(outcome);
                all.clusters.push(picture as u32);
                all.groups.push(2 * number as u32 + u32::from(!has));
            }
        }
        let groups = all.groups.clone();
        let mut measures = Vec::new();
        for (name, parity) in [
            ("recall, attribute there", 0),
            ("recall, attribute not there", 1),
        ] {
            measures.push(all.part(name, |item| groups[item] % 2 == parity));
        }
        for (number, attribute) in self.attributes.iter().enumerate() {
            let name = format!("balanced accuracy, {}", attribute.name);
            measures.push(all.part(name, |item| groups[item] as usize / 2 == number));
        }
        measures.insert(0, all);
        measures
    }
}
