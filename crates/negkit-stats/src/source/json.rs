//! A list in JSON, of any length, element by element.

use std::ops::Range;

use super::lines::count_json;
use super::record::Fields;
use super::stream::{Bytes, broken_off, too_long};
use super::{CHUNK, Chunk, Cut, LONGEST_RECORD, Parse, Stop};
use crate::counter::Counter;
use crate::faults::Place;

/// Where the reader is. Only the nesting is followed; what an element holds is for the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Before the one value of the file.
    Start,
    /// In the outer object, before a key. The bool: whether it may end here.
    Key(bool),
    /// In a key that begins at this byte of `held`.
    InKey,
    /// After a key: whether it is the list.
    Colon(bool),
    /// Before a value: whether it is the list.
    Value(bool),
    /// In a value of the outer object that is not looked for.
    Skip(Nesting),
    /// After such a value.
    AfterValue,
    /// In the list, before an element. The bool: whether the list may end here.
    Element(bool),
    /// In an element.
    InElement(Nesting),
    /// After an element.
    AfterElement,
    /// After the list, or the whole value. What follows in an outer object is not looked at.
    End,
}

/// How deep in a value the reader is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Nesting {
    depth: u32,
    string: bool,
    escaped: bool,
    /// A number, true, false or null, which end where something else begins.
    bare: bool,
}

impl Nesting {
    /// The nesting after the first byte of a value.
    fn of(first: u8) -> Self {
        let (string, open) = (first == b'"', matches!(first, b'{' | b'['));
        Self {
            depth: open.into(),
            string,
            escaped: false,
            bare: !string && !open,
        }
    }

    /// Goes through bytes of a value: how many belong to it, and whether it ends with them.
    fn follow(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    None => return (bytes.len(), false),
                    Some(found) => {
                        at += found + 1;
                        self.escaped = bytes[at - 1] == b'\\';
                        self.string = self.escaped;
                    }
                }
            } else {
                match bytes[at] {
                    b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if self.bare => {
                        return (at, true);
                    }
                    b'"' => self.string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                at += 1;
            }
            if self.depth == 0 && !self.string && !self.bare {
                return (at, true);
            }
        }
        (bytes.len(), false)
    }
}

/// Reads the list out of a file.
pub(super) struct List {
    bytes: Bytes,
    /// The key of the list in an outer object.
    key: String,
    /// The keys that were seen.
    keys: Vec<String>,
    state: State,
    /// Bytes that were read, and which of them are still to be looked at.
    buffer: Vec<u8>,
    open: Range<usize>,
    /// The key or element that is being read.
    held: Vec<u8>,
    offset: u64,
    elements: u64,
    /// Whether the list was there, and whether it is the file itself.
    found: Option<bool>,
    stop: Option<Stop>,
    done: bool,
}

impl List {
    /// A reader that goes on with bytes that have been read.
    pub(super) fn new(bytes: Bytes, key: String, buffer: Vec<u8>, offset: u64) -> Self {
        let open = 0..buffer.len();
        Self {
            bytes,
            key,
            keys: Vec::new(),
            state: State::Start,
            buffer,
            open,
            held: Vec::new(),
            offset,
            elements: 0,
            found: None,
            stop: None,
            done: false,
        }
    }

    /// Whether bytes are left to look at, after reading some if need be.
    fn refill(&mut self) -> bool {
        if self.open.is_empty() && self.stop.is_none() {
            self.buffer.resize(CHUNK, 0);
            let mut filled = 0;
            let result = self.bytes.fill(&mut self.buffer, &mut filled);
            self.open = 0..filled;
            if let Err(error) = result {
                let place = Place::Byte(self.offset + filled as u64);
                self.stop = Some(Stop(place, broken_off(&error)));
            }
        }
        !self.open.is_empty()
    }

    fn advance(&mut self, bytes: usize) {
        self.open.start += bytes;
        self.offset += bytes as u64;
    }

    fn unexpected(&self, expected: &str, found: u8) -> Stop {
        let found = char::from(found).escape_default();
        Stop(
            Place::Byte(self.offset),
            format!("expected {expected}, found '{found}'"),
        )
    }

