//! The configuration files beside a vocabulary, read by the rules of `transformers`
//! (`PreTrainedTokenizerBase._from_pretrained`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;

use super::TokenizerError;

/// CLIP's beginning-of-text marker.
pub(super) const DEFAULT_BOS: &str = "<|startoftext|>";
/// CLIP's end-of-text marker.
pub(super) const DEFAULT_EOS: &str = "<|endoftext|>";

/// From here on a `model_max_length` means "none"; `LARGE_INTEGER` in `transformers`, which
/// writes 1e30 where a tokenizer has no limit.
const NO_LIMIT: f64 = 1e20;

/// The class names under which `transformers` puts CLIP's own normalizer and pre-tokenizer around
/// a vocabulary, whatever a `tokenizer.json` says.
const CLIP_CLASSES: [&str; 2] = ["CLIPTokenizer", "CLIPTokenizerFast"];

/// What the configuration files say about the special tokens.
pub(super) struct TokenizerConfig {
    pub(super) bos: AddedToken,
    pub(super) eos: AddedToken,
    pub(super) unk: AddedToken,
    pub(super) pad: AddedToken,
    /// Tokens matched in a text before the vocabulary is consulted, by id.
    pub(super) added: BTreeMap<u32, AddedToken>,
    pub(super) model_max_length: Option<usize>,
    pub(super) is_clip_class: bool,
}

impl TokenizerConfig {
    /// CLIP's special tokens, for a vocabulary that comes without configuration files.
    pub(super) fn clip() -> Self {
        Self::resolve(
            ConfigFile::default(),
            Legacy::default(),
            BTreeMap::new(),
            None,
        )
    }

    /// Reads the configuration files in `folder`, each of which may be missing.
    ///
    /// `json_added` and `json_unk` are the added tokens and the unknown token of a
    /// `tokenizer.json`. As in `transformers`, an `added_tokens_decoder` in
    /// `tokenizer_config.json` stands alone; without one `special_tokens_map.json` overrides
    /// `tokenizer_config.json`, which is how Stable Diffusion 2 gets its pad token.
    pub(super) fn read(
        folder: &Path,
        json_added: BTreeMap<u32, AddedToken>,
        json_unk: Option<String>,
    ) -> Result<Self, TokenizerError> {
        let mut config: ConfigFile = read_optional(
            &folder.join("tokenizer_config.json"),
            "tokenizer_config.json",
        )?;
        if let Some(decoder) = config.added_tokens_decoder.take() {
            let added = decoder
                .into_iter()
                .map(|(id, token)| (id, token.into_added(false)))
                .collect();
            return Ok(Self::resolve(config, Legacy::default(), added, json_unk));
        }
        let legacy = Legacy {
            map: read_optional(
                &folder.join("special_tokens_map.json"),
                "special_tokens_map.json",
            )?,
            added: read_optional(
                &folder.join("added_tokens.json"),
                "added_tokens.json, tokens to ids",
            )?,
        };
        Ok(Self::resolve(config, legacy, json_added, json_unk))
    }

    fn resolve(
        config: ConfigFile,
        Legacy {
            map,
            added: legacy_added,
        }: Legacy,
        mut added: BTreeMap<u32, AddedToken>,
        json_unk: Option<String>,
    ) -> Self {
        let is_clip_class = config
            .tokenizer_class
            .is_some_and(|class| CLIP_CLASSES.contains(&class.as_str()));
        let model_max_length = config
            .model_max_length
            .filter(|length| (0.0..NO_LIMIT).contains(length))
            .map(|length| length as usize);
        let named = |entry: Option<TokenEntry>, default: &str| {
            entry
                .unwrap_or_else(|| TokenEntry::Text(default.to_owned()))
                .into_added(true)
        };
        let bos = named(map.bos_token.or(config.bos_token), DEFAULT_BOS);
        let eos = named(map.eos_token.or(config.eos_token), DEFAULT_EOS);
        let unk = named(
            map.unk_token.or(config.unk_token),
            json_unk.as_deref().unwrap_or(&eos.content),
        );
        let pad = named(map.pad_token.or(config.pad_token), &eos.content);
        let is_named = |content: &str| {
            [&bos, &eos, &unk, &pad]
                .iter()
                .any(|token| token.content == content)
        };
        for (content, id) in legacy_added {
            let special = is_named(&content);
            added
                .entry(id)
                .or_insert_with(|| AddedToken::from(content, special));
        }
        for token in added.values_mut() {
            token.special |= is_named(&token.content);
        }
        Self {
            bos,
            eos,
            unk,
            pad,
            added,
            model_max_length,
            is_clip_class,
        }
    }

