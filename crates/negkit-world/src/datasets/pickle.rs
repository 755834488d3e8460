//! Python's pickle, protocol 2, as far as plain data needs it: what `refs(umd).p` is.

use serde_json::Value;

const PROTO: u8 = 0x80;
const MARK: u8 = b'(';
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const NEWTRUE: u8 = 0x88;
const NEWFALSE: u8 = 0x89;
const BININT: u8 = b'J';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const BINUNICODE: u8 = b'X';
const EMPTY_LIST: u8 = b']';
const APPENDS: u8 = b'e';
const EMPTY_DICT: u8 = b'}';
const SETITEMS: u8 = b'u';

/// The value as Python's `pickle.dumps(value, protocol=2)` would keep it (without memoised
/// strings): `pickle.load` of any Python reads it.
pub fn to_pickle(value: &Value) -> Vec<u8> {
    let mut bytes = vec![PROTO, 2];
    push(&mut bytes, value);
    bytes.push(STOP);
    bytes
}

fn push(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(NONE),
        Value::Bool(true) => bytes.push(NEWTRUE),
        Value::Bool(false) => bytes.push(NEWFALSE),
        Value::Number(number) => {
            if let Some(int) = number.as_i64() {
                push_integer(bytes, i128::from(int));
            } else if let Some(int) = number.as_u64() {
                push_integer(bytes, i128::from(int));
            } else {
                bytes.push(BINFLOAT);
                bytes.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
        }
        Value::String(text) => push_text(bytes, text),
        Value::Array(items) => {
            bytes.push(EMPTY_LIST);
            bytes.push(MARK);
            for item in items {
                push(bytes, item);
            }
            bytes.push(APPENDS);
        }
        Value::Object(entries) => {
            bytes.push(EMPTY_DICT);
            bytes.push(MARK);
            for (key, value) in entries {
                push_text(bytes, key);
                push(bytes, value);
            }
            bytes.push(SETITEMS);
        }
    }
}

fn push_integer(bytes: &mut Vec<u8>, int: i128) {
    if let Ok(int) = i32::try_from(int) {
        bytes.push(BININT);
        bytes.extend(int.to_le_bytes());
    } else {
        // Nine bytes hold every i64 and u64 with its sign.
        bytes.push(LONG1);
        bytes.push(9);
        bytes.extend(&int.to_le_bytes()[..9]);
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(BINUNICODE);
    // A string of 4 GiB cannot come from a caption.
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}
