//! The top-k selection: exact, over many runs of losses, with ties.

use segloss::{Head, Loss, LossSpec, Overlap, Pixel};

use crate::common::{self, Tensors, all_gpus, differences, evaluate, random_tensors, run};

#[test]
fn several_heads_select_among_many_runs_of_losses() {
    for gpu in all_gpus() {
        let spec = LossSpec::new()
            .head(Head::new([2, 3, 9_001], Loss::new().pixel(Pixel::top_k_cross_entropy(10.0))).ignore_index(255))
            .head(Head::new([1, 4, 50], Loss::monai_dice_ce()))
            .head(Head::new([3, 20, 4_099], Loss::nnunet_dc_ce().pixel(Pixel::top_k_cross_entropy(0.1))).weight(0.5));
        let mut random = fastrand::Rng::with_seed(3);
        let tensors: Vec<Tensors> = spec.heads.iter().map(|head| random_tensors(head, 5.0, &mut random)).collect();
        let worst = differences(&run(&gpu, &spec, &tensors, 1.5), &evaluate(&spec, &tensors, 1.5));
        assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {worst:?}", gpu.name);
    }
}

#[test]
fn ties_at_the_threshold_share_the_gradient() {
    for gpu in all_gpus() {
        // half of the voxels have the larger loss; 70 per cent are taken, so the others share 20 of 50
        let voxels: u8 = 100;
        let logits =
            (0..2).flat_map(|class| (0..voxels).map(move |v| if class == 0 && v % 2 == 0 { 1.0 } else { 0.0 }));
        let tensors =
            [Tensors { logits: logits.collect(), labels: vec![1; usize::from(voxels)], ..Tensors::default() }];
        let spec = LossSpec::new().head(Head::new(
            [1, 2, usize::from(voxels)],
            Loss::new().overlap(Overlap::dice().weight(0.0)).pixel(Pixel::top_k_cross_entropy(70.0)),
        ));
        let result = run(&gpu, &spec, &tensors, 1.0);
        let worst = differences(&result, &evaluate(&spec, &tensors, 1.0));
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {worst:?}", gpu.name);
        // softmax of (0, 0) is a half; κ is 1/70
        let (large, shared) = (result.gradients[0][0], result.gradients[0][1]);
        assert!((shared - 0.5 / 70.0 * 0.4).abs() < 1e-8, "{}: {shared}", gpu.name);
        assert!(large > 0.5 / 70.0, "{}: {large}", gpu.name);
    }
}

#[test]
fn a_top_k_of_all_voxels_is_the_mean() {
    let gpu = common::gpu();
    let with = |pixel| LossSpec::new().head(Head::new([2, 5, 777], Loss::new().pixel(pixel)));
    let tensors = [random_tensors(&with(Pixel::cross_entropy()).heads[0], 4.0, &mut fastrand::Rng::with_seed(5))];
    let all = run(&gpu, &with(Pixel::top_k_cross_entropy(100.0)), &tensors, 1.0);
    let mean = run(&gpu, &with(Pixel::cross_entropy()), &tensors, 1.0);
    assert!((all.report.total - mean.report.total).abs() < 1e-6);
    assert!(all.gradients[0].iter().zip(&mean.gradients[0]).all(|(a, b)| (a - b).abs() < 1e-9));
}
