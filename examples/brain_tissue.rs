//! Trains a small tissue classifier on a real brain volume, with this crate's loss and gradient.
//!
//! The volume is MNI152 (examples/data/NOTICE.md). A softmax regression on features of the T1 image and the coordinates
//! predicts background, CSF and other, grey and white matter. Of every five slices, four are for training and one is
//! held out. The loss has four heads in one plan: the tissue at full, half and quarter resolution (deep supervision,
//! one classifier), and brain against background (a second classifier).
//!
//! The regression is plain Rust on the CPU; everything from its logits to their gradient is on the GPU.
//!
//!     cargo run --example brain_tissue [PICTURE.png]

#[path = "brain_tissue/classifier.rs"]
mod classifier;
#[path = "brain_tissue/picture.rs"]
mod picture;
#[path = "brain_tissue/tensors.rs"]
mod tensors;
#[path = "brain_tissue/volume.rs"]
mod volume;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use classifier::{Classifier, Features};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use segloss::{AdapterChoice, Head, Loss, LossSpec, Overlap, Pixel, Plan};
use tensors::Tensors;
use volume::{TISSUES, Volume};

const STEPS: usize = 240;
/// Slices per step.
const BATCH: usize = 15;
/// The mean foreground Dice that the held-out slices must reach.
const GOAL: f64 = 0.90;

/// Name, down-sampling factor and number of classes of each head.
const HEADS: [(&str, usize, usize); 4] = [
    ("tissue, full", 1, TISSUES.len()),
    ("tissue, half", 2, TISSUES.len()),
    ("tissue, quarter", 4, TISSUES.len()),
    ("brain", 1, 2),
];

fn main() -> Result<()> {
    let started = Instant::now();
    let out = std::env::args().nth(1).map_or_else(|| PathBuf::from("target/brain_tissue.png"), PathBuf::from);
    let volume = Volume::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data"))?;
    let (training, held_out): (Vec<usize>, Vec<usize>) = (0..volume.slices()).partition(|slice| slice % 5 != 2);
    let features = Features::new(&volume, &training);

    let (device, queue) = AdapterChoice::default().open()?;
    let info = device.adapter_info();
    println!("{} ({:?}), {} training slices, {} held out", info.name, info.backend, training.len(), held_out.len());

    let plan = Plan::new(&device, &queue, &spec(&volume))?;
    let tensors = Tensors::new(&device, plan.spec());
    let step = plan.bind(&tensors.bindings())?;
    step.warm_up()?;
    let (statistics, gradient) = step.dispatches();
    println!("{} heads, dispatches per step: {statistics} of statistics, {gradient} of gradient", HEADS.len());

    let mut classifiers = [Classifier::new(TISSUES.len()), Classifier::new(2)];
    let before = dice(&volume, &features, &classifiers, &held_out);
    let bar = ProgressBar::new(STEPS as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}  {msg}  {elapsed}")?);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..STEPS {
        let batch: Vec<usize> = (0..BATCH).map(|_| training[random.usize(0..training.len())]).collect();
        let logits = classifier::forward(&classifiers, &features, &batch);
        let labels: Vec<Vec<u8>> =
            HEADS.iter().map(|&(_, scale, classes)| batch_labels(&volume, &batch, scale, classes)).collect();
        let (report, gradients) = tensors.step(&device, &queue, &step, &logits, &labels)?;
        classifier::backward(&mut classifiers, &features, &batch, &gradients);
        bar.set_message(format!("loss {:.4}", report.total));
    }
    bar.finish();

    let after = dice(&volume, &features, &classifiers, &held_out);
    println!("Dice on the held-out slices\n{}", table(&before, &after));
    picture::write(&out, &volume, &features, &classifiers[0], held_out[held_out.len() / 2])?;
    let reached = foreground_mean(&after[0]);
    println!(
        "mean foreground Dice, full resolution: {reached:.3}; picture: {}; {:.0?}",
        out.display(),
        started.elapsed()
    );
    ensure!(reached >= GOAL, "expected a mean foreground Dice of at least {GOAL}, got {reached:.3}");
    Ok(())
}

/// Deep supervision with halving weights, and the brain head.
fn spec(volume: &Volume) -> LossSpec {
    let tissue = Loss::new()
        .overlap(Overlap::dice().include_background(false).batch(true))
        .pixel(Pixel::cross_entropy().label_smoothing(0.01));
    let losses =
        [(tissue.clone(), 4.0 / 7.0), (tissue.clone(), 2.0 / 7.0), (tissue, 1.0 / 7.0), (Loss::monai_dice_ce(), 0.5)];
    let heads = HEADS.iter().zip(losses).map(|(&(_, scale, classes), (loss, weight))| {
        let [rows, columns] = volume.slice_shape(scale);
        Head::new([BATCH, classes, rows, columns], loss).weight(weight)
    });
    LossSpec { heads: heads.collect() }
}

fn batch_labels(volume: &Volume, batch: &[usize], scale: usize, classes: usize) -> Vec<u8> {
    batch.iter().flat_map(|&slice| volume.labels(slice, scale, classes)).collect()
}

/// The Dice of the predicted class against the label over these slices, for every class of every head.
fn dice(volume: &Volume, features: &Features, classifiers: &[Classifier; 2], slices: &[usize]) -> Vec<Vec<f64>> {
    let logits = classifier::forward(classifiers, features, slices);
    let heads = HEADS.iter().zip(&logits);
    heads
        .map(|(&(_, scale, classes), logits)| {
            let labels = batch_labels(volume, slices, scale, classes);
            let predicted = classifier::predict(logits, classes, labels.len() / slices.len());
            (0..classes)
                .map(|class| {
                    let is = |&&label: &&u8| usize::from(label) == class;
                    let both = labels.iter().zip(&predicted).filter(|(l, p)| is(l) && is(p)).count();
                    let either = labels.iter().filter(is).count() + predicted.iter().filter(is).count();
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    let dice = 2.0 * both as f64 / either as f64;
                    dice
                })
                .collect()
        })
        .collect()
}

fn foreground_mean(dice: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let classes = (dice.len() - 1) as f64;
    dice[1..].iter().sum::<f64>() / classes
}

fn table(before: &[Vec<f64>], after: &[Vec<f64>]) -> Table {
    let mut table = Table::new();
    table.set_header(["head", "class", "before", "after"]);
    for ((&(head, _, classes), before), after) in HEADS.iter().zip(before).zip(after) {
        let names: &[&str] = if classes == 2 { &["background", "brain"] } else { &TISSUES };
        for (class, name) in names.iter().enumerate() {
            let head = if class == 0 { head } else { "" };
            let figure = |dice: f64| format!("{dice:.3}");
            table.add_row([head.to_owned(), (*name).to_owned(), figure(before[class]), figure(after[class])]);
        }
    }
    table
}
