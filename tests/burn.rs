//! The burn bridge: gradients against the same loss composed from burn's operations, and every kind of tensor.

use std::sync::OnceLock;

use burn::backend::DispatchDevice;
use burn::backend::wgpu::WgpuSetup;
use burn::data::dataloader::Progress;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn::train::ItemLazy as _;
use burn::train::metric::{Adaptor as _, Metric as _, MetricMetadata, Numeric as _, NumericEntry};
use cubecl::MemoryScope;
use segloss::burn::metrics::{ReportItem, ReportMetric};
use segloss::burn::{Bridge, HeadTensors, LossTensor};
use segloss::{Activation, Error, HardCounts, Head, Loss, LossSpec, Pixel, Report};

/// burn's default device can be initialised once per process.
fn setup() -> &'static (Device, WgpuSetup) {
    static SETUP: OnceLock<(Device, WgpuSetup)> = OnceLock::new();
    SETUP.get_or_init(|| Device::wgpu_options().init_with_setup().expect("an adapter"))
}

fn bridge() -> (Device, Bridge) {
    let (device, setup) = setup();
    (device.clone().autodiff(), Bridge::new(device, setup).unwrap())
}

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() * 4.0 - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn labels<const D: usize>(shape: [usize; D], classes: i32, seed: u64, device: &Device) -> Tensor<D, Int> {
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<i32> = (0..shape.iter().product()).map(|_| random.i32(0..classes)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn one_head(loss: Loss) -> LossSpec {
    LossSpec::new().head(Head::new([], loss))
}

/// MONAI's `DiceCELoss(softmax=True, to_onehot_y=True)` on `[N, C, V]`, in burn's operations.
fn composed(logits: Tensor<3>, labels: Tensor<2, Int>) -> Tensor<1> {
    let classes = logits.dims()[1];
    let log_p = log_softmax(logits, 1);
    let one_hot = labels.one_hot::<3>(classes).permute([0, 2, 1]).float();
    let cross_entropy = -(log_p.clone() * one_hot.clone()).sum_dim(1).mean().reshape([1]);
    let p = log_p.exp();
    let intersection = (p.clone() * one_hot.clone()).sum_dim(2);
    let dice = (intersection * 2.0 + 1e-5) / (p.sum_dim(2) + one_hot.sum_dim(2) + 1e-5);
    cross_entropy + (-dice + 1.0).mean()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn assert_near(given: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(given.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (i, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert!((given - expected).abs() <= tolerance * scale, "{i}: {given} is not {expected}");
    }
}

fn report(loss: LossTensor) -> Report {
    loss.report.read_blocking().unwrap()
}

#[test]
fn loss_and_gradient_are_those_of_the_loss_composed_from_burns_operations() {
    let (device, bridge) = bridge();
    let data = random([2, 4, 105], 1, &device);
    let labels = labels([2, 105], 4, 2, &device);
    let theirs = data.clone().require_grad();
    let expected = composed(theirs.clone(), labels.clone());
    let expected_gradient = theirs.grad(&expected.backward()).unwrap();
    let ours = data.require_grad();
    let spec = one_head(Loss::monai_dice_ce());
    let loss = bridge.loss(&spec, [HeadTensors::labels(ours.clone(), labels)]).unwrap();
    assert_near(&values(loss.total.clone()), &values(expected), 1e-6);
    let gradient = ours.grad(&loss.total.clone().backward()).unwrap();
    assert_near(&values(gradient), &values(expected_gradient), 2e-6);
    let total = values(loss.total.clone())[0];
    assert_eq!(report(loss).total.to_bits(), total.to_bits());
}

/// The logits are computed from weights, and the loss is scaled and added to another one.
#[test]
fn the_loss_may_stand_in_the_middle_of_a_graph() {
    let (device, bridge) = bridge();
    let labels = labels([2, 60], 3, 3, &device);
    let run = |loss: &dyn Fn(Tensor<3>) -> Tensor<1>| {
        let weight = random([2, 3, 5], 4, &device).require_grad();
        let input = random([2, 5, 60], 5, &device);
        let logits = weight.clone().matmul(input);
        let total = loss(logits.clone() * 0.5) * 3.0 + logits.square().mean() * 0.1;
        let total = total.square();
        let gradients = total.backward();
        (values(total), values(weight.grad(&gradients).unwrap()))
    };
    let expected = run(&|logits| composed(logits, labels.clone()));
    let spec = one_head(Loss::monai_dice_ce());
    let given = run(&|logits| bridge.loss(&spec, [HeadTensors::labels(logits, labels.clone())]).unwrap().total);
    assert_near(&given.0, &expected.0, 1e-6);
    assert_near(&given.1, &expected.1, 1e-5);
}

/// Two heads with different ranks and numbers of classes, and one that needs no gradient, in one loss.
#[test]
fn every_head_has_its_gradient_and_a_head_without_a_graph_has_none() {
    let (device, bridge) = bridge();
    let (fine, coarse) = (random([2, 3, 40], 6, &device), random([2, 2, 4, 5], 7, &device));
    let constant = random([1, 2, 8], 8, &device);
    let (fine_labels, coarse_labels) = (labels([2, 40], 3, 9, &device), labels([2, 4, 5], 2, 10, &device));
    let constant_labels = labels([1, 8], 2, 11, &device);
    let weights = [0.5, 0.3, 2.0];

    let (a, b) = (fine.clone().require_grad(), coarse.clone().require_grad());
    let flat = composed(b.clone().reshape([2, 2, 20]), coarse_labels.clone().reshape([2, 20]));
    let expected = composed(a.clone(), fine_labels.clone()) * weights[0]
        + composed(constant.clone(), constant_labels.clone()) * weights[1]
        + flat * weights[2];
    let gradients = expected.backward();
    let expected_gradients = [values(a.grad(&gradients).unwrap()), values(b.grad(&gradients).unwrap())];

    let (a, b) = (fine.require_grad(), coarse.require_grad());
    let head = |weight| Head::new([], Loss::monai_dice_ce()).weight(weight);
    let spec = LossSpec { heads: weights.map(head).to_vec() };
    let heads = [
        HeadTensors::labels(a.clone(), fine_labels),
        HeadTensors::labels(constant, constant_labels),
        HeadTensors::labels(b.clone(), coarse_labels),
    ];
    let loss = bridge.loss(&spec, heads).unwrap();
    assert_near(&values(loss.total.clone()), &values(expected), 1e-6);
    let gradients = loss.total.backward();
    assert_near(&values(a.grad(&gradients).unwrap()), &expected_gradients[0], 2e-6);
    assert_near(&values(b.grad(&gradients).unwrap()), &expected_gradients[1], 2e-6);
}

#[test]
fn logits_without_autodiff_have_a_loss_without_a_graph() {
    let (device, bridge) = bridge();
    let device = device.inner();
    let (logits, labels) = (random([2, 3, 17], 12, &device), labels([2, 17], 3, 13, &device));
    let expected = composed(logits.clone(), labels.clone());
    let loss = bridge.loss(&one_head(Loss::monai_dice_ce()), [HeadTensors::labels(logits, labels)]).unwrap();
    assert_eq!(loss.total.device(), device);
    assert_near(&values(loss.total), &values(expected), 1e-6);
}

/// Several losses of one shape exist at once, and their backwards run in any order.
#[test]
fn losses_of_one_shape_do_not_disturb_each_other_before_their_backward() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let data: Vec<_> =
        (0..3).map(|i| (random([1, 3, 50], 20 + i, &device), labels([1, 50], 3, 30 + i, &device))).collect();
    let alone = |(logits, labels): &(Tensor<3>, Tensor<2, Int>)| {
        let logits = logits.clone().require_grad();
        let loss = bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
        values(logits.grad(&loss.total.backward()).unwrap())
    };
    let expected: Vec<Vec<f32>> = data.iter().map(alone).collect();

    let tracked: Vec<_> = data.iter().map(|(logits, _)| logits.clone().require_grad()).collect();
    let loss_of = |i: usize| {
        let (logits, labels): (Tensor<3>, _) = (tracked[i].clone(), data[i].1.clone());
        bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap().total
    };
    // two losses in one graph, and a third whose backward comes first
    let sum = loss_of(0) + loss_of(1);
    let third = loss_of(2).backward();
    let both = sum.backward();
    for (i, gradients) in [(0, &both), (1, &both), (2, &third)] {
        assert_eq!(values(tracked[i].grad(gradients).unwrap()), expected[i], "loss {i}");
    }
    // neither does a loss whose graph is dropped without a backward
    drop(loss_of(0));
    let gradients = loss_of(1).backward();
    assert_eq!(values(tracked[1].grad(&gradients).unwrap()), expected[1]);
}

#[test]
fn one_tensor_may_be_the_logits_of_two_heads() {
    let (device, bridge) = bridge();
    let (logits, labels) = (random([1, 3, 24], 40, &device), labels([1, 24], 3, 41, &device));
    let once = logits.clone().require_grad();
    let spec = one_head(Loss::monai_dice_ce());
    let loss = bridge.loss(&spec, [HeadTensors::labels(once.clone(), labels.clone())]).unwrap();
    let expected = values(once.grad(&(loss.total * 3.0).backward()).unwrap());
    let twice = logits.require_grad();
    let spec = spec.head(Head::new([], Loss::monai_dice_ce()).weight(2.0));
    let heads = [0, 1].map(|_| HeadTensors::labels(twice.clone(), labels.clone()));
    let loss = bridge.loss(&spec, heads).unwrap();
    assert_near(&values(twice.grad(&loss.total.backward()).unwrap()), &expected, 1e-6);
}

#[test]
fn any_rank_and_labels_with_a_channel_axis_give_the_same_loss() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, labels) = (random([2, 3, 48], 50, &device), labels([2, 48], 3, 51, &device));
    let expected = values(composed(logits.clone(), labels.clone()));
    let near = |heads: HeadTensors| assert_near(&values(bridge.loss(&spec, [heads]).unwrap().total), &expected, 1e-6);
    near(HeadTensors::labels(logits.clone(), labels.clone()));
    near(HeadTensors::labels(logits.clone(), labels.clone().reshape([2, 1, 48])));
    near(HeadTensors::labels(logits.clone().reshape([2, 3, 6, 8]), labels.clone().reshape([2, 6, 8])));
    near(HeadTensors::labels(logits.reshape([2, 3, 4, 2, 6]), labels.reshape([2, 1, 4, 2, 6])));
    // one voxel per item
    let (logits, labels) = (random([6, 3], 52, &device), self::labels([6], 3, 53, &device));
    let expected = values(composed(logits.clone().reshape([6, 3, 1]), labels.clone().reshape([6, 1])));
    assert_near(&values(bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap().total), &expected, 1e-6);
}

/// Permuted, sliced at an offset, and strided logits; permuted and sliced labels.
#[test]
fn tensors_that_are_not_contiguous_or_begin_at_an_offset_are_read_right() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let all = labels([5, 30, 2], 3, 61, &device);
    let picked = all.permute([2, 0, 1]).slice([0..2, 2..4, 0..30]);
    for case in 0..3 {
        let take = |data: Tensor<4>| match case {
            0 => data.permute([0, 3, 1, 2]).slice([0..2, 0..3, 0..2, 0..30]),
            1 => data.permute([1, 3, 2, 0]).slice([1..3, 1..4, 1..3, 0..30]),
            _ => data.permute([3, 0, 1, 2]).slice([0..2, 0..3, 0..2, 0..30]),
        };
        let shape = [[2, 2, 30, 3], [30, 3, 3, 4], [3, 2, 30, 2]][case];
        let run = |loss: &dyn Fn(Tensor<4>) -> Tensor<1>| {
            let data = random(shape, 60, &device).require_grad();
            let total = loss(take(data.clone()));
            let gradient = data.grad(&total.backward()).unwrap();
            (values(total), values(gradient))
        };
        let expected = run(&|z| composed(z.reshape([2, 3, 60]), picked.clone().reshape([2, 60])));
        let given = run(&|z| bridge.loss(&spec, [HeadTensors::labels(z, picked.clone())]).unwrap().total);
        assert_near(&given.0, &expected.0, 1e-6);
        assert_near(&given.1, &expected.1, 1e-5);
    }
}

