//! Devices with few storage buffers per stage: what fits, and the table of it in docs/storage-buffers.md.

use std::fmt::Write as _;

use segloss::testing::{Place, Pool, PooledGradient};
use segloss::{
    Bound, Error, FloatType, HardCounts, Head, HeadTensors, Loss, LossSpec, Overlap, Pixel, Plan, Tensor, wgpu,
};

use crate::common::{Gpu, Tensors, differences, download, evaluate, forward_backward, gpu_with_limits, random_tensors};

/// A head per output and mask.
fn heads() -> Vec<(&'static str, Head)> {
    let loss = || Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy());
    let head = |loss| Head::new([2, 3, 6, 4], loss);
    let top_k = Loss::new().overlap(Overlap::dice()).pixel(Pixel::top_k_cross_entropy(10.0));
    let all = |head: Head| head.mask(true).weight_map(true).sample_mask(true).hard_counts(HardCounts::Item);
    vec![
        ("labels", head(loss())),
        ("probabilities", head(loss()).probabilities(FloatType::F32)),
        ("hard counts, of each item as well", head(loss()).hard_counts(HardCounts::Item)),
        ("a mask", head(loss()).mask(true)),
        ("a weight map", head(loss()).weight_map(true)),
        ("a sample mask", head(loss()).sample_mask(true)),
        ("mask, weight map and sample mask", head(loss()).mask(true).weight_map(true).sample_mask(true)),
        ("the losses of voxels (`unreduced`)", head(loss()).unreduced(true)),
        ("whether the gradient is finite (`check_finite`)", head(loss()).check_finite(true)),
        ("a top-k", head(top_k.clone())),
        ("all of these", all(head(top_k)).unreduced(true).check_finite(true)),
    ]
}

/// How a head's tensors are bound: the buffers that they lie in, and the gradient, if there is one.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    one_buffer: bool,
    gradient: Option<PooledGradient>,
}

const WAYS: [Way; 4] = [
    Way { name: "evaluated", one_buffer: false, gradient: None },
    Way { name: "trained", one_buffer: false, gradient: Some(PooledGradient::Overwrite) },
    Way { name: "trained in place", one_buffer: false, gradient: Some(PooledGradient::InPlace) },
    Way { name: "all in one buffer, trained", one_buffer: true, gradient: Some(PooledGradient::Overwrite) },
];

/// Runs the head, and compares it with the reference. The error is that of a limit on storage buffers.
fn run(gpu: &Gpu, head: &Head, way: Way) -> Result<(), Error> {
    let spec = LossSpec::new().head(head.clone());
    let tensors = [random_tensors(head, 3.0, &mut fastrand::Rng::with_seed(3))];
    let number = |tensor| if way.one_buffer { 0 } else { number_of(tensor) };
    let gradient = way.gradient.unwrap_or(PooledGradient::Overwrite);
    let pool =
        Pool::new(&spec, &tensors, |_| gradient, |_, tensor| Place { buffer: number(tensor), alignment: 256, gap: 0 });
    let buffers = pool.upload(&gpu.device);
    let mut bindings = pool.bindings(&buffers);
    if way.gradient.is_none() {
        bindings = bindings.into_iter().map(|tensors| HeadTensors { gradient: None, ..tensors }).collect();
    }
    let step = Plan::new(&gpu.device, &gpu.queue, &spec).and_then(|plan| plan.bind(&bindings))?;
    let report = forward_backward(gpu, &step);
    let after: Vec<Vec<u8>> = buffers.iter().map(|buffer| download(gpu, buffer)).collect();
    let mut result = pool.result(report, &after).expect("nothing else is written");
    let expected = evaluate(&spec, &tensors, 1.0);
    if way.gradient.is_none() {
        #[expect(clippy::cast_possible_truncation, reason = "not computed, so as expected")]
        let as_expected = expected.heads[0].gradient.iter().map(|x| *x as f32).collect();
        result.gradients[0] = as_expected;
    }
    let worst = differences(&result, &expected);
    assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{worst:?}");
    Ok(())
}

fn number_of(tensor: Tensor) -> usize {
    match tensor {
        Tensor::Logits => 0,
        Tensor::Target => 1,
        Tensor::Mask => 2,
        Tensor::WeightMap => 3,
        Tensor::SampleMask => 4,
        Tensor::VoxelLosses => 5,
        Tensor::Gradient => 6,
    }
}

fn with_buffers(most: u32) -> Gpu {
    gpu_with_limits(wgpu::Limits { max_storage_buffers_per_shader_stage: most, ..wgpu::Limits::default() })
}

#[test]
fn the_table_of_storage_buffers_is_what_devices_take() {
    let gpus: Vec<(u32, Gpu)> = (4..=10).map(|most| (most, with_buffers(most))).collect();
    let mut table = format!("| a head with | {} |\n|---|", WAYS.map(|way| way.name).join(" | "));
    table += &"---|".repeat(WAYS.len());
    for (name, head) in heads() {
        let least = WAYS.map(|way| {
            let takes = gpus.iter().find(|(most, gpu)| match run(gpu, &head, way) {
                Ok(()) => true,
                Err(Error::Limit { bound: Bound::StorageBuffers, needed, available, .. }) => {
                    assert!(available == u64::from(*most) && needed > available, "{name}: {needed} of {available}");
                    false
                }
                Err(error) => panic!("{name}, {}, {most} storage buffers: {error}", way.name),
            });
            takes.map_or("more than 10".to_owned(), |(least, _)| least.to_string())
        });
        write!(table, "\n| {name} | {} |", least.join(" | ")).expect("written");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/storage-buffers.md");
    let document = std::fs::read_to_string(path).expect("the document");
    assert!(document.contains(&table), "{path}: expected\n{table}");
}

#[test]
fn what_no_placement_of_tensors_fits_is_refused_when_the_plan_is_made() {
    let top_k = LossSpec::new().head(Head::new([1, 2, 8], Loss::new().pixel(Pixel::top_k_cross_entropy(50.0))));
    let refused = |most| {
        let gpu = with_buffers(most);
        Plan::new(&gpu.device, &gpu.queue, &top_k).map(|_| ()).expect_err("refused").to_string()
    };
    let of_finish = "the buffers of the finish stage: expected at most 4 storage buffers \
                     (maxStorageBuffersPerShaderStage), got 5";
    assert_eq!(refused(4), of_finish);
    // statistics: three of its own, and one for tensors
    let of_statistics = "head 0: the tensors of one item, and what its stage needs: expected at most 3 storage buffers \
                         (maxStorageBuffersPerShaderStage), got 4";
    assert_eq!(refused(3), of_statistics);
}

/// One head trains where a device has the least that a profile in use states: 4 storage buffers, and an upstream gradient is
/// copied by a dispatch of its own.
#[test]
fn an_upstream_gradient_costs_a_device_with_four_storage_buffers_no_binding() {
    let gpu = with_buffers(4);
    let spec = LossSpec::new().head(Head::new([2, 3, 6, 4], Loss::monai_dice_ce()));
    let tensors: Vec<Tensors> = vec![random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(3))];
    let given = crate::common::run(&gpu, &spec, &tensors, -2.5);
    let worst = differences(&given, &evaluate(&spec, &tensors, -2.5));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{worst:?}");
}
