//! The loss as a node of burn's graph: its value and gradients are those of burn's own operations.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use segloss::burn::HeadTensors;
use segloss::{HardCounts, Head, Loss, LossSpec, Pixel};

use crate::{assert_near, bridge, composed, labels, one_head, random, report, values};

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
