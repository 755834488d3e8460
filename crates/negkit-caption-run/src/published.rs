//! The captions file as the published tool writes it.

use std::fmt::Write;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// JSON as Python's `json.dump(value, file, indent=4)` writes it, byte for byte: four spaces, and
/// nothing but ASCII. (Numbers with an exponent aside, which captions files do not hold.)
///
/// # Errors
/// When the value cannot be JSON.
pub fn published_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    let text = String::from_utf8_lossy(&bytes);
    // Beyond ASCII there is nothing outside of strings.
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            ascii.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing into a string cannot fail.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    Ok(ascii)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_what_python_writes() {
        // python3 -c 'import json; print(json.dumps({"a": ["é \U0001f642 \x7f\n\"/\\", 1, 2.5, None,
        // True], "b": [], "c": {}}, indent=4))'
        let expected = "{\n    \"a\": [\n        \"\\u00e9 \\ud83d\\ude42 \\u007f\\n\\\"/\\\\\",\n        \
                        1,\n        2.5,\n        null,\n        true\n    ],\n    \"b\": [],\n    \"c\": {}\n}";
        let value = serde_json::json!({
            "a": ["é \u{1f642} \u{7f}\n\"/\\", 1, 2.5, null, true], "b": [], "c": {}
        });
        assert_eq!(published_json(&value).unwrap(), expected);
    }
}
