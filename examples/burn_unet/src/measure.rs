//! Time and memory of the loss alone, forward and backward: segloss compared with burn's operations.

use std::time::{Duration, Instant};

use anyhow::Result;
use burn::tensor::{Device, Distribution, Int, Tensor};
use segloss::burn::HeadTensors;
use segloss::{Head, LossSpec};

use crate::data::PATCH;
use crate::objective::{Objective, loss};
use crate::volume::TISSUES;
use crate::{BATCH, composed};

/// Rounds per median.
const ROUNDS: usize = 7;

/// Time and memory of one loss.
struct Figure {
    loss: f32,
    time: Duration,
    /// The most that burn reserves for it besides logits and labels, plus its plan's memory.
    megabytes: f64,
}

/// Measures both losses at several shapes.
pub fn table(device: &Device, objective: &Objective) -> Result<()> {
    println!("| | segloss | | | composed | | |");
    println!("|---|---|---|---|---|---|---|");
    let cell = |figure: &Figure| {
        let ms = figure.time.as_secs_f64() * 1e3;
        format!("{ms:.1} ms | {:.1} MB | {:.4}", figure.megabytes, figure.loss)
    };
    let row = |name: &str, figures: [Figure; 2]| println!("| {name} | {} | {} |", cell(&figures[0]), cell(&figures[1]));
    row("training", training(device, objective)?);
    for side in [32, 64, 128] {
        row(&format!("2 × 4 × {side}³"), volume(side, device, objective)?);
    }
    Ok(())
}

fn training(device: &Device, objective: &Objective) -> Result<[Figure; 2]> {
    let device = device.clone().autodiff();
    let logits = [1, 2, 4].map(|scale| logits([BATCH, TISSUES.len(), PATCH / scale, PATCH / scale], &device));
    let labels = labels([BATCH, PATCH, PATCH], &device);
    let ours = figure(&device, objective, || Ok(objective.segloss(logits.to_vec(), &labels)?.total))?;
    let theirs = figure(&device, objective, || Ok(objective.composed(logits.to_vec(), &labels)))?;
    Ok([ours, theirs])
}

fn volume(side: usize, device: &Device, objective: &Objective) -> Result<[Figure; 2]> {
    let device = device.clone().autodiff();
    let logits = logits([2, TISSUES.len(), side, side, side], &device);
    let labels = labels([2, side, side, side], &device);
    let spec = LossSpec::new().head(Head::new([], loss()));
    let ours = || Ok(objective.bridge().loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())])?.total);
    let theirs = || Ok(composed::dice_cross_entropy(logits.clone(), labels.clone()));
    Ok([figure(&device, objective, ours)?, figure(&device, objective, theirs)?])
}

fn logits<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 2.0), device).require_grad()
}

fn labels<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let classes = TISSUES.len() as f64;
    Tensor::<D>::random(shape, Distribution::Uniform(0.0, classes), device).int()
}

fn figure(device: &Device, objective: &Objective, loss: impl Fn() -> Result<Tensor<1>>) -> Result<Figure> {
    let reserved = || device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    device.sync()?;
    device.memory_cleanup();
    let before = (reserved(), objective.bridge().memory());
    let step = || -> Result<Duration> {
        let started = Instant::now();
        let gradients = loss()?.backward();
        device.sync()?;
        drop(gradients);
        Ok(started.elapsed())
    };
    // the first run compiles, and reserves memory that all others use again
    step()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let bytes = (reserved().saturating_sub(before.0) + (objective.bridge().memory() - before.1)) as f64;
    let mut times = (0..ROUNDS).map(|_| step()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(Figure { loss: loss()?.into_scalar(), time: times[ROUNDS / 2], megabytes: bytes / 1e6 })
}
