//! Scores against the threshold.

use super::{Anchor, Chart, ChartEncoder, Numbers, Svg, look, step};

const WIDTH: f64 = 440.;
const HEIGHT: f64 = 280.;
const LEFT: f64 = 46.;
const RIGHT: f64 = 14.;
const TOP: f64 = 12.;
const BOTTOM: f64 = 42.;

/// The scores of one encoder.
pub(crate) struct Curve {
    pub(crate) encoder: ChartEncoder,
    /// At every threshold.
    pub(crate) scores: Vec<f64>,
}

/// A chart of scores against `thresholds`, which ascend from 0 to 1; those of the table are at
/// `reported`.
pub(crate) fn curves(title: &str, thresholds: &[f64], lines: &[Curve], reported: f64) -> Chart {
    let highest = lines.iter().flat_map(|line| &line.scores).copied();
    let highest = highest.fold(0.05, f64::max);
    let step = step(highest, 5.);
    let top = (highest / step).ceil() * step;
    let x = |threshold: f64| LEFT + threshold.clamp(0., 1.) * (WIDTH - LEFT - RIGHT);
    let y = |score: f64| HEIGHT - BOTTOM - score.max(0.) / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let ticks = (top / step).round() as usize;
    for tick in 0..=ticks {
        let score = tick as f64 * step;
        svg.line("grid", (LEFT, y(score)), (WIDTH - RIGHT, y(score)));
        let digits = if step < 0.1 { 2 } else { 1 };
        let at = (LEFT - 8., y(score) + 4.);
        svg.text("tick", at, Anchor::End, &format!("{score:.digits$}"));
    }
    for tick in 0..=5 {
        let threshold = f64::from(tick) / 5.;
        let at = (x(threshold), HEIGHT - BOTTOM + 16.);
        svg.text("tick", at, Anchor::Middle, &format!("{threshold:.1}"));
    }
    svg.line("axis", (LEFT, y(0.)), (WIDTH - RIGHT, y(0.)));
    let at = ((LEFT + WIDTH - RIGHT) / 2., HEIGHT - 8.);
    svg.text("label", at, Anchor::Middle, "threshold");
    svg.line("reported", (x(reported), TOP), (x(reported), y(0.)));
    for line in lines {
        draw(&mut svg, thresholds, line, (&x, &y));
    }
    let mut columns = vec!["threshold".to_owned()];
    columns.extend(lines.iter().map(|line| line.encoder.name.clone()));
    let rows = thresholds.iter().enumerate().map(|(index, threshold)| {
        let scores = lines.iter().map(|line| line.scores.get(index));
        let scores = scores.map(|score| score.map_or(String::new(), |score| format!("{score:.3}")));
        std::iter::once(format!("{threshold:.2}"))
            .chain(scores)
            .collect()
    });
    Chart {
        title: title.to_owned(),
        description: format!(
            "Lines over thresholds from 0 to 1; the dashed upright is the reported one, {reported:.2}, \
             and a dot is where an encoder is best."
        ),
        legend: lines.iter().map(|line| line.encoder.clone()).collect(),
        svg: svg.finish(),
        numbers: Numbers {
            columns,
            rows: rows.collect(),
        },
    }
}

type Scale<'a> = &'a dyn Fn(f64) -> f64;

fn draw(svg: &mut Svg, thresholds: &[f64], line: &Curve, (x, y): (Scale<'_>, Scale<'_>)) {
    let points = || thresholds.iter().zip(&line.scores);
    svg.begin(line.encoder.encoder, "");
    let path: Vec<String> = points()
        .map(|(threshold, score)| format!("{:.1},{:.1}", x(*threshold), y(*score)))
        .collect();
    svg.raw(format_args!(
        "<polyline class=\"curve\" points=\"{}\"/>",
        path.join(" ")
    ));
    // Of equals the first, as the table has it.
    let best = points().reduce(|best, point| if point.1 > best.1 { point } else { best });
    if let Some((threshold, score)) = best {
        svg.raw(format_args!(
            "<circle class=\"best\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            x(*threshold),
            y(*score)
        ));
    }
    // What the pointer is shown, wherever it is near the line.
    for (threshold, score) in points() {
        svg.raw(format_args!(
            "<circle class=\"touch {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"7\">",
            look(line.encoder.encoder),
            x(*threshold),
            y(*score)
        ));
        svg.tip(&format!(
            "{}, threshold {threshold:.2}: {score:.3}",
            line.encoder.name
        ));
        svg.raw(format_args!("</circle>"));
    }
    svg.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_is_at_the_best_threshold_and_higher_scores_are_higher() {
        let line = Curve {
            encoder: ChartEncoder {
                encoder: 2,
                name: "a".to_owned(),
            },
            scores: vec![0.1, 0.4, 0.4, 0.2],
        };
        let chart = curves("mIoU", &[0.2, 0.4, 0.6, 0.8], &[line], 0.3);
        let points: Vec<(f64, f64)> = chart
            .svg
            .split_once("points=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(points, _)| {
                let pairs = points.split(' ').filter_map(|point| point.split_once(','));
                pairs
                    .filter_map(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)))
                    .collect()
            })
            .unwrap_or_default();
        assert_eq!(points.len(), 4);
        assert!(points[1].1 < points[3].1 && points[3].1 < points[0].1);
        let dot = format!(
            "class=\"best\" cx=\"{:.1}\" cy=\"{:.1}\"",
            points[1].0, points[1].1
        );
        assert!(chart.svg.contains(&dot), "{}", chart.svg);
        assert_eq!(chart.numbers.rows[3], ["0.80", "0.200"]);
    }
}
