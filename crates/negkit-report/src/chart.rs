//! Charts as inline SVG, each with its numbers as a table: for those who read with their ears, and
//! those who want the numbers.
//!
//! Colours are classes (`e0`, `e1`, …, one an encoder), so that the page's style decides them for
//! light and dark, and every mark of an encoder carries `data-encoder`, by which the page hides it.

mod bars;
mod curves;
mod forest;

use std::fmt::{self, Write as _};

pub(crate) use bars::{Bar, BarGroup, bars};
pub(crate) use curves::{Curve, curves};
pub(crate) use forest::{ForestRow, forest};

/// A chart on the page.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What is drawn, for who cannot see it.
    pub(crate) description: String,
    /// The encoders that are in it, for its legend.
    pub(crate) legend: Vec<ChartEncoder>,
    pub(crate) svg: String,
    pub(crate) numbers: Numbers,
}

/// An encoder of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChartEncoder {
    /// Index among the encoders of the page.
    pub(crate) encoder: usize,
    pub(crate) name: String,
}

/// The numbers of a chart.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Encoders that have a look of their own; the next ones begin anew.
pub(crate) const LOOKS: usize = 8;

/// The class of an encoder's marks.
pub(crate) fn look(encoder: usize) -> String {
    format!("e{}", encoder % LOOKS)
}

/// An SVG that is being written. Coordinates have one digit after the point.
struct Svg {
    text: String,
}

/// Where a text begins.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// The page scales it to its width; `width` and `height` are in the units of all coordinates. It
    /// is one picture to a screen reader, which is told the title of the figure around it.
    fn new(width: f64, height: f64) -> Self {
        let text = format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" aria-hidden=\"true\" focusable=\"false\">"
        );
        Self { text }
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>");
        self.text
    }

    /// Writes arguments that hold no text of others.
    fn raw(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = self.text.write_fmt(arguments);
    }

    /// Begins the marks of an encoder, which `tip` explains under the pointer.
    fn begin(&mut self, encoder: usize, tip: &str) {
        self.raw(format_args!(
            "<g data-encoder=\"{encoder}\" class=\"{}\">",
            look(encoder)
        ));
        self.tip(tip);
    }

    fn end(&mut self) {
        self.text.push_str("</g>");
    }

    fn tip(&mut self, tip: &str) {
        if !tip.is_empty() {
            self.raw(format_args!("<title>{}</title>", Escaped(tip)));
        }
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.raw(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.raw(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"/>"
        ));
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.raw(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            Escaped(text)
        ));
    }
}

/// A text as it may stand in SVG.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// At most `most` letters of a text, with a sign where there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The least of 1, 2 and 5 times a power of ten that cuts `range` into at most `most` pieces.
fn step(range: f64, most: f64) -> f64 {
    let least = range / most;
    let power = 10_f64.powf(least.log10().floor());
    let found = [1., 2., 5.]
        .into_iter()
        .find(|factor| factor * power >= least);
    found.unwrap_or(10.) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(step(1., 5.), 0.2);
        assert_eq!(step(0.37, 4.), 0.1);
        assert_eq!(step(2.3, 4.), 1.);
        assert!((step(0.011, 4.) - 0.005).abs() < 1e-12);
    }

    #[test]
    fn text_of_others_stays_text() {
        let mut svg = Svg::new(10., 10.);
        svg.begin(9, "</title><script>");
        svg.text("label", (1., 2.), Anchor::End, "a<b>&\"'");
        svg.end();
        let found = svg.finish();
        assert!(!found.contains("<script"), "{found}");
        assert!(
            found.contains(">a&lt;b&gt;&amp;&quot;&#39;</text>"),
            "{found}"
        );
        // Looks begin anew, the encoder is still another one.
        assert!(found.contains("data-encoder=\"9\" class=\"e1\""), "{found}");
    }

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shortened("negationclip", 12), "negationclip");
        assert_eq!(shortened("négationclip", 5), "néga…");
    }
}
