//! The final files, made of the records alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use negkit_captions::NegationCaption;
use negkit_image::write_atomic;
use negkit_run::{RunError, RunFolder, SettledItems};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::run::digest;
use crate::{CaptionRecord, CaptionRunError, Outcome, Settings, published_json};

/// What the answers of a run cost, each request counted once however many captions used its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Different requests that were answered.
    pub requests: u64,
    /// Tokens of the requests.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
}

impl Cost {
    /// Adds the requests of a record that were not `seen` before.
    pub(crate) fn add(&mut self, record: &CaptionRecord, seen: &mut HashSet<String>) {
        for exchange in &record.exchanges {
            if seen.insert(exchange.request_sha256.clone()) {
                self.requests += 1;
                self.prompt_tokens += exchange.prompt_tokens.unwrap_or(0);
                self.completion_tokens += exchange.completion_tokens.unwrap_or(0);
            }
        }
    }

    /// The price, at prices for a million tokens.
    pub fn price(&self, prompt: f64, completion: f64) -> f64 {
        (self.prompt_tokens as f64 * prompt + self.completion_tokens as f64 * completion) / 1e6
    }
}

/// What `summary.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Captions of the run.
    pub captions: usize,
    /// Those that a negation was worked into.
    pub kept: usize,
    /// Those that were dropped.
    pub rejected: usize,
    /// Dead letters.
    pub failed: usize,
    /// Those that were dropped, by reason.
    pub rejected_by_reason: BTreeMap<String, usize>,
    /// What the answers cost.
    pub cost: Cost,
    /// What decided the result.
    pub settings: Settings,
}

/// A line of `provenance.jsonl` and `rejected.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    item: &'a str,
    /// The annotation's id in `captions.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation_id: Option<u64>,
    #[serde(flatten)]
    record: &'a CaptionRecord,
}

pub(crate) fn write_finals(run: &RunFolder, captions: &Path) -> Result<Summary, CaptionRunError> {
    let settings: Settings = run.plan().settings()?;
    let found = digest(captions)?;
    if found != settings.captions_sha256 {
        return Err(CaptionRunError::OtherCaptions {
            path: captions.to_owned(),
            expected: settings.captions_sha256,
            found,
        });
    }
    let settled = run.settled()?;
    let items = run.plan().items();
    let missing: Vec<String> = items
        .iter()
        .enumerate()
        .filter(|(position, _)| !settled.holds(*position))
        .map(|(_, item)| item.clone())
        .collect();
    if !missing.is_empty() {
        return Err(RunError::Incomplete {
            missing,
            total: items.len(),
        }
        .into());
    }
    let mut summary = Summary {
        captions: items.len(),
        kept: 0,
        rejected: 0,
        failed: 0,
        rejected_by_reason: BTreeMap::new(),
        cost: Cost::default(),
        settings,
    };
    let source = read_source(captions)?;
    let mut annotations = Annotations::new(&source, captions)?;
    let (mut provenance, mut rejected, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for (position, item) in items.iter().enumerate() {
        let Some(record) = read_record(&settled, position)? else {
            summary.failed += 1;
            let reason = settled.failure(position);
            push(&mut failed, &json!({"item": item, "reason": reason}))?;
            continue;
        };
        summary.cost.add(&record, &mut seen);
        let (annotation_id, lines) = match &record.outcome {
            Outcome::Kept(kept) => {
                summary.kept += 1;
                (Some(annotations.add(kept)), &mut provenance)
            }
            Outcome::Rejected(dropped) => {
                summary.rejected += 1;
                *summary
                    .rejected_by_reason
                    .entry(dropped.kind.clone())
                    .or_default() += 1;
                (None, &mut rejected)
            }
        };
        push(
            lines,
            &Line {
                item,
                annotation_id,
                record: &record,
            },
        )?;
    }
    let write = |name: &str, bytes: &[u8]| write_atomic(run.path().join(name), bytes);
    let published = annotations.published(&source);
    let published = published_json(&published).map_err(malformed(captions))?;
    write("captions.json", published.as_bytes())?;
    write("provenance.jsonl", &provenance)?;
    write("rejected.jsonl", &rejected)?;
    write("dead_letters.jsonl", &failed)?;
    let mut text = serde_json::to_string_pretty(&summary).map_err(malformed(captions))?;
    text.push('\n');
    // Last: where it is, the others are whole.
    write("summary.json", text.as_bytes())?;
    Ok(summary)
}

fn read_record(
    settled: &SettledItems,
    position: usize,
) -> Result<Option<CaptionRecord>, CaptionRunError> {
    Ok(settled.record(position)?)
}

fn push(lines: &mut Vec<u8>, line: &impl Serialize) -> Result<(), CaptionRunError> {
    serde_json::to_writer(&mut *lines, line).map_err(malformed(Path::new("a record")))?;
    lines.push(b'\n');
    Ok(())
}

fn malformed(path: &Path) -> impl Fn(serde_json::Error) -> CaptionRunError {
    let path = path.to_owned();
    move |error| CaptionRunError::Captions {
        path: path.clone(),
        reason: error.to_string(),
    }
}

fn read_source(captions: &Path) -> Result<Map<String, Value>, CaptionRunError> {
    let text = std::fs::read(captions).map_err(|cause| CaptionRunError::Read {
        path: captions.to_owned(),
        cause,
    })?;
    serde_json::from_slice(&text).map_err(malformed(captions))
}

/// The annotations of the captions file, with what is kept of them.
struct Annotations<'a> {
    all: &'a [Value],
    by_id: HashMap<u64, usize>,
    /// The first updated caption of each annotation.
    updated: Vec<Option<String>>,
    /// Further ones, of annotations that several questions were joined with.
    further: Vec<(usize, u64, String)>,
    next_id: u64,
}

