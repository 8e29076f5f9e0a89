//! Tensors anywhere in pooled buffers: odd offsets, shared buffers, and what lies around them.

use std::num::NonZeroU64;

use segloss::host::{HostResult, label_bytes};
use segloss::{Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, Plan, Scalars, Target, wgpu};

use crate::common::{
    self, Gpu, Tensors, all_gpus, differences, download, evaluate, forward_backward, gpu, random_tensors, storage,
};

/// Fills the bytes between tensors, to detect a write past an end.
const GUARD: u8 = 0xa5;

/// The range of a tensor: its buffer, first byte and length.
#[derive(Clone, Copy)]
struct Span {
    pool: usize,
    first: usize,
    length: usize,
}

/// Tensors of all heads in a few buffers, with gaps between them.
struct Pools {
    contents: Vec<Vec<u8>>,
    heads: Vec<[Span; 3]>,
}

impl Pools {
    fn bindings<'a>(&self, buffers: &'a [wgpu::Buffer]) -> Vec<HeadTensors<'a>> {
        let bind = |span: Span| wgpu::BufferBinding {
            buffer: &buffers[span.pool],
            offset: span.first as u64,
            size: NonZeroU64::new(span.length as u64),
        };
        let heads = self.heads.iter();
        heads
            .map(|[logits, target, gradient]| HeadTensors::new(bind(*logits), bind(*target)).gradient(bind(*gradient)))
            .collect()
    }
}

/// `gap(random)`: elements between two tensors; `pool_of(role)`: the buffer for logits (0), target (1), gradient (2).
fn lay_out(
    spec: &LossSpec,
    tensors: &[Tensors],
    pool_of: impl Fn(usize) -> usize,
    mut gap: impl FnMut() -> usize,
) -> Pools {
    let mut contents: Vec<Vec<u8>> = vec![Vec::new(); 3];
    let mut heads = Vec::new();
    for (head, tensors) in spec.heads.iter().zip(tensors) {
        let Target::Labels(label_type) = head.target else { unreachable!("labels are the only target") };
        let logits: Vec<u8> = bytemuck::cast_slice(&tensors.logits).to_vec();
        let mut labels = label_bytes(&tensors.labels, label_type);
        labels.truncate(tensors.labels.len() * label_type.bits() as usize / 8);
        let nothing = vec![GUARD; logits.len()];
        let mut place = |role: usize, bytes: &[u8], element: usize| {
            let pool = pool_of(role);
            let buffer = &mut contents[pool];
            buffer.resize(buffer.len().next_multiple_of(element) + element * gap(), GUARD);
            let first = buffer.len();
            buffer.extend_from_slice(bytes);
            Span { pool, first, length: bytes.len() }
        };
        let element = label_type.bits() as usize / 8;
        heads.push([place(0, &logits, 4), place(1, &labels, element), place(2, &nothing, 4)]);
    }
    for buffer in &mut contents {
        buffer.resize((buffer.len() + 64).next_multiple_of(4), GUARD);
    }
    Pools { contents, heads }
}

/// Runs a step on the pools, and checks that nothing but the gradients changed.
fn run_pooled(gpu: &Gpu, spec: &LossSpec, pools: &Pools) -> HostResult {
    let buffers: Vec<wgpu::Buffer> = pools.contents.iter().map(|bytes| storage(gpu, bytes)).collect();
    let bindings = pools.bindings(&buffers);
    let plan = Plan::new(&gpu.device, &gpu.queue, spec).expect("the plan is made");
    let step = plan.bind(&bindings).expect("the tensors are bound");
    let report = forward_backward(gpu, &step);

    let after: Vec<Vec<u8>> = buffers.iter().map(|buffer| download(gpu, buffer)).collect();
    let mut untouched = after.clone();
    let mut gradients = Vec::new();
    for [.., Span { pool, first, length }] in &pools.heads {
        gradients.push(bytemuck::pod_collect_to_vec(&after[*pool][*first..first + length]));
        untouched[*pool][*first..first + length].fill(GUARD);
    }
    assert!(untouched == pools.contents, "{}: bytes outside of the gradients changed", gpu.name);
    HostResult { report, gradients, voxel_losses: Vec::new() }
}

fn eight_heads() -> LossSpec {
    let types = [LabelType::U8, LabelType::U16, LabelType::I32, LabelType::U32];
    let shapes = [
        vec![2, 4, 8, 8, 8],
        vec![1, 3, 7, 5],
        vec![3, 2, 9],
        vec![2, 14, 4, 4, 4],
        vec![1, 40, 3, 11],
        vec![2, 5, 1],
        vec![1, 2, 16, 16],
        vec![2, 21, 6, 6],
    ];
    let heads = shapes.into_iter().zip(types.into_iter().cycle()).zip(1_u8..);
    let heads = heads.map(|((shape, labels), weight)| {
        let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
        Head::new(shape, loss).labels(labels).weight(0.25 * f32::from(weight))
    });
    LossSpec { heads: heads.collect() }
}

fn check(gpu: &Gpu, pool_of: impl Fn(usize) -> usize, gap: impl FnMut() -> usize) {
    let spec = eight_heads();
    let mut random = fastrand::Rng::with_seed(17);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let result = run_pooled(gpu, &spec, &lay_out(&spec, &tensors, pool_of, gap));
    let worst = differences(&result, &evaluate(&spec, &tensors, 1.0));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {worst:?}", gpu.name);
}

#[test]
fn eight_heads_in_one_pooled_buffer_at_odd_offsets() {
    for gpu in all_gpus() {
        let mut random = fastrand::Rng::with_seed(19);
        check(&gpu, |_| 0, || random.usize(1..9));
    }
}

#[test]
fn eight_heads_in_a_buffer_a_role_at_odd_offsets() {
    for gpu in all_gpus() {
        let mut random = fastrand::Rng::with_seed(23);
        check(&gpu, |role| role, || random.usize(1..9));
    }
}

#[test]
fn eight_heads_in_a_buffer_a_role_without_gaps() {
    check(&gpu(), |role| role, || 0);
}

#[test]
fn pooled_heads_fit_the_smallest_device_in_one_dispatch_each() {
    // WebGPU's default of 8 storage buffers: logits share one binding, gradients share one, and so do labels of one
    // type
    let gpu = common::gpu_with_limits(wgpu::Limits::default());
    let spec = eight_heads();
    let mut random = fastrand::Rng::with_seed(29);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let pools = lay_out(&spec, &tensors, |_| 0, || 3);
    let buffer = storage(&gpu, &pools.contents[0]);
    let bindings = pools.bindings(std::slice::from_ref(&buffer));
    let plan = Plan::with_variant(&gpu.device, &gpu.queue, &spec, common::one_dispatch(&gpu));
    let step = plan.and_then(|plan| plan.bind(&bindings)).expect("the plan is made and the tensors are bound");
    assert_eq!(step.dispatches(), (1, 1));
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
