//! Pictures in classes, the classes' names and prompt templates: ImageNet, and any dataset of its
//! layout.

use std::collections::HashMap;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::DataError;
use crate::delimited::read_csv;
use crate::records::open;

/// Where a template takes the class's name.
const PLACE: &str = "{c}";

/// A list of texts: one list, or an object of lists by dataset.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextLists {
    List(Vec<String>),
    ByDataset(HashMap<String, TextList>),
}

/// What stands for a dataset in the file of all datasets; some have no list.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextList {
    List(Vec<String>),
    Other(IgnoredAny),
}

/// Reads the names of classes, in the order of their numbers: from a JSON object of lists (CLIP
/// Benchmark's `en_classnames.json`, of which the list `dataset` is taken), a JSON list, or a text file
/// with a name a line.
///
/// # Errors
/// When the file cannot be read, has no such list, or a name has no words.
pub fn read_class_names(path: &Path, dataset: &str) -> Result<Vec<String>, DataError> {
    read_texts(path, dataset)
}

/// Reads prompt templates, each with `{c}` (or `{}`) where the class's name goes, from the same kinds
/// of files.
///
/// # Errors
/// As [`read_class_names`], and when a template has no place for the name.
pub fn read_templates(path: &Path, dataset: &str) -> Result<Vec<String>, DataError> {
    let templates = read_texts(path, dataset)?;
    let parsed = templates.iter().enumerate().map(|(index, template)| {
        template_of(template)
            .map_err(|reason| DataError::record(path, format!("[{index}]"), "(template)", reason))
    });
    parsed.collect()
}

/// A template in the form with `{c}`.
///
/// # Errors
/// What was expected and found, when there is not one place for the name.
pub fn template_of(text: &str) -> Result<String, String> {
    let template = text.replace("{}", PLACE).replace("{classname}", PLACE);
    if template.matches(PLACE).count() == 1 {
        return Ok(template);
    }
    Err(format!(
        "expected one {{c}} for the class's name, found {text:?}"
    ))
}

/// The prompt of a class.
#[must_use]
pub fn fill_template(template: &str, class: &str) -> String {
    template.replace(PLACE, class)
}

fn read_texts(path: &Path, dataset: &str) -> Result<Vec<String>, DataError> {
    let read = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let text = std::io::read_to_string(open(path)?).map_err(read)?;
    let list = if text.trim_start().starts_with(['{', '[']) {
        let lists: TextLists = serde_json::from_str(&text).map_err(|error| DataError::Damaged {
            path: path.to_owned(),
            format: "a JSON list of texts, or an object of such lists",
            place: format!("line {}", error.line()),
            reason: error.to_string(),
        })?;
        match lists {
            TextLists::List(list) => list,
            TextLists::ByDataset(mut lists) => match lists.remove(dataset) {
                Some(TextList::List(list)) => list,
                Some(TextList::Other(_)) | None => {
                    let mut known: Vec<&str> = lists.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    let reason = format!(
                        "expected a list of this name, found lists of {}",
                        known.join(", ")
                    );
                    return Err(DataError::record(path, "the whole file", dataset, reason));
                }
            },
        }
    } else {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let empty = list.iter().position(|text| text.trim().is_empty());
    match (list.is_empty(), empty) {
        (true, _) => Err(DataError::record(
            path,
            "the whole file",
            dataset,
            "expected one text or more, found none",
        )),
        (_, Some(index)) => {
            let reason = "expected words, found none";
            Err(DataError::record(
                path,
                format!("[{index}]"),
                dataset,
                reason,
            ))
        }
        _ => Ok(list),
    }
}

/// Pictures with the numbers of their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledPictures {
    /// File and class, in the order of classes and names (folders) or of names (flat).
    pub pictures: Vec<(PathBuf, usize)>,
    /// The folder or synset of every class.
    pub classes: Vec<String>,
}

/// The order of the synsets: which number a class has.
///
/// `classes` names are in the order of the sorted synset ids, as in every published list of ImageNet's
/// class names. ILSVRC's own numbers, which `ILSVRC2012_validation_ground_truth.txt` has, are others.
#[derive(Debug, Clone, Default)]
pub struct SynsetOrder(Option<Vec<String>>);

impl SynsetOrder {
    /// The alphabetical order of the folders or labels that there are.
    #[must_use]
    pub fn alphabetical() -> Self {
        Self(None)
    }

    /// The order of a file whose lines begin with a synset, such as `LOC_synset_mapping.txt`.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut order = Vec::new();
        for line in open(path)?.lines() {
            let line = line.map_err(|source| DataError::Read {
                path: path.to_owned(),
                source,
            })?;
            order.extend(line.split_whitespace().next().map(str::to_owned));
        }
        if order.is_empty() {
            let reason = "expected a synset a line, found none";
            return Err(DataError::record(path, "the whole file", "(lines)", reason));
        }
        Ok(Self(Some(order)))
    }

    /// The classes in their order, given those that were found.
    fn resolve(self, mut found: Vec<String>) -> Vec<String> {
        self.0.unwrap_or_else(|| {
            found.sort();
            found.dedup();
            found
        })
    }
}

