//! The tokenizer against `transformers.CLIPTokenizer` (fixtures by `eval/parity/tokenizer.py`),
//! against `instant-clip-tokenizer`, and on files that are wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use negkit_text::tokenizer::{
    CLIP_CONTEXT_LENGTH, ClipTokenizer, TokenBatch, TokenizerError, TokenizerSource,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";

#[derive(Deserialize)]
struct Reference {
    vocabulary: ReferenceVocabulary,
    strings: Vec<String>,
    ids: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    decoded: BTreeMap<usize, String>,
    removed: BTreeMap<usize, String>,
    folders: Vec<ReferenceFolder>,
}

#[derive(Deserialize)]
struct ReferenceVocabulary {
    size: usize,
    merges: usize,
    fingerprint: String,
}

#[derive(Deserialize)]
struct ReferenceFolder {
    name: String,
    layout: String,
    files: BTreeMap<String, Value>,
    prompts: Vec<String>,
    ids: Vec<Vec<u32>>,
    pad_id: u32,
    model_max_length: Option<usize>,
    size: usize,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/parity/fixtures/tokenizer")
}

fn gunzip(path: &Path) -> String {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE
        .get_or_init(|| serde_json::from_str(&gunzip(&fixtures().join("strings.json.gz"))).unwrap())
}

/// CLIP's `merges.txt`, from the crate's data.
fn merges_txt() -> &'static str {
    static MERGES: OnceLock<String> = OnceLock::new();
    MERGES.get_or_init(|| {
        gunzip(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/clip_merges.txt.gz"))
    })
}

/// CLIP's `vocab.json`, made from the merges as OpenAI's tokenizer numbers them and without the
/// crate's own code: bytes, bytes at the end of a word, merges, markers.
fn vocab_json() -> &'static Value {
    static VOCAB: OnceLock<Value> = OnceLock::new();
    VOCAB.get_or_init(|| {
        let kept: Vec<u32> = (0..256)
            .filter(|b| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF))
            .collect();
        let others = 256 - kept.len() as u32;
        let bytes: Vec<String> = kept
            .into_iter()
            .chain(256..256 + others)
            .map(|c| char::from_u32(c).unwrap().to_string())
            .collect();
        let mut tokens = bytes.clone();
        tokens.extend(bytes.iter().map(|b| format!("{b}</w>")));
        tokens.extend(
            merges_txt()
                .lines()
                .skip(1)
                .map(|line| line.replace(' ', "")),
        );
        tokens.extend([BOS.to_owned(), EOS.to_owned()]);
        Value::Object(tokens.into_iter().zip((0_u32..).map(Value::from)).collect())
    })
}

fn added_token(id: u32, content: &str, normalized: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": normalized, "special": true,
    })
}

/// CLIP's `tokenizer.json` in the form published since transformers 4.
fn tokenizer_json(bos_normalized: bool) -> Value {
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    json!({
        "version": "1.0",
        "truncation": {
            "max_length": 77, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
        },
        "padding": null,
        "added_tokens": [
            added_token(49406, BOS, bos_normalized),
            added_token(49407, EOS, false),
        ],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": words }, "behavior": "Removed",
              "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true },
        ] },
        "post_processor": {
            "type": "RobertaProcessing", "sep": [EOS, 49407], "cls": [BOS, 49406],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true },
        "model": {
            "type": "BPE", "dropout": 0.5, "unk_token": EOS, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocab_json(),
            "merges": merges_txt().lines().skip(1).collect::<Vec<_>>(),
        },
    })
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn clip_folder(layout: &str, bos_normalized: bool) -> TempDir {
    match layout {
        "vocab.json" => folder(&[
            ("vocab.json", &vocab_json().to_string()),
            ("merges.txt", merges_txt()),
        ]),
        "tokenizer.json" => folder(&[(
            "tokenizer.json",
            &tokenizer_json(bos_normalized).to_string(),
        )]),
        other => panic!("unknown layout {other}"),
    }
}