/// Logits of every rank whose classes are neighbours in memory: read where they are, with a gradient of the same strides.
#[test]
fn channels_last_logits_have_the_loss_and_the_gradient_of_contiguous_ones() {
    let (device, bridge) = bridge();
    for dtype in [DType::F32, DType::F16] {
        for classes in [1, 2, 3, 4, 14, 19] {
            let one_channel = Loss { activation: Activation::Sigmoid, ..Loss::monai_dice() };
            let spec = one_head(if classes == 1 { one_channel } else { Loss::monai_dice_ce() });
            let run = |channels_last: bool| {
                let data = random([2, 6, 7, classes], 65, &device).cast(dtype).require_grad();
                let logits = data.clone().permute([0, 3, 1, 2]);
                let logits = if channels_last { logits } else { logits * 1.0 };
                let labels = labels([2, 6, 7], i32::try_from(classes.max(2)).unwrap(), 66, &device);
                let total = bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap().total;
                (values(total.clone()), values(data.grad(&total.backward()).unwrap()))
            };
            let (given, expected) = (run(true), run(false));
            assert_near(&given.0, &expected.0, 1e-6);
            assert_near(&given.1, &expected.1, if dtype == DType::F16 { 1e-3 } else { 1e-6 });
        }
    }
    let spec = one_head(Loss::monai_dice_ce());
    let run = |channels_last: bool| {
        let data = random([1, 3, 4, 5, 6], 67, &device).require_grad();
        let logits = data.clone().permute([0, 4, 1, 2, 3]);
        let logits = if channels_last { logits } else { logits.reshape([1, 6, 3, 4, 5]) };
        let labels = labels([1, 3, 4, 5], 6, 68, &device);
        let total = bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap().total;
        (values(total.clone()), values(data.grad(&total.backward()).unwrap()))
    };
    let (given, expected) = (run(true), run(false));
    assert_near(&given.0, &expected.0, 1e-6);
    assert_near(&given.1, &expected.1, 1e-6);
}

