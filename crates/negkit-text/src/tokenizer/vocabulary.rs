//! Tokens and merges: where they are read from, and what makes them a valid pair.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use negkit_digest::hexadecimal;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::TokenizerError;
use super::config::{DEFAULT_BOS, DEFAULT_EOS, read_json, read_text};

/// CLIP's merges in the form of a published `merges.txt`; see `data/LICENSE-CLIP`.
static CLIP_MERGES: &[u8] = include_bytes!("../../data/clip_merges.txt.gz");

/// Ids from here on are refused. CLIP's vocabularies have some 50 thousand tokens and the largest
/// known ones under a million; an id near `u32::MAX` is a damaged file.
const ID_LIMIT: u32 = 1 << 24;

/// What CLIP's vocabularies append to the last symbol of a word.
pub(super) const END_OF_WORD: &str = "</w>";

/// The tokens of a byte-pair encoding with their ids, and its merges in order of priority.
///
/// Every value of this type is consistent: both sides of a merge and their concatenation are
/// tokens. The `tokenizers` library relies on that when it builds its tables.
pub(super) struct Vocabulary {
    pub(super) tokens: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
}

/// The parts of a `tokenizer.json` that are needed before the library reads it.
pub(super) struct TokenizerJson {
    pub(super) document: Value,
    pub(super) vocabulary: Vocabulary,
    pub(super) unk_token: Option<String>,
    pub(super) end_of_word: Option<String>,
}

/// The merges of CLIP's own vocabulary, in order of priority.
///
/// # Errors
/// None on an intact build; a damaged one is reported instead of causing a panic.
pub fn clip_merges() -> Result<Vec<(String, String)>, TokenizerError> {
    Ok(Vocabulary::built_in()?.merges)
}

impl Vocabulary {
    /// CLIP's own vocabulary: the 256 bytes as printable characters, the same at the end of a
    /// word, the result of each merge, and the two markers (`SimpleTokenizer.__init__` in
    /// OpenAI's `clip/simple_tokenizer.py`).
    pub(super) fn built_in() -> Result<Self, TokenizerError> {
        let mut text = String::new();
        GzDecoder::new(CLIP_MERGES)
            .read_to_string(&mut text)
            .map_err(|source| TokenizerError::Read {
                path: PathBuf::from("CLIP's built-in vocabulary"),
                source,
            })?;
        let lines = parse_merges(&text, Path::new("CLIP's built-in vocabulary"))?;
        let bytes = byte_characters();
        let tokens = bytes
            .iter()
            .map(char::to_string)
            .chain(bytes.iter().map(|c| format!("{c}{END_OF_WORD}")))
            .chain(
                lines
                    .iter()
                    .map(|(_, (left, right))| format!("{left}{right}")),
            )
            .chain([DEFAULT_BOS.to_owned(), DEFAULT_EOS.to_owned()])
            .zip(0..)
            .collect();
        let merges = lines.into_iter().map(|(_, merge)| merge).collect();
        Ok(Self { tokens, merges })
    }

    /// Reads `vocab.json` (token to id) and `merges.txt` (one merge a line, after an optional
    /// `#version` line).
    pub(super) fn from_files(vocab: &Path, merges: &Path) -> Result<Self, TokenizerError> {
        let tokens: HashMap<String, u32> = read_json(vocab, "vocab.json, tokens to ids")?;
        let lines = parse_merges(&read_text(merges)?, merges)?;
        check_ids(&tokens, vocab)?;
        for (line, (left, right)) in &lines {
            check_merge(&tokens, left, right, || at_line(merges, *line))?;
        }
        let merges = lines.into_iter().map(|(_, merge)| merge).collect();
        Ok(Self { tokens, merges })
    }

    /// A short name for exactly these tokens, ids and merges: the first 16 hexadecimal digits of
    /// the SHA-256 over the tokens by id, then the merges by priority. Numbers are hashed as
    /// little-endian `u32`, strings after their length in bytes.
    pub(super) fn fingerprint(
        tokens: &HashMap<String, u32>,
        merges: &[(String, String)],
    ) -> String {
        let mut hash = Sha256::new();
        hash.update(b"negkit tokenizer 1\0");
        let mut by_id: Vec<(u32, &str)> = tokens.iter().map(|(t, id)| (*id, t.as_str())).collect();
        by_id.sort_unstable();
        hash_length(&mut hash, by_id.len());
        for (id, token) in by_id {
            hash.update(id.to_le_bytes());
            hash_text(&mut hash, token);
        }
        hash_length(&mut hash, merges.len());
        for (left, right) in merges {
            hash_text(&mut hash, left);
            hash_text(&mut hash, right);
        }
        hexadecimal(&hash.finalize()[..8])
    }
}

