//! Draws what `eval/bench` measured.
//!
//! ```sh
//! cargo run -p negkit-parity --example bench_chart -- compare eval/results/bench compare.png
//! cargo run -p negkit-parity --example bench_chart -- scaling eval/results/bench/scaling.json scaling.png
//! ```
//!
//! `compare` reads the JSON file of every row in a folder: a bar an engine, as long as its fastest time
//! beside PyTorch's, with the seconds written at its end. `scaling` reads one file of panels: time and
//! memory against what is scaled, both axes logarithmic, so that work that grows with a power of the
//! size is a straight line, and a bend is where something else takes over.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use serde::Deserialize;
use serde_json::Value;

const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
const LIGHT: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [what, from, to] = arguments.as_slice() else {
        bail!("usage: bench_chart compare FOLDER PNG, or bench_chart scaling FILE PNG");
    };
    if register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
        bail!("the bundled font cannot be read");
    }
    match what.to_str() {
        Some("compare") => compare(from, to),
        Some("scaling") => scaling(from, to),
        _ => bail!("expected compare or scaling, found '{}'", what.display()),
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no result", path.display()))
}

/// Plotters' errors borrow the drawing; their text is all that is wanted.
fn drawn<T>(result: Result<T, impl std::fmt::Display>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow::anyhow!("cannot draw: {error}"))
}

/// Draws onto white, and writes it as a PNG.
fn painted(
    png: &Path,
    (width, height): (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut pixels = vec![255; width as usize * height as usize * 3];
    let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    drawn(area.fill(&WHITE))?;
    paint(&area)?;
    drawn(area.present())?;
    drop(area);
    let picture = image::RgbImage::from_raw(width, height, pixels).context("too few pixels")?;
    picture
        .save(png)
        .with_context(|| format!("cannot write {}", png.display()))
}

// --- compare -------------------------------------------------------------------------------------

/// Key in the results, name in the legend, colour.
const ENGINES: [(&str, &str, RGBColor); 5] = [
    ("negkit", "negkit", RGBColor(24, 90, 170)),
    (
        "torch",
        "PyTorch (diffusers, transformers)",
        RGBColor(238, 126, 62),
    ),
    ("openvino", "OpenVINO", RGBColor(128, 90, 172)),
    ("candle", "candle-transformers", RGBColor(120, 170, 90)),
    ("sdcpp", "stable-diffusion.cpp", RGBColor(160, 140, 120)),
];
const WIDTH: u32 = 1180;
const BARS_FROM: i32 = 420;
/// Length of PyTorch's bar.
const UNIT: f64 = 260.;
/// Longer bars are cut off, and say so.
const LONGEST: f64 = 520.;
const BAR: i32 = 15;
const GAP: i32 = 16;
const HEAD: i32 = 62;

/// One row of the comparison.
struct Row {
    title: String,
    /// Index into [`ENGINES`] and seconds.
    bars: Vec<(usize, f64)>,
    /// Seconds that a bar of length [`UNIT`] stands for.
    unit: f64,
}

fn rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let row: Value = json(&file)?;
        // Other results lie in the same folder.
        let (Some(title), Some(engines)) = (row["title"].as_str(), row["engines"].as_object())
        else {
            continue;
        };
        let seconds = |key: &str| engines.get(key)?.get("min_seconds")?.as_f64();
        let bars: Vec<(usize, f64)> = ENGINES
            .iter()
            .enumerate()
            .filter_map(|(i, (key, ..))| Some((i, seconds(key)?)))
            .collect();
        let Some(&(_, first)) = bars.first() else {
            continue;
        };
        rows.push(Row {
            title: title.to_owned(),
            unit: seconds("torch").unwrap_or(first),
            bars,
        });
    }
    if rows.is_empty() {
        bail!(
            "{} holds no result of eval/bench/compare.sh",
            folder.display()
        );
    }
    Ok(rows)
}

