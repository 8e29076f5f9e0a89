//! Tensors anywhere in pooled buffers: odd offsets, shared buffers, and what lies around them. That no two bindings of a dispatch
//! overlap where one is written, which WebGPU refuses and wgpu does not, is checked at every dispatch that is made with debug
//! assertions.

use std::num::NonZeroU64;

use segloss::host::{HostResult, label_bytes};
use segloss::testing::{Place, Pool, PooledGradient, eight_heads};
use segloss::{
    Activation, FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Mask, Overlap, Pixel, Plan, Scalars, Tensor,
    wgpu,
};

use crate::common::{
    self, Buffers, Gpu, Tensors, all_gpus, differences, download, evaluate, forward_backward, gpu, random_tensors,
    storage,
};

/// Runs a step on the pool, and checks that nothing but the gradients changed.
fn run_pooled(gpu: &Gpu, spec: &LossSpec, pool: &Pool) -> HostResult {
    let buffers = pool.upload(&gpu.device);
    let plan = gpu.plans.plan(spec).expect("the plan is made");
    let step = plan.bind(&pool.bindings(&buffers)).expect("the tensors are bound");
    let report = forward_backward(gpu, &step);
    let after: Vec<Vec<u8>> = buffers.iter().map(|buffer| download(gpu, buffer)).collect();
    pool.result(report, &after).unwrap_or_else(|error| panic!("{}: {error}", gpu.name))
}

fn eight_pooled(place: impl FnMut(usize, Tensor) -> Place) -> (LossSpec, Vec<Tensors>, Pool) {
    let spec = eight_heads();
    let mut random = fastrand::Rng::with_seed(17);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let pool = Pool::new(&spec, &tensors, |_| PooledGradient::Overwrite, place);
    (spec, tensors, pool)
}

fn check(gpu: &Gpu, place: impl FnMut(usize, Tensor) -> Place) {
    let (spec, tensors, pool) = eight_pooled(place);
    let result = run_pooled(gpu, &spec, &pool);
    let worst = differences(&result, &evaluate(&spec, &tensors, 1.0));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {worst:?}", gpu.name);
}

/// One buffer for each of logits, target and gradient.
fn a_buffer_a_role(tensor: Tensor) -> usize {
    match tensor {
        Tensor::Logits => 0,
        Tensor::Target => 1,
        _ => 2,
    }
}

#[test]
fn eight_heads_in_one_pooled_buffer_at_odd_offsets() {
    for gpu in all_gpus() {
        let mut random = fastrand::Rng::with_seed(19);
        check(&gpu, |_, _| Place { buffer: 0, alignment: 1, gap: random.usize(1..9) });
    }
}

#[test]
fn eight_heads_in_one_pooled_buffer_at_the_alignment_of_a_device() {
    check(&gpu(), |_, _| Place { buffer: 0, alignment: 256, gap: 0 });
}

#[test]
fn eight_heads_in_a_buffer_a_role_at_odd_offsets() {
    for gpu in all_gpus() {
        let mut random = fastrand::Rng::with_seed(23);
        check(&gpu, |_, tensor| Place { buffer: a_buffer_a_role(tensor), alignment: 1, gap: random.usize(1..9) });
    }
}

#[test]
fn eight_heads_in_a_buffer_a_role_without_gaps() {
    check(&gpu(), |_, tensor| Place { buffer: a_buffer_a_role(tensor), alignment: 1, gap: 0 });
}

#[test]
fn pooled_heads_fit_the_smallest_devices_in_one_dispatch_each() {
    // WebGPU's default of 8 storage buffers, and the 4 of the Android profiles: one binding has all tensors
    for most in [8, 4] {
        let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: most, ..wgpu::Limits::default() };
        let gpu = common::gpu_with_limits(limits);
        for place in [
            Place { buffer: 0, alignment: 1, gap: 3 },
            Place { buffer: 0, alignment: 256, gap: 0 },
            Place { buffer: 0, alignment: 256, gap: 1 },
        ] {
            let (spec, _, pool) = eight_pooled(|_, _| place);
            let buffers = pool.upload(&gpu.device);
            let plan = gpu.plans.with_variant(&spec, common::one_dispatch(&gpu));
            let step = plan.and_then(|plan| plan.bind(&pool.bindings(&buffers)));
            let step = step.expect("the plan is made and the tensors are bound");
            assert_eq!(step.dispatches(), (1, 1), "{place:?}");
        }
    }
}

#[test]
fn pooled_heads_of_all_types_share_a_binding() {
    // 4 storage buffers: the tensors have one in the gradient stage, and two in statistics
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
    let gpu = common::gpu_with_limits(limits);
    let loss = || Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy());
    let f32s = Head::new([2, 3, 8, 4], loss()).mask(true).weight_map(true).sample_mask(true).unreduced(true);
    let halves = Head::new([2, 3, 8, 4], loss()).logits(FloatType::F16).labels(LabelType::I64);
    let regions = Loss { activation: Activation::Sigmoid, ..Loss::new().pixel(Pixel::binary_cross_entropy()) };
    let regions = Head::new([1, 2, 4, 5], regions).logits(FloatType::Bf16).probabilities(FloatType::F32);
    let all = LossSpec { heads: vec![f32s.clone(), halves, regions] };
    let f32s = LossSpec::new().head(f32s);
    for (spec, alignment, gap) in [(&f32s, 256, 0), (&f32s, 1, 1), (&all, 256, 0), (&all, 1, 1)] {
        let mut random = fastrand::Rng::with_seed(41);
        let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
        for mode in [PooledGradient::Overwrite, PooledGradient::Accumulate, PooledGradient::InPlace] {
            let pool = Pool::new(spec, &tensors, |_| mode, |_, _| Place { buffer: 0, alignment, gap });
            let buffers = pool.upload(&gpu.device);
            let plan = gpu.plans.with_variant(spec, common::one_dispatch(&gpu)).expect("the plan is made");
            let step = plan.bind(&pool.bindings(&buffers)).expect("the tensors are bound");
            assert_eq!(step.dispatches(), (1, 1), "{mode:?}");
            let report = forward_backward(&gpu, &step);
            let after: Vec<Vec<u8>> = buffers.iter().map(|buffer| download(&gpu, buffer)).collect();
            let result = pool.result(report, &after).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
            let worst = differences(&result, &evaluate(spec, &tensors, 1.0));
            assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{mode:?}: {worst:?}");
        }
    }
}