/// Logits and dense target each in either memory format.
#[test]
fn a_dense_target_may_lie_in_another_memory_format_than_the_logits() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, target) = (random([2, 33, 3], 72, &device), labels([2, 33], 3, 73, &device).one_hot::<3>(3).float());
    let last = |tensor: &Tensor<3>| tensor.clone().permute([0, 2, 1]);
    let first = |tensor: &Tensor<3>| {
        let values = tensor.clone().permute([0, 2, 1]).into_data();
        Tensor::<3>::from_data(values, &device)
    };
    let total = |logits, target| {
        let loss = bridge.loss(&spec, [HeadTensors::probabilities(logits, target)]).unwrap();
        values(loss.total)
    };
    let expected = total(first(&logits), first(&target));
    for given in [
        total(last(&logits), last(&target)),
        total(last(&logits), first(&target)),
        total(first(&logits), last(&target)),
    ] {
        assert_near(&given, &expected, 1e-6);
    }
}

#[test]
fn probabilities_and_a_weight_map_are_read_from_float_tensors() {
    let (device, bridge) = bridge();
    let (logits, labels) = (random([2, 3, 33], 70, &device), labels([2, 33], 3, 71, &device));
    let one_hot = labels.clone().one_hot::<3>(3).permute([0, 2, 1]).float();
    let expected = values(composed(logits.clone(), labels));
    let spec = one_head(Loss::monai_dice_ce());
    let weights = Tensor::<2>::ones([2, 33], &device);
    let heads = HeadTensors::probabilities(logits, one_hot).weight_map(weights);
    assert_near(&values(bridge.loss(&spec, [heads]).unwrap().total), &expected, 1e-6);
}