impl TokenizerJson {
    /// Reads a `tokenizer.json` and takes out its BPE model.
    pub(super) fn read(path: &Path) -> Result<Self, TokenizerError> {
        let mut document: Value = read_json(path, "tokenizer.json")?;
        let Some(model) = document.get_mut("model").and_then(Value::as_object_mut) else {
            return Err(TokenizerError::NotBpe {
                path: path.to_owned(),
                found: "missing".to_owned(),
            });
        };
        // Files from before tokenizers 0.8 do not name the model's type.
        if let Some(kind) = model
            .get("type")
            .and_then(Value::as_str)
            .filter(|kind| *kind != "BPE")
        {
            return Err(TokenizerError::NotBpe {
                path: path.to_owned(),
                found: kind.to_owned(),
            });
        }
        // Dropout is for training; it would make every encoding a throw of dice.
        model.remove("dropout");
        let parts = ModelParts::deserialize(Value::Object(model.clone())).map_err(|source| {
            TokenizerError::Json {
                path: path.to_owned(),
                expected: "tokenizer.json with a BPE model",
                source,
            }
        })?;
        if let Some(found) = parts
            .continuing_subword_prefix
            .filter(|prefix| !prefix.is_empty())
        {
            return Err(TokenizerError::SubwordPrefix {
                path: path.to_owned(),
                found,
            });
        }
        check_ids(&parts.vocab, path)?;
        let at = |rank: usize| format!("{}: model.merges[{rank}]", path.display());
        let merges = match parts.merges {
            Merges::Pairs(pairs) => pairs,
            Merges::Lines(lines) => lines
                .iter()
                .filter(|line| !line.starts_with(VERSION_LINE))
                .enumerate()
                .map(|(rank, line)| parse_merge(line, || at(rank)))
                .collect::<Result<_, _>>()?,
        };
        for (rank, (left, right)) in merges.iter().enumerate() {
            check_merge(&parts.vocab, left, right, || at(rank))?;
        }
        Ok(Self {
            document,
            vocabulary: Vocabulary {
                tokens: parts.vocab,
                merges,
            },
            unk_token: parts.unk_token,
            end_of_word: parts.end_of_word_suffix,
        })
    }
}

#[derive(Deserialize)]
struct ModelParts {
    vocab: HashMap<String, u32>,
    merges: Merges,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Merges are pairs since tokenizers 0.20 and were lines before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merges {
    Pairs(Vec<(String, String)>),
    Lines(Vec<String>),
}

const VERSION_LINE: &str = "#version";

/// A merge's line number, from 1, and its two tokens.
type MergeLine = (usize, (String, String));

/// The merges of a `merges.txt`. Blank lines are passed over, so that a file which an editor
/// ended with one is not refused.
fn parse_merges(text: &str, path: &Path) -> Result<Vec<MergeLine>, TokenizerError> {
    let is_version = |number: usize, line: &str| number == 1 && line.starts_with(VERSION_LINE);
    text.lines()
        .zip(1..)
        .map(|(line, number)| (number, line))
        .filter(|(number, line)| !line.is_empty() && !is_version(*number, line))
        .map(|(number, line)| Ok((number, parse_merge(line, || at_line(path, number))?)))
        .collect()
}

fn parse_merge(
    line: &str,
    at: impl FnOnce() -> String,
) -> Result<(String, String), TokenizerError> {
    match line.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(TokenizerError::MalformedMerge {
            at: at(),
            found: line.to_owned(),
        }),
    }
}

fn at_line(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

fn check_ids(tokens: &HashMap<String, u32>, path: &Path) -> Result<(), TokenizerError> {
    match tokens.iter().find(|(_, id)| **id >= ID_LIMIT) {
        Some((token, id)) => Err(TokenizerError::IdTooLarge {
            token: token.clone(),
            id: *id,
            limit: ID_LIMIT,
            tokenizer: path.display().to_string(),
        }),
        None => Ok(()),
    }
}

fn check_merge(
    tokens: &HashMap<String, u32>,
    left: &str,
    right: &str,
    at: impl FnOnce() -> String,
) -> Result<(), TokenizerError> {
    let joined = format!("{left}{right}");
    match [left, right, joined.as_str()]
        .into_iter()
        .find(|token| !tokens.contains_key(*token))
    {
        None => Ok(()),
        Some(missing) => Err(TokenizerError::MergeOutsideVocabulary {
            at: at(),
            left: left.to_owned(),
            right: right.to_owned(),
            missing: missing.to_owned(),
        }),
    }
}

/// GPT-2's reversible table from bytes to printable characters, in the order in which CLIP
/// numbers them: the printable Latin-1 characters first, then stand-ins for the other bytes.
fn byte_characters() -> Vec<char> {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    let stand_ins = '\u{100}'..='\u{143}';
    printable.chain(stand_ins).collect()
}

fn hash_length(hash: &mut Sha256, length: usize) {
    // Lengths are of things that were read into memory from files far below 4 GiB.
    hash.update(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn hash_text(hash: &mut Sha256, text: &str) {
    hash_length(hash, text.len());
    hash.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut characters = byte_characters();
        characters.sort_unstable();
        characters.dedup();
        assert_eq!(characters.len(), 256);
    }

    #[test]
    fn the_built_in_vocabulary_is_consistent() {
        let clip = Vocabulary::built_in().unwrap();
        assert_eq!(clip.merges.len(), 48_894);
        assert_eq!(clip.tokens.len(), 49_408);
        assert_eq!(clip.tokens[DEFAULT_BOS], 49_406);
        assert_eq!(clip.tokens[DEFAULT_EOS], 49_407);
        for (left, right) in &clip.merges {
            check_merge(&clip.tokens, left, right, String::new).unwrap();
        }
    }

    #[test]
    fn only_the_first_line_is_a_version_line() {
        let merges = parse_merges("#version: 0.2\n# #\r\n#version x\n\n", Path::new("m")).unwrap();
        assert_eq!(merges[0], (2, ("#".to_owned(), "#".to_owned())));
        assert_eq!(merges[1], (3, ("#version".to_owned(), "x".to_owned())));
        assert_eq!(merges.len(), 2);
    }
}