impl LabelledPictures {
    /// A folder of a folder a class: `val/n01440764/ILSVRC2012_val_00000293.JPEG`.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no pictures in folders, or a class folder is not in the
    /// order.
    pub fn in_folders(root: &Path, order: SynsetOrder) -> Result<Self, DataError> {
        let folders = sorted(root, true)?;
        let names: Vec<String> = folders.iter().map(|path| file_name(path)).collect();
        let classes = order.resolve(names);
        let numbers = numbers(&classes);
        let mut pictures = Vec::new();
        for folder in folders {
            let name = file_name(&folder);
            let Some(&class) = numbers.get(name.as_str()) else {
                return Err(unknown_class(root, "folder", &name));
            };
            let files = sorted(&folder, false)?
                .into_iter()
                .filter(|path| is_picture(path));
            pictures.extend(files.map(|path| (path, class)));
        }
        Self::checked(root, pictures, classes)
    }

    /// A folder of all pictures, with a file of their labels: `LOC_val_solution.csv` (a synset each),
    /// or lines of `NAME NUMBER` with the number in the order of the synsets from 0.
    ///
    /// # Errors
    /// When a file cannot be read, a synset is not in the order, or the labels are ILSVRC's own
    /// numbers.
    pub fn flat(root: &Path, labels: &Path, order: SynsetOrder) -> Result<Self, DataError> {
        let is_csv = labels
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("csv"));
        match is_csv {
            true => Self::flat_by_synset(root, labels, order),
            false => Self::flat_by_number(root, labels),
        }
    }

    fn flat_by_synset(root: &Path, labels: &Path, order: SynsetOrder) -> Result<Self, DataError> {
        const COLUMNS: [&[&str]; 2] = [&["ImageId"], &["PredictionString"]];
        let mut labelled: Vec<(String, String)> = Vec::new();
        read_csv(labels, &COLUMNS, &mut |line, fields| {
            let [image, prediction] = fields else {
                return Ok(());
            };
            // The class, and the boxes of its objects: "n03995372 85 1 499 272".
            let Some(synset) = prediction.split_whitespace().next() else {
                let reason = "expected a synset, found none";
                let record = format!("line {line}");
                return Err(DataError::record(
                    labels,
                    record,
                    "PredictionString",
                    reason,
                ));
            };
            labelled.push(((*image).to_owned(), synset.to_owned()));
            Ok(())
        })?;
        let synsets = labelled.iter().map(|(_, synset)| synset.clone()).collect();
        let classes = order.resolve(synsets);
        let numbers = numbers(&classes);
        let mut pictures = Vec::with_capacity(labelled.len());
        for (image, synset) in &labelled {
            let Some(&class) = numbers.get(synset.as_str()) else {
                return Err(unknown_class(labels, "PredictionString", synset));
            };
            pictures.push((picture_of(root, image), class));
        }
        pictures.sort();
        Self::checked(root, pictures, classes)
    }

    fn flat_by_number(root: &Path, labels: &Path) -> Result<Self, DataError> {
        let mut pictures = Vec::new();
        let mut most = 0;
        for (index, line) in open(labels)?.lines().enumerate() {
            let line = line.map_err(|source| DataError::Read {
                path: labels.to_owned(),
                source,
            })?;
            let parts: Vec<&str> = line.split_whitespace().collect();
            let number = match parts[..] {
                [] => continue,
                [image, number] => number.parse().ok().map(|class: usize| (image, class)),
                _ => None,
            };
            let Some((image, class)) = number else {
                let reason = format!(
                    "expected a picture and the number of its class from 0, found {line:?}. The \
                     numbers of ILSVRC2012_validation_ground_truth.txt are ILSVRC's own, in another \
                     order than the class names: take LOC_val_solution.csv, or a folder a class"
                );
                let record = format!("line {}", index + 1);
                return Err(DataError::record(labels, record, "(line)", reason));
            };
            most = most.max(class);
            pictures.push((picture_of(root, image), class));
        }
        let classes = (0..=most).map(|class| class.to_string()).collect();
        Self::checked(root, pictures, classes)
    }

    fn checked(
        root: &Path,
        pictures: Vec<(PathBuf, usize)>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        if pictures.is_empty() {
            let hint =
                "expected pictures in it, in a folder a class, or a file of labels".to_owned();
            return Err(DataError::Missing {
                path: root.to_owned(),
                hint,
            });
        }
        Ok(Self { pictures, classes })
    }
}

fn numbers(classes: &[String]) -> HashMap<&str, usize> {
    let named = classes.iter().enumerate();
    named
        .map(|(number, name)| (name.as_str(), number))
        .collect()
}

fn unknown_class(path: &Path, field: &str, name: &str) -> DataError {
    let reason = format!("expected a class of the given order, found {name:?}");
    DataError::record(path, "(class)", field, reason)
}

/// The file of a picture that may be named without its ending.
fn picture_of(root: &Path, image: &str) -> PathBuf {
    let plain = root.join(image);
    if Path::new(image).extension().is_some() {
        return plain;
    }
    ENDINGS
        .iter()
        .map(|ending| root.join(format!("{image}.{ending}")))
        .find(|path| path.is_file())
        .unwrap_or_else(|| root.join(format!("{image}.JPEG")))
}

const ENDINGS: [&str; 6] = ["JPEG", "jpg", "jpeg", "JPG", "png", "webp"];

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy());
    ending.is_some_and(|found| {
        ENDINGS
            .iter()
            .any(|known| found.eq_ignore_ascii_case(known))
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The folders in a folder, or its files, by their names.
fn sorted(root: &Path, folders: bool) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::Read {
        path: root.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = file_name(&path).starts_with('.');
        if path.is_dir() == folders && !hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
