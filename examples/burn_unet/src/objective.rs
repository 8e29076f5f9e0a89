//! The loss of the three heads, twice: by segloss, and composed from burn's operations.

use anyhow::{Context as _, Result};
use burn::backend::wgpu::WgpuSetup;
use burn::data::dataloader::DataLoader;
use burn::tensor::{Device, Int, Tensor};
use segloss::burn::{Bridge, HeadTensors, LossTensor};
use segloss::{ClassCounts, HardCounts, Head, Loss, LossSpec, Overlap, nnunet_deep_supervision};

use crate::composed;
use crate::data::Batch;
use crate::unet::{HEADS, UNet};

/// The bridge, and the loss as a template.
#[derive(Clone, Debug)]
pub struct Objective {
    bridge: Bridge,
    spec: LossSpec,
    weights: Vec<f32>,
}

impl Objective {
    pub fn new(device: &Device, setup: &WgpuSetup) -> Result<Self> {
        // nnU-Net's weights of four resolutions are 4/7, 2/7, 1/7 and 0, so the fourth needs no head
        let weights: Vec<f32> = nnunet_deep_supervision(HEADS + 1).into_iter().take(HEADS).collect();
        // the shapes are taken from the tensors
        let head = |weight: &f32| Head::new([], loss()).resample([]).weight(*weight);
        let mut spec = LossSpec { heads: weights.iter().map(head).collect() };
        spec.heads[0].hard_counts = HardCounts::Batch;
        Ok(Self { bridge: Bridge::new(device, setup)?, spec, weights })
    }

    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// The loss of the heads' logits, with labels at full resolution.
    pub fn segloss(&self, logits: Vec<Tensor<4>>, labels: &Tensor<3, Int>) -> Result<LossTensor> {
        let heads = logits.into_iter().map(|logits| HeadTensors::labels(logits, labels.clone()));
        Ok(self.bridge.loss(&self.spec, heads)?)
    }

    /// The total.
    pub fn composed(&self, logits: Vec<Tensor<4>>, labels: &Tensor<3, Int>) -> Tensor<1> {
        let heads = Tensor::cat(composed::losses(logits, labels), 0);
        let weights = Tensor::<1>::from_floats(self.weights.as_slice(), &heads.device());
        (heads * weights).sum()
    }

    /// The Dice of each class over all slices, from the report's hard counts.
    pub fn dice(&self, model: &UNet, slices: &dyn DataLoader<Batch>) -> Result<Vec<f64>> {
        let spec = LossSpec::new().head(Head::new([], loss()).hard_counts(HardCounts::Batch));
        let mut sums: Vec<ClassCounts> = Vec::new();
        for batch in slices.iter() {
            let Batch { images, labels } = batch?;
            let logits = model.forward(images).swap_remove(0);
            let loss = self.bridge.loss(&spec, [HeadTensors::labels(logits, labels)])?;
            let report = loss.report.read_blocking()?;
            let counts = report.heads[0].hard_counts.clone().context("hits and misses were asked for")?;
            sums.resize(counts.len(), ClassCounts::default());
            for (sum, class) in sums.iter_mut().zip(counts) {
                sum.true_positives += class.true_positives;
                sum.false_positives += class.false_positives;
                sum.false_negatives += class.false_negatives;
                sum.true_negatives += class.true_negatives;
            }
        }
        Ok(sums.into_iter().map(ClassCounts::dice).collect())
    }
}

/// nnU-Net's loss with the soft Dice over the batch, as in its 2D configuration.
pub fn loss() -> Loss {
    let loss = Loss::nnunet_dc_ce();
    Loss { overlap: loss.overlap.map(|overlap: Overlap| overlap.batch(true)), ..loss }
}