#[test]
fn labels_of_another_resolution_are_resampled_where_the_head_says_so() {
    let (device, bridge) = bridge();
    let (logits, fine) = (random([1, 3, 4, 5], 80, &device), labels([1, 8, 10], 3, 81, &device));
    let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()).resample([]));
    let indices =
        |n: i32| Tensor::<1, Int>::from_data((0..n).map(|i| 2 * i + 1).collect::<Vec<_>>().as_slice(), &device);
    let coarse = fine.clone().select(1, indices(4)).select(2, indices(5));
    let expected = values(composed(logits.clone().reshape([1, 3, 20]), coarse.reshape([1, 20])));
    assert_near(&values(bridge.loss(&spec, [HeadTensors::labels(logits, fine)]).unwrap().total), &expected, 1e-6);
}

#[test]
fn half_precision_logits_have_a_gradient_of_their_type() {
    let (device, bridge) = bridge();
    let (data, labels) = (random([2, 3, 31], 90, &device), labels([2, 31], 3, 91, &device));
    let rounded = data.clone().cast(DType::F16);
    let theirs = rounded.clone().cast(DType::F32).require_grad();
    let expected = composed(theirs.clone(), labels.clone());
    let expected_gradient = values(theirs.grad(&expected.backward()).unwrap());
    let ours = Tensor::<3>::from_data(rounded.into_data(), &device).cast(DType::F16).require_grad();
    let spec = one_head(Loss::monai_dice_ce());
    let loss = bridge.loss(&spec, [HeadTensors::labels(ours.clone(), labels)]).unwrap();
    assert_near(&values(loss.total.clone()), &values(expected), 1e-6);
    let gradient = ours.grad(&loss.total.backward()).unwrap();
    assert_eq!(gradient.dtype(), DType::F16);
    assert_near(&values(gradient), &expected_gradient, 1e-3);
}

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
        let (logits, labels) = (random([1, 3, voxels], 107, &device), self::labels([1, voxels], 3, 108, &device));
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