fn compare(folder: &Path, png: &Path) -> anyhow::Result<()> {
    let rows = rows(folder)?;
    let heights = rows.iter().map(|row| row.bars.len() as i32 * BAR + GAP);
    let height = HEAD + heights.sum::<i32>() + GAP;
    painted(png, (WIDTH, height as u32), |area| {
        bars(area, &rows, height)
    })
}

fn bars(area: &Area<'_>, rows: &[Row], height: i32) -> anyhow::Result<()> {
    legend(area, rows)?;
    let one = BARS_FROM + UNIT as i32;
    drawn(area.draw(&PathElement::new(
        vec![(one, HEAD - 6), (one, height - GAP)],
        LIGHT,
    )))?;
    let mut y = HEAD;
    for row in rows {
        let middle = y + row.bars.len() as i32 * BAR / 2;
        text(area, &row.title, (BARS_FROM - 12, middle), 17, HPos::Right)?;
        for &(engine, seconds) in &row.bars {
            let whole = seconds / row.unit * UNIT;
            let end = BARS_FROM + whole.clamp(1., LONGEST) as i32;
            let colour = ENGINES[engine].2.filled();
            let corners = [(BARS_FROM, y + 1), (end, y + BAR - 2)];
            drawn(area.draw(&Rectangle::new(corners, colour)))?;
            let more = if whole > LONGEST { " (cut off)" } else { "" };
            let ratio = seconds / row.unit;
            let label = format!("{} s, {ratio:.2}{more}", seconds_text(seconds));
            text(area, &label, (end + 6, y + BAR / 2), 14, HPos::Left)?;
            y += BAR;
        }
        y += GAP;
    }
    Ok(())
}

/// Of the engines that any row has.
fn legend(area: &Area<'_>, rows: &[Row]) -> anyhow::Result<()> {
    let mut x = 16;
    let has = |engine: usize| {
        rows.iter()
            .any(|row| row.bars.iter().any(|bar| bar.0 == engine))
    };
    for (_, (_, name, colour)) in ENGINES.iter().enumerate().filter(|(i, _)| has(*i)) {
        drawn(area.draw(&Rectangle::new([(x, 14), (x + 14, 28)], colour.filled())))?;
        text(area, name, (x + 20, 21), 16, HPos::Left)?;
        x += 44 + name.len() as i32 * 8;
    }
    let what = "fastest run, and its ratio to PyTorch's (to negkit's where PyTorch has none)";
    text(area, what, (16, 44), 14, HPos::Left)
}

fn seconds_text(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1. => format!("{seconds:.3}"),
        _ if seconds < 10. => format!("{seconds:.2}"),
        _ => format!("{seconds:.0}"),
    }
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    horizontal: HPos,
) -> anyhow::Result<()> {
    let style = (FONT, size)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(horizontal, VPos::Center));
    drawn(area.draw(&Text::new(text.to_owned(), at, style)))
}

// --- scaling -------------------------------------------------------------------------------------

/// What `eval/bench/scaling.sh` writes.
#[derive(Deserialize)]
struct Scaling {
    panels: Vec<Panel>,
}

/// Time and memory against one quantity.
#[derive(Deserialize)]
struct Panel {
    title: String,
    /// What is scaled, such as "pixels a side".
    x_label: String,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    x: f64,
    /// Fastest run.
    seconds: f64,
    /// Highest memory of the process.
    peak_memory_gib: f64,
}

const PANEL: (u32, u32) = (400, 300);

fn scaling(file: &Path, png: &Path) -> anyhow::Result<()> {
    let Scaling { panels } = json(file)?;
    let panels: Vec<Panel> = panels
        .into_iter()
        .filter(|panel| !panel.points.is_empty())
        .collect();
    if panels.is_empty() {
        bail!("{} holds no panel with points", file.display());
    }
    let columns = panels.len();
    let size = (PANEL.0 * columns as u32, PANEL.1 * 2);
    painted(png, size, |sheet| curves(sheet, &panels))
}

