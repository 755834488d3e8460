//! A byte-pair tokenizer of CLIP's kind, made from captions.
//!
//! The vocabulary is laid out as that of OpenAI's `clip/simple_tokenizer.py`: the 256 bytes as
//! printable characters, the same at the end of a word, the result of each merge, and the two
//! markers. Words are cut out of captions by [`ClipTokenizer`] itself, so that what is counted here is
//! what will be encoded later.
//!
//! Pairs are counted exactly, over distinct words with their numbers, and equal counts are decided by
//! the tokens' ids: the same captions give the same files. (The trainer of the `tokenizers` library
//! numbers a word's last characters in the order of a hash table, which differs from run to run.)

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use negkit_text::tokenizer::{ClipTokenizer, clip_merges};
use serde_json::{Map, Value, json};

use crate::{TrainError, atomic};

/// CLIP's marker before every text.
const START: &str = "<|startoftext|>";
/// CLIP's marker after every text, which also fills the context up.
const END: &str = "<|endoftext|>";
/// What stands at the end of a word's last token.
const END_OF_WORD: &str = "</w>";
/// Byte tokens: within and at the end of a word.
const BYTES: usize = 256;
/// Tokens that every vocabulary has: all bytes twice, and the markers.
const FIXED: usize = 2 * BYTES + 2;
/// Captions that are cut into words at a time.
const BATCH: usize = 1024;
/// A pair that occurs once says nothing of another caption.
const LEAST_COUNT: u64 = 2;

/// A trained vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedTokenizer {
    /// All tokens but the markers, by id.
    tokens: Vec<String>,
    /// Merges by priority, as ids of tokens.
    merges: Vec<(u32, u32)>,
}