#[test]
fn an_upstream_scalar_inside_the_pool_is_read_where_it_is() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([1, 3, 5, 7], Loss::monai_dice_ce()));
    let tensors = [random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(31))];
    let logits = 3 * 35;
    // logits, one scalar, gradient, in one buffer
    let mut pool = tensors[0].logits.clone();
    pool.push(-2.5);
    pool.resize(2 * logits + 1, f32::NAN);
    let pool = storage(&gpu, bytemuck::cast_slice(&pool));
    let labels = storage(&gpu, &label_bytes(&tensors[0].labels, LabelType::U8));
    let bind = |first: u64, words: u64| wgpu::BufferBinding {
        buffer: &pool,
        offset: first * 4,
        size: NonZeroU64::new(words * 4),
    };
    let words = logits as u64;
    let heads = [HeadTensors::new(bind(0, words), labels.as_entire_buffer_binding()).gradient(bind(words + 1, words))];
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let scalars = Scalars { upstream: Some(bind(words, 1)), weights: None };
    let step = plan.bind_with(&heads, &scalars).expect("the tensors are bound");
    // into the caller's compute pass instead of the encoder
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        step.forward(&mut pass);
        step.backward(&mut pass);
    }
    let pending = step.report(&mut encoder).expect("a staging buffer is free");
    gpu.queue.submit([encoder.finish()]);
    let report = pending.read_blocking().expect("the report arrives");
    let after: Vec<f32> = bytemuck::pod_collect_to_vec(&download(&gpu, &pool));
    let result = HostResult { report, gradients: vec![after[logits + 1..].to_vec()], voxel_losses: Vec::new() };
    let worst = differences(&result, &evaluate(&spec, &tensors, -2.5));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{worst:?}");
}

#[test]
fn a_head_without_a_gradient_is_left_out_of_the_gradient_dispatch() {
    let gpu = gpu();
    let spec = eight_heads();
    let mut random = fastrand::Rng::with_seed(37);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let buffers = common::Buffers::upload(&gpu, &spec, &tensors);
    let untouched = buffers.gradients(&gpu);
    let mut bindings = buffers.bindings();
    bindings[2].gradient = None;
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let mut result = buffers.step(&gpu, &plan.bind(&bindings).expect("the tensors are bound"));
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&result.gradients[2]), bits(&untouched[2]));
    let expected = evaluate(&spec, &tensors, 1.0);
    result.gradients[2] = expected.heads[2].gradient.iter().map(|_| 0.0).collect();
    for (head, (given, expected)) in result.gradients.iter().zip(&expected.heads).enumerate() {
        let worst = given.iter().zip(&expected.gradient).fold(0.0_f64, |a, (x, e)| a.max((f64::from(*x) - e).abs()));
        assert!(head == 2 || worst < 1e-6, "head {head}: {worst}");
    }
    assert!((f64::from(result.report.total) - expected.total).abs() < 2e-6 * expected.total.abs().max(1.0));
}

/// Rows of a whole number of quads, and others; any number but 0 is true.
#[test]
fn a_mask_of_words_is_the_mask_of_bytes() {
    let mut random = fastrand::Rng::with_seed(23);
    let head = |voxels| Head::new([3, 3, voxels], Loss::monai_dice_ce()).mask(true).sample_mask(true);
    let spec = LossSpec::new().head(head(264)).head(head(53));
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let expected = evaluate(&spec, &tensors, 1.0);
    let mut words = |bytes: &[u8]| -> Vec<u32> {
        bytes
            .iter()
            .map(|byte| if *byte == 0 { 0 } else { random.u32(1..) & 0xffff_ff00 | 1 << random.u32(8..32) })
            .collect()
    };
    for gpu in all_gpus() {
        let buffers = Buffers::upload(&gpu, &spec, &tensors);
        let masks: Vec<[wgpu::Buffer; 2]> = tensors
            .iter()
            .map(|tensors| {
                [&tensors.mask, &tensors.sample_mask].map(|mask| storage(&gpu, bytemuck::cast_slice(&words(mask))))
            })
            .collect();
        let masked = buffers.bindings().into_iter().zip(&masks).map(|(head, [mask, sample_mask])| {
            head.mask(Mask::Words(mask.as_entire_buffer_binding()))
                .sample_mask(Mask::Words(sample_mask.as_entire_buffer_binding()))
        });
        let plan = gpu.plans.plan(&spec).expect("the plan is made");
        let step = plan.bind(&masked.collect::<Vec<_>>()).expect("the tensors are bound");
        let worst = differences(&buffers.step(&gpu, &step), &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {worst:?}", gpu.name);
    }
}
