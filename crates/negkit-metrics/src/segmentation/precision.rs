//! Areas under precision against recall.

/// A point of the curve: recall, then precision.
pub(super) type Point = (f64, f64);

/// Simpson's rule over points that need not be evenly spaced, by ascending recall, as
/// `scipy.integrate.simps` had it when CLIPSeg was published. An even number of points has an interval
/// too many: the area is the mean of leaving out the last one and leaving out the first one, each made
/// up for by a trapezium (`even="avg"`; SciPy 1.11 put a correction of the last interval in its place,
/// so the two differ for an even number). Fewer than two points have no area.
pub(super) fn simpson(points: &[Point]) -> f64 {
    if points.len() < 2 {
        return 0.;
    }
    if points.len() % 2 == 1 {
        return pairs_of_intervals(points);
    }
    let last = points.len() - 1;
    let without_last = pairs_of_intervals(&points[..last]) + trapezium(&points[last - 1..]);
    let without_first = pairs_of_intervals(&points[1..]) + trapezium(&points[..2]);
    (without_last + without_first) / 2.
}

fn trapezium(points: &[Point]) -> f64 {
    let intervals = points.windows(2);
    intervals
        .map(|ends| 0.5 * (ends[1].0 - ends[0].0) * (ends[1].1 + ends[0].1))
        .sum()
}

/// The parabola through each three points, an odd number in all. Terms over an interval of no width
/// are left out, as SciPy does.
fn pairs_of_intervals(points: &[Point]) -> f64 {
    let over = |a: f64, b: f64| if b == 0. { 0. } else { a / b };
    points
        .windows(3)
        .step_by(2)
        .map(|three| {
            let [(x0, y0), (x1, y1), (x2, y2)] = [three[0], three[1], three[2]];
            let (h0, h1) = (x1 - x0, x2 - x1);
            let (width, ratio) = (h0 + h1, over(h0, h1));
            let first = y0 * (2. - over(1., ratio));
            let middle = y1 * width * over(width, h0 * h1);
            let last = y2 * (2. - ratio);
            width / 6. * (first + middle + last)
        })
        .sum()
}

/// The sum of each precision times the recall that it adds, from no recall on: never more than 1, as
/// a parabola can be. `points` are by ascending recall.
pub(super) fn steps(points: &[Point]) -> f64 {
    let before = std::iter::once(0.).chain(points.iter().map(|point| point.0));
    points
        .iter()
        .zip(before)
        .map(|((recall, precision), before)| (recall - before) * precision)
        .sum()
}
