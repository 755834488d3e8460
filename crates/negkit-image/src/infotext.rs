//! Generation parameters as the one text that AUTOMATIC1111's web UI writes into its pictures.
//!
//! ```text
//! a street without cars
//! Negative prompt: blurry
//! Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: "sd: 1.4"
//! ```
//!
//! The form has no specification; this follows `create_infotext` in `modules/processing.py` and
//! `quote`, `unquote` and `parse_generation_parameters` in `modules/infotext_utils.py` of
//! AUTOMATIC1111/stable-diffusion-webui 1.10.

use std::fmt::Write;

use crate::Error;

const NEGATIVE_PROMPT: &str = "Negative prompt:";
/// With fewer pairs than this, readers take the last line for a part of the prompt.
const FEWEST_PAIRS: usize = 3;

/// What a picture was made with. [`format`](Self::format) writes it, [`parse`](Self::parse) reads
/// it.
///
/// ```
/// use negkit_image::GenerationParameters;
///
/// let parameters = GenerationParameters {
///     prompt: "a street without cars".into(),
///     steps: Some(20),
///     sampler: Some("Euler a".into()),
///     cfg_scale: Some(7.5),
///     seed: Some(42),
///     size: Some((512, 512)),
///     extra: vec![("Text encoder".into(), "negationclip: ViT-L/14".into())],
///     ..Default::default()
/// };
/// let text = parameters.format()?;
/// assert_eq!(
///     text,
///     "a street without cars\n\
///      Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x512, \
///      Text encoder: \"negationclip: ViT-L/14\""
/// );
/// assert_eq!(GenerationParameters::parse(&text), parameters);
/// # Ok::<(), negkit_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationParameters {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; empty for none.
    pub negative_prompt: String,
    /// `Steps`.
    pub steps: Option<u32>,
    /// `Sampler`.
    pub sampler: Option<String>,
    /// `CFG scale`, the guidance scale.
    pub cfg_scale: Option<f64>,
    /// `Seed`.
    pub seed: Option<u64>,
    /// `Size`: width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// `Model hash`: the first ten digits of the SHA-256 by custom.
    pub model_hash: Option<String>,
    /// `Model`.
    pub model: Option<String>,
    /// Further pairs, in order. A key is at least two characters long: letters, digits, `_`,
    /// spaces, `-` and `/`, the first of them a letter, digit or `_`.
    pub extra: Vec<(String, String)>,
}

impl GenerationParameters {
    /// The text for the PNG chunk [`PARAMETERS_KEY`](crate::PARAMETERS_KEY).
    ///
    /// Values with `,`, `:` or a line break are quoted as JSON strings, as the web UI does; so are
    /// those that would otherwise come back changed (empty, in quotes, with spaces at an end).
    /// The form itself cannot keep everything: spaces at the ends of a prompt's lines and empty
    /// lines at the start of a prompt are lost on reading, and a prompt line that begins with
    /// `Negative prompt:` begins the negative prompt.
    ///
    /// # Errors
    /// [`Error::Infotext`] for a key in `extra` that readers would not recognise or that repeats
    /// another one, for a `cfg_scale` that is not finite, and when there are one or two pairs,
    /// because readers only recognise three or more.
    pub fn format(&self) -> Result<String, Error> {
        let pairs = self.pairs()?;
        if (1..FEWEST_PAIRS).contains(&pairs.len()) {
            return Err(Error::Infotext {
                expected: format!("no parameters besides the prompts, or at least {FEWEST_PAIRS}"),
                found: format!("{}", pairs.len()),
            });
        }
        let mut text = self.prompt.clone();
        if !self.negative_prompt.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{NEGATIVE_PROMPT} {}", self.negative_prompt);
        }
        text.push('\n');
        for (index, (key, value)) in pairs.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{key}: {}", quote(value));
        }
        Ok(text.trim().to_string())
    }

    fn pairs(&self) -> Result<Vec<(&str, String)>, Error> {
        let error = |expected: &str, found: String| Error::Infotext {
            expected: expected.into(),
            found,
        };
        if let Some(scale) = self.cfg_scale.filter(|scale| !scale.is_finite()) {
            return Err(error("a finite CFG scale", scale.to_string()));
        }
        let known = [
            ("Steps", self.steps.map(|steps| steps.to_string())),
            ("Sampler", self.sampler.clone()),
            ("CFG scale", self.cfg_scale.map(|scale| scale.to_string())),
            ("Seed", self.seed.map(|seed| seed.to_string())),
            (
                "Size",
                self.size.map(|(width, height)| format!("{width}x{height}")),
            ),
            ("Model hash", self.model_hash.clone()),
            ("Model", self.model.clone()),
        ];
        let mut pairs: Vec<(&str, String)> = known
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .collect();
        for (key, value) in &self.extra {
            if key_start(key, 0) != Some(0) {
                return Err(error(
                    "keys of two or more letters, digits, `_`, ` `, `-`, `/`, the first no space, \
                     `-` or `/`",
                    format!("{key:?}"),
                ));
            }
            if pairs.iter().any(|(other, _)| other == key) {
                return Err(error("each key once", format!("{key:?} again")));
            }
            pairs.push((key, value.clone()));
        }
        Ok(pairs)
    }

    /// Reads such a text, also one that another program wrote.
    ///
    /// Nothing is refused: what is no list of parameters belongs to the prompt, and a known key
    /// with a value of another kind (`Steps: many`) ends up in [`extra`](Self::extra).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lines: Vec<&str> = text.trim().split('\n').collect();
        let pairs = lines
            .last()
            .map(|line| parse_pairs(line))
            .unwrap_or_default();
        let mut parameters = Self::default();
        if pairs.len() >= FEWEST_PAIRS {
            lines.pop();
            for (key, value) in pairs {
                // `Key:,` counts as a pair, but the web UI passes over it.
                if let Some(value) = value {
                    parameters.take(key, value);
                }
            }
        }
        let mut negative = false;
        for line in lines {
            let mut line = line.trim();
            if let Some(rest) = line.strip_prefix(NEGATIVE_PROMPT) {
                negative = true;
                line = rest.trim();
            }
            let prompt = if negative {
                &mut parameters.negative_prompt
            } else {
                &mut parameters.prompt
            };
            if !prompt.is_empty() {
                prompt.push('\n');
            }
            prompt.push_str(line);
        }
        parameters
    }

    fn take(&mut self, key: String, value: String) {
        let taken = match key.as_str() {
            "Steps" => parse_into(&mut self.steps, &value),
            "Sampler" => set(&mut self.sampler, Some(value.clone())),
            "CFG scale" => {
                let scale = value.parse::<f64>().ok().filter(|scale| scale.is_finite());
                set(&mut self.cfg_scale, scale)
            }
            "Seed" => parse_into(&mut self.seed, &value),
            "Size" => set(&mut self.size, parse_size(&value)),
            "Model hash" => set(&mut self.model_hash, Some(value.clone())),
            "Model" => set(&mut self.model, Some(value.clone())),
            _ => false,
        };
        if !taken {
            self.extra.push((key, value));
        }
    }
}

