//! The sweep as a picture: nanoseconds per logit against the number of classes, and against the voxels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::figures::Figures;
use super::workload::parse_shape;

/// The points of each name: x, nanoseconds per logit.
type Series = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws the figures of these files as SVG.
pub fn sweep(files: &[Figures], path: &Path) -> Result<()> {
    let of_classes = series(files, |shape| (shape.len() == 3).then(|| shape[1]));
    let of_voxels =
        series(files, |shape| (shape.len() == 5 && shape[..2] == [2, 4]).then(|| shape[2..].iter().product()));
    let root = SVGBackend::new(path, (1340, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    // a name has the same colour in both charts
    let names: BTreeSet<&String> = of_classes.keys().chain(of_voxels.keys()).collect();
    let (charts, right) = root.split_horizontally(1040);
    let (left, middle) = charts.split_horizontally(520);
    let adapter = files.first().map_or("", |file| &file.machine.adapter);
    chart(&left, &format!("ns per logit, forward + backward: {adapter}"), "classes, 8 M logits", &of_classes, &names)?;
    chart(&middle, "", "voxels per item, 2 items of 4 classes", &of_voxels, &names)?;
    legend(&right, &names)?;
    root.present()?;
    Ok(())
}

/// The names with their colours, from the top down.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, names: &BTreeSet<&String>) -> Result<()> {
    for ((index, name), y) in names.iter().enumerate().zip((48..).step_by(24)) {
        let style = Palette99::pick(index).stroke_width(2);
        area.draw(&PathElement::new([(12, y), (36, y)], style))?;
        area.draw(&Circle::new((24, y), 3, Palette99::pick(index).filled()))?;
        area.draw(&Text::new((*name).clone(), (46, y - 7), ("sans-serif", 14)))?;
    }
    Ok(())
}

/// The time of forward plus backward of each name, divided by the logits.
fn series(files: &[Figures], x: impl Fn(&[usize]) -> Option<usize>) -> Series {
    let mut sums: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for figure in files.iter().flat_map(|file| &file.figures).filter(|f| f.name != "copy_buffer_to_buffer") {
        let Ok(shape) = parse_shape(&figure.shape) else { continue };
        let Some(x) = x(&shape) else { continue };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (x, logits) = (x as f64, shape.iter().product::<usize>() as f64);
        sums.entry((figure.name.clone(), figure.shape.clone())).or_insert((x, 0.0)).1 += figure.median_ns / logits;
    }
    let mut all = Series::new();
    for ((name, _), point) in sums {
        all.entry(name).or_default().push(point);
    }
    for points in all.values_mut() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    all
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    axis: &str,
    all: &Series,
    names: &BTreeSet<&String>,
) -> Result<()> {
    let points = || all.values().flatten();
    let least = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    if points().next().is_none() {
        return Err(anyhow!("there is nothing to draw"));
    }
    let xs = (least(|p| p.0)..most(|p| p.0) * 1.05).log_scale();
    let ys = (least(|p| p.1) * 0.8..most(|p| p.1) * 1.5).log_scale();
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(xs, ys)?;
    let round = |value: &f64| if *value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc(axis)
        .y_desc("ns per logit")
        .x_label_formatter(&round)
        .y_label_formatter(&round)
        .draw()?;
    for (name, points) in all {
        let index = names.iter().position(|known| *known == name).unwrap_or(0);
        let style = Palette99::pick(index).stroke_width(2);
        chart.draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?;
    }
    Ok(())
}
