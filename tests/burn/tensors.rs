//! Tensors of every kind: ranks, types, strides, offsets, and what else a head takes.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};
use segloss::burn::{Bridge, HeadTensors};
use segloss::{Activation, Head, Loss, LossSpec};

use crate::{assert_near, bridge, composed, labels, one_head, random, values};

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
    let (logits, labels) = (random([6, 3], 52, &device), crate::labels([6], 3, 53, &device));
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

/// Logits of every rank whose classes are neighbours in memory, against the same numbers sent from the host, which are contiguous.
#[test]
fn channels_last_logits_have_the_loss_and_the_gradient_of_contiguous_ones() {
    let (device, bridge) = bridge();
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 1e-3)] {
        for (classes, most) in [(1, 2), (2, 2), (3, 3), (4, 4), (14, 14), (19, 19)] {
            let one_channel = Loss { activation: Activation::Sigmoid, ..Loss::monai_dice() };
            let spec = one_head(if classes == 1 { one_channel } else { Loss::monai_dice_ce() });
            let last = random([2, 6, 7, classes], 65, &device).cast(dtype).permute([0, 3, 1, 2]);
            assert_agree(&bridge, &spec, last, &labels([2, 6, 7], most, 66, &device), tolerance);
        }
    }
    let last = random([1, 3, 4, 5, 6], 67, &device).permute([0, 4, 1, 2, 3]);
    assert_agree(&bridge, &one_head(Loss::monai_dice_ce()), last, &labels([1, 3, 4, 5], 6, 68, &device), 1e-6);
}

fn assert_agree<const D: usize, const L: usize>(
    bridge: &Bridge,
    spec: &LossSpec,
    view: Tensor<D>,
    labels: &Tensor<L, Int>,
    tolerance: f32,
) {
    let sent = Tensor::<D>::from_data(view.clone().into_data(), &view.device()).cast(view.dtype());
    let [given, expected] = [view, sent].map(|logits| {
        let logits = logits.require_grad();
        let total = bridge.loss(spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap().total;
        (values(total.clone()), values(logits.grad(&total.backward()).unwrap()))
    });
    assert_near(&given.0, &expected.0, 1e-6);
    assert_near(&given.1, &expected.1, tolerance);
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
