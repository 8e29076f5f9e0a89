//! Any tensors anywhere in pools: the same bits as in buffers of their own.

use std::cell::Cell;

use proptest::prelude::*;
use segloss::host::HostResult;
use segloss::testing::{Place, Pool, PooledGradient};
use segloss::{Bound, Error, LossSpec, Scalars, wgpu};

use crate::common::{
    Gpu, Tensors, download, forward_backward, gpu, gpu_with_limits, one_dispatch, run_variant, storage,
};
use crate::specs::{runner, spec, tensors, upstream};

/// Places drawn from a seed: in one buffer or in three, at alignments that an allocator may have, and between.
fn pool(spec: &LossSpec, tensors: &[Tensors], seed: u64) -> Pool {
    let mut random = fastrand::Rng::with_seed(seed);
    let buffers = [1, 1, 3][random.usize(0..3)];
    let modes: Vec<PooledGradient> = spec
        .heads
        .iter()
        .map(|_| {
            let modes = [PooledGradient::Overwrite, PooledGradient::Accumulate, PooledGradient::InPlace];
            modes[random.usize(0..modes.len())]
        })
        .collect();
    Pool::new(
        spec,
        tensors,
        |head| modes[head],
        |_, _| Place {
            buffer: random.usize(0..buffers),
            alignment: [1, 16, 256, 256][random.usize(0..4)],
            gap: [0, 0, 0, 1, 4][random.usize(0..5)],
        },
    )
}

/// A step on the pool; `None` where it needs more storage buffers than the device has.
fn run_pooled(gpu: &Gpu, spec: &LossSpec, pool: &Pool, scale: f32) -> Option<HostResult> {
    let buffers = pool.upload(&gpu.device);
    let number = storage(gpu, bytemuck::bytes_of(&scale));
    let scalars = Scalars { upstream: Some(number.as_entire_buffer_binding()), weights: None };
    let plan = gpu.plans.with_variant(spec, one_dispatch(gpu));
    let step = match plan.and_then(|plan| plan.bind_with(&pool.bindings(&buffers), &scalars)) {
        Err(Error::Limit { bound: Bound::StorageBuffers, .. }) => return None,
        step => step.expect("the tensors are bound"),
    };
    let report = forward_backward(gpu, &step);
    let after: Vec<Vec<u8>> = buffers.iter().map(|buffer| download(gpu, buffer)).collect();
    Some(pool.result(report, &after).unwrap_or_else(|error| panic!("{}: {error}", gpu.name)))
}

/// The bits, but for the sign of a 0, which adding to 0 loses.
fn numbers(result: &HostResult) -> (Vec<Vec<u32>>, Vec<Option<Vec<u32>>>) {
    let bits = |values: &Vec<f32>| values.iter().map(|x| if *x == 0.0 { 0 } else { x.to_bits() }).collect();
    let gradients = result.gradients.iter().map(bits).collect();
    (gradients, result.voxel_losses.iter().map(|losses| losses.as_ref().map(bits)).collect())
}

#[test]
fn tensors_anywhere_give_the_bits_of_buffers_of_their_own() {
    let own = gpu();
    // the limits of the Android profiles, of WebGPU, and the device's own
    let [four, eight] = [4, 8].map(|most| {
        gpu_with_limits(wgpu::Limits { max_storage_buffers_per_shader_stage: most, ..wgpu::Limits::default() })
    });
    let ran = Cell::new(0);
    // hardly two of them share a kernel
    runner(4)
        .run(&spec(1..4), |(spec, seed)| {
            let (tensors, scale) = (tensors(&spec, seed), upstream(seed));
            let gpu = [&four, &eight, &own][usize::from(fastrand::Rng::with_seed(seed).u8(0..3))];
            // a top-k alone takes five storage buffers, and tensors in three buffers may be too many
            if let Some(given) = run_pooled(gpu, &spec, &pool(&spec, &tensors, seed), scale) {
                let expected = run_variant(&own, &spec, &tensors, scale, one_dispatch(gpu));
                prop_assert!(format!("{:?}", given.report) == format!("{:?}", expected.report), "the report differs");
                prop_assert!(numbers(&given) == numbers(&expected), "gradients or voxel losses differ");
                ran.set(ran.get() + 1);
            }
            Ok(())
        })
        .expect("holds");
    assert!(ran.get() >= 2, "{} ran", ran.get());
}
