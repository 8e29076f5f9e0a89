//! Trains a small U-Net with deep supervision in burn on a real brain volume, with `segloss`'s loss.
//!
//! The volume is MNI152 (examples/data/NOTICE.md). The network, the optimiser and the data loader are burn's. The loss
//! of the three heads and its gradient are one statistics and one gradient dispatch of `segloss`, on burn's own
//! tensors. Labels have full resolution, and the kernel resamples them for the lower heads.
//!
//!     cargo run -p burn_unet                         # learns; target/burn_unet/ has the curves and a picture
//!     cargo run -p burn_unet -- --loss composed      # the same with the loss written in burn's operations
//!     cargo run -p burn_unet -- --measure            # time and memory of both losses

mod composed;
mod curves;
mod data;
mod measure;
mod objective;
mod picture;
mod unet;
#[path = "../../brain_tissue/volume.rs"]
mod volume;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::Module as _;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use curves::Curves;
use data::{Batch, Picture, Pictures};
use indicatif::{ProgressBar, ProgressStyle};
use objective::Objective;
use unet::UNet;
use volume::{TISSUES, Volume};

/// Pictures per step.
const BATCH: usize = 4;
const LEARNING_RATE: f64 = 4e-3;
/// The mean foreground Dice that the held-out slices must reach.
const GOAL: f64 = 0.85;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LossKind {
    /// The kernels of segloss.
    Segloss,
    /// burn's own operations.
    Composed,
}

/// Trains a U-Net with deep supervision on slices of a brain volume.
#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value = "segloss")]
    loss: LossKind,
    #[arg(long, default_value_t = 320)]
    steps: u32,
    /// The folder for the curves and the picture.
    #[arg(long, default_value = "target/burn_unet")]
    out: PathBuf,
    /// Time and memory of both losses, instead of training.
    #[arg(long)]
    measure: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let info = setup.adapter.get_info();
    println!("{} ({:?})", info.name, info.backend);
    let objective = Objective::new(&device, &setup)?;
    if arguments.measure {
        return measure::table(&device, &objective);
    }
    train(&arguments, &device, &objective)
}

fn train(arguments: &Arguments, device: &Device, objective: &Objective) -> Result<()> {
    let started = Instant::now();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let (training, held_out) = data::read(&Volume::read(&folder)?);
    println!("{} training patches, {} slices held out", training.len(), held_out.len());
    device.seed(1);
    let autodiff = device.clone().autodiff();
    let batches = loader(training, Some(1), &autodiff);
    let mut model = UNet::new(TISSUES.len(), &autodiff);
    println!("{} parameters", model.num_params());
    let mut optimiser = AdamConfig::new().init();
    let mut curves = Curves::new(arguments.loss);
    let bar = ProgressBar::new(arguments.steps.into());
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}  {msg}  {elapsed}")?);
    // the data loader shuffles anew in each epoch
    let forever = std::iter::repeat_with(|| batches.iter()).flatten();
    for (step, batch) in (0..arguments.steps).zip(forever) {
        let Batch { images, labels } = batch?;
        let logits = model.forward(images);
        let total = match arguments.loss {
            LossKind::Segloss => {
                let loss = objective.segloss(logits, &labels)?;
                curves.expect_report(step, loss.report);
                loss.total
            }
            LossKind::Composed => {
                let (total, heads) = objective.composed(logits, &labels);
                curves.expect_tensor(step, heads);
                total
            }
        };
        let gradients = GradientsParams::from_grads(total.backward(), &model);
        // nnU-Net's learning rate decay
        let rate = LEARNING_RATE * (1.0 - f64::from(step) / f64::from(arguments.steps)).powf(0.9);
        model = optimiser.step(rate, model, gradients);
        if let Some(loss) = curves.read_what_arrived()? {
            bar.set_message(format!("loss {loss:.4}"));
        }
        bar.inc(1);
    }
    curves.read_all()?;
    bar.finish();

    let model = model.valid();
    let dice = objective.dice(&model, &*loader(held_out.clone(), None, device))?;
    for (tissue, dice) in TISSUES.iter().zip(&dice) {
        println!("{tissue:>14}: Dice {dice:.3}");
    }
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let reached = dice[1..].iter().sum::<f64>() / (dice.len() - 1) as f64;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    picture::write(&arguments.out.join("slice.png"), &model, &held_out[held_out.len() / 2], device)?;
    curves.write(&arguments.out)?;
    println!(
        "mean foreground Dice of the held-out slices: {reached:.3}; loss curves and a slice: {}; {:.0?}",
        arguments.out.display(),
        started.elapsed()
    );
    measure::steps(device, objective)?;
    ensure!(reached >= GOAL, "expected a mean foreground Dice of at least {GOAL}, got {reached:.3}");
    Ok(())
}

fn loader(slices: Vec<Picture>, shuffle: Option<u64>, device: &Device) -> Arc<dyn DataLoader<Batch>> {
    let builder = DataLoaderBuilder::new(Pictures).batch_size(BATCH).num_workers(1).set_device(device.clone());
    match shuffle {
        Some(seed) => builder.shuffle(seed),
        None => builder,
    }
    .build(InMemDataset::new(slices))
}
