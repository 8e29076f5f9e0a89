//! Trains a small U-Net with deep supervision in burn on a real brain volume, with `segloss`'s loss.
//!
//! The volume is MNI152 (examples/data/NOTICE.md). The network, the optimiser, the data loader, the `Learner` and its dashboard
//! are burn's, with burn's default features. The loss of the three heads and its gradient are one statistics and one gradient
//! dispatch of `segloss`, on burn's own tensors. Labels have full resolution, and the kernel resamples them for the lower heads.
//!
//!     cargo run -p burn_unet                         # learns, with burn's dashboard; target/burn_unet/ has curves and a picture
//!     cargo run -p burn_unet -- --plain              # the same in lines, as where there is no terminal
//!     cargo run -p burn_unet -- --resume 2           # goes on after epoch 2
//!     cargo run -p burn_unet -- --loss composed      # the loss written in burn's operations
//!     cargo run -p burn_unet -- --measure            # time and memory of both losses, and the share of the loss in a step

mod composed;
mod curves;
mod data;
mod lines;
mod measure;
mod model;
mod objective;
mod picture;
mod unet;
#[path = "../../brain_tissue/volume.rs"]
mod volume;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::module::Module as _;
use burn::optim::AdamConfig;
use burn::optim::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::tensor::Device;
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::metric::{LearningRateMetric, LossMetric};
use burn::train::{Learner, LearnerModel, MetricEarlyStoppingStrategy, StoppingCondition, SupervisedTraining};
use clap::{Parser, ValueEnum};
use data::{Batch, Picture, Pictures};
use lines::Lines;
use model::{Composed, Segloss};
use objective::Objective;
use segloss::burn::metrics::ReportMetric;
use unet::{HEADS, UNet};
use volume::{TISSUES, Volume};

/// Pictures per step.
const BATCH: usize = 4;
const LEARNING_RATE: f64 = 4e-3;
/// The mean foreground Dice that the held-out slices must reach.
const GOAL: f64 = 0.89;

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
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// The epoch after which training goes on, of an earlier run.
    #[arg(long)]
    resume: Option<usize>,
    /// Lines instead of burn's dashboard.
    #[arg(long)]
    plain: bool,
    /// The folder for logs, checkpoints, the curves and the picture.
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
    let network = UNet::new(TISSUES.len(), &device.clone().autodiff());
    println!("{} parameters", network.num_params());
    let slices = [training, held_out.clone()];
    let heads: Vec<String> = (0..HEADS).map(|head| format!("Head {head} term 0")).collect();
    let metrics = |mut training: SupervisedTraining<Segloss>| {
        let losses = (0..HEADS).flat_map(|head| [ReportMetric::term(head, 0), ReportMetric::term(head, 1)]);
        let metrics = [ReportMetric::total()].into_iter().chain(losses);
        for metric in metrics.chain(ReportMetric::dice(0, &TISSUES)) {
            training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
        }
        let best = ReportMetric::dice(0, &TISSUES).last().expect("the mean comes last");
        training.early_stopping(MetricEarlyStoppingStrategy::new(
            &best,
            Aggregate::Mean,
            Direction::Highest,
            Split::Valid,
            StoppingCondition::NoImprovementSince { n_epochs: 2 },
        ))
    };
    let network = match arguments.loss {
        LossKind::Segloss => learn(arguments, slices, Segloss::new(network, objective.clone()), metrics)?.network,
        LossKind::Composed => {
            let metrics = |training: SupervisedTraining<Composed>| training.metrics((LossMetric::new(),));
            learn(arguments, slices, Composed::new(network, objective.clone()), metrics)?.network
        }
    };

    let dice = objective.dice(&network, &*loader(held_out.clone(), None))?;
    for (tissue, dice) in TISSUES.iter().zip(&dice) {
        println!("{tissue:>14}: Dice {dice:.3}");
    }
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let reached = dice[1..].iter().sum::<f64>() / (dice.len() - 1) as f64;
    let out = &arguments.out;
    picture::write(&out.join("slice.png"), &network, &held_out[held_out.len() / 2], device)?;
    let [ours, theirs] = [LossKind::Segloss, LossKind::Composed].map(|kind| run_folder(out, kind));
    if ours.is_dir() {
        curves::write(&out.join("loss.svg"), &ours, &theirs, &heads, arguments.epochs)?;
    }
    println!(
        "mean foreground Dice of the held-out slices: {reached:.3}; loss curves and a slice: {}; {:.0?}",
        out.display(),
        started.elapsed()
    );
    ensure!(reached >= GOAL, "expected a mean foreground Dice of at least {GOAL}, got {reached:.3}");
    Ok(())
}

/// Where the logs and checkpoints of a run lie.
fn run_folder(out: &Path, kind: LossKind) -> PathBuf {
    out.join(format!("{kind:?}").to_lowercase())
}

/// Trains as burn's book does, and returns the model of the last epoch.
fn learn<M>(
    arguments: &Arguments,
    [training, held_out]: [Vec<Picture>; 2],
    model: M,
    metrics: impl FnOnce(SupervisedTraining<M>) -> SupervisedTraining<M>,
) -> Result<M>
where
    M: LearnerModel + burn::train::TrainStep<Input = Batch> + burn::train::InferenceStep<Input = Batch>,
{
    let folder = run_folder(&arguments.out, arguments.loss);
    if arguments.resume.is_none() && folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let steps = training.len().div_ceil(BATCH) * arguments.epochs;
    // close to nnU-Net's decay
    let rate = LinearLrSchedulerConfig::new(LEARNING_RATE, LEARNING_RATE / 100.0, steps).init();
    let rate = rate.map_err(anyhow::Error::msg)?;
    let learner = Learner::new(model, AdamConfig::new().init(), rate);
    let supervised = SupervisedTraining::new(&folder, loader(training, Some(1)), loader(held_out, None))
        .num_epochs(arguments.epochs)
        .metric_train_numeric(LearningRateMetric::new())
        .with_default_checkpointers();
    let mut supervised = metrics(supervised);
    if let Some(epoch) = arguments.resume {
        supervised = supervised.checkpoint(epoch);
    }
    if arguments.plain || !std::io::stdout().is_terminal() {
        supervised = supervised.renderer(Box::new(Lines::new()));
    }
    let result = supervised.launch(learner);
    match result.error {
        None => Ok(result.model),
        Some(error) => Err(anyhow::anyhow!("{error}")),
    }
}

fn loader(slices: Vec<Picture>, shuffle: Option<u64>) -> Arc<dyn DataLoader<Batch>> {
    let builder = DataLoaderBuilder::new(Pictures).batch_size(BATCH).num_workers(1);
    match shuffle {
        Some(seed) => builder.shuffle(seed),
        None => builder,
    }
    .build(InMemDataset::new(slices))
}