/// A folder whose two texts are a `vocab.json` and a `merges.txt`.
fn load_pair(vocab: &str, merges: &str) -> Result<ClipTokenizer, TokenizerError> {
    ClipTokenizer::from_folder(folder(&[("vocab.json", vocab), ("merges.txt", merges)]).path())
}

fn load_json(document: &Value) -> Result<ClipTokenizer, TokenizerError> {
    ClipTokenizer::from_folder(folder(&[("tokenizer.json", &document.to_string())]).path())
}

fn encode(tokenizer: &ClipTokenizer, texts: &[String], context_length: usize) -> TokenBatch {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    tokenizer.encode(&texts, context_length).unwrap()
}

fn assert_equals_reference(tokenizer: &ClipTokenizer) {
    let reference = reference();
    assert_eq!(reference.strings.len(), 2000);
    let batch = encode(tokenizer, &reference.strings, CLIP_CONTEXT_LENGTH);
    assert_eq!(batch.ids.len(), 2000);
    for (i, text) in reference.strings.iter().enumerate() {
        let expected = &reference.ids[i];
        assert_eq!(&batch.ids[i], expected, "ids of string {i}, {text:?}");
        assert_eq!(
            batch.token_count[i] + 2,
            reference.lengths[i],
            "length of {i}, {text:?}"
        );
        let eot = expected.iter().position(|id| *id == 49407).unwrap();
        assert_eq!(batch.eot_positions[i], eot, "end of {i}, {text:?}");
        assert_eq!(
            batch.truncated[i],
            reference.lengths[i] > CLIP_CONTEXT_LENGTH
        );
        let removed = reference.removed.get(&i);
        assert_eq!(
            batch.removed_text[i].as_ref(),
            removed,
            "cut off {i}, {text:?}"
        );
    }
}

#[test]
fn built_in_equals_transformers() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    assert_equals_reference(&tokenizer);
    let reference = &reference().vocabulary;
    let info = tokenizer.info();
    assert_eq!(info.source, TokenizerSource::BuiltIn);
    assert_eq!(info.vocab_size, reference.size);
    assert_eq!(info.merge_count, reference.merges);
    assert!(
        reference.fingerprint.starts_with(&info.fingerprint),
        "{}",
        info.fingerprint
    );
    assert_eq!(info.fingerprint.len(), 16);
    assert_eq!(
        (info.bos.id, info.eos.id, info.pad.id, info.unk.id),
        (49406, 49407, 49407, 49407)
    );
    assert_eq!(info.model_max_length, Some(77));
}

#[test]
fn vocab_and_merges_equal_transformers() {
    let folder = clip_folder("vocab.json", false);
    let tokenizer = ClipTokenizer::from_folder(folder.path()).unwrap();
    assert!(matches!(
        tokenizer.info().source,
        TokenizerSource::VocabAndMerges { .. }
    ));
    assert_eq!(
        tokenizer.info().fingerprint,
        ClipTokenizer::built_in().unwrap().info().fingerprint
    );
    assert_equals_reference(&tokenizer);
}

#[test]
fn tokenizer_json_equals_transformers() {
    let folder = clip_folder("tokenizer.json", false);
    fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}"#,
    )
    .unwrap();
    let tokenizer = ClipTokenizer::from_folder(folder.path()).unwrap();
    assert!(matches!(
        tokenizer.info().source,
        TokenizerSource::TokenizerJson(_)
    ));
    assert_eq!(
        tokenizer.info().fingerprint,
        ClipTokenizer::built_in().unwrap().info().fingerprint
    );
    assert_equals_reference(&tokenizer);
}

