//! Whether a pickle is plain data of a sensible shape, known before it is read.
//!
//! `serde_pickle` executes nothing, but it builds nested values and takes them down recursively,
//! and repeats what is referred to twice. A few bytes could so overflow the stack, or take years.
//! Here the instructions are walked over once, with a depth and a size for each value instead of
//! the value, and what no dataset needs is refused: calls of any kind first of all.

use std::collections::HashMap;

/// Deepest nesting; references of RefCOCO have six levels.
const MOST_DEPTH: u32 = 64;
/// Most values, counted as often as they are referred to; RefCOCO has about three million.
const MOST_VALUES: u64 = 1 << 27;

/// Why a pickle is refused, and at which byte.
pub(crate) struct Refused {
    pub(crate) at: usize,
    pub(crate) reason: String,
}

#[derive(Clone, Copy)]
struct Shape {
    depth: u32,
    values: u64,
    /// Whether it was referred to again: from then on it must not grow.
    shared: bool,
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    shapes: Vec<Shape>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

/// Walks over a pickle up to its end, or to where it breaks off or makes no sense: that the reader
/// tells in its own words, and reads no further either.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Refused> {
    let mut walk = Walk {
        bytes,
        at: 0,
        shapes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = walk.at;
        match walk.step() {
            Ok(Some(true)) => {}
            Ok(Some(false)) if walk.at < bytes.len() => {
                let reason = format!("{} bytes after its end", bytes.len() - walk.at);
                return Err(Refused {
                    at: walk.at,
                    reason,
                });
            }
            Ok(Some(false) | None) => return Ok(()),
            Err(reason) => return Err(Refused { at, reason }),
        }
    }
}

