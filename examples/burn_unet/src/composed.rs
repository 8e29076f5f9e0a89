//! nnU-Net's loss in burn's operations, for comparison: what one would write without the kernels.
//!
//! Sums go axis by axis instead of over a flattened axis. Without autotuning, burn sums an axis in one loop of one
//! invocation, with one or four numbers per iteration, and Mesa's software driver (22.3) ends a loop after 65,535
//! iterations. There the sum of the one-hot of 48³ labels along a flattened axis counts 65,531 of 110,592, and the Dice
//! is wrong.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, s};

/// nnU-Net's `DC_and_CE_loss` of each head over the batch, as `Loss::nnunet_dc_ce()` with `batch(true)`. Where logits
/// have a lower resolution than the labels, each takes the label at its centre.
pub fn losses(logits: Vec<Tensor<4>>, labels: &Tensor<3, Int>) -> Vec<Tensor<1>> {
    let rows = labels.dims()[1];
    let of_head = |logits: Tensor<4>| {
        let scale = rows / logits.dims()[2];
        let (middle, step) = (scale / 2, scale.cast_signed());
        dice_cross_entropy(logits, labels.clone().slice(s![.., middle..;step, middle..;step]))
    };
    logits.into_iter().map(of_head).collect()
}

/// The loss of logits `[N, C, *spatial]` with labels `[N, *spatial]`.
pub fn dice_cross_entropy<const D: usize, const L: usize>(logits: Tensor<D>, labels: Tensor<L, Int>) -> Tensor<1> {
    let shape = logits.dims();
    let classes = shape[1];
    let one_hot = one_hot(labels, shape);
    let log_p = log_softmax(logits, 1);
    #[expect(clippy::cast_precision_loss, reason = "the mean is f32")]
    let voxels = (shape.iter().product::<usize>() / classes) as f32;
    let cross_entropy = -sum_but_classes(log_p.clone() * one_hot.clone()).sum() / voxels;
    let p = log_p.exp();
    let intersection = sum_but_classes(p.clone() * one_hot.clone());
    let whole = sum_but_classes(p) + sum_but_classes(one_hot);
    let dice = (intersection * 2.0 + 1e-5) / (whole + 1e-5).clamp_min(1e-8);
    // without the background
    cross_entropy - dice.slice(s![1..]).mean()
}

fn one_hot<const D: usize, const L: usize>(labels: Tensor<L, Int>, shape: [usize; D]) -> Tensor<D> {
    let classes = i64::try_from(shape[1]).expect("few classes");
    let mut axis = [1; D];
    axis[1] = shape[1];
    let class = Tensor::<1, Int>::arange(0..classes, &labels.device()).reshape(axis);
    labels.unsqueeze_dim::<D>(1).expand(shape).equal(class.expand(shape)).float()
}

/// Sums over items and space: one number per class.
fn sum_but_classes<const D: usize>(mut tensor: Tensor<D>) -> Tensor<1> {
    for axis in (0..D).rev().filter(|axis| *axis != 1) {
        tensor = tensor.sum_dim(axis);
    }
    tensor.flatten(0, D - 1)
}