/// A mask leaves voxels out, as an ignored label does; a sample mask leaves items out, as slicing does.
#[test]
fn masks_are_burns_booleans() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::torch_cross_entropy());
    let (logits, labels) = (random([2, 3, 40], 140, &device), labels([2, 40], 3, 141, &device));
    let run = |spec: &LossSpec, heads: &dyn Fn(Tensor<3>) -> HeadTensors| {
        let logits = logits.clone().require_grad();
        let loss = bridge.loss(spec, [heads(logits.clone())]).unwrap();
        (values(loss.total.clone()), values(logits.grad(&loss.total.backward()).unwrap()))
    };
    let counts: Vec<bool> = (0..80).map(|i| i % 3 != 0).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(counts, [2, 40]), &device);
    let ignoring = LossSpec::new().head(Head::new([], Loss::torch_cross_entropy()).ignore_index(9));
    let ignored = labels.clone().mask_fill(mask.clone().bool_not(), 9);
    let expected = run(&ignoring, &|logits| HeadTensors::labels(logits, ignored.clone()));
    assert_eq!(run(&spec, &|logits| HeadTensors::labels(logits, labels.clone()).mask(mask.clone())), expected);
    let channel = mask.clone().reshape([2, 1, 40]);
    assert_eq!(run(&spec, &|logits| HeadTensors::labels(logits, labels.clone()).mask(channel.clone())), expected);

    let first = Tensor::<1, Bool>::from_data(TensorData::new(vec![true, false], [2]), &device);
    let given = run(&spec, &|logits| HeadTensors::labels(logits, labels.clone()).sample_mask(first.clone()));
    let alone = logits.clone().slice([0..1, 0..3, 0..40]).require_grad();
    let heads = HeadTensors::labels(alone.clone(), labels.clone().slice([0..1, 0..40]));
    let loss = bridge.loss(&spec, [heads]).unwrap();
    assert_near(&given.0, &values(loss.total.clone()), 1e-6);
    let gradient = values(alone.grad(&loss.total.backward()).unwrap());
    assert_near(&given.1[..120], &gradient, 1e-6);
    assert!(given.1[120..].iter().all(|x| *x == 0.0), "an item that does not count has a gradient");
}

