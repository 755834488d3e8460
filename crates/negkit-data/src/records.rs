//! Records out of JSON, JSON lines and pickles, one at a time.
//!
//! A file of 400 MB is never in memory as a whole: each record is handed over when it is read, and
//! an error knows which record it was, and where in it.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::fs::File;
use std::hash::Hash;
use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::{DataError, pickle};

/// What is done with a record: its position, and the record.
pub(crate) type Each<'a, T> = &'a mut dyn FnMut(usize, T) -> Result<(), DataError>;

const PICKLE: &str = "a pickle of plain data";
const BUFFER: usize = 1 << 18;
/// A reader's message may quote what it found; a damaged file may hold megabytes.
const MOST_REASON: usize = 300;

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    let failed = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(std::io::Error::from(
            std::io::ErrorKind::IsADirectory,
        )));
    }
    Ok(BufReader::with_capacity(BUFFER, file))
}

/// Where reading is, for errors.
#[derive(Default)]
struct Place {
    /// The record that is read, or comes next.
    record: String,
    /// Path to the field within it.
    field: String,
    /// An error of the one who takes the records, which the format's own error cannot carry.
    refused: Option<DataError>,
}

/// A list of records, each given away as soon as it is read.
struct List<'p, 'e, T> {
    name: &'p str,
    place: &'p mut Place,
    each: Each<'e, T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for List<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for List<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.place.record = format!("{}[{index}]", self.name);
            self.place.field.clear();
            let record = Record {
                place: &mut *self.place,
                record: PhantomData::<T>,
            };
            let Some(record) = seq.next_element_seed(record)? else {
                break;
            };
            give(self.place, self.each, index, record)?;
        }
        Ok(())
    }
}

fn give<T, E: serde::de::Error>(
    place: &mut Place,
    each: Each<'_, T>,
    index: usize,
    record: T,
) -> Result<(), E> {
    each(index, record).map_err(|refused| {
        place.refused = Some(refused);
        E::custom("the record was refused")
    })
}

/// One record; remembers in which field it failed.
struct Record<'p, T> {
    place: &'p mut Place,
    record: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Record<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        T::deserialize(deserializer).inspect_err(|_| self.place.field = track.path().to_string())
    }
}

/// An object whose keys name the records.
struct Entries<'p, 'e, T> {
    place: &'p mut Place,
    each: Each<'e, (String, T)>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Entries<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Entries<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.place.field.clear();
            let Some(key) = map.next_key::<String>()? else {
                break;
            };
            self.place.record = format!("{key:?}");
            let record = map.next_value_seed(Record {
                place: &mut *self.place,
                record: PhantomData::<T>,
            })?;
            give(self.place, self.each, index, (key, record))?;
        }
        Ok(())
    }
}

/// What to do with the lists of a COCO file.
pub(crate) struct Lists<'e, P, A, C> {
    pub(crate) images: Each<'e, P>,
    pub(crate) annotations: Each<'e, A>,
    pub(crate) categories: Each<'e, C>,
}

struct ListsSeed<'p, 'e, P, A, C> {
    place: &'p mut Place,
    lists: Lists<'e, P, A, C>,
}

impl<'de, P, A, C> DeserializeSeed<'de> for ListsSeed<'_, '_, P, A, C>
where
    P: DeserializeOwned,
    A: DeserializeOwned,
    C: DeserializeOwned,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, P, A, C> Visitor<'de> for ListsSeed<'_, '_, P, A, C>
where
    P: DeserializeOwned,
    A: DeserializeOwned,
    C: DeserializeOwned,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the lists `images` and `annotations`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { place, lists } = self;
        let (mut images, mut annotations) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            place.record.clone_from(&key);
            match key.as_str() {
                "images" => {
                    images = true;
                    let each = &mut *lists.images;
                    map.next_value_seed(list(&key, place, each))?;
                }
                "annotations" => {
                    annotations = true;
                    let each = &mut *lists.annotations;
                    map.next_value_seed(list(&key, place, each))?;
                }
                "categories" => {
                    let each = &mut *lists.categories;
                    map.next_value_seed(list(&key, place, each))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            place.record = format!("after `{key}`");
        }
        for (found, name) in [(images, "images"), (annotations, "annotations")] {
            if !found {
                place.record = "the whole file".to_owned();
                place.field = name.to_owned();
                return Err(M::Error::custom(format!(
                    "expected a list `{name}`, found none"
                )));
            }
        }
        Ok(())
    }
}

fn list<'p, 'e, T>(name: &'p str, place: &'p mut Place, each: Each<'e, T>) -> List<'p, 'e, T> {
    List { name, place, each }
}

