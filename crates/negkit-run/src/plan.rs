//! What a run is to do: settings and items, and how they are written down.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use negkit_digest::hexadecimal;
use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::{Change, Result, RunError};

/// The layout of a run folder; a folder of another layout is refused.
const FORMAT: i64 = 1;
/// The part of `run.toml` that tells what made the run, and decides nothing.
const MADE_BY: &str = "made_by";

/// Everything that decides the result of a run: which table, with which settings, of which items.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As `run.toml` has it, but for [`MADE_BY`].
    head: Table,
    items: Vec<String>,
    positions: HashMap<String, usize>,
}

impl Plan {
    /// A plan for the table of that name, such as `table4`. `settings` is all that decides the
    /// result, model hashes and seeds included; `items` are the keys of the items in the order of
    /// work: texts such as `neg/0007/conclip`, each of which names what is to be done given the
    /// settings.
    ///
    /// # Errors
    /// When the settings are no table of TOML, there are no items, or a key is empty, holds a control
    /// character, or is there twice.
    pub fn new(table: &str, settings: &impl Serialize, items: Vec<String>) -> Result<Self> {
        let settings = Table::try_from(settings).map_err(|error| RunError::Settings {
            reason: error.to_string(),
        })?;
        let positions = positions(&items)?;
        let mut run = Table::new();
        run.insert("table".into(), table.into());
        run.insert("format".into(), FORMAT.into());
        run.insert("negkit".into(), env!("CARGO_PKG_VERSION").into());
        run.insert("items".into(), Value::Integer(items.len() as i64));
        run.insert("items_sha256".into(), digest(&items).into());
        let mut head = Table::new();
        head.insert("run".into(), run.into());
        head.insert("settings".into(), settings.into());
        Ok(Self {
            head,
            items,
            positions,
        })
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        let run = self.head.get("run").and_then(|run| run.get("table"));
        run.and_then(Value::as_str).unwrap_or_default()
    }

    /// The settings, as they were given.
    ///
    /// # Errors
    /// [`RunError::Settings`] when they are of another type, as those of another table are.
    pub fn settings<S: serde::de::DeserializeOwned>(&self) -> Result<S> {
        let settings = self.head.get("settings").cloned();
        let settings = settings.unwrap_or_else(|| Table::new().into());
        settings.try_into().map_err(|error| RunError::Settings {
            reason: error.to_string(),
        })
    }

    /// The keys of the items, in the order of work.
    pub fn items(&self) -> &[String] {
        &self.items
    }

    /// The position of an item.
    pub(crate) fn position(&self, item: &str) -> Option<usize> {
        self.positions.get(item).copied()
    }

    /// The text of `run.toml`.
    pub(crate) fn to_toml(&self) -> Result<String> {
        let mut all = self.head.clone();
        let mut made_by = Table::new();
        if let Some(git) = git_state() {
            made_by.insert("git".into(), git.into());
        }
        all.insert(MADE_BY.into(), made_by.into());
        let text = toml::to_string_pretty(&all).map_err(|error| RunError::Settings {
            reason: error.to_string(),
        })?;
        Ok(format!(
            "# Everything that decides the result of this run. Not to be changed by hand.\n\n{text}"
        ))
    }

    /// The text of `items.txt`.
    pub(crate) fn items_text(&self) -> String {
        let mut text = self.items.join("\n");
        text.push('\n');
        text
    }

    /// The plan of the texts of `run.toml` and `items.txt`.
    pub(crate) fn parse(head: (&Path, &str), items: (&Path, &str)) -> Result<Self> {
        let head_of = parse_head(head.0, head.1)?;
        let list: Vec<String> = items.1.lines().map(str::to_owned).collect();
        let run = head_of.get("run");
        let expected = run.and_then(|run| run.get("items_sha256"));
        if expected.and_then(Value::as_str) != Some(&digest(&list)) {
            return Err(RunError::Damaged {
                path: items.0.to_owned(),
                line: list.len(),
                reason: format!(
                    "expected the items whose hash stands in {}, found others; start the run again, \
                     which writes them anew",
                    head.0.display()
                ),
            });
        }
        let positions = positions(&list)?;
        Ok(Self {
            head: head_of,
            items: list,
            positions,
        })
    }

    /// Refuses `run.toml`, whose text is given, when it is of another plan.
    pub(crate) fn check_same(&self, path: &Path, text: &str) -> Result<()> {
        self.check_head(path, &parse_head(path, text)?)
    }

    /// Refuses a plan that is not the same as this one, which is that of the folder `path`.
    pub(crate) fn check_plan(&self, path: &Path, before: &Self) -> Result<()> {
        self.check_head(path, &before.head)
    }

    fn check_head(&self, path: &Path, before: &Table) -> Result<()> {
        let mut changes = Vec::new();
        compare_tables("", before, &self.head, &mut changes);
        if changes.is_empty() {
            return Ok(());
        }
        Err(RunError::Changed {
            path: path.to_owned(),
            changes,
        })
    }
}

fn parse_head(path: &Path, text: &str) -> Result<Table> {
    let mut table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(before).filter(|byte| *byte == b'\n');
        RunError::Damaged {
            path: path.to_owned(),
            line: line.count() + 1,
            reason: format!("expected the settings of a run, found {}", error.message()),
        }
    })?;
    table.remove(MADE_BY);
    Ok(table)
}

