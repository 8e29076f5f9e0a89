//! Tensors of more windows than a dispatch has bindings: their items are spread over several dispatches.

use segloss::{Error, FloatType, HardCounts, Head, Loss, LossSpec, Overlap, Pixel, Plan, Variant, wgpu};

use crate::common::{Buffers, Gpu, Tensors, gpu, gpu_with_limits, random_tensors, run_variant};

/// WebGPU's default of 8 storage buffers, and bindings of 128 KiB: an eighth of the logits below.
fn small() -> Gpu {
    gpu_with_limits(wgpu::Limits { max_storage_buffer_binding_size: 128 << 10, ..wgpu::Limits::default() })
}

/// Without subgroups, which the small device lacks.
fn variant(gpu: &Gpu) -> Variant {
    Variant { subgroups: false, subgroup_size: 0, ..Variant::for_device(&gpu.device) }
}

/// Odd rows, in f32 and in halves; terms over the batch, over items and over sorted losses; every tensor of an item.
fn specs() -> [LossSpec; 3] {
    let shape = [24, 12, 29, 31];
    let dice_ce = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    let of_batch = Loss::new().overlap(Overlap::dice().batch(true)).pixel(Pixel::top_k_cross_entropy(10.0));
    [
        LossSpec::new().head(Head::new(shape, dice_ce.clone()).hard_counts(HardCounts::Item).unreduced(true)),
        LossSpec::new().head(Head::new(shape, of_batch).mask(true).check_finite(true)),
        LossSpec::new().head(Head::new([48, 12, 29, 31], dice_ce).logits(FloatType::F16).sample_mask(true)),
    ]
}

#[test]
fn items_beyond_the_bindings_take_several_dispatches_and_give_the_same_bits() {
    let (small, large) = (small(), gpu());
    for (spec, seed) in specs().into_iter().zip(1..) {
        let tensors = [random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(seed))];
        let run = |gpu: &Gpu| run_variant(gpu, &spec, &tensors, 1.5, variant(&large));
        let (given, expected) = (run(&small), run(&large));
        assert!(bits(&given.gradients[0]) == bits(&expected.gradients[0]), "gradient: {spec:?}");
        assert!(given.voxel_losses == expected.voxel_losses, "voxel losses: {spec:?}");
        assert!(given.report == expected.report, "report: {spec:?}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn as_few_dispatches_as_fit() {
    let small = small();
    let spec = LossSpec::new().head(Head::new([24, 12, 29, 31], Loss::monai_dice_ce()));
    let tensors: Vec<Tensors> = vec![random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(5))];
    let buffers = Buffers::upload(&small, &spec, &tensors);
    let plan = Plan::with_variant(&small.device, &small.queue, &spec, variant(&small)).expect("the plan is made");
    let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
    // 6 of 8 bindings are for tensors in statistics. Logits of 8 windows and labels of one: two dispatches. 7 are in
    // gradient, which is not bound to an upstream gradient. Logits and gradient of 8 windows each, labels of one: 3
    // windows of each per dispatch
    assert_eq!(step.dispatches(), (2, 3));
}

#[test]
fn an_item_beyond_the_bindings_is_refused_at_plan_time() {
    let small = small();
    let spec = LossSpec::new().head(Head::new([1, 24, 149, 62], Loss::monai_dice_ce()));
    let error = Plan::new(&small.device, &small.queue, &spec).map(|_| ()).expect_err("refused");
    // logits of 7 windows, and room for the labels behind them in the last if they lie there
    let words = "head 0: the tensors of one item, and what its stage needs: expected at most 8 storage buffers \
                 (maxStorageBuffersPerShaderStage), got 9";
    assert_eq!(error.to_string(), words);
    assert!(matches!(error, Error::Limit { head: Some(0), needed: 9, available: 8, .. }));
}