#[test]
fn unreduced_losses_and_hard_counts_come_with_the_loss() {
    let (device, bridge) = bridge();
    let head = Head::new([], Loss::new().pixel(Pixel::cross_entropy())).unreduced(true).hard_counts(HardCounts::Batch);
    let spec = LossSpec::new().head(head.clone()).head(head.unreduced(false));
    let (logits, labels) = (random([2, 3, 4, 10], 150, &device), labels([2, 4, 10], 3, 151, &device));
    let tracked = logits.clone().require_grad();
    let heads = || HeadTensors::labels(tracked.clone(), labels.clone());
    let loss = bridge.loss(&spec, [heads(), heads()]).unwrap();
    assert!(loss.voxel_losses::<3>(1).is_none() && loss.voxel_losses::<4>(0).is_none());
    let losses = loss.voxel_losses::<3>(0).unwrap();
    assert_eq!(losses.dims(), [2, 4, 10]);
    let one_hot = labels.clone().one_hot::<4>(3).permute([0, 3, 1, 2]).float();
    let expected = -(log_softmax(logits.clone(), 1) * one_hot).sum_dim(1);
    assert_near(&values(losses), &values(expected), 1e-6);
    let gradient = tracked.grad(&loss.total.clone().backward()).unwrap();
    assert!(values(gradient).iter().any(|x| *x != 0.0));
    let hits = logits.argmax(1).squeeze_dim::<3>(1).equal(labels).int().sum().into_scalar::<i32>();
    let report = report(loss);
    for head in &report.heads {
        let found: u32 = head.hard_counts.as_ref().unwrap().iter().map(|class| class.true_positives).sum();
        assert_eq!(i64::from(found), i64::from(hits));
    }
}

/// Threads are streams of burn's, and a tensor may go from one to another.
#[test]
fn losses_on_several_threads_are_those_of_one() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let data: Vec<_> =
        (0..4).map(|i| (random([1, 3, 500], 160 + i, &device), labels([1, 500], 3, 170 + i, &device))).collect();
    let run = |(logits, labels): &(Tensor<3>, Tensor<2, Int>)| {
        let logits = (logits.clone() * 2.0).require_grad();
        let loss = bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
        (values(loss.total.clone()), values(logits.grad(&loss.total.backward()).unwrap()))
    };
    let expected: Vec<_> = data.iter().map(run).collect();
    for _ in 0..10 {
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = data.iter().map(|data| scope.spawn(|| run(data))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found == expected, "a thread's loss differs");
    }
}

#[test]
fn labels_of_64_bits_are_read_where_they_are() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, labels) = (random([2, 3, 48], 130, &device), labels([2, 48], 3, 131, &device));
    let loss = |labels| {
        let heads = [HeadTensors::labels(logits.clone(), labels)];
        values(bridge.loss(&spec, heads).unwrap().total)[0].to_bits()
    };
    assert_eq!(loss(labels.clone().cast(DType::I64)), loss(labels));
}

