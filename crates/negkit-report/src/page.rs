//! The page: template, style and script in one file.

use std::borrow::Borrow;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::Result;
use crate::chart::look;
use crate::picture::PictureView;
use crate::view::Section;

const STYLE: &str = include_str!("../assets/report.css");
const SCRIPT: &str = include_str!("../assets/report.js");

#[derive(Template)]
#[template(path = "page.html")]
struct PageTemplate<'a> {
    title: String,
    encoders: &'a [String],
    sections: &'a [Section],
    words: Vec<&'a str>,
    kinds: Vec<&'a str>,
    cards: usize,
    style: &'static str,
    script: &'static str,
    /// Of the script, which the page's policy lets run alone.
    script_hash: String,
    version: &'static str,
}

impl PageTemplate<'_> {
    fn look(&self, encoder: impl Borrow<usize>) -> String {
        look(*encoder.borrow())
    }
}

/// Renders the page.
pub(crate) fn render(encoders: &[String], sections: &[Section]) -> Result<String> {
    let cards = || {
        let parts = sections.iter().flat_map(|section| &section.parts);
        parts
            .filter_map(|part| part.group.as_ref())
            .flat_map(|group| &group.cards)
    };
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let page = PageTemplate {
        title: match sections {
            [section] => format!("{} – {}", section.title, section.folder),
            _ => format!("{} runs", sections.len()),
        },
        encoders,
        sections,
        words: labels(cards().filter_map(|card| card.word.as_deref())),
        kinds: labels(cards().filter_map(|card| card.kind.as_deref())),
        cards: cards().count(),
        style: STYLE,
        script: SCRIPT,
        script_hash: format!("sha256-{hash}"),
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(page.render()?)
}

/// Each label once, the most frequent first.
fn labels<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for label in all {
        match counted.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => counted.push((label, 1)),
        }
    }
    counted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    counted.into_iter().map(|(label, _)| label).collect()
}

/// `1` or `0`, or nothing for what is neither right nor wrong.
fn flag(right: impl Borrow<Option<bool>>) -> &'static str {
    match right.borrow() {
        Some(true) => "1",
        Some(false) => "0",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_labels_come_first_each_once() {
        let all = ["without", "no", "not", "no"].into_iter();
        assert_eq!(labels(all), ["no", "not", "without"]);
    }

    #[test]
    fn a_style_cannot_end_the_element_it_stands_in() {
        // Neither is escaped where it is written.
        assert!(!STYLE.contains("</"));
        assert!(!SCRIPT.contains("</"));
    }
}
