//! Time and memory of the loss, forward and backward, with segloss and in burn's operations; and its share of a training step.

use std::time::{Duration, Instant};

use anyhow::Result;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};
use segloss::burn::HeadTensors;
use segloss::{Head, LossSpec};

use crate::data::PATCH;
use crate::objective::{Objective, loss};
use crate::unet::UNet;
use crate::volume::TISSUES;
use crate::{BATCH, composed};

/// Rounds per median.
const ROUNDS: usize = 15;

/// Time and memory of one loss.
struct Figure {
    value: f32,
    time: Duration,
    /// The most that burn reserves for it besides logits and labels, plus its plan's memory.
    megabytes: f64,
}

/// A loss, forward.
type Forward<'a> = &'a dyn Fn() -> Result<Tensor<1>>;

/// Measures both losses at several shapes, and a step of the U-Net with either.
pub fn table(device: &Device, objective: &Objective) -> Result<()> {
    println!("| | segloss | | | burn's operations | | | |");
    println!("|---|---|---|---|---|---|---|---|");
    let cell = |figure: &Figure| {
        format!("{:.1} ms | {:.1} MB | {:.4}", milliseconds(figure.time), figure.megabytes, figure.value)
    };
    let row = |name: &str, [ours, theirs]: &[Figure; 2]| {
        let ratio = theirs.time.as_secs_f64() / ours.time.as_secs_f64();
        println!("| {name} | {} | {} | {ratio:.1} × |", cell(ours), cell(theirs));
    };
    row("training", &training(device, objective)?);
    for side in [32, 64, 128] {
        row(&format!("2 × 4 × {side}³"), &volume(side, device, objective)?);
    }
    step(device, objective)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn training(device: &Device, objective: &Objective) -> Result<[Figure; 2]> {
    let device = device.clone().autodiff();
    let logits = [1, 2, 4].map(|scale| logits([BATCH, TISSUES.len(), PATCH / scale, PATCH / scale], &device));
    let labels = labels([BATCH, PATCH, PATCH], &device);
    let ours = || Ok(objective.segloss(logits.to_vec(), &labels)?.total);
    let theirs = || Ok(objective.composed(logits.to_vec(), &labels));
    figures(&device, objective, [&ours, &theirs])
}

fn volume(side: usize, device: &Device, objective: &Objective) -> Result<[Figure; 2]> {
    let device = device.clone().autodiff();
    let logits = logits([2, TISSUES.len(), side, side, side], &device);
    let labels = labels([2, side, side, side], &device);
    let spec = LossSpec::new().head(Head::new([], loss()));
    let ours = || Ok(objective.bridge().loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())])?.total);
    let theirs = || Ok(composed::dice_cross_entropy(logits.clone(), labels.clone()));
    figures(&device, objective, [&ours, &theirs])
}

fn logits<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 2.0), device).require_grad()
}

fn labels<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let classes = TISSUES.len() as f64;
    Tensor::<D>::random(shape, Distribution::Uniform(0.0, classes), device).int()
}

/// Forward and backward of each loss, round about.
fn figures(device: &Device, objective: &Objective, losses: [Forward<'_>; 2]) -> Result<[Figure; 2]> {
    let run = |loss: Forward<'_>| -> Result<()> {
        let gradients = loss()?.backward();
        device.sync()?;
        drop(gradients);
        Ok(())
    };
    let reserved = || device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    let memory = |loss: Forward<'_>| -> Result<f64> {
        // compiled and tuned first: that reserves more than the loss needs
        run(loss)?;
        objective.bridge().release();
        device.sync()?;
        device.memory_cleanup();
        let before = (reserved(), objective.bridge().memory());
        run(loss)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let bytes = (reserved().saturating_sub(before.0) + (objective.bridge().memory() - before.1)) as f64;
        Ok(bytes / 1e6)
    };
    let megabytes = [memory(losses[0])?, memory(losses[1])?];
    let [ours, theirs] = times(losses.map(|loss| move || run(loss)))?;
    let figure = |which: usize, time| -> Result<Figure> {
        Ok(Figure { value: losses[which]()?.into_scalar(), time, megabytes: megabytes[which] })
    };
    Ok([figure(0, ours)?, figure(1, theirs)?])
}

/// Medians of rounds in which each runs once.
fn times<const N: usize, F: FnMut() -> Result<()>>(mut runs: [F; N]) -> Result<[Duration; N]> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let started = Instant::now();
            run()?;
            times.push(started.elapsed());
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    }))
}

/// A step of the U-Net, forward, backward and optimiser, with either loss, and with a sum of the logits in its place.
fn step(device: &Device, objective: &Objective) -> Result<()> {
    let device = device.clone().autodiff();
    let network = UNet::new(TISSUES.len(), &device);
    let images = Tensor::<4>::random([BATCH, 1, PATCH, PATCH], Distribution::Default, &device);
    let labels = labels([BATCH, PATCH, PATCH], &device);
    let step = |loss: &dyn Fn(Vec<Tensor<4>>) -> Result<Tensor<1>>| -> Result<()> {
        let total = loss(network.forward(images.clone()))?;
        let gradients = GradientsParams::from_grads(total.backward(), &network);
        drop(AdamConfig::new().init().step(1e-3, network.clone(), gradients));
        device.sync()?;
        Ok(())
    };
    let ours = || step(&|logits| Ok(objective.segloss(logits, &labels)?.total));
    let theirs = || step(&|logits| Ok(objective.composed(logits, &labels)));
    let none = || step(&|logits| Ok(logits.into_iter().map(Tensor::sum).reduce(|a, b| a + b).expect("three heads")));
    let mut runs: [Box<dyn Fn() -> Result<()>>; 3] = [Box::new(ours), Box::new(theirs), Box::new(none)];
    for run in &mut runs {
        run()?;
    }
    let [ours, theirs, none] = times(runs)?.map(milliseconds);
    println!(
        "a step of the U-Net: {ours:.0} ms with segloss, {theirs:.0} ms with burn's operations, {none:.0} ms with sums of the \
         logits instead of a loss"
    );
    Ok(())
}
