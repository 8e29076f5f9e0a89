//! What a loss allocates and keeps.

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Tensor};
use cubecl::MemoryScope;
use segloss::Loss;
use segloss::burn::{Bridge, HeadTensors};

use crate::{bridge, composed, labels, one_head, random, values};

/// The size that burn rounds a few scalars up to.
const SCALARS: u64 = 256;

#[test]
fn a_step_allocates_the_total_and_the_gradient_and_copies_no_tensor() {
    let (device, bridge) = bridge();
    assert_copies_nothing(&device, &bridge, random([2, 3, 32, 32], 100, &device));
}

/// As the output of a convolution lies in memory.
#[test]
fn logits_that_are_channels_last_in_memory_are_not_copied_either() {
    let (device, bridge) = bridge();
    assert_copies_nothing(&device, &bridge, random([2, 32, 32, 3], 100, &device).permute([0, 3, 1, 2]));
}

fn assert_copies_nothing(device: &Device, bridge: &Bridge, logits: Tensor<4>) {
    let logits = logits.require_grad();
    let labels = labels([2, 32, 32], 3, 101, device);
    let spec = one_head(Loss::monai_dice_ce());
    let DispatchDevice::Cube(cube) = device.as_dispatch().clone().inner() else { panic!("a wgpu device of burn's") };
    // of this thread's tensors only, since other tests run at the same time
    let in_use = || {
        // with fusion, tensors are made and dropped later
        device.flush().unwrap();
        cube.client().memory_report(MemoryScope::CurrentStream).usage().bytes_in_use
    };
    let before = in_use();
    let loss = bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
    let forward = in_use() - before;
    assert!(forward <= SCALARS, "{forward} bytes for the total");
    let gradients = loss.total.backward();
    let gradient = logits.grad(&gradients).unwrap();
    let bytes = 4 * gradient.shape().num_elements() as u64;
    let backward = in_use() - before;
    assert!((bytes..=bytes + SCALARS).contains(&backward), "{backward} bytes for a gradient of {bytes}");
}

/// Losses of one specification share a plan, however many exist. What a forward leaves for the backward belongs to each loss,
/// and is taken again when the loss is done.
#[test]
fn losses_of_a_specification_share_a_plan() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, labels) = (random([1, 3, 50], 105, &device).require_grad(), labels([1, 50], 3, 106, &device));
    let loss = || bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap().total;
    assert_eq!(bridge.memory(), 0);
    let _ = loss().backward();
    let one = bridge.memory();
    assert!(one > 0);
    let _ = (loss() + loss()).backward();
    let two = bridge.memory();
    drop(loss());
    let _ = (loss() + loss()).backward();
    assert!(one < two && two < 2 * one, "{one} bytes for one at a time, {two} for two");
    // and no more, however many exist at once
    let _ = (0..40).map(|_| loss()).reduce(|sum, loss| sum + loss).unwrap().backward();
    assert!(bridge.memory() < 4 * one, "{} bytes, {one} for one at a time", bridge.memory());
    bridge.release();
    assert!(bridge.memory() < one, "{} bytes of a plan, {one} with what was bound", bridge.memory());
    // many different shapes
    for voxels in 1..40 {
        let (logits, labels) = (random([1, 3, voxels], 107, &device), crate::labels([1, voxels], 3, 108, &device));
        bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap();
    }
    assert!(bridge.memory() <= 16 * one, "{} bytes, {one} a plan", bridge.memory());
}

/// Reports that nobody reads for a while are all there.
#[test]
fn no_report_is_lost_and_none_is_waited_for() {
    let (device, bridge) = bridge();
    let (logits, labels) = (random([2, 3, 64], 110, &device), labels([2, 64], 3, 111, &device));
    let spec = one_head(Loss::monai_dice_ce());
    let expected = values(composed(logits.clone(), labels.clone()))[0];
    let step = |scale: f32| {
        let logits = (logits.clone() * scale).require_grad();
        let loss = bridge.loss(&spec, [HeadTensors::labels(logits, labels.clone())]).unwrap();
        let _ = loss.total.clone().backward();
        loss.report
    };
    let pending: Vec<_> = (0..40_u8).map(|i| step(f32::from(i % 2))).collect();
    let at_zero = step(0.0).read_blocking().unwrap().total;
    for (i, report) in pending.into_iter().enumerate() {
        let total = report.read_blocking().unwrap().total;
        let expected = if i % 2 == 1 { expected } else { at_zero };
        assert!((total - expected).abs() < 1e-5, "report {i}: {total} is not {expected}");
    }
    // read while training goes on
    let mut read = 0;
    let mut pending = Vec::new();
    for _ in 0..40 {
        pending.push(step(1.0));
        pending.retain(|report| match report.try_read().unwrap() {
            Some(report) => {
                assert!((report.total - expected).abs() < 1e-5);
                read += 1;
                false
            }
            None => true,
        });
    }
    for report in pending {
        assert!((report.read_blocking().unwrap().total - expected).abs() < 1e-5);
        read += 1;
    }
    assert_eq!(read, 40);
}
