//! A virtual machine for the pickles that PyTorch writes, which builds data and runs nothing.
//!
//! A pickle is a program: its instructions push values, and some of them name Python functions and
//! call them. Here a name is only ever a name. A small list of functions is *interpreted*
//! ([`interpret`]): those that rebuild a tensor from a storage and those that make containers.
//! Every other call gives an [`Value::Object`] that remembers the class and is never run. A
//! Lightning checkpoint with its callbacks so stays readable. Names that only an attack needs
//! (`os.system`, `builtins.eval`, …) end the reading with [`PickleError::Forbidden`].
//!
//! Values live in an arena and refer to each other by index. Cycles and a nesting of any depth then
//! cost no recursion, neither here nor when the arena is dropped. Each instruction consumes at least
//! a byte, takes bounded time and makes a bounded number of values, and nothing that is referred to
//! twice is copied, so time and memory are linear in the pickle. No length field is trusted before it
//! is compared with what is left of the input.
//!
//! The instruction set is that of CPython's `Lib/pickletools.py`, protocols 0 to 5.

use std::collections::HashMap;

use crate::ElementType;
use crate::torch::globals::{self, Known};

/// Most values in one pickle. A Stable Diffusion checkpoint has about thirty thousand.
const MAX_VALUES: usize = 1 << 22;
/// Most arguments of a call that are looked at; the rebuilding functions have up to eight.
const MAX_ARGUMENTS: usize = 16;
/// Longest name of a module, a class or a storage, in bytes.
const MAX_NAME: usize = 1024;
/// Most dimensions of a tensor; PyTorch's own limit is 64.
const MAX_RANK: usize = 64;

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The input ends within the pickle.
    #[error("the pickle breaks off at byte {at}: the file is truncated")]
    Truncated {
        /// Where, in bytes from the start of the pickle.
        at: usize,
    },
    /// The pickle names something that only an attack needs. Nothing was executed.
    #[error(
        "the pickle refers to `{global}` (byte {at}), which weights never need and an attack does; \
         nothing was executed. Do not load this file elsewhere; get the weights from their authors, \
         best as .safetensors"
    )]
    Forbidden {
        /// Module and name, as `module.name`.
        global: String,
        /// Where, in bytes from the start of the pickle.
        at: usize,
    },
    /// An instruction that is not in the protocol, or one that torch never writes.
    #[error("instruction 0x{opcode:02x} at byte {at} is not supported: {why}")]
    Unsupported {
        /// The instruction.
        opcode: u8,
        /// Where, in bytes from the start of the pickle.
        at: usize,
        /// What it would need.
        why: &'static str,
    },
    /// The pickle contradicts itself.
    #[error("the pickle is malformed at byte {at}: {why}")]
    Malformed {
        /// Where, in bytes from the start of the pickle.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The pickle holds more than any checkpoint does.
    #[error("the pickle holds more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
}

/// Index of a value in its [`Arena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// A `torch.*Storage` that a persistent id refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Name within the file: `data/KEY` in an archive.
    pub key: Id,
    /// `None` for a type without a counterpart here, such as a quantised one.
    pub element: Option<ElementType>,
    /// Elements in the whole storage.
    pub elements: usize,
    /// First element of the part that a view of a storage (legacy format) covers.
    pub view_offset: usize,
}

/// A tensor as it was built: a storage, and how it is viewed. [`Arena::geometry`] gives the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub storage: Storage,
    /// `None` where neither storage nor tensor names a type that can be read.
    pub element: Option<ElementType>,
    offset: Id,
    shape: Id,
    strides: Id,
}

/// How a tensor views its storage, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    /// Contents are never needed.
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global {
        module: Id,
        name: Id,
    },
    Storage(Storage),
    Tensor(Tensor),
    /// Anything made by a class or function that is not interpreted.
    Object {
        class: Id,
        state: Option<Id>,
        items: Vec<(Id, Id)>,
    },
}

/// All values of one pickle.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    values: Vec<Value>,
}

impl Arena {
    pub(crate) fn get(&self, id: Id) -> &Value {
        // Ids are made by `add` alone and an arena never shrinks; a foreign id reads as None.
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        self.values.get_mut(id.0 as usize)
    }

