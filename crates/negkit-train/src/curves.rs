//! Curves of a training as a picture.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::TrainError;
use crate::atomic;
use crate::log::columns;

/// Size of one panel, in pixels.
const PANEL: (u32, u32) = (520, 240);
const PANELS_A_ROW: usize = 2;
/// Points of one curve; more do not show.
const POINTS: usize = 1000;
/// The dark curve over a noisy one is a mean over this share of the steps.
const SMOOTHING: usize = 50;
const FONT: &str = "sans-serif";

/// One panel: a quantity over the steps.
struct Curve {
    title: String,
    points: Vec<(f64, f64)>,
    /// Whether a smoothed curve goes over it.
    is_noisy: bool,
}

/// Draws every column of the logs in `folder` into `curves.png`.
pub(crate) fn draw(folder: &Path) -> Result<(), TrainError> {
    let mut curves = Vec::new();
    for (file, is_noisy) in [("log.csv", true), ("validation.csv", false)] {
        let columns = columns(&folder.join(file))?;
        let Some(((_, steps), values)) = columns.split_first() else {
            continue;
        };
        for (name, values) in values.iter().filter(|(name, _)| name != "seconds") {
            let title = match is_noisy {
                true => name.clone(),
                false => format!("validation: {name}"),
            };
            let finite = steps.iter().copied().zip(values.iter().copied());
            let finite: Vec<_> = finite.filter(|(_, value)| value.is_finite()).collect();
            if !finite.is_empty() {
                curves.push(Curve {
                    title,
                    points: finite,
                    is_noisy: is_noisy && name != "learning_rate",
                });
            }
        }
    }
    if curves.is_empty() {
        return Ok(());
    }
    let rows = curves.len().div_ceil(PANELS_A_ROW);
    let (width, height) = (PANEL.0 * PANELS_A_ROW as u32, PANEL.1 * rows as u32);
    let mut pixels = vec![255; (width * height * 3) as usize];
    paint(&mut pixels, (width, height), rows, &curves)
        .map_err(|e| TrainError::other(format!("cannot draw the curves of a training: {e}")))?;
    let mut png = Cursor::new(Vec::new());
    RgbImage::from_raw(width, height, pixels)
        .unwrap_or_default()
        .write_to(&mut png, ImageFormat::Png)
        .map_err(TrainError::other)?;
    atomic::write(&folder.join("curves.png"), png.get_ref())
}

type Painted = Result<(), Box<dyn std::error::Error>>;

fn paint(pixels: &mut [u8], size: (u32, u32), rows: usize, curves: &[Curve]) -> Painted {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| "the bundled font cannot be read")?;
    let sheet = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    sheet.fill(&WHITE)?;
    for (panel, curve) in sheet.split_evenly((rows, PANELS_A_ROW)).iter().zip(curves) {
        paint_panel(panel, curve)?;
    }
    sheet.present()?;
    Ok(())
}

fn paint_panel(panel: &DrawingArea<BitMapBackend<'_>, Shift>, curve: &Curve) -> Painted {
    let noisy = thinned(&curve.points, curve.points.len().div_ceil(POINTS));
    let smooth = thinned(&curve.points, (curve.points.len() / SMOOTHING).max(1));
    let (first, last) = (curve.points[0].0, curve.points[curve.points.len() - 1].0);
    let (low, high) = range(&noisy);
    let mut chart = ChartBuilder::on(panel)
        .caption(&curve.title, (FONT, 17))
        .margin(12)
        .x_label_area_size(26)
        .y_label_area_size(58)
        .build_cartesian_2d(first..last.max(first + 1.), low..high)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(RGBColor(120, 120, 120))
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| label(*value, high - low))
        .label_style((FONT, 13))
        .draw()?;
    let (light, dark) = (RGBColor(168, 199, 234), RGBColor(24, 90, 170));
    let under = if curve.is_noisy { light } else { dark };
    chart.draw_series(LineSeries::new(noisy, under.stroke_width(1)))?;
    if curve.is_noisy {
        chart.draw_series(LineSeries::new(smooth, dark.stroke_width(2)))?;
    }
    Ok(())
}

/// Means of groups of `group` points.
fn thinned(points: &[(f64, f64)], group: usize) -> Vec<(f64, f64)> {
    let mean = |group: &[(f64, f64)]| {
        let count = group.len() as f64;
        let sum = group.iter().fold((0., 0.), |(x, y), p| (x + p.0, y + p.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(group.max(1)).map(mean).collect()
}

/// From the lowest to the highest value, with a little air.
fn range(points: &[(f64, f64)]) -> (f64, f64) {
    let values = points.iter().map(|(_, value)| *value);
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    // Means of equal values differ by rounding.
    let is_constant = high - low <= 1e-9 * high.abs().max(low.abs());
    let air = match is_constant {
        false => (high - low) * 0.05,
        true if low == 0. => 0.05,
        true => low.abs() * 0.05,
    };
    (low - air, high + air)
}

/// What is written at a tick of an axis that is `length` long.
fn label(value: f64, length: f64) -> String {
    let size = value.abs();
    match size {
        // Ticks are sums of steps: the one at zero misses it by a rounding.
        _ if size <= 1e-9 * length => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ if size < 1. => format!("{value:.3}"),
        _ if size < 100. => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
