//! `table.md` as HTML.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// The text as HTML. What the text itself says in HTML is shown as it is written; links lead nowhere,
/// and pictures are their descriptions: nothing in a run may fetch anything. Its titles stand
/// `below` so many of the page.
pub(crate) fn to_html(text: &str, below: usize) -> String {
    let own = |html: &'static str| Event::Html(CowStr::Borrowed(html));
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).flat_map(|event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) => vec![Event::Text(raw)],
        Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::HtmlBlock)
        | Event::End(TagEnd::Link | TagEnd::Image | TagEnd::HtmlBlock) => Vec::new(),
        Event::Start(Tag::Heading { level, .. }) => vec![Event::Start(Tag::Heading {
            level: lowered(level, below),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        })],
        Event::End(TagEnd::Heading(level)) => {
            vec![Event::End(TagEnd::Heading(lowered(level, below)))]
        }
        // A table may be wider than the page: then it moves, and the page does not.
        table @ Event::Start(Tag::Table(_)) => vec![
            own(r#"<div class="wide" role="region" aria-label="table" tabindex="0">"#),
            table,
        ],
        table @ Event::End(TagEnd::Table) => vec![table, own("</div>")],
        other => vec![other],
    });
    let mut found = String::new();
    html::push_html(&mut found, events);
    found
}

fn lowered(level: HeadingLevel, by: usize) -> HeadingLevel {
    HeadingLevel::try_from(level as usize + by).unwrap_or(HeadingLevel::H6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_tables() {
        let found = to_html("# T\n\n| a | b |\n|---|---|\n| 1 | **2** |\n", 2);
        assert!(found.contains("<h3>T</h3>"), "{found}");
        assert!(found.contains("<td><strong>2</strong></td>"), "{found}");
        assert!(found.contains(r#"tabindex="0"><table>"#), "{found}");
    }

    #[test]
    fn nothing_in_a_table_runs_or_fetches() {
        let text = "<script>alert(1)</script>\n\nx <img src=http://a.b/c onerror=d> \
                    ![p](http://a.b/p.png) [l](javascript:alert(1)) <http://a.b>\n\n| <b> |\n|---|\n| <i> |\n";
        let found = to_html(text, 2);
        for bad in ["<script", "<img", "<a ", "<b>", "<i>", "href", "src=\""] {
            assert!(!found.contains(bad), "{bad} in {found}");
        }
        assert!(
            found.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{found}"
        );
    }
}
