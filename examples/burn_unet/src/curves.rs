//! The loss of every step, read from the `Learner`'s logs and drawn as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use burn::train::logger::{FileMetricLogger, MetricLogger as _};
use burn::train::metric::NumericEntry;
use burn::train::metric::store::Split;
use plotters::prelude::*;

/// A name, and a loss per step.
type Curve = (String, Vec<f64>);

/// What a run logged of a metric in the steps of `epochs` epochs.
fn read(folder: &Path, metric: &str, epochs: usize) -> Result<Vec<f64>> {
    let mut logs = FileMetricLogger::new(folder);
    let mut all = Vec::new();
    for epoch in 1..=epochs {
        // an early stop leaves fewer epochs
        if !folder.join(format!("train/epoch-{epoch}")).is_dir() {
            break;
        }
        let entries = logs.read_numeric(metric, epoch, &Split::Train).map_err(|error| anyhow!("{metric}: {error}"))?;
        all.extend(entries.into_iter().filter_map(|entry| match entry {
            NumericEntry::Value(value) | NumericEntry::Aggregated { aggregated_value: value, .. } => Some(value),
            NumericEntry::Final(_) => None,
        }));
    }
    Ok(all)
}

/// Draws the loss with segloss, that of each head, and beside it that of a run with burn's operations where there was one.
pub fn write(path: &Path, segloss: &Path, composed: &Path, heads: &[String], epochs: usize) -> Result<()> {
    let mut curves: Vec<Curve> = vec![("total".to_owned(), read(segloss, "Loss", epochs)?)];
    for head in heads {
        curves.push((head.clone(), read(segloss, head, epochs)?));
    }
    let theirs = if composed.is_dir() { read(composed, "Loss", epochs)? } else { Vec::new() };
    if !theirs.is_empty() {
        let differences: Vec<f64> =
            curves[0].1.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs()).collect();
        #[expect(clippy::cast_precision_loss, reason = "few steps")]
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        println!("the totals of the two losses differ by {mean:.4} in the mean over {} steps", differences.len());
    }
    draw(path, &curves, &theirs)
}

fn draw(path: &Path, curves: &[Curve], theirs: &[f64]) -> Result<()> {
    let values = || curves.iter().flat_map(|(_, losses)| losses).chain(theirs).copied();
    let (least, most) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    #[expect(clippy::cast_precision_loss, reason = "few steps")]
    let numbered =
        |losses: &[f64]| losses.iter().enumerate().map(|(step, loss)| (step as f64, *loss)).collect::<Vec<_>>();
    let steps = numbered(&curves[0].1).last().map_or(1.0, |(step, _)| *step);
    let root = SVGBackend::new(path, (720, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("nnU-Net's Dice + cross-entropy of three heads", ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..steps, least..most)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("step")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_desc("loss")
        .draw()?;
    let theirs = (!theirs.is_empty()).then(|| ("total, burn's operations".to_owned(), theirs.to_vec()));
    let wide = theirs.iter().map(|curve| (curve, BLACK.mix(0.25).stroke_width(4)));
    let thin = curves.iter().enumerate().map(|(index, curve)| (curve, Palette99::pick(index).stroke_width(1)));
    for ((name, losses), style) in wide.chain(thin) {
        chart
            .draw_series(LineSeries::new(numbered(losses), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).draw()?;
    root.present()?;
    Ok(())
}