/// The pipeline in the file knows no markers in its word pattern; that shows only where one stands
/// in capitals.
#[test]
fn tokenizer_json_as_it_stands_differs_only_at_markers_in_capitals() {
    let folder = clip_folder("tokenizer.json", false);
    let tokenizer = ClipTokenizer::from_folder(folder.path()).unwrap();
    let reference = reference();
    let batch = encode(&tokenizer, &reference.strings, CLIP_CONTEXT_LENGTH);
    let mut different = 0;
    for (i, text) in reference.strings.iter().enumerate() {
        if batch.ids[i] != reference.ids[i] {
            different += 1;
            let lower = text.to_lowercase();
            let markers = lower.matches(EOS).count() + lower.matches(BOS).count();
            let exact = text.matches(EOS).count() + text.matches(BOS).count();
            assert!(markers > exact, "string {i}, {text:?}");
        }
    }
    assert!(different > 0, "the fixture should hold markers in capitals");
}

#[test]
fn published_folders_equal_transformers() {
    let folders = &reference().folders;
    assert_eq!(folders.len(), 10);
    for expected in folders {
        let case = format!("{}, {}", expected.name, expected.layout);
        let folder = clip_folder(&expected.layout, true);
        for (name, content) in &expected.files {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let tokenizer = ClipTokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.info().pad.id, expected.pad_id, "{case}");
        assert_eq!(
            tokenizer.info().model_max_length,
            expected.model_max_length,
            "{case}"
        );
        assert_eq!(tokenizer.info().vocab_size, expected.size, "{case}");
        let batch = encode(&tokenizer, &expected.prompts, 24);
        for (i, prompt) in expected.prompts.iter().enumerate() {
            assert_eq!(batch.ids[i], expected.ids[i], "{case}: {prompt:?}");
        }
    }
}

#[test]
fn a_small_vocabulary_equals_transformers() {
    #[derive(Deserialize)]
    struct Small {
        prompts: Vec<String>,
        ids: Vec<Vec<u32>>,
        vocab_size: usize,
        fingerprint: String,
    }
    let folder = fixtures().join("small");
    let small: Small =
        serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    let tokenizer = ClipTokenizer::from_folder(&folder).unwrap();
    let info = tokenizer.info();
    assert_eq!(info.vocab_size, 300);
    assert_eq!(info.vocab_size, small.vocab_size);
    assert_eq!(info.model_max_length, Some(16));
    assert!(small.fingerprint.starts_with(&info.fingerprint));
    let batch = encode(&tokenizer, &small.prompts, 16);
    assert_eq!(batch.ids, small.ids);
    assert!(batch.truncated.iter().any(|truncated| *truncated));

    // The same file as it stands, without a class that asks for CLIP's pipeline.
    let document = fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let alone = load_json(&serde_json::from_str(&document).unwrap()).unwrap();
    assert_eq!(encode(&alone, &small.prompts, 16).ids, small.ids);
}

#[test]
fn decoding_equals_transformers() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let reference = reference();
    assert!(reference.decoded.len() > 400);
    for (i, expected) in &reference.decoded {
        let ids = &reference.ids[*i][..reference.lengths[*i]];
        assert_eq!(
            &tokenizer.decode(ids, false).unwrap(),
            expected,
            "string {i}"
        );
    }
    let ids = &tokenizer.encode(&["A photo, of a Cat"], 77).unwrap().ids[0];
    assert_eq!(tokenizer.decode(ids, true).unwrap(), "a photo , of a cat");
    assert_eq!(
        tokenizer.token_strings(&ids[..4]).unwrap(),
        ["<|startoftext|>", "a</w>", "photo</w>", ",</w>"]
    );
}