impl TrainedTokenizer {
    /// Learns merges from `captions` until the vocabulary has `vocab_size` tokens, or no pair occurs
    /// twice.
    ///
    /// # Errors
    /// When `vocab_size` leaves no room for the 514 tokens that every vocabulary has, or a temporary
    /// file cannot be written.
    pub fn train<'a>(
        captions: impl IntoIterator<Item = &'a str>,
        vocab_size: usize,
    ) -> Result<Self, TrainError> {
        let Some(room) = vocab_size.checked_sub(FIXED) else {
            return Err(TrainError::Setting {
                setting: "vocab_size",
                found: vocab_size.to_string(),
                expected: "at least 514: all bytes, all bytes at the end of a word, two markers",
            });
        };
        let mut trained = Self {
            tokens: byte_tokens(),
            merges: Vec::new(),
        };
        let mut words = trained.count_words(captions)?;
        while trained.merges.len() < room {
            let Some(pair) = most_frequent_pair(&words) else {
                break;
            };
            let merged = trained.tokens.len() as u32;
            let [left, right] = [pair.0, pair.1].map(|id| trained.tokens[id as usize].as_str());
            let token = format!("{left}{right}");
            trained.tokens.push(token);
            trained.merges.push(pair);
            for (word, _) in &mut words {
                merge(word, pair, merged);
            }
        }
        Ok(trained)
    }

    /// CLIP's own vocabulary, to be written beside weights that were published without one.
    ///
    /// # Errors
    /// None on an intact build.
    pub fn clip() -> Result<Self, TrainError> {
        let mut tokens = byte_tokens();
        let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let merges = clip_merges()?.into_iter().map(|(left, right)| {
            let merged = format!("{left}{right}");
            let pair = ids.get(&left).copied().zip(ids.get(&right).copied());
            ids.insert(merged.clone(), tokens.len() as u32);
            tokens.push(merged);
            // Those of a vocabulary are checked when it is read.
            pair.ok_or_else(|| TrainError::Task("merges tokens that CLIP does not have".to_owned()))
        });
        let merges = merges.collect::<Result<_, _>>()?;
        Ok(Self { tokens, merges })
    }

    /// Number of tokens, markers included: the rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len() + 2
    }

    /// Id of the end-of-text marker, the last one.
    pub fn eos_token_id(&self) -> u32 {
        self.vocab_size() as u32 - 1
    }

    /// Id of the start-of-text marker.
    pub fn bos_token_id(&self) -> u32 {
        self.vocab_size() as u32 - 2
    }

    /// Writes `tokenizer.json`, `vocab.json`, `merges.txt`, `tokenizer_config.json` and
    /// `special_tokens_map.json`, as CLIP's are published; the pad token is the end of text.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, context_length: usize) -> Result<(), TrainError> {
        let vocab = self.vocabulary();
        let marker = |content: &str| {
            json!({
                "content": content, "lstrip": false, "normalized": true, "rstrip": false,
                "single_word": false,
            })
        };
        let special = json!({
            "bos_token": marker(START),
            "eos_token": marker(END),
            "pad_token": END,
            "unk_token": marker(END),
        });
        let config = json!({
            "add_prefix_space": false,
            "bos_token": START,
            "eos_token": END,
            "pad_token": END,
            "unk_token": END,
            "do_lower_case": true,
            "errors": "replace",
            "model_max_length": context_length,
            "tokenizer_class": "CLIPTokenizer",
        });
        let merges = self.merges.iter().map(|&(left, right)| {
            let [left, right] = [left, right].map(|id| &self.tokens[id as usize]);
            format!("{left} {right}\n")
        });
        let merges: String = std::iter::once("#version: 0.2\n".to_owned())
            .chain(merges)
            .collect();
        atomic::write(&folder.join("merges.txt"), merges.as_bytes())?;
        for (name, document) in [
            ("vocab.json", &Value::Object(vocab.clone())),
            ("special_tokens_map.json", &special),
            ("tokenizer_config.json", &config),
            ("tokenizer.json", &self.tokenizer_json(vocab)),
        ] {
            write_json(&folder.join(name), document)?;
        }
        Ok(())
    }

    fn vocabulary(&self) -> Map<String, Value> {
        let tokens = self.tokens.iter().map(String::as_str).chain([START, END]);
        let ids = 0u32..;
        tokens
            .zip(ids)
            .map(|(token, id)| (token.to_owned(), id.into()))
            .collect()
    }

    fn tokenizer_json(&self, vocab: Map<String, Value>) -> Value {
        let (bos, eos) = (self.bos_token_id(), self.eos_token_id());
        let added = |id: u32, content: &str| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        };
        let merges: Vec<Value> = self
            .merges
            .iter()
            .map(|&(left, right)| json!([self.tokens[left as usize], self.tokens[right as usize]]))
            .collect();
        // Normalizer, pre-tokenizer and decoder are those of the published CLIP.
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [added(bos, START), added(eos, END)],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    { "type": "NFC" },
                    { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
                    { "type": "Lowercase" },
                ],
            },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {
                            "Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+",
                        },
                        "behavior": "Removed",
                        "invert": true,
                    },
                    { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                      "use_regex": true },
                ],
            },
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": [END, eos],
                "cls": [START, bos],
                "trim_offsets": false,
                "add_prefix_space": false,
            },
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true,
            },
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": END,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": END_OF_WORD,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges,
            },
        })
    }

    /// Distinct words as byte tokens, with their numbers, in a fixed order. To be called without
    /// merges: each token is then one byte, and those at the end of a word say so.
    fn count_words<'a>(
        &self,
        captions: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<(Vec<u32>, u64)>, TrainError> {
        let folder = tempfile::tempdir().map_err(TrainError::io(
            &std::env::temp_dir(),
            "create a temporary folder in",
        ))?;
        self.write(folder.path(), 77)?;
        let bytes = ClipTokenizer::from_folder(folder.path())?;
        let mut words = BTreeMap::new();
        let mut captions = captions.into_iter().peekable();
        while captions.peek().is_some() {
            let batch: Vec<&str> = captions.by_ref().take(BATCH).collect();
            // Normalisation can make a text longer, by a factor of 3 at most for NFC.
            let longest = batch.iter().map(|caption| caption.len()).max();
            let length = 3 * longest.unwrap_or_default() + 2;
            for row in bytes.encode(&batch, length)?.ids {
                let text = row.iter().filter(|id| (**id as usize) < 2 * BYTES);
                let mut word = Vec::new();
                for &id in text {
                    word.push(id);
                    if id as usize >= BYTES {
                        *words.entry(std::mem::take(&mut word)).or_default() += 1;
                    }
                }
            }
        }
        Ok(words.into_iter().collect())
    }
}

/// The pair of neighbours that occurs most often; of several, that of the lowest ids.
fn most_frequent_pair(words: &[(Vec<u32>, u64)]) -> Option<(u32, u32)> {
    let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
    for (word, count) in words {
        for pair in word.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    let frequent = counts
        .into_iter()
        .filter(|(_, count)| *count >= LEAST_COUNT);
    let best = frequent.max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)));
    best.map(|(pair, _)| pair)
}

/// Replaces every `pair` in `word`, from the left, by `merged`.
fn merge(word: &mut Vec<u32>, pair: (u32, u32), merged: u32) {
    let mut kept = 0;
    let mut next = 0;
    while next < word.len() {
        let is_pair = word[next] == pair.0 && word.get(next + 1) == Some(&pair.1);
        word[kept] = if is_pair { merged } else { word[next] };
        next += 1 + usize::from(is_pair);
        kept += 1;
    }
    word.truncate(kept);
}

