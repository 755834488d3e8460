//! Which field of a record is the caption.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Names that are looked for where none is given, in any case; the first one that is there is taken.
/// LAION's tables have `caption` or `TEXT`.
const USUAL: [&str; 2] = ["caption", "text"];

/// The name of the caption's field.
#[derive(Debug, Clone)]
pub(super) struct Fields(Option<String>);

/// Captions of a record in JSON.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The caption is null.
    None,
    One(Cow<'a, str>),
    /// A list of captions.
    Many(Vec<Cow<'a, str>>),
}

impl Fields {
    /// The field of this name, or one of the usual ones.
    pub(super) fn new(name: Option<String>) -> Self {
        Self(name)
    }

    /// How good a name is, 0 being the best.
    fn rank(&self, name: &str) -> Option<usize> {
        match &self.0 {
            Some(wanted) => (name == wanted).then_some(0),
            None => USUAL
                .iter()
                .position(|usual| usual.eq_ignore_ascii_case(name)),
        }
    }

    /// The number of the best of some names, from 0.
    ///
    /// # Errors
    /// What was looked for and which names there are.
    pub(super) fn choose<'a>(
        &self,
        what: &str,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<usize, String> {
        let ranked = names.clone().enumerate();
        let ranked = ranked.filter_map(|(i, name)| Some((self.rank(name)?, i)));
        ranked.min().map(|(_, i)| i).ok_or_else(|| {
            let there = names.collect::<Vec<_>>().join(", ");
            format!("expected {what} {self}, found: {there}; name it with --column")
        })
    }

    /// Finds the captions in JSON: an object with the field, or a string or a list of strings.
    pub(super) fn visitor(&self) -> RecordVisitor<'_> {
        RecordVisitor(self)
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "`{name}`"),
            None => write!(f, "`{}` or `{}`", USUAL[0], USUAL[1]),
        }
    }
}

pub(super) struct RecordVisitor<'f>(&'f Fields);

impl<'de> Visitor<'de> for RecordVisitor<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field {}", self.0)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Found<'de>, E> {
        CaptionsVisitor.visit_borrowed_str(text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found<'de>, E> {
        CaptionsVisitor.visit_str(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Found<'de>, A::Error> {
        CaptionsVisitor.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut best: Option<(usize, Found<'de>)> = None;
        let mut names = Vec::new();
        while let Some(name) = map.next_key_seed(Text)? {
            match self.0.rank(&name) {
                Some(rank) if best.as_ref().is_some_and(|(other, _)| *other == rank) => {
                    return Err(Error::custom(format_args!(
                        "the field `{name}` stands twice"
                    )));
                }
                Some(rank) if best.as_ref().is_none_or(|(other, _)| *other > rank) => {
                    best = Some((rank, map.next_value_seed(Captions)?));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    names.push(name);
                }
            }
        }
        best.map(|(_, found)| found).ok_or_else(|| {
            Error::custom(format_args!(
                "expected the field {}, found: {}; name it with --column",
                self.0,
                names.join(", ")
            ))
        })
    }
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct Captions;

impl<'de> DeserializeSeed<'de> for Captions {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found<'de>, D::Error> {
        json.deserialize_any(CaptionsVisitor)
    }
}

struct CaptionsVisitor;

impl<'de> Visitor<'de> for CaptionsVisitor {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a caption, a list of captions, or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Found<'de>, E> {
        Ok(Found::None)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Found<'de>, E> {
        Text.visit_borrowed_str(text).map(Found::One)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found<'de>, E> {
        Text.visit_str(text).map(Found::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found<'de>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element_seed(Text)? {
            texts.push(text);
        }
        Ok(Found::Many(texts))
    }
}