fn positions(items: &[String]) -> Result<HashMap<String, usize>> {
    if items.is_empty() {
        return Err(RunError::NoItems);
    }
    let mut positions = HashMap::with_capacity(items.len());
    for (index, key) in items.iter().enumerate() {
        let usable = !key.trim().is_empty() && !key.contains(char::is_control);
        if !usable || positions.insert(key.clone(), index).is_some() {
            return Err(RunError::Key {
                index,
                key: key.clone(),
            });
        }
    }
    Ok(positions)
}

fn digest(items: &[String]) -> String {
    let mut hash = Sha256::new();
    for item in items {
        hash.update(item.as_bytes());
        hash.update(b"\n");
    }
    hexadecimal(hash.finalize())
}

fn compare_tables(prefix: &str, before: &Table, now: &Table, changes: &mut Vec<Change>) {
    let mut keys: Vec<&String> = before.keys().collect();
    keys.extend(now.keys().filter(|key| !before.contains_key(*key)));
    for key in keys {
        let field = match prefix {
            "" => key.clone(),
            _ => format!("{prefix}.{key}"),
        };
        compare(field, before.get(key), now.get(key), changes);
    }
}

fn compare(field: String, before: Option<&Value>, now: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, now) {
        (Some(Value::Table(before)), Some(Value::Table(now))) => {
            compare_tables(&field, before, now, changes);
        }
        (Some(Value::Array(before)), Some(Value::Array(now))) if tables(before) && tables(now) => {
            for index in 0..before.len().max(now.len()) {
                let field = format!("{field}[{index}]");
                compare(field, before.get(index), now.get(index), changes);
            }
        }
        (before, now) if before != now => changes.push(Change {
            field,
            before: before.map(ToString::to_string),
            now: now.map(ToString::to_string),
        }),
        _ => {}
    }
}

fn tables(values: &[Value]) -> bool {
    values.iter().all(Value::is_table)
}

/// The commit of the checkout that the command runs in, and whether it was changed since; `None`
/// where there is none.
fn git_state() -> Option<String> {
    let git = |arguments: &[&str]| {
        let ran = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(ran.stdout).ok()?;
        ran.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}, changed"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Settings {
        steps: usize,
        guidance: f64,
        scheduler: Option<String>,
        models: Vec<Model>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Model {
        name: String,
        sha256: String,
    }

    fn settings() -> Settings {
        let model = |name: &str| Model {
            name: name.into(),
            sha256: "00ff".into(),
        };
        Settings {
            steps: 20,
            guidance: 3.,
            scheduler: None,
            models: vec![model("stock"), model("conclip")],
        }
    }

    fn items() -> Vec<String> {
        vec!["a/1".into(), "a/2".into()]
    }

    fn plan(settings: &Settings) -> Plan {
        Plan::new("table4", settings, items()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let plan = plan(&settings());
        let (head, list) = (plan.to_toml().unwrap(), plan.items_text());
        let path = Path::new("run.toml");
        plan.check_same(path, &head).unwrap();
        let read = Plan::parse((path, &head), (path, &list)).unwrap();
        assert_eq!(read.items(), plan.items());
        assert_eq!(read.table(), "table4");
        assert_eq!(read.settings::<Settings>().unwrap(), settings());
        let error = Plan::parse((path, &head), (path, "a/1\n")).unwrap_err();
        assert!(matches!(error, RunError::Damaged { .. }), "{error}");
        let error = plan.check_same(path, "[run\n").unwrap_err();
        assert!(error.to_string().contains("run.toml, line 1"), "{error}");
    }

    #[test]
    fn every_changed_setting_is_named() {
        let before = plan(&settings()).to_toml().unwrap();
        let mut other = settings();
        other.steps = 21;
        other.scheduler = Some("ddim".into());
        other.models[1].sha256 = "beef".into();
        let other = Plan::new("table4", &other, vec!["a/1".into()]).unwrap();
        let error = other.check_same(Path::new("out"), &before).unwrap_err();
        let RunError::Changed { changes, .. } = &error else {
            panic!("{error}");
        };
        let fields: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
        let expected = [
            "run.items",
            "run.items_sha256",
            "settings.steps",
            "settings.models[1].sha256",
            "settings.scheduler",
        ];
        assert_eq!(fields, expected);
        let text = error.to_string();
        assert!(text.contains("settings.steps was 20, now 21"), "{text}");
        assert!(
            text.contains("scheduler was not set, now \"ddim\""),
            "{text}"
        );
    }

    #[test]
    fn what_made_a_run_is_not_compared() {
        let plan = plan(&settings());
        let text = plan.to_toml().unwrap();
        let (own, _) = text.split_once("[made_by]").unwrap();
        let other = format!("{own}[made_by]\ngit = \"another\"\n");
        plan.check_same(Path::new("run.toml"), &other).unwrap();
    }

    #[test]
    fn keys_must_be_lines_of_their_own() {
        for bad in ["", " ", "a\nb", "x"] {
            let items = vec!["x".to_owned(), bad.to_owned()];
            let error = Plan::new("table4", &settings(), items).unwrap_err();
            assert!(matches!(error, RunError::Key { index: 1, .. }), "{error}");
        }
        let error = Plan::new("table4", &settings(), Vec::new()).unwrap_err();
        assert!(matches!(error, RunError::NoItems), "{error}");
    }
}
