//! The network and its loss as what burn's `Learner` trains: with segloss's kernels, or with burn's operations.

use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Tensor};
use burn::train::metric::{Adaptor, LossInput};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use segloss::burn::metrics::ReportItem;

use crate::data::Batch;
use crate::objective::Objective;
use crate::unet::UNet;

/// Waits for the device. burn 0.22.1 writes the checkpoint of an epoch behind its validation. Without this, one that was written in
/// mid-training had wrong second moments of four biases, some negative, and training that went on from there became NaN; with it, the
/// checkpoints were right. Why is not known.
fn settle(device: &Device) {
    device.sync().unwrap_or_else(|error| panic!("{error}"));
}

/// The network with segloss's loss.
#[derive(Module, Debug)]
pub struct Segloss {
    pub network: UNet,
    #[module(skip)]
    objective: Objective,
}

impl Segloss {
    pub fn new(network: UNet, objective: Objective) -> Self {
        Self { network, objective }
    }

    /// The total, and the report for the metrics.
    fn loss(&self, Batch { images, labels }: Batch) -> (Tensor<1>, ReportItem) {
        let logits = self.network.forward(images);
        // a step of burn's cannot return an error
        let loss = self.objective.segloss(logits, &labels).unwrap_or_else(|error| panic!("{error}"));
        (loss.total, loss.report.into())
    }
}

impl TrainStep for Segloss {
    type Input = Batch;
    type Output = ReportItem;

    fn step(&self, batch: Batch) -> TrainOutput<ReportItem> {
        let (total, report) = self.loss(batch);
        TrainOutput::new(self, total.backward(), report)
    }
}

impl InferenceStep for Segloss {
    type Input = Batch;
    type Output = ReportItem;

    fn step(&self, batch: Batch) -> ReportItem {
        let device = batch.images.device();
        let item = self.loss(batch).1;
        settle(&device);
        item
    }
}

/// The network with the loss written in burn's operations.
#[derive(Module, Debug)]
pub struct Composed {
    pub network: UNet,
    #[module(skip)]
    objective: Objective,
}

/// The total.
pub struct Total(Tensor<1>);

impl Composed {
    pub fn new(network: UNet, objective: Objective) -> Self {
        Self { network, objective }
    }

    fn loss(&self, Batch { images, labels }: Batch) -> Tensor<1> {
        self.objective.composed(self.network.forward(images), &labels)
    }
}

impl TrainStep for Composed {
    type Input = Batch;
    type Output = Total;

    fn step(&self, batch: Batch) -> TrainOutput<Total> {
        let total = self.loss(batch);
        TrainOutput::new(self, total.backward(), Total(total.inner()))
    }
}

impl InferenceStep for Composed {
    type Input = Batch;
    type Output = Total;

    fn step(&self, batch: Batch) -> Total {
        let device = batch.images.device();
        let total = Total(self.loss(batch));
        settle(&device);
        total
    }
}

impl ItemLazy for Total {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<LossInput> for Total {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.0.clone())
    }
}
