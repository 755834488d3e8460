//! What of a run agrees with the paper: one rule and one wording for both tables.
//!
//! Compared are differences between encoders, and only their directions: other pictures and other
//! models have other heights. The paper gives no intervals, so the rule asks of ours alone whether a
//! difference is shown.

use std::fmt::Write as _;

use negkit_metrics::Interval;
use serde::Serialize;

/// Differences of the paper up to this much count as none: it has 0.001 between CLIPSeg and
/// NegationCLIPSeg on PhraseCut and 0.004 between two TIFA scores, and calls both the same.
const NO_DIFFERENCE: f64 = 0.005;

/// How a difference of ours reads beside the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reading {
    /// Both have one, to the same side.
    SameDirection,
    /// The paper has none, and none is shown here.
    NoDifference,
    /// The paper has one; here the interval holds 0.
    NotShown,
    /// The paper has none, and one is shown here.
    OnlyHere,
    /// Both have one, to different sides.
    OppositeDirection,
}

impl Reading {
    const ALL: [Self; 5] = [
        Self::SameDirection,
        Self::NoDifference,
        Self::NotShown,
        Self::OnlyHere,
        Self::OppositeDirection,
    ];

    /// `paper` and `here` are differences of the same encoder to the same other.
    pub(crate) fn of(paper: f64, here: Interval) -> Self {
        let shown = here.low > 0. || here.high < 0.;
        if paper.abs() <= NO_DIFFERENCE {
            return match shown && here.estimate.abs() > NO_DIFFERENCE {
                true => Self::OnlyHere,
                false => Self::NoDifference,
            };
        }
        match (shown, here.estimate * paper > 0.) {
            (false, _) => Self::NotShown,
            (true, true) => Self::SameDirection,
            (true, false) => Self::OppositeDirection,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::SameDirection => "same direction",
            Self::NoDifference => "no difference, as in the paper",
            Self::NotShown => "not shown: the interval holds 0",
            Self::OnlyHere => "**a difference where the paper has none**",
            Self::OppositeDirection => "**opposite direction**",
        }
    }

    fn agrees(self) -> bool {
        matches!(self, Self::SameDirection | Self::NoDifference)
    }

    fn disagrees(self) -> bool {
        matches!(self, Self::OnlyHere | Self::OppositeDirection)
    }
}

/// One difference beside the paper's.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    /// What is compared, such as an encoder on a dataset.
    pub(crate) subject: String,
    /// By which score.
    pub(crate) measure: String,
    /// Whether it is part of what the paper says of NegationCLIP.
    pub(crate) is_claim: bool,
    /// The paper's difference.
    pub(crate) paper: f64,
    /// Ours.
    pub(crate) here: Interval,
    /// How they read beside each other.
    pub(crate) reading: Reading,
}

impl Comparison {
    pub(crate) fn new(subject: String, measure: String, paper: f64, here: Interval) -> Self {
        Self {
            subject,
            measure,
            is_claim: false,
            paper,
            here,
            reading: Reading::of(paper, here),
        }
    }
}

/// What a table of the small world says at its head, where the paper's numbers stand beside its own.
pub(crate) const MINI_NOTE: &str = "**Drawn scenes and small models.** The paper's columns are of \
    large models with published weights: directions can be compared with them, heights cannot.\n\n";

/// What a table's section on agreement says besides the comparisons.
pub(crate) struct Frame<'a> {
    /// The encoder that all differences are to.
    pub(crate) baseline: &'a str,
    /// What the paper says of NegationCLIP, as a noun phrase with its verb in the infinitive.
    pub(crate) claim: &'a str,
    /// What else a reader must know.
    pub(crate) note: &'a str,
}

/// The section, all of it computed.
pub(crate) fn section(frame: &Frame<'_>, comparisons: &[Comparison]) -> String {
    let mut text = String::from("## What agrees with the paper, and what does not\n\n");
    if comparisons.is_empty() {
        let _ = writeln!(
            text,
            "The paper has no numbers for these encoders against {}, so nothing can be compared.",
            frame.baseline
        );
        return text;
    }
    // Writing into a string cannot fail, here and below.
    let _ = write!(text, "{}", claim(frame, comparisons));
    let _ = writeln!(
        text,
        " All differences are to {}, on the same items. One is shown where its 95 % interval excludes \
         0; the paper gives no intervals, and a difference of its of up to {NO_DIFFERENCE} counts as \
         none. Compared are directions, not sizes.{}\n",
        frame.baseline, frame.note
    );
    for reading in Reading::ALL {
        let own = comparisons.iter().filter(|one| one.reading == reading);
        let own: Vec<&Comparison> = own.collect();
        if !own.is_empty() {
            let words = reading.words().trim_matches('*');
            let count = format!("{} of {}", own.len(), comparisons.len());
            let _ = writeln!(
                text,
                "- **{}{}** ({count}): {}.",
                words[..1].to_uppercase(),
                &words[1..],
                subjects(&own, comparisons)
            );
        }
    }
    text.push_str("\n| encoder | measure | paper | here | |\n|---|---|---|---|---|\n");
    for Comparison {
        subject,
        measure,
        paper,
        here,
        reading,
        ..
    } in comparisons
    {
        let _ = writeln!(
            text,
            "| {} | {measure} | {paper:+.3} | {} | {} |",
            subject.replace('|', "\\|"),
            difference(here),
            reading.words()
        );
    }
    text
}

