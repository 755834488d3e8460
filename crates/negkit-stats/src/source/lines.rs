//! A record a line: plain text, and JSON lines.

use serde::Deserializer as _;

use super::record::{Fields, Found};
use super::stream::Records;
use super::{Chunk, Parse};
use crate::counter::Counter;
use crate::faults::Place;

/// Records that end with a line.
pub(super) struct Lines;

impl Records for Lines {
    fn last_end(&self, bytes: &[u8]) -> Option<usize> {
        memchr::memrchr(b'\n', bytes).map(|end| end + 1)
    }
}

/// The lines of a chunk without their ends.
fn lines(chunk: &Chunk) -> impl Iterator<Item = (u64, &[u8])> {
    let bytes = chunk.bytes();
    let mut at = 0;
    let mut number = chunk.first;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        at += end + 1;
        number += 1;
        Some((
            number - 1,
            rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]),
        ))
    })
}

/// A caption a line. Empty lines are none.
pub(super) struct Text;

impl Parse for Text {
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>) {
        for (number, line) in lines(chunk) {
            counter.caption(line, || Place::Line(number));
        }
    }
}

/// An object a line. Empty lines are skipped.
pub(super) struct JsonLines {
    pub(super) fields: Fields,
}

impl Parse for JsonLines {
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>) {
        for (number, line) in lines(chunk) {
            if !line.trim_ascii().is_empty() {
                count_json(line, &self.fields, counter, || Place::Line(number));
            }
        }
    }
}

/// Counts the captions of one record in JSON.
pub(super) fn count_json(
    record: &[u8],
    fields: &Fields,
    counter: &mut Counter<'_>,
    place: impl Fn() -> Place,
) {
    let mut json = serde_json::Deserializer::from_slice(record);
    let found = json
        .deserialize_any(fields.visitor())
        .and_then(|found| json.end().map(|()| found));
    match found {
        Ok(Found::None) => counter.missing(),
        Ok(Found::One(text)) => counter.caption(text.as_bytes(), place),
        Ok(Found::Many(texts)) => {
            for text in texts {
                counter.caption(text.as_bytes(), &place);
            }
        }
        Err(error) => {
            let text = error.to_string();
            // The line is that of the record, not of the file.
            let at = format!(" at line {} column {}", error.line(), error.column());
            let what = text.strip_suffix(&at).unwrap_or(&text);
            let reason = match error.column() {
                0 => what.to_owned(),
                column => format!("column {column} of the record: {what}"),
            };
            counter.fault(place(), reason);
        }
    }
}
