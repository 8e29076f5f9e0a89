//! The batch: its loss, the items of each rank, and their tensors.

use std::ops::Range;

use segloss::{Head, Loss, LossSpec, Overlap, Pixel};

const IGNORED: i64 = 255;

/// Two heads, `items` items: nnU-Net's loss (Dice over the batch) with class weights and smoothing, and MONAI's (Dice
/// of each item) at half the resolution.
pub fn spec(items: usize) -> LossSpec {
    let pixel = Pixel::cross_entropy().class_weights([0.5, 1.0, 2.0, 1.5]).label_smoothing(0.1);
    let over_batch = Loss::nnunet_dc_ce().overlap(Overlap::dice().batch(true)).pixel(pixel);
    LossSpec::new()
        .head(Head::new([items, 4, 32, 32, 32], over_batch).ignore_index(IGNORED).weight(0.7))
        .head(Head::new([items, 4, 16, 16, 16], Loss::monai_dice_ce()).weight(0.3))
}

/// The items of a rank, among those of the whole batch: one or two, in turns.
pub fn items_of(rank: usize) -> Range<usize> {
    items(rank)..items(rank + 1)
}

/// The number of items of this many ranks.
pub fn items(ranks: usize) -> usize {
    // 1, 2, 1, 2, …
    ranks + ranks / 2
}

/// Each head's logits and labels of some items. Each item has its own seed, so any rank can make any item. All labels
/// of the last rank are ignored where the head has an ignore label: a rank without a valid voxel needs no special case.
pub fn tensors(spec: &LossSpec, items: &Range<usize>, ranks: usize) -> Vec<(Vec<f32>, Vec<i64>)> {
    let heads = spec.heads.iter().enumerate();
    heads.map(|(index, head)| of_head(index, head, items, ranks)).collect()
}

fn of_head(index: usize, head: &Head, items: &Range<usize>, ranks: usize) -> (Vec<f32>, Vec<i64>) {
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    for item in items.clone() {
        let mut random = fastrand::Rng::with_seed((index << 32 | item) as u64);
        logits.extend((0..head.classes() * head.voxels()).map(|_| 6.0 * random.f32() - 3.0));
        let ignored = ranks > 1 && items_of(ranks - 1).contains(&item) && head.ignore_index.is_some();
        let mut label = || if ignored { IGNORED } else { i64::from(random.u8(0..4)) };
        labels.extend((0..head.voxels()).map(|_| label()));
    }
    (logits, labels)
}