    /// Looks at the next bytes; an element that ends goes into the chunk.
    fn step(&mut self, chunk: &mut Chunk) -> Result<(), Stop> {
        let bytes = &self.buffer[self.open.clone()];
        match &mut self.state {
            State::Skip(nesting) => {
                let (passed, ended) = nesting.follow(bytes);
                if ended {
                    self.state = State::AfterValue;
                }
                self.advance(passed);
                return Ok(());
            }
            State::InElement(nesting) => {
                let (passed, ended) = nesting.follow(bytes);
                self.held.extend_from_slice(&bytes[..passed]);
                if self.held.len() > LONGEST_RECORD {
                    return Err(Stop(self.item(self.elements), too_long()));
                }
                if ended {
                    self.state = State::AfterElement;
                    self.elements += 1;
                    chunk.push(&self.held);
                    self.held.clear();
                }
                self.advance(passed);
                return Ok(());
            }
            State::InKey => {
                let byte = bytes[0];
                let escaped = self.held.last() == Some(&b'\\');
                if byte == b'"' && !escaped {
                    let key = String::from_utf8_lossy(&self.held).into_owned();
                    self.held.clear();
                    self.state = State::Colon(key == self.key);
                    self.keys.push(key);
                } else {
                    self.held.push(byte);
                    if self.held.len() > CHUNK {
                        return Err(Stop(Place::Byte(self.offset), too_long()));
                    }
                }
                self.advance(1);
                return Ok(());
            }
            _ => {}
        }
        let byte = bytes[0];
        if byte.is_ascii_whitespace() {
            self.advance(1);
            return Ok(());
        }
        self.state = match (&self.state, byte) {
            (State::Start, b'{') => State::Key(true),
            (State::Start, b'[') => {
                self.found = Some(true);
                State::Element(true)
            }
            (State::Start, _) => return Err(self.unexpected("an object or a list", byte)),
            (State::Key(_), b'"') => State::InKey,
            (State::Key(true), b'}') => State::End,
            (State::Key(_), _) => return Err(self.unexpected("a key in quotes", byte)),
            (State::Colon(wanted), b':') => State::Value(*wanted),
            (State::Colon(_), _) => return Err(self.unexpected("':' after a key", byte)),
            (State::Value(true), b'[') => {
                self.found = Some(false);
                State::Element(true)
            }
            (State::Value(true), _) => {
                let expected = format!("a list after the key `{}`", self.key);
                return Err(self.unexpected(&expected, byte));
            }
            (State::Value(false), b',' | b'}' | b']' | b':') => {
                return Err(self.unexpected("a value", byte));
            }
            (State::Value(false), _) => State::Skip(Nesting::of(byte)),
            (State::AfterValue, b',') => State::Key(false),
            (State::AfterValue, b'}') => State::End,
            (State::AfterValue, _) => return Err(self.unexpected("',' or '}' after a value", byte)),
            (State::Element(true), b']') | (State::AfterElement, b']') => State::End,
            (State::Element(_), b',' | b'}' | b']' | b':') => {
                return Err(self.unexpected("an element of the list", byte));
            }
            (State::Element(_), _) => {
                self.held.push(byte);
                State::InElement(Nesting::of(byte))
            }
            (State::AfterElement, b',') => State::Element(false),
            (State::AfterElement, _) => {
                return Err(self.unexpected("',' or ']' after an element", byte));
            }
            (State::InKey | State::Skip(_) | State::InElement(_) | State::End, _) => State::End,
        };
        self.advance(1);
        Ok(())
    }

    /// What is wrong at the end of the file.
    fn at_end(&self) -> Option<Stop> {
        match (&self.state, self.found) {
            (State::End, Some(_)) => None,
            (State::End, None) => Some(Stop(
                Place::File,
                format!(
                    "expected a list under the key `{}`, found the keys: {}; name it with --records",
                    self.key,
                    self.keys.join(", ")
                ),
            )),
            (State::Start, _) => Some(Stop(Place::File, "the file is empty".to_owned())),
            _ => Some(Stop(
                Place::Byte(self.offset),
                format!(
                    "the file is broken off after {} whole elements of the list",
                    self.elements
                ),
            )),
        }
    }

    /// The place of an element.
    fn item(&self, number: u64) -> Place {
        let list = if self.found == Some(true) {
            ""
        } else {
            &self.key
        };
        Place::Item(number, list.to_owned())
    }
}

impl Chunk {
    /// Adds an element.
    fn push(&mut self, element: &[u8]) {
        let end = self.filled + element.len();
        if self.buffer.len() < end {
            self.buffer.resize(end.max(CHUNK), 0);
        }
        self.buffer[self.filled..end].copy_from_slice(element);
        self.filled = end;
        self.ends.push(end);
    }
}

impl Cut for List {
    fn cut(&mut self, chunk: &mut Chunk) -> Result<bool, Stop> {
        chunk.filled = 0;
        chunk.ends.clear();
        chunk.first = self.elements;
        chunk.in_object = self.found == Some(false);
        while !self.done && chunk.filled < CHUNK {
            // Nothing is left to find after the list.
            let result = if self.state != State::End && self.refill() {
                self.step(chunk)
            } else {
                self.done = true;
                self.stop = self.stop.take().or_else(|| self.at_end());
                Ok(())
            };
            if let Err(stop) = result {
                self.done = true;
                self.stop = Some(stop);
            }
            chunk.in_object = self.found == Some(false);
        }
        if !chunk.ends.is_empty() {
            return Ok(true);
        }
        self.stop.take().map_or(Ok(false), Err)
    }

    fn progress(&mut self) -> u64 {
        self.bytes.progress()
    }
}

/// Captions of the elements.
pub(super) struct Elements {
    pub(super) fields: Fields,
    pub(super) key: String,
}

impl Parse for Elements {
    fn parse(&self, chunk: &Chunk, counter: &mut Counter<'_>) {
        let list = if chunk.in_object {
            self.key.as_str()
        } else {
            ""
        };
        let mut start = 0;
        for (end, number) in chunk.ends.iter().zip(chunk.first..) {
            let element = &chunk.buffer[start..*end];
            count_json(element, &self.fields, counter, || {
                Place::Item(number, list.to_owned())
            });
            start = *end;
        }
    }
}
