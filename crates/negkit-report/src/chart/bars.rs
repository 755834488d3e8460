//! Scores of groups, one bar an encoder.

use super::{Anchor, Chart, ChartEncoder, Numbers, Svg, shortened};
use crate::score::Interval;

const WIDTH: f64 = 460.;
/// Room for the groups' names.
const LEFT: f64 = 112.;
/// Room for numbers.
const RIGHT: f64 = 42.;
const BAR: f64 = 13.;
const BAR_GAP: f64 = 3.;
const GROUP_GAP: f64 = 14.;
const TOP: f64 = 6.;
const AXIS: f64 = 24.;
/// Letters of a name that fit.
const LETTERS: usize = 16;

/// A group of bars.
pub(crate) struct BarGroup {
    pub(crate) label: String,
    /// How much is in it, such as "29 prompts".
    pub(crate) size: String,
    /// One an encoder, in the order of the encoders; `None` without a score.
    pub(crate) bars: Vec<Option<Bar>>,
}

/// A score from 0 to 1.
pub(crate) struct Bar {
    pub(crate) score: Interval,
}

/// A chart of scores from 0 to 1.
pub(crate) fn bars(title: &str, encoders: &[ChartEncoder], groups: &[BarGroup]) -> Chart {
    let group_height = encoders.len() as f64 * (BAR + BAR_GAP) - BAR_GAP;
    let bottom = TOP + groups.len() as f64 * (group_height + GROUP_GAP);
    let mut svg = Svg::new(WIDTH, bottom + AXIS);
    let x = |score: f64| LEFT + score.clamp(0., 1.) * (WIDTH - LEFT - RIGHT);
    for tick in 0..=4 {
        let score = f64::from(tick) / 4.;
        svg.line("grid", (x(score), TOP), (x(score), bottom));
        let at = (x(score), bottom + 16.);
        svg.text("tick", at, Anchor::Middle, &format!("{score:.2}"));
    }
    let mut numbers = Numbers {
        columns: ["", "encoder", "score", "95 % interval", "of"]
            .map(str::to_owned)
            .to_vec(),
        rows: Vec::new(),
    };
    for (index, group) in groups.iter().enumerate() {
        let top = TOP + index as f64 * (group_height + GROUP_GAP) + GROUP_GAP / 2.;
        let middle = top + group_height / 2.;
        let label = shortened(&group.label, LETTERS);
        svg.text("label", (LEFT - 10., middle), Anchor::End, &label);
        svg.text("tick", (LEFT - 10., middle + 14.), Anchor::End, &group.size);
        for (place, (encoder, bar)) in encoders.iter().zip(&group.bars).enumerate() {
            let Some(Bar { score }) = bar else {
                continue;
            };
            let top = top + place as f64 * (BAR + BAR_GAP);
            let tip = format!(
                "{}, {}: {:.3} ({})",
                encoder.name,
                group.label,
                score.estimate,
                score.ends()
            );
            svg.begin(encoder.encoder, &tip);
            let width = x(score.estimate) - x(0.);
            svg.rect("fill", (x(0.), top), (width.max(1.), BAR));
            let middle = top + BAR / 2.;
            svg.line("whisker", (x(score.low), middle), (x(score.high), middle));
            let at = (WIDTH - RIGHT + 8., middle + 4.);
            svg.text(
                "value",
                at,
                Anchor::Start,
                &format!("{:.2}", score.estimate),
            );
            svg.end();
            numbers.rows.push(vec![
                group.label.clone(),
                encoder.name.clone(),
                format!("{:.3}", score.estimate),
                score.ends(),
                group.size.clone(),
            ]);
        }
    }
    svg.line("axis", (x(0.), TOP), (x(0.), bottom));
    Chart {
        title: title.to_owned(),
        description: format!(
            "Bars from 0 to 1 with intervals, in {} groups.",
            groups.len()
        ),
        legend: encoders.to_vec(),
        svg: svg.finish(),
        numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_scores() {
        let encoders = ["stock", "other"].map(str::to_owned);
        let encoders: Vec<ChartEncoder> = encoders
            .into_iter()
            .enumerate()
            .map(|(encoder, name)| ChartEncoder { encoder, name })
            .collect();
        let bar = |estimate: f64| {
            Some(Bar {
                score: Interval {
                    estimate,
                    low: estimate - 0.1,
                    high: estimate + 0.1,
                    level: 0.95,
                },
            })
        };
        let groups = [
            BarGroup {
                label: "without".to_owned(),
                size: "29".to_owned(),
                bars: vec![bar(0.25), bar(0.5)],
            },
            BarGroup {
                label: "no".to_owned(),
                size: "45".to_owned(),
                bars: vec![None, bar(1.)],
            },
        ];
        let chart = bars("by word", &encoders, &groups);
        let widths: Vec<f64> = chart
            .svg
            .split("<rect class=\"fill\"")
            .skip(1)
            .filter_map(|rest| {
                rest.split_once("width=\"")?
                    .1
                    .split_once('"')?
                    .0
                    .parse()
                    .ok()
            })
            .collect();
        let full = WIDTH - LEFT - RIGHT;
        assert_eq!(widths.len(), 3);
        for (width, share) in widths.iter().zip([0.25, 0.5, 1.]) {
            assert!((width - share * full).abs() < 0.06, "{width} of {full}");
        }
        assert_eq!(chart.numbers.rows.len(), 3);
        assert_eq!(chart.numbers.rows[0][2], "0.250");
    }
}