    fn add(&mut self, value: Value) -> Result<Id, PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(PickleError::TooLarge {
                what: "values",
                limit: MAX_VALUES,
            });
        }
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        Ok(id)
    }

    pub(crate) fn str(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    fn int(&self, id: Id) -> Option<i128> {
        match self.get(id) {
            Value::Int(i) => Some(*i),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        usize::try_from(self.int(id)?).ok()
    }

    /// A tuple or list of sizes; also `torch.Size(...)`.
    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_RANK => {
                items.iter().map(|i| self.size(*i)).collect()
            }
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub(crate) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Value::Global { module, name } => Some((self.str(*module)?, self.str(*name)?)),
            _ => None,
        }
    }

    /// Name of a class, as `module.name`.
    pub(crate) fn class_name(&self, id: Id) -> String {
        match self.global(id) {
            Some((module, name)) => format!("{module}.{name}"),
            None => "an unnamed class".to_owned(),
        }
    }

    /// Every reference to a storage.
    pub(crate) fn storages(&self) -> impl Iterator<Item = Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(*storage),
            _ => None,
        })
    }

    pub(crate) fn key(&self, storage: Storage) -> Option<String> {
        self.text_key(storage.key)
    }

    /// Keys of storages are text; some writers use numbers.
    pub(crate) fn text_key(&self, id: Id) -> Option<String> {
        match self.get(id) {
            Value::Str(key) => Some(key.clone()),
            Value::Int(key) => Some(key.to_string()),
            _ => None,
        }
    }

    /// Offset, shape and strides of a tensor; `None` where they are no sizes.
    pub(crate) fn geometry(&self, tensor: Tensor) -> Option<Geometry> {
        Some(Geometry {
            offset: self.size(tensor.offset)?,
            shape: self.sizes(tensor.shape)?,
            strides: self.sizes(tensor.strides)?,
        })
    }

    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }
}

/// A pickle, read.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub arena: Arena,
    pub root: Id,
    /// Bytes that the pickle took; in the legacy format the next one starts there.
    pub consumed: usize,
}