    /// The four special tokens with the names that the configuration files give them.
    pub(super) fn roles(&self) -> [(&'static str, &AddedToken); 4] {
        [
            ("bos", &self.bos),
            ("eos", &self.eos),
            ("unk", &self.unk),
            ("pad", &self.pad),
        ]
    }

    /// The id that a token is declared with outside the vocabulary.
    pub(super) fn added_id(&self, content: &str) -> Option<u32> {
        self.added
            .iter()
            .find(|(_, token)| token.content == content)
            .map(|(id, _)| *id)
    }

    /// All tokens to be matched before the vocabulary, in the order in which `transformers` adds
    /// them: a later one replaces an earlier one of the same text. A named token that is also an
    /// added one is left as the latter says.
    pub(super) fn matched_tokens(&self) -> Vec<AddedToken> {
        let named = self.roles().map(|(_, token)| token);
        let not_added = named
            .into_iter()
            .filter(|token| self.added_id(&token.content).is_none());
        self.added.values().chain(not_added).cloned().collect()
    }
}

#[derive(Default, Deserialize)]
struct ConfigFile {
    bos_token: Option<TokenEntry>,
    eos_token: Option<TokenEntry>,
    unk_token: Option<TokenEntry>,
    pad_token: Option<TokenEntry>,
    added_tokens_decoder: Option<BTreeMap<u32, TokenEntry>>,
    model_max_length: Option<f64>,
    tokenizer_class: Option<String>,
}

/// The files that newer folders no longer have.
#[derive(Default)]
struct Legacy {
    map: SpecialTokensMap,
    added: BTreeMap<String, u32>,
}

#[derive(Default, Deserialize)]
struct SpecialTokensMap {
    bos_token: Option<TokenEntry>,
    eos_token: Option<TokenEntry>,
    unk_token: Option<TokenEntry>,
    pad_token: Option<TokenEntry>,
}

/// A token in a configuration file: its text, or its text with flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenEntry {
    Text(String),
    Flagged {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        special: Option<bool>,
    },
}

impl TokenEntry {
    /// As `AddedToken(...)` in Python: a special token is matched in the raw text and another one
    /// in the normalized text, unless the entry says otherwise.
    fn into_added(self, is_named: bool) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, is_named),
            Self::Flagged {
                content,
                single_word,
                lstrip,
                rstrip,
                normalized,
                special,
            } => {
                let special = is_named || special.unwrap_or(false);
                let token = AddedToken::from(content, special)
                    .single_word(single_word)
                    .lstrip(lstrip)
                    .rstrip(rstrip);
                match normalized {
                    Some(normalized) => token.normalized(normalized),
                    None => token,
                }
            }
        }
    }
}

/// The added tokens of a parsed `tokenizer.json`, by id.
pub(super) fn added_tokens_of(
    document: &serde_json::Value,
    path: &Path,
) -> Result<BTreeMap<u32, AddedToken>, TokenizerError> {
    #[derive(Deserialize)]
    struct Entry {
        id: u32,
        #[serde(flatten)]
        token: AddedToken,
    }
    let Some(list) = document.get("added_tokens").filter(|list| !list.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let entries = Vec::<Entry>::deserialize(list).map_err(|source| TokenizerError::Json {
        path: path.to_owned(),
        expected: "tokenizer.json with a list of added_tokens",
        source,
    })?;
    Ok(entries
        .into_iter()
        .map(|entry| (entry.id, entry.token))
        .collect())
}

pub(super) fn read_text(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|source| TokenizerError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read_json<T: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
) -> Result<T, TokenizerError> {
    serde_json::from_str(&read_text(path)?).map_err(|source| TokenizerError::Json {
        path: path.to_owned(),
        expected,
        source,
    })
}

fn read_optional<T: DeserializeOwned + Default>(
    path: &Path,
    expected: &'static str,
) -> Result<T, TokenizerError> {
    if path.is_file() {
        read_json(path, expected)
    } else {
        Ok(T::default())
    }
}