/// Whether the paper's own claim is seen.
fn claim(frame: &Frame<'_>, comparisons: &[Comparison]) -> String {
    let claims: Vec<&Comparison> = comparisons.iter().filter(|one| one.is_claim).collect();
    if claims.is_empty() {
        return "The paper's claim is about NegationCLIP, which is not among these encoders."
            .to_owned();
    }
    let verdict = if claims.iter().all(|one| one.reading.agrees()) {
        "That is seen here"
    } else if claims.iter().any(|one| one.reading.disagrees()) {
        "**That is not what is seen here**"
    } else {
        "Here that is neither shown nor refuted"
    };
    let numbers = claims
        .iter()
        .map(|one| format!("{}, {} {}", one.subject, one.measure, difference(&one.here)));
    format!(
        "The paper finds NegationCLIP to {}. {verdict}: {}.",
        frame.claim,
        numbers.collect::<Vec<_>>().join("; ")
    )
}

/// The subjects of some comparisons, each with its measures where others of its have another reading.
fn subjects(own: &[&Comparison], all: &[Comparison]) -> String {
    let mut named: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in own {
        match named
            .iter_mut()
            .find(|(subject, _)| *subject == one.subject)
        {
            Some((_, measures)) => measures.push(&one.measure),
            None => named.push((&one.subject, vec![&one.measure])),
        }
    }
    let parts = named.into_iter().map(|(subject, measures)| {
        let of_subject = all.iter().filter(|one| one.subject == subject).count();
        match (measures.len() == of_subject, of_subject) {
            (true, 1) => format!("{subject} ({})", measures[0]),
            (true, _) => format!("{subject}, by every measure"),
            (false, _) => format!("{subject} ({})", measures.join(", ")),
        }
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// A difference with its interval, as both tables write it.
pub(crate) fn difference(found: &Interval) -> String {
    let Interval {
        estimate,
        low,
        high,
        ..
    } = found;
    format!("{estimate:+.3} [{low:+.3}, {high:+.3}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, estimate: f64, high: f64) -> Interval {
        Interval {
            estimate,
            low,
            high,
            level: 0.95,
        }
    }

    #[test]
    fn a_direction_needs_an_interval_that_excludes_zero() {
        let up = interval(0.01, 0.02, 0.03);
        let maybe_up = interval(-0.01, 0.02, 0.05);
        let down = interval(-0.03, -0.02, -0.01);
        let maybe_down = interval(-0.05, -0.02, 0.01);
        let none = interval(0., 0., 0.);
        let tiny = interval(-0.003, -0.002, -0.001);
        for (paper, here, reading) in [
            (0.021, up, Reading::SameDirection),
            (-0.144, down, Reading::SameDirection),
            (0.021, maybe_up, Reading::NotShown),
            (0.021, maybe_down, Reading::NotShown),
            (0.021, none, Reading::NotShown),
            (0.021, down, Reading::OppositeDirection),
            (-0.144, up, Reading::OppositeDirection),
            // "As good as stock" is refuted by what is shown alone.
            (-0.001, maybe_down, Reading::NoDifference),
            (-0.001, none, Reading::NoDifference),
            (-0.001, tiny, Reading::NoDifference),
            (-0.001, down, Reading::OnlyHere),
            (0.004, up, Reading::OnlyHere),
        ] {
            assert_eq!(Reading::of(paper, here), reading, "{paper} {here:?}");
        }
    }

    fn compared(subject: &str, measure: &str, paper: f64, here: Interval) -> Comparison {
        Comparison::new(subject.to_owned(), measure.to_owned(), paper, here)
    }

    fn frame() -> Frame<'static> {
        Frame {
            baseline: "stock",
            claim: "raise the score",
            note: "",
        }
    }

    #[test]
    fn the_section_says_what_agrees_and_what_does_not() {
        let mut all = [
            compared("neg", "a", 0.1, interval(0.1, 0.2, 0.3)),
            compared("neg", "b", 0.1, interval(-0.3, -0.2, -0.1)),
            compared("con|clip", "a", -0.1, interval(-0.3, -0.2, -0.1)),
            compared("con|clip", "b", -0.1, interval(-0.3, -0.2, -0.1)),
        ];
        all[0].is_claim = true;
        let text = section(&frame(), &all);
        for part in [
            "The paper finds NegationCLIP to raise the score. That is seen here: neg, a +0.200 \
             [+0.100, +0.300]. All differences are to stock",
            "- **Same direction** (3 of 4): neg (a); con|clip, by every measure.\n",
            "- **Opposite direction** (1 of 4): neg (b).\n",
            "| con\\|clip | b | -0.100 | -0.200 [-0.300, -0.100] | same direction |\n",
            "| **opposite direction** |\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        all[1].is_claim = true;
        let text = section(&frame(), &all);
        assert!(text.contains("**That is not what is seen here**"), "{text}");
        all[1] = compared("neg", "b", 0.1, interval(-0.1, 0.2, 0.3));
        all[1].is_claim = true;
        let text = section(&frame(), &all);
        assert!(text.contains("neither shown nor refuted"), "{text}");
        let text = section(&frame(), &all[2..]);
        assert!(text.contains("not among these encoders"), "{text}");
        let text = section(&frame(), &[]);
        assert!(text.contains("nothing can be compared"), "{text}");
    }
}