impl<'a> Annotations<'a> {
    fn new(source: &'a Map<String, Value>, path: &Path) -> Result<Self, CaptionRunError> {
        let all = source.get("annotations").and_then(Value::as_array);
        let all = all.ok_or_else(|| CaptionRunError::Captions {
            path: path.to_owned(),
            reason: "expected a list `annotations`, found none".to_owned(),
        })?;
        let ids = all
            .iter()
            .enumerate()
            .filter_map(|(index, annotation)| Some((annotation.get("id")?.as_u64()?, index)));
        let by_id: HashMap<u64, usize> = ids.collect();
        Ok(Self {
            all,
            next_id: by_id.keys().max().map_or(1, |id| id + 1),
            by_id,
            updated: vec![None; all.len()],
            further: Vec::new(),
        })
    }

    /// The id under which the caption stands. The first of an annotation keeps its id, as the
    /// published tool does; a further one gets one of its own, for ids must be unique.
    fn add(&mut self, kept: &NegationCaption) -> u64 {
        let Some(&index) = self.by_id.get(&kept.caption_id) else {
            return kept.caption_id;
        };
        let text = kept.updated_caption.clone();
        if self.updated[index].is_none() {
            self.updated[index] = Some(text);
            return kept.caption_id;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.further.push((index, id, text));
        id
    }

    /// The file, with the keys and the order of the published tool: all pictures, and the annotations
    /// that have an `updated_caption`.
    fn published(&self, source: &Map<String, Value>) -> Value {
        let part = |name: &str, empty: Value| source.get(name).cloned().unwrap_or(empty);
        let with = |index: usize, id: Option<u64>, text: &str| {
            let mut annotation = self.all[index].clone();
            if let Value::Object(fields) = &mut annotation {
                if let Some(id) = id {
                    fields.insert("id".to_owned(), id.into());
                }
                fields.insert("updated_caption".to_owned(), text.into());
            }
            annotation
        };
        let first = self.updated.iter().enumerate();
        let first = first.filter_map(|(index, text)| Some(with(index, None, text.as_deref()?)));
        let further = self
            .further
            .iter()
            .map(|(index, id, text)| with(*index, Some(*id), text));
        json!({
            "info": part("info", json!({})),
            "licenses": part("licenses", json!([])),
            "images": part("images", json!([])),
            "annotations": first.chain(further).collect::<Vec<_>>(),
        })
    }
}
