//! Weights in the caller's buffer: changed between steps without a new plan, and the total's derivative by each.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use std::num::NonZeroU64;

use common::{Buffers, Tensors, all_gpus, random_tensors, storage};
use segloss::{Head, Loss, LossSpec, Plan, Scalars, wgpu};

/// A head with both terms, one with overlap alone, one with a pixel term alone; with these weights, three a head.
fn spec(weights: [f32; 9]) -> LossSpec {
    let losses = [Loss::monai_dice_ce(), Loss::monai_dice(), Loss::torch_cross_entropy()];
    let heads = losses.into_iter().zip(weights.chunks_exact(3)).map(|(mut loss, weights)| {
        if let Some(overlap) = &mut loss.overlap {
            overlap.weight = weights[1];
        }
        if let Some(pixel) = &mut loss.pixel {
            pixel.weight = weights[2];
        }
        Head::new([2, 3, 5, 7], loss).weight(weights[0])
    });
    LossSpec { heads: heads.collect() }
}

#[test]
fn weights_in_a_buffer_equal_those_of_a_specification() {
    for gpu in all_gpus() {
        let sets =
            [[1.0; 9], [0.7, 0.3, 1.7, 0.0, 2.0, 1.0, 0.25, 1.0, 3.0], [2.0, 0.0, 0.5, 1.5, 0.1, 0.0, 1.0, 0.0, 0.1]];
        let unweighted = spec([1.0; 9]);
        let mut random = fastrand::Rng::with_seed(53);
        let tensors: Vec<Tensors> =
            unweighted.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
        let buffers = Buffers::upload(&gpu, &unweighted, &tensors);
        // behind an odd number of other words
        let words = 13;
        let pool = storage(&gpu, &[0xff; 4 * (13 + 9)]);
        let plan = Plan::new(&gpu.device, &gpu.queue, &unweighted).expect("the plan is made");
        let binding = wgpu::BufferBinding { buffer: &pool, offset: 4 * words, size: NonZeroU64::new(4 * 9) };
        let scalars = Scalars { upstream: None, weights: Some(binding) };
        let step = plan.bind_with(&buffers.bindings(), &scalars).expect("the tensors are bound");
        for weights in sets {
            gpu.queue.write_buffer(&pool, 4 * words, bytemuck::cast_slice(&weights));
            let given = buffers.step(&gpu, &step);
            let expected = common::evaluate(&spec(weights), &tensors, 1.0);
            let worst = common::differences(&given, &expected);
            assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {weights:?}: {worst:?}", gpu.name);
        }
    }
}

#[test]
fn the_report_has_the_derivative_by_each_weight() {
    let gpu = common::gpu();
    let weights = [0.7, 0.3, 1.7, 0.5, 2.0, 1.0, 0.25, 1.0, 3.0];
    let mut random = fastrand::Rng::with_seed(59);
    let tensors: Vec<Tensors> = spec(weights).heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let report = common::run(&gpu, &spec(weights), &tensors, 1.0).report;
    for at in 0..9 {
        // the total is linear in each weight
        let mut moved = weights;
        moved[at] += 0.5;
        let slope = 2.0
            * (common::evaluate(&spec(moved), &tensors, 1.0).total
                - common::evaluate(&spec(weights), &tensors, 1.0).total);
        let head = &report.heads[at / 3];
        let given = [head.by_weight, head.by_overlap_weight, head.by_pixel_weight][at % 3];
        assert!((f64::from(given) - slope).abs() < 4e-6, "weight {at}: got {given}, expected {slope}");
    }
}