fn curves(sheet: &Area<'_>, panels: &[Panel]) -> anyhow::Result<()> {
    let columns = panels.len();
    let areas = sheet.split_evenly((2, columns));
    for (i, panel) in panels.iter().enumerate() {
        let seconds: Vec<_> = panel.points.iter().map(|p| (p.x, p.seconds)).collect();
        let memory: Vec<_> = panel
            .points
            .iter()
            .map(|p| (p.x, p.peak_memory_gib))
            .collect();
        let (blue, orange) = (ENGINES[0].2, ENGINES[1].2);
        curve(&areas[i], panel, "seconds", &seconds, blue)?;
        curve(
            &areas[columns + i],
            panel,
            "peak memory, GiB",
            &memory,
            orange,
        )?;
    }
    drawn(sheet.present())
}

fn curve(
    area: &Area<'_>,
    panel: &Panel,
    unit: &str,
    points: &[(f64, f64)],
    colour: RGBColor,
) -> anyhow::Result<()> {
    let x = padded(points.iter().map(|p| p.0), 1.25);
    let y = padded(points.iter().map(|p| p.1), 1.3);
    let mut chart = drawn(
        ChartBuilder::on(area)
            .caption(&panel.title, (FONT, 17))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(58)
            .build_cartesian_2d(x.log_scale(), y.log_scale()),
    )?;
    drawn(
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(LIGHT)
            .axis_style(GREY)
            // Powers of two are no ticks of a decimal axis: those of the points are drawn below.
            .x_label_formatter(&|_| String::new())
            .disable_x_mesh()
            .y_labels(5)
            .y_label_formatter(&|value| seconds_text(*value))
            .x_desc(&panel.x_label)
            .y_desc(unit)
            .label_style((FONT, 13))
            .draw(),
    )?;
    draw_ticks(&mut chart, points)?;
    draw_points(&mut chart, points, colour)
}

type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// What is scaled, below the axis, with a line up to every point.
fn draw_ticks(chart: &mut Chart<'_, '_>, points: &[(f64, f64)]) -> anyhow::Result<()> {
    let bottom = chart.y_range().start;
    let top = chart.y_range().end;
    let lines = points
        .iter()
        .map(|&(x, _)| PathElement::new(vec![(x, bottom), (x, top)], LIGHT));
    drawn(chart.draw_series(lines))?;
    let names = points.iter().map(|&(x, _)| {
        let style = (FONT, 13)
            .into_font()
            .color(&BLACK)
            .pos(Pos::new(HPos::Center, VPos::Top));
        EmptyElement::at((x, bottom)) + Text::new(format!("{x:.0}"), (0, 6), style)
    });
    drawn(chart.draw_series(names))?;
    Ok(())
}

/// The curve, with the value written at every point, on the side where it does not run.
fn draw_points(
    chart: &mut Chart<'_, '_>,
    points: &[(f64, f64)],
    colour: RGBColor,
) -> anyhow::Result<()> {
    let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
    drawn(chart.draw_series(line))?;
    let dots = points
        .iter()
        .map(|&point| Circle::new(point, 4, colour.filled()));
    drawn(chart.draw_series(dots))?;
    let falls = points.last().map(|p| p.1) < points.first().map(|p| p.1);
    let (side, away) = match falls {
        true => (HPos::Left, 5),
        false => (HPos::Right, -5),
    };
    let labels = points.iter().map(|&(x, y)| {
        let style = (FONT, 13)
            .into_font()
            .color(&BLACK)
            .pos(Pos::new(side, VPos::Bottom));
        EmptyElement::at((x, y)) + Text::new(seconds_text(y), (away, -4), style)
    });
    drawn(chart.draw_series(labels))?;
    Ok(())
}

/// From a little below the lowest to a little above the highest value.
fn padded(values: impl Iterator<Item = f64>, factor: f64) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, 0f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let low = if low > 0. { low } else { 1e-3 };
    low / factor..(high * factor).max(low * factor)
}