impl<'b> Walk<'b> {
    fn take(&mut self, count: u64) -> Option<&'b [u8]> {
        let count = usize::try_from(count).ok()?;
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, width: u64) -> Option<u64> {
        let bytes = self.take(width)?.iter().rev();
        Some(bytes.fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Option<&'b [u8]> {
        let length = self.bytes[self.at..]
            .iter()
            .position(|&byte| byte == b'\n')?;
        let line = self.take(length as u64)?;
        self.at += 1;
        Some(line)
    }

    fn push(&mut self, depth: u32, values: u64) -> Result<(), String> {
        checked(depth, values)?;
        self.stack.push(self.shapes.len());
        self.shapes.push(Shape {
            depth,
            values,
            shared: false,
        });
        Ok(())
    }

    /// Takes the topmost values from a position on, and gives what a container of them is.
    fn gather(&mut self, from: usize) -> (u32, u64) {
        let items = self
            .stack
            .drain(from.min(self.stack.len())..)
            .map(|place| self.shapes[place]);
        items.fold((0, 1), |(depth, values), item| {
            (
                depth.max(item.depth + 1),
                values.saturating_add(item.values),
            )
        })
    }

    /// Puts the topmost values from a position on into the container below them.
    fn fill(&mut self, from: usize) -> Result<Option<()>, String> {
        let (depth, values) = self.gather(from);
        let Some(&place) = self.stack.last() else {
            return Ok(None);
        };
        let shape = self.shapes[place];
        if shape.shared {
            return Err("a container that grows after it was referred to".to_owned());
        }
        checked(shape.depth.max(depth), shape.values.saturating_add(values))?;
        self.shapes[place].depth = shape.depth.max(depth);
        self.shapes[place].values = shape.values.saturating_add(values);
        Ok(Some(()))
    }

    fn remember(&mut self, key: Option<u64>) -> Option<()> {
        let place = *self.stack.last()?;
        self.memo.insert(key?, place);
        Some(())
    }

    fn recall(&mut self, key: Option<u64>) -> Option<()> {
        let place = *self.memo.get(&key?)?;
        self.shapes[place].shared = true;
        self.stack.push(place);
        Some(())
    }

    fn key_line(&mut self) -> Option<u64> {
        std::str::from_utf8(self.line()?).ok()?.parse().ok()
    }

    /// Where the topmost `count` values begin.
    fn top(&self, count: usize) -> Option<usize> {
        self.stack.len().checked_sub(count)
    }

    /// One instruction. `Some(true)`: another follows; `Some(false)`: it was the last; `None`: it
    /// breaks off or makes no sense.
    fn step(&mut self) -> Result<Option<bool>, String> {
        let Some(&[opcode]) = self.take(1) else {
            return Ok(None);
        };
        // The numbers are those of CPython's Lib/pickle.py.
        let done = match opcode {
            b'.' => return Ok(Some(false)),
            // PROTO, FRAME
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Some(())
            }
            // None, True, False, and the empty containers
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' | 0x8f => {
                self.push(0, 1)?;
                Some(())
            }
            // Numbers and texts: a line each
            b'I' | b'L' | b'F' | b'S' | b'V' => match self.line() {
                None => None,
                Some(_) => Some(self.push(0, 1)?),
            },
            // of a known length
            b'K' | b'M' | b'J' | b'G' => {
                let length = match opcode {
                    b'K' => 1,
                    b'M' => 2,
                    b'J' => 4,
                    _ => 8,
                };
                match self.take(length) {
                    None => None,
                    Some(_) => Some(self.push(0, 1)?),
                }
            }
            // or with their length before them.
            0x8a | b'C' | b'U' | 0x8c | 0x8b | b'B' | b'T' | b'X' | 0x8e | 0x8d | 0x96 => {
                let width = match opcode {
                    0x8a | b'C' | b'U' | 0x8c => 1,
                    0x8b | b'B' | b'T' | b'X' => 4,
                    _ => 8,
                };
                match self.number(width).and_then(|length| self.take(length)) {
                    None => None,
                    Some(_) => Some(self.push(0, 1)?),
                }
            }
            // The memo
            b'p' => {
                let key = self.key_line();
                self.remember(key)
            }
            b'q' | b'r' => {
                let key = self.number(if opcode == b'q' { 1 } else { 4 });
                self.remember(key)
            }
            0x94 => self.remember(Some(self.memo.len() as u64)),
            b'g' => {
                let key = self.key_line();
                self.recall(key)
            }
            b'h' | b'j' => {
                let key = self.number(if opcode == b'h' { 1 } else { 4 });
                self.recall(key)
            }
            // Tuples of one, two and three
            0x85..=0x87 => match self.top(usize::from(opcode - 0x84)) {
                None => None,
                Some(from) => Some(self.container(from)?),
            },
            // TUPLE, LIST, DICT, FROZENSET
            b't' | b'l' | b'd' | 0x91 => match self.marks.pop() {
                None => None,
                Some(from) => Some(self.container(from)?),
            },
            // APPEND, SETITEM
            b'a' | b's' => match self.top(if opcode == b'a' { 1 } else { 2 }) {
                None => None,
                Some(from) => self.fill(from)?,
            },
            // APPENDS, SETITEMS, ADDITEMS
            b'e' | b'u' | 0x90 => match self.marks.pop() {
                None => None,
                Some(from) => self.fill(from)?,
            },
            _ => {
                return Err(format!(
                    "instruction 0x{opcode:02x}, which plain data does not need and which may call \
                     something; nothing was executed"
                ));
            }
        };
        Ok(done.map(|()| true))
    }

    fn container(&mut self, from: usize) -> Result<(), String> {
        let (depth, values) = self.gather(from);
        self.push(depth, values)
    }
}

fn checked(depth: u32, values: u64) -> Result<(), String> {
    if depth > MOST_DEPTH {
        return Err(format!("values nested more than {MOST_DEPTH} deep"));
    }
    if values > MOST_VALUES {
        return Err(format!("more than {MOST_VALUES} values"));
    }
    Ok(())
}