fn refusal(heads: HeadTensors, spec: &LossSpec) -> String {
    let (_, bridge) = bridge();
    let error = bridge.loss(spec, [heads]).expect_err("must be refused");
    assert!(matches!(error, Error::Binding { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, labels) = (random([2, 3, 8], 120, &device), labels([2, 8], 3, 121, &device));
    let with_labels = |labels| refusal(HeadTensors::labels(logits.clone(), labels), &spec);
    assert_eq!(with_labels(self::labels([2, 9], 3, 1, &device)), "head 0: target: expected [2, 8], got [2, 9]");
    assert_eq!(
        with_labels(labels.clone().cast(DType::U64)),
        "head 0: target: expected integers of up to 64 bits, u64 aside: cast the labels first, got U64"
    );
    assert_eq!(
        refusal(HeadTensors::labels(random([8], 1, &device), labels.clone()), &spec),
        "head 0: logits: expected [N, C, *spatial], got [8]"
    );
    let empty = Tensor::<3>::empty([0, 3, 8], &device);
    assert_eq!(
        refusal(HeadTensors::labels(empty, labels.clone()), &spec),
        "head 0: logits: expected at least one element, got shape [0, 3, 8]"
    );
    let probabilities = Tensor::<3>::zeros([2, 4, 8], &device);
    assert_eq!(
        refusal(HeadTensors::probabilities(logits.clone(), probabilities), &spec),
        "head 0: target: expected [2, 3, 8], got [2, 4, 8]"
    );
    let mask = Tensor::<2, Bool>::full([2, 9], true, &device);
    assert_eq!(
        refusal(HeadTensors::labels(logits.clone(), labels.clone()).mask(mask), &spec),
        "head 0: mask: expected [2, 8], got [2, 9]"
    );
    let mask = Tensor::<1, Bool>::full([3], true, &device);
    assert_eq!(
        refusal(HeadTensors::labels(logits.clone(), labels.clone()).sample_mask(mask), &spec),
        "head 0: sample_mask: expected [2], got [3]"
    );
    let two = spec.clone().head(Head::new([], Loss::monai_dice_ce()));
    let error = bridge.loss(&two, [HeadTensors::labels(logits, labels)]).unwrap_err();
    assert_eq!(error, Error::WrongHeadCount { expected: 2, given: 1 });
}

#[test]
fn tensors_of_another_device_are_refused() {
    let (other, _) =
        Device::wgpu_options().graphics_api(burn::backend::wgpu::WgpuBackend::Vulkan).init_with_setup().unwrap();
    let logits = random([2, 3, 8], 130, &other.clone().autodiff());
    let labels = labels([2, 8], 3, 131, &other);
    let message = refusal(HeadTensors::labels(logits, labels), &one_head(Loss::monai_dice_ce()));
    assert!(message.starts_with("head 0: logits: expected a tensor on "), "{message}");
}

/// An epoch's Dice is that of all its voxels, and a mean of its batches' would be another; its loss is the mean.
#[test]
fn metrics_of_an_epoch_are_of_the_sums_of_its_counts() {
    let (device, bridge) = bridge();
    let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()).hard_counts(HardCounts::Batch));
    let mut metrics: Vec<_> = [ReportMetric::total(), ReportMetric::term(0, 1)].into();
    metrics.extend(ReportMetric::dice(0, &["a", "b", "c"]).chain(ReportMetric::iou(0, &["a", "b", "c"])));
    let metadata = MetricMetadata { progress: Progress::new(1, 2, None), iteration: None, lr: None };
    let mut reports = Vec::new();
    for (seed, voxels) in [(180, 30), (182, 500)] {
        let (logits, labels) = (random([1, 3, voxels], seed, &device), labels([1, voxels], 3, seed + 1, &device));
        let loss = || bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
        reports.push(report(loss()));
        let item = ReportItem::from(loss().report).sync().unwrap();
        for metric in &mut metrics {
            metric.update(&item.adapt(), &metadata).unwrap();
        }
    }
    let counts = |class: usize| {
        let of = |report: &Report| report.heads[0].hard_counts.as_ref().unwrap()[class];
        let sum = |count: fn(segloss::ClassCounts) -> u32| {
            reports.iter().map(|report| f64::from(count(of(report)))).sum::<f64>()
        };
        [sum(|class| class.true_positives), sum(|class| class.false_positives), sum(|class| class.false_negatives)]
    };
    let mean = |of: fn(&Report) -> f32| reports.iter().map(|report| f64::from(of(report))).sum::<f64>() / 2.0;
    let dice: Vec<f64> = (0..3).map(counts).map(|[tp, fp, r#fn]| 2.0 * tp / (2.0 * tp + fp + r#fn)).collect();
    let iou = (0..3).map(counts).map(|[tp, fp, r#fn]| tp / (tp + fp + r#fn));
    let losses = [mean(|report| report.total), mean(|report| report.heads[0].pixel.unwrap().value)];
    let of_classes = dice.iter().copied().chain([f64::midpoint(dice[1], dice[2])]).chain(iou);
    let expected: Vec<f64> = losses.into_iter().chain(of_classes).collect();
    assert_eq!(expected.len(), metrics.len());
    for (metric, expected) in metrics.iter_mut().zip(expected) {
        metric.compute().unwrap();
        let NumericEntry::Final(found) = metric.final_value() else { panic!("{}: not of the epoch", metric.name()) };
        assert!((found - expected).abs() < 1e-12, "{}: {found} is not {expected}", metric.name());
        metric.clear();
        assert!(metric.running_value().is_none(), "{}: the next epoch has begun", metric.name());
    }
    let missing = ReportMetric::term(0, 2).update(
        &ReportItem::from(
            bridge
                .loss(&spec, [HeadTensors::labels(random([1, 3, 8], 190, &device), labels([1, 8], 3, 191, &device))])
                .unwrap()
                .report,
        )
        .adapt(),
        &metadata,
    );
    assert!(missing.unwrap_err().to_string().contains("expected one of 2 terms, got 2"));
}