fn parse_into<T: std::str::FromStr>(field: &mut Option<T>, value: &str) -> bool {
    set(field, value.parse().ok())
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let found = value.is_some();
    if found {
        *field = value;
    }
    found
}

fn parse_size(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

fn quote(value: &str) -> String {
    let asked = value.contains([',', ':', '\n']);
    // These the web UI leaves as they are, and then reads back as something else.
    let changed = value.is_empty() || value.starts_with('"') || value.trim() != value;
    if asked || changed {
        serde_json::Value::from(value).to_string()
    } else {
        value.to_string()
    }
}

fn unquote(value: &str) -> String {
    if value.starts_with('"') && value.ends_with('"') {
        serde_json::from_str(value).unwrap_or_else(|_| value.to_string())
    } else {
        value.to_string()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the key begins that ends with `text`, not before `from`: `\w[\w \-/]+` at the end.
fn key_start(text: &str, from: usize) -> Option<usize> {
    let in_key = |c: char| is_word(c) || matches!(c, ' ' | '-' | '/');
    let class_start = text[from..]
        .char_indices()
        .rev()
        .take_while(|&(_, c)| in_key(c))
        .last()
        .map(|(index, _)| from + index)?;
    let (offset, _) = text[class_start..]
        .char_indices()
        .find(|&(_, c)| is_word(c))?;
    let start = class_start + offset;
    (text[start..].chars().nth(1).is_some()).then_some(start)
}

/// The web UI's regular expression
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, all matches from left to right. A
/// value is `None` when there is nothing, as opposed to `""`.
fn parse_pairs(line: &str) -> Vec<(String, Option<String>)> {
    let mut pairs = Vec::new();
    let mut at = 0;
    let mut search = 0;
    while let Some(offset) = line[search..].find(':') {
        let colon = search + offset;
        search = colon + 1;
        let Some(start) = key_start(&line[..colon], at) else {
            continue;
        };
        let rest = &line[colon + 1..];
        let value_start = colon + 1 + (rest.len() - rest.trim_start().len());
        let length = quoted_length(&line[value_start..]).unwrap_or_else(|| {
            line[value_start..]
                .find(',')
                .unwrap_or(line.len() - value_start)
        });
        let end = value_start + length;
        let value = (length > 0).then(|| unquote(&line[value_start..end]));
        pairs.push((line[start..colon].to_string(), value));
        // Past the comma; at the end of the line there is none.
        at = (end + 1).min(line.len());
        search = at;
    }
    pairs
}

/// Length of the quoted value that `text` begins with, if a comma or the end follows it.
fn quoted_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let close = inner.char_indices().find_map(|(index, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(index)
    })?;
    let length = close + 2;
    let after = &text[length..];
    (close > 0 && (after.is_empty() || after.starts_with(','))).then_some(length)
}
