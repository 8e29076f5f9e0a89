//! The loss of every head at every step: read when it has arrived, kept as JSON, drawn as SVG.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result};
use burn::tensor::Tensor;
use plotters::prelude::*;
use segloss::{PendingReport, Report};

use crate::LossKind;
use crate::unet::HEADS;

const NAMES: [&str; HEADS] = ["full", "half", "quarter"];

/// The losses of a step that was not waited for.
enum Pending {
    Report(PendingReport),
    Tensor(Box<Tensor<1>>),
}

pub struct Curves {
    kind: LossKind,
    pending: VecDeque<(u32, Pending)>,
    /// A step, and the loss of each head in it.
    points: Vec<(u32, [f32; HEADS])>,
}

impl Curves {
    pub fn new(kind: LossKind) -> Self {
        Self { kind, pending: VecDeque::new(), points: Vec::new() }
    }

    pub fn expect_report(&mut self, step: u32, report: Option<PendingReport>) {
        self.pending.extend(report.map(|report| (step, Pending::Report(report))));
    }

    /// The losses of the heads as tensors. They are read at the end, since burn cannot tell whether they have arrived.
    pub fn expect_tensor(&mut self, step: u32, heads: Tensor<1>) {
        self.pending.push_back((step, Pending::Tensor(Box::new(heads.inner()))));
    }

    /// The full resolution's loss of the last step that has arrived. Does not wait.
    pub fn read_what_arrived(&mut self) -> Result<Option<f32>> {
        while let Some((step, Pending::Report(report))) = self.pending.front() {
            let Some(report) = report.try_read()? else { break };
            self.points.push((*step, heads(&report)));
            self.pending.pop_front();
        }
        Ok(self.points.last().map(|(_, losses)| losses[0]))
    }

    pub fn read_all(&mut self) -> Result<()> {
        for (step, pending) in self.pending.drain(..) {
            let losses = match pending {
                Pending::Report(report) => heads(&report.read_blocking()?),
                Pending::Tensor(heads) => {
                    let heads: Vec<f32> = heads.into_data().try_to_vec()?;
                    heads.try_into().ok().context("one loss per head")?
                }
            };
            self.points.push((step, losses));
        }
        Ok(())
    }

    /// Writes the points, and draws them together with those of the other loss if a run with it has written them.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let file = |kind: LossKind| folder.join(format!("{kind:?}.json").to_lowercase());
        std::fs::write(file(self.kind), serde_json::to_string(&self.points)?)?;
        let other = match self.kind {
            LossKind::Segloss => LossKind::Composed,
            LossKind::Composed => LossKind::Segloss,
        };
        let theirs: Vec<(u32, [f32; HEADS])> = match std::fs::read_to_string(file(other)) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => Vec::new(),
        };
        if !theirs.is_empty() {
            let difference = self.points.iter().filter_map(|(step, losses)| {
                let (_, theirs) = theirs.iter().find(|(other, _)| other == step)?;
                Some((losses[0] - theirs[0]).abs())
            });
            let differences: Vec<f32> = difference.collect();
            #[expect(clippy::cast_precision_loss, reason = "few steps")]
            let mean = differences.iter().sum::<f32>() / differences.len().max(1) as f32;
            println!("the curves of the two losses differ by {mean:.4} in the mean over {} steps", differences.len());
        }
        draw(&folder.join("loss.svg"), (self.kind, &self.points), (other, &theirs))
    }
}

fn heads(report: &Report) -> [f32; HEADS] {
    let loss = |head: usize| {
        let head = &report.heads[head];
        [head.overlap, head.pixel].into_iter().flatten().map(|term| term.value).sum()
    };
    std::array::from_fn(loss)
}

type Points<'a> = (LossKind, &'a [(u32, [f32; HEADS])]);

fn draw(path: &Path, (kind, ours): Points<'_>, (other, theirs): Points<'_>) -> Result<()> {
    let values = || ours.iter().chain(theirs).flat_map(|(_, losses)| losses).copied();
    let (least, most) = values().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let steps = ours.iter().chain(theirs).map(|(step, _)| f64::from(*step)).fold(1.0, f64::max);
    let root = SVGBackend::new(path, (720, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("nnU-Net's Dice + cross-entropy per head", ("sans-serif", 15))
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
    for ((kind, points), width) in [((other, theirs), 3), ((kind, ours), 1)] {
        for (head, name) in NAMES.iter().enumerate().filter(|_| !points.is_empty()) {
            let colour = Palette99::pick(head).mix(if width == 1 { 1.0 } else { 0.35 });
            let line = points.iter().map(|(step, losses)| (f64::from(*step), losses[head]));
            let style = colour.stroke_width(width);
            chart
                .draw_series(LineSeries::new(line, style))?
                .label(format!("{name}, {kind:?}").to_lowercase())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
    }
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).draw()?;
    root.present()?;
    Ok(())
}