/// Reads the pickle at the start of `input`.
pub(crate) fn read(input: &[u8]) -> Result<Pickle, PickleError> {
    let mut machine = Machine {
        input,
        at: 0,
        opcode_at: 0,
        arena: Arena::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let root = machine.run()?;
    Ok(Pickle {
        consumed: machine.at,
        arena: machine.arena,
        root,
    })
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    opcode_at: usize,
    arena: Arena,
    stack: Vec<Id>,
    /// Heights of the stack at which a MARK stands.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Ids copied from one container into another.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            self.opcode_at = self.at;
            let [opcode] = self.array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    #[rustfmt::skip]
    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            // PROTO, FRAME: of no consequence for what is built.
            0x80 => { let [version] = self.array()?; self.protocol(version) }
            0x95 => self.array::<8>().map(|_| ()),

            b'(' => { self.marks.push(self.stack.len()); Ok(()) }
            b'0' => self.discard(),
            b'1' => self.pop_to_mark().map(|_| ()),
            b'2' => { let top = self.peek()?; self.push_id(top) }

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' => self.text_int(),
            b'L' => self.text_long(),
            b'F' => self.text_float(),
            b'J' => { let n = i32::from_le_bytes(self.array()?); self.push(Value::Int(n.into())) }
            b'K' => { let [n] = self.array()?; self.push(Value::Int(n.into())) }
            b'M' => { let n = u16::from_le_bytes(self.array()?); self.push(Value::Int(n.into())) }
            b'G' => { let x = f64::from_be_bytes(self.array()?); self.push(Value::Float(x)) }
            0x8a => { let n = self.length_1()?; self.long(n) }
            0x8b => { let n = self.length_4_signed()?; self.long(n) }

            b'S' => self.text_string(),
            b'V' => self.text_unicode(),
            b'T' => { let n = self.length_4_signed()?; self.string(n) }
            b'U' => { let n = self.length_1()?; self.string(n) }
            b'X' => { let n = self.length_4()?; self.unicode(n) }
            0x8c => { let n = self.length_1()?; self.unicode(n) }
            0x8d => { let n = self.length_8()?; self.unicode(n) }
            b'B' => { let n = self.length_4()?; self.bytes(n) }
            b'C' => { let n = self.length_1()?; self.bytes(n) }
            0x8e | 0x96 => { let n = self.length_8()?; self.bytes(n) }

            b']' => self.push(Value::List(Vec::new())),
            b'l' => { let items = self.pop_to_mark()?; self.push(Value::List(items)) }
            b'a' => { let item = self.pop()?; self.append(vec![item]) }
            b'e' => { let items = self.pop_to_mark()?; self.append(items) }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => { let items = self.pop_to_mark()?; self.push(Value::Tuple(items)) }
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => { let items = self.pop_to_mark()?; let items = self.pairs(&items)?; self.push(Value::Dict(items)) }
            b's' => { let value = self.pop()?; let key = self.pop()?; self.set_items(vec![(key, value)]) }
            b'u' => { let items = self.pop_to_mark()?; let items = self.pairs(&items)?; self.set_items(items) }
            // Sets hold no tensors that a name leads to: EMPTY_SET, FROZENSET, ADDITEMS.
            0x8f => self.push(Value::List(Vec::new())),
            0x91 => { let items = self.pop_to_mark()?; self.push(Value::List(items)) }
            0x90 => { let items = self.pop_to_mark()?; self.append(items) }

            b'p' => { let key = self.text_index()?; self.memoize(key) }
            b'q' => { let [key] = self.array()?; self.memoize(key.into()) }
            b'r' => { let key = u32::from_le_bytes(self.array()?); self.memoize(key.into()) }
            0x94 => { let key = self.memo.len() as u64; self.memoize(key) }
            b'g' => { let key = self.text_index()?; self.recall(key) }
            b'h' => { let [key] = self.array()?; self.recall(key.into()) }
            b'j' => { let key = u32::from_le_bytes(self.array()?); self.recall(key.into()) }

            b'c' => { let class = self.text_global()?; self.push_id(class) }
            0x93 => self.stack_global(),
            b'R' | 0x81 => self.reduce(),
            b'i' => self.inst(),
            b'o' => self.obj(),
            0x92 => { let _keywords = self.pop()?; self.reduce() }
            b'b' => self.build(),
            b'P' => Err(self.unsupported(opcode, "storages are referred to by tuples, not by text")),
            b'Q' => self.persistent(),

            0x82..=0x84 => Err(self.unsupported(opcode, "it needs Python's extension registry")),
            0x97 | 0x98 => Err(self.unsupported(opcode, "it needs buffers from outside the file")),
            _ => Err(self.unsupported(opcode, "there is no such instruction")),
        }
    }

    fn protocol(&self, version: u8) -> Result<(), PickleError> {
        if version <= 5 {
            Ok(())
        } else {
            Err(self.malformed("the protocol is newer than 5"))
        }
    }

    // Input.

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(length);
        match end.and_then(|end| self.input.get(self.at..end)) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(PickleError::Truncated {
                at: self.input.len(),
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length_1(&mut self) -> Result<usize, PickleError> {
        let [n] = self.array()?;
        Ok(n.into())
    }

    fn length_4(&mut self) -> Result<usize, PickleError> {
        let n = u32::from_le_bytes(self.array()?);
        Ok(n as usize)
    }

    fn length_4_signed(&mut self) -> Result<usize, PickleError> {
        let n = i32::from_le_bytes(self.array()?);
        usize::try_from(n).map_err(|_| self.malformed("a length is negative"))
    }

    fn length_8(&mut self) -> Result<usize, PickleError> {
        let n = u64::from_le_bytes(self.array()?);
        usize::try_from(n).map_err(|_| self.malformed("a length exceeds the address space"))
    }

    /// Text up to the next newline, which is consumed.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.input[self.at..];
        let Some(length) = rest.iter().position(|&b| b == b'\n') else {
            return Err(PickleError::Truncated {
                at: self.input.len(),
            });
        };
        self.at += length + 1;
        let line = &rest[..length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        std::str::from_utf8(line).map_err(|_| self.malformed("a line is not UTF-8"))
    }

    // Stack.

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        let id = self.arena.add(value)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), PickleError> {
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("the stack is empty"));
        }
        self.stack
            .pop()
            .ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn peek(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(top) if self.stack.len() > floor => Ok(*top),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    /// POP takes a value or, when there is none above it, the topmost mark.
    fn discard(&mut self) -> Result<(), PickleError> {
        match self.marks.last() {
            Some(&floor) if self.stack.len() <= floor => {
                self.marks.pop();
                Ok(())
            }
            _ => self.pop().map(|_| ()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some(floor) if floor <= self.stack.len() => Ok(self.stack.split_off(floor)),
            _ => Err(self.malformed("there is no mark on the stack")),
        }
    }

    fn memoize(&mut self, key: u64) -> Result<(), PickleError> {
        let top = self.peek()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), PickleError> {
        match self.memo.get(&key) {
            Some(id) => self.push_id(*id),
            None => Err(self.malformed("a memo is read that was never written")),
        }
    }

    // Scalars.

    fn text_index(&mut self) -> Result<u64, PickleError> {
        let line = self.line()?;
        line.parse()
            .map_err(|_| self.malformed("a memo index is no number"))
    }

    fn text_int(&mut self) -> Result<(), PickleError> {
        let value = match self.line()? {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            text => self.parse_int(text)?,
        };
        self.push(value)
    }

    fn text_long(&mut self) -> Result<(), PickleError> {
        let text = self.line()?;
        let value = self.parse_int(text.strip_suffix('L').unwrap_or(text))?;
        self.push(value)
    }

    fn parse_int(&self, text: &str) -> Result<Value, PickleError> {
        let digits = text.trim();
        match digits.parse() {
            Ok(value) => Ok(Value::Int(value)),
            // Longer than 128 bits: see `long`.
            Err(_) if is_decimal(digits) => Ok(Value::Bytes),
            Err(_) => Err(self.malformed("an integer is not written as one")),
        }
    }

    fn text_float(&mut self) -> Result<(), PickleError> {
        let line = self.line()?;
        let value = line
            .trim()
            .parse()
            .map_err(|_| self.malformed("a float is not written as one"))?;
        self.push(Value::Float(value))
    }

    /// A two's complement integer of any length. Those over 128 bits are kept as bytes: nothing
    /// that leads to a tensor is as large.
    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        let value = match wide.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i128::from_le_bytes(wide))
            }
            None => Value::Bytes,
        };
        self.push(value)
    }

    fn string(&mut self, length: usize) -> Result<(), PickleError> {
        // Python 2's `str`: text where a name is meant, bytes otherwise.
        let bytes = self.take(length)?;
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) => Value::Str(text.to_owned()),
            Err(_) => Value::Bytes,
        })
    }

    fn unicode(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        // Python writes lone surrogates in a way that is not UTF-8; no tensor has such a name.
        self.push(Value::Str(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn bytes(&mut self, length: usize) -> Result<(), PickleError> {
        self.take(length)?;
        self.push(Value::Bytes)
    }

    /// A quoted string as Python 2's `repr` writes it.
    fn text_string(&mut self) -> Result<(), PickleError> {
        let line = self.line()?;
        let inner = ['\'', '"']
            .iter()
            .find_map(|q| line.strip_prefix(*q)?.strip_suffix(*q))
            .ok_or_else(|| self.malformed("a string is not quoted"))?;
        let text = unescape(inner).ok_or_else(|| self.malformed("a string is wrongly escaped"))?;
        self.push(Value::Str(text))
    }

    fn text_unicode(&mut self) -> Result<(), PickleError> {
        let line = self.line()?;
        let text =
            unescape_unicode(line).ok_or_else(|| self.malformed("a string is wrongly escaped"))?;
        self.push(Value::Str(text))
    }

    // Containers.

    fn tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a dictionary has a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let target = self.peek()?;
        match self.arena.get_mut(target) {
            Some(Value::List(list)) => list.extend(items),
            // What an unknown class does with its elements is its own affair.
            Some(Value::Object { .. }) => {}
            _ => return Err(self.malformed("elements are added to something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), PickleError> {
        let target = self.peek()?;
        match self.arena.get_mut(target) {
            Some(Value::Dict(items) | Value::Object { items, .. }) => items.extend(pairs),
            _ => return Err(self.malformed("items are set on something that is no dictionary")),
        }
        Ok(())
    }

    // Classes and functions.

    /// GLOBAL: module and name in the text.
    fn text_global(&mut self) -> Result<Id, PickleError> {
        let module = self.line()?.to_owned();
        let name = self.line()?.to_owned();
        let module = self.arena.add(Value::Str(module))?;
        let name = self.arena.add(Value::Str(name))?;
        self.global(module, name)
    }

    fn stack_global(&mut self) -> Result<(), PickleError> {
        let name = self.pop()?;
        let module = self.pop()?;
        let class = self.global(module, name)?;
        self.push_id(class)
    }

    fn global(&mut self, module: Id, name: Id) -> Result<Id, PickleError> {
        let (Some(module_text), Some(name_text)) = (self.arena.str(module), self.arena.str(name))
        else {
            return Err(self.malformed("the name of a class is no text"));
        };
        if module_text.len() > MAX_NAME || name_text.len() > MAX_NAME {
            return Err(self.malformed("the name of a class is longer than any"));
        }
        if globals::is_forbidden(module_text, name_text) {
            return Err(PickleError::Forbidden {
                global: format!("{module_text}.{name_text}"),
                at: self.opcode_at,
            });
        }
        self.arena.add(Value::Global { module, name })
    }

    /// INST: class in the text, arguments down to the mark.
    fn inst(&mut self) -> Result<(), PickleError> {
        let items = self.pop_to_mark()?;
        let class = self.text_global()?;
        self.call(class, &items)
    }

    /// OBJ: the class lies at the mark, its arguments above.
    fn obj(&mut self) -> Result<(), PickleError> {
        let items = self.pop_to_mark()?;
        match items.split_first() {
            Some((class, args)) => self.call(*class, args),
            None => Err(self.malformed("an object has no class")),
        }
    }

    /// REDUCE, NEWOBJ and NEWOBJ_EX: a callable and a tuple of arguments.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let args = self.pop()?;
        let callable = self.pop()?;
        self.call_with_tuple(callable, args)
    }

    fn call_with_tuple(&mut self, callable: Id, args: Id) -> Result<(), PickleError> {
        match self.arena.get(args) {
            Value::Tuple(items) => {
                let args: Vec<Id> = items.iter().copied().take(MAX_ARGUMENTS).collect();
                self.call(callable, &args)
            }
            _ => Err(self.malformed("a call has no tuple of arguments")),
        }
    }

    fn call(&mut self, callable: Id, args: &[Id]) -> Result<(), PickleError> {
        let known = self.arena.global(callable);
        match known.and_then(|(module, name)| globals::known(module, name)) {
            Some(known) => self.interpret(known, args),
            None => self.push_object(callable),
        }
    }

    fn push_object(&mut self, class: Id) -> Result<(), PickleError> {
        self.push(Value::Object {
            class,
            state: None,
            items: Vec::new(),
        })
    }

    /// The only calls that are more than a name.
    fn interpret(&mut self, known: Known, args: &[Id]) -> Result<(), PickleError> {
        match (known, args) {
            (Known::Dict, _) => self.make_dict(args),
            (Known::Sequence, []) => self.push(Value::Tuple(Vec::new())),
            (Known::Sequence | Known::Unwrap, [inner, ..]) => self.push_id(*inner),
            (Known::RebuildTensor, _) => self.rebuild_tensor(args),
            // The function is not asked to be another such one: that would be recursion without end.
            (Known::RebuildFromType, [function, _, inner, ..]) => {
                let known = self.arena.global(*function);
                match known.and_then(|(module, name)| globals::known(module, name)) {
                    Some(Known::RebuildFromType) => {
                        Err(self.malformed("a tensor subclass is built from itself"))
                    }
                    _ => self.call_with_tuple(*function, *inner),
                }
            }
            (Known::Reconstruct, [class, ..]) => self.push_object(*class),
            _ => Err(self.malformed("a call has too few arguments")),
        }
    }

    /// `OrderedDict()`, and as Python 2 wrote it `OrderedDict([[key, value], …])`. A `defaultdict`
    /// has its factory as the first argument.
    fn make_dict(&mut self, args: &[Id]) -> Result<(), PickleError> {
        let items = args
            .iter()
            .find_map(|a| self.arena.items(*a))
            .unwrap_or(&[]);
        // This copies what another instruction could have copied already, so it is paid for.
        self.copied += items.len();
        if self.copied > MAX_VALUES {
            return Err(PickleError::TooLarge {
                what: "values",
                limit: MAX_VALUES,
            });
        }
        let mut pairs = Vec::new();
        for item in items {
            match self.arena.items(*item) {
                Some([key, value]) => pairs.push((*key, *value)),
                _ => return Err(self.malformed("a dictionary is built from other than pairs")),
            }
        }
        self.push(Value::Dict(pairs))
    }

    /// `_rebuild_tensor(storage, offset, size, stride)`, `_v2(…, requires_grad, hooks, metadata)`
    /// and `_v3(…, requires_grad, hooks, dtype, metadata)`: `torch/_utils.py`.
    fn rebuild_tensor(&mut self, args: &[Id]) -> Result<(), PickleError> {
        let malformed = self.malformed("a tensor is built from wrong arguments");
        let [storage, offset, shape, strides, rest @ ..] = args else {
            return Err(malformed);
        };
        let Value::Storage(storage) = self.arena.get(*storage) else {
            return Err(malformed);
        };
        let mut element = storage.element;
        for extra in rest {
            if let Some(("torch", dtype)) = self.arena.global(*extra) {
                element = ElementType::of_torch_dtype(dtype);
            }
            // A lazily conjugated or negated tensor holds other values than its storage.
            if self.is_flagged(*extra) {
                element = None;
            }
        }
        self.push(Value::Tensor(Tensor {
            storage: *storage,
            element,
            offset: *offset,
            shape: *shape,
            strides: *strides,
        }))
    }

    /// Whether tensor metadata such as `{"conj": True}` has a flag set.
    fn is_flagged(&self, id: Id) -> bool {
        match self.arena.get(id) {
            Value::Dict(items) => items
                .iter()
                .take(MAX_ARGUMENTS)
                .any(|(_, v)| *self.arena.get(*v) == Value::Bool(true)),
            _ => false,
        }
    }

    /// BUILD sets an object's state. Dictionaries and tensors have attributes too (`_metadata` of a
    /// state dict, backward hooks), which carry no weights.
    fn build(&mut self) -> Result<(), PickleError> {
        let new_state = self.pop()?;
        let target = self.peek()?;
        if let Some(Value::Object { state, .. }) = self.arena.get_mut(target) {
            *state = Some(new_state);
        }
        Ok(())
    }

    /// `('storage', class, key, location, elements)`, in the legacy format with a sixth element:
    /// `None` or `(view key, offset, size)`. `('module', class, …)` is a class with its source.
    fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let malformed = self.malformed("a storage is referred to by something else than its tuple");
        let Some(items) = self.arena.items(id) else {
            return Err(malformed);
        };
        match (items.first().and_then(|i| self.arena.str(*i)), items) {
            (Some("module"), [_, class, ..]) => self.push_id(*class),
            (Some("storage"), [_, class, key, _location, elements, view @ ..]) => {
                let (Some((_, name)), Some(elements)) =
                    (self.arena.global(*class), self.arena.size(*elements))
                else {
                    return Err(malformed);
                };
                if self.arena.str(*key).is_some_and(|key| key.len() > MAX_NAME) {
                    return Err(malformed);
                }
                let view_offset = match view.first().and_then(|v| self.arena.items(*v)) {
                    Some([_, offset, _]) => self.arena.size(*offset).ok_or(malformed)?,
                    Some(_) => return Err(malformed),
                    None => 0,
                };
                let storage = Storage {
                    key: *key,
                    element: ElementType::of_torch_storage(name),
                    elements,
                    view_offset,
                };
                self.push(Value::Storage(storage))
            }
            _ => Err(malformed),
        }
    }

    fn malformed(&self, why: &'static str) -> PickleError {
        PickleError::Malformed {
            at: self.opcode_at,
            why,
        }
    }

    fn unsupported(&self, opcode: u8, why: &'static str) -> PickleError {
        PickleError::Unsupported {
            opcode,
            at: self.opcode_at,
            why,
        }
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Escapes of Python 2's `repr` of a `str`.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' => hex_char(&mut chars, 2)?,
            other => other,
        });
    }
    Some(out)
}

/// Python's `raw-unicode-escape`: only `\uXXXX` and `\UXXXXXXXX` are escapes.
fn unescape_unicode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        match chars.next() {
            Some('u') => out.push(hex_char(&mut chars, 4)?),
            Some('U') => out.push(hex_char(&mut chars, 8)?),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Some(out)
}

fn hex_char(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0_u32;
    for _ in 0..digits {
        code = code
            .checked_mul(16)?
            .checked_add(chars.next()?.to_digit(16)?)?;
    }
    // Lone surrogates become the replacement character, as they do in binary strings.
    Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
}
