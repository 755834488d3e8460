//! Runs of tables that have no page of their own: what their files say.

use negkit_eval::RunFolder;
use serde_json::Value;

use crate::run::Run;
use crate::view::{Part, ScoreCell, ScoreRow, ScoreTable, Section};
use crate::{Result, markdown};

/// Numbers of a summary that are shown before the others are only counted.
const MOST_NUMBERS: usize = 400;

/// A run of any table.
pub(crate) struct OtherRun {
    run: Run,
    done: usize,
}

impl OtherRun {
    pub(crate) fn open(run: Run) -> Result<Self> {
        let done = run.folder.records_so_far::<serde::de::IgnoredAny>()?.len();
        Ok(Self { run, done })
    }

    pub(crate) fn section(&self, id: &str) -> Section {
        let folder: &RunFolder = &self.run.folder;
        let (table, items) = (folder.plan().table(), folder.plan().items().len());
        let mut notices = Vec::new();
        if self.done < items {
            notices.push(format!(
                "This run is not finished: {} of {items} items have a record.",
                self.done
            ));
        }
        if self.run.table.is_none() {
            notices.push("The run has no table.md yet.".to_owned());
        }
        let mut parts = Vec::new();
        if let Some(summary) = self.run.summary() {
            let mut numbers = Vec::new();
            flatten("", summary, &mut numbers);
            let shown = numbers.len().min(MOST_NUMBERS);
            let rows = numbers.iter().take(shown).map(|(name, value)| ScoreRow {
                encoder: None,
                name: name.clone(),
                cells: vec![ScoreCell::plain(value)],
            });
            let text = match numbers.len() - shown {
                0 => String::new(),
                more => format!("The first {shown} numbers; summary.json has {more} more."),
            };
            parts.push(Part {
                id: format!("{id}-numbers"),
                title: "All numbers".to_owned(),
                text,
                tables: vec![ScoreTable {
                    caption: "What summary.json says".to_owned(),
                    columns: vec!["value".to_owned()],
                    rows: rows.collect(),
                }],
                ..Part::default()
            });
        }
        Section {
            id: id.to_owned(),
            title: format!("Run of {table}"),
            folder: self.run.path.display().to_string(),
            lead: format!("{items} items."),
            notices,
            parts,
            table: self
                .run
                .table
                .as_deref()
                .map(|text| markdown::to_html(text, 2)),
            table_first: true,
            settings: self.run.head.clone(),
            style: String::new(),
        }
    }
}

/// Every value of a summary with its path, settings left out: these stand in `run.toml`.
fn flatten(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.iter();
            for (name, value) in
                fields.filter(|(name, _)| !(path.is_empty() && *name == "settings"))
            {
                flatten(&below(name), value, found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, found);
            }
        }
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Number(number) => {
            let shown = match (number.as_i64(), number.as_f64()) {
                (None, Some(value)) => format!("{value:.4}"),
                _ => number.to_string(),
            };
            found.push((path.to_owned(), shown));
        }
        Value::Bool(_) | Value::Null => found.push((path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name() {
        let summary = serde_json::json!({
            "table": "table2",
            "settings": {"seed": 1},
            "encoders": [{"name": "stock", "recall": {"estimate": 0.25}}, {"name": "b"}],
        });
        let mut found = Vec::new();
        flatten("", &summary, &mut found);
        let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
        let expected = [
            ("table", "table2"),
            ("encoders[0].name", "stock"),
            ("encoders[0].recall.estimate", "0.2500"),
            ("encoders[1].name", "b"),
        ];
        assert_eq!(found, expected);
    }
}