/// GPT-2's printable characters for the bytes, in CLIP's order: the printable ones of Latin-1, then
/// stand-ins for the others; then the same at the end of a word.
fn byte_tokens() -> Vec<String> {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    let characters: Vec<char> = printable.chain('\u{100}'..='\u{143}').collect();
    let within = characters.iter().map(char::to_string);
    let at_end = characters.iter().map(|c| format!("{c}{END_OF_WORD}"));
    within.chain(at_end).collect()
}

pub(crate) fn write_json(path: &Path, document: &Value) -> Result<(), TrainError> {
    let text = serde_json::to_string_pretty(document).map_err(TrainError::other)?;
    atomic::write(path, format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CAPTIONS: [&str; 6] = [
        "A room with no chairs",
        "a room with a chair and a lamp",
        "A man without a hat, sitting",
        "a man isn't sitting in the room",
        "the lamp's light; the chairs are red",
        "Naïve caf\u{65}\u{301} 12 ☂ \u{130}",
    ];

    fn trained(size: usize) -> TrainedTokenizer {
        TrainedTokenizer::train(CAPTIONS, size).unwrap()
    }

    #[test]
    fn every_text_comes_back_from_a_written_folder() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = trained(530);
        assert_eq!(tokenizer.vocab_size(), 530);
        tokenizer.write(folder.path(), 32).unwrap();
        let from_json = ClipTokenizer::from_folder(folder.path()).unwrap();
        let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.path().join(name));
        let from_parts = ClipTokenizer::from_vocab_and_merges(vocab, merges).unwrap();
        for loaded in [&from_json, &from_parts] {
            let info = loaded.info();
            assert_eq!((info.vocab_size, info.merge_count), (530, 16));
            assert_eq!((info.bos.id, info.eos.id, info.pad.id), (528, 529, 529));
            assert_eq!(info.model_max_length, Some(32));
            let others = ["A giraffe at night!", "日本 and ELSEWHERE", ""];
            for text in CAPTIONS.iter().chain(&others) {
                let batch = loaded.encode(&[text], 200).unwrap();
                let decoded = loaded.decode(&batch.ids[0], true).unwrap();
                let wanted = text.to_lowercase().replace("e\u{301}", "é");
                let letters = |s: &str| s.replace(char::is_whitespace, "");
                assert_eq!(letters(&decoded), letters(&wanted));
            }
        }
        assert_eq!(from_json.info().fingerprint, from_parts.info().fingerprint);
    }

    #[test]
    fn clips_own_vocabulary_is_written_as_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let written = TrainedTokenizer::clip().unwrap();
        written.write(folder.path(), 77).unwrap();
        let read = ClipTokenizer::from_folder(folder.path()).unwrap();
        let built_in = ClipTokenizer::built_in().unwrap();
        assert_eq!(read.info().fingerprint, built_in.info().fingerprint);
        let text = "A man with no hat, isn't he? \u{2602} 12";
        let ids = |tokenizer: &ClipTokenizer| tokenizer.encode(&[text], 77).unwrap().ids;
        assert_eq!(ids(&read), ids(&built_in));
    }

    #[test]
    fn frequent_words_become_one_token() {
        let folder = tempfile::tempdir().unwrap();
        trained(600).write(folder.path(), 32).unwrap();
        let loaded = ClipTokenizer::from_folder(folder.path()).unwrap();
        let batch = loaded.encode(&["a room", "chairs", "zebra"], 8).unwrap();
        assert_eq!(batch.token_count, [2, 1, 5]);
    }

    #[test]
    fn merges_are_those_counted_by_hand() {
        // "aa" three times, "ab" twice: a+a</w> first, then a+b</w>; nothing else occurs twice.
        let tokenizer = TrainedTokenizer::train(["aa aa ab", "AA ab c"], 1000).unwrap();
        let merges: Vec<String> = tokenizer.tokens[2 * BYTES..].to_vec();
        assert_eq!(merges, ["aa</w>", "ab</w>"]);
        assert_eq!(tokenizer.vocab_size(), FIXED + 2);
    }

    #[test]
    fn training_is_deterministic() {
        assert_eq!(trained(600), trained(600));
        assert!(TrainedTokenizer::train(CAPTIONS, 513).is_err());
    }

    #[test]
    fn repeated_tokens_merge_from_the_left() {
        let mut word = vec![1, 1, 1, 2];
        merge(&mut word, (1, 1), 9);
        assert_eq!(word, [9, 1, 2]);
    }
}
