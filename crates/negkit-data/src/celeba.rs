//! CelebA's attributes: `list_attr_celeba.txt`, and who is in which split.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use crate::DataError;
use crate::records::open;

/// Pictures of faces with their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The names of the attributes, such as "Eyeglasses".
    pub names: Vec<String>,
    /// The pictures, in the file's order.
    pub pictures: Vec<AttributedPicture>,
}

/// A picture and what is true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributedPicture {
    /// Its file's name.
    pub file: String,
    /// Whether it has each attribute, in their order.
    pub has: Vec<bool>,
}

/// A part of CelebA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// 0 in the file.
    Train,
    /// 1 in the file.
    Valid,
    /// 2 in the file.
    Test,
}

impl Partition {
    fn digit(self) -> &'static str {
        match self {
            Self::Train => "0",
            Self::Valid => "1",
            Self::Test => "2",
        }
    }
}

impl Attributes {
    /// Reads `list_attr_celeba.txt`: a line with the number of pictures, one with the attributes'
    /// names, and a line a picture with its file and 1 or -1 for every attribute.
    ///
    /// # Errors
    /// When the file cannot be read, a line has another number of values, a value is neither 1 nor -1,
    /// or there are not as many pictures as the first line says.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut found = Self {
            names: Vec::new(),
            pictures: Vec::new(),
        };
        let mut expected = 0;
        for_lines(path, &mut |line, text| {
            let wrong = |field: &str, reason: String| {
                Err(DataError::record(
                    path,
                    format!("line {line}"),
                    field,
                    reason,
                ))
            };
            let mut parts = text.split_whitespace();
            match line {
                1 => match text.trim().parse() {
                    Ok(count) => expected = count,
                    Err(_) => {
                        let reason = format!("expected the number of pictures, found {text:?}");
                        return wrong("(line)", reason);
                    }
                },
                2 => found.names = parts.map(str::to_owned).collect(),
                _ => {
                    let Some(file) = parts.next() else {
                        return Ok(());
                    };
                    let mut has = Vec::with_capacity(found.names.len());
                    for value in parts {
                        match value {
                            "1" => has.push(true),
                            "-1" => has.push(false),
                            other => {
                                let name = found.names.get(has.len());
                                let name = name.map_or("(beyond the last)", String::as_str);
                                return wrong(name, format!("expected 1 or -1, found {other:?}"));
                            }
                        }
                    }
                    if has.len() != found.names.len() {
                        let (expected, count) = (found.names.len(), has.len());
                        let reason = format!("expected {expected} values, found {count}");
                        return wrong("(values)", reason);
                    }
                    found.pictures.push(AttributedPicture {
                        file: file.to_owned(),
                        has,
                    });
                }
            }
            Ok(())
        })?;
        if found.pictures.len() != expected || found.names.is_empty() {
            let reason = format!(
                "expected {expected} pictures with the attributes that the second line names, found \
                 {} pictures and {} attributes",
                found.pictures.len(),
                found.names.len()
            );
            return Err(DataError::record(path, "the whole file", "(lines)", reason));
        }
        Ok(found)
    }

    /// Keeps the pictures of one part, by `list_eval_partition.txt`.
    ///
    /// # Errors
    /// When the file cannot be read, or does not say to which part a picture belongs.
    pub fn keep(&mut self, partition: Partition, path: &Path) -> Result<(), DataError> {
        let mut part_of = HashMap::new();
        for_lines(path, &mut |line, text| {
            let mut parts = text.split_whitespace();
            match (parts.next(), parts.next()) {
                (Some(file), Some(part @ ("0" | "1" | "2"))) => {
                    part_of.insert(file.to_owned(), part.to_owned());
                    Ok(())
                }
                (None, _) => Ok(()),
                _ => {
                    let reason = format!("expected a file and 0, 1 or 2, found {text:?}");
                    let record = format!("line {line}");
                    Err(DataError::record(path, record, "(line)", reason))
                }
            }
        })?;
        if let Some(unknown) = self
            .pictures
            .iter()
            .find(|p| !part_of.contains_key(&p.file))
        {
            let reason = format!("expected a line for {:?}, found none", unknown.file);
            return Err(DataError::record(path, "the whole file", "(file)", reason));
        }
        self.pictures.retain(|picture| {
            part_of
                .get(&picture.file)
                .is_some_and(|p| p == partition.digit())
        });
        Ok(())
    }
}

fn for_lines(
    path: &Path,
    each: &mut dyn FnMut(usize, &str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for (index, line) in open(path)?.lines().enumerate() {
        let line = line.map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        each(index + 1, &line)?;
    }
    Ok(())
}