#[test]
fn equals_instant_clip_tokenizer_on_plain_english() {
    let peer = instant_clip_tokenizer::Tokenizer::new();
    let tokenizer = ClipTokenizer::built_in().unwrap();
    // The peer normalizes nothing but case, and reads `<start_of_text>` as its marker.
    let plain: Vec<&str> = reference()
        .strings
        .iter()
        .map(String::as_str)
        .filter(|text| text.chars().all(|c| matches!(c, ' '..='~')))
        .filter(|text| !text.contains("<|") && !text.contains("_of_text>"))
        .collect();
    assert!(plain.len() > 500, "{} plain strings", plain.len());
    let batch = tokenizer.encode(&plain, 2000).unwrap();
    for (text, (row, count)) in plain.iter().zip(batch.ids.iter().zip(&batch.token_count)) {
        let mut expected = Vec::new();
        peer.encode(text, &mut expected);
        let expected: Vec<u32> = expected
            .into_iter()
            .map(|t| u32::from(t.to_u16()))
            .collect();
        assert_eq!(row[1..=*count], expected, "{text:?}");
    }
}

#[test]
fn a_text_is_cut_to_any_context_length() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let encode = |length| tokenizer.encode(&["a photo of a cat", ""], length).unwrap();
    let batch = encode(2);
    assert_eq!(batch.ids, [[49406, 49407], [49406, 49407]]);
    assert_eq!(batch.eot_positions, [1, 1]);
    assert_eq!(batch.token_count, [5, 0]);
    assert_eq!(batch.truncated, [true, false]);
    assert_eq!(
        batch.removed_text,
        [Some("a photo of a cat".to_owned()), None]
    );
    let batch = encode(6);
    assert_eq!(batch.ids[0], [49406, 320, 1125, 539, 320, 49407]);
    assert_eq!(batch.removed_text[0].as_deref(), Some("cat"));
    let batch = encode(7);
    assert_eq!(batch.ids[0], [49406, 320, 1125, 539, 320, 2368, 49407]);
    assert!(!batch.truncated[0]);
    for length in [0, 1] {
        let error = tokenizer.encode(&["a"], length).unwrap_err();
        assert!(matches!(error, TokenizerError::ContextTooShort { found } if found == length));
    }
    assert!(tokenizer.encode(&[], 77).unwrap().ids.is_empty());
}

#[test]
fn the_text_ends_at_the_first_eos() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let batch = tokenizer
        .encode(&["no <|endoftext|> dog", "no dog"], 8)
        .unwrap();
    assert_eq!(
        batch.ids[0],
        [49406, 871, 49407, 1929, 49407, 49407, 49407, 49407]
    );
    assert_eq!(batch.eot_positions, [2, 3]);
    assert_eq!(batch.token_count, [3, 2]);
}

#[test]
fn the_pad_id_can_be_chosen() {
    let tokenizer = ClipTokenizer::built_in().unwrap().with_pad_id(0).unwrap();
    assert_eq!(tokenizer.info().pad.text, "!");
    // As OpenAI's code: padding is 0, an exclamation mark in a prompt is still 256.
    let ids = &tokenizer.encode(&["no!"], 6).unwrap().ids;
    assert_eq!(ids[0], [49406, 871, 256, 49407, 0, 0]);
    let error = tokenizer.with_pad_id(49408).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::PadId {
            id: 49408,
            size: 49408
        }
    ));
}

#[test]
fn a_batch_equals_its_singles_from_many_threads() {
    fn assert_shareable<T: Send + Sync>(_: &T) {}
    let tokenizer = ClipTokenizer::built_in().unwrap();
    assert_shareable(&tokenizer);
    let texts = &reference().strings[..400];
    let batch = encode(&tokenizer, texts, 20);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (tokenizer, batch) = (&tokenizer, &batch);
            scope.spawn(move || {
                for i in (part..texts.len()).step_by(4) {
                    let single = tokenizer.encode(&[&texts[i]], 20).unwrap();
                    assert_eq!(single.ids[0], batch.ids[i]);
                    assert_eq!(single.removed_text[0], batch.removed_text[i]);
                }
            });
        }
    });
}