fn shortened(reason: impl Display) -> String {
    let mut reason = reason.to_string();
    if let Some((end, _)) = reason.char_indices().nth(MOST_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

impl Place {
    fn new() -> Self {
        Self {
            record: "its start".to_owned(),
            ..Self::default()
        }
    }

    fn json(self, path: &Path, error: serde_json::Error) -> DataError {
        use serde_json::error::Category;
        if let Some(refused) = self.refused {
            return refused;
        }
        match error.classify() {
            Category::Io => DataError::Read {
                path: path.to_owned(),
                source: error.into(),
            },
            Category::Syntax | Category::Eof => self.damaged(path, "JSON", error),
            Category::Data => self.wrong(path, error),
        }
    }

    fn pickle(self, path: &Path, error: serde_pickle::Error) -> DataError {
        if let Some(refused) = self.refused {
            return refused;
        }
        match error {
            serde_pickle::Error::Io(source) => DataError::Read {
                path: path.to_owned(),
                source,
            },
            serde_pickle::Error::Syntax(serde_pickle::ErrorCode::Structure(reason)) => {
                self.wrong(path, reason)
            }
            error => self.damaged(path, PICKLE, error),
        }
    }

    fn damaged(self, path: &Path, format: &'static str, reason: impl Display) -> DataError {
        DataError::Damaged {
            path: path.to_owned(),
            format,
            place: self.record,
            reason: shortened(reason),
        }
    }

    fn wrong(self, path: &Path, reason: impl Display) -> DataError {
        let field = match self.field.as_str() {
            // A record that is no object at all, or lacks a field, which the reason names.
            "" | "." => "(record)".to_owned(),
            field => field.to_owned(),
        };
        DataError::record(path, self.record, field, shortened(reason))
    }
}

/// Reads a JSON file that is a list of records.
pub(crate) fn read_list<T: DeserializeOwned>(
    path: &Path,
    each: Each<'_, T>,
) -> Result<(), DataError> {
    let mut place = Place::new();
    let mut json = serde_json::Deserializer::from_reader(open(path)?);
    list("", &mut place, each)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| place.json(path, error))
}

/// An object of which one list is wanted.
struct NamedList<'p, 'e, T> {
    name: &'p str,
    place: &'p mut Place,
    each: Each<'e, T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for NamedList<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for NamedList<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the list `{}`", self.name)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { name, place, each } = self;
        let mut there = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == name {
                there = true;
                map.next_value_seed(list(name, place, each))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if there {
            return Ok(());
        }
        place.record = "the whole file".to_owned();
        place.field = name.to_owned();
        Err(M::Error::custom(format!(
            "expected a list `{name}`, found none"
        )))
    }
}

/// Reads a JSON file that is an object with a list of records among other things.
pub(crate) fn read_named_list<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    each: Each<'_, T>,
) -> Result<(), DataError> {
    let mut place = Place::new();
    let mut json = serde_json::Deserializer::from_reader(open(path)?);
    let named = NamedList {
        name,
        place: &mut place,
        each,
    };
    named
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| place.json(path, error))
}

/// Reads a JSON file that is an object of records by their names.
pub(crate) fn read_entries<T: DeserializeOwned>(
    path: &Path,
    each: Each<'_, (String, T)>,
) -> Result<(), DataError> {
    let mut place = Place::new();
    let mut json = serde_json::Deserializer::from_reader(open(path)?);
    let entries = Entries {
        place: &mut place,
        each,
    };
    entries
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| place.json(path, error))
}

/// Reads a COCO file.
pub(crate) fn read_lists<P, A, C>(path: &Path, lists: Lists<'_, P, A, C>) -> Result<(), DataError>
where
    P: DeserializeOwned,
    A: DeserializeOwned,
    C: DeserializeOwned,
{
    let mut place = Place::new();
    let mut json = serde_json::Deserializer::from_reader(open(path)?);
    let seed = ListsSeed {
        place: &mut place,
        lists,
    };
    seed.deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| place.json(path, error))
}

/// Reads a file with a record a line; empty lines are passed over.
pub(crate) fn read_lines<T: DeserializeOwned>(
    path: &Path,
    each: Each<'_, T>,
) -> Result<(), DataError> {
    for (index, line) in open(path)?.lines().enumerate() {
        let line = line.map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        if line.trim().is_empty() {
            continue;
        }
        let mut place = Place::new();
        place.record = format!("line {}", index + 1);
        let mut json = serde_json::Deserializer::from_str(&line);
        let record = Record {
            place: &mut place,
            record: PhantomData::<T>,
        };
        let record = record
            .deserialize(&mut json)
            .and_then(|record| json.end().map(|()| record))
            .map_err(|error| place.json(path, error))?;
        each(index, record)?;
    }
    Ok(())
}

