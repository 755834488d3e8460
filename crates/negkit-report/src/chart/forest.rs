//! Differences with their intervals, and where 0 lies.

use super::{Anchor, Chart, ChartEncoder, Numbers, Svg, shortened, step};
use crate::score::{Difference, signed};

const WIDTH: f64 = 460.;
const LEFT: f64 = 112.;
const RIGHT: f64 = 56.;
const ROW: f64 = 19.;
const GROUP_GAP: f64 = 12.;
const TOP: f64 = 6.;
const AXIS: f64 = 24.;
const LETTERS: usize = 16;

/// The differences in one score.
pub(crate) struct ForestRow {
    pub(crate) label: String,
    /// Each with its encoder.
    pub(crate) differences: Vec<(ChartEncoder, Difference)>,
}

/// A chart of differences to the encoder `baseline`.
pub(crate) fn forest(title: &str, baseline: &str, rows: &[ForestRow]) -> Chart {
    let all = || rows.iter().flat_map(|row| &row.differences);
    let ends = all().flat_map(|(_, found)| [found.difference.low, found.difference.high]);
    let furthest = ends.fold(0.02_f64, |most, end| most.max(end.abs()));
    let step = step(furthest, 3.);
    let furthest = (furthest / step).ceil() * step;
    let half = (WIDTH - LEFT - RIGHT) / 2.;
    let x = |difference: f64| LEFT + half + difference / furthest * half;
    let lines = all().count() as f64;
    let bottom = TOP + lines * ROW + rows.len() as f64 * GROUP_GAP;
    let mut svg = Svg::new(WIDTH, bottom + AXIS);
    let ticks = (furthest / step).round() as i32;
    for tick in -ticks..=ticks {
        let value = f64::from(tick) * step;
        svg.line("grid", (x(value), TOP), (x(value), bottom));
        let text = match tick {
            0 => "0".to_owned(),
            _ => format!("{value:+.2}").replace('-', "\u{2212}"),
        };
        svg.text("tick", (x(value), bottom + 16.), Anchor::Middle, &text);
    }
    svg.line("axis", (x(0.), TOP), (x(0.), bottom));
    let mut numbers = Numbers {
        columns: ["", "encoder", "difference (interval), p"]
            .map(str::to_owned)
            .to_vec(),
        rows: Vec::new(),
    };
    let mut top = TOP;
    for row in rows {
        top += GROUP_GAP / 2.;
        let middle = top + row.differences.len() as f64 * ROW / 2.;
        let label = shortened(&row.label, LETTERS);
        svg.text("label", (LEFT - 10., middle + 4.), Anchor::End, &label);
        for (encoder, found) in &row.differences {
            let y = top + ROW / 2.;
            let ends = found.difference;
            let tip = format!("{}, {}: {}", encoder.name, row.label, found.shown());
            svg.begin(encoder.encoder, &tip);
            svg.line("interval", (x(ends.low), y), (x(ends.high), y));
            svg.rect("fill", (x(ends.estimate) - 4.5, y - 4.5), (9., 9.));
            let at = (WIDTH - RIGHT + 8., y + 4.);
            svg.text("value", at, Anchor::Start, &signed(ends.estimate));
            svg.end();
            let cells = [&row.label, &encoder.name, &found.shown()];
            numbers.rows.push(cells.map(Clone::clone).to_vec());
            top += ROW;
        }
        top += GROUP_GAP / 2.;
    }
    let mut legend: Vec<ChartEncoder> = Vec::new();
    for (encoder, _) in all() {
        if !legend.contains(encoder) {
            legend.push(encoder.clone());
        }
    }
    Chart {
        title: title.to_owned(),
        description: format!(
            "Differences to {baseline} with their intervals, around 0; right of it is better."
        ),
        legend,
        svg: svg.finish(),
        numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Interval;

    #[test]
    fn what_excludes_zero_lies_on_one_side_of_the_line() {
        let row = |estimate: f64| {
            let encoder = ChartEncoder {
                encoder: 1,
                name: "conclip".to_owned(),
            };
            let difference = Interval {
                estimate,
                low: estimate - 0.05,
                high: estimate + 0.05,
                level: 0.95,
            };
            ForestRow {
                label: format!("{estimate}"),
                differences: vec![(
                    encoder,
                    Difference {
                        difference,
                        p_value: 0.01,
                    },
                )],
            }
        };
        let chart = forest("t", "stock", &[row(0.1), row(-0.1), row(0.)]);
        let intervals: Vec<(f64, f64)> = chart
            .svg
            .split("class=\"interval\"")
            .skip(1)
            .filter_map(|rest| {
                let number = |name: &str| {
                    let (_, rest) = rest.split_once(&format!("{name}=\""))?;
                    rest.split_once('"')?.0.parse::<f64>().ok()
                };
                Some((number("x1")?, number("x2")?))
            })
            .collect();
        let zero = LEFT + (WIDTH - LEFT - RIGHT) / 2.;
        assert!(
            intervals[0].0 > zero && intervals[1].1 < zero,
            "{intervals:?}"
        );
        assert!(
            intervals[2].0 < zero && zero < intervals[2].1,
            "{intervals:?}"
        );
        // Two lines of one encoder, one entry in the legend.
        assert_eq!(chart.legend.len(), 1);
        assert_eq!(
            chart.numbers.rows[1][2],
            "−0.100 (−0.150 to −0.050), p 0.010"
        );
    }
}