#[test]
fn huge_prompts_are_encoded() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    let million = 1_000_000;
    let texts = [
        "a ".repeat(million),
        "!".repeat(million),
        " ".repeat(million),
        "é".repeat(million),
    ];
    let batch = encode(&tokenizer, &texts, 77);
    assert_eq!(batch.token_count[0], million);
    assert!(batch.token_count[1] > 1000);
    assert_eq!(batch.token_count[2], 0);
    assert!(batch.ids.iter().all(|row| row.len() == 77));
}

#[test]
fn an_unknown_id_is_an_error() {
    let tokenizer = ClipTokenizer::built_in().unwrap();
    for result in [
        tokenizer.decode(&[320, 60_000], false).map(|_| ()),
        tokenizer.token_strings(&[320, 60_000]).map(|_| ()),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(
            error,
            TokenizerError::UnknownId {
                id: 60_000,
                position: 1,
                ..
            }
        ));
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = ClipTokenizer::from_folder(folder(&[]).path())
        .unwrap_err()
        .to_string();
    for part in [
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "none of them",
        "built-in",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let lone = folder(&[("vocab.json", "{}")]);
    let error = ClipTokenizer::from_folder(lone.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("found vocab.json alone"), "{error}");
    let error = ClipTokenizer::from_folder("/no/such/folder")
        .unwrap_err()
        .to_string();
    assert!(error.contains("found no such folder"), "{error}");
    let error = ClipTokenizer::from_tokenizer_json("/no/such/tokenizer.json").unwrap_err();
    assert!(matches!(error, TokenizerError::Read { .. }), "{error}");
}

/// A vocabulary of four tokens and the markers.
const TINY: &str = r#"{"a": 0, "b</w>": 1, "ab</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}"#;

#[test]
fn a_malformed_merge_is_named_with_its_line() {
    assert!(load_pair(TINY, "#version: 0.2\na b</w>\n").is_ok());
    for (merges, at) in [
        ("#version: 0.2\na b</w>\nab\n", "merges.txt:3"),
        ("a b</w> c\n", "merges.txt:1"),
        ("#version: 0.2\n\n a\n", "merges.txt:3"),
        ("a \n", "merges.txt:1"),
    ] {
        let error = load_pair(TINY, merges).unwrap_err();
        assert!(
            matches!(error, TokenizerError::MalformedMerge { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(at), "{error}");
    }
    let mut json = tokenizer_json(false);
    json["model"]["merges"] = json!(["i n", "t h", "th"]);
    let error = load_json(&json).unwrap_err();
    assert!(error.to_string().contains("model.merges[2]"), "{error}");
}

/// The library's table of merges panics on these, so they must be caught before it sees them.
#[test]
fn a_merge_outside_the_vocabulary_is_named() {
    for (merges, needed) in [("b a", "\"b\""), ("a c", "\"c\""), ("a a", "\"aa\"")] {
        let error = load_pair(TINY, merges).unwrap_err();
        assert!(
            matches!(error, TokenizerError::MergeOutsideVocabulary { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(needed), "{error}");
        assert!(error.to_string().contains("merges.txt:1"), "{error}");
    }
    let mut json = tokenizer_json(false);
    json["model"]["vocab"] = json!({ "a": 0, BOS: 1, EOS: 2 });
    json["model"]["merges"] = json!([["a", "a"]]);
    let error = load_json(&json).unwrap_err();
    assert!(error.to_string().contains("model.merges[0]"), "{error}");
}

#[test]
fn a_missing_special_token_is_named() {
    let error = load_pair(r#"{"a": 0, "<|endoftext|>": 1}"#, "").unwrap_err();
    assert!(
        matches!(
            error,
            TokenizerError::MissingSpecialToken { role: "bos", .. }
        ),
        "{error}"
    );
    assert!(error.to_string().contains(BOS), "{error}");
    let error = load_pair(r#"{"a": 0, "<|startoftext|>": 1}"#, "").unwrap_err();
    assert!(
        matches!(
            error,
            TokenizerError::MissingSpecialToken { role: "eos", .. }
        ),
        "{error}"
    );
    let other = folder(&[
        ("vocab.json", TINY),
        ("merges.txt", ""),
        ("tokenizer_config.json", r#"{"pad_token": "[PAD]"}"#),
    ]);
    let error = ClipTokenizer::from_folder(other.path()).unwrap_err();
    assert!(
        matches!(
            error,
            TokenizerError::MissingSpecialToken { role: "pad", .. }
        ),
        "{error}"
    );
}

#[test]
fn special_tokens_can_have_other_names() {
    let named = folder(&[
        (
            "vocab.json",
            r#"{"a": 0, "a</w>": 1, "<s>": 2, "</s>": 3, "<pad>": 4}"#,
        ),
        ("merges.txt", ""),
        (
            "tokenizer_config.json",
            r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"}"#,
        ),
    ]);
    let tokenizer = ClipTokenizer::from_folder(named.path()).unwrap();
    let batch = tokenizer.encode(&["A aa", "z"], 6).unwrap();
    assert_eq!(batch.ids, [[2, 1, 0, 1, 3, 4], [2, 3, 3, 4, 4, 4]]);
    // An unknown symbol is eos, the default unknown token, and so ends the text.
    assert_eq!(batch.eot_positions, [4, 1]);
}

#[test]
fn a_damaged_file_is_an_error() {
    assert!(matches!(
        load_pair("{\"a\": ", ""),
        Err(TokenizerError::Json { .. })
    ));
    assert!(matches!(
        load_pair("{\"a\": -1}", ""),
        Err(TokenizerError::Json { .. })
    ));
    assert!(matches!(
        load_pair("[1]", ""),
        Err(TokenizerError::Json { .. })
    ));
    let huge = r#"{"a": 4294967295, "<|startoftext|>": 1, "<|endoftext|>": 2}"#;
    assert!(matches!(
        load_pair(huge, ""),
        Err(TokenizerError::IdTooLarge { .. })
    ));
    for document in [json!(1), json!({}), json!({ "model": 3 })] {
        let error = load_json(&document).unwrap_err();
        assert!(matches!(error, TokenizerError::NotBpe { .. }), "{error}");
    }
    let damaged = |change: fn(&mut Value)| {
        let mut json = tokenizer_json(false);
        change(&mut json);
        load_json(&json).unwrap_err()
    };
    let error = damaged(|json| json["model"]["type"] = json!("Unigram"));
    assert!(matches!(&error, TokenizerError::NotBpe { found, .. } if found == "Unigram"));
    let error = damaged(|json| json["model"]["vocab"] = json!(["a"]));
    assert!(matches!(error, TokenizerError::Json { .. }), "{error}");
    let error = damaged(|json| json["model"]["continuing_subword_prefix"] = json!("##"));
    assert!(
        matches!(error, TokenizerError::SubwordPrefix { .. }),
        "{error}"
    );
    let error = damaged(|json| json["normalizer"] = json!({ "type": "Nonsense" }));
    assert!(matches!(error, TokenizerError::Build { .. }), "{error}");
    let error = damaged(|json| json["added_tokens"][0]["id"] = json!(5));
    let TokenizerError::TokenId {
        declared: 5,
        found: 49406,
        ..
    } = error
    else {
        panic!("{error}");
    };
}

#[test]
fn another_framing_is_refused() {
    let mut json = tokenizer_json(false);
    json["post_processor"] = json!({
        "type": "RobertaProcessing", "sep": [BOS, 49406], "cls": [EOS, 49407],
        "trim_offsets": false, "add_prefix_space": false,
    });
    let error = load_json(&json).unwrap_err();
    let TokenizerError::Framing {
        found, expected, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (found.as_slice(), *expected),
        ([49407, 49406].as_slice(), [49406, 49407])
    );
    json["post_processor"] = Value::Null;
    assert!(load_json(&json).is_ok());
}