/// Reads a list of records from JSON or from a pickle of protocol 0 to 5, whichever the file is.
///
/// Nothing in a pickle is executed: what is not plain data is an error.
pub(crate) fn read_list_or_pickle<T: DeserializeOwned>(
    path: &Path,
    each: Each<'_, T>,
) -> Result<(), DataError> {
    let mut reader = open(path)?;
    let start = reader.fill_buf().map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })?;
    // No pickle begins with white space, `[` (BUILD has nothing to build on) or `{`.
    let first = start.first().copied().unwrap_or_default();
    if first.is_ascii_whitespace() || first == b'[' || first == b'{' {
        return read_list(path, each);
    }
    let mut bytes = Vec::new();
    reader
        .read_to_end(&mut bytes)
        .map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
    pickle::check(&bytes).map_err(|pickle::Refused { at, reason }| DataError::Damaged {
        path: path.to_owned(),
        format: PICKLE,
        place: format!("byte {at}"),
        reason,
    })?;
    let mut place = Place::new();
    let options = serde_pickle::DeOptions::new();
    let mut pickle = serde_pickle::Deserializer::new(&bytes[..], options);
    list("", &mut place, each)
        .deserialize(&mut pickle)
        .map_err(|error| place.pickle(path, error))
}

/// The most bytes of a pickle in an archive of PyTorch.
const MOST_PICKLE: u64 = 4 << 30;

/// Reads the pickle of an archive that `torch.save` wrote; nothing in it is executed.
pub(crate) fn read_torch_pickle<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    const FORMAT: &str = "an archive of torch.save (a zip with data.pkl)";
    let damaged = |place: &str, reason: String| DataError::Damaged {
        path: path.to_owned(),
        format: FORMAT,
        place: place.to_owned(),
        reason,
    };
    let mut archive = zip::ZipArchive::new(open(path)?)
        .map_err(|error| damaged("its start", error.to_string()))?;
    let is_pickle = |name: &str| name == "data.pkl" || name.ends_with("/data.pkl");
    let place = (0..archive.len()).find(|place| {
        let entry = archive.by_index_raw(*place);
        entry.is_ok_and(|entry| entry.name().is_ok_and(|name| is_pickle(&name)))
    });
    let place = place.ok_or_else(|| damaged("its list of files", "no data.pkl".to_owned()))?;
    let file = archive.by_index(place);
    let file = file.map_err(|error| damaged("data.pkl", error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MOST_PICKLE)
        .read_to_end(&mut bytes)
        .map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
    pickle::check(&bytes).map_err(|pickle::Refused { at, reason }| {
        damaged(&format!("data.pkl, byte {at}"), reason)
    })?;
    let mut track = serde_path_to_error::Track::new();
    let mut pickle = serde_pickle::Deserializer::new(&bytes[..], serde_pickle::DeOptions::new());
    let tracked = serde_path_to_error::Deserializer::new(&mut pickle, &mut track);
    T::deserialize(tracked).map_err(|error| {
        let place = Place {
            record: "data.pkl".to_owned(),
            field: track.path().to_string(),
            refused: None,
        };
        place.pickle(path, error)
    })
}

/// Ids seen so far, and the record that each belongs to.
pub(crate) struct Ids<I> {
    path: PathBuf,
    list: &'static str,
    field: &'static str,
    seen: HashMap<I, usize>,
}

impl<I: Hash + Eq + Clone + Display> Ids<I> {
    pub(crate) fn new(path: &Path, list: &'static str, field: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            list,
            field,
            seen: HashMap::new(),
        }
    }

    /// Takes the id of the record at `index`, unless another has it.
    pub(crate) fn add(&mut self, index: usize, id: &I) -> Result<(), DataError> {
        match self.seen.insert(id.clone(), index) {
            None => Ok(()),
            Some(first) => Err(DataError::Duplicate {
                path: self.path.clone(),
                record: format!("{}[{index}]", self.list),
                field: self.field,
                value: id.to_string(),
                first: format!("{}[{first}]", self.list),
            }),
        }
    }

    pub(crate) fn contains(&self, id: &I) -> bool {
        self.seen.contains_key(id)
    }
}

/// Strings that Python 2 pickled as bytes: UTF-8, or else Latin-1, as `encoding="latin1"` reads
/// them.
pub(crate) mod text {
    use std::fmt;

    use serde::Deserialize;
    use serde::de::{Deserializer, Error, Visitor};

    /// A string from text or bytes.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        Text::deserialize(deserializer).map(|text| text.0)
    }

    /// A list of them.
    pub(crate) fn list<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        let texts = Vec::<Text>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(|text| text.0).collect())
    }

    struct Text(String);

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_string(TextVisitor).map(Self)
        }
    }

    struct TextVisitor;

    impl Visitor<'_> for TextVisitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
            Ok(text)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
            })
        }
    }
}
