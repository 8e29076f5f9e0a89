//! nnU-Net's loss in burn's operations, for comparison: what one would write without the kernels.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, s};

/// `DC_and_CE_loss` of nnU-Net over the batch, as `Loss::nnunet_dc_ce()` with `batch(true)`, of each head. Where logits have a
/// lower resolution than the labels, each of them has the label at its middle.
pub fn losses(logits: Vec<Tensor<4>>, labels: &Tensor<3, Int>) -> Vec<Tensor<1>> {
    let rows = labels.dims()[1];
    let of_head = |logits: Tensor<4>| {
        let scale = rows / logits.dims()[2];
        let middle = labels.clone().slice(s![.., scale / 2..;scale as isize, scale / 2..;scale as isize]);
        dice_cross_entropy(logits, middle)
    };
    logits.into_iter().map(of_head).collect()
}

/// Of logits `[N, C, *spatial]` with labels `[N, *spatial]`.
pub fn dice_cross_entropy<const D: usize, const L: usize>(logits: Tensor<D>, labels: Tensor<L, Int>) -> Tensor<1> {
    let (items, classes) = (logits.dims()[0], logits.dims()[1]);
    let logits = logits.reshape([items as isize, classes as isize, -1]);
    let voxels = logits.dims()[2];
    let labels = labels.reshape([items, 1, voxels]).expand([items, classes, voxels]);
    let class = Tensor::<1, Int>::arange(0..classes as i64, &labels.device()).reshape([1, classes, 1]);
    let one_hot = labels.equal(class.expand([items, classes, voxels])).float();

    let log_p = log_softmax(logits, 1);
    let cross_entropy = (log_p.clone() * one_hot.clone()).sum() / -((items * voxels) as f32);
    let p = log_p.exp();
    let over_batch = |tensor: Tensor<3>| tensor.sum_dim(2).sum_dim(0).reshape([classes]);
    let intersection = over_batch(p.clone() * one_hot.clone());
    let whole = over_batch(p) + over_batch(one_hot);
    let dice = (intersection * 2.0 + 1e-5) / (whole + 1e-5).clamp_min(1e-8);
    cross_entropy - dice.slice([1..classes]).mean()
}
